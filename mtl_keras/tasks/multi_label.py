"""Several yes-or-no answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.classes import ClassTask, EachCrossentropy
from mtl_keras.tasks.task import TaskMetric, dense_head, finite, vector
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["LabelAccuracy", "LabelF1", "MultiLabel"]


@keras.saving.register_keras_serializable("mtl_keras")
class LabelAccuracy(keras.metrics.Mean):
    """Share of entries on the right side of a threshold."""

    def __init__(self, threshold: float = 0.5, name: str = "accuracy", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.threshold = float(threshold)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        right = ops.equal(y_true > 0.5, y_pred >= self.threshold)
        return super().update_state(ops.cast(right, "float32"), sample_weight=sample_weight)

    def get_config(self) -> Config:
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable("mtl_keras")
class LabelF1(keras.metrics.Metric):
    """The mean over labels of each label's F1; a label that neither occurs nor is predicted counts
    0.

    Unlike `keras.metrics.F1Score` it takes a weight for every entry, so that single labels may be
    missing.
    """

    def __init__(self, num_labels: int, threshold: float = 0.5, name: str = "f1", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.num_labels, self.threshold = int(num_labels), float(threshold)
        made = {
            part: self.add_weight(shape=(self.num_labels,), initializer="zeros", name=part)
            for part in ("hit", "said", "is")
        }
        self.hit, self.said, self.true = made["hit"], made["said"], made["is"]

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        true = ops.cast(y_true > 0.5, "float32")
        said = ops.cast(y_pred >= self.threshold, "float32")
        weight = ops.ones_like(true)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, "float32")
            weight = weight * (
                sample_weight
                if len(sample_weight.shape) == 2
                else ops.expand_dims(sample_weight, -1)
            )
        self.hit.assign_add(ops.sum(true * said * weight, axis=0))
        self.said.assign_add(ops.sum(said * weight, axis=0))
        self.true.assign_add(ops.sum(true * weight, axis=0))

    def result(self) -> Tensor:
        total = self.said + self.true
        return ops.mean(ops.divide_no_nan(2 * self.hit, total))

    def reset_state(self) -> None:
        for variable in (self.hit, self.said, self.true):
            variable.assign(ops.zeros_like(variable))

    def get_config(self) -> Config:
        return {**super().get_config(), "num_labels": self.num_labels, "threshold": self.threshold}


@keras.saving.register_keras_serializable("mtl_keras")
class MultiLabel(ClassTask):
    """Any number of `num_labels` labels may hold.

    The output is a probability per label, shape `(rows, num_labels)`; labels are 0 or 1, or a
    probability between, of the same shape; -1 or NaN means that this one label of this row is not
    known. Metrics see a probability above one half as 1.

    Args:
        name: str. See `Task`.
        num_labels: int >= 1.
        labels: list of str. Their names.
        hidden: int. Units of the head's hidden layer, 0 for none. Defaults to 64.
        threshold: float. Probability from which `decode` names a label. Defaults to 0.5.
        class_weights: None; "balanced" or "effective", for each label's yes and no by themselves;
            or, by label, the weight of its yes (as PyTorch's `pos_weight`) or the weights
            `(no, yes)`. See `ClassTask`.
        beta, label_smoothing, focal_gamma: as in `Classification`.

    Examples:
        >>> mtl.tasks.MultiLabel("genre", num_labels=3, labels=["comedy", "drama", "western"])
    """

    kind = "multi_label"

    def __init__(
        self,
        name: str,
        num_labels: int,
        *,
        labels: Sequence[str] | None = None,
        hidden: int = 64,
        threshold: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_labels) < 1:
            raise ValueError(f"Task '{name}' needs at least 1 label, got {num_labels}.")
        if labels is not None and len(labels) != num_labels:
            raise ValueError(
                f"Task '{name}' has {num_labels} labels but {len(labels)} names were given."
            )
        self.num_labels, self.hidden, self.threshold = (
            int(num_labels),
            int(hidden),
            float(threshold),
        )
        self.labels = None if labels is None else [str(label) for label in labels]
        self._check_class_weights()

    @property
    def class_weights_shape(self) -> tuple[int, ...]:
        return (self.num_labels, 2)

    @property
    def soft_label_shape(self) -> tuple[int | None, ...] | None:
        return None

    def _default_weight(self) -> Any:
        return (1.0, 1.0)

    def _row(self, weight: Any) -> Any:
        return (1.0, weight) if np.ndim(weight) == 0 else weight

    def _count(self, target: Tensor, present: Tensor) -> Tensor:
        yes = np.where(present, target, 0.0).sum(0, dtype="float64")
        return np.stack([present.sum(0) - yes, yes], -1)

    def element_weights(self, target: Tensor, table: Any) -> Tensor:
        return table[:, 1] * target + table[:, 0] * (1 - target)

    def metric_target(self, target: Tensor, output: Tensor) -> Tensor:
        return ops.cast(target > 0.5, "float32")

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.num_labels,)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (self.num_labels,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        return dense_head(vector(features, self.name), self.name, self.num_labels, self.hidden)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.sigmoid(x)

    def default_loss(self) -> Any:
        return EachCrossentropy(self.label_smoothing, self.focal_gamma)

    def accuracy(self, name: str) -> Any:
        return LabelAccuracy(self.threshold, name=name)

    def default_metrics(self) -> list[TaskMetric]:
        f1 = LabelF1(self.num_labels, self.threshold)
        return [TaskMetric(f1, True), TaskMetric(self.accuracy("accuracy"), True)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        known = finite(y)
        present = ops.logical_and(known, y >= 0)
        return ops.cast(ops.where(present, y, ops.zeros_like(y)), "float32"), present

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        bad = np.isfinite(values) & (values != -1) & ((values < 0) | (values > 1))
        self._refuse(values, bad, "0, 1, or a probability from 0 to 1")

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float).reshape(-1, self.num_labels)
        known = np.isfinite(y) & (y >= 0)
        share = np.where(known, y, 0).sum(0) / np.maximum(known.sum(0), 1)
        return np.asarray(share, "float32")

    def facts(self) -> dict[str, Any]:
        facts = {"num_labels": self.num_labels, "labels": self.labels, "threshold": self.threshold}
        return {**super().facts(), **facts, "activation": "sigmoid"}

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "labels": self.labels,
            "hidden": self.hidden,
            "threshold": self.threshold,
        }
