"""Any number of objects in an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.tasks.bounding_box import box_iou
from mtl_keras.tasks.maps import map_decoder
from mtl_keras.tasks.task import Task, TaskMetric, finite
from mtl_keras.tasks.types import Config, Tensor

__all__ = ["CenterNetLoss", "Detection", "MeanAveragePrecision"]

_CLIP = 1e-4


def center_targets(
    boxes: Tensor, height: int, width: int, num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What a grid of cells should say about boxes `(rows, objects, 5)`; class -1 is no object.

    Returns:
        `(heat, cell, there)`: heat `(rows, height, width, classes)`, 1 at centers and falling off
        like a Gaussian whose spread follows the box (Liu et al., "Training-Time-Friendly Network",
        AAAI 2020: 0.54 of a sixth of each side); cell `(rows, objects, height * width)`, one-hot
        where an object's center lies; there `(rows, objects)`.
    """
    there = ops.cast(boxes[..., 4] >= 0, "float32")
    x, y = (boxes[..., 0] + boxes[..., 2]) / 2 * width, (boxes[..., 1] + boxes[..., 3]) / 2 * height
    column = ops.clip(ops.floor(x), 0, width - 1)
    row = ops.clip(ops.floor(y), 0, height - 1)
    spread_x = ops.maximum(0.54 / 6 * (boxes[..., 2] - boxes[..., 0]) * width, 1e-2)
    spread_y = ops.maximum(0.54 / 6 * (boxes[..., 3] - boxes[..., 1]) * height, 1e-2)
    columns, rows = ops.arange(width, dtype="float32"), ops.arange(height, dtype="float32")
    fall_x = ops.exp(-0.5 * ops.square((columns - column[..., None]) / spread_x[..., None]))
    fall_y = ops.exp(-0.5 * ops.square((rows - row[..., None]) / spread_y[..., None]))
    bump = fall_y[..., :, None] * fall_x[..., None, :] * there[..., None, None]
    kind = ops.one_hot(
        ops.cast(ops.maximum(boxes[..., 4], 0), "int32"), num_classes, dtype="float32"
    )
    heat = ops.max(bump[..., None] * kind[:, :, None, None, :], axis=1)
    cell = (
        ops.one_hot(ops.cast(row * width + column, "int32"), height * width, dtype="float32")
        * there[..., None]
    )
    return heat, cell, there


def labelled_classes(objects: Tensor, num_classes: int) -> Tensor:
    """1.0 for classes that are labelled in an image, `(rows, classes)`.

    Args:
        objects: `(rows, objects, 5)`; class `-2 - c` says that class c is not labelled, as
            `Detection.target` writes it.
        num_classes: int.
    """
    unlabelled = ops.cast(-2.0 - objects[..., 4:], "int32")
    is_unlabelled = ops.any(ops.equal(unlabelled, ops.arange(num_classes)), axis=1)
    return 1.0 - ops.cast(is_unlabelled, "float32")


@keras.saving.register_keras_serializable("mtl_keras")
class CenterNetLoss(keras.losses.Loss):
    """Focal loss of the heat map, and the absolute error of size and offset at the objects'
    centers, a value an image.

    Heat: `-(1 - p)^2 log p` at centers and `-(1 - t)^4 p^2 log(1 - p)` elsewhere, divided by the
        number of objects (at least
    1). Size: `size_weight` times the absolute error of width and height. Offset: `offset_weight`
    times that of the center's place in its cell.

    Reference:
        Zhou, Wang, Kraehenbuehl, "Objects as Points", 2019. There sizes are in pixels of the map
        and weighed 0.1; here they are parts of the image, weighed 5.
    """

    def __init__(
        self,
        size_weight: float = 5.0,
        offset_weight: float = 1.0,
        name: str = "center_loss",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.size_weight, self.offset_weight = float(size_weight), float(offset_weight)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        height, width, size = y_pred.shape[1:]
        heat, cell, there = center_targets(y_true, height, width, size - 4)
        count = ops.maximum(ops.sum(there, axis=1), 1.0)
        p = ops.clip(y_pred[..., :-4], _CLIP, 1 - _CLIP)
        center = ops.cast(heat > 1 - 1e-6, "float32")
        hit = -center * ops.square(1 - p) * ops.log(p)
        miss = -(1 - center) * ops.power(1 - heat, 4) * ops.square(p) * ops.log(1 - p)
        is_labelled = labelled_classes(y_true, size - 4)[:, None, None, :]
        loss = ops.sum((hit + miss) * is_labelled, axis=(1, 2, 3)) / count
        found = ops.matmul(cell, ops.reshape(y_pred[..., -4:], (-1, height * width, 4)))
        wide, high = y_true[..., 2] - y_true[..., 0], y_true[..., 3] - y_true[..., 1]
        x, y = (
            (y_true[..., 0] + y_true[..., 2]) / 2 * width,
            (y_true[..., 1] + y_true[..., 3]) / 2 * height,
        )
        off_size = ops.abs(found[..., 0] - wide) + ops.abs(found[..., 1] - high)
        off_place = ops.abs(found[..., 2] - (x - ops.floor(x))) + ops.abs(
            found[..., 3] - (y - ops.floor(y))
        )
        at_centers = self.size_weight * off_size + self.offset_weight * off_place
        return loss + ops.sum(at_centers * there, axis=1) / count

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "size_weight": self.size_weight,
            "offset_weight": self.offset_weight,
        }


def peaks(output: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best peaks of a detector's output: `(boxes, scores, classes)`, best first.

    A peak is a cell that none of its eight neighbors exceeds, class by class.
    """
    height, width, size = output.shape[1:]
    heat = output[..., :-4]
    top = ops.max_pool(heat, 3, 1, "same")
    heat = ops.where(heat >= top, heat, 0.0)
    scores, index = ops.top_k(
        ops.reshape(heat, (-1, height * width * (size - 4))),
        min(count, height * width * (size - 4)),
    )
    classes, cells = index % (size - 4), index // (size - 4)
    flat = ops.reshape(output[..., -4:], (-1, height * width, 4))
    found = ops.take_along_axis(flat, ops.expand_dims(cells, -1), axis=1)
    x = (ops.cast(cells % width, "float32") + found[..., 2]) / width
    y = (ops.cast(cells // width, "float32") + found[..., 3]) / height
    half_w, half_h = found[..., 0] / 2, found[..., 1] / 2
    return ops.stack([x - half_w, y - half_h, x + half_w, y + half_h], -1), scores, classes


def unsuppressed(boxes: Tensor, classes: Any, overlap: float) -> Tensor:
    """Greedy non-maximum suppression of boxes `(rows, count, 4)`, best first: 1.0 where a box
    stays, `(rows, count)`.

    A box stays if no better box of its class that stays overlaps it by more than `overlap`.
    """
    count = boxes.shape[1]
    near = box_iou(boxes[:, :, None], boxes[:, None, :]) > overlap
    same = classes[:, :, None] == classes[:, None, :]
    better = np.tril(np.ones((count, count), bool), -1)
    rivals = ops.cast(ops.logical_and(ops.logical_and(near, same), better), "float32")
    stays = ops.ones_like(boxes[:, :, 0])
    for _ in range(count - 1):
        # After i rounds the first i + 1 boxes are decided.
        stays = 1.0 - ops.max(rivals * stays[:, None, :], axis=2)
    return stays


@keras.saving.register_keras_serializable("mtl_keras")
class MeanAveragePrecision(keras.metrics.Metric):
    """Mean over classes of average precision at one overlap.

    The predictions are those that `Detection.decode` names, without its threshold: the best peaks,
    boxes cut at the image's edges, and no box that overlaps a better one of its class by more than
    `suppression`. Predictions of an image are matched to its objects of the same class, best score
    first, each object once. Scores are kept in `bins` equal bins; the curve is the area under the
    precision envelope (PASCAL VOC since 2010). Classes without objects are left out.

    Args:
        num_classes: int.
        overlap: float. Intersection over union from which a prediction is right. Defaults to 0.5.
        max_objects: int. Peaks per image that count. Defaults to 20.
        bins: int. Defaults to 200.
        suppression: float or None. `Detection` gives its `overlap`. None ranks all peaks. Defaults
            to 0.5.
    """

    def __init__(
        self,
        num_classes: int,
        overlap: float = 0.5,
        max_objects: int = 20,
        bins: int = 200,
        suppression: float | None = 0.5,
        name: str = "map",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.num_classes, self.overlap, self.max_objects, self.bins = (
            int(num_classes),
            float(overlap),
            int(max_objects),
            bins,
        )
        self.suppression = None if suppression is None else float(suppression)
        shape = (self.num_classes, self.bins)
        self.right = self.add_weight(shape=shape, initializer="zeros", name="right")
        self.wrong = self.add_weight(shape=shape, initializer="zeros", name="wrong")
        self.objects = self.add_weight(
            shape=(self.num_classes,), initializer="zeros", name="objects"
        )

    def update_state(
        self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None
    ) -> None:
        boxes, scores, classes = peaks(ops.cast(y_pred, "float32"), self.max_objects)
        if self.suppression is not None:
            boxes = ops.clip(boxes, 0.0, 1.0)
            # A score of 0 is no prediction.
            scores = scores * unsuppressed(boxes, classes, self.suppression)
        y_true = ops.cast(y_true, "float32")
        there = y_true[..., 4] >= 0
        weight = ops.ones_like(scores[:, 0])
        if sample_weight is not None:
            weight = weight * ops.cast(sample_weight, "float32")
        free, hits = ops.cast(there, "float32"), []
        for i in range(boxes.shape[1]):
            fits = box_iou(boxes[:, i : i + 1], y_true[..., :4]) * free
            fits = fits * ops.cast(
                y_true[..., 4] == ops.cast(classes[:, i : i + 1], "float32"), "float32"
            )
            hit = ops.cast(ops.max(fits, axis=1) >= self.overlap, "float32")
            best = (
                ops.one_hot(ops.argmax(fits, axis=1), fits.shape[1], dtype="float32")
                if fits.shape[1]
                else fits
            )
            free = free * (1 - best * hit[:, None])
            hits.append(hit)
        hit = ops.stack(hits, axis=1)
        counted = weight[:, None] * ops.cast(scores > 0, "float32")
        column = ops.one_hot(
            ops.cast(ops.clip(scores * self.bins, 0, self.bins - 1), "int32"),
            self.bins,
            dtype="float32",
        )
        kind = ops.one_hot(ops.cast(classes, "int32"), self.num_classes, dtype="float32")
        # Nobody knows whether predictions of classes that are not labelled are right.
        kind = kind * labelled_classes(y_true, self.num_classes)[:, None, :]
        place = kind[..., :, None] * column[..., None, :]
        self.right.assign_add(ops.sum(place * (hit * counted)[..., None, None], axis=(0, 1)))
        self.wrong.assign_add(ops.sum(place * ((1 - hit) * counted)[..., None, None], axis=(0, 1)))
        true_kind = ops.one_hot(
            ops.cast(ops.maximum(y_true[..., 4], 0), "int32"), self.num_classes, dtype="float32"
        )
        self.objects.assign_add(
            ops.sum(
                true_kind * (ops.cast(there, "float32") * weight[:, None])[..., None], axis=(0, 1)
            )
        )

    def result(self) -> Tensor:
        right = ops.cumsum(ops.flip(self.right.value, axis=1), axis=1)
        wrong = ops.cumsum(ops.flip(self.wrong.value, axis=1), axis=1)
        said = right + wrong
        precision = ops.divide_no_nan(right, said)
        # Precision at a recall is the best at this recall or beyond.
        later = ops.arange(self.bins)[:, None] <= ops.arange(self.bins)[None, :]
        envelope = ops.max(ops.where(later[None], precision[:, None, :], 0.0), axis=-1)
        objects = self.objects.value
        recall = right / ops.maximum(objects, 1.0)[:, None]
        steps = ops.concatenate([recall[:, :1], recall[:, 1:] - recall[:, :-1]], axis=1)
        average = ops.sum(steps * envelope, axis=1)
        known = ops.cast(objects > 0, "float32")
        return ops.sum(average * known) / ops.maximum(ops.sum(known), 1.0)

    def reset_state(self) -> None:
        for variable in (self.right, self.wrong, self.objects):
            variable.assign(ops.zeros_like(variable))

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "overlap": self.overlap,
            "max_objects": self.max_objects,
            "bins": self.bins,
            "suppression": self.suppression,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class Detection(Task):
    """Any number of objects, each a box and a class; no anchors.

    The output is a grid, shape `(rows, height, width, num_classes + 4)`: for each cell the
    probability that an object of each class has its center there, then width and height as parts of
    the image and the center's place in the cell, all 0 to 1. Labels have shape
    `(rows, objects, 5)`: left, top, right, bottom (0 to 1) and class; class -1 fills up rows with
    fewer objects. A row of NaN has no label; a row without objects is a label too. An object whose
    box is NaN says that its class is not labelled in this image: neither the loss nor the metric
    looks at that class there (`mtl.data.only_labelled` writes such objects).

    Args:
        name: str. See `Task`.
        num_classes: int >= 1.
        labels: list of str. The classes' names.
        stride: int. The grid is at the largest stage that is at most the image's size divided by
            this. Defaults to 4.
        channels: int. Channels of the decoder. Defaults to 32.
        threshold: float. Probability from which `decode` names an object. Defaults to 0.3.
        overlap: float. `decode` and the metric drop boxes that overlap a better one of their class
            by more. Defaults to 0.5.
        max_objects: int. `decode` and the metric look at this many peaks. Defaults to 20.

    Examples:
        >>> mtl.tasks.Detection("things", num_classes=2, labels=["cup", "plate"])

    Reference:
        Zhou, Wang, Kraehenbuehl, "Objects as Points", 2019 (CenterNet).
    """

    kind = "detection"
    likelihood = "categorical"

    def __init__(
        self,
        name: str,
        num_classes: int = 1,
        *,
        labels: Sequence[str] | None = None,
        stride: int = 4,
        channels: int = 32,
        threshold: float = 0.3,
        overlap: float = 0.5,
        max_objects: int = 20,
        **kwargs: Any,
    ):
        super().__init__(name, **kwargs)
        if int(num_classes) < 1:
            raise ValueError(f"Task '{name}' needs at least 1 class, got {num_classes}.")
        if labels is not None and len(labels) != num_classes:
            raise ValueError(
                f"Task '{name}' has {num_classes} classes but {len(labels)} labels were given."
            )
        if stride < 1 or max_objects < 1:
            raise ValueError(
                f"Task '{name}' needs stride and max_objects >= 1, got {stride} and {max_objects}."
            )
        self.num_classes, self.stride, self.channels = int(num_classes), int(stride), int(channels)
        self.threshold, self.overlap, self.max_objects = (
            float(threshold),
            float(overlap),
            int(max_objects),
        )
        self.labels = None if labels is None else [str(label) for label in labels]

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return (None, None, self.num_classes + 4)

    @property
    def label_shape(self) -> tuple[int | None, ...]:
        return (None, 5)

    def missing(self, rows: int, output_shape: Sequence[int | None] | None = None) -> np.ndarray:
        return np.full((rows, 1, 5), np.nan, "float32")

    def default_head(self, features: dict[str, Any], input_shape: Any) -> Tensor:
        if input_shape is None or len(input_shape) != 3 or None in input_shape[:2]:
            raise ValueError(
                f"Task '{self.name}' needs images of fixed size, got inputs of shape {input_shape}."
            )
        size = (-(-input_shape[0] // self.stride), -(-input_shape[1] // self.stride))
        x = map_decoder(self.name, features, input_shape, self.channels, size)
        # Few cells hold an object: all start improbable, so that the first steps are not spent on
        # saying so.
        rare = _Biases([-2.19] * self.num_classes + [0.0] * 4)
        return keras.layers.Conv2D(
            self.num_classes + 4, 1, bias_initializer=rare, name=f"{self.name}_linear"
        )(x)

    def activate(self, x: Tensor) -> Tensor:
        return keras.activations.sigmoid(x)

    def default_loss(self) -> Any:
        return CenterNetLoss()

    def default_metrics(self) -> list[TaskMetric]:
        metric = MeanAveragePrecision(
            self.num_classes, max_objects=self.max_objects, suppression=self.overlap
        )
        return [TaskMetric(metric, True)]

    def target(self, y: Tensor) -> tuple[Tensor, Tensor]:
        y = ops.cast(y, "float32")
        known = finite(y)
        # A row has no label where nothing of it is finite; an entry that is not finite is no
        # object.
        whole = ops.all(known, axis=-1)
        kind = y[..., 4:]
        is_unlabelled = ops.logical_and(
            ops.logical_not(ops.any(known[..., :4], axis=-1, keepdims=True)), kind >= 0
        )
        # NaN as a class compares as false.
        kind = ops.where(is_unlabelled, -2.0 - kind, -1.0)
        nothing = ops.concatenate([ops.zeros_like(y[..., :4]), kind], axis=-1)
        return ops.where(ops.expand_dims(whole, -1), y, nothing), ops.any(whole, axis=-1)

    def _check_values(self, y: Tensor) -> None:
        values = y.astype(float)
        boxes, kinds = values[..., :4], values[..., 4]
        there = np.isfinite(kinds) & (kinds != -1)
        # A class without a box is not labelled in this image.
        has_box = np.isfinite(boxes).any(-1)
        self._refuse(
            boxes,
            (there & has_box)[..., None] & ~((boxes >= 0) & (boxes <= 1)),
            "parts of the image's size, 0 to 1",
        )
        bad = there & ((kinds < 0) | (kinds >= self.num_classes) | (kinds != np.floor(kinds)))
        self._refuse(
            kinds,
            bad,
            f"classes from 0 to {self.num_classes - 1}, or -1 where there is no further object",
        )
        turned = there & ((boxes[..., 0] > boxes[..., 2]) | (boxes[..., 1] > boxes[..., 3]))
        if turned.any():
            raise ValueError(
                f"{int(turned.sum())} boxes of task '{self.name}' have right < left or bottom < "
                f"top, for example "
                f"{boxes[turned][0].tolist()}; expected (left, top, right, bottom, class)."
            )

    def baseline(self, y: Any) -> np.ndarray:
        # No object anywhere; one cell stands for a map of any size.
        return np.zeros((1, 1, self.num_classes + 4), "float32")

    def facts(self) -> dict[str, Any]:
        facts = {
            "num_classes": self.num_classes,
            "labels": self.labels,
            "threshold": self.threshold,
        }
        facts |= {"overlap": self.overlap, "max_objects": self.max_objects}
        return {
            **super().facts(),
            **facts,
            "format": "heat map, width, height, offsets",
            "activation": "sigmoid",
        }

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "labels": self.labels,
            "stride": self.stride,
            "channels": self.channels,
            "threshold": self.threshold,
            "overlap": self.overlap,
            "max_objects": self.max_objects,
        }


@keras.saving.register_keras_serializable("mtl_keras")
class _Biases(keras.initializers.Initializer):
    """One value a channel."""

    def __init__(self, values: Sequence[float]):
        self.values = [float(v) for v in values]

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        return ops.convert_to_tensor(self.values, dtype=dtype)

    def get_config(self) -> Config:
        return {"values": self.values}
