"""Pictures to float images of one size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.encoders.registry import register_encoder

__all__ = ["ImageEncoder"]


@register_encoder
class ImageEncoder:
    """Picture files or arrays to float images of one size.

    Args:
        size: `(height, width)`.
        channels: 1 (gray) or 3 (color).
        scale: float. Factor on byte values. Defaults to 1/255.
        name: str. The network's input.
    """

    kind = "image"

    def __init__(
        self, size: Sequence[int], channels: int = 3, scale: float = 1 / 255, name: str = "image"
    ) -> None:
        if channels not in (1, 3):
            raise ValueError(f"ImageEncoder takes 1 or 3 channels, got {channels}.")
        self.size, self.channels, self.scale, self.name = (
            tuple(int(s) for s in size),
            channels,
            float(scale),
            name,
        )

    def encode(self, images: Iterable[Any]) -> np.ndarray:
        """Images to `(rows, height, width, channels)`, float32.

        Photographs are turned as their camera noted (EXIF orientation).

        Args:
            images: paths of picture files, `PIL.Image` objects, or arrays `(height, width)` or
                `(height, width, channels)`: integers from 0 to 255, booleans, or real numbers from
                0 to 1. Real numbers of which one of this call is above 1 are taken as byte values,
                0 to 255.

        Raises:
            ValueError: a file that is no picture or is damaged; an array of another shape or range.
            TypeError: one path in place of a list.
        """
        if isinstance(images, (str, bytes)):
            raise TypeError(f"`images` should be a list of pictures. Received: {images!r}.")
        images = list(images)
        real = [
            image
            for image in images
            if isinstance(image, np.ndarray) and image.dtype.kind == "f" and image.size
        ]
        factor = 255.0 if all(image.max() <= 1 for image in real) else 1.0
        rows = np.empty((len(images), *self.size, self.channels), "float32")
        for i, image in enumerate(images):
            rows[i] = self.read_pixels(image, factor).astype("float32") * self.scale
        return rows

    def read_pixels(self, image: Any, factor: float = 1.0) -> np.ndarray:
        """One picture as bytes, before `scale`.

        Args:
            image: a path, `PIL.Image`, or array, as in `encode`.
            factor: float. Brings real numbers of an array to 0 to 255.

        Returns:
            uint8 `(height, width, channels)`.
        """
        from PIL import Image

        picture = (
            picture_from_array(image, factor)
            if isinstance(image, np.ndarray)
            else picture_from_file(image)
        )
        mode = "L" if self.channels == 1 else "RGB"
        # Where nothing changes, Pillow would copy.
        if picture.mode != mode:
            picture = picture.convert(mode)
        if picture.size != self.size[::-1]:
            picture = picture.resize(self.size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(picture, "uint8").reshape(*self.size, self.channels)

    def get_config(self) -> dict[str, Any]:
        return {
            "size": list(self.size),
            "channels": self.channels,
            "scale": self.scale,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageEncoder:
        return cls(**config)

    def __repr__(self) -> str:
        height, width = self.size
        return (
            f"ImageEncoder(name={self.name!r}): pictures resized to {height} x {width} with "
            f"{self.channels} channels, bytes times {self.scale:.4g}"
        )


def picture_from_array(array: np.ndarray, factor: float) -> Any:
    """A picture from an array; `factor` brings real numbers to byte values."""
    from PIL import Image

    plane = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    if plane.ndim != 2 and (plane.ndim != 3 or plane.shape[-1] not in (3, 4)):
        raise ValueError(
            "A picture's array should have the shape (height, width) or (height, width, channels) "
            "with 1, 3 or 4 channels. "
            f"Received: {array.shape}."
        )
    if plane.dtype.kind == "b":
        plane = plane * 255
    elif plane.dtype.kind == "f":
        plane = np.rint(plane * factor)
    if plane.size and not (plane.min() >= 0 and plane.max() <= 255):
        raise ValueError(
            "A picture's array should hold integers from 0 to 255 or real numbers from 0 to 1. "
            "Received: values from "
            f"{array.min()} to {array.max()}, dtype {array.dtype}."
        )
    return Image.fromarray(plane.astype("uint8"))


def picture_from_file(source: Any) -> Any:
    """A picture from a path (or a `PIL.Image`), upright, with 8 bits a channel."""
    from PIL import Image, ImageOps

    is_open = isinstance(source, Image.Image)
    picture = ImageOps.exif_transpose(source) if is_open else _open_upright(source)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        # Pillow would cut 16 bits off at 255, and make all but the darkest places white.
        picture = Image.fromarray(np.rint(np.asarray(picture) / 257).astype("uint8"))
    elif picture.mode in ("I", "F"):
        raise ValueError(
            f"{source} has 32 bits a pixel, and what is white is not known. Save it with 8 or 16."
        )
    return picture


def _open_upright(path: Any) -> Any:
    """A file's picture, read, turned as the camera noted, in its own mode."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            # In place: Pillow would copy also what it doesn't turn.
            ImageOps.exif_transpose(picture, in_place=True)
            picture.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture that can be read (PNG, JPEG, ...).") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        if getattr(error, "errno", None) is not None:
            # No such file, no permission.
            raise
        raise ValueError(f"{path} is damaged: {error}.") from None
    return picture
