"""Pictures as cameras give them, inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

__all__ = ["RawImage"]


@keras.saving.register_keras_serializable("mtl_keras")
class RawImage(layers.Layer):
    """Bytes to numbers, to one size, to a range: `scale * resized + offset`.

    Bilinear, without antialiasing (which converts to no device): pictures that shrink by more than
    a half lose detail by chance, so let the camera give a size near the network's.

    Args:
        size: `(height, width)` of the result.
        scale, offset: float. Default to 1/255 and 0: from bytes to [0, 1].

    Shapes:
        `(rows, any height, any width, channels)`, uint8, to `(rows, height, width, channels)`,
        float32.

    Examples:
        >>> x = mtl.layers.RawImage((96, 96))(keras.Input((480, 640, 3), dtype="uint8"))
    """

    def __init__(
        self, size: Sequence[int], scale: float = 1 / 255, offset: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        # Bytes come as they are, whatever the layer computes in.
        self.autocast = False
        self.size, self.scale, self.offset = (
            tuple(int(s) for s in size),
            float(scale),
            float(offset),
        )
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"RawImage '{self.name}': size is (height, width), got {size!r}.")

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")
        if tuple(x.shape[1:3]) != self.size:
            x = ops.image.resize(
                x, self.size, interpolation="bilinear", data_format="channels_last"
            )
        return x * self.scale + self.offset

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], *self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "scale": self.scale,
            "offset": self.offset,
        }
