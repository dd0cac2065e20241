"""What files of annotations say of pictures, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtl_keras.data.annotations.rasters import decode_rle, fill_polygon, resize_nearest

__all__ = ["AnnotatedObject", "AnnotatedPicture", "Annotations", "box_problem", "cut_box"]


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of a picture.

    Attributes:
        category: int. Position in `Annotations.categories`.
        box: left, top, right, bottom, from 0 to 1 of the picture's width or height.
        outlines: polygons, each `(corners, 2)` in pixels, or None.
        runs: COCO's run lengths, or None.
        points: `(points, 2)` from 0 to 1, NaN where a point isn't labeled, or None.
        is_crowd: bool. A region of many objects, without a box of each.
    """

    category: int
    box: tuple[float, float, float, float]
    outlines: tuple[np.ndarray, ...] | None = None
    runs: Any = None
    points: np.ndarray | None = None
    is_crowd: bool = False

    @property
    def area(self) -> float:
        """The box's part of the picture."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    @property
    def has_mask(self) -> bool:
        return self.outlines is not None or self.runs is not None


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture's objects.

    Attributes:
        size: `(height, width)` in pixels of the picture that was annotated.
        objects: its objects; none is an answer too.
    """

    size: tuple[int, int]
    objects: tuple[AnnotatedObject, ...] = ()

    def boxes(self) -> list[AnnotatedObject]:
        """The objects that have a box of their own."""
        return [item for item in self.objects if not item.is_crowd]

    def largest(self) -> AnnotatedObject | None:
        """The object with the largest box, or None."""
        return max(self.boxes(), key=lambda item: item.area, default=None)

    def mask_of(self, item: AnnotatedObject, size: Sequence[int]) -> np.ndarray:
        """Which pixels of a map `(height, width)` an object covers; its box where it has no
        outline."""
        if item.runs is not None:
            counts, shape = item.runs
            return resize_nearest(decode_rle(counts, shape), size)
        if item.outlines is None:
            left, top, right, bottom = item.box
            corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
            return fill_polygon(corners, (1, 1), size)
        mask = np.zeros(tuple(size), bool)
        for outline in item.outlines:
            mask |= fill_polygon(outline, self.size, size)
        return mask

    def class_map(self, numbers: Mapping[int, int], size: Sequence[int], empty: int) -> np.ndarray:
        """A class per pixel, int32 `(height, width)`. Small objects lie on large ones.

        Args:
            numbers: category to class. Objects of other categories are left out.
            size: `(height, width)` of the map.
            empty: class of pixels that no object covers.
        """
        classes = np.full(tuple(size), empty, "int32")
        for item in sorted(self.objects, key=lambda item: -item.area):
            if item.category in numbers:
                classes[self.mask_of(item, size)] = numbers[item.category]
        return classes


@dataclass(frozen=True)
class Annotations:
    """What files of annotations say: categories, and objects by picture.

    `mtl.data.from_folder` takes one as `labels`, as it takes the files.

    Attributes:
        source: str. The file or folder, for messages.
        categories: list of str.
        pictures: dict of picture file to `AnnotatedPicture`.
        points: dict of category to the names of its points.
        problems: dict of picture file to what is wrong with its annotations.
        remarks: list of str. What was left out.
    """

    source: str
    categories: list[str]
    pictures: dict[str, AnnotatedPicture]
    points: dict[int, list[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def objects(self) -> int:
        """Number of objects."""
        return sum(len(picture.objects) for picture in self.pictures.values())

    @property
    def has_masks(self) -> bool:
        """Whether any object has an outline."""
        return any(item.has_mask for picture in self.pictures.values() for item in picture.objects)


def box_problem(box: Sequence[float], slack: Sequence[float] = (0.0, 0.0)) -> str | None:
    """What is wrong with a box (left, top, right, bottom) in parts of the picture, or None.

    Args:
        box: four numbers.
        slack: how far a box may reach over the picture's edges, across and down.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    shown = ", ".join(f"{edge:.4g}" for edge in (left, top, right, bottom))
    if not np.isfinite([left, top, right, bottom]).all():
        return f"the box ({shown}) is not finite"
    across, down = slack
    is_outside = left < -across or right > 1 + across or top < -down or bottom > 1 + down
    if is_outside:
        return (
            f"the box ({shown}), in parts of the picture, lies outside the picture (left, top, "
            f"right, bottom; 0 to 1)"
        )
    if right < left or bottom < top:
        return f"the box ({shown}) has right < left or bottom < top"
    return None


def cut_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A box cut at the picture's edges."""
    left, top, right, bottom = (min(max(float(edge), 0.0), 1.0) for edge in box)
    return left, top, right, bottom
