"""Weights learned on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import VectorAdam, require
from mtl_keras.balancing.held_out import HeldOutBalancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name

__all__ = ["AutoLambda"]


@register("auto_lambda")
class AutoLambda(HeldOutBalancer):
    """Weights that make a step on the training batch lower the primary tasks' losses on held-out
    data.

    Each step looks one virtual step ahead, takes the gradient `d` of the primary tasks' held-out
    losses there, and moves the weights by how the training losses differ at `theta + eps d` and
    `theta - eps d` (`eps = 0.01 / ||d||`): four forward and two backward passes more than the plain
    sum.

    Args:
        data: batched `tf.data.Dataset` of `(inputs, labels)`, held out from training.
        primary: names of the tasks that count. None takes all.
        initial: float > 0. First weights. Defaults to 0.1.
        learning_rate: float > 0. Of the weights' Adam. Defaults to 1e-4, the authors' for NYUv2
            (3e-5 for CIFAR-100).

    Note:
        The virtual step is one of gradient descent at the optimizer's learning rate, with the
        momentum of `keras.optimizers.SGD` and the optimizer's weight decay where there are any, as
        in the official code; batch statistics and dropout of the extra passes are those of the
        training pass, and leave no trace. Weights are kept from falling below 0. All variables take
        part, heads included.

    Reference:
        Liu, James, Davison, Johns, "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR
        2022.
    """

    def __init__(
        self,
        data: Any = None,
        primary: Sequence[str] | None = None,
        initial: float = 0.1,
        learning_rate: float = 1e-4,
    ):
        super().__init__()
        require(self, initial > 0, "initial", "> 0", initial)
        require(self, learning_rate > 0, "learning_rate", "> 0", learning_rate)
        self.data, self.primary = data, None if primary is None else list(primary)
        self.initial, self.learning_rate = float(initial), float(learning_rate)

    def build_state(self, tasks: Sequence[Any]) -> None:
        for name in self.primary or ():
            if name not in self.task_names:
                raise ValueError(
                    unknown_name("primary task of balancer 'auto_lambda':", name, self.task_names)
                )
        self.task_weights = self.add_state("task_weights", np.full(len(tasks), self.initial))
        self._adam = VectorAdam(self, self.task_weights, epsilon=1e-8)

    def held_out_weights(self) -> Tensor:
        return ops.convert_to_tensor(
            [float(self.primary is None or name in self.primary) for name in self.task_names]
        )

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return self.task_weights.value * 1.0

    def update_from_look_ahead(
        self, plus: Tensor, minus: Tensor, epsilon: Tensor, step: Tensor, present: Tensor
    ) -> None:
        gradient = -step * (plus - minus) / (2.0 * epsilon)
        self._adam.step(gradient, present, self.learning_rate)
        self.task_weights.assign(ops.maximum(self.task_weights.value, 0.0))

    def current(self) -> dict[str, float]:
        return self.named(self.task_weights)

    def get_config(self) -> Config:
        return {
            "primary": self.primary,
            "initial": self.initial,
            "learning_rate": self.learning_rate,
        }
