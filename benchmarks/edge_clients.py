"""Which runtimes load which of our files, and whether every head answers as in Keras.

    # Needs a package index; writes benchmarks/results/edge_clients.json.
    python benchmarks/edge_clients.py

Each client gets a virtual environment of its own in a temporary folder: today's `ai-edge-litert`,
the `tflite-runtime` of 2023 (2.14, NumPy 1), and TensorFlow Lite for Microcontrollers
(`tflite-micro`). The network is small, with three heads, on a trunk of convolutions; the cell is
the largest difference from Keras over four rows, as a part of the outputs' range, by head, or what
the client says. Microcontrollers run integers and float32 of one signature; the other kinds are not
for them.

MediaPipe's `ImageClassifier` gets a network with two classifying heads and nothing but the file:
how bytes become numbers, heads' names and labels are in the standard metadata. Its cell is the
largest difference of a probability from Keras.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np
from PIL import Image

import mtl_keras as mtl

CLIENTS = {
    "ai-edge-litert": ["ai-edge-litert", "numpy"],
    "tflite-runtime": ["tflite-runtime==2.14.0", "numpy<2"],
    "tflite-micro": ["tflite-micro", "numpy"],
}
FILES = {
    "float32": {},
    "float16": {"quantization": "float16"},
    "weights": {"quantization": "weights"},
    "dynamic": {"quantization": "dynamic"},
    "int8": {"quantization": "int8"},
    "int8, integers in and out": {"quantization": "int8", "io": "int8"},
    "int8, box in float": {"quantization": "int8", "keep_float": ["box"]},
    "int16x8": {"quantization": "int16x8"},
    "float32, all signatures": {"signatures": "all"},
    "int8, all signatures": {"quantization": "int8", "signatures": "all"},
    "float32, raw and decoded": {"decode": ["kind", "box"]},
}
#: Run by each client's own Python: file, client, rows by input as .npz, number of heads; prints
#: each head's answers.
SCRIPT = """
import json, sys
import numpy as np
path, client, rows, heads = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), int(sys.argv[4])
# In the file's order of inputs: microcontrollers know no names.
names = list(rows)
count = len(rows[names[0]])


def whole(x, scale, zero, dtype):
    return np.clip(np.round(x / scale) + zero, -128, 127).astype(dtype) if scale and x.dtype.kind == "f" else x.astype(dtype)


def real(y, scale, zero):
    return (y.astype("float32") - zero) * scale if scale and y.dtype.kind != "f" else np.array(y)


def micro(details):
    # Numbers at once: what is handed out is a view of memory that is used again.
    q = details["quantization_parameters"]
    return (float(q["scales"][0]), int(q["zero_points"][0])) if len(q["scales"]) else (0.0, 0)


answers = []
if client == "tflite-micro":
    from tflite_micro.python.tflite_micro import runtime
    interpreter = runtime.Interpreter.from_file(path, arena_size=2_000_000)
    inputs = [(*micro(interpreter.get_input_details(i)), interpreter.get_input_details(i)["dtype"]) for i in range(len(names))]
    scales = [micro(interpreter.get_output_details(i)) for i in range(heads)]
    for row in range(count):
        for i, name in enumerate(names):
            interpreter.set_input(whole(rows[name][row : row + 1], *inputs[i]), i)
        interpreter.invoke()
        answers.append([real(interpreter.get_output(i), *scales[i]).ravel().tolist() for i in range(heads)])
else:
    if client == "tflite-runtime":
        from tflite_runtime.interpreter import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()[:heads]
    for row in range(count):
        for detail in inputs:
            value = rows[detail["name"]][row : row + 1]
            interpreter.set_tensor(detail["index"], whole(value, *detail["quantization"], detail["dtype"]))
        interpreter.invoke()
        answers.append([real(interpreter.get_tensor(d["index"]), *d["quantization"]).ravel().tolist() for d in outputs])
print("ANSWERS" + json.dumps(answers))
"""


MEDIAPIPE = """
import json, sys
import mediapipe
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions
options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]))
with ImageClassifier.create_from_options(options) as classifier:
    found = classifier.classify(mediapipe.Image.create_from_file(sys.argv[2])).classifications
print("ANSWERS" + json.dumps({head.head_name: {c.category_name: c.score for c in head.categories} for head in found}))
"""


def mediapipe(folder: Path) -> dict:
    """A picture through MediaPipe's classifier, which knows of our files what their metadata
    says."""
    keras.utils.set_random_seed(0)
    heads = {"kind": ["cat", "dog", "fox"], "size": ["small", "big"]}
    tasks = [
        mtl.tasks.Classification(name, num_classes=len(labels), labels=labels)
        for name, labels in heads.items()
    ]
    encoder = mtl.data.ImageEncoder((24, 24), 3, name="image")
    model = mtl.builders.hard_sharing(
        (24, 24, 3), tasks, encoder=encoder, backbone_options={"widths": (8, 16), "depth": 1}
    )
    for variable in model.trainable_variables:
        variable.assign(2 * variable)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (24, 24, 3), "uint8")
    Image.fromarray(picture).save(folder / "picture.png")
    expected = model.predict(encoder.encode([picture]), verbose=0)
    (folder / "classify.py").write_text(MEDIAPIPE)
    python, failed = environment(folder / "mediapipe", ["mediapipe>=1.0"])
    if failed:
        return {"not installed": failed}
    found: dict = {}
    for kind in (None, "float16", "dynamic", "int8"):
        x = rng.random((64, 24, 24, 3)).astype("float32") if kind == "int8" else None
        mtl.export.tflite(model, folder / "m.tflite", kind, calibration=x)
        answers = answered(
            [python, folder / "classify.py", folder / "m.tflite", folder / "picture.png"]
        )
        if isinstance(answers, dict):
            answers = {
                name: round(
                    max(
                        abs(answers[name][label] - float(expected[name][0, i]))
                        for i, label in enumerate(labels)
                    ),
                    5,
                )
                for name, labels in heads.items()
            }
        found[kind or "float32"] = answers
        print("mediapipe |", kind or "float32", "|", answers, flush=True)
    return found


def environment(folder: Path, packages: list[str]) -> tuple[Path, str]:
    """The Python of a new virtual environment with these packages, and what pip said where it
    failed."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = ran([python, "-m", "pip", "install", "-q", *packages])
    return python, done.stderr.strip().splitlines()[-1] if done.returncode else ""


def answered(command: list):
    """What a client's script printed behind ANSWERS, or, in a line, how it ended."""
    done = ran(command)
    line = next((text for text in done.stdout.splitlines() if text.startswith("ANSWERS")), None)
    if line is not None:
        return json.loads(line[len("ANSWERS") :])
    said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:160]
    return said if done.returncode >= 0 else f"signal {-done.returncode}"


def ran(command: list) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def network():
    keras.utils.set_random_seed(0)
    tasks = [
        mtl.tasks.Classification("kind", num_classes=3, hidden=8),
        mtl.tasks.BoundingBox("box", hidden=8, channels=4),
        mtl.tasks.Regression("age", hidden=8),
    ]
    model = mtl.builders.hard_sharing(
        (24, 24, 3), tasks, backbone_options={"widths": (8, 16), "depth": 1}
    )
    for variable in model.trainable_variables:
        variable.assign(1.5 * variable)
    x = np.random.default_rng(0).random((64, 24, 24, 3)) * np.linspace(0.2, 2, 64).reshape(
        -1, 1, 1, 1
    )
    return model, x.astype("float32")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="edge_clients")
    options = parser.parse_args()
    model, x = network()
    expected = model.predict(x[:4], verbose=0)
    found: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "rows.npz", image=x[:4])
        (folder / "client.py").write_text(SCRIPT)
        for i, given in enumerate(FILES.values()):
            mtl.export.tflite(model, folder / f"{i}.tflite", calibration=x, **given)
        for client, packages in CLIENTS.items():
            python, failed = environment(folder / client, packages)
            if failed:
                found[client] = {"not installed": failed}
                print(client, found[client], file=sys.stderr)
                continue
            found[client] = {}
            for i, kind in enumerate(FILES):
                file, heads = folder / f"{i}.tflite", str(len(expected))
                rows = answered(
                    [python, folder / "client.py", file, client, folder / "rows.npz", heads]
                )
                if not isinstance(rows, str):
                    rows = {
                        head: round(
                            float(np.abs(np.array([row[k] for row in rows]) - y).max() / np.ptp(y)),
                            5,
                        )
                        for k, (head, y) in enumerate(expected.items())
                    }
                found[client][kind] = rows
                print(client, "|", kind, "|", rows, flush=True)
        found["mediapipe"] = mediapipe(folder)
    common.write(options.out, found)


if __name__ == "__main__":
    main()
