"""Picture files: which can be read, how large they are, and their pixels as the device sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl_keras.data.folders.files import FileField, map_parallel
from mtl_keras.runtime.encoders import ImageEncoder

__all__ = ["check_picture", "picture_field", "picture_suffixes", "upright_size"]

#: Endings that Pillow lists and that hold other things than pictures, or need a program to draw.
_NO_PICTURES = {".h5", ".hdf", ".mpg", ".mpeg", ".grib", ".bufr", ".fit", ".fits", ".wmf", ".emf"}
_NO_PICTURES |= {".pdf", ".ps", ".eps"}
#: The tag of a photograph's orientation, and its values that swap width and height.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def picture_suffixes() -> list[str]:
    """Endings of the files that Pillow reads as pictures."""
    from PIL import Image

    formats = Image.registered_extensions()
    return sorted(
        suffix
        for suffix, name in formats.items()
        if name in Image.OPEN and suffix not in _NO_PICTURES
    )


def upright_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """A picture's `(height, width)` as a person sees it, from the head of its file.

    Raises:
        ValueError: no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            is_turned = picture.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"it is no picture, or damaged: {error}.") from None
    return (width, height) if is_turned else (height, width)


def check_picture(path: Path, whole: bool = False) -> tuple[tuple[int, int] | None, str | None]:
    """A picture's `(height, width)`, and what is wrong with it, or None.

    Args:
        path: the file.
        whole: bool. Read all pixels; else the file's head, and its end where the format has one.
    """
    try:
        size = upright_size(path)
        if min(size) < 1:
            return None, "it has no pixel."
        if whole or not _has_end(path):
            ImageEncoder((8, 8)).read_pixels(path)
    except (OSError, ValueError) as error:
        return None, str(error)
    return size, None


def _has_end(path: Path) -> bool:
    """Whether a JPEG or PNG file ends as one; a file that was cut off doesn't. Others pass."""
    with open(path, "rb") as file:
        head = file.read(8)
        marks = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PN": b"IEND\xaeB`\x82"}
        mark = marks.get(head[:3])
        if mark is None:
            return True
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - len(mark)))
        return file.read() == mark


def check_pictures(
    paths: Sequence[Path], whole: bool = False
) -> list[tuple[tuple[int, int] | None, str | None]]:
    """`check_picture` of each file."""
    return map_parallel(lambda path: check_picture(path, whole), paths)


def picture_field(
    paths: Sequence[Path], encoder: ImageEncoder, row_names: Sequence[str], cache: Any = None
) -> FileField:
    """Pictures as `encoder` makes them of files, number for number."""
    return FileField(
        paths,
        encoder.read_pixels,
        (*encoder.size, encoder.channels),
        "uint8",
        row_names=row_names,
        scale=encoder.scale,
        cache=cache,
        key=f"picture {encoder.size} {encoder.channels}",
    )
