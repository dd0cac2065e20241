"""Random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["RLW"]

_DISTRIBUTIONS = ("normal", "uniform", "bernoulli")


@register("rlw")
class RLW(Balancer):
    """Weights drawn anew every step: a baseline that any learned weighting should beat.

    "normal" and "uniform" draw one number a task and take their softmax: weights sum to 1, so that
    a step is shorter by the number of tasks than that of `equal`. "bernoulli" takes each task with
    probability 1/2 (all where none was drawn) and weighs those equally.

    Args:
        distribution: "normal", "uniform" or "bernoulli".
        seed: int. Of the draws; their state is saved, and is the same on all replicas.

    Reference:
        Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for
        Multi-Task Learning", TMLR 2022.
    """

    def __init__(self, distribution: str = "normal", seed: int = 0):
        super().__init__()
        if distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"RLW: distribution must be one of {', '.join(_DISTRIBUTIONS)}, got "
                f"{distribution!r}."
            )
        self.distribution, self.seed = distribution, whole_number(self, "seed", seed)

    def build_state(self, tasks: Sequence[Any]) -> None:
        self._draws = self.add_draws(self.seed)
        self._drawn = self.add_state("drawn", np.full(len(tasks), 1.0 / len(tasks)))

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        shape = (len(self.task_names),)
        if self.distribution == "normal":
            draws = keras.random.normal(shape, seed=self._draws.at())
        else:
            draws = keras.random.uniform(shape, seed=self._draws.at())
        if self.distribution == "bernoulli":
            chosen = ops.cast(ops.logical_and(draws < 0.5, present), "float32")
            everyone = ops.cast(present, "float32")
            chosen = ops.where(ops.sum(chosen) > 0, chosen, everyone)
            weights = chosen / ops.maximum(ops.sum(chosen), 1.0)
        else:
            weights = ops.softmax(ops.where(present, draws, ops.full_like(draws, -1e30)))
        return weights

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if weights is not None:
            self._drawn.assign(ops.where(present, weights, self._drawn.value))
        self._draws.advance(ops.any(present))

    def current(self) -> dict[str, float]:
        return self.named(self._drawn)

    def get_config(self) -> Config:
        return {"distribution": self.distribution, "seed": self.seed}
