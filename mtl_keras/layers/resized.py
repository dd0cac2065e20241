"""Maps brought to another size."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["resized"]


def resized(x: Any, height: int, width: int, name: str) -> Any:
    """Maps `(rows, h, w, channels)` at another size, bilinear.

    With `training=False`, which changes nothing here: `Resizing` alone notes `training=True` in the graph (Keras 3.15), and a
    model that is called without saying then trains all layers behind it, batch normalization among them.
    """
    return keras.layers.Resizing(height, width, interpolation="bilinear", name=name)(x, training=False)
