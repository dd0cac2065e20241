"""Tasks whose answer is a class: one of two, or one of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.classes import ClassTask
from mtl_keras.tasks.task import TaskMetric, dense_head, finite, vector
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["Binary", "Classification"]


class _OneAnswer(ClassTask):
    """One class per row."""

    num_classes = 2

    @property
    def _classes(self) -> int:
        return self.num_classes

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_soft(y.shape):
            return self._soft_target(y)
        known = finite(y)
        y = ops.where(known, y, ops.cast(-1, y.dtype))
        if len(y.shape) == 2:
            y = ops.squeeze(y, axis=-1)
            known = ops.squeeze(known, axis=-1)
        present = ops.logical_and(known, y >= 0)
        return self._shape_target(ops.where(present, y, ops.zeros_like(y))), present

    def _shape_target(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (1,)


@keras.saving.register_keras_serializable("mtl_keras")
class Classification(_OneAnswer):
    """One of `num_classes` classes.

    The output is a probability per class, shape `(rows, num_classes)`; labels are whole numbers,
    shape `(rows,)` or `(rows, 1)`, or soft: a probability per class, shape `(rows, num_classes)`;
    -1 or NaN means no label. Metrics see the most probable class of a soft label.

    Args:
        name: str. See `Task`.
        num_classes: int >= 2.
        labels: list of str. The classes' names, for `decode`, cards, and exported files.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.
        dropout: float. Dropout before the last layer while training. Defaults to 0.
        class_weights: None, "balanced", "effective", or weights by class, a dict or a list; see
            `ClassTask`.
        beta: float in [0, 1). Of "effective". Defaults to 0.999.
        label_smoothing: float in [0, 1). Defaults to 0.
        focal_gamma: float >= 0. Defaults to 0.

    Examples:
        >>> rare = mtl.tasks.Classification("defect", num_classes=4, class_weights="balanced", label_smoothing=0.1)
        >>> task = mtl.tasks.Classification("digit", num_classes=10, loss_weight=0.7)
        >>> task.decode(np.eye(10)[[3]])
        [{'label': 3, 'probability': 1.0}]
    """

    kind = "classification"

    def __init__(
        self,
        name: str,
        num_classes: int,
        *,
        labels: Sequence[str] | None = None,
        hidden: int = 64,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_classes) < 2:
            raise ValueError(
                f"Task '{name}' needs at least 2 classes, got {num_classes}. Use Binary for yes "
                f"or no."
            )
        if labels is not None and len(labels) != num_classes:
            raise ValueError(
                f"Task '{name}' has {num_classes} classes but {len(labels)} labels were given."
            )
        self.num_classes = int(num_classes)
        self.labels = None if labels is None else [str(label) for label in labels]
        self.hidden = int(hidden)
        self.dropout = float(dropout)
        self._check_class_weights()

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.num_classes,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = vector(features, self.name)
        if self.dropout:
            x = keras.layers.Dropout(self.dropout, name=f"{self.name}_dropout")(x)
        return dense_head(x, self.name, self.num_classes, self.hidden)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.softmax(x)

    def accuracy(self, name: str) -> Any:
        return keras.metrics.SparseCategoricalAccuracy(name=name)

    def default_metrics(self) -> list[TaskMetric]:
        return [TaskMetric(self.accuracy("accuracy"), True)]

    def _shape_target(self, y: Tensor) -> Tensor:
        return ops.cast(y, "int32")

    def baseline(self, y: Any) -> np.ndarray:
        counts = self.count_classes(np.asarray(y, float))
        return np.asarray(counts / max(counts.sum(), 1), "float32")

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "activation": "softmax",
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "hidden": self.hidden,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class Binary(_OneAnswer):
    """Yes or no.

    The output is the probability of yes, shape `(rows, 1)`; labels are 0 or 1, or a probability
    between, shape `(rows,)` or `(rows, 1)`; -1 or NaN means no label. Metrics see a probability
    above one half as yes.

    Args:
        name: str. See `Task`.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.
        threshold: float. Probability from which `decode` says yes. Defaults to 0.5.
        class_weights, beta, label_smoothing, focal_gamma: as in `Classification`, for the classes 0
            (no) and 1 (yes).
    """

    kind = "binary"

    def __init__(self, name: str, *, hidden: int = 64, threshold: float = 0.5, **kwargs: Any):
        super().__init__(name, **kwargs)
        self.hidden = int(hidden)
        self.threshold = float(threshold)
        self._check_class_weights()

    @property
    def _is_yes_or_no(self) -> bool:
        return True

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (1,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        return dense_head(vector(features, self.name), self.name, 1, self.hidden)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.sigmoid(x)

    def accuracy(self, name: str) -> Any:
        return keras.metrics.BinaryAccuracy(name=name, threshold=self.threshold)

    def default_metrics(self) -> list[TaskMetric]:
        return [
            TaskMetric(keras.metrics.AUC(name="auc"), True),
            TaskMetric(self.accuracy("accuracy"), True),
        ]

    def _shape_target(self, y: Tensor) -> Tensor:
        return ops.expand_dims(ops.cast(y, "float32"), -1)

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float).ravel()
        y = y[np.isfinite(y) & (y >= 0)]
        return np.array([y.mean() if len(y) else 0.5], "float32")

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "threshold": self.threshold, "activation": "sigmoid"}

    def get_config(self) -> Config:
        return {**super().get_config(), "hidden": self.hidden, "threshold": self.threshold}
