"""Batches per second of `TaskDataset.batch` beside a hand-written `tf.data` pipeline of the same rows.

    python benchmarks/data_throughput.py --rows 200000 --batch-size 256

Both run in one process, pass by pass in turn, and the ratio of each pair of passes counts: what else
the machine does slows both. A ratio of 1.0 is as fast as the hand-written pipeline; above it is
faster.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import mtl_keras as mtl


def table(rows: int, batch_size: int) -> tuple[Any, Any, int]:
    """Twenty numbers, four categories, three tasks: ours, the hand-written one, and rows a pass."""
    rng = np.random.default_rng(0)
    x = {
        "numeric": rng.random((rows, 20), "float32"),
        "categorical": rng.integers(0, 50, (rows, 4)).astype("int32"),
    }
    y = {
        "price": rng.random(rows, "float32"),
        "sold": rng.integers(0, 2, rows).astype("float32"),
        "kind": rng.integers(0, 5, rows).astype("int32"),
    }
    tasks = [
        mtl.tasks.Regression("price"),
        mtl.tasks.Binary("sold"),
        mtl.tasks.Classification("kind", 5),
    ]
    data = mtl.data.from_arrays(x, y, tasks)
    ours = data.batch(batch_size, shuffle=True)
    slices = tf.data.Dataset.from_tensor_slices((x, y))
    by_hand = slices.shuffle(rows, seed=0).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return ours, by_hand, rows


def lazy_rows(rows: int, batch_size: int) -> tuple[Any, Any, int]:
    """Rows that a Python function makes, such as files that a library reads."""
    rows = min(rows, 4000)
    rng = np.random.default_rng(0)
    content = rng.random((64, 32, 32, 3), "float32")

    def read(row: int) -> np.ndarray:
        return content[row % 64] * np.float32(0.5)

    data = mtl.data.TaskDataset.from_parts(
        [mtl.tasks.Binary("sold")],
        inputs={"image": mtl.data.FunctionField(read, rows, (32, 32, 3))},
        labels={"sold": rng.integers(0, 2, rows)},
        kind="image",
    )
    labels = tf.constant(data.labels("sold"))

    def read_by_hand(row: Any) -> Any:
        image = tf.numpy_function(read, [row], tf.float32)
        image.set_shape((32, 32, 3))
        return {"image": image}, {"sold": labels[row]}

    by_hand = tf.data.Dataset.range(rows).shuffle(rows, seed=0)
    by_hand = by_hand.map(read_by_hand, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    by_hand = by_hand.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    return data.batch(batch_size, shuffle=True), by_hand, rows


#: What is measured: a function of rows and batch size to ours, the hand-written pipeline, and the
#: rows of a pass.
PIPELINES: dict[str, Callable[[int, int], tuple[Any, Any, int]]] = {
    "table": table,
    "rows of a Python function": lazy_rows,
}


def seconds(dataset: Any) -> float:
    """Seconds of one pass."""
    start = time.perf_counter()
    for _ in dataset:
        pass
    return time.perf_counter() - start


def measure(name: str, rows: int, batch_size: int, passes: int) -> dict[str, Any]:
    """Rows per second of both, and the ratio of each pair of passes."""
    ours, by_hand, count = PIPELINES[name](rows, batch_size)
    seconds(ours)
    seconds(by_hand)
    pairs = [(seconds(ours), seconds(by_hand)) for _ in range(passes)]
    ratios = [reference / own for own, reference in pairs]
    return {
        "rows": count,
        "rows_per_second": round(count / float(np.median([own for own, _ in pairs]))),
        "by_hand_rows_per_second": round(count / float(np.median([other for _, other in pairs]))),
        "ratio_median": round(float(np.median(ratios)), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--passes", type=int, default=9)
    parser.add_argument("--only", choices=PIPELINES)
    options = parser.parse_args()
    import common

    results = {}
    for name in [options.only] if options.only else PIPELINES:
        results[name] = measure(name, options.rows, options.batch_size, options.passes)
        print(name, results[name])
    load = [round(value, 1) for value in os.getloadavg()]
    settings = {k: v for k, v in vars(options).items() if k != "only"}
    common.write("data_throughput", {"settings": settings, "load": load, **results})


if __name__ == "__main__":
    main()
