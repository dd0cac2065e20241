"""Vectors that are near where things are alike."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.task import Task, TaskMetric, dense_head, finite, vector
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["ContrastiveLoss", "Embedding", "RecallAtOne"]


def _pairs(y_true: Tensor) -> tuple[Tensor, Tensor]:
    """Which rows are of one class, and which may be compared at all: rows with a label, other than
    itself."""
    y = ops.reshape(ops.cast(y_true, "float32"), (-1, 1))
    there = y >= 0
    same = ops.logical_and(y == ops.transpose(y), ops.logical_and(there, ops.transpose(there)))
    index = ops.cumsum(ops.ones_like(y), axis=0)
    other = ops.logical_and(index != ops.transpose(index), ops.transpose(there))
    return ops.cast(ops.logical_and(same, other), "float32"), ops.cast(other, "float32")


@keras.saving.register_keras_serializable("mtl_keras")
class ContrastiveLoss(keras.losses.Loss):
    """Supervised contrastive loss over a batch, a value a row.

    For row i with unit vector z_i and the other rows P(i) of its class:
    `-mean_(p in P(i)) log(exp(z_i.z_p / t) / sum_(a != i) exp(z_i.z_a / t))`; 0 where a row is the
    only one of its class.

    Args:
        temperature: float > 0. Defaults to 0.1.

    Reference:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020 (L_out).
    """

    def __init__(self, temperature: float = 0.1, name: str = "contrastive_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        if not temperature > 0:
            raise ValueError(f"The temperature must be > 0, got {temperature}.")
        self.temperature = float(temperature)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        same, other = _pairs(y_true)
        near = ops.matmul(y_pred, ops.transpose(y_pred)) / self.temperature
        # Unit vectors: the largest is at most 1 / temperature, and subtracting it keeps the
        # exponentials small.
        near = near - 1.0 / self.temperature
        total = ops.sum(ops.exp(near) * other, axis=1, keepdims=True)
        chance = near - ops.log(ops.maximum(total, 1e-30))
        count = ops.sum(same, axis=1)
        return -ops.sum(chance * same, axis=1) / ops.maximum(count, 1.0)

    def get_config(self) -> Config:
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable("mtl_keras")
class RecallAtOne(keras.metrics.Mean):
    """Share of rows whose nearest row in the batch is of their class, among rows whose class the
    batch has twice."""

    def __init__(self, name: str = "recall_at_1", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        same, other = _pairs(y_true)
        near = ops.where(other > 0, ops.matmul(y_pred, ops.transpose(y_pred)), -1e9)
        nearest = ops.one_hot(
            ops.argmax(near, axis=1), near.shape[0] or ops.shape(near)[0], dtype="float32"
        )
        weight = ops.cast(ops.sum(same, axis=1) > 0, "float32")
        if sample_weight is not None:
            weight = weight * ops.cast(sample_weight, "float32")
        return super().update_state(ops.sum(nearest * same, axis=1), sample_weight=weight)


@keras.saving.register_keras_serializable("mtl_keras")
class Embedding(Task):
    """A vector of length 1 that is near those of its class and far from others: for search, faces,
    duplicates.

    Output `(rows, size)`; labels are class numbers, `(rows,)`, any whole numbers >= 0; -1 or NaN
    means no label. Batches should hold several rows of a class: the loss compares rows of one batch
    (of one replica, where there are several).

    Args:
        name: str. See `Task`.
        size: int >= 2. Defaults to 64.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.
        temperature: float > 0. Of the loss. Defaults to 0.1.

    Reference:
        Khosla et al., NeurIPS 2020.
    """

    kind = "embedding"
    likelihood = "categorical"
    missing_value = -1
    label_dtype = "int32"

    def __init__(
        self,
        name: str,
        size: int = 64,
        *,
        hidden: int = 64,
        temperature: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(size) < 2 or not temperature > 0:
            raise ValueError(
                f"Task '{name}' needs size >= 2 and temperature > 0, got {size} and {temperature}."
            )
        self.size, self.hidden, self.temperature = int(size), int(hidden), float(temperature)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.size,)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (1,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        return dense_head(vector(features, self.name), self.name, self.size, self.hidden)

    def activate(self, x: Tensor) -> Tensor:
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)

    def default_loss(self) -> Any:
        return ContrastiveLoss(self.temperature)

    def default_metrics(self) -> list[TaskMetric]:
        return [TaskMetric(RecallAtOne(), True)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        known = finite(y)
        if len(y.shape) == 2:
            y, known = ops.squeeze(y, axis=-1), ops.squeeze(known, axis=-1)
        present = ops.logical_and(known, y >= 0)
        # Rows without a label stay apart from all others: they are nobody's neighbors.
        return ops.cast(ops.where(present, y, ops.cast(-1, y.dtype)), "int32"), present

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        there = np.isfinite(values) & (values != -1)
        self._refuse(
            values, there & ((values < 0) | (values != np.floor(values))), "whole numbers >= 0"
        )

    def baseline(self, y: Any) -> np.ndarray:
        return np.asarray(np.eye(1, self.size)[0], "float32")

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "size": self.size,
            "unit": "vector of length 1; compare by inner product",
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "size": self.size,
            "hidden": self.hidden,
            "temperature": self.temperature,
        }
