"""Traced steps, one for each set of ranks that data have.

TensorFlow traces a step for the shapes that it sees, and widens them when others come: after labels
of shape `(rows,)`, labels of shape `(rows, 1)` would come in with no rank at all, and losses and
metrics could not be built.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

__all__ = ["StepPerRanks"]

Step = Callable[[Any], Any]


class StepPerRanks:
    """A step function of Keras's trainer that never sees data of unknown rank because of earlier
    data.

    Args:
        make_step: makes a step function that has traced nothing yet. It takes an iterator over
            batches.
    """

    def __init__(self, make_step: Callable[[], Step]) -> None:
        self._make_step = make_step
        self._steps: dict[tuple[int | None, ...], Step] = {}
        # An epoch is many steps on one iterator, and reading its specification takes time.
        self._step_of_iterator: weakref.WeakKeyDictionary[Any, Step] = weakref.WeakKeyDictionary()

    def __call__(self, iterator: Any) -> Any:
        if not isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
            # One batch of `train_on_batch`, as a generator.
            batch = next(iterator)
            return self._step_for(batch)(itertools.chain([batch], iterator))
        step = self._step_of_iterator.get(iterator)
        if step is None:
            step = self._step_of_iterator[iterator] = self._step_for(iterator.element_spec)
        return step(iterator)

    def _step_for(self, batch: Any) -> Step:
        ranks = _ranks(batch)
        if ranks not in self._steps:
            self._steps[ranks] = self._make_step()
        return self._steps[ranks]


def _ranks(batch: Any) -> tuple[int | None, ...]:
    """The rank of every tensor of a batch, or of its specification."""
    tensors: Iterable[Any] = tf.nest.flatten(batch, expand_composites=True)
    return tuple(
        None if tensor is None else tf.TensorShape(getattr(tensor, "shape", ())).rank
        for tensor in tensors
    )
