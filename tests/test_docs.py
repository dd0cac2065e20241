"""Every fenced block of the README and of docs/ runs: Python in order on one namespace a page,
shell lines as subprocesses.

A new block is picked up by itself. It may use the names that earlier blocks of its page bind, and
those of `_namespace`.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mtl_keras as mtl
from mtl_keras import zoo
from mtl_keras.data import fashion_scenes

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("", "bash", "sh", "shell", "console")
#: Blocks of these languages are for reading.
TEXT = ("text", "json", "cpp", "js", "kotlin", "swift", "html")
#: Pages of which every block runs within seconds; the others' run with `--run-large`.
QUICK = ("sharing.md",)
#: Lines that need the network, hours, or a machine of their own: they are parsed and not run.
NOT_HERE = (
    "pip install",  # downloads
    "mtl-keras data fetch",  # downloads
    "mtl-keras zoo train",  # needs what that downloads
    "mtl-keras --install-completion",  # writes into the user's shell
    "python3 -m venv .venv && .venv/bin/pip",  # .ci/run, in an environment of its own
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str

    @property
    def id(self):
        return f"{self.page.name}:{self.line}"

    def lines(self):
        return [
            line
            for line in self.code.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ]


def blocks_of(page):
    """All fenced blocks of a page, also indented ones in lists."""
    found, start, language, body = [], None, "", []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = re.match(r"\s*(?:```|~~~)\s*([\w+-]*)", line)
        if fence and start is None:
            start, language, body = number, fence[1].lower(), []
        elif fence:
            found.append(
                Block(page, start, language, inspect.cleandoc("\n" + "\n".join(body)) + "\n")
            )
            start = None
        elif start is not None:
            body.append(line)
    assert start is None, f"{page.name}: the block that begins in line {start} never ends."
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language in ("python", "py")]
COMMANDS = [(block, line) for block in BLOCKS if block.language in SHELL for line in block.lines()]


def test_every_block_is_of_a_language_that_somebody_decided_about():
    assert len(PYTHON) > 20 and len(COMMANDS) > 15
    unknown = {
        block.id: block.language
        for block in BLOCKS
        if block.language not in (*SHELL, *TEXT, "python", "py")
    }
    assert not unknown


# ------------------------------------------------------------------ names and options, without running anything
def _resolve(node):
    """The object that a dotted name means, where it begins with one of our modules."""
    path = []
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in ("mtl", "zoo", "keras"):
        return None
    target = {"mtl": mtl, "zoo": zoo, "keras": keras}[node.id]
    for name in reversed(path):
        target = getattr(target, name)
    return target


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_calls_in_python_blocks_name_what_there_is(block):
    for node in ast.walk(ast.parse(block.code)):
        if not isinstance(node, ast.Call):
            continue
        target = _resolve(node.func)
        if target is None:
            continue
        parameters = inspect.signature(target).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        unknown = [word.arg for word in node.keywords if word.arg and word.arg not in parameters]
        assert not unknown, f"{ast.unparse(node.func)} takes no {unknown}"


@pytest.mark.parametrize(
    ("block", "line"), COMMANDS, ids=lambda part: part.id if isinstance(part, Block) else ""
)
def test_shell_lines_are_commands_that_there_are(block, line):
    import shlex

    import typer.main

    from mtl_keras.cli.app import app

    words = shlex.split(line, comments=True)
    for i, word in enumerate(words):
        if Path(word).name != "mtl-keras":
            continue
        end = next(
            (j for j in range(i, len(words)) if words[j] in ("&&", "|", ";", ">")), len(words)
        )
        arguments = words[i + 1 : end]
        command = typer.main.get_command(app)
        context = None
        while (
            hasattr(command, "resolve_command") and arguments and not arguments[0].startswith("-")
        ):
            context = command.make_context(
                "mtl-keras", [*arguments], parent=context, resilient_parsing=True
            )
            _, command, arguments = command.resolve_command(context, arguments)
        if "--help" not in arguments and not hasattr(command, "resolve_command"):
            command.make_context(command.name, [*arguments], parent=context)
        elif arguments:
            known = {option for p in command.params for option in p.opts} | {"--help"}
            assert arguments[0] in known, f"{line}: no option {arguments[0]}"


def test_the_readmes_second_command_is_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    quickstart, tests = [
        line for block, line in COMMANDS if block.page.name == "README.md" and "venv" in line
    ]
    assert quickstart.endswith(".venv/bin/mtl-keras quickstart") and tests.endswith(
        ".venv/bin/pytest"
    )
    assert 'pip install -q -e ".[test]"' in ci and "venv/bin/pytest\n" in ci


# ------------------------------------------------------------------ running them
def _digit_and_box_model():
    """A trained network with the docs' two tasks: the zoo's `fashion_scene` without its
    silhouette."""
    trained = zoo.load("fashion_scene")
    tasks = [mtl.tasks.Classification("digit", num_classes=10), mtl.tasks.BoundingBox("box")]
    model = zoo.recipe("fashion_scene").build(tasks, trained.encoder)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(trained.get_layer(layer.name.replace("digit", "item")).get_weights())
    model.compile(keras.optimizers.Adam(1e-4))
    return model


def _write_files_of_data(folder):
    """Pictures, sounds and their labels, as docs/data.md describes them."""
    from annotation_files import write_coco, write_voc
    from PIL import Image

    rng = np.random.default_rng(0)
    breeds = ("persian", "poodle", "tabby", "beagle")
    table = ["file,breed,weight,traits,box_left,box_top,box_right,box_bottom"]
    for number in range(24):
        file = f"{('cat', 'dog')[number % 2]}/{number}"
        for path in (folder / "photos" / f"{file}.jpg", folder / "photos/masks" / f"{number}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 2, (48, 64), "uint8") * 255).save(path)
        traits = ("calm|long-haired", "calm", "playful")[number % 3]
        table.append(f"{file},{breeds[number % 4]},{3 + number / 10},{traits},14,20,50,44")
        sound = folder / "words" / ("yes", "no")[number % 2] / f"{number}.wav"
        sound.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(rng.integers(-999, 999, 3000, "int16").tobytes())
    (folder / "labels.csv").write_text("\n".join(table))
    write_coco(
        folder / "instances.json",
        images=[{"id": 1, "file_name": "dog/1.jpg", "width": 64, "height": 48}],
        annotations=[{"id": 1, "image_id": 1, "category_id": 70, "bbox": [14, 20, 36, 24]}],
    )
    (folder / "annotations").mkdir()
    write_voc(folder / "annotations/1.xml", "1.jpg", [("dog", (14, 20, 50, 44), False)], (64, 48))


def _namespace(page, folder):
    """What a page's blocks may use without saying where it comes from, and the files that its
    commands name."""
    names = {"keras": keras, "np": np, "tf": tf, "mtl": mtl, "zoo": zoo, "__name__": "__main__"}
    if page.name == "data.md":
        _write_files_of_data(folder)
    if page.name in ("README.md", "training.md"):
        rng = np.random.default_rng(0)
        images = rng.random((64, 32, 32, 3), "float32")
        digits = rng.integers(0, 10, 64)
        boxes = np.tile(np.float32([0.1, 0.2, 0.7, 0.8]), (64, 1))
        tasks = [mtl.tasks.Classification("digit", num_classes=10), mtl.tasks.BoundingBox("box")]
        model = mtl.builders.hard_sharing(
            (32, 32, 3),
            tasks,
            backbone="small_cnn",
            backbone_options={"widths": (4, 8), "depth": 1},
        )
        model.compile("adam")
        table = {
            "area": rng.uniform(30, 200, 64),
            "rooms": rng.integers(1, 7, 64),
            "city": ["Rome", "Oslo"] * 32,
        }
        names["table"] = table | {
            "price": 4000 * table["area"] + 9000.0 * table["rooms"],
            "sold": np.arange(64) % 2,
        }
        jacobian = rng.standard_normal((2, 40))
        names |= {"images": images, "digits": digits, "boxes": boxes, "model": model}
        names |= {"jacobian": jacobian, "gram": jacobian @ jacobian.T}
        for name, labels in (
            ("dataset", {"digit": digits}),
            ("digits_data", {"digit": digits}),
            ("boxes_data", {"box": boxes}),
            ("held_out", {"digit": digits, "box": boxes}),
        ):
            names[name] = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
        names["train"] = names["data"] = names["held_out"]
        names |= {"labels": {"digit": digits, "box": boxes}, "weights": rng.uniform(0.5, 2, 64)}
    if page.name in ("export.md", "zoo.md"):

        def two_labels(image, labels):
            return image, {"digit": labels["item"], "box": labels["box"]}

        model = _digit_and_box_model()
        x_test, y_test = mtl.analysis.collect(fashion_scenes("test", 64, limit=192).map(two_labels))
        train = fashion_scenes("train", 64).map(two_labels).take(8)
        val = fashion_scenes("validation", 64, limit=192).map(two_labels)
        rng = np.random.default_rng(0)
        names |= {
            "model": model,
            "x_test": x_test,
            "y_test": y_test,
            "images": x_test,
            "train": train,
            "val": val,
        }
        names["pictures"] = rng.integers(0, 256, (8, 480, 640, 1)).astype("uint8")
        name = model.inputs[0].name
        model.save(folder / "model.keras")
        np.savez(folder / "inputs.npz", **{name: x_test[:3]})
        np.savez(folder / "test.npz", **{name: x_test}, **y_test)
        np.savez(folder / "train.npz", **{name: mtl.analysis.collect(train)[0]})
    if page.name == "zoo.md":
        from PIL import Image

        Image.fromarray((x_test[0, ..., 0] * 255).astype("uint8")).save(folder / "scene.png")
        mtl.export.tflite(model, folder / "model.tflite")
        (folder / "flights.csv").write_text(
            "year,month,day,hour,minute,carrier,origin\n2013,7,4,17,30,UA,EWR\n"
        )
    return names


class Page:
    """One page's blocks, run in their order; a block that failed fails those behind it."""

    def __init__(self, path, folder):
        self.blocks = blocks_of(path)
        self.folder, self.names, self.position = folder, None, 0
        self.path, self.names_after = path, {}

    def run(self, block):
        stop = self.blocks.index(block) + 1
        if self.names is None:
            self.names = _namespace(self.path, self.folder)
        while self.position < stop:
            number = self.position
            current = self.blocks[self.position]
            self.position += 1
            if current.language in ("python", "py"):
                # Tracebacks name the line of the page.
                code = compile("\n" * current.line + current.code, str(current.page), "exec")
                exec(code, self.names)
                self.names_after[number] = dict(self.names)
            elif current.language in SHELL:
                for line in current.lines():
                    if not line.startswith(NOT_HERE):
                        shell(line, self.folder)
        assert block.language in SHELL or stop - 1 in self.names_after, (
            f"{block.id}: it failed before."
        )
        return self.names_after.get(stop - 1)


def shell(line, folder, check=True, **environment):
    """Run a line as a user's shell does, with this environment's programs first."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **environment,
    }
    done = subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"{line}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return {page: Page(page, tmp_path_factory.mktemp(page.stem)) for page in PAGES}


def _runs(block):
    large = block.page.name not in QUICK
    return pytest.param(block, id=block.id, marks=[pytest.mark.large] if large else [])


@pytest.mark.parametrize("block", [_runs(block) for block in BLOCKS if block.language not in TEXT])
def test_it_runs(block, pages, monkeypatch):
    monkeypatch.chdir(pages[block.page].folder)
    keras.utils.set_random_seed(0)
    pages[block.page].run(block)


# ------------------------------------------------------------------ what the first networks learn
def _first_networks(pages, monkeypatch, which):
    page = next(page for page in PAGES if page.name == "first_networks.md")
    monkeypatch.chdir(pages[page].folder)
    return pages[page].run(
        [block for block in blocks_of(page) if block.language == "python"][which]
    )


@pytest.mark.large
def test_a_shared_lstm_learns_sentiment_and_topic_from_two_data_sets(pages, monkeypatch):
    names = _first_networks(pages, monkeypatch, 0)
    model, encode = names["model"], names["tokenizer"].encode
    decoded = model.decode(
        model.predict(encode([*names["reviews"], *names["headlines"]]), verbose=0)
    )
    sentiment = [item["label"] for item in decoded["sentiment"][: len(names["reviews"])]]
    assert np.mean(np.array(sentiment) == np.array(list(names["reviews"].values()), bool)) >= 0.8
    topics = [item["label"] for item in decoded["topic"][len(names["reviews"]) :]]
    assert (
        np.mean([a == b for a, b in zip(topics, names["headlines"].values(), strict=True)]) >= 0.8
    )


@pytest.mark.large
def test_a_shared_trunk_learns_class_and_box_with_weighted_losses(pages, monkeypatch):
    names = _first_networks(pages, monkeypatch, 1)
    model, logs = names["model"], names["history"].history
    assert {name: float(w.numpy()) for name, w in model.loss_weights.items()} == pytest.approx(
        {"item": 0.7, "box": 0.3}
    )
    assert logs["loss"][0] == pytest.approx(
        0.7 * logs["item_loss"][0] + 0.3 * logs["box_loss"][0], rel=1e-4
    )
    scores = model.evaluate(names["test"], verbose=0)
    assert scores["item_accuracy"] > 0.35 and scores["box_iou"] > 0.5, scores
