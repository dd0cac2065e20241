"""Losses brought to one scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import Balancer, VectorAdam
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["IMTLL"]


@register("imtl_l")
class IMTLL(Balancer):
    """Learn a factor per task that brings all losses to the same scale.

    Minimizes `sum_i (exp(s_i) L_i - s_i)` over the network and the `s_i`; at a fixed loss the
    optimum is `exp(s_i) L_i = 1`. It is twice the regression form of `uncertainty` with `s` turned
    around.

    Args:
        learning_rate: float or None. Step of `s`; None follows the model's optimizer.
        limit: float. `s` stays between -limit and limit. Defaults to 10.

    Note:
        `s` starts at 0 and is trained by an Adam of its own, as in `uncertainty`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR
        2021 (IMTL-L).
    """

    def __init__(self, learning_rate: float | None = None, limit: float = 10.0):
        super().__init__()
        if learning_rate is not None and not learning_rate > 0:
            raise ValueError(f"IMTLL: learning_rate must be > 0 or None, got {learning_rate}.")
        if not limit > 0 or not math.isfinite(limit):
            raise ValueError(f"IMTLL: limit must be a finite number > 0, got {limit}.")
        self.learning_rate = None if learning_rate is None else float(learning_rate)
        self.limit = float(limit)

    def build_state(self, tasks: Sequence[Any]) -> None:
        self.log_scale = self.add_state("log_scale", [0.0] * len(tasks))
        self._adam = VectorAdam(self, self.log_scale)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return ops.exp(self.log_scale.value)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        return ops.sum(
            ops.where(present, weights * losses - self.log_scale.value, ops.zeros_like(losses))
        )

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        gradient = ops.exp(self.log_scale.value) * losses - 1.0
        self._adam.step(
            gradient, present, learning_rate if self.learning_rate is None else self.learning_rate
        )
        self.log_scale.assign(ops.clip(self.log_scale.value, -self.limit, self.limit))

    def current(self) -> dict[str, float]:
        return self.named(ops.exp(self.log_scale.value))

    def get_config(self) -> Config:
        return {"learning_rate": self.learning_rate, "limit": self.limit}
