"""The point of least norm in the convex hull of the task gradients."""

from __future__ import annotations

from keras import ops

from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import masked_cosines, min_norm

__all__ = ["MGDA"]


@register("mgda")
class MGDA(GramBalancer):
    """Weights on the simplex with the least `||sum_i w_i g_i||`: a direction that lowers every loss, or 0 where none does.

    The weights are exact, not those of a few Frank-Wolfe steps. As in the official code they also weigh the heads. A task
    whose gradient is 0 takes all the weight: the point is Pareto stationary, and the update is 0.

    Reference:
        Sener, Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018; Desideri, "Multiple-Gradient
        Descent Algorithm (MGDA) for Multiobjective Optimization", C. R. Math. 2012.
    """

    def solve(self, gram, present):
        cosines, norms, live = masked_cosines(gram, present)
        # With x_i = w_i ||g_i||: unit diagonal, and the simplex becomes sum_i x_i / ||g_i|| = 1.
        weights = min_norm(cosines, 1.0 / norms, ops.where(ops.any(live), live, ops.ones_like(live))) / norms
        still = ops.cast(ops.logical_and(present, ops.diagonal(gram) == 0), "float64")
        at_rest = still / ops.maximum(ops.sum(still), 1.0)
        return ops.where(ops.sum(still) > 0, at_rest, weights)
