"""Conflict-averse gradients."""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer, count
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import ball, masked_cosines
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["CAGrad"]


@register("cagrad")
class CAGrad(GramBalancer):
    """Of all updates within `c ||g_0||` of the mean gradient `g_0`, the one that helps the
    worst-off task most.

    `c` 0 is the mean; from 1 on, no task's loss rises; as it grows the direction comes to that of
    `mgda`. Where the best that the worst-off task can get lies inside the ball (Pareto-stationary
    gradients), an update that gives it is returned.

    Args:
        c: float >= 0. Radius, as a share of the mean gradient's length. Defaults to 0.5.
        rescale: 0 leaves the update, 1 divides it by `1 + c^2`, 2 by `1 + c`. Defaults to 1, as in
            the official training code (the function's own default is 0).
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Note:
        The official code multiplies the result by the number of tasks, so that it compares with the
        sum of losses; here it compares with their mean. The update of one task alone is its
        gradient times 1 + c, before `rescale`. Heads keep their own gradients.

    Reference:
        Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent for Multi-task Learning",
        NeurIPS 2021. Solved by following the exact path of solutions to the sphere, where public
        code uses SLSQP on the dual or gradient descent.
    """

    scales_heads = False

    def __init__(self, c: float = 0.5, rescale: int = 1, **options: Any):
        super().__init__(**options)
        require(self, 0 <= c < float("inf"), "c", "a finite number >= 0", c)
        require(self, rescale in (0, 1, 2), "rescale", "0, 1 or 2", rescale)
        self.c, self.rescale = float(c), int(rescale)

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        number = count(present)
        products = ops.sum(gram, axis=1) / number
        square = ops.sum(products) / number
        # Gradients that cancel: what is left of their mean is rounding.
        moving = square > 1e-14 * ops.sum(ops.diagonal(gram)) / number**2
        length = ops.sqrt(ops.where(moving, square, 1.0))
        usable = ops.where(ops.any(live), live, ops.ones_like(live))
        costs = 1.0 / norms
        costs = costs / ops.max(ops.where(usable, costs, 0.0))
        lift = ball(
            cosines, costs, ops.where(moving, products / norms / length, 0.0), self.c, usable
        )
        even = ops.ones_like(norms) / number
        weights = ops.where(moving, even + length * lift / norms, even)
        return weights / (1.0, 1.0 + self.c**2, 1.0 + self.c)[self.rescale]

    def get_config(self) -> Config:
        return {**super().get_config(), "c": self.c, "rescale": self.rescale}
