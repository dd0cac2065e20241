"""Weights that follow from the losses alone, without state: geometric mean, logarithms, smooth Tchebycheff."""

from __future__ import annotations

import math
from collections.abc import Mapping

from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.registry import register
from mtl_keras.names import unknown_name

__all__ = ["GLS", "STCH", "LogLoss"]

# Losses are taken for at least this, so that a solved task has a finite weight.
_LEAST = 1e-8


@register("gls")
class GLS(Balancer):
    """The geometric mean of the task losses: the update does not depend on how any one loss is scaled.

    The weight of task i is `mean / (T L_i)`, `mean` the geometric mean of the T losses. Losses must be positive; below 1e-8
    they count as 1e-8.

    Reference:
        Chennupati, Sistu, Yogamani, Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
        for Multi-Task Learning", CVPR Workshops 2019.
    """

    def weigh(self, losses, present, gram=None):
        safe = ops.maximum(losses, _LEAST)
        return self._mean(losses, present) / (_count(present) * safe)

    def total(self, losses, weights, present):
        return self._mean(losses, present)

    def _mean(self, losses, present):
        logs = ops.where(present, ops.log(ops.maximum(losses, _LEAST)), ops.zeros_like(losses))
        return ops.exp(ops.sum(logs) / _count(present))


@register("log_loss")
class LogLoss(Balancer):
    """The sum of the logarithms of the task losses: each task's weight is one over its loss.

    The total is negative once the losses are below 1. Losses must be positive; below 1e-8 they count as 1e-8.

    Reference:
        The scale-invariant baseline ("SI") of Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022.
    """

    def weigh(self, losses, present, gram=None):
        return 1.0 / ops.maximum(losses, _LEAST)

    def total(self, losses, weights, present):
        return ops.sum(ops.where(present, ops.log(ops.maximum(losses, _LEAST)), ops.zeros_like(losses)))


@register("stch")
class STCH(Balancer):
    """The smooth maximum of the weighted distances of the losses from a reference point.

    Minimizes `mu log sum_i exp(lambda_i (L_i - z_i) / mu)`. A small `mu` minimizes the largest term, which finds points on
    concave fronts that no weighted sum finds; a large one comes near the weighted sum.

    Args:
        mu: float > 0. Smoothness. Defaults to 0.1.
        preferences: dict of task name to `lambda` > 0. Tasks that are not named, or all where it is None, get 1 / T.
        reference: dict of task name to `z`, a loss that can't be reached. Tasks that are not named get 0.

    Reference:
        Lin, Zhang, Yang, Liu, Wang, Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective Optimization", ICML 2024.
        This is the plain form; the authors' multi-task code first divides the losses by their means after a warm-up.
    """

    def __init__(
        self, mu: float = 0.1, preferences: Mapping[str, float] | None = None, reference: Mapping[str, float] | None = None
    ):
        super().__init__()
        if not mu > 0 or not math.isfinite(mu):
            raise ValueError(f"STCH: mu must be a finite number > 0, got {mu}.")
        for name, value in (preferences or {}).items():
            if not value > 0 or not math.isfinite(value):
                raise ValueError(f"STCH: the preference of task '{name}' must be a finite number > 0, got {value}.")
        self.mu, self.preferences, self.reference = float(mu), dict(preferences or {}), dict(reference or {})

    def build_state(self, tasks):
        for name in (*self.preferences, *self.reference):
            if name not in self.task_names:
                raise ValueError(unknown_name("task in balancer 'stch':", name, self.task_names))
        self._given = [name in self.preferences for name in self.task_names]
        self._lambda = [float(self.preferences.get(name, 1.0)) for name in self.task_names]
        self._z = [float(self.reference.get(name, 0.0)) for name in self.task_names]

    def _terms(self, losses, present):
        scale = ops.convert_to_tensor(self._lambda, "float32")
        # 1 / T counts the tasks that are there: the others must not be felt.
        scale = ops.where(ops.convert_to_tensor(self._given), scale, 1.0 / _count(present))
        terms = scale * (losses - ops.convert_to_tensor(self._z, "float32")) / self.mu
        return scale, ops.where(present, terms, ops.full_like(terms, -1e30))

    def weigh(self, losses, present, gram=None):
        scale, terms = self._terms(losses, present)
        return scale * ops.softmax(terms)

    def total(self, losses, weights, present):
        return self.mu * ops.logsumexp(self._terms(losses, present)[1])

    def get_config(self):
        return {"mu": self.mu, "preferences": self.preferences or None, "reference": self.reference or None}


def _count(present):
    return ops.maximum(ops.sum(ops.cast(present, "float32")), 1.0)
