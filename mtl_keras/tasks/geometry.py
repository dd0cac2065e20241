"""Depth and surface normals of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.maps import full_size, map_decoder
from mtl_keras.tasks.task import Task, TaskMetric, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["Angle", "AngleLoss", "Depth", "DepthError", "Normals"]


@keras.saving.register_keras_serializable("mtl_keras")
class DepthError(keras.metrics.Mean):
    """Mean absolute error of depths, or, with `relative`, of the error divided by the true
    depth."""

    def __init__(self, relative: bool = False, name: str = "abs_error", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.relative = bool(relative)

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        off = ops.abs(y_true - y_pred)[..., 0]
        if self.relative:
            off = off / ops.where(y_true[..., 0] > 0, y_true[..., 0], 1.0)
        return super().update_state(off, sample_weight=sample_weight)

    def get_config(self) -> Config:
        return {**super().get_config(), "relative": self.relative}


class _Map(Task):
    """A task with an answer of several numbers for every pixel."""

    likelihood = "laplace"
    size = 1

    def __init__(self, name: str, *, channels: int = 24, **kwargs: Any):
        super().__init__(name, **kwargs)
        self.channels = int(channels)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, None, self.size)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (None, None, self.size)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        return full_size(
            self.name,
            map_decoder(self.name, features, input_shape, self.channels),
            input_shape,
            self.size,
        )

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        if output_shape is None or None in tuple(output_shape[1:3]):
            raise ValueError(
                f"The size of a missing map of task '{self.name}' is not known. Fill absent "
                f"labels with NaN in the images' "
                "size."
            )
        shape: Any = (rows, *output_shape[1:3], self.size)
        return np.full(shape, np.nan, "float32")

    def get_config(self) -> Config:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("mtl_keras")
class Depth(_Map):
    """How far away every pixel is.

    Output and labels have shape `(rows, height, width, 1)` (labels also without the last axis), in
    the user's unit, above 0; NaN, 0 and below mean that a pixel has no depth. The loss is the mean
    absolute error divided by `scale`.

    Args:
        name: str. See `Task`.
        scale: float > 0. A typical depth; the output is `scale * softplus(x)`. Defaults to 1.
            `scale="fit"` takes the median of the training labels, as in `Regression`.
        unit: str. For cards and files.
        channels: int. Channels of the decoder. Defaults to 24.

    Reference:
        Metrics (absolute and relative error) as in Liu, Johns, Davison, CVPR 2019.
    """

    kind = "depth"

    def __init__(
        self,
        name: str,
        *,
        scale: float | str = 1.0,
        unit: str = "",
        channels: int = 24,
        **kwargs: Any,
    ):
        from mtl_keras.tasks.regression import check_scale

        super().__init__(name, channels=channels, **kwargs)
        #: Whether `scale` is still to be measured on training labels.
        self.needs_fit = scale == "fit"
        self.scale, self.unit = check_scale(name, scale), str(unit)

    def fit_to(self, labels: Any) -> Depth:
        """The same task with `scale` the median of the labels (missing ones left out).

        Raises:
            ValueError: no label is there.
        """
        return self.copy(scale=self.measure(labels)[1])

    def measure(self, labels: Any) -> tuple[float, float]:
        """0 and the median depth of labels (missing ones left out).

        Raises:
            ValueError: no label is there.
        """
        y = np.asarray(labels, float)
        y = y[np.isfinite(y) & (y > 0)]
        if not len(y):
            raise ValueError(f"Task '{self.name}': no label is there to measure the scale on.")
        return 0.0, float(np.median(y))

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.softplus(x) * self.scale

    def default_loss(self) -> Any:
        from mtl_keras.tasks.regression import ScaledError

        return ScaledError("mae", "fit" if self.needs_fit else self.scale)

    def default_metrics(self) -> list[TaskMetric]:
        return [
            TaskMetric(DepthError(), False),
            TaskMetric(DepthError(relative=True, name="rel_error"), False),
        ]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.cast(y, "float32")
        if len(y.shape) == 3:
            y = ops.expand_dims(y, -1)
        present = ops.logical_and(finite(y), y > 0)
        return ops.where(present, y, ops.ones_like(y)), ops.squeeze(present, axis=-1)

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float)
        y = y if y.ndim == 4 else y[..., None]
        y = np.where(np.isfinite(y) & (y > 0), y, np.nan)
        known = y[np.isfinite(y)]
        fallback = np.median(known) if len(known) else self.scale
        masked: Any = np.ma
        median = masked.median(np.ma.masked_invalid(y), axis=0).filled(fallback)
        return np.asarray(median, "float32")

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "unit": self.unit}

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "scale": "fit" if self.needs_fit else self.scale,
            "unit": self.unit,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class AngleLoss(keras.losses.Loss):
    """One minus the cosine between unit vectors."""

    def __init__(self, name: str = "angle_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return 1.0 - ops.sum(y_true * y_pred, axis=-1)


@keras.saving.register_keras_serializable("mtl_keras")
class Angle(keras.metrics.Mean):
    """Mean angle in degrees between unit vectors, or, with `within`, the share of angles below that
    many degrees."""

    def __init__(self, within: float | None = None, name: str = "mean_angle", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.within = within

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        # From chord and its complement: the arc cosine loses small angles.
        near = ops.norm(y_true - y_pred, axis=-1)
        far = ops.norm(y_true + y_pred, axis=-1)
        angle = 2 * ops.arctan2(near, far) * (180 / np.pi)
        values = angle if self.within is None else ops.cast(angle < self.within, "float32")
        return super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> Config:
        return {**super().get_config(), "within": self.within}


@keras.saving.register_keras_serializable("mtl_keras")
class Normals(_Map):
    """The direction in which the surface at every pixel faces.

    Output and labels are unit vectors, shape `(rows, height, width, 3)`; labels need not be of
    length 1. NaN in any part, or length 0, means that a pixel has no label. The loss is one minus
    the cosine of the angle.

    Args:
        name: str. See `Task`.
        channels: int. Channels of the decoder. Defaults to 24.

    Reference:
        Metrics (mean angle; share within 11.25, 22.5 and 30 degrees) as in Eigen & Fergus, ICCV
        2015.
    """

    kind = "normals"
    size = 3

    def activate(self, x: Tensor) -> Tensor:
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)

    def default_loss(self) -> Any:
        return AngleLoss()

    def default_metrics(self) -> list[TaskMetric]:
        shares = [
            TaskMetric(Angle(w, name=f"within_{str(w).replace('.', '_')}"), True)
            for w in (11.25, 22.5, 30)
        ]
        return [TaskMetric(Angle(), False), *shares]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.cast(y, "float32")
        known = ops.all(finite(y), axis=-1)
        y = ops.where(ops.expand_dims(known, -1), y, ops.zeros_like(y))
        length = ops.sqrt(ops.sum(ops.square(y), axis=-1))
        present = length > 0
        up = ops.concatenate([ops.zeros_like(y[..., :2]), ops.ones_like(y[..., :1])], axis=-1)
        unit = y / ops.expand_dims(ops.where(present, length, 1.0), -1)
        return ops.where(ops.expand_dims(present, -1), unit, up), present

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float)
        total = np.nansum(y, axis=0)
        length = np.linalg.norm(total, axis=-1, keepdims=True)
        return np.where(
            length > 0, total / np.where(length > 0, length, 1), [0.0, 0.0, 1.0]
        ).astype("float32")
