"""Every task as it is."""

from __future__ import annotations

from keras import ops

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Tensor

__all__ = ["Equal"]


@register("equal")
class Equal(Balancer):
    """The sum of the task losses (each times its own loss weight): linear scalarization without
    weighting of its own.

    The convention is the sum, not the mean: adding a task does not change the others' updates. It
    is hard to beat.

    Reference:
        Kurin, De Palma, Kostrikov, Whiteson, Kumar, "In Defense of the Unitary Scalarization for
        Deep Multi-Task Learning", NeurIPS 2022.
    """

    reports_total = False

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return ops.ones_like(losses)
