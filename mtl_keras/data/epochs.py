"""Streams whose order follows from a seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = [
    "EpochCounter",
    "EpochFollower",
    "choices_per_epoch",
    "counted",
    "counted_at_end",
    "counters_of",
    "per_epoch",
]


class EpochCounter:
    """The number of the epoch that a stream is in.

    It counts the epochs that were handed out to the last batch: a look at a stream's first batch
    changes nothing. `MultiTaskModel.fit` lets it follow Keras's own number (`EpochFollower`), so
    that a training that goes on after a kill sees the orders that would have followed.

    Attributes:
        epoch: int. The epoch that the next pass over the stream gives.
        running: int. The epoch of the pass that began last.
    """

    def __init__(self, epoch: int = 0):
        self.epoch = self.running = int(epoch)

    def begin(self) -> int:
        """The epoch of the pass that begins now."""
        self.running = self.epoch
        return self.running

    def move(self) -> None:
        """The pass that runs has handed out its last batch."""
        self.epoch += 1

    def generator(self, *keys: int) -> np.random.Generator:
        """Random numbers that follow from the running epoch and the keys."""
        return np.random.default_rng([self.running, *(key & 0xFFFFFFFF for key in keys)])


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


def choices_per_epoch(function: Callable[[], np.ndarray], counter: EpochCounter) -> Any:
    """A data set of the choices of an epoch, of which the last moves the counter on.

    Args:
        function: returns the choices of this epoch, int64.
        counter: what the choices follow.
    """
    import tensorflow as tf

    def elements(_: Any) -> Any:
        choices = tf.ensure_shape(tf.numpy_function(function, [], tf.int64), (None,))
        last = tf.data.Dataset.from_tensors(choices[-1]).map(
            lambda choice: choice + _moved(counter)
        )
        return tf.data.Dataset.from_tensor_slices(choices[:-1]).concatenate(last)

    return tf.data.Dataset.from_tensors(0).flat_map(elements)


def counted(stream: Any, counter: EpochCounter, steps: int) -> Any:
    """The same stream; its last batch moves the counter on.

    Args:
        stream: `tf.data.Dataset` of one epoch, whose stages may run ahead.
        counter: what the stream's order follows.
        steps: int. Batches of an epoch.
    """
    import tensorflow as tf

    def pass_on(step: Any, batch: Any) -> Any:
        tf.cond(tf.equal(step, steps - 1), lambda: _moved(counter), lambda: tf.zeros((), tf.int64))
        return batch

    return stream.enumerate().map(pass_on)


def counted_at_end(stream: Any, counter: EpochCounter) -> Any:
    """The same stream of unknown length; its end, once it is asked for, moves the counter on."""
    import tensorflow as tf

    # Behind the last batch stands a data set without elements, that is asked for one.
    def nothing(_: Any) -> Any:
        return tf.data.Dataset.from_tensors(_empty(stream.element_spec)).repeat(_moved(counter))

    return stream.concatenate(tf.data.Dataset.from_tensors(0).flat_map(nothing))


def _moved(counter: EpochCounter) -> Any:
    """0, after the counter has moved on."""
    import tensorflow as tf

    def move() -> np.ndarray:
        counter.move()
        return np.asarray(0)

    return tf.ensure_shape(tf.numpy_function(move, [], tf.int64), ())


def _empty(spec: Any) -> Any:
    """A batch without rows."""
    import tensorflow as tf

    return tf.nest.map_structure(
        lambda part: tf.zeros([size or 0 for size in part.shape], part.dtype), spec
    )


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


class EpochFollower:
    """Tells the streams of a training the number of each epoch.

    The first epoch of a training is Keras's number, or where the streams stood before, if that is
    later: a second `fit` sees further orders. Looks at the first batches, and passes that count
    classes, do not move a stream.

    Args:
        dataset: what the training reads, before anybody looks at it.
    """

    def __init__(self, dataset: Any) -> None:
        self._starts = [(counter, counter.epoch) for counter in counters_of(dataset)]
        self._first: int | None = None

    def begin(self, epoch: int) -> None:
        """Let the streams give the epoch that Keras begins."""
        self._first = epoch if self._first is None else self._first
        for counter, start in self._starts:
            counter.epoch = max(start, self._first) + epoch - self._first

    def end(self, epoch: int) -> None:
        """Leave the streams behind the epoch that Keras ends."""
        self.begin(epoch + 1)
