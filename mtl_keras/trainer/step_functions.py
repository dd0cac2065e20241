"""Traced steps, one for each set of ranks that data have.

TensorFlow traces a step for the shapes that it sees, and widens them when others come: after labels of shape
`(rows,)`, labels of shape `(rows, 1)` would come in with no rank at all, and losses and metrics could not be built.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

__all__ = ["StepPerRanks"]

Step = Callable[[Any], Any]


class StepPerRanks:
    """A step function of Keras's trainer that never sees data of unknown rank because of earlier data.

    Args:
        make_step: makes a step function that has traced nothing yet. It takes an iterator over batches.
    """

    def __init__(self, make_step: Callable[[], Step]):
        self._make_step = make_step
        self._steps: dict[tuple[int | None, ...], Step] = {}

    def __call__(self, iterator: Any) -> Any:
        if hasattr(iterator, "element_spec"):
            ranks = _ranks(iterator.element_spec)
        else:
            # One batch of `train_on_batch`, as a generator.
            batch = next(iterator)
            ranks = _ranks(batch)
            iterator = itertools.chain([batch], iterator)
        if ranks not in self._steps:
            self._steps[ranks] = self._make_step()
        return self._steps[ranks](iterator)


def _ranks(batch: Any) -> tuple[int | None, ...]:
    """The rank of every tensor of a batch, or of its specification."""
    tensors: Iterable[Any] = tf.nest.flatten(batch, expand_composites=True)
    return tuple(
        None if tensor is None else tf.TensorShape(getattr(tensor, "shape", ())).rank
        for tensor in tensors
    )
