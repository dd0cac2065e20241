"""What each balancer costs, as ratios to plain Keras `fit` with summed losses on the same network
in the same run.

    python benchmarks/balancing_speed.py --tasks 2 4 --rounds 5
    python benchmarks/balancing_speed.py --tasks 2 --methods equal \\
        mgda:gradients=representation nash_mtl:update_every=10
    # Only the time of the methods' own maths, T = 8.
    python benchmarks/balancing_speed.py --solvers

The network: images (64, 32, 32, 3) through a small residual trunk (271,824 parameters), and a head
a task. Also measured is the floor of exact gradient methods: one forward pass and a backward pass a
task, and the update, without any balancing.

Where LibMTL or TorchJD (and PyTorch) are installed, the same network runs in them too (in a process
of its own, step by step in the same rounds), as ratios to PyTorch's plain sum.

    # Beside PyTorch.
    python benchmarks/balancing_speed.py --tasks 4 --methods pcgrad mgda --peers "PCGrad|MGDA|plain"

After every round the medians so far are printed and written, so that a run cut short is not lost.

`ratio` is of wall-clock medians, `cpu` of the medians of the process's CPU time, which is steadier
where others use the machine too; a gap between the two says how far the wall clock can be trusted.
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
from peers import Peers

import mtl_keras as mtl


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
                x = layers.BatchNormalization(
                    momentum=0.9, epsilon=1e-5, name=f"{name}_short_norm"
                )(x)
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
        summed = [
            tf.add_n([g for g in column if g is not None]) for column in zip(*rows, strict=True)
        ]
        optimizer.apply_gradients(zip(summed, variables, strict=True))
        return losses[0]

    def run(data):
        for x, y in data:
            step(x, y)

    return run


VARIANTS = [
    "famo:observe=next_batch",
    "mgda:gradients=representation",
    "cagrad:gradients=representation",
    "nash_mtl:update_every=10",
]


def balancer(spec: str, data=None):
    """A balancer from `name:key=value,key=value`."""
    name, _, rest = spec.partition(":")
    given = dict(pair.split("=", 1) for pair in rest.split(",")) if rest else {}
    made = {key: int(value) if value.isdigit() else value for key, value in given.items()}
    if name == "auto_lambda":
        made["data"] = data
    return type(mtl.balancing.get(name))(**made)


def solvers(rounds: int) -> dict[str, float]:
    """Milliseconds of CPU time for one solution, T = 8, in a graph; the quietest of the rounds."""
    gram = np.random.default_rng(0).standard_normal((8, 40))
    gram = tf.constant((gram @ gram.T).astype("float32"))
    found = {}
    for name in mtl.balancing.names():
        made = mtl.balancing.get(name)
        if made.strategy not in ("gram", "samples"):
            continue
        made.build(
            [type("Row", (), {"name": f"row{i}", "likelihood": "gaussian"})() for i in range(8)]
        )
        there, losses = tf.constant([True] * 8), tf.ones(8)
        function = tf.function(
            lambda g, made=made, there=there, losses=losses: made.weigh_all(losses, there, g)[0],
            autograph=False,
        )
        function(gram)
        times = []
        for _ in range(rounds):
            start = time.process_time()
            for _ in range(50):
                function(gram)
            times.append((time.process_time() - start) / 50)
        found[name] = round(1e3 * min(times), 3)
        print(f"  {name:14s} {found[name]:.2f} ms")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=[*mtl.balancing.names(), *VARIANTS])
    parser.add_argument(
        "--steps", type=int, default=10, help="training steps that each method takes in a round"
    )
    parser.add_argument(
        "--peers", default="", help="a regular expression: only those of the peers; none: none"
    )
    parser.add_argument("--solvers", action="store_true")
    parser.add_argument("--out", default="balancing_speed", help="name of the file in results/")
    options = parser.parse_args()
    if options.solvers:
        common.write("balancing_solvers", solvers(options.rounds))
        return
    rng, found = np.random.default_rng(0), {}
    for tasks in options.tasks:
        x = rng.random((64, 32, 32, 3), "float32")
        y = {f"t{i}": rng.integers(0, 10, 64).astype("int32") for i in range(tasks)}
        data = tf.data.Dataset.from_tensors((x, y)).repeat(options.steps).cache()
        plain = network(tasks)
        plain = keras.Model(plain.input, plain.output)
        plain.compile("adam", loss=dict.fromkeys(y, "sparse_categorical_crossentropy"))
        runs = {
            "plain Keras": lambda d, m=plain: m.fit(d, shuffle=False, verbose=0),
            "floor": floor(tasks),
        }
        for name in options.methods:
            model = network(tasks)
            model.compile("adam", balancer=balancer(name, data.take(2)))
            runs[name] = lambda d, m=model: m.fit(d, verbose=0)
        peers = Peers(tasks, options.steps, options.peers)
        names = [*runs, *peers.names]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        cpu: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(options.rounds + 1):
            for name in random.sample(names, len(names)):
                if name in peers.names:
                    wall_s, cpu_s = peers.step(name)
                    seconds[name].append(wall_s)
                    cpu[name].append(cpu_s)
                    continue
                start, cpu_start = time.perf_counter(), time.process_time()
                runs[name](data)
                seconds[name].append((time.perf_counter() - start) / options.steps)
                cpu[name].append((time.process_time() - cpu_start) / options.steps)
            if turn:  # the first one traces
                found[str(tasks)] = ratios(seconds, cpu, peers.names)
                print(f"{tasks} tasks, {turn} of {options.rounds} rounds")
                for name, row in found[str(tasks)].items():
                    print(
                        f"  {name:34s} {row['ms']:8.1f} ms  x {row['ratio']:.2f}  cpu x "
                        f"{row['cpu']:.2f}",
                        flush=True,
                    )
                common.write(options.out, found)
        peers.close()


def ratios(
    seconds: dict[str, list[float]], cpu: dict[str, list[float]], peers: list[str]
) -> dict[str, dict[str, float]]:
    """Medians after the first round, and as ratios to each framework's plain sum."""
    wall, used = (
        {name: statistics.median(values[1:]) for name, values in kind.items()}
        for kind in (seconds, cpu)
    )
    found = {}
    for name in seconds:
        base = "torch plain sum" if name in peers else "plain Keras"
        ms, ratio = round(1e3 * wall[name], 1), round(wall[name] / wall[base], 3)
        found[name] = {"ms": ms, "ratio": ratio, "cpu": round(used[name] / used[base], 3)}
    return found


if __name__ == "__main__":
    main()
