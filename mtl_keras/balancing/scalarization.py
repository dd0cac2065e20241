"""One number made of all losses: geometric mean, logarithms."""

from __future__ import annotations

from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Tensor

__all__ = ["GLS", "LogLoss"]

# Losses are taken for at least this, so that a solved task has a finite weight.
_LEAST = 1e-8


@register("gls")
class GLS(Balancer):
    """The geometric mean of the task losses: the update does not depend on how any one loss is
    scaled.

    The weight of task i is `mean / (T L_i)`, `mean` the geometric mean of the T losses. Losses must
    be positive; below 1e-8 they count as 1e-8.

    Reference:
        Chennupati, Sistu, Yogamani, Rawashdeh, "MultiNet++: Multi-Stream Feature Aggregation and
        Geometric Loss Strategy for Multi-Task Learning", CVPR Workshops 2019.
    """

    positive = True

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        safe = ops.maximum(losses, _LEAST)
        return self._mean(losses, present) / (_count(present) * safe)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        return self._mean(losses, present)

    def _mean(self, losses: Tensor, present: Tensor) -> Tensor:
        logs = ops.where(present, ops.log(ops.maximum(losses, _LEAST)), ops.zeros_like(losses))
        return ops.exp(ops.sum(logs) / _count(present))


@register("log_loss")
class LogLoss(Balancer):
    """The sum of the logarithms of the task losses: each task's weight is one over its loss.

    The total is negative once the losses are below 1. Losses must be positive; below 1e-8 they
    count as 1e-8.

    Reference:
        The scale-invariant baseline ("SI") of Navon et al., "Multi-Task Learning as a Bargaining
        Game", ICML 2022.
    """

    positive = True

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return 1.0 / ops.maximum(losses, _LEAST)

    def total(self, losses: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        return ops.sum(
            ops.where(present, ops.log(ops.maximum(losses, _LEAST)), ops.zeros_like(losses))
        )


def _count(present: Tensor) -> Tensor:
    return ops.maximum(ops.sum(ops.cast(present, "float32")), 1.0)
