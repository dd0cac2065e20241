"""From a `TaskDataset` to batches: a `tf.data` pipeline whose order is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.epochs import EpochCounter, counted
from mtl_keras.data.sources import DataError

if TYPE_CHECKING:
    from mtl_keras.data.dataset import TaskDataset

__all__ = ["make_batches"]


def make_batches(
    data: TaskDataset,
    batch_size: int,
    *,
    shuffle: bool,
    augment: Any,
    seed: int,
    drop_remainder: bool,
    initial_epoch: int,
) -> Any:
    """Batches of a data set. Arguments are those of `TaskDataset.batch`."""
    import tensorflow as tf

    batch_size = int(batch_size)
    if batch_size < 1:
        raise DataError(f"`batch_size` should be at least 1. Received: {batch_size}.")
    if not len(data):
        raise DataError("There is no row to make batches of.")
    length = len(data) // batch_size if drop_remainder else -(-len(data) // batch_size)
    if not length:
        raise DataError(
            f"`drop_remainder` leaves no batch: {len(data)} rows are less than one batch of "
            f"{batch_size}."
        )
    counter = EpochCounter(initial_epoch)
    steps = _row_batches(len(data), batch_size, length, shuffle, seed, counter)
    dataset = _read_batches(data, steps, batch_size, with_steps=augment is not None)
    if augment is not None:
        from mtl_keras.data.augment import Augmenter

        augmenter = Augmenter.for_data(data, augment, seed)

        def change(step: Any, batch: Any) -> Any:
            return augmenter(*batch, index=step)

        dataset = dataset.map(change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # Counted behind the stages that run ahead: an epoch is over once its last batch was taken, and
    # not where somebody looks at the first.
    dataset = counted(dataset.prefetch(tf.data.AUTOTUNE), counter, length)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    dataset.epoch_counter = counter
    return dataset


def _row_batches(
    count: int, batch_size: int, length: int, shuffle: bool, seed: int, counter: EpochCounter
) -> Any:
    """A data set of `(step, row numbers)`; `step` counts batches over all epochs."""
    import tensorflow as tf

    def next_order() -> tuple[np.int64, np.ndarray]:
        epoch = counter.begin()
        if not shuffle:
            return np.int64(epoch), np.arange(count)
        return np.int64(epoch), np.random.default_rng([seed, epoch]).permutation(count)

    def one_epoch(_: Any) -> Any:
        # One call of Python per epoch: each pass over the data set begins here.
        epoch, rows = tf.numpy_function(next_order, [], (tf.int64, tf.int64))
        epoch.set_shape(())
        rows.set_shape((count,))

        def cut(batch: Any) -> tuple[Any, Any]:
            return epoch * length + batch, rows[batch * batch_size : (batch + 1) * batch_size]

        return tf.data.Dataset.range(length).map(cut)

    return tf.data.Dataset.range(1).flat_map(one_epoch)


def _read_batches(data: TaskDataset, steps: Any, batch_size: int, with_steps: bool) -> Any:
    """A data set of batches, `(x, y)` or `(x, y, sample_weight)`; of `(step, batch)` with steps."""
    import tensorflow as tf

    from mtl_keras.data.dataset import combine_weights

    parts = {
        **{("x", name): part for name, part in data.input_fields.items()},
        **{("y", name): part for name, part in data.label_fields.items()},
        **{("w", name): part for name, part in data.weight_fields.items()},
    }
    keys = {key: "/".join(key) for key in parts}
    by_row = {key: part for key, part in parts.items() if part.per_row}
    names = data.task_names

    def collect(step: Any, rows: Any, values: dict[str, Any]) -> tuple[Any, ...]:
        blocks: dict[str, dict[str, Any]] = {"x": {}, "y": {}, "w": {}}
        for key, part in parts.items():
            block, name = key
            value = values[keys[key]] if part.per_row else part.tensor(rows)
            blocks[block][name] = value
        batch: tuple[Any, ...] = (blocks["x"], blocks["y"])
        if blocks["w"]:
            batch = (*batch, combine_weights(blocks["w"], names))
        return (step, batch) if with_steps else batch

    if by_row:

        def read_row(step: Any, row: Any) -> tuple[Any, Any, dict[str, Any]]:
            return step, row, {keys[key]: part.tensor(row) for key, part in by_row.items()}

        # Rows are read in parallel, and put together in their order.
        rows = steps.flat_map(
            lambda step, numbers: tf.data.Dataset.from_tensor_slices(
                (tf.repeat(step, tf.shape(numbers)[0]), numbers)
            )
        )
        rows = rows.map(read_row, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        batches = rows.batch(batch_size)
        return batches.map(
            lambda step, numbers, values: collect(step[0], numbers, values),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
    return steps.map(
        lambda step, rows: collect(step, rows, {}),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
