"""Outlines and run lengths to masks of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["decode_rle", "fill_polygon", "resize_nearest"]


def resize_nearest(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A map at another size: each pixel takes the value at its center, none is mixed.

    Args:
        values: `(height, width, ...)`.
        size: `(height, width)` of the result.
    """
    if values.shape[:2] == tuple(size):
        return values
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, values.shape[:2], strict=True)
    )
    return values[rows[:, None], columns]


def fill_polygon(points: Any, shape: Sequence[float], size: Sequence[int]) -> np.ndarray:
    """Which pixels have their center inside a polygon (by the even-odd rule).

    Args:
        points: `(corners, 2)`: x and y in pixels of the picture that was annotated.
        shape: `(height, width)` of that picture.
        size: `(height, width)` of the result.

    Returns:
        bool `(height, width)`.
    """
    height, width = size
    corners = np.asarray(points, float).reshape(-1, 2) * [width / shape[1], height / shape[0]]
    ends = np.roll(corners, -1, axis=0)
    centers = np.arange(height) + 0.5
    # A ray to the right of a center crosses the edges that begin above and end at or below it.
    above, below = (side[:, 1, None] <= centers for side in (corners, ends))
    edge, row = np.nonzero(above != below)
    slope = (ends[edge, 0] - corners[edge, 0]) / (ends[edge, 1] - corners[edge, 1])
    crossing = corners[edge, 0] + (centers[row] - corners[edge, 1]) * slope
    # The first pixel whose center lies at or behind the crossing, and all behind it, change sides.
    first = np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)
    changes = np.zeros((height, width + 1), int)
    np.add.at(changes, (row, first), 1)
    return np.cumsum(changes, axis=1)[:, :width] % 2 == 1


def decode_rle(counts: str | bytes | Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """COCO's run lengths to a mask: lengths of runs of 0 and 1 in turn, column by column.

    Args:
        counts: list of int; or COCO's compressed text, in which each length (from the fourth on,
            minus the one two before it) stands in groups of 5 bits, lowest first, with a bit for
            "more" and the number 48 added.
        shape: `(height, width)`.

    Returns:
        bool `(height, width)`.

    Raises:
        ValueError: runs that do not cover the picture.
    """
    lengths = _unpack_counts(counts) if isinstance(counts, (str, bytes)) else list(counts)
    height, width = int(shape[0]), int(shape[1])
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise ValueError(
            f"Run lengths should add up to the picture's {height * width} pixels. Received: "
            f"{sum(lengths)}."
        )
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(width, height).T


def _unpack_counts(packed: str | bytes) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for byte in packed.encode() if isinstance(packed, str) else packed:
        group = byte - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        # The last group's highest bit is the sign.
        if group & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return lengths
