"""What `mtl.data.mix` costs beside plain `tf.data.Dataset.sample_from_datasets`, as a ratio of
CPU times per row.

    python benchmarks/mixing_speed.py --rounds 7

Three sources of pictures (32 x 32 x 3), each with the labels of one task. The plain pipeline
completes the labels by hand, so that both give the same batches. Both read the sources in turn, in
one process; a ratio below 1 means that `mix` is faster. "arrays" holds rows in memory, "streams" are
batched data sets with a step of work per batch, and "in batch" mixes rows within each batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import numpy as np
import tensorflow as tf

import mtl_keras as mtl

NAMES = ("a", "b", "c")
SIZES = (6400, 3200, 1600)


def sources() -> dict[str, tuple]:
    rng = np.random.default_rng(0)
    return {
        name: (
            rng.random((size, 32, 32, 3), "float32"),
            {name: rng.integers(0, 10, size).astype("int32")},
        )
        for name, size in zip(NAMES, SIZES, strict=True)
    }


def completed(x, y):
    """What a user writes by hand: missing labels of the other tasks."""
    rows = tf.shape(x)[:1]
    missing = tf.fill(tf.concat([rows, [1]], 0), -1)
    return x, {name: tf.reshape(y[name], (-1, 1)) if name in y else missing for name in NAMES}


def work(x, y):
    """A pipeline's usual step, so that batches cost something."""
    return tf.image.random_flip_left_right(x) * 2 - 1, y


def plain(data, batch_size, within_batch, is_stream):
    shares = np.array(SIZES) / sum(SIZES)
    streams = []
    for x, y in data.values():
        stream = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(batch_size)
        stream = stream.map(work, tf.data.AUTOTUNE) if is_stream else stream
        stream = stream.map(completed, tf.data.AUTOTUNE)
        streams.append(stream.unbatch() if within_batch else stream)
    mixed = tf.data.Dataset.sample_from_datasets(
        streams, list(shares), stop_on_empty_dataset=False, rerandomize_each_iteration=True
    )
    return mixed.batch(batch_size) if within_batch else mixed


def ours(data, batch_size, within_batch, is_stream):
    if is_stream:
        data = {
            name: tf.data.Dataset.from_tensor_slices(parts)
            .shuffle(len(parts[0]))
            .batch(batch_size)
            .map(work, tf.data.AUTOTUNE)
            for name, parts in data.items()
        }
    tasks = [mtl.tasks.Classification(name, num_classes=10) for name in NAMES]
    sizes = dict(zip(NAMES, SIZES, strict=True))
    return mtl.data.mix(data, tasks, within_batch=within_batch, batch_size=batch_size, sizes=sizes)


def seconds(stream) -> float:
    """CPU time of one epoch."""
    start = time.process_time()
    rows = 0
    for batch in stream.prefetch(2):
        rows += batch[0].shape[0]
    assert rows == sum(SIZES), rows
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    print(common.machine())
    data = sources()
    for is_stream in (False, True):
        for within_batch in (False, True):
            pipelines = [
                build(data, options.batch_size, within_batch, is_stream) for build in (plain, ours)
            ]
            for pipeline in pipelines:
                seconds(pipeline)
            times: list[list[float]] = [[], []]
            for number in range(options.rounds):
                order = (0, 1) if number % 2 else (1, 0)
                for which in order:
                    times[which].append(seconds(pipelines[which]))
            theirs, mine = (1e6 * min(part) / sum(SIZES) for part in times)
            medians = statistics.median(times[1]) / statistics.median(times[0])
            form = f"{'streams' if is_stream else 'arrays'}{', in batch' if within_batch else ''}"
            print(
                f"{form:20s} mix / plain: {mine / theirs:.3f} (of the fastest rounds; of the medians "
                f"{medians:.3f}); plain {theirs:.1f} us per row, mix {mine:.1f}"
            )


if __name__ == "__main__":
    main()
