"""Streams whose order follows from a seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["EpochCounter", "advance", "counted", "counters_of", "per_epoch"]


class EpochCounter:
    """The number of the epoch that a stream is in.

    It counts the epochs that were handed out to the last batch: a look at a stream's first batch
    changes nothing. `MultiTaskModel.fit` lets it follow Keras's own number (`advance`), so that a
    training that goes on after a kill sees the orders that would have followed.
    """

    def __init__(self, epoch: int = 0):
        self.epoch = int(epoch)

    def generator(self, *keys: int) -> np.random.Generator:
        """Random numbers that follow from the epoch and the keys."""
        return np.random.default_rng([self.epoch, *(key & 0xFFFFFFFF for key in keys)])


def per_epoch(function: Callable[[], np.ndarray], shape: tuple[int | None, ...] = ()) -> Any:
    """A data set of the rows of an int64 array that is computed anew in each epoch.

    Args:
        function: returns the array of this epoch, `(elements, *shape)`.
        shape: of one element.
    """
    import tensorflow as tf

    def elements(_: Any) -> Any:
        rows = tf.numpy_function(function, [], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(rows, (None, *shape)))

    return tf.data.Dataset.from_tensors(0).flat_map(elements)


def counted(stream: Any, counter: EpochCounter, steps: int | None) -> Any:
    """The same stream; its last batch moves the counter on.

    Args:
        stream: `tf.data.Dataset` of one epoch.
        counter: what the stream's order follows.
        steps: int or None. Batches of an epoch; None where nobody knows: then the end counts.
    """
    import tensorflow as tf

    def move() -> np.ndarray:
        counter.epoch += 1
        return np.int64(counter.epoch)

    def tick() -> Any:
        return tf.numpy_function(move, [], tf.int64)

    if steps is None:

        def end(_: Any) -> Any:
            with tf.control_dependencies([tick()]):
                return stream.take(tf.zeros((), tf.int64))

        counted_stream = stream.concatenate(tf.data.Dataset.from_tensors(0).flat_map(end))
    else:

        def pass_on(step: Any, batch: Any) -> Any:
            tf.cond(tf.equal(step, steps - 1), tick, lambda: tf.zeros((), tf.int64))
            return batch

        counted_stream = stream.enumerate().map(pass_on)
        counted_stream = counted_stream.apply(tf.data.experimental.assert_cardinality(steps))
    counted_stream.epoch_counter = counter
    return counted_stream


def counters_of(dataset: Any) -> Iterator[EpochCounter]:
    """The counters of all streams that a data set is made of."""
    waiting = [dataset]
    while waiting:
        part = waiting.pop()
        counter = getattr(part, "epoch_counter", None)
        if isinstance(counter, EpochCounter):
            yield counter
        # `map`, `prefetch`, `zip` and the others hold the data sets that they take from.
        inputs = getattr(part, "_inputs", None)
        waiting.extend(inputs() if callable(inputs) else ())


def advance(dataset: Any, epoch: int) -> None:
    """Let the streams go on with this epoch where they stand before it."""
    for counter in counters_of(dataset):
        counter.epoch = max(counter.epoch, int(epoch))
