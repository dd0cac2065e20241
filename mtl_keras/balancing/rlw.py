"""Random weights."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register

__all__ = ["RLW"]

_DISTRIBUTIONS = ("normal", "uniform", "bernoulli")


@register("rlw")
class RLW(Balancer):
    """Weights drawn anew every step: a baseline that any learned weighting should beat.

    "normal" and "uniform" draw one number a task and take their softmax: weights sum to 1, so that a step is shorter by
    the number of tasks than that of `equal`. "bernoulli" takes each task with probability 1/2 (all where none was drawn) and
    weighs those equally.

    Args:
        distribution: "normal", "uniform" or "bernoulli".
        seed: int. Of the draws; their state is saved, and is the same on all replicas.

    Reference:
        Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning", TMLR
        2022.
    """

    def __init__(self, distribution: str = "normal", seed: int = 0):
        super().__init__()
        if distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"RLW: distribution must be one of {', '.join(_DISTRIBUTIONS)}, got {distribution!r}."
            )
        self.distribution, self.seed = distribution, whole_number(self, "seed", seed)

    def build_state(self, tasks):
        self._generator = self.add_seed(self.seed)
        # Drawn by `weigh`, so that reports and `balanced_loss` see the weights of the step.
        self._drawn = self.add_state("drawn", np.full(len(tasks), 1.0 / len(tasks)))

    def weigh(self, losses, present, gram=None):
        shape = (len(self.task_names),)
        if self.distribution == "normal":
            draws = keras.random.normal(shape, seed=self._generator)
        else:
            draws = keras.random.uniform(shape, seed=self._generator)
        if self.distribution == "bernoulli":
            chosen = ops.cast(ops.logical_and(draws < 0.5, present), "float32")
            everyone = ops.cast(present, "float32")
            chosen = ops.where(ops.sum(chosen) > 0, chosen, everyone)
            weights = chosen / ops.maximum(ops.sum(chosen), 1.0)
        else:
            weights = ops.softmax(ops.where(present, draws, ops.full_like(draws, -1e30)))
        self._drawn.assign(ops.where(present, weights, self._drawn.value))
        return weights

    def current(self):
        return dict(zip(self.task_names, map(float, self._drawn.numpy()), strict=True))

    def get_config(self):
        return {"distribution": self.distribution, "seed": self.seed}
