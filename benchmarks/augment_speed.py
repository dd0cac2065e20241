"""Rows per second of augmentation with labels, beside Keras's layers on pictures only.

    python benchmarks/augment_speed.py --rounds 7

A usual list of steps (flip, crop, color) on batches of pictures in memory, in `tf.data`:

- `keras`: `RandomFlip`, a zoom and a translation (Keras has no random resized crop of one batch
  with one window per row), `RandomColorJitter`; labels are not touched.
- `pictures`: `mtl.data.augment.apply` with one class per picture.
- `boxes`: with a class, a box, and a list of boxes.
- `all`: with a class, a box, a mask, points, depth and normals.

Interleaved rounds in one process; the ratio of the medians to `keras`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import keras
import numpy as np
import tensorflow as tf

import mtl_keras as mtl

T = mtl.tasks
STEPS = ["flip", "crop", "color"]


def labels(rows: int, size: int) -> dict[str, tuple[mtl.tasks.Task, np.ndarray]]:
    """Each task with its labels."""
    box = np.tile(np.float32([0.2, 0.3, 0.7, 0.8]), (rows, 1))
    objects = np.tile(np.append(box[0], 1).astype("float32"), (rows, 8, 1))
    plane = np.ones((rows, size, size, 1), "float32")
    return {
        "kind": (T.Classification("kind", 10), np.arange(rows) % 10),
        "box": (T.BoundingBox("box"), box),
        "objects": (T.Detection("objects", 2), objects),
        "mask": (T.Segmentation("mask", 3), plane[..., 0].astype("int32")),
        "points": (T.Keypoints("points", 5, swaps=[(0, 1)]), np.full((rows, 5, 2), 0.5, "float32")),
        "depth": (T.Depth("depth"), plane),
        "normals": (T.Normals("normals"), np.repeat(plane, 3, axis=-1)),
    }


def pipelines(rows: int, size: int, batch: int) -> dict[str, tf.data.Dataset]:
    pictures = np.random.default_rng(0).random((rows, size, size, 3)).astype("float32")
    table = labels(rows, size)

    def batches(names: list[str]) -> tf.data.Dataset:
        y = {name: table[name][1] for name in names}
        return tf.data.Dataset.from_tensor_slices((pictures, y)).batch(batch)

    def ours(names: list[str]) -> tf.data.Dataset:
        return mtl.data.augment.apply(batches(names), STEPS, [table[name][0] for name in names])

    layers = [
        keras.layers.RandomFlip("horizontal"),
        keras.layers.RandomZoom((-0.3, 0.0), fill_mode="constant"),
        keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant"),
        keras.layers.RandomColorJitter(
            value_range=(0, 1),
            brightness_factor=0.2,
            contrast_factor=0.2,
            saturation_factor=(0.4, 0.6),
            hue_factor=0.02,
        ),
    ]

    def with_layers(x, y):
        for layer in layers:
            x = layer(x, training=True)
        return x, y

    plain = batches(["kind"]).map(with_layers, num_parallel_calls=tf.data.AUTOTUNE)
    return {
        "keras": plain.prefetch(tf.data.AUTOTUNE),
        "pictures": ours(["kind"]),
        "boxes": ours(["kind", "box", "objects"]),
        "all": ours(["kind", "box", "mask", "points", "depth", "normals"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    data = pipelines(options.rows, options.size, options.batch)
    seconds: dict[str, list[float]] = {name: [] for name in data}
    for number in range(options.rounds + 1):
        for name, dataset in data.items():
            start = time.perf_counter()
            for _ in dataset:
                pass
            # The first round traces.
            if number:
                seconds[name].append(time.perf_counter() - start)
    results = {
        name: {
            "rows_per_second": round(options.rows / statistics.median(times)),
            "ratio": round(statistics.median(seconds["keras"]) / statistics.median(times), 2),
        }
        for name, times in seconds.items()
    }
    print(results)
    common.write("augment_speed", {**vars(options), **results})


if __name__ == "__main__":
    main()
