"""What it costs a training step that heads of absent tasks stand still, as a ratio to the same step
without that care.

    python benchmarks/idle_heads.py --rounds 15

Three networks: the residual trunk of `balancing_speed.py` with three heads (batches of 64
pictures), `small_cnn` with three heads of three kinds (batches of 32 pictures), and a table
network, whose step is short (batches of 256 rows). Adam. Steps of both kinds take turns in one
process; `cpu` is the ratio of the medians of CPU time, `wall` that of wall-clock time, `absent` the
CPU ratio where every second batch lacks one task.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

import common
import numpy as np
import tensorflow as tf
from balancing_speed import network

import mtl_keras as mtl
from mtl_keras.trainer import step


def pictures(rng, tasks=3):
    x = rng.random((64, 32, 32, 3), "float32")
    return (
        network(tasks),
        x,
        {f"t{i}": rng.integers(0, 10, 64).astype("int32") for i in range(tasks)},
    )


def small(rng):
    tasks = [
        mtl.tasks.Classification("t0", num_classes=10),
        mtl.tasks.BoundingBox("t1"),
        mtl.tasks.Segmentation("t2"),
    ]
    y = {
        "t0": rng.integers(0, 10, 32).astype("int32"),
        "t1": np.tile(np.array([0.1, 0.1, 0.6, 0.7], "float32"), (32, 1)),
        "t2": rng.integers(0, 2, (32, 32, 32)).astype("int32"),
    }
    return mtl.builders.hard_sharing((32, 32, 3), tasks), rng.random((32, 32, 32, 3), "float32"), y


def table(rng):
    tasks = [mtl.tasks.Regression("t0"), mtl.tasks.Binary("t1"), mtl.tasks.Regression("t2")]
    model = mtl.builders.hard_sharing(
        (20,), tasks, backbone="mlp", backbone_options={"widths": (128, 64)}
    )
    y = {
        "t0": rng.standard_normal(256).astype("float32"),
        "t1": rng.integers(0, 2, 256).astype("int32"),
        "t2": rng.standard_normal(256).astype("float32"),
    }
    return model, rng.standard_normal((256, 20)).astype("float32"), y


def plain(model, gradients, variables, tasks_of, present):
    model.optimizer.apply_gradients(zip(gradients, variables, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--steps", type=int, default=20, help="training steps of each kind in a round"
    )
    networks = {"residual": pictures, "small_cnn": small, "table": table}
    parser.add_argument("--networks", nargs="+", choices=list(networks), default=list(networks))
    options = parser.parse_args()
    careful, results = step.apply_gradients, {}
    for name in options.networks:
        make = networks[name]
        runs, times = {}, {}
        for kind in ("plain", "careful", "careful, absent"):
            model, x, y = make(np.random.default_rng(0))
            model.compile("adam")
            if kind.endswith("absent"):
                absent = mtl.data.complete(
                    {task: labels for task, labels in y.items() if task != "t1"}, model
                )
                absent["t1"] = absent["t1"].reshape(y["t1"].shape).astype(y["t1"].dtype)
                batches = [(x, y), (x, absent)]
            else:
                batches = [(x, y), (x, y)]
            data = tf.data.Dataset.from_tensors(batches[0]).concatenate(
                tf.data.Dataset.from_tensors(batches[1])
            )
            data = data.repeat(options.steps // 2).cache()
            step.apply_gradients = plain if kind == "plain" else careful
            model.fit(data, verbose=0)  # traces
            runs[kind], times[kind] = (model, data), []
        step.apply_gradients = careful
        for turn in range(options.rounds):
            kinds = list(runs) if turn % 2 else list(reversed(runs))
            for kind in kinds:
                model, data = runs[kind]
                start, cpu_start = time.perf_counter(), time.process_time()
                model.fit(data, verbose=0)
                times[kind].append((time.process_time() - cpu_start, time.perf_counter() - start))
        cpu, wall = (
            {k: statistics.median(t[i] for t in v) / options.steps for k, v in times.items()}
            for i in (0, 1)
        )
        results[name] = {
            "cpu_ms": round(1e3 * cpu["plain"], 2),
            "cpu": round(cpu["careful"] / cpu["plain"], 4),
            "wall": round(wall["careful"] / wall["plain"], 4),
            "absent": round(cpu["careful, absent"] / cpu["plain"], 4),
        }
        print(name, results[name], flush=True)
    common.write("idle_heads", results, keep_others=True)


if __name__ == "__main__":
    main()
