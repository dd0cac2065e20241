"""Steps that change pixels and leave places alone: color, blur, erased rectangles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from mtl_keras.data.augment import labels
from mtl_keras.data.augment.geometry import in_rectangle, size_of
from mtl_keras.data.augment.step import Batch, Draws, Step, register_step

__all__ = ["Blur", "Color", "Erase", "check_pictures", "rectangle_in_pixels"]

#: Brightness of red, green and blue (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def check_pictures(step: Step, x: Any) -> None:
    """Refuse inputs that are no batch of pictures."""
    if len(x.shape) != 4:
        raise ValueError(
            f"Step '{step.name}' changes pictures (rows, height, width, channels). "
            f"Received: an input of shape {tuple(x.shape)}."
        )


@register_step
class Color(Step):
    """Change brightness, contrast, saturation and hue, each by its own draw.

    Results are clipped to the value range. Pictures that have not 3 channels keep saturation and
    hue.

    Args:
        brightness: float in [0, 1]. Up to this share of the value range is added or taken away.
            Defaults to 0.2.
        contrast: float in [0, 1]. The distance from the picture's mean is multiplied by 1 minus to
            1 plus this. Defaults to 0.2.
        saturation: float in [0, 1]. The distance from gray, likewise. Defaults to 0.2.
        hue: float in [0, 0.5]. Turn of the color circle, in parts of it. Defaults to 0.02.
        probability: float in [0, 1]. Defaults to 1.

    Examples:
        >>> step = mtl.data.augment.Color(brightness=0.3, hue=0)
    """

    name = "color"

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: float = 0.2,
        saturation: float = 0.2,
        hue: float = 0.02,
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability)
        self.brightness = self._fraction("brightness", brightness)
        self.contrast = self._fraction("contrast", contrast)
        self.saturation = self._fraction("saturation", saturation)
        self.hue = self._fraction("hue", hue)

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        low, high = batch.settings.value_range
        happens = draws.happens(self.probability)[:, None, None, None]
        shift, contrast, saturation, turn = (
            v[:, None, None, None] for v in tf.unstack(draws.uniform(4, low=-1.0), axis=-1)
        )
        x = batch.x
        if x.shape[-1] == 3:
            x = _turn_colors(x, 1 + self.saturation * saturation, self.hue * turn)
        mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
        x = (x - mean) * (1 + self.contrast * contrast) + mean
        x = x + self.brightness * (high - low) * shift
        x = tf.clip_by_value(x, low, high)
        return batch.with_input(tf.where(happens, x, batch.x))


def _turn_colors(x: Any, saturation: Any, turn: Any) -> Any:
    """Colors turned about the gray axis, and nearer to it or farther."""
    weights = tf.constant(_LUMA, x.dtype)
    gray = tf.reduce_sum(x * weights, axis=-1, keepdims=True)
    color = x - gray
    angle = 2 * math.pi * turn
    # Rodrigues' rotation about (1, 1, 1).
    third = tf.reduce_mean(color, axis=-1, keepdims=True)
    across = (tf.roll(color, 1, axis=-1) - tf.roll(color, -1, axis=-1)) / math.sqrt(3)
    turned = color * tf.cos(angle) + across * tf.sin(angle) + third * (1 - tf.cos(angle))
    # The turn keeps the plain mean; brightness is the weighted one.
    turned = turned - tf.reduce_sum(turned * weights, axis=-1, keepdims=True)
    return gray + saturation * turned


@register_step
class Blur(Step):
    """Blur pictures with a Gaussian of a random width.

    Args:
        sigma: pair of float >= 0, in pixels. Defaults to (0.1, 1.5).
        probability: float in [0, 1]. Defaults to 0.5.

    Examples:
        >>> step = mtl.data.augment.Blur((0.5, 3.0))
    """

    name = "blur"

    def __init__(self, sigma: Sequence[float] = (0.1, 1.5), probability: float = 0.5) -> None:
        super().__init__(probability)
        self.sigma = self._interval("sigma", sigma, 0.0, 50.0)

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = draws.happens(self.probability)
        sigma = tf.maximum(draws.uniform(low=self.sigma[0], high=self.sigma[1]), 1e-3)
        radius = max(math.ceil(3 * self.sigma[1]), 1)
        offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
        weights = tf.exp(-0.5 * tf.square(offsets[None] / sigma[:, None]))
        weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
        x = batch.x
        for axis in (1, 2):
            # Edge pixels go on beyond the edge.
            steps = tf.range(-radius, tf.shape(x)[axis] + radius)
            padded = tf.gather(x, tf.clip_by_value(steps, 0, tf.shape(x)[axis] - 1), axis=axis)
            size, total = tf.shape(x)[axis], tf.zeros_like(x)
            for i in range(2 * radius + 1):
                piece = padded[:, i : i + size] if axis == 1 else padded[:, :, i : i + size]
                total += weights[:, i][:, None, None, None] * piece
            x = tf.ensure_shape(total, batch.x.shape)
        return batch.with_input(tf.where(happens[:, None, None, None], x, batch.x))


def rectangle_in_pixels(left: Any, top: Any, right: Any, bottom: Any, x: Any) -> Any:
    """Rectangles `(rows, 4)` with edges between pixels: what pictures and labels see is the
    same."""
    height, width = size_of(x)
    edges = tf.stack(
        [
            tf.round(left * width) / width,
            tf.round(top * height) / height,
            tf.round(right * width) / width,
            tf.round(bottom * height) / height,
        ],
        -1,
    )
    return tf.clip_by_value(edges, 0.0, 1.0)


@register_step
class Erase(Step):
    """Hide a random rectangle under the picture's mean color.

    Labels of hidden pixels are missing, hidden points too; boxes of which less than `min_visible`
    stays in sight are dropped. Labels of the whole picture stay.

    Args:
        area: pair of float in [0, 1]. Share of the picture's area. Defaults to (0.02, 0.2).
        ratio: pair of float > 0. Width by height, relative to the picture's. Defaults to
            (0.3, 3.3).
        probability: float in [0, 1]. Defaults to 0.5.

    Reference:
        Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; there with random values.

    Examples:
        >>> step = mtl.data.augment.Erase(area=(0.02, 0.1))
    """

    name, effect = "erase", "cover"

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.2),
        ratio: Sequence[float] = (0.3, 3.3),
        probability: float = 0.5,
    ) -> None:
        super().__init__(probability)
        self.area = self._interval("area", area, 0.0, 1.0)
        self.ratio = self._interval("ratio", ratio, 0.01, 100.0)

    def check_input(self, x: Any) -> None:
        check_pictures(self, x)

    def change(self, batch: Batch, draws: Draws) -> Batch:
        happens = tf.cast(draws.happens(self.probability), tf.float32)
        area = happens * draws.uniform(low=self.area[0], high=self.area[1])
        ratio = tf.exp(draws.uniform(low=math.log(self.ratio[0]), high=math.log(self.ratio[1])))
        wide = tf.minimum(tf.sqrt(area * ratio), 1.0)
        high = tf.minimum(tf.sqrt(area / ratio), 1.0)
        corner = draws.uniform(2)
        left, top = corner[:, 0] * (1 - wide), corner[:, 1] * (1 - high)
        rectangle = rectangle_in_pixels(left, top, left + wide, top + high, batch.x)
        hidden = in_rectangle(batch.x, rectangle)[..., None]
        mean = tf.reduce_mean(batch.x, axis=(1, 2), keepdims=True)
        x = tf.where(hidden, mean, batch.x)
        return Batch(x, labels.cover(batch, rectangle), batch.w, batch.settings)
