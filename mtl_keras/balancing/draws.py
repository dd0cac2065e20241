"""Random draws that can be repeated: reading them moves nothing."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mtl_keras.balancing.types import Tensor

__all__ = ["Draws"]


class _FixedSeed(keras.random.SeedGenerator):
    """Gives one seed, as often as it is asked. Keras's own generator moves its state with each
    question."""

    def __init__(self, value: Tensor):
        self._value = value

    def next(self, ordered: bool = True) -> Tensor:
        return self._value


class Draws:
    """The random draws of a balancer: `at` reads those of this step, `advance` goes on to the next
    step's.

    Args:
        seed: int.

    Attributes:
        state: `keras.Variable` of shape `(2,)`. It is saved with the model, and is the same on all
            replicas.
    """

    def __init__(self, seed: int):
        self._generator = keras.random.SeedGenerator(seed)
        self.state: keras.Variable = self._generator.state

    def at(self, number: int = 0) -> Any:
        """The seed of one of this step's draws, for the `seed` argument of `keras.random`.

        Args:
            number: int. Which draw of the step, from 0.
        """
        return _FixedSeed(self.state.value + self._offset(number))

    def advance(self, is_due: Tensor, draws: int = 1) -> None:
        """Go on to the draws of the next step.

        Args:
            is_due: bool scalar. Where it is False, the draws stay as they are.
            draws: int. How many draws a step makes.
        """
        following = self.state.value + self._offset(draws)
        self.state.assign(ops.where(is_due, following, self.state.value))

    def _offset(self, number: int) -> Tensor:
        return ops.convert_to_tensor([0, number], dtype=self.state.dtype)
