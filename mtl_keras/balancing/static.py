"""Fixed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl_keras.balancing.balancer import Balancer
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks.task import check_loss_weight

__all__ = ["Static"]


@register("static")
class Static(Balancer):
    """A fixed weight per task, on top of the tasks' own loss weights: tuned linear scalarization.

    Args:
        task_weights: dict of task name to weight >= 0. Tasks that are not named get 1. None gives 1
            to all.

    The weights are a variable, `balancer.task_weights`: assign to it (or to
    `model.loss_weights[name]`) and the next step uses the new value.

    Raises:
        ValueError: a weight that is negative or not finite, or one for a task that the model does
            not have.

    Reference:
        Tuned fixed weights are the baseline to beat: Xin, Ghorbani, Garg, Firat, Gilmer, "Do
        Current Multi-Task Optimization Methods in Deep Learning Even Help?", NeurIPS 2022.

    Examples:
        >>> model.compile("adam", balancer=mtl.balancing.Static({"digit": 0.7, "box": 0.3}))
    """

    def __init__(self, task_weights: Mapping[str, float] | None = None):
        super().__init__()
        self._weights = {
            name: check_loss_weight(name, weight) for name, weight in (task_weights or {}).items()
        }

    def build_state(self, tasks: Sequence[Any]) -> None:
        for name in self._weights:
            if name not in self.task_names:
                raise ValueError(
                    unknown_name("task in the weights of balancer 'static':", name, self.task_names)
                )
        self.task_weights = self.add_state(
            "task_weights", [self._weights.get(name, 1.0) for name in self.task_names]
        )

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        return self.task_weights.value

    def current(self) -> dict[str, float]:
        return self.named(self.task_weights)

    def get_config(self) -> Config:
        return {"task_weights": dict(self._weights) or None}
