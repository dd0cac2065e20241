"""Where a map is largest, with a gradient."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

__all__ = ["SoftArgmax"]


@keras.saving.register_keras_serializable("mtl_keras")
class SoftArgmax(layers.Layer):
    """The expected place under a softmax over each channel's map.

    Shapes:
        `(rows, height, width, points)` to `(rows, points, 2)`: x and y of the cells' centers, 0 to
        1.

    Reference:
        Sun, Xiao, Wei, Liang, Wei, "Integral Human Pose Regression", ECCV 2018.
    """

    def build(self, input_shape: Any) -> None:
        height, width = input_shape[1:3]
        if height is None or width is None:
            raise ValueError(
                f"Layer '{self.name}' needs maps of fixed size, got {tuple(input_shape)}."
            )
        y, x = np.meshgrid(
            (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
        )
        self._places = np.stack([x.ravel(), y.ravel()], -1).astype("float32")

    def call(self, inputs: Any) -> Any:
        height, width, points = inputs.shape[1:]
        flat = ops.transpose(ops.reshape(inputs, (-1, height * width, points)), (0, 2, 1))
        return ops.matmul(ops.softmax(flat), ops.cast(self._places, inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[-1], 2)
