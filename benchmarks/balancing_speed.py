"""What each balancer costs, as ratios to plain Keras `fit` with summed losses on the same network in the same run.

    python benchmarks/balancing_speed.py --tasks 2 4 --rounds 5

The network: images (64, 32, 32, 3) through a small residual trunk (271,824 parameters), and a head a task. Also measured
is the floor of exact gradient methods: one forward pass and a backward pass a task, and the update, without any balancing.

`ratio` is of wall-clock medians, `cpu` of the medians of the process's CPU time, which is steadier where others use the
machine too; a gap between the two says how far the wall clock can be trusted.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

import common
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import mtl_keras as mtl

STEPS = 6


def trunk(inputs):
    def conv(x, width, stride, name):
        x = layers.Conv2D(width, 3, stride, "same", use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)

    x = layers.ReLU(name="stem_relu")(conv(inputs, 16, 1, "stem"))
    for stage, width in enumerate((16, 32, 64)):
        for block in range(3):
            name, stride = f"s{stage}b{block}", 2 if stage and not block else 1
            y = layers.ReLU(name=f"{name}_relu1")(conv(x, width, stride, f"{name}_a"))
            y = conv(y, width, 1, f"{name}_b")
            if stride == 2:
                x = layers.Conv2D(width, 1, 2, use_bias=False, name=f"{name}_short")(x)
                x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_short_norm")(x)
            x = layers.ReLU(name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))
    return layers.GlobalAveragePooling2D(name="pool")(x)


def network(tasks: int) -> mtl.MultiTaskModel:
    # Without metrics: they cost the same in all.
    heads = [mtl.tasks.Classification(f"t{i}", num_classes=10, metrics=[]) for i in range(tasks)]
    return mtl.builders.hard_sharing((32, 32, 3), heads, backbone=trunk)


def floor(tasks: int):
    """Forward, a backward pass a task, one update."""
    model, optimizer = network(tasks), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(x, y):
        variables = model.trainable_variables
        with tf.GradientTape(persistent=True) as tape:
            out = model(x, training=True)
            losses = [loss(y[name], out[name]) for name in y]
        rows = [tape.gradient(value, variables) for value in losses]
        summed = [tf.add_n([g for g in column if g is not None]) for column in zip(*rows, strict=True)]
        optimizer.apply_gradients(zip(summed, variables, strict=True))
        return losses[0]

    def run(data):
        for x, y in data:
            step(x, y)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=mtl.balancing.names())
    options = parser.parse_args()
    rng, found = np.random.default_rng(0), {}
    for tasks in options.tasks:
        x = rng.random((64, 32, 32, 3), "float32")
        y = {f"t{i}": rng.integers(0, 10, 64).astype("int32") for i in range(tasks)}
        data = tf.data.Dataset.from_tensors((x, y)).repeat(STEPS).cache()
        plain = network(tasks)
        plain = keras.Model(plain.input, plain.output)
        plain.compile("adam", loss=dict.fromkeys(y, "sparse_categorical_crossentropy"))
        runs = {"plain Keras": lambda d, m=plain: m.fit(d, shuffle=False, verbose=0), "floor": floor(tasks)}
        for name in options.methods:
            model = network(tasks)
            model.compile("adam", balancer=name)
            runs[name] = lambda d, m=model: m.fit(d, verbose=0)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        cpu: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds + 1):
            for name in random.sample(list(runs), len(runs)):
                start, cpu_start = time.perf_counter(), time.process_time()
                runs[name](data)
                seconds[name].append((time.perf_counter() - start) / STEPS)
                cpu[name].append((time.process_time() - cpu_start) / STEPS)
        wall, used = ({name: statistics.median(values[1:]) for name, values in kind.items()} for kind in (seconds, cpu))
        found[str(tasks)] = {
            name: {
                "ms": round(1e3 * wall[name], 1),
                "ratio": round(wall[name] / wall["plain Keras"], 3),
                "cpu": round(used[name] / used["plain Keras"], 3),
            }
            for name in runs
        }
        print(f"{tasks} tasks")
        for name, row in found[str(tasks)].items():
            print(f"  {name:14s} {row['ms']:8.1f} ms  x {row['ratio']:.2f}  cpu x {row['cpu']:.2f}")
    common.write("balancing_speed", found)


if __name__ == "__main__":
    main()
