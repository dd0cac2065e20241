"""The point of least norm in the convex hull of the task gradients."""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import masked_cosines, min_norm
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["MGDA"]


@register("mgda")
class MGDA(GramBalancer):
    """Weights on the simplex with the least `||sum_i w_i g_i||`: a direction that lowers every
    loss, or 0 where none does.

    The weights are exact, not those of a few Frank-Wolfe steps. As in the official code they also
    weigh the heads. A task whose gradient is 0 takes all the weight: the point is Pareto
    stationary, and the update is 0.

    Args:
        normalize: by what each task's gradient is divided while the weights are sought: "none",
            "l2" (its norm), "loss" (its loss), or "loss+" (both). The update itself combines the
            gradients as they are, as in the official code.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`; `gradients="representation"` is MGDA-UB.

    Reference:
        Sener, Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018;
        Desideri, "Multiple-Gradient Descent Algorithm (MGDA) for Multiobjective Optimization",
        Comptes Rendus Mathematique 2012.
    """

    def __init__(self, normalize: str = "none", **options: Any):
        super().__init__(**options)
        kinds = ("none", "l2", "loss", "loss+")
        require(self, normalize in kinds, "normalize", f"one of {', '.join(kinds)}", normalize)
        self.normalize = normalize
        self.positive = normalize.startswith("loss")

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        if self.normalize == "none":
            return super().weigh(losses, present, gram)
        gram = ops.cast(gram, "float64")
        divisor = ops.ones((gram.shape[0],), "float64")
        if self.positive:
            if losses is None:
                raise ValueError(
                    "MGDA: with normalize='loss' or 'loss+' the weights depend on the losses; use "
                    "`weigh`."
                )
            divisor = ops.cast(losses, "float64")
        if self.normalize in ("l2", "loss+"):
            divisor = divisor * ops.sqrt(ops.diagonal(gram))
        usable = ops.logical_and(present, divisor > 0)
        divisor = ops.where(usable, divisor, ops.ones_like(divisor))
        return ops.cast(
            super().weigh(losses, present, gram / divisor[:, None] / divisor[None, :]), "float32"
        )

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        # With x_i = w_i ||g_i||: unit diagonal, and the simplex becomes sum_i x_i / ||g_i|| = 1.
        weights = (
            min_norm(cosines, 1.0 / norms, ops.where(ops.any(live), live, ops.ones_like(live)))
            / norms
        )
        still = ops.cast(ops.logical_and(present, ops.diagonal(gram) == 0), "float64")
        at_rest = still / ops.maximum(ops.sum(still), 1.0)
        return ops.where(ops.sum(still) > 0, at_rest, weights)

    def get_config(self) -> Config:
        return {**super().get_config(), "normalize": self.normalize}
