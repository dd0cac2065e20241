"""Classes in an order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.layers.ordinal import OrdinalThresholds
from mtl_keras.tasks.classes import check_probabilities
from mtl_keras.tasks.task import Task, TaskMetric, finite, vector
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["LevelError", "Ordinal"]


@keras.saving.register_keras_serializable("mtl_keras")
class LevelError(keras.metrics.Mean):
    """How many levels a prediction is off on average, or, with `exact`, the share that is not off
    at all."""

    def __init__(self, exact: bool = False, name: str = "level_error", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.exact = bool(exact)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        said = ops.sum(ops.cast(y_pred >= 0.5, "float32"), axis=-1)
        off = ops.abs(said - ops.sum(ops.cast(y_true, "float32"), axis=-1))
        values = ops.cast(off < 0.5, "float32") if self.exact else off
        return super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> Config:
        return {**super().get_config(), "exact": self.exact}


@keras.saving.register_keras_serializable("mtl_keras")
class Ordinal(Task):
    """One of `num_classes` levels in an order: grades, stars, stages.

    The output is the probability of lying above each level but the last, shape
    `(rows, num_classes - 1)`, falling along the row; labels are whole numbers from 0, shape
    `(rows,)`, or soft, a probability per level, `(rows, num_classes)`; -1 or NaN means no label.
    The loss is the mean cross entropy of these yes-or-no questions. Head: one score and ordered
    thresholds, so that no two answers contradict each other.

    Args:
        name: str. See `Task`.
        num_classes: int >= 2.
        labels: list of str. The levels' names.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.

    Reference:
        Cao, Mirjalili, Raschka, "Rank consistent ordinal regression for neural networks" (CORAL),
        Pattern Recognition Letters 2020; there the order of the thresholds is a property of the
        optimum, here it is built in.
    """

    kind = "ordinal"
    likelihood = "categorical"
    missing_value = -1
    label_dtype = "int32"

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        labels: Sequence[str] | None = None,
        hidden: int = 64,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_classes) < 2:
            raise ValueError(f"Task '{name}' needs at least 2 levels, got {num_classes}.")
        if labels is not None and len(labels) != num_classes:
            raise ValueError(
                f"Task '{name}' has {num_classes} levels but {len(labels)} names were given."
            )
        self.num_classes, self.hidden = int(num_classes), int(hidden)
        self.labels = None if labels is None else [str(label) for label in labels]

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.num_classes - 1,)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (1,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = vector(features, self.name)
        if self.hidden:
            x = keras.layers.Dense(self.hidden, activation="relu", name=f"{self.name}_hidden")(x)
        x = keras.layers.Dense(1, use_bias=False, name=f"{self.name}_linear")(x)
        return OrdinalThresholds(self.num_classes - 1, name=f"{self.name}_thresholds")(x)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.sigmoid(x)

    def default_loss(self) -> Any:
        return keras.losses.BinaryCrossentropy()

    def accuracy(self, name: str) -> Any:
        return LevelError(exact=True, name=name)

    def default_metrics(self) -> list[TaskMetric]:
        return [TaskMetric(LevelError(), False), TaskMetric(self.accuracy("accuracy"), True)]

    @property
    def soft_label_shape(self) -> tuple[int | None, ...] | None:
        return (self.num_classes,)

    def _is_soft(self, shape: Any) -> bool:
        return len(shape) == 2 and shape[-1] == self.num_classes

    def metric_target(self, target: Tensor, output: Tensor) -> Tensor:
        return ops.cast(target > 0.5, "float32")

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._is_soft(y.shape):
            y = ops.cast(y, "float32")
            present = ops.all(ops.logical_and(ops.isfinite(y), y >= 0), axis=-1)
            y = ops.where(ops.expand_dims(present, -1), y, 0.0)
            # Above a level lies what is not at it or below.
            return ops.clip(1.0 - ops.cumsum(y, axis=-1)[:, :-1], 0.0, 1.0), present
        known = finite(y)
        if len(y.shape) == 2:
            y, known = ops.squeeze(y, axis=-1), ops.squeeze(known, axis=-1)
        present = ops.logical_and(known, y >= 0)
        y = ops.cast(ops.where(present, y, ops.zeros_like(y)), "float32")
        levels = ops.arange(self.num_classes - 1, dtype="float32")
        return ops.cast(ops.expand_dims(y, -1) > levels, "float32"), present

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        if self._is_soft(values.shape):
            check_probabilities(self, values)
            return
        there = np.isfinite(values) & (values != -1)
        bad = there & ((values < 0) | (values >= self.num_classes) | (values != np.floor(values)))
        self._refuse(values, bad, f"whole numbers from 0 to {self.num_classes - 1}")

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float)
        if self._is_soft(y.shape):
            target, present = (ops.convert_to_numpy(x) for x in self.target(y))
            return (
                target[present].mean(0)
                if present.any()
                else np.full(self.num_classes - 1, 0.5, "float32")
            )
        y = y.ravel()
        y = y[np.isfinite(y) & (y >= 0)]
        levels = np.arange(self.num_classes - 1)
        return (
            (y[:, None] > levels).mean(0).astype("float32")
            if len(y)
            else np.full(len(levels), 0.5, "float32")
        )

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "activation": "sigmoid",
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "hidden": self.hidden,
        }
