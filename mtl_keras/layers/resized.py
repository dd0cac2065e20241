"""Maps brought to another size."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

__all__ = ["ResizeLike", "has_size_of", "resize_like", "resized"]


@keras.saving.register_keras_serializable("mtl_keras")
class ResizeLike(layers.Layer):
    """Maps at the size of other maps, bilinear, where the sizes are known only when images come.

    Shapes:
        `[(rows, h, w, channels), (rows, height, width, ...)]` to `(rows, height, width, channels)`.
    """

    def call(self, inputs: Any) -> Any:
        x, target = inputs
        # `ops.image.resize` takes sizes that are plain numbers.
        for axis in (1, 2):
            x = _interpolate(x, ops.shape(target)[axis], axis)
        return x

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        x, target = input_shape
        return (x[0], *target[1:3], x[-1])


def _interpolate(x: Any, size: Any, axis: int) -> Any:
    """Linear interpolation along one axis, with the centers of the first and last cells at half a
    cell from the edge."""
    old = ops.cast(ops.shape(x)[axis], "float32")
    cells = ops.cast(ops.arange(size), "float32")
    position = ops.clip((cells + 0.5) * (old / ops.cast(size, "float32")) - 0.5, 0.0, old - 1.0)
    low = ops.floor(position)
    share = ops.cast(ops.reshape(position - low, (-1,) + (1,) * (3 - axis)), x.dtype)
    low_values = ops.take(x, ops.cast(low, "int32"), axis=axis)
    high_values = ops.take(x, ops.cast(ops.minimum(low + 1.0, old - 1.0), "int32"), axis=axis)
    return low_values + (high_values - low_values) * share


def resized(x: Any, height: int, width: int, name: str) -> Any:
    """Maps `(rows, h, w, channels)` at another size, bilinear.

    With `training=False`, which changes nothing here: `Resizing` alone notes `training=True` in the
    graph (Keras 3.15), and a model that is called without saying then trains all layers behind it,
    batch normalization among them.
    """
    return keras.layers.Resizing(height, width, interpolation="bilinear", name=name)(
        x, training=False
    )


def resize_like(x: Any, target: Any, name: str) -> Any:
    """Maps `(rows, h, w, channels)` at the size of `target`, a map too; `x` itself where the sizes
    are known to be equal."""
    if has_size_of(x, target):
        return x
    if None in target.shape[1:3]:
        return ResizeLike(name=name)([x, target])
    return resized(x, *target.shape[1:3], name=name)  # type: ignore[misc]


def has_size_of(x: Any, target: Any) -> bool:
    """Whether two maps, or two sequences, are known to have the same places. Two open sizes of maps
    may differ."""
    sizes = tuple(x.shape[1:-1]), tuple(target.shape[1:-1])
    return sizes[0] == sizes[1] and (None not in sizes[0] or len(sizes[0]) < 2)
