"""COCO files: one JSON file with the objects of all pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mtl_keras.data.annotations.annotations import (
    AnnotatedObject,
    AnnotatedPicture,
    Annotations,
    box_problem,
    cut_box,
)
from mtl_keras.data.sources import DataError

__all__ = ["read_coco"]


def read_coco(path: str | os.PathLike[str]) -> Annotations:
    """Read a COCO file: boxes, outlines, run lengths and points.

    Categories are numbered from 0 in the order of their ids, which may have gaps. A box that
    reaches over the picture's edge by less than a pixel is cut; boxes without width or height are
    left out and counted.

    Args:
        path: the JSON file.

    Returns:
        `Annotations`. A picture without objects is one; a picture that the file doesn't list has no
        labels.

    Raises:
        DataError: no COCO file; an annotation of a picture or category that the file lacks.

    Examples:
        >>> annotations = mtl.data.read_coco("instances.json")
        >>> annotations.categories
        ['cat', 'dog']

    Reference:
        Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
    """
    content = _load(path)
    ids = sorted(category["id"] for category in content["categories"])
    numbers = {number: i for i, number in enumerate(ids)}
    categories = sorted(content["categories"], key=lambda category: category["id"])
    images = {image["id"]: image for image in content["images"]}
    objects: dict[Any, list[AnnotatedObject]] = {number: [] for number in images}
    problems: dict[str, str] = {}
    empty = 0
    for annotation in content["annotations"]:
        _check_references(annotation, images, numbers, path)
        image = images[annotation["image_id"]]
        item = _object(annotation, image, numbers)
        problem = box_problem(item.box, (1.01 / image["width"], 1.01 / image["height"]))
        if problem is not None:
            problems.setdefault(image["file_name"], f"annotation {annotation.get('id')}: {problem}")
        elif not item.area:
            empty += 1
        else:
            objects[annotation["image_id"]].append(replace(item, box=cut_box(item.box)))
    return Annotations(
        os.fspath(path),
        [str(category["name"]) for category in categories],
        {
            image["file_name"]: AnnotatedPicture(
                (int(image["height"]), int(image["width"])), tuple(objects[number])
            )
            for number, image in images.items()
        },
        {
            numbers[category["id"]]: [str(name) for name in category["keypoints"]]
            for category in categories
            if category.get("keypoints")
        },
        problems,
        [f"{empty} boxes without width or height are left out."] if empty else [],
    )


def _load(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read as JSON: {error}.") from None
    parts = {
        "images": ("id", "file_name", "width", "height"),
        "categories": ("id", "name"),
        "annotations": ("image_id", "category_id"),
    }
    for part, keys in parts.items():
        entries = content.get(part) if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or any(
            not isinstance(entry, Mapping) or key not in entry for entry in entries for key in keys
        ):
            raise DataError(
                f"{path} should be a COCO file: its list '{part}' should hold entries with "
                f"{', '.join(keys)}."
            )
    return content


def _check_references(
    annotation: Mapping[str, Any], images: Mapping[Any, Any], numbers: Mapping[Any, int], path: Any
) -> None:
    for key, known in (("image_id", images), ("category_id", numbers)):
        if annotation.get(key) not in known:
            raise DataError(
                f"{path}: annotation {annotation.get('id')} has {key} {annotation.get(key)}, which "
                f"the file does not list."
            )


def _object(
    annotation: Mapping[str, Any], image: Mapping[str, Any], numbers: Mapping[Any, int]
) -> AnnotatedObject:
    width, height = image["width"], image["height"]
    outlines, runs = _shape(annotation.get("segmentation"))
    box = annotation.get("bbox")
    if box is None:
        box = _bounds(outlines)
    left, top, across, down = (float(number) for number in box)
    points = annotation.get("keypoints")
    if points is not None:
        marks = np.asarray(points, float).reshape(-1, 3)
        points = np.where(marks[:, 2:] > 0, marks[:, :2] / [width, height], np.nan)
        points = points.astype("float32")
    return AnnotatedObject(
        numbers[annotation["category_id"]],
        (left / width, top / height, (left + across) / width, (top + down) / height),
        outlines,
        runs,
        points,
        bool(annotation.get("iscrowd")),
    )


def _shape(segmentation: Any) -> tuple[tuple[np.ndarray, ...] | None, Any]:
    """Polygons, or `(counts, (height, width))`."""
    if isinstance(segmentation, Mapping):
        return None, (segmentation["counts"], tuple(segmentation["size"]))
    if not segmentation:
        return None, None
    polygons = (np.asarray(part, "float32").reshape(-1, 2) for part in segmentation)
    return tuple(polygons), None


def _bounds(outlines: tuple[np.ndarray, ...] | None) -> tuple[float, float, float, float]:
    """The box (left, top, width, height) around polygons."""
    if outlines is None:
        return (np.nan,) * 4
    corners = np.concatenate(outlines)
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    return float(left), float(top), float(right - left), float(bottom - top)
