"""Checks that backbones share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

__all__ = ["image_input", "rank_input", "rescaled"]


def image_input(backbone: str, inputs: Any) -> None:
    """Refuse what is no image of fixed channels."""
    rank_input(backbone, inputs, 4, "images (rows, height, width, channels)")


def rank_input(backbone: str, inputs: Any, rank: int, what: str) -> None:
    """Refuse an input of another rank, or several inputs."""
    shape = getattr(inputs, "shape", None)
    if shape is None or len(shape) != rank:
        raise ValueError(
            f"Backbone '{backbone}' takes {what}, got {inputs if shape is None else tuple(shape)}."
        )


def rescaled(
    inputs: Any,
    value_range: Sequence[float],
    scale: float | Sequence[float],
    offset: float | Sequence[float],
    name: str,
) -> Any:
    """Images as the network was trained on them: `scale * bytes + offset`, whatever the range in
    which they come.

    Args:
        inputs: symbolic images `(rows, height, width, channels)`.
        value_range: `(low, high)` of the images' values: where black and white are.
        scale, offset: float, or a list with one a channel. Of values from 0 to 255.
        name: str. Of the backbone; the layer is named `<name>_rescale`.

    Returns:
        The images in the trained scale; `inputs` itself where they have it already.

    Raises:
        ValueError: a range that is not `(low, high)` with low < high.
    """
    low, high = map(float, value_range)
    if not low < high:
        raise ValueError(
            f"Backbone '{name}': value_range is (low, high) with low < high, got "
            f"{tuple(value_range)}."
        )
    factor = np.multiply(scale, 255.0 / (high - low))
    shift = np.subtract(offset, low * factor)
    if np.all(factor == 1.0) and np.all(shift == 0.0):
        return inputs
    return layers.Rescaling(factor.tolist(), shift.tolist(), name=f"{name}_rescale")(inputs)
