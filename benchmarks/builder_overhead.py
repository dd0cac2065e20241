"""What a builder's network costs beside the same network written by hand in plain Keras, and what
batching experts gains.

    python benchmarks/builder_overhead.py --rounds 9

Three parts, all as ratios in one process:

- `step`: a training step of a builder's `MultiTaskModel` under the plain sum, to `keras.Model.fit`
  on the same graph built by hand (without tasks, with plain losses). Interleaved rounds; ratios of
  the medians of wall-clock and of CPU time.
- `build`: seconds to build networks of the zoo's sizes with each builder.
- `experts`: a forward and backward pass through n experts as one matrix product
  (`mtl.layers.Experts`), to n `Dense` layers.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

import common
import keras
import numpy as np
import tensorflow as tf
from keras import layers

import mtl_keras as mtl

STEPS = 20
TASKS = 3


def numbers(hidden: int = 32) -> list:
    return [
        mtl.tasks.Classification(f"t{i}", num_classes=10, hidden=hidden, metrics=[])
        for i in range(TASKS)
    ]


def by_hand(trunk) -> keras.Model:
    """Heads as the tasks make them, on a trunk's output, in plain Keras."""
    inputs, features = trunk()
    outputs = {}
    for i in range(TASKS):
        x = features[i] if isinstance(features, list) else features
        x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
        x = layers.Dense(10)(layers.Dense(32, activation="relu")(x))
        outputs[f"t{i}"] = layers.Activation("softmax", name=f"t{i}")(x)
    return keras.Model(inputs, outputs)


def cnn_by_hand():
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for level, width in enumerate((16, 32, 64)):
        for block in range(2):
            x = layers.Conv2D(
                width, 3, 2 if block == 0 else 1, "same", use_bias=False, name=f"c{level}{block}"
            )(x)
            x = layers.BatchNormalization(momentum=0.95)(x)
            x = layers.ReLU(max_value=6.0)(x)
    return inputs, x


def mmoe_by_hand():
    inputs = keras.Input((100,))
    experts = [layers.Dense(32, activation="relu")(inputs) for _ in range(8)]
    mixed = []
    for _ in range(TASKS):
        gate = layers.Dense(8, activation="softmax", use_bias=False)(inputs)
        weighted = [layers.Multiply()([e, gate[:, i : i + 1]]) for i, e in enumerate(experts)]
        mixed.append(layers.Add()(weighted))
    return inputs, mixed


PAIRS = {
    "hard_sharing, small_cnn": (
        lambda: mtl.builders.hard_sharing(
            (32, 32, 3), numbers(), backbone_options={"widths": (16, 32, 64)}
        ),
        lambda: by_hand(cnn_by_hand),
        (32, 32, 3),
    ),
    "mmoe, 8 experts (by hand: 8 Dense layers)": (
        lambda: mtl.builders.mmoe((100,), numbers(), experts=8, units=32),
        lambda: by_hand(mmoe_by_hand),
        (100,),
    ),
}


def steps(rounds: int) -> dict:
    found = {}
    for name, (builder, hand, shape) in PAIRS.items():
        rng = np.random.default_rng(0)
        x = rng.random((64, *shape), "float32")
        y = {f"t{i}": rng.integers(0, 10, 64).astype("int32") for i in range(TASKS)}
        data = tf.data.Dataset.from_tensors((x, y)).repeat(STEPS).cache()
        ours, plain = builder(), hand()
        assert ours.count_params() == plain.count_params(), name
        ours.compile("adam")
        plain.compile("adam", loss=dict.fromkeys(y, "sparse_categorical_crossentropy"))
        runs = {"ours": ours, "plain": plain}
        wall, cpu = ({key: [] for key in runs} for _ in range(2))
        for _ in range(rounds + 1):
            for key in random.sample(list(runs), 2):
                start, used = time.perf_counter(), time.process_time()
                runs[key].fit(data, shuffle=False, verbose=0)
                wall[key].append(time.perf_counter() - start)
                cpu[key].append(time.process_time() - used)
        ratio = {
            k: statistics.median(v["ours"][1:]) / statistics.median(v["plain"][1:])
            for k, v in (("wall", wall), ("cpu", cpu))
        }
        found[name] = {key: round(value, 3) for key, value in ratio.items()}
        found[name]["ms"] = round(1e3 * statistics.median(wall["ours"][1:]) / STEPS, 2)
        print(
            f"  {name:44s} {found[name]['ms']:7.2f} ms  x {ratio['wall']:.3f}  cpu x "
            f"{ratio['cpu']:.3f}"
        )
    return found


BUILDS = {
    "hard_sharing": {},
    "layerwise": {"task_stages": {"t0": "stage1"}},
    "hierarchical": {"task_stages": {"t0": "stage1"}},
    "soft_sharing": {},
    "cross_stitch": {},
    "sluice": {},
    "nddr": {},
    "mtan": {},
    "task_gated": {"stages": ["stage2", "stage3"]},
    "adapters": {},
    "mmoe": {"backbone": "small_cnn"},
    "ple": {"backbone": "small_cnn"},
    "dselect_k": {"backbone": "small_cnn"},
    "learned_branching": {},
    "tensor_factorized": {},
}
BACKBONES = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_lite0",
    "efficientnet_v2_b0",
    "resnet",
)


def builds() -> dict:
    found = {}
    jobs = [
        (b, {"backbone": "small_cnn", **kw, "backbone_options": {"widths": (24, 48, 96)}})
        for b, kw in BUILDS.items()
    ]
    jobs += [("hard_sharing", {"backbone": b}) for b in BACKBONES]
    mtl.builders.hard_sharing((96, 96, 3), numbers())
    for builder, arguments in jobs:
        start = time.perf_counter()
        getattr(mtl.builders, builder)((96, 96, 3), numbers(), **arguments)
        key = f"{builder}, {arguments['backbone']}"
        found[key] = round(time.perf_counter() - start, 2)
        print(f"  {key:40s} {found[key]:.2f} s")
    return found


def experts(rounds: int) -> dict:
    found = {}
    for count, units, size, rows in ((8, 16, 100, 256), (8, 64, 128, 64), (32, 32, 128, 64)):
        x = tf.random.normal((rows, size))
        together = mtl.layers.Experts(count, units)
        apart = [layers.Dense(units, activation="relu") for _ in range(count)]

        @tf.function
        def one(x, layer=together):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer(x) ** 2)
            return tape.gradient(loss, layer.trainable_variables)

        @tf.function
        def many(x, made=apart):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.stack([layer(x) for layer in made], 1) ** 2)
            return tape.gradient(loss, [v for layer in made for v in layer.trainable_variables])

        times: dict = {one: [], many: []}
        for function in times:
            function(x)
        for _ in range(rounds):
            for function, spent in times.items():
                used = time.process_time()
                for _ in range(200):
                    function(x)
                spent.append((time.process_time() - used) / 200)
        a, b = (1e3 * statistics.median(values) for values in times.values())
        key = f"{count} experts of {units} units on {size} features, {rows} rows"
        found[key] = {
            "one_product_ms": round(a, 3),
            "dense_layers_ms": round(b, 3),
            "gain": round(b / a, 2),
        }
        print(f"  {key:52s} {a:.3f} ms against {b:.3f} ms: x {b / a:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    common.write(
        "builder_overhead",
        {"step": steps(options.rounds), "build": builds(), "experts": experts(options.rounds)},
    )


if __name__ == "__main__":
    main()
