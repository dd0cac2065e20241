"""Steps that mix rows of a batch: MixUp, CutMix, mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.data.augment import labels
from mtl_keras.data.augment.geometry import affine, in_rectangle, size_of, warp_pictures
from mtl_keras.data.augment.labels import Move, Part
from mtl_keras.data.augment.moving import whole_frame
from mtl_keras.data.augment.photometric import check_pictures, rectangle_in_pixels
from mtl_keras.data.augment.step import Batch, Draws, Step, register_step

__all__ = ["CutMix", "MixUp", "Mosaic"]


def _beta(alpha: float, draws: Draws) -> Any:
    """One number per row of the distribution Beta(alpha, alpha)."""
    first, _ = draws.split()
    second, _ = draws.split()
    shape = tf.stack([draws.rows])
    a = tf.random.stateless_gamma(shape, first, alpha)
    b = tf.random.stateless_gamma(shape, second, alpha)
    # Both round to 0 for a small alpha: then either end is as likely.
    return tf.where(a + b > 0, tf.math.divide_no_nan(a, a + b), tf.round(draws.uniform()))


@register_step
class MixUp(Step):
    """Average each row with another row of its batch, inputs and labels alike.

    Labels of classes become probabilities. A row whose label is missing makes the mixed label
    missing. Tasks whose labels have no average (boxes, points, depth, normals, embeddings) are
    refused.

    Args:
        alpha: float > 0. The share of the row itself is drawn from Beta(alpha, alpha). Defaults to
            0.2.
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.

    Examples:
        >>> step = mtl.data.augment.MixUp(alpha=0.4)
    """

    name, effect, kinds = "mixup", "blend", ("image", "sound", "array", "table")

    def __init__(self, alpha: float = 0.2, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.alpha = self._positive("alpha", alpha, 1e-3)

    def check_input(self, x: Any) -> None:
        if not x.dtype.is_floating and len(x.shape) != 4:
            raise ValueError(
                f"Step '{self.name}' averages numbers, and an input holds {x.dtype.name} (ids or "
                f"categories). Leave the step out, or use 'swap_noise' for tables."
            )

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = draws.happens(self.probability)
        share = tf.where(happens, _beta(self.alpha, draws), 1.0)
        (partner,) = draws.partners()
        own = tf.reshape(share, [-1, *[1] * (len(batch.x.shape) - 1)])
        x = own * batch.x + (1 - own) * tf.gather(batch.x, partner)
        y, w = labels.blend(batch, partner, share)
        return Batch(x, y, w, batch.settings)


@register_step
class CutMix(Step):
    """Paste a rectangle of another picture of the batch.

    Labels of classes become probabilities by area; label maps and detected objects come in with the
    rectangle. Tasks with one answer that cannot be mixed (one box, points, embeddings) are refused.

    Args:
        alpha: float > 0. The share of the area that the picture keeps is drawn from Beta(alpha,
            alpha). Defaults to 1.
        probability: float in [0, 1]. Defaults to 1.

    Reference:
        Yun et al., "CutMix", ICCV 2019.

    Examples:
        >>> step = mtl.data.augment.CutMix(probability=0.5)
    """

    name, effect = "cutmix", "paste"

    def __init__(self, alpha: float = 1.0, probability: float = 1.0) -> None:
        super().__init__(probability)
        self.alpha = self._positive("alpha", alpha, 1e-3)

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = draws.happens(self.probability)
        side = tf.where(happens, tf.sqrt(1 - _beta(self.alpha, draws)), 0.0)
        middle = draws.uniform(2)
        x, y = middle[:, 0], middle[:, 1]
        # As in the paper: the window stands anywhere, and the picture's edges cut it.
        edges = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
        window = rectangle_in_pixels(*edges, batch.x)
        (partner,) = draws.partners()
        share = (window[:, 2] - window[:, 0]) * (window[:, 3] - window[:, 1])
        rows, stays = tf.range(batch.rows), affine(tf.ones_like(x), 0.0, 0.0, 0.0, 1.0, 0.0)
        size = size_of(batch.x)
        own = Move(stays, whole_frame(batch.rows), *size, batch.settings)
        pasted = Move(stays, window, *size, batch.settings)
        parts = [Part(rows, own, 1 - share, hidden=window), Part(partner, pasted, share)]
        shown = in_rectangle(batch.x, window)[..., None]
        pictures = tf.where(shown, tf.gather(batch.x, partner), batch.x)
        return Batch(pictures, *labels.paste(batch, parts), batch.settings)


@register_step
class Mosaic(Step):
    """Put four pictures of the batch together, each in one corner.

    Each picture is zoomed out, so that a window of it fills its corner. Labels of classes become
    probabilities by area; label maps and detected objects come in with their picture. Tasks with
    one answer that cannot be mixed (one box, points, embeddings) are refused. Detection labels then
    have four times as many rows for objects.

    Args:
        center: pair of float in (0, 1). The place where the four meet is drawn from this range, in
            both directions. Defaults to (0.35, 0.65).
        probability: float in [0, 1]. Defaults to 0.5.

    Reference:
        Bochkovskiy, Wang, Liao, "YOLOv4", 2020.

    Examples:
        >>> step = mtl.data.augment.Mosaic(probability=1.0)
    """

    name, effect = "mosaic", "paste"

    def __init__(self, center: Sequence[float] = (0.35, 0.65), probability: float = 0.5) -> None:
        super().__init__(probability)
        self.center = self._interval("center", center, 0.05, 0.95)

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = draws.happens(self.probability)
        center = draws.uniform(2, low=self.center[0], high=self.center[1])
        x, y = center[:, 0], center[:, 1]
        zero, one = tf.zeros_like(x), tf.ones_like(x)
        corners = ((zero, zero, x, y), (x, zero, one, y), (zero, y, x, one), (x, y, one, one))
        members = [tf.range(batch.rows), *draws.partners(3)]
        parts, pictures = [], None
        for i, (rows, corner) in enumerate(zip(members, corners, strict=True)):
            frame = rectangle_in_pixels(*corner, batch.x)
            # Without a mosaic the first picture fills all, and the members nothing.
            whole = whole_frame(batch.rows) * (1.0 if i == 0 else 0.0)
            matrix = tf.where(happens[:, None, None], _fill(frame, draws), tf.eye(3))
            frame = tf.where(happens[:, None], frame, whole)
            share = (frame[:, 2] - frame[:, 0]) * (frame[:, 3] - frame[:, 1])
            move = Move(matrix, frame, *size_of(batch.x), batch.settings)
            parts.append(Part(rows, move, share))
            taken = tf.gather(batch.x, rows)
            zoomed = warp_pictures(taken, matrix, batch.settings.value_range[0])
            shown = in_rectangle(batch.x, frame)[..., None]
            pictures = zoomed if pictures is None else tf.where(shown, zoomed, pictures)
        return Batch(pictures, *labels.paste(batch, parts), batch.settings)


def _fill(frame: Any, draws: Draws) -> Any:
    """Matrices that zoom a picture so that a window of it fills a frame, without stretching it."""
    left, top, right, bottom = tf.unstack(frame, axis=-1)
    least = tf.maximum(right - left, bottom - top)
    zoom = least + (1 - least) * draws.uniform()
    place = draws.uniform(2)
    # The picture, `zoom` large, may stand anywhere that covers the frame.
    x0 = left - place[:, 0] * (zoom - (right - left))
    y0 = top - place[:, 1] * (zoom - (bottom - top))
    return affine(zoom, 0.0, x0, 0.0, zoom, y0)
