"""Every module with public functions or classes is tested: a file is named after it, or a test
names what it holds."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: What no test needs to name, with the reason: rooms by their name, modules as "room.module".
REACHED_OTHERWISE = {
    # Rooms of steps: tests call what is public, and look at what comes out.
    "converter": "steps of `mtl.export.tflite`: tests/export holds the files that they make",
    "export": "steps of `mtl.export.tflite`: tests/export holds the files that they make",
    "trainer": "parts of the training step: tests/trainer holds what `fit` does",
    "strategies": "parts of the training step: tests/trainer holds what `fit` does",
    "compression": "steps of `mtl.export.compress`: tests/export/test_compress.py",
    "folders": "parts of `mtl.data.from_folder`: tests/data/test_folders.py",
    "codegen": "parts of `snippets` and `web_page`: tests/runtime/test_codegen.py runs what they "
    "write",
    # Helpers of one room.
    "backbones.trunks": "a backbone given as a model: tests/backbones/test_models_as_backbones.py",
    "balancing.parameters": "checks of hyper-parameters: tests/balancing/test_registry.py",
    "balancing.draws": "random draws of methods: tests/balancing/test_every_balancer.py",
    "balancing.held_out": "methods on held-out data: tests/balancing/test_every_balancer.py",
    "graph.walking": "walks that builders, the trainer and export take: tests/graph and theirs",
    "builders.streams": "the streams of builders: tests/builders/test_soft_sharing.py",
    "data.alignment": "batches of several sources in one structure: tests/data/test_mixing.py",
    "runtime.callers": "the line that warnings point to: tests/data/test_splits.py",
    "data.derived": "fields of weights: tests/data/test_weights.py",
    "data.mixing_sources": "what `mix` draws from: tests/data/test_mixing.py",
    "data.partial": "`only_labelled`: tests/data/test_weights.py",
    "data.records": "what TFDS and Hugging Face have in common: tests/data/test_libraries.py",
    "data.pipeline": "the steps of `TaskDataset.batch`: tests/data/test_dataset.py",
    "cli.completion": "values that the shell completes: tests/cli/test_shell.py",
    "plot.drawing": "parts of a card: tests/plot/test_plot.py draws rows of every kind",
    "runs.report": "the report of a run: tests/runs/test_runs.py reads it",
    "tfds.adapters": "data sets of TFDS whose tasks we know: tests/data/test_tfds.py",
    "tfds.builders": "our data sets for TFDS: tests/data/test_tfds.py",
    "tfds.loading": "`from_tfds`: tests/data/test_tfds.py",
    "tasks.maps": "decoders of dense tasks: tests/tasks/test_every_task.py",
    "testing.checks": "the harnesses' own checks: tests/testing/test_harnesses.py breaks each "
    "promise once",
    # The zoo: recipes are called by name.
    "zoo.card": "cards as they are shipped: tests/zoo/test_zoo.py",
    "zoo.fashion_scene": "a recipe: tests/zoo/test_zoo.py takes all by name",
    "zoo.flights": "a recipe: tests/zoo/test_zoo.py takes all by name",
    "zoo.gloss": "a recipe: tests/zoo/test_zoo.py takes all by name",
}


def _modules():
    """Paths of the modules of the package and of its zoo, with the public names that each
    defines."""
    for path in sorted([*(ROOT / "mtl_keras").rglob("*.py"), *(ROOT / "zoo").glob("*.py")]):
        tree = ast.parse(path.read_text())
        names = [
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        ]
        if names and not path.stem.startswith("_"):
            yield path, names


def _untested():
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    mirrored = {path.stem.removeprefix("test_") for path in files}
    words = set()
    for path in files:
        words |= set(re.findall(r"\w+", path.read_text()))
    for path, names in _modules():
        if path.stem not in mirrored and not words & set(names):
            yield f"{path.parent.name}.{path.stem}"


def test_every_module_is_tested_or_listed_with_a_reason():
    untested = [
        name
        for name in _untested()
        if name not in REACHED_OTHERWISE and name.split(".")[0] not in REACHED_OTHERWISE
    ]
    assert not untested, (
        f"Without a test: {untested}. Add `tests/<room>/test_<module>.py`, or a reason to "
        f"`REACHED_OTHERWISE`."
    )
