"""Points of one object in an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.layers.soft_argmax import SoftArgmax
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks.maps import map_decoder
from mtl_keras.tasks.task import Task, TaskMetric, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["Keypoints", "PointError", "PointLoss"]


@keras.saving.register_keras_serializable("mtl_keras")
class PointLoss(keras.losses.Loss):
    """Mean absolute error of each point's two coordinates; one value a point."""

    def __init__(self, name: str = "point_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable("mtl_keras")
class PointError(keras.metrics.Mean):
    """Mean distance of points, in parts of the image's size, or, with `within`, the share of points
    nearer than that."""

    def __init__(self, within: float | None = None, name: str = "distance", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.within = within

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> Any:
        distance = ops.norm(y_true - y_pred, axis=-1)
        values = distance if self.within is None else ops.cast(distance < self.within, "float32")
        return super().update_state(values, sample_weight=sample_weight)

    def get_config(self) -> Config:
        return {**super().get_config(), "within": self.within}


@keras.saving.register_keras_serializable("mtl_keras")
class Keypoints(Task):
    """Named points of one object: a face's eyes, a hand's joints.

    Output and labels have shape `(rows, num_points, 2)`: x and y, 0 to 1 of the image's width and
    height. A point with NaN has no label. Head: a map a point, from a light decoder, and the
    expected place under its softmax.

    Args:
        name: str. See `Task`.
        num_points: int >= 1.
        labels: list of str. The points' names.
        channels: int. Channels of the decoder. Defaults to 24.
        within: float. Distance below which a point counts as found, for the metric `pck`. Defaults
            to 0.1.
        swaps: list of pairs of points, by name or number: a left and a right one, which trade places
            in a mirrored picture. [] where no point has a side. None, the default, reads pairs such
            as "left_eye" and "right_eye" off `labels`; where there are none, augmentation by flips
            is refused.

    Examples:
        >>> face = mtl.tasks.Keypoints("face", 3, labels=["left_eye", "right_eye", "nose"])
        >>> hand = mtl.tasks.Keypoints("hand", 21, swaps=[])

    Reference:
        Sun et al., ECCV 2018 (head); Yang & Ramanan, TPAMI 2013 (share of correct keypoints).
    """

    kind = "keypoints"
    likelihood = "laplace"

    def __init__(
        self,
        name: str,
        num_points: int,
        *,
        labels: Sequence[str] | None = None,
        channels: int = 24,
        within: float = 0.1,
        swaps: Sequence[Sequence[int | str]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_points) < 1:
            raise ValueError(f"Task '{name}' needs at least 1 point, got {num_points}.")
        if labels is not None and len(labels) != num_points:
            raise ValueError(
                f"Task '{name}' has {num_points} points but {len(labels)} names were given."
            )
        self.num_points, self.channels, self.within = int(num_points), int(channels), float(within)
        self.labels = None if labels is None else [str(label) for label in labels]
        self.swaps = self._read_pairs() if swaps is None else self._check_pairs(swaps)

    # ------------------------------------------------------------------ left and right
    @property
    def mirrored_order(self) -> list[int] | None:
        """For each point, which point of a mirrored picture it is; None where that is not
        known."""
        if self.swaps is None and self.num_points > 1:
            return None
        order = list(range(self.num_points))
        for first, second in self.swaps or ():
            order[first], order[second] = second, first
        return order

    def _read_pairs(self) -> list[list[int]] | None:
        """Pairs of names that differ in "left" and "right" only, or None."""
        names = [label.lower() for label in self.labels or ()]
        pairs = [
            [i, names.index(other)]
            for i, name in enumerate(names)
            if (other := re.sub("left", "right", name)) != name and other in names
        ]
        return pairs or None

    def _check_pairs(self, swaps: Sequence[Sequence[int | str]]) -> list[list[int]]:
        pairs = [[self._point_number(point) for point in pair] for pair in swaps]
        points = [point for pair in pairs for point in pair]
        if any(len(pair) != 2 for pair in pairs) or len(set(points)) != len(points):
            raise ValueError(
                f"Task '{self.name}': `swaps` should be pairs of points, each point once. "
                f"Received: {swaps!r}."
            )
        return pairs

    def _point_number(self, point: int | str) -> int:
        if isinstance(point, str) and self.labels is not None and point in self.labels:
            return self.labels.index(point)
        if isinstance(point, (int, np.integer)) and 0 <= int(point) < self.num_points:
            return int(point)
        known = [*map(str, range(self.num_points)), *(self.labels or ())]
        raise ValueError(
            unknown_name(f"point in `swaps` of task '{self.name}':", str(point), known)
        )

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (self.num_points, 2)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (self.num_points, 2)

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        x = map_decoder(self.name, features, input_shape, self.channels)
        x = keras.layers.Conv2D(self.num_points, 1, name=f"{self.name}_linear")(x)
        return SoftArgmax(name=f"{self.name}_place")(x)

    def default_loss(self) -> Any:
        return PointLoss()

    def default_metrics(self) -> list[TaskMetric]:
        return [
            TaskMetric(PointError(self.within, name="pck"), True),
            TaskMetric(PointError(), False),
        ]

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

    def baseline(self, y: Any) -> np.ndarray:
        y = np.asarray(y, float).reshape(-1, self.num_points, 2)
        known = np.isfinite(y).all(-1)
        places = [
            np.median(y[known[:, i], i], axis=0) if known[:, i].any() else [0.5, 0.5]
            for i in range(self.num_points)
        ]
        return np.asarray(places, "float32")

    def facts(self) -> dict[str, Any]:
        facts = {"num_points": self.num_points, "labels": self.labels}
        return {**super().facts(), **facts, "format": "x, y", "unit": "parts of the image's size"}

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_points": self.num_points,
            "labels": self.labels,
            "channels": self.channels,
            "within": self.within,
            "swaps": self.swaps,
        }
