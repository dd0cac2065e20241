"""Fast adaptive multitask optimization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, VectorAdam, require
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["FAMO"]

_SMALL = 1e-8


def _shares(logits: Tensor, present: Tensor) -> Tensor:
    """The softmax of the present tasks' logits."""
    return ops.softmax(ops.where(present, logits, ops.full_like(logits, -1e30)))


@register("famo")
class FAMO(Balancer):
    """Let all losses fall at the same relative rate, from the losses alone.

    Task i weighs `(z_i / D_i) / sum_j (z_j / D_j)`, `D_i` its loss above the least it can reach and
    `z` a softmax of logits. After each step the logits move against how much each `log D_i` has
    fallen.

    Args:
        learning_rate: float > 0. Of the logits' Adam. Defaults to 0.025.
        decay: float >= 0. Added to their gradient times the logits, as torch's Adam does. Defaults
            to 1e-3, the authors' for NYUv2, CelebA and QM9 (0.01 in their file and for Cityscapes).
        least: dict of task name to the least that its loss can reach. Tasks that are not named have
            0.
        observe: "same_batch" measures the fall on the same batch, with a second forward pass that
            repeats the first one's dropout and batch statistics and moves no running mean.
            "next_batch" compares with the next step's batch, at no cost.

    Note:
        The authors' training code also shortens the shared gradient to length 1; give the optimizer
        `global_clipnorm` for that.

    Reference:
        Liu, Feng, Stone, Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023.
    """

    def __init__(
        self,
        learning_rate: float = 0.025,
        decay: float = 1e-3,
        least: Mapping[str, float] | None = None,
        observe: str = "same_batch",
    ):
        super().__init__()
        require(self, learning_rate > 0, "learning_rate", "> 0", learning_rate)
        require(self, decay >= 0, "decay", ">= 0", decay)
        require(
            self,
            observe in ("same_batch", "next_batch"),
            "observe",
            "'same_batch' or 'next_batch'",
            observe,
        )
        self.learning_rate, self.decay = float(learning_rate), float(decay)
        self.least, self.observe = dict(least or {}), observe
        self.observes_updated_losses = observe == "same_batch"
        # Losses may be negative above a given least.
        self.positive = not self.least

    def build_state(self, tasks: Sequence[Any]) -> None:
        self._least = self.by_task("least", self.least, 0.0)
        zeros = np.zeros(len(tasks))
        self.logits = self.add_state("logits", zeros)
        self._adam = VectorAdam(self, self.logits, epsilon=1e-8)
        self._before = self.add_state("before", zeros)
        self._seen = self.add_state("seen", zeros)

    def _logs(self, losses: Tensor) -> Tensor:
        return ops.log(
            ops.maximum(losses - ops.convert_to_tensor(self._least, "float32"), 0.0) + _SMALL
        )

    def _step(self, logs: Tensor, present: Tensor) -> tuple[Tensor, Tensor, float]:
        """The logits' gradient by how much each log loss fell since the last one, who takes part,
        and the learning rate."""
        both = ops.logical_and(present, self._seen.value > 0)
        fall = ops.where(both, self._before.value - logs, ops.zeros_like(logs))
        shares = _shares(self.logits.value, both)
        gradient = shares * (fall - ops.sum(shares * fall)) + self.decay * self.logits.value
        return gradient, both, self.learning_rate

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        logs = self._logs(losses)
        logits = self.logits.value
        if not self.observes_updated_losses:
            # The step that `update` takes with the same losses.
            logits = self._adam.following(*self._step(logs, present))
        # z / D, over its sum, without leaving the logarithms.
        return ops.softmax(
            ops.where(
                present,
                ops.log(_shares(logits, present) + 1e-30) - logs,
                ops.full_like(logs, -1e30),
            )
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
        logs = self._logs(losses)
        if not self.observes_updated_losses:
            self._adam.step(*self._step(logs, present))
        self._before.assign(ops.where(present, logs, self._before.value))
        self._seen.assign(ops.where(present, ops.ones_like(logs), self._seen.value))

    def observe_updated_losses(self, losses: Tensor, present: Tensor) -> None:
        self._adam.step(*self._step(self._logs(losses), present))

    def current(self) -> dict[str, float]:
        everyone = ops.ones((len(self.task_names),), "bool")
        return self.named(_shares(self.logits.value, everyone))

    def get_config(self) -> Config:
        return {
            "learning_rate": self.learning_rate,
            "decay": self.decay,
            "least": self.least or None,
            "observe": self.observe,
        }
