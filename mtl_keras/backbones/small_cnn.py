"""A small convolutional trunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

__all__ = ["small_cnn"]


def small_cnn(
    inputs: Any,
    widths: Sequence[int] = (32, 64, 128),
    depth: int = 2,
    stem_stride: int = 2,
    dropout: float = 0.0,
    rescale: float | None = None,
    name: str = "small_cnn",
) -> keras.Model:
    """Stages of 3 x 3 convolutions with batch normalization and ReLU6, each stage at half the size
    of the one before.

    ReLU6 keeps every activation in a fixed range: the network loses little in int8.

    Args:
        inputs: symbolic image tensor, shape `(rows, height, width, channels)`.
        widths: list of int. Channels of each stage.
        depth: int. Convolutions a stage.
        stem_stride: 1 or 2. Stride of the first stage.
        dropout: float. Dropped part of the deepest stage's channels while training.
        rescale: float or None. Factor on the input, for example 1/255 where images are bytes.
        name: str. Prefix of the layers' names.

    Returns:
        `keras.Model` from the image to a dict of stages, `stage1` (largest) to `stage<n>`
        (deepest).
    """
    if len(inputs.shape) != 4:
        raise ValueError(
            f"Backbone 'small_cnn' takes images (rows, height, width, channels), got "
            f"{tuple(inputs.shape)}."
        )
    x = inputs
    if rescale is not None:
        x = layers.Rescaling(rescale, name=f"{name}_rescale")(x)
    stages = {}
    for level, width in enumerate(widths, 1):
        for block in range(1, depth + 1):
            stride = (stem_stride if level == 1 else 2) if block == 1 else 1
            part = f"{name}_stage{level}_block{block}"
            x = layers.Conv2D(width, 3, stride, "same", use_bias=False, name=f"{part}_conv")(x)
            x = layers.BatchNormalization(momentum=0.95, name=f"{part}_norm")(x)
            x = layers.ReLU(max_value=6.0, name=f"{part}_relu")(x)
        if dropout and level == len(widths):
            x = layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
        stages[f"stage{level}"] = x
    return keras.Model(inputs, stages, name=name)
