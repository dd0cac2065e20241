"""One box an image."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.task import Task, TaskMetric, dense_head, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["BoundingBox", "BoxIoU", "BoxLoss", "box_iou"]


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes `(..., 4)` given as left, top, right, bottom; 0 for empty
    boxes."""
    width = ops.minimum(a[..., 2], b[..., 2]) - ops.maximum(a[..., 0], b[..., 0])
    height = ops.minimum(a[..., 3], b[..., 3]) - ops.maximum(a[..., 1], b[..., 1])
    shared = ops.maximum(width, 0.0) * ops.maximum(height, 0.0)
    union = _area(a) + _area(b) - shared
    return ops.where(union > 0, shared / ops.where(union > 0, union, 1.0), 0.0)


def _area(box: Any) -> Tensor:
    return ops.maximum(box[..., 2] - box[..., 0], 0.0) * ops.maximum(box[..., 3] - box[..., 1], 0.0)


@keras.saving.register_keras_serializable("mtl_keras")
class BoxLoss(keras.losses.Loss):
    """Mean absolute error of the four edges plus `iou_weight * (1 - IoU)`.

    The first part has a gradient also for boxes that don't meet; the second is what boxes are
    judged by (Yu et al., "UnitBox", ACM MM 2016, use -log IoU; 1 - IoU is its first-order form and
    stays bounded).
    """

    def __init__(self, iou_weight: float = 0.5, name: str = "box_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.iou_weight = float(iou_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        edges = ops.mean(ops.abs(y_true - y_pred), axis=-1)
        return edges + self.iou_weight * (1.0 - box_iou(y_true, y_pred))

    def get_config(self) -> Config:
        return {**super().get_config(), "iou_weight": self.iou_weight}


@keras.saving.register_keras_serializable("mtl_keras")
class BoxIoU(keras.metrics.Mean):
    """Mean intersection over union of one predicted and one true box a row."""

    def __init__(self, name: str = "iou", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        y_true = ops.cast(y_true, "float32")
        y_pred = ops.cast(y_pred, "float32")
        return super().update_state(box_iou(y_true, y_pred), sample_weight=sample_weight)


@keras.saving.register_keras_serializable("mtl_keras")
class BoundingBox(Task):
    """The box of one object in an image.

    Output and labels are `(left, top, right, bottom)`, shape `(rows, 4)`, each from 0 to 1 of the
    image's width or height. A row with NaN has no label.

    Args:
        name: str. See `Task`.
        hidden: int. Units of the head's hidden layer. Defaults to 64.
        channels: int. The feature map is reduced to this many channels before it is flattened: a
            box needs to know where things are, which pooling would forget. Defaults to 32.

    Examples:
        >>> task = mtl.tasks.BoundingBox("box", loss_weight=0.3)
    """

    kind = "bounding_box"
    likelihood = "laplace"

    def __init__(self, name: str, *, hidden: int = 64, channels: int = 32, **kwargs: Any):
        super().__init__(name, **kwargs)
        self.hidden, self.channels = int(hidden), int(channels)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (4,)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (4,)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = list(features.values())[-1]
        if len(x.shape) == 4:
            if None in x.shape[1:3]:
                raise ValueError(
                    f"Task '{self.name}' needs an image of fixed size; the features have shape "
                    f"{tuple(x.shape)}. Give "
                    "height and width in `inputs`."
                )
            x = keras.layers.Conv2D(
                self.channels, 1, activation="relu", name=f"{self.name}_reduce"
            )(x)
            x = keras.layers.Flatten(name=f"{self.name}_flatten")(x)
        return dense_head(x, self.name, 4, self.hidden)

    @property
    def activation(self) -> str:
        return "sigmoid"

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.sigmoid(x)

    def default_loss(self) -> Any:
        return BoxLoss()

    def default_metrics(self) -> list[TaskMetric]:
        return [TaskMetric(BoxIoU(), True)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.cast(y, "float32")
        known = ops.all(finite(y), axis=-1)
        return ops.where(ops.expand_dims(known, -1), y, ops.zeros_like(y)), known

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        self._refuse(
            values,
            ~np.isnan(values) & ((values < 0) | (values > 1)),
            "parts of the image's size, 0 to 1",
        )
        turned = (values[:, 0] > values[:, 2]) | (values[:, 1] > values[:, 3])
        if turned.any():
            raise ValueError(
                f"{int(turned.sum())} labels of task '{self.name}' have right < left or bottom < "
                f"top, for example "
                f"{values[turned][0].tolist()}; expected (left, top, right, bottom)."
            )

    def baseline(self, y: Any) -> np.ndarray:
        median = np.nanmedian(np.asarray(y, float).reshape(-1, 4), axis=0)
        return np.asarray(median, "float32")

    def facts(self) -> dict[str, Any]:
        return {
            **super().facts(),
            "format": "left, top, right, bottom",
            "unit": "parts of the image's size",
        }

    def get_config(self) -> Config:
        return {**super().get_config(), "hidden": self.hidden, "channels": self.channels}
