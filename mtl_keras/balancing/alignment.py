"""Methods that align or equalize the tasks' gradients in closed form: IMTL-G, ConFIG,
Aligned-MTL."""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.balancer import require
from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.solvers import masked_cosines, pseudo_inverse, pseudo_inverse_root
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["IMTLG", "AlignedMTL", "ConFIG"]


@register("imtl_g")
class IMTLG(GramBalancer):
    """Weights that sum to 1, for which the update has the same projection on every task's unit
    gradient.

    Weights may be negative. Where no such weights exist (gradients that cancel, or are 0), all are
    0 and so is the update.

    Args:
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial Multi-task Learning", ICLR
        2021. Solved by a pseudo-inverse in normalized coordinates, where the paper's inverse fails
        on parallel rows. Heads keep their own
        gradients: the paper balances gradients for what is shared, and losses (`imtl`) for what is
            not.
    """

    scales_heads = False

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        mask = ops.cast(live, "float64")
        weights = mask * ops.matmul(pseudo_inverse(cosines), mask) / norms
        total, size = ops.sum(weights), ops.sum(ops.abs(weights))
        solvable = ops.logical_and(
            ops.abs(total) > 1e-12 * size, ops.all(ops.logical_or(live, ops.logical_not(present)))
        )
        return ops.where(solvable, ops.divide_no_nan(weights, total), ops.zeros_like(weights))


@register("config")
class ConFIG(GramBalancer):
    """The direction with the same positive cosine to every task's gradient, as long as the sum of
    their projections on it.

    Args:
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Liu, Chu, Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural
        Networks", ICLR 2025 (arXiv 2408.11104). In Gram form: with cosines C and norms N, w = N^-1
        C^+ 1, times 1^T G w / w^T G w. As in their multi-task code, heads keep their own gradients.
    """

    scales_heads = False

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        cosines, norms, live = masked_cosines(gram, present)
        mask = ops.cast(live, "float64")
        unit = mask * ops.matmul(pseudo_inverse(cosines), mask)
        slope = mask * ops.matmul(cosines, unit)
        square = ops.sum(unit * slope)
        usable = square > 1e-13 * ops.maximum(ops.sum(unit**2), 1e-300)
        length = ops.divide_no_nan(ops.sum(norms * slope), square)
        return ops.where(usable, unit / norms * length, ops.zeros_like(unit))


@register("aligned_mtl")
class AlignedMTL(GramBalancer):
    """The sum of gradients after the nearest change that makes them orthogonal and equally long.

    With `G = V L V^T`, weights are `sqrt(s) V L^(-1/2) V^T 1`, `s` the smallest eigenvalue that
    counts ("min", the paper's), their median, or their mean ("rmse").

    Args:
        scale: "min", "median" or "rmse".
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Reference:
        Senushkin, Patakin, Kuznetsov, Konushin, "Independent Component Alignment for Multi-Task
        Learning", CVPR 2023. As in the official code the tasks' preferences are 1, so that weights
        of orthogonal, equally long gradients are 1, and heads keep their own gradients (its
        `scale_decoder_grad` is our `scale_heads`).
    """

    scales_heads = False

    def __init__(self, scale: str = "min", **options: Any):
        super().__init__(**options)
        require(
            self, scale in ("min", "median", "rmse"), "scale", "'min', 'median' or 'rmse'", scale
        )
        self.scale = scale

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        size = ops.maximum(ops.max(ops.diagonal(gram)), 1e-300)
        root, is_kept, values = pseudo_inverse_root(gram / size, self.rounding)
        if self.scale == "min":
            length = ops.min(ops.where(is_kept, values, float("inf")))
        elif self.scale == "rmse":
            length = ops.sum(ops.where(is_kept, values, 0.0)) / ops.maximum(
                ops.sum(ops.cast(is_kept, "float64")), 1.0
            )
        else:
            # Eigenvalues ascend; those that count are the last ones. The lower median, as
            # torch.median takes it.
            total = ops.sum(ops.cast(is_kept, "int32"))
            position = values.shape[0] - total + (total - 1) // 2
            length = ops.take(values, ops.minimum(position, values.shape[0] - 1))
        length = ops.where(ops.any(is_kept), length, 0.0)
        return ops.sqrt(length) * ops.matmul(root, ops.cast(present, "float64"))

    def get_config(self) -> Config:
        return {**super().get_config(), "scale": self.scale}
