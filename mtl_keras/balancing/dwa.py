"""Weights from how fast each loss falls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.balancing.balancer import Balancer, require
from mtl_keras.balancing.parameters import whole_number
from mtl_keras.balancing.registry import register
from mtl_keras.balancing.types import Config, Tensor

__all__ = ["DWA"]


@register("dwa")
class DWA(Balancer):
    """Tasks whose loss falls slower than the others' weigh more.

    With `r_i` the ratio of the mean losses of the last two epochs, the weights are
    `T softmax(r / temperature)`; they sum to the number of tasks, and are 1 until two epochs have
    been seen.

    Args:
        temperature: float > 0. Large ones make the weights alike. Defaults to 2.
        window: int or None. Compare the last two windows of so many steps instead of epochs (25 in
            public code for other benchmarks). Needed where `train_on_batch` is used, which knows no
            epochs.

    Reference:
        Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019.
    """

    def __init__(self, temperature: float = 2.0, window: int | None = None):
        super().__init__()
        require(
            self, 0 < temperature < float("inf"), "temperature", "a finite number > 0", temperature
        )
        self.temperature = float(temperature)
        self.window = None if window is None else whole_number(self, "window", window, 1)

    def build_state(self, tasks: Sequence[Any]) -> None:
        zeros = np.zeros(len(tasks))
        self._sums = self.add_state("sums", zeros)
        self._counts = self.add_state("counts", zeros)
        self._last = self.add_state("last", zeros)
        self._before = self.add_state("before", zeros)

    def weigh(self, losses: Tensor, present: Tensor, gram: Tensor | None = None) -> Tensor:
        last, before = self._last.value, self._before.value
        # A mean of 0 says that there is none yet, or that the task is solved; its ratio then counts
        # as 1.
        known = ops.logical_and(last > 0, before > 0)
        ready = ops.logical_and(present, known)
        ratio = ops.where(known, ops.divide_no_nan(last, before), last)
        share = ops.softmax(ops.where(ready, ratio / self.temperature, ops.full_like(ratio, -1e30)))
        return ops.where(ready, ops.sum(ops.cast(ready, "float32")) * share, ops.ones_like(share))

    def update(
        self,
        losses: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        gram: Tensor | None = None,
        weights: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        mask = ops.cast(present, "float32")
        self._sums.assign(self._sums.value + mask * losses)
        self._counts.assign(self._counts.value + mask)
        if self.window is not None:
            self._shift(ops.logical_and(present, self._counts.value >= self.window))

    def epoch_end(self) -> None:
        if self.window is None:
            self._shift(self._counts.value > 0)

    def _shift(self, due: Tensor) -> None:
        mean = self._sums.value / ops.maximum(self._counts.value, 1.0)
        self._before.assign(ops.where(due, self._last.value, self._before.value))
        self._last.assign(ops.where(due, mean, self._last.value))
        for variable in (self._sums, self._counts):
            variable.assign(ops.where(due, ops.zeros_like(mean), variable.value))

    def current(self) -> dict[str, float]:
        ones = ops.ones((len(self.task_names),), "bool")
        return self.named(self.weigh(None, ones))

    def get_config(self) -> Config:
        return {"temperature": self.temperature, "window": self.window}
