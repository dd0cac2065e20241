"""A class for every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.classes import ClassTask
from mtl_keras.tasks.maps import full_size, map_decoder
from mtl_keras.tasks.task import TaskMetric, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["Segmentation"]


@keras.saving.register_keras_serializable("mtl_keras")
class Segmentation(ClassTask):
    """A class for every pixel of the input image.

    With `num_classes=1` the task is one silhouette: the output is its probability, shape
    `(rows, height, width, 1)`, and labels are 0 or 1, or a probability between. Otherwise the
    output is a probability per class, shape `(rows, height, width, num_classes)`. Labels have shape
    `(rows, height, width)` (a last axis of 1 is allowed), or are soft, a probability per class,
    shape `(rows, height, width, num_classes)`; -1 or NaN means that a pixel has no label.

    The default head is a light top-down decoder, `mtl_keras.tasks.maps.map_decoder`.

    Args:
        name: str. See `Task`.
        num_classes: int >= 1.
        labels: list of str. The classes' names.
        channels: int. Channels of the decoder. Defaults to 24.
        class_weights, beta, label_smoothing, focal_gamma: as in `Classification`, for pixels. A
            silhouette has the classes 0 and 1.
    """

    kind = "segmentation"

    def __init__(
        self,
        name: str,
        num_classes: int = 1,
        *,
        labels: Sequence[str] | None = None,
        channels: int = 24,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_classes) < 1:
            raise ValueError(f"Task '{name}' needs at least 1 class, got {num_classes}.")
        if labels is not None and len(labels) != num_classes:
            raise ValueError(
                f"Task '{name}' has {num_classes} classes but {len(labels)} labels were given."
            )
        self.num_classes, self.channels = int(num_classes), int(channels)
        self.labels = None if labels is None else [str(label) for label in labels]
        self._check_class_weights()

    @property
    def _classes(self) -> int:
        return max(self.num_classes, 2)

    @property
    def _is_yes_or_no(self) -> bool:
        return self.num_classes == 1

    @property
    def _places(self) -> tuple[int | None, ...]:
        return (None, None)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, None, self.num_classes)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (None, None, 1)

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        if output_shape is None or None in tuple(output_shape[1:3]):
            raise ValueError(
                f"The size of a missing map of task '{self.name}' is not known. Fill absent "
                f"labels with "
                f"{self.missing_value} in the images' size."
            )
        shape: Any = (rows, *output_shape[1:3], 1)
        return np.full(shape, self.missing_value, self.label_dtype)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = map_decoder(self.name, features, input_shape, self.channels)
        # Few channels before the full size: that is where a map costs most, on a phone and in
        # training.
        return full_size(self.name, x, input_shape, self.num_classes)

    def activate(self, x: Tensor) -> Tensor:
        return (
            keras.activations.sigmoid(x) if self.num_classes == 1 else keras.activations.softmax(x)
        )

    def accuracy(self, name: str) -> Any:
        if self.num_classes == 1:
            return keras.metrics.BinaryAccuracy(name=name)
        return keras.metrics.SparseCategoricalAccuracy(name=name)

    def default_metrics(self) -> list[TaskMetric]:
        if self.num_classes == 1:
            iou = keras.metrics.BinaryIoU(
                target_class_ids=[1], threshold=0.5, name="iou", dtype="float32"
            )
        else:
            iou = keras.metrics.MeanIoU(
                self.num_classes, sparse_y_pred=False, name="iou", dtype="float32"
            )
        return [TaskMetric(iou, True), TaskMetric(self.accuracy("pixel_accuracy"), True)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_soft(y.shape):
            return self._soft_target(y)
        known = finite(y)
        y = (
            ops.where(known, y, ops.cast(-1, y.dtype))
            if "uint" not in keras.backend.standardize_dtype(y.dtype)
            else y
        )
        if len(y.shape) == 4:
            y, known = ops.squeeze(y, axis=-1), ops.squeeze(known, axis=-1)
        present = ops.logical_and(known, y >= 0)
        y = ops.where(present, y, ops.zeros_like(y))
        if self.num_classes == 1:
            return ops.expand_dims(ops.cast(y, "float32"), -1), present
        return ops.cast(y, "int32"), present

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float)
        if self.is_soft(y.shape):
            target, present = (ops.convert_to_numpy(x) for x in self._soft_target(y))
            share = np.where(present[..., None], target, 0).sum(0)
            return np.asarray(share / np.maximum(present.sum(0), 1)[..., None], "float32")
        y = y[..., 0] if y.ndim == 4 else y
        known = np.isfinite(y) & (y >= 0)
        if self.num_classes == 1:
            # Each pixel's own share of silhouettes: the best answer that does not look at the
            # picture.
            share = np.where(known, y, 0).sum(0) / np.maximum(known.sum(0), 1)
            return np.asarray(share[..., None], "float32")
        counts = np.stack([(known & (y == c)).sum(0) for c in range(self.num_classes)], -1)
        return np.asarray(counts / np.maximum(counts.sum(-1, keepdims=True), 1), "float32")

    def facts(self) -> dict[str, Any]:
        activation = "sigmoid" if self.num_classes == 1 else "softmax"
        return {
            **super().facts(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "activation": activation,
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "channels": self.channels,
        }
