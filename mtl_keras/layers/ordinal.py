"""Thresholds on a scale."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

__all__ = ["OrdinalThresholds"]


@keras.saving.register_keras_serializable("mtl_keras")
class OrdinalThresholds(layers.Layer):
    """One score a row to the logits of lying above each of several thresholds, which never change
    their order.

    `logit_k = score - t_k` with `t_1 = first` and `t_(k+1) = t_k + softplus(step_k)`.

    Args:
        thresholds: int >= 1.

    Shapes:
        `(rows, 1)` to `(rows, thresholds)`, falling along the last axis.
    """

    def __init__(self, thresholds: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if thresholds < 1:
            raise ValueError(f"Layer '{self.name}' needs at least one threshold, got {thresholds}.")
        self.thresholds = int(thresholds)

    def build(self, input_shape: Any) -> None:
        # Thresholds start one apart, around 0.
        start = keras.initializers.Constant(-(self.thresholds - 1) / 2)
        self.first = self.add_weight(shape=(1,), initializer=start, name="first")
        one = keras.initializers.Constant(0.5413)
        self.steps = self.add_weight(shape=(self.thresholds - 1,), initializer=one, name="steps")

    def call(self, inputs: Any) -> Any:
        steps = ops.concatenate([self.first + 0.0, ops.softplus(self.steps + 0.0)])
        return inputs - ops.cumsum(steps)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.thresholds)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.thresholds}
