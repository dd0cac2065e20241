"""How the labels of each kind of task follow what a step does to a picture.

One class for each kind of label; `EFFECTS` are its methods. A method that a class does not have is
an effect that its labels cannot express: such a step is refused for such a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from mtl_keras import tasks as kinds
from mtl_keras.data.augment import geometry
from mtl_keras.data.augment.step import Batch, Settings
from mtl_keras.tasks import Task

__all__ = ["EFFECTS", "Move", "Part", "blend", "cover", "paste", "rule_of", "warp"]

#: What steps do; "none" asks nothing of labels.
EFFECTS = ("none", "warp", "cover", "blend", "paste", "shift")


@dataclass(frozen=True)
class Move:
    """One affine map per row, and what can be seen after it.

    Args:
        matrix: `(rows, 3, 3)`, places before to places after (see `geometry`).
        frame: `(rows, 4)`. The part of the new picture that shows this one.
        height, width: of the picture, in pixels.
        settings: those of the augmenter.
    """

    matrix: Any
    frame: Any
    height: Any
    width: Any
    settings: Settings

    @property
    def linear(self) -> Any:
        return geometry.linear_in_pixels(self.matrix, self.height, self.width)

    @property
    def zoom(self) -> Any:
        """How many times larger things are, `(rows,)`."""
        return tf.sqrt(tf.abs(tf.linalg.det(self.linear)))


@dataclass(frozen=True)
class Part:
    """One of the pictures that a new one is put together from.

    Args:
        rows: `(rows,)` of int. The row of the batch that each new picture takes this part from.
        move: where it goes; its frame is the part that it shows.
        share: `(rows,)`. Its share of the new picture's area.
        hidden: `(rows, 4)` or None. A rectangle in which another part lies upon it.
    """

    rows: Any
    move: Move
    share: Any
    hidden: Any = None

    def take(self, labels: Any) -> Any:
        return tf.gather(labels, self.rows)


# ------------------------------------------------------------------ helpers
def _per_row(values: Any, labels: Any) -> Any:
    """`(rows,)` in a shape that broadcasts to labels."""
    return tf.reshape(values, [-1, *[1] * (len(labels.shape) - 1)])


def _mix(parts: Sequence[tuple[Any, Any]], missing: Any) -> Any:
    """The mean of labels by their shares; missing where a part that counts is.

    Args:
        parts: pairs of labels (float, in one shape) and their shares.
        missing: function of labels to bool, what is missing, in a shape that broadcasts.
    """
    total, is_missing = 0.0, False
    for labels, share in parts:
        share = _per_row(share, labels)
        gap = missing(labels)
        total += share * tf.where(gap, 0.0, labels)
        is_missing |= gap & (share > 0)
    return total, is_missing


def _is_no_probability(labels: Any) -> Any:
    return ~tf.math.is_finite(labels) | (labels < 0)


def _signed(labels: Any) -> Any:
    """Labels in a dtype that can hold -1."""
    is_unsigned = labels.dtype.is_bool or labels.dtype.is_unsigned
    return tf.cast(labels, tf.int32) if is_unsigned else labels


# ------------------------------------------------------------------ one class per kind of label
class _Unplaced:
    """Labels of the whole picture: moving it or hiding a part of it changes nothing."""

    texts: Mapping[str, str] = {"warp": "unchanged", "cover": "unchanged", "shift": "unchanged"}

    def warp(self, task: Task, y: Any, move: Move) -> Any:
        return y

    def cover(self, task: Task, y: Any, rectangle: Any, settings: Settings) -> Any:
        return y

    def shift(self, task: Task, y: Any) -> Any:
        return y


class _Numbers(_Unplaced):
    """Regression: averages of numbers."""

    texts: Mapping[str, str] = {**_Unplaced.texts, "blend": "averaged", "paste": "averaged by area"}

    def _missing(self, y: Any) -> Any:
        gaps = ~tf.math.is_finite(y)
        return gaps if len(y.shape) == 1 else tf.reduce_any(gaps, axis=-1, keepdims=True)

    def _float(self, task: Any, y: Any) -> Any:
        return tf.cast(y, tf.float32)

    def average(self, task: Task, parts: Sequence[tuple[Any, Any]]) -> Any:
        parts = [(self._float(task, y), share) for y, share in parts]
        total, is_missing = _mix(parts, self._missing)
        return tf.where(is_missing, float(task.missing_value), total)

    def blend(self, task: Task, y: Any, other: Any, share: Any) -> Any:
        return self.average(task, [(y, share), (other, 1 - share)])

    def paste(self, task: Task, y: Any, parts: Sequence[Part]) -> Any:
        return self.average(task, [(part.take(y), part.share) for part in parts])


class _YesNo(_Numbers):
    """Binary and MultiLabel: a probability of yes; each entry may be missing by itself."""

    texts: Mapping[str, str] = {
        **_Unplaced.texts,
        "blend": "probabilities",
        "paste": "probabilities by area",
    }

    def _missing(self, y: Any) -> Any:
        return _is_no_probability(y)


class _Classes(_YesNo):
    """Classification and Ordinal: a probability per class."""

    def _missing(self, y: Any) -> Any:
        return tf.reduce_any(_is_no_probability(y), axis=-1, keepdims=True)

    def _float(self, task: Any, y: Any) -> Any:
        if len(y.shape) == 2 and y.shape[-1] == task.num_classes:
            return tf.cast(y, tf.float32)
        y = tf.reshape(tf.cast(y, tf.float32), [-1])
        missing = _is_no_probability(y)
        soft = tf.one_hot(tf.cast(tf.where(missing, 0.0, y), tf.int32), task.num_classes)
        return tf.where(missing[:, None], -1.0, soft)


class _Box:
    """BoundingBox."""

    texts: Mapping[str, str] = {
        "warp": "moved and clipped; missing where mostly outside",
        "cover": "missing where mostly hidden",
    }

    def warp(self, task: Task, y: Any, move: Move) -> Any:
        y = tf.cast(y, tf.float32)
        box, visible = geometry.clip_boxes(y[:, None], move.matrix, move.frame)
        is_seen = visible >= move.settings.min_visible
        return tf.where(is_seen, box[:, 0], float("nan"))

    def cover(self, task: Task, y: Any, rectangle: Any, settings: Settings) -> Any:
        y = tf.cast(y, tf.float32)
        is_seen = 1 - _hidden_share(y[:, None], rectangle) >= settings.min_visible
        return tf.where(is_seen, y, float("nan"))


def _hidden_share(boxes: Any, rectangle: Any) -> Any:
    """Share of each box `(rows, objects, 4)` that lies in a rectangle `(rows, 4)`."""
    rectangle = rectangle[:, None]
    low = tf.maximum(boxes[..., :2], rectangle[..., :2])
    high = tf.minimum(boxes[..., 2:], rectangle[..., 2:])
    shared = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    return tf.math.divide_no_nan(shared, tf.reduce_prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


class _Boxes:
    """Detection: rows of boxes and classes, filled up with class -1."""

    texts: Mapping[str, str] = {
        "warp": "moved and clipped; dropped where mostly outside",
        "cover": "dropped where mostly hidden",
        "paste": "those of all parts, clipped",
    }

    def _keep(self, y: Any, boxes: Any, is_seen: Any) -> Any:
        """Objects with new boxes; those that are not seen become fillers. Rows that lack labels
        stay as they are."""
        has_object = tf.reduce_all(tf.math.is_finite(y), -1) & (y[..., 4] >= 0)
        is_filler = tf.reduce_all(tf.math.is_finite(y), -1) & ~(has_object & is_seen)
        filler = tf.constant([0.0, 0.0, 0.0, 0.0, -1.0])
        moved = tf.concat([boxes, y[..., 4:]], -1)
        return tf.where(
            (has_object & is_seen)[..., None], moved, tf.where(is_filler[..., None], filler, y)
        )

    def warp(self, task: Task, y: Any, move: Move) -> Any:
        y = tf.cast(y, tf.float32)
        boxes, visible = geometry.clip_boxes(y[..., :4], move.matrix, move.frame)
        return self._keep(y, boxes, visible >= move.settings.min_visible)

    def cover(self, task: Task, y: Any, rectangle: Any, settings: Settings) -> Any:
        y = tf.cast(y, tf.float32)
        is_seen = 1 - _hidden_share(y[..., :4], rectangle) >= settings.min_visible
        return self._keep(y, y[..., :4], is_seen)

    def paste(self, task: Task, y: Any, parts: Sequence[Part]) -> Any:
        pieces, is_missing = [], tf.zeros_like(parts[0].share, tf.bool)
        for part in parts:
            labels = part.take(tf.cast(y, tf.float32))
            gap = ~tf.reduce_any(tf.reduce_all(tf.math.is_finite(labels), -1), -1)
            is_missing |= gap & (part.share > 0)
            labels = self.warp(task, labels, part.move)
            if part.hidden is not None:
                labels = self.cover(task, labels, part.hidden, part.move.settings)
            is_part = (part.share > 0)[:, None, None] & tf.math.is_finite(labels)
            pieces.append(tf.where(is_part, labels, tf.constant([0.0, 0.0, 0.0, 0.0, -1.0])))
        return tf.where(is_missing[:, None, None], float("nan"), tf.concat(pieces, 1))


class _Points:
    """Keypoints; a mirrored picture swaps left and right."""

    texts: Mapping[str, str] = {
        "warp": "moved; left and right swapped where mirrored; missing where outside",
        "cover": "missing where hidden",
    }

    def warp(self, task: Any, y: Any, move: Move) -> Any:
        moved = geometry.move_points(tf.cast(y, tf.float32), move.matrix)
        low, high = move.frame[:, None, :2], move.frame[:, None, 2:]
        inside = tf.reduce_all((moved >= low) & (moved <= high), axis=-1)
        moved = tf.where(inside[..., None], moved, float("nan"))
        is_mirrored = tf.linalg.det(move.linear) < 0
        swapped = tf.gather(moved, task.mirrored_order, axis=1)
        return tf.where(is_mirrored[:, None, None], swapped, moved)

    def cover(self, task: Task, y: Any, rectangle: Any, settings: Settings) -> Any:
        y = tf.cast(y, tf.float32)
        low, high = rectangle[:, None, :2], rectangle[:, None, 2:]
        is_hidden = tf.reduce_all((y >= low) & (y < high), axis=-1)
        return tf.where(is_hidden[..., None], float("nan"), y)


class _LabelMap:
    """Base of labels for every pixel."""

    texts: Mapping[str, str] = {
        "warp": "moved, nearest pixel; missing outside",
        "cover": "missing where hidden",
        "paste": "those of the part that shows",
    }
    missing = float("nan")

    def _prepare(self, y: Any) -> Any:
        return tf.cast(y, tf.float32)

    def _turn(self, task: Any, y: Any, move: Move) -> Any:
        """Values of a moved map as they are after the move."""
        return y

    def warp(self, task: Task, y: Any, move: Move) -> Any:
        y = self._prepare(y)
        return self._turn(task, geometry.warp_map(y, move.matrix, self.missing), move)

    def cover(self, task: Task, y: Any, rectangle: Any, settings: Settings) -> Any:
        y = self._prepare(y)
        is_hidden = _as_mask(geometry.in_rectangle(y, rectangle), y)
        return tf.where(is_hidden, tf.cast(self.missing, y.dtype), y)

    def paste(self, task: Task, y: Any, parts: Sequence[Part]) -> Any:
        result = self.warp(task, parts[0].take(y), parts[0].move)
        for part in parts[1:]:
            shown = _as_mask(geometry.in_rectangle(result, part.move.frame), result)
            result = tf.where(shown, self.warp(task, part.take(y), part.move), result)
        return result


def _as_mask(mask: Any, labels: Any) -> Any:
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (len(labels.shape) - 3)], 0))


class _Segments(_LabelMap):
    """Segmentation."""

    texts: Mapping[str, str] = {**_LabelMap.texts, "blend": "probabilities per pixel"}
    missing = -1.0

    def _prepare(self, y: Any) -> Any:
        return _signed(y)

    def _soft(self, task: Any, y: Any) -> Any:
        if task.num_classes == 1 or (len(y.shape) == 4 and y.shape[-1] == task.num_classes):
            return tf.cast(y, tf.float32)
        y = tf.cast(y[..., 0] if len(y.shape) == 4 else y, tf.float32)
        missing = _is_no_probability(y)
        soft = tf.one_hot(tf.cast(tf.where(missing, 0.0, y), tf.int32), task.num_classes)
        return tf.where(missing[..., None], -1.0, soft)

    def blend(self, task: Any, y: Any, other: Any, share: Any) -> Any:
        def missing(labels: Any) -> Any:
            gaps = _is_no_probability(labels)
            if task.num_classes == 1:
                return gaps
            return tf.reduce_any(gaps, axis=-1, keepdims=True)

        parts = [(self._soft(task, y), share), (self._soft(task, other), 1 - share)]
        total, is_missing = _mix(parts, missing)
        return tf.where(is_missing, -1.0, total)


class _Depths(_LabelMap):
    """Depth: with a fixed camera, what is twice as large is half as far away."""

    texts: Mapping[str, str] = {
        **_LabelMap.texts,
        "warp": "moved, nearest pixel; divided by the zoom; missing outside",
        "paste": "those of the part that shows, divided by its zoom",
    }

    def _turn(self, task: Any, y: Any, move: Move) -> Any:
        return y / _per_row(move.zoom, y) if move.settings.fixed_camera else y


class _Normals(_LabelMap):
    """Normals: the scene is turned, mirrored and, with a fixed camera, stretched as the picture."""

    texts: Mapping[str, str] = {
        **_LabelMap.texts,
        "warp": "moved, nearest pixel; turned with the picture; missing outside",
        "paste": "those of the part that shows, turned with it",
    }

    def _turn(self, task: Any, y: Any, move: Move) -> Any:
        linear = move.linear if move.settings.fixed_camera else _nearest_rotation(move.linear)
        # A scene that is stretched by A has normals that are stretched by its inverse transpose.
        det = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
        up = -1.0 if task.y_axis == "up" else 1.0

        def part(values: Any) -> Any:
            return (values / det)[:, None, None]

        x, y_, z = y[..., 0], up * y[..., 1], y[..., 2]
        new_x = part(linear[:, 1, 1]) * x - part(linear[:, 1, 0]) * y_
        new_y = -part(linear[:, 0, 1]) * x + part(linear[:, 0, 0]) * y_
        turned = tf.stack([new_x, up * new_y, z], -1)
        return tf.math.divide_no_nan(turned, tf.norm(turned, axis=-1, keepdims=True))


def _nearest_rotation(linear: Any) -> Any:
    """The rotation, or reflection, that is nearest to matrices `(rows, 2, 2)`."""
    a, b, c, d = linear[:, 0, 0], linear[:, 0, 1], linear[:, 1, 0], linear[:, 1, 1]
    sign = tf.sign(a * d - b * c)
    angle = tf.atan2(c - sign * b, a + sign * d)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return tf.stack([tf.stack([cos, -sign * sin], -1), tf.stack([sin, sign * cos], -1)], -2)


class _Sequences:
    """TokenTagging and SequenceTranscription: only steps that leave order and length alone."""

    texts: Mapping[str, str] = {}


_RULES: dict[type[Task], Any] = {
    kinds.Classification: _Classes(),
    kinds.Ordinal: _Classes(),
    kinds.Binary: _YesNo(),
    kinds.MultiLabel: _YesNo(),
    kinds.Regression: _Numbers(),
    kinds.Embedding: _Unplaced(),
    kinds.BoundingBox: _Box(),
    kinds.Detection: _Boxes(),
    kinds.Keypoints: _Points(),
    kinds.Segmentation: _Segments(),
    kinds.Depth: _Depths(),
    kinds.Normals: _Normals(),
    kinds.TokenTagging: _Sequences(),
    kinds.SequenceTranscription: _Sequences(),
}


def rule_of(task: Task | type[Task]) -> Any:
    """What is known about the labels of a task, or None: nothing but that they may stay."""
    cls = task if isinstance(task, type) else type(task)
    return next((_RULES[base] for base in cls.__mro__ if base in _RULES), None)


# ------------------------------------------------------------------ all labels of a batch
def warp(batch: Batch, move: Move) -> dict[str, Any]:
    """All labels after a move."""
    return {
        name: rule_of(task).warp(task, batch.y[name], move)
        for name, task in batch.settings.tasks.items()
    }


def cover(batch: Batch, rectangle: Any) -> dict[str, Any]:
    """All labels where a rectangle `(rows, 4)` is hidden."""
    return {
        name: rule_of(task).cover(task, batch.y[name], rectangle, batch.settings)
        for name, task in batch.settings.tasks.items()
    }


def blend(batch: Batch, partner: Any, share: Any) -> tuple[dict[str, Any], Any]:
    """All labels and weights where each row is averaged with its partner."""
    y = {
        name: rule_of(task).blend(task, batch.y[name], tf.gather(batch.y[name], partner), share)
        for name, task in batch.settings.tasks.items()
    }
    rows = tf.range(tf.shape(partner)[0])
    return y, _mix_weights(batch.w, [(rows, share), (partner, 1 - share)])


def paste(batch: Batch, parts: Sequence[Part]) -> tuple[dict[str, Any], Any]:
    """All labels and weights of pictures that are put together from parts."""
    y = {
        name: rule_of(task).paste(task, batch.y[name], parts)
        for name, task in batch.settings.tasks.items()
    }
    return y, _mix_weights(batch.w, [(part.rows, part.share) for part in parts])


def _mix_weights(w: Any, parts: Sequence[tuple[Any, Any]]) -> Any:
    """Weights of mixed rows: the mean by share, and 0 where a part that counts weighs 0, since its
    label may be anything."""

    def mix(weight: Any) -> Any:
        values = [(tf.cast(tf.gather(weight, rows), tf.float32), share) for rows, share in parts]
        total, is_zero = _mix(values, lambda v: v == 0)
        return tf.cast(tf.where(is_zero, 0.0, total), weight.dtype)

    return None if w is None else tf.nest.map_structure(mix, w)
