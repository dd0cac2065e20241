"""The gradient that lies among the others."""

from __future__ import annotations

from typing import Any

from keras import ops

from mtl_keras.balancing.gram import GramBalancer
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["Krum"]


@register("krum")
class Krum(GramBalancer):
    """The mean of the gradients that are closest to their nearest neighbors; outliers have no part
    in it.

    Each gradient is scored by the squared distances to its `T - outliers - 2` nearest others (at
    least one), and the `selected` lowest scores are averaged. Equal scores count alike: of two
    tasks, both are averaged.

    Args:
        outliers: int >= 0. How many gradients may be far off. Defaults to 0.
        selected: int >= 1. How many are averaged. Defaults to 1.
        **options: `gradients`, `update_every`, `gradient_groups`, `scale_heads`, as in
            `GramBalancer`.

    Note:
        As in TorchJD, the only multi-task code that has this method, heads keep their own
        gradients: the weight of every task but the selected ones is 0, and with `scale_heads=True`
            their heads would hardly ever learn.

    Reference:
        Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine
        Tolerant Gradient Descent", NeurIPS 2017. They ask for at least `2 outliers + 3` rows; with
        fewer, the guarantee is lost, not the method.
    """

    scales_heads = False

    def __init__(self, outliers: int = 0, selected: int = 1, **options: Any):
        super().__init__(**options)
        self.outliers = whole_number(self, "outliers", outliers)
        self.selected = whole_number(self, "selected", selected, 1)

    def solve(self, gram: Tensor, present: Tensor) -> Tensor:
        size = gram.shape[0]
        diagonal = ops.diagonal(gram)
        scale = ops.max(diagonal)
        gram = ops.divide_no_nan(gram, scale)
        diagonal = ops.diagonal(gram)
        distance = ops.maximum(diagonal[:, None] + diagonal[None, :] - 2.0 * gram, 0.0)
        others = ops.logical_and(present[None, :], ops.logical_not(ops.cast(ops.eye(size), "bool")))
        ordered = ops.sort(ops.where(others, distance, float("inf")), axis=-1)
        number = ops.sum(ops.cast(present, "int32"))
        near = ops.maximum(number - self.outliers - 2, 1)
        counted = ops.logical_and(ops.arange(size)[None, :] < near, ops.isfinite(ordered))
        scores = ops.sum(ops.where(counted, ordered, 0.0), axis=-1)
        scores = ops.where(present, scores, float("inf"))
        position = ops.minimum(ops.minimum(number, self.selected), size) - 1
        last = ops.take(ops.sort(scores), ops.maximum(position, 0))
        chosen = ops.cast(ops.logical_and(present, scores <= last + 1e-12), "float64")
        return chosen / ops.maximum(ops.sum(chosen), 1.0)

    def get_config(self) -> Config:
        return {**super().get_config(), "outliers": self.outliers, "selected": self.selected}
