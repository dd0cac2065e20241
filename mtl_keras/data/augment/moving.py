"""Steps that move a picture: flips, crops, rotations, zooms. Labels move by the same matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from mtl_keras.data.augment import labels
from mtl_keras.data.augment.geometry import affine, size_of, warp_pictures
from mtl_keras.data.augment.photometric import check_pictures
from mtl_keras.data.augment.step import Batch, Draws, Step, register_step

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Crop", "Flip", "Moving", "Rotate", "Scale", "whole_frame"]


def whole_frame(rows: Any) -> Any:
    """The rectangle of the whole picture, `(rows, 4)`."""
    return tf.tile(tf.constant([[0.0, 0.0, 1.0, 1.0]]), tf.stack([rows, 1]))


class Moving(Step):
    """Base of steps that move a picture by one affine matrix per row.

    Moving steps that follow each other are joined to one matrix, and the picture is sampled once,
    bilinear. What comes from outside of the picture is filled with the least of the value range
    (black). Label maps take the nearest pixel, and miss a label outside.
    """

    effect = "warp"

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        """Matrices `(rows, 3, 3)`, from places before to places after (`geometry`)."""
        raise NotImplementedError

    def chosen_matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        """`matrix`, and no move where the step does not happen."""
        happens = draws.happens(self.probability)
        matrix = self.matrix(height, width, draws)
        return tf.where(happens[:, None, None], matrix, tf.eye(3))

    def change(self, batch: Batch, draws: Draws) -> Batch:
        return move_batch(batch, self.chosen_matrix(*size_of(batch.x), draws))


def move_batch(batch: Batch, matrix: Any) -> Batch:
    """Pictures and labels after one matrix per row."""
    x = warp_pictures(batch.x, matrix, batch.settings.value_range[0])
    move = labels.Move(matrix, whole_frame(batch.rows), *size_of(batch.x), batch.settings)
    return Batch(x, labels.warp(batch, move), batch.w, batch.settings)


@register_step
class Flip(Moving):
    """Mirror pictures: left to right, top to bottom, or both, each by its own draw.

    Args:
        probability: float in [0, 1]. Of each direction. Defaults to 0.5.
        horizontal: bool. Left to right. Defaults to True.
        vertical: bool. Top to bottom. Defaults to False.

    Examples:
        >>> step = mtl.data.augment.Flip(vertical=True)
    """

    name = "flip"

    def __init__(
        self, probability: float = 0.5, horizontal: bool = True, vertical: bool = False
    ) -> None:
        super().__init__(probability)
        self.horizontal, self.vertical = bool(horizontal), bool(vertical)
        if not (self.horizontal or self.vertical):
            raise self._refuse("horizontal", "True where vertical=False", horizontal)

    def check_task(self, task: Task) -> str | None:
        if getattr(task, "mirrored_order", ()) is None:
            return (
                "a mirrored picture swaps left and right, and the task does not say which points "
                "are pairs: give `swaps=[(left, right), ...]` to Keypoints, or `swaps=[]` where "
                "no point has a side"
            )
        return None

    def matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        both = draws.uniform(2) < self.probability
        mirror_x = both[:, 0] & self.horizontal
        mirror_y = both[:, 1] & self.vertical
        x, y = tf.where(mirror_x, -1.0, 1.0), tf.where(mirror_y, -1.0, 1.0)
        return affine(x, 0.0, (1 - x) / 2, 0.0, y, (1 - y) / 2)

    def chosen_matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        return self.matrix(height, width, draws)


@register_step
class Crop(Moving):
    """Cut a random window out of the picture and bring it to the picture's size.

    Args:
        area: pair of float in (0, 1]. Share of the picture's area. Defaults to (0.5, 1.0): boxes
            stay in sight more often than with the (0.08, 1.0) of the reference.
        ratio: pair of float > 0. Width by height, relative to the picture's own. Defaults to
            (3/4, 4/3).
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Szegedy et al., "Going Deeper with Convolutions", CVPR 2015 (random resized crops).

    Examples:
        >>> step = mtl.data.augment.Crop(area=(0.7, 1.0))
    """

    name = "crop"

    def __init__(
        self,
        area: Sequence[float] = (0.5, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.area = self._interval("area", area, 1e-3, 1.0)
        self.ratio = self._interval("ratio", ratio, 0.1, 10.0)

    def matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        area = draws.uniform(low=self.area[0], high=self.area[1])
        low, high = (math.log(v) for v in self.ratio)
        ratio = tf.exp(draws.uniform(low=low, high=high))
        wide = tf.minimum(tf.sqrt(area * ratio), 1.0)
        high_ = tf.minimum(tf.sqrt(area / ratio), 1.0)
        corner = draws.uniform(2)
        left, top = corner[:, 0] * (1 - wide), corner[:, 1] * (1 - high_)
        return affine(1 / wide, 0.0, -left / wide, 0.0, 1 / high_, -top / high_)


def _about_center(a: Any, b: Any, c: Any, d: Any, height: Any, width: Any) -> Any:
    """The linear map ((a, b), (c, d)) of places in pixels, about the picture's center."""
    b, c = b * height / width, c * width / height
    return affine(a, b, 0.5 - 0.5 * (a + b), c, d, 0.5 - 0.5 * (c + d))


@register_step
class Rotate(Moving):
    """Turn pictures about their center.

    Args:
        degrees: float in [0, 180]. The angle is drawn from -degrees to degrees. Defaults to 15.
        probability: float in [0, 1]. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.Rotate(30, probability=0.5)
    """

    name = "rotate"

    def __init__(self, degrees: float = 15.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.degrees = self._positive("degrees", degrees)
        if self.degrees > 180:
            raise self._refuse("degrees", "at most 180", degrees)

    def matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        angle = draws.uniform(low=-1.0) * (self.degrees * math.pi / 180)
        cos, sin = tf.cos(angle), tf.sin(angle)
        return _about_center(cos, -sin, sin, cos, height, width)


@register_step
class Scale(Moving):
    """Zoom about the picture's center.

    Args:
        factor: pair of float > 0. How many times larger things get; below 1, black comes in at the
            edges. Defaults to (0.8, 1.25).
        probability: float in [0, 1]. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.Scale((1.0, 1.5))
    """

    name = "scale"

    def __init__(self, factor: Sequence[float] = (0.8, 1.25), probability: float = 1.0) -> None:
        super().__init__(probability)
        self.factor = self._interval("factor", factor, 0.05, 20.0)

    def matrix(self, height: Any, width: Any, draws: Draws) -> Any:
        low, high = (math.log(v) for v in self.factor)
        zoom = tf.exp(draws.uniform(low=low, high=high))
        return _about_center(zoom, 0.0 * zoom, 0.0 * zoom, zoom, height, width)
