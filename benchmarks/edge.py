"""What export costs and gains: every precision of trained networks, training for int8, many heads
in one file.

    python benchmarks/edge.py            # some minutes; writes benchmarks/results/edge.json

Four parts:

- `precisions`: the zoo's fashion_scene in every precision on its test data: each head's own metric
  in Keras and in the file, size, size after gzip, delegate partitions, and latency as a ratio to
  the float32 file's, in one run. To reach: full int8 at most 0.30 of the float32 file, one
  partition, a metric drop of at most 0.01 (classification) or 2 % (the others).
- `trunks`: sizes and partitions of untrained networks on the backbones for pictures, float32 and
  int8.
- `training`: int8 after training and after quantization-aware training, head by head, over seeds:
  to reach, no head worse for it in the mean (a run moves by about .002 by chance).
- `heads`: three heads in one file against a file with one, on the small trunk for pictures: at most
  1.15 of its latency.

Latencies are those of the processor that the results name, and no phone's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np

import mtl_keras as mtl
from mtl_keras import zoo
from mtl_keras.export.judge import held_out

KINDS = (None, "float16", "weights", "dynamic", "int8", "int16x8")


def judged(report) -> dict:
    heads = {
        h.name: {
            "metric": h.metric,
            "keras": round(h.before, 5),
            "file": round(h.after, 5),
            "drop": round(h.drop, 5),
        }
        for h in report.heads
    }
    return {
        "bytes": report.size,
        "gzip_bytes": report.gzip_size,
        "partitions": report.partitions,
        "heads": heads,
    }


def precisions(model, prepared, folder: Path) -> dict:
    data, found = held_out(model, prepared.test), {}
    for kind in KINDS:
        path = folder / f"{kind or 'float32'}.tflite"
        report = mtl.export.tflite(model, path, kind, prepared.train(0), evaluate=data)
        found[kind or "float32"] = judged(report)
        report.show()
    timed = mtl.export.benchmark([folder / f"{kind or 'float32'}.tflite" for kind in KINDS])
    whole = next(row for row in timed.rows if row["file"] == "float32.tflite")
    for row in timed.rows:
        entry = found[Path(row["file"]).stem]
        entry["latency_ratio"] = round(row["median_ms"] / whole["median_ms"], 3)
        entry["size_ratio"] = round(entry["bytes"] / found["float32"]["bytes"], 3)
        entry["median_ms"] = round(row["median_ms"], 4)
    return found


def trunks(folder: Path) -> dict:
    x = np.random.default_rng(0).random((16, 96, 96, 3)).astype("float32")
    found = {}
    for name in ("small_cnn", "resnet", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0"):
        keras.utils.set_random_seed(0)
        tasks = [mtl.tasks.Classification("kind", num_classes=10), mtl.tasks.BoundingBox("box")]
        options = (
            {"weights": None}
            if name in ("mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0")
            else {}
        )
        model = mtl.builders.hard_sharing(
            (96, 96, 3), tasks, backbone=name, backbone_options=options
        )
        reports = [
            mtl.export.tflite(model, folder / "t.tflite", kind, x) for kind in (None, "int8")
        ]
        found[name] = {
            "size_ratio": round(reports[1].size / reports[0].size, 3),
            "partitions": [report.partitions for report in reports],
            "bytes": [report.size for report in reports],
        }
        print(name, found[name], flush=True)
    return found


def training(model, prepared, folder: Path, epochs: int, rate: float, seeds: list[int]) -> dict:
    data = held_out(model, prepared.test)
    model.compile("adam")
    found: dict[str, dict] = {}

    def exported(name: str, network) -> None:
        report = mtl.export.tflite(
            network, folder / "q.tflite", "int8", prepared.train(0), evaluate=data
        )
        found[name] = {head.name: round(head.after, 5) for head in report.heads}
        found.setdefault("keras", {head.name: round(head.before, 5) for head in report.heads})
        print(name, found[name], flush=True)

    exported("after training", model)
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        train = prepared.train(seed).take(prepared.steps)
        aware = mtl.export.compress(
            model, train, prepared.validation, epochs=epochs, learning_rate=rate
        )
        exported(f"quantization-aware, seed {seed}", aware)
    runs = [row for name, row in found.items() if name.startswith("quantization-aware")]
    found["quantization-aware, mean"] = {
        head: round(float(np.mean([run[head] for run in runs])), 5) for head in runs[0]
    }
    return found


def heads(folder: Path) -> dict:
    keras.utils.set_random_seed(0)
    makers = [
        lambda: mtl.tasks.Classification("kind", num_classes=10),
        lambda: mtl.tasks.Regression("age"),
        lambda: mtl.tasks.Binary("new"),
    ]
    shape, found = (64, 64, 3), {}
    x = np.random.default_rng(0).random((16, *shape)).astype("float32")
    for kind in (None, "int8"):
        whole = mtl.builders.hard_sharing(shape, [make() for make in makers])
        mtl.export.tflite(whole, folder / "three.tflite", kind, x)
        singles = []
        for make in makers:
            task = make()
            singles.append(folder / f"{task.name}.tflite")
            mtl.export.tflite(mtl.builders.hard_sharing(shape, [task]), singles[-1], kind, x)
        rows = mtl.export.benchmark([folder / "three.tflite", *singles], runs=300, rounds=9).rows
        three, *alone = [row["median_ms"] for row in rows]
        found[kind or "float32"] = {
            "three_heads_to_one": round(three / float(np.mean(alone)), 3),
            "three_heads_to_sum": round(three / sum(alone), 3),
            "median_ms": round(three, 4),
        }
        print(kind, found[kind or "float32"], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=["precisions", "trunks", "training", "heads"])
    parser.add_argument("--epochs", type=int, default=2, help="of quantization-aware training")
    parser.add_argument("--rate", type=float, default=3e-4, help="its learning rate")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="its runs")
    parser.add_argument("--out", default="edge")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"precisions", "training"} & set(options.parts):
            prepared = zoo.recipe("fashion_scene").prepare()
        if "precisions" in options.parts:
            found["precisions"] = precisions(zoo.load("fashion_scene"), prepared, folder)
        if "trunks" in options.parts:
            found["trunks"] = trunks(folder)
        if "heads" in options.parts:
            found["heads"] = heads(folder)
        if "training" in options.parts:
            found["training"] = training(
                zoo.load("fashion_scene"),
                prepared,
                folder,
                options.epochs,
                options.rate,
                options.seeds,
            )
    common.write(options.out, found)


if __name__ == "__main__":
    main()
