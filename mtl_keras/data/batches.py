"""Streams of batches that are the same on every run and every machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["as_table", "from_arrays", "passes"]


def passes(
    one_pass: Callable[..., Any],
    make: Callable[..., Any],
    count: int,
    batch_size: int,
    endless: bool,
) -> Any:
    """Batches from passes over `count` rows. Where `endless`, a batch may span two passes.

    Args:
        one_pass: function of the pass's number to a `tf.data.Dataset` of what `make` needs for each
            row.
        make: function of a batch of that to `(x, y)`.
        count: int. Rows per pass.
        batch_size: int.
        endless: bool. False stops after one pass.
    """
    import tensorflow as tf

    dataset = (
        tf.data.Dataset.range(2**31 - 1 if endless else 1).flat_map(one_pass).batch(batch_size)
    )
    dataset = dataset.map(make, num_parallel_calls=2, deterministic=True)
    # Keras asks how long a data set is, and `flat_map` hides it.
    length = tf.data.INFINITE_CARDINALITY if endless else -(-count // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(length)).prefetch(4)


def as_table(arrays: tuple[Any, ...]) -> tuple[tuple[Any, ...], int]:
    """Arrays of one length as tensors, and their number of rows.

    Raises:
        ValueError: arrays of different lengths, or without rows.
    """
    import tensorflow as tf

    lengths = {len(array) for array in tf.nest.flatten(arrays)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"Inputs, labels and weights should have one number of rows, at least 1. Received: "
            f"{sorted(lengths)}."
        )
    with tf.device("CPU"):
        return tf.nest.map_structure(tf.constant, arrays), lengths.pop()


def from_arrays(
    x: Any,
    y: Mapping[str, np.ndarray],
    batch_size: int,
    seed: int = 0,
    shuffle: bool = True,
    sample_weight: Any = None,
) -> Any:
    """Batches of `(x, y)`, or `(x, y, sample_weight)`, from arrays in memory.

    Args:
        x: array, or dict of arrays.
        y: dict of task name to labels.
        batch_size: int.
        seed: int. Seed of the order.
        shuffle: bool. True: an endless data set; each pass holds every row once, in another order.
            False: one pass in order.
        sample_weight: array, or dict of task name to arrays, or None.

    Raises:
        ValueError: arrays of different lengths, or without rows.
    """
    import tensorflow as tf

    table, count = as_table((x, dict(y)) if sample_weight is None else (x, dict(y), sample_weight))

    def one_pass(number: Any) -> Any:
        order = tf.range(count)
        if shuffle:
            key = tf.stack([tf.cast(number, tf.int32), tf.constant(seed, tf.int32)])
            order = tf.random.experimental.stateless_shuffle(order, seed=key)
        return tf.data.Dataset.from_tensor_slices(order)

    return passes(
        one_pass,
        lambda rows: tf.nest.map_structure(lambda t: tf.gather(t, rows), table),
        count,
        batch_size,
        shuffle,
    )
