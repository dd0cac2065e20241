"""Projections onto the cone of updates that no task objects to."""

from __future__ import annotations

from keras import ops

from mtl_keras.balancing.gram import GramBalancer, count
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import dual_cone, masked_cosines
from mtl_keras.balancing.types import Tensor

__all__ = ["DualProj", "UPGrad"]


@register("upgrad")
class UPGrad(GramBalancer):
    """The mean of the task gradients, each first projected onto the dual cone of all: no task's
    loss rises, and each task's part grows in proportion to its gradient.

    Projections are exact: no regularization, and no threshold under which small gradients would be
    left conflicting.

    Args:
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", 2024 (arXiv 2406.16232).
        Their library adds 1e-4 of the trace to the Gram matrix, and takes matrices below an
        absolute size for 0. As in its multi-task backward pass, heads keep their own gradients.
    """

    scales_heads = False

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        start = ops.eye(gram.shape[0], dtype="float64") * norms[:, None]
        lifted = dual_cone(cosines, start, live)
        zero = ops.logical_and(present, ops.logical_not(live))
        return ops.where(zero, 1.0, ops.sum(lifted, axis=0) / norms) / count(present)


@register("dualproj")
class DualProj(GramBalancer):
    """The projection of the mean gradient onto the dual cone of the task gradients.

    Args:
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Lopez-Paz, Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017; named
        and used for several tasks by Quinton, Rey, 2024 (arXiv 2406.16232). As in their library,
        heads keep their own gradients.
    """

    scales_heads = False

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        lifted = dual_cone(cosines, norms[None, :], live)[0] / norms
        zero = ops.logical_and(present, ops.logical_not(live))
        return ops.where(zero, 1.0, lifted) / count(present)
