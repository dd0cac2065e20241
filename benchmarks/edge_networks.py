"""Which of our networks run where: every builder, kind of task and small backbone, as a file, in
three runtimes.

    # Needs a package index; writes benchmarks/results/edge_networks.json.
    python benchmarks/edge_networks.py
    # Also the table in docs/export.md; the runtimes' virtual environments stay in FOLDER.
    python benchmarks/edge_networks.py --write-table --clients FOLDER

Each network is tiny and untrained, with heads that are scaled so that they move (see `settle`). It
is exported in float32, with "dynamic" int8 weights, and in int8, and every file runs in
`ai-edge-litert` of today, `tflite-runtime` 2.14 of 2023, and TensorFlow Lite for Microcontrollers.
A cell is the largest difference from Keras over four rows as a part of the head's range, of the
worst head, or what the client says.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import edge_clients
import keras
import numpy as np

import mtl_keras as mtl
from mtl_keras.graph import layer_of, sublayers
from mtl_keras.runtime import flatbuffer

DOCS = Path(__file__).parents[1] / "docs" / "export.md"
START, END = "<!-- table: edge_networks -->", "<!-- end of table -->"
FORMS: dict[str, str | None] = {"float32": None, "dynamic": "dynamic", "int8": "int8"}
#: A difference above this part of a head's range is no rounding of int8 in an untrained network.
TOLERANCE = {"float32": 1e-3, "dynamic": 0.15, "int8": 0.25}

RNG = np.random.default_rng(0)
IMAGE, FRAMES = (
    RNG.random((64, 16, 16, 3)).astype("float32"),
    RNG.random((64, 3, 16, 16, 3)).astype("float32"),
)
TOKENS, TABLE = (
    RNG.integers(1, 9, (64, 8)).astype("int32"),
    RNG.standard_normal((64, 6)).astype("float32"),
)
SOUND = RNG.standard_normal((64, 1600)).astype("float32")
CNN = {"widths": (4, 8), "depth": 1}


def two_heads() -> list[Any]:
    return [
        mtl.tasks.Classification("kind", num_classes=3, hidden=8),
        mtl.tasks.Regression("age", hidden=8),
    ]


def built(builder: str, **options: Any) -> tuple[keras.Model, dict[str, np.ndarray]]:
    tasks = two_heads()
    if builder in ("esmm", "aitm"):
        tasks = [mtl.tasks.Binary("click", hidden=4), mtl.tasks.Binary("bought", hidden=4)]
    make = getattr(mtl.builders, builder)
    model = make((16, 16, 3), tasks, backbone="small_cnn", backbone_options=CNN, **options)
    return model, {model.inputs[0].name: IMAGE}


def on_trunk(
    backbone: str, x: np.ndarray, tasks: list[Any], **options: Any
) -> tuple[keras.Model, dict[str, np.ndarray]]:
    model = mtl.builders.hard_sharing(
        x.shape[1:], tasks, backbone=backbone, backbone_options=options
    )
    return model, {model.inputs[0].name: x}


def with_task(task: Any) -> tuple[keras.Model, dict[str, np.ndarray]]:
    return on_trunk("small_cnn", IMAGE, [task, mtl.tasks.Regression("age", hidden=4)], **CNN)


def multi_input() -> tuple[keras.Model, dict[str, np.ndarray]]:
    tasks = two_heads()
    model = mtl.builders.multi_input(
        {t.name: (16, 16, 3) for t in tasks}, tasks, "small_cnn", backbone_options=CNN
    )
    return model, {"kind_input": IMAGE, "age_input": IMAGE[::-1].copy()}


def cross_modal() -> tuple[keras.Model, dict[str, np.ndarray]]:
    model = mtl.builders.cross_modal(
        {"main": (16, 16, 3), "side": (6,)},
        two_heads(),
        {"main": "small_cnn", "side": "mlp"},
        units=4,
        backbone_options={"main": CNN, "side": {"widths": (4,)}},
    )
    return model, {"main": IMAGE, "side": TABLE}


BUILDERS: dict[str, dict[str, Any]] = {
    "hard_sharing": {},
    "layerwise": {"task_stages": {"age": "stage1"}},
    "hierarchical": {"task_stages": {"age": "stage1"}},
    "soft_sharing": {},
    "cross_stitch": {},
    "sluice": {"subspaces": 2},
    "nddr": {},
    "mtan": {},
    "task_gated": {"channels": 4, "stages": ["stage1", "stage2"]},
    "adapters": {"units": 2},
    "mmoe": {"units": 6},
    "omoe": {"units": 6},
    "cgc": {"units": 6},
    "ple": {"units": 6},
    "dselect_k": {"units": 6},
    "learned_branching": {},
    "tensor_factorized": {"rank": 2},
    "esmm": {"units": (6,)},
    "aitm": {"units": (6,)},
}
TASKS: dict[str, Callable[[], Any]] = {
    "Binary": lambda: mtl.tasks.Binary("t", hidden=4),
    "MultiLabel": lambda: mtl.tasks.MultiLabel("t", 3, hidden=4),
    "Ordinal": lambda: mtl.tasks.Ordinal("t", 4, hidden=4),
    "BoundingBox": lambda: mtl.tasks.BoundingBox("t", hidden=4, channels=4),
    "Detection": lambda: mtl.tasks.Detection("t", 2, channels=4),
    "Segmentation": lambda: mtl.tasks.Segmentation("t", channels=4),
    "Segmentation, 3 classes": lambda: mtl.tasks.Segmentation("t", 3, channels=4),
    "Depth": lambda: mtl.tasks.Depth("t", channels=4),
    "Normals": lambda: mtl.tasks.Normals("t", channels=4),
    "Keypoints": lambda: mtl.tasks.Keypoints("t", 3, channels=4),
    "Embedding": lambda: mtl.tasks.Embedding("t", 4, hidden=4),
    "SequenceTranscription": lambda: mtl.tasks.SequenceTranscription("t", "abc"),
}
TEXT = {"vocabulary_size": 10}
NETWORKS: dict[str, Callable[[], tuple[keras.Model, dict[str, np.ndarray]]]] = {
    **{
        name: lambda name=name, options=options: built(name, **options)
        for name, options in BUILDERS.items()
    },
    "cross_modal": cross_modal,
    "multi_input": multi_input,
    **{name: lambda task=task: with_task(task()) for name, task in TASKS.items()},
    "TokenTagging on bilstm": lambda: on_trunk(
        "bilstm",
        TOKENS,
        [mtl.tasks.TokenTagging("t", 3), mtl.tasks.Binary("b", hidden=4)],
        **TEXT,
        embedding_dim=4,
        units=4,
    ),
    "text_cnn": lambda: on_trunk(
        "text_cnn", TOKENS, two_heads(), **TEXT, embedding_dim=4, filters=4
    ),
    "transformer": lambda: on_trunk(
        "transformer", TOKENS, two_heads(), **TEXT, dim=8, heads=2, blocks=1, hidden=8
    ),
    "lstm": lambda: on_trunk("lstm", TOKENS, two_heads(), **TEXT, embedding_dim=4, units=4),
    "gru": lambda: on_trunk("gru", TOKENS, two_heads(), **TEXT, embedding_dim=4, units=4),
    "mlp": lambda: on_trunk("mlp", TABLE, two_heads(), widths=(8,)),
    "deep_cross": lambda: on_trunk("deep_cross", TABLE, two_heads(), widths=(8,)),
    "fpn": lambda: on_trunk(
        "fpn", IMAGE, [mtl.tasks.Depth("t", channels=4)], channels=4, backbone_options=CNN
    ),
    "resnet": lambda: on_trunk(
        "resnet", IMAGE, two_heads(), depths=(1, 1), widths=(4, 8), stem="cifar"
    ),
    "mobilenet_v3_small": lambda: on_trunk(
        "mobilenet_v3_small", np.tile(IMAGE, (1, 2, 2, 1)), two_heads(), alpha=0.35
    ),
    "log_mel_cnn": lambda: on_trunk(
        "log_mel_cnn", SOUND, two_heads(), widths=(4, 8), depth=1, mels=8
    ),
    "frame_cnn": lambda: on_trunk("frame_cnn", FRAMES, two_heads(), units=4, encoder_options=CNN),
}


def settle(model: keras.Model, x: dict[str, np.ndarray]) -> None:
    """Give an untrained network the spread of a trained one.

    Statistics of normalization are those of the rows, and the last layer with weights before each
    head gives numbers of mean 0 and standard deviation 1.5. A head that hardly moves says nothing
    of int8: a sigmoid has steps of 1/256 there.
    """
    rows = feed(model, x)
    for layer in sublayers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(keras.tree.map_structure(keras.ops.convert_to_tensor, rows), training=True)
    for tensor in model.outputs:
        layer = last_weighted_layer(tensor)
        values = keras.Model(model.inputs, layer.output).predict(rows, verbose=0)
        axes = tuple(range(values.ndim - 1))
        factor = 1.5 / np.maximum(values.std(axis=axes), 1e-6)
        layer.kernel.assign(layer.kernel * factor)
        if layer.bias is not None:
            layer.bias.assign((layer.bias - values.mean(axis=axes)) * factor)


def last_weighted_layer(tensor: Any) -> keras.layers.Layer:
    """The nearest layer before a head that has a kernel and an output channel per column of it."""
    waiting = [tensor]
    while waiting:
        layer = layer_of(waiting.pop(0))
        if hasattr(layer, "kernel") and hasattr(layer, "bias"):
            return layer
        waiting += keras.tree.flatten(layer.input)
    raise ValueError(f"No layer with a kernel leads to {tensor.name}.")


def inputs_in_order(path: Path, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows by input, in the file's order."""
    graph = flatbuffer.read(path.read_bytes()).subgraphs[0]
    return {
        name: rows[name] for name in (flatbuffer.text(graph.tensors[i].name) for i in graph.inputs)
    }


def largest_error(answers: list[Any], expected: dict[str, np.ndarray]) -> float:
    """Of the worst head, as a part of its range."""
    errors = []
    for position, value in enumerate(expected.values()):
        given = np.array([row[position] for row in answers])
        errors.append(
            np.abs(given - value.reshape(len(given), -1)).max() / max(float(np.ptp(value)), 1e-6)
        )
    return float(max(errors))


def first_line(text: str) -> str:
    return " ".join(text.split())[:140]


def measure(name: str, folder: Path, clients: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """A network's cells: by form, by client."""
    keras.utils.set_random_seed(0)
    model, x = NETWORKS[name]()
    settle(model, x)
    rows = {key: value[:4] for key, value in x.items()}
    expected = {
        key: np.asarray(value) for key, value in model.predict(feed(model, rows), verbose=0).items()
    }
    cells: dict[str, dict[str, Any]] = {}
    for form, quantization in FORMS.items():
        path = folder / "network.tflite"
        try:
            report = mtl.export.tflite(
                model, path, quantization, calibration=feed(model, x) if form == "int8" else None
            )
        except mtl.export.ExportError as error:
            cells[form] = {"not exported": first_line(str(error))}
            continue
        np.savez(folder / "rows.npz", **inputs_in_order(path, rows))
        cells[form] = {"gpu": report.gpu}
        for client, python in clients.items():
            script = [
                python,
                folder / "client.py",
                path,
                client,
                folder / "rows.npz",
                str(len(expected)),
            ]
            answers = edge_clients.answered(script)
            cells[form][client] = (
                first_line(answers)
                if isinstance(answers, str)
                else largest_error(answers, expected)
            )
    return cells


def feed(model: keras.Model, x: dict[str, np.ndarray]) -> Any:
    return x if len(model.inputs) > 1 else next(iter(x.values()))


def verdict(form: str, value: Any) -> str:
    if isinstance(value, str):
        return "no"
    return "yes" if value <= TOLERANCE[form] else f"differs by {value:.0%}"


def table(results: dict[str, Any]) -> str:
    """Markdown: a row for each network, what runs where."""
    clients = list(edge_clients.CLIENTS)
    lines = [
        "| network | "
        + " | ".join(f"{client}: {', '.join(FORMS)}" for client in clients)
        + " | GPU delegate |",
        "|---|" + "---|" * (len(clients) + 1),
    ]
    for name, cells in results.items():
        columns = []
        for client in clients:
            words = [
                verdict(form, cell[client]) if client in cell else "-"
                for form, cell in cells.items()
            ]
            columns.append(words[0] if len(set(words)) == 1 else ", ".join(words))
        gpu = cells["float32"].get("gpu")
        columns.append(
            "-" if gpu is None else "; ".join(reason.split(" (at ")[0] for reason in gpu) or "whole"
        )
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clients", type=Path)
    parser.add_argument("--write-table", action="store_true")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "client.py").write_text(edge_clients.SCRIPT)
        clients = {}
        for client, packages in edge_clients.CLIENTS.items():
            home = (options.clients or folder) / client
            python, failed = home / "bin" / "python", ""
            if not python.exists():
                python, failed = edge_clients.environment(home, packages)
            if failed:
                raise SystemExit(f"{client} could not be installed: {failed}")
            clients[client] = python
        for network in options.networks:
            results[network] = measure(network, folder, clients)
            for form, cell in results[network].items():
                print(network, "|", form, "|", cell, flush=True)
    if options.networks == list(NETWORKS):
        common.write("edge_networks", results)
    if options.write_table:
        text = DOCS.read_text()
        before, rest = text.split(START)
        DOCS.write_text(before + START + "\n" + table(results) + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
