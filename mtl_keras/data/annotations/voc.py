"""Pascal VOC files: one XML file for each picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any
from xml.etree import ElementTree

from mtl_keras.data.annotations.annotations import (
    AnnotatedObject,
    AnnotatedPicture,
    Annotations,
    box_problem,
    cut_box,
)
from mtl_keras.data.sources import DataError

__all__ = ["read_voc"]


def read_voc(
    path: str | os.PathLike[str],
    *,
    difficult: bool = False,
    find_size: Callable[[str], tuple[int, int]] | None = None,
) -> Annotations:
    """Read Pascal VOC files: boxes and names of objects.

    Boxes count pixels from 1 and hold their last pixel, as in VOC. Where any box begins at 0, the
    tool that wrote the files counted from 0, and all boxes are read so. Categories stand in
    alphabetical order.

    Args:
        path: a folder of XML files (its sub-folders too), or one XML file.
        difficult: bool. Take objects that are marked as difficult; they are left out and counted
            otherwise. Defaults to False.
        find_size: function of a picture's file to its `(height, width)`, for files that do not say
            it.

    Returns:
        `Annotations`.

    Raises:
        DataError: no XML file there; one that is damaged or no VOC file; a picture of unknown size.

    Examples:
        >>> annotations = mtl.data.read_voc("Annotations")

    Reference:
        Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010.
    """
    files = sorted(Path(path).rglob("*.xml")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise DataError(f"{path} should hold Pascal VOC files (.xml). Received: none.")
    roots = {file: _parse(file) for file in files}
    entries = [(file, _objects(file, root)) for file, root in roots.items()]
    skipped = 0
    if not difficult:
        skipped = sum(entry["difficult"] for _, objects in entries for entry in objects)
        entries = [(f, [e for e in objects if not e["difficult"]]) for f, objects in entries]
    names = sorted({entry["name"] for _, objects in entries for entry in objects})
    edges = [entry["box"] for _, objects in entries for entry in objects]
    # The first pixel is 1 in VOC, and 0 in files of some tools.
    first = 0 if any(min(box[:2]) == 0 for box in edges) else 1
    pictures: dict[str, AnnotatedPicture] = {}
    problems: dict[str, str] = {}
    for file, objects in entries:
        picture = _picture_file(file, roots[file])
        height, width = _size(file, roots[file], picture, find_size)
        items = []
        for entry in objects:
            left, top, right, bottom = entry["box"]
            box = ((left - first) / width, (top - first) / height, right / width, bottom / height)
            problem = box_problem(box, (1.01 / width, 1.01 / height))
            if problem is not None:
                problems.setdefault(picture, f"{file}: {problem}")
            cut = cut_box(box)
            items.append(AnnotatedObject(names.index(entry["name"]), cut))
        pictures[picture] = AnnotatedPicture((height, width), tuple(items))
    remarks = [f"{skipped} objects marked as difficult are left out."] if skipped else []
    return Annotations(os.fspath(path), names, pictures, {}, problems, remarks)


def _parse(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{file} can't be read as XML: {error}.") from None
    if root.tag != "annotation":
        raise DataError(
            f"{file} should be a Pascal VOC file, with an element 'annotation'. Received: "
            f"'{root.tag}'."
        )
    return root


def _objects(file: Path, root: ElementTree.Element) -> list[dict[str, Any]]:
    entries = []
    for element in root.iter("object"):
        name = (element.findtext("name") or "").strip()
        try:
            box: Sequence[float] = [
                float(element.findtext(f"bndbox/{edge}") or "")
                for edge in ("xmin", "ymin", "xmax", "ymax")
            ]
        except ValueError:
            raise DataError(
                f"{file}: object '{name}' should have a box with xmin, ymin, xmax and ymax."
            ) from None
        is_difficult = (element.findtext("difficult") or "0").strip() == "1"
        entries.append({"name": name, "box": box, "difficult": is_difficult})
    return entries


def _picture_file(file: Path, root: ElementTree.Element) -> str:
    """The picture's file name; tools write folders of another machine into it."""
    name = PureWindowsPath((root.findtext("filename") or "").strip()).name
    return name or file.stem


def _size(
    file: Path,
    root: ElementTree.Element,
    picture: str,
    find_size: Callable[[str], tuple[int, int]] | None,
) -> tuple[int, int]:
    height, width = (int(float(root.findtext(f"size/{side}") or 0)) for side in ("height", "width"))
    if height > 0 and width > 0:
        return height, width
    if find_size is None:
        raise DataError(f"{file} does not say the picture's width and height.")
    return find_size(picture)
