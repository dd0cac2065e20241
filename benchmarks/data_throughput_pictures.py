"""Pictures per second of `mtl.data.from_folder`, against `tf.data` pipelines written by hand.

    python benchmarks/data_throughput_pictures.py --pictures 2000 --rounds 5

JPEG files of 320 x 240 pixels to batches of 32 float pictures of 160 x 160, shuffled, with one
class label. By hand: "tensorflow" decodes and resizes with TensorFlow (bilinear, with antialiasing,
which is near to what `ImageEncoder` does on the device); "pillow" calls Pillow for each row, and
makes the very pixels of the device. "cached" is the second epoch of `cache="memory"`. The pipelines
take turns in one process. `wall` and `cpu` are medians of pictures per second; ratios are medians
of each round's own ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import tensorflow as tf
from PIL import Image

import mtl_keras as mtl

SIZE, BATCH = (160, 160), 32


def write_pictures(folder, count):
    """Smooth colors and noise, as photographs have; two classes."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    for number in range(count):
        waves = [
            np.sin(columns / rng.uniform(5, 40)) * np.cos(rows / rng.uniform(5, 40))
            for _ in range(3)
        ]
        values = 127 + 100 * np.stack(waves, -1) + rng.normal(0, 6, (240, 320, 3))
        path = folder / f"class{number % 2}" / f"{number:05}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.clip(values, 0, 255).astype("uint8")).save(path, quality=90)


def by_hand(folder, read):
    files = sorted(map(str, folder.rglob("*.jpg")))
    labels = [int("class1" in file) for file in files]
    data = tf.data.Dataset.from_tensor_slices((files, labels))
    data = data.shuffle(len(files), seed=0)
    data = data.map(
        lambda file, label: ({"image": read(file)}, {"label": label}),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return data.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def read_with_tensorflow(file):
    picture = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
    return tf.image.resize(picture, SIZE, antialias=True) / 255.0


def read_with_pillow(file):
    def read(name):
        picture = Image.open(name.decode()).convert("RGB")
        return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BILINEAR))

    picture = tf.numpy_function(read, [file], tf.uint8)
    picture.set_shape((*SIZE, 3))
    return tf.cast(picture, tf.float32) / 255.0


def pass_over(data):
    """Wall-clock and CPU seconds of one epoch."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in data:
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        write_pictures(folder, arguments.pictures)
        start = time.perf_counter()
        data = mtl.data.from_folder(folder, size=SIZE)
        construction = time.perf_counter() - start
        cached = mtl.data.from_folder(folder, size=SIZE, cache="memory").batch(BATCH, shuffle=True)
        pipelines = {
            "mtl_keras": data.batch(BATCH, shuffle=True),
            "tensorflow": by_hand(folder, read_with_tensorflow),
            "pillow": by_hand(folder, read_with_pillow),
            "cached": cached,
        }
        for pipeline in pipelines.values():
            pass_over(pipeline)
        rounds = [
            {name: pass_over(pipeline) for name, pipeline in pipelines.items()}
            for _ in range(arguments.rounds)
        ]
    results = {"pictures": arguments.pictures, "construction_seconds": round(construction, 3)}
    for name in pipelines:
        results[name] = {
            clock: round(arguments.pictures / statistics.median(r[name][i] for r in rounds))
            for i, clock in enumerate(("wall", "cpu"))
        }
    for name in ("tensorflow", "pillow"):
        results[f"ratio_to_{name}"] = {
            clock: round(statistics.median(r[name][i] / r["mtl_keras"][i] for r in rounds), 3)
            for i, clock in enumerate(("wall", "cpu"))
        }
    for name, value in results.items():
        print(f"{name}: {value}")
    common.write("data_throughput_pictures", results)


if __name__ == "__main__":
    main()
