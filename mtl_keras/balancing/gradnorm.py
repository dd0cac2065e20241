"""Gradient norms that fall into step with the tasks' training rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, SharedLayer, VectorAdam, require
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name

__all__ = ["GradNorm"]

_LEAST = 1e-4


@register("gradnorm")
class GradNorm(Balancer):
    """Learn weights that bring the tasks' gradient norms at one shared layer to a common scale,
    larger for tasks behind.

    With `G_i = w_i ||grad L_i||` at the layer, and `r_i` the task's loss relative to its first one,
    over the mean of these, the weights descend on `sum_i |G_i - mean(G) r_i^alpha|` and are then
    scaled to sum to the number of tasks.

    Args:
        alpha: float >= 0. How strongly tasks that lag are pulled forward. Defaults to 1.5, the
            paper's for NYUv2 (0.12 in its toy problem).
        learning_rate: float > 0. Of the weights' Adam. Defaults to 0.025.
        layer: str or None. Name of the layer whose weights count. None takes the last one that all
            tasks share.

    Note:
        The gradient for a weight has a closed form, the sign of `G_i`'s excess times the norm:
        nothing is differentiated twice. Weights stay above 1e-4. "First loss" is that of the first
        batch with labels; it is saved. Only the backward passes from the losses to the one layer
        are added.

    Reference:
        Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm: Gradient Normalization for Adaptive Loss
        Balancing in Deep Multitask Networks", ICML 2018.
    """

    strategy = "gram"
    gradients = "layer"
    positive = True

    def __init__(self, alpha: float = 1.5, learning_rate: float = 0.025, layer: str | None = None):
        super().__init__()
        require(self, 0 <= alpha < float("inf"), "alpha", "a finite number >= 0", alpha)
        require(self, learning_rate > 0, "learning_rate", "> 0", learning_rate)
        self.alpha, self.learning_rate, self.layer = float(alpha), float(learning_rate), layer

    def build_state(self, tasks: Sequence[Any]) -> None:
        self.task_weights = self.add_state("task_weights", np.ones(len(tasks)))
        self._first = self.add_state("first_losses", np.zeros(len(tasks)))
        self._adam = VectorAdam(self, self.task_weights)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        # What it is now, not the variable.
        return self.task_weights.value * 1.0

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        if gram is None:
            return
        before = self.task_weights.value * 1.0
        is_first = ops.logical_and(present, self._first.value <= 0)
        self._first.assign(ops.where(is_first, losses, self._first.value))
        number = ops.maximum(ops.sum(ops.cast(present, "float32")), 1.0)
        norms = ops.sqrt(ops.maximum(ops.cast(ops.diagonal(gram), "float32"), 0.0))
        # A task whose first loss was 0 is measured by the loss itself.
        first = ops.where(self._first.value > 0, self._first.value, ops.ones_like(losses))
        ratio = ops.where(present, losses / first, ops.zeros_like(losses))
        rate = ratio / ops.maximum(ops.sum(ratio) / number, 1e-30)
        scaled = ops.where(present, before * norms, ops.zeros_like(norms))
        target = ops.sum(scaled) / number * ops.maximum(rate, 1e-30) ** self.alpha
        self._adam.step(ops.sign(scaled - target) * norms, present, self.learning_rate)
        # The weights keep their sum.
        moved = ops.maximum(self.task_weights.value, _LEAST)
        zeros = ops.zeros_like(moved)
        sum_before = ops.sum(ops.where(present, before, zeros))
        sum_after = ops.sum(ops.where(present, moved, zeros))
        scale = ops.where(sum_after > 0, ops.divide_no_nan(sum_before, sum_after), 1.0)
        self.task_weights.assign(ops.where(present, moved * scale, before))

    def choose_layer(self, layers: Sequence[SharedLayer]) -> SharedLayer | None:
        if self.layer is None:
            common = [layer for layer in layers if layer.is_shared_by_all]
            candidates = common or layers
            return candidates[-1] if candidates else None
        for layer in layers:
            if layer.name == self.layer:
                return layer
        names = [layer.name for layer in layers]
        raise ValueError(unknown_name("shared layer for balancer 'gradnorm':", self.layer, names))

    def current(self) -> dict[str, float]:
        return self.named(self.task_weights)

    def get_config(self) -> Config:
        return {"alpha": self.alpha, "learning_rate": self.learning_rate, "layer": self.layer}
