"""Boxes and points in the columns of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.data.annotations.annotations import box_problem
from mtl_keras.data.sources import DataError

__all__ = ["BOX_FORMATS", "find_box_columns", "find_point_columns", "read_boxes", "read_points"]

#: How boxes are written; each also with `_pixels`.
BOX_FORMATS = ("ltrb", "xywh", "cxcywh")
#: Names of columns with boxes, and what they mean.
_EDGES = {
    ("left", "top", "right", "bottom"): "ltrb",
    ("xmin", "ymin", "xmax", "ymax"): "ltrb",
    ("x_min", "y_min", "x_max", "y_max"): "ltrb",
    ("x1", "y1", "x2", "y2"): "ltrb",
    ("x", "y", "width", "height"): "xywh",
    ("x", "y", "w", "h"): "xywh",
    ("cx", "cy", "w", "h"): "cxcywh",
    ("x_center", "y_center", "width", "height"): "cxcywh",
}
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan", re.IGNORECASE)


def check_box_format(box_format: str | None) -> None:
    """Refuse an unknown format."""
    known = [*BOX_FORMATS, *(f"{name}_pixels" for name in BOX_FORMATS)]
    if box_format is not None and box_format not in known:
        raise DataError(
            f"`box_format` should be one of {', '.join(known)}. Received: {box_format!r}."
        )


def find_box_columns(task: str, columns: Sequence[str]) -> tuple[list[str], str | None] | None:
    """The columns of a task's boxes, and the format that their names say; or None.

    Looked for are a column with the task's name (four numbers in a cell), the task's name with
    endings (`box_left`, `box_xmin`, ...), and the endings alone.
    """
    by_name = {name.casefold(): name for name in columns}
    if task.casefold() in by_name:
        return [by_name[task.casefold()]], None
    for prefix in (f"{task}_", f"{task}.", ""):
        for edges, box_format in _EDGES.items():
            names = [f"{prefix}{edge}".casefold() for edge in edges]
            if all(name in by_name for name in names):
                return [by_name[name] for name in names], box_format
    return None


def find_point_columns(task: Any, columns: Sequence[str]) -> list[str] | None:
    """The columns of a `Keypoints` task, x and y in turn, or the one with all numbers; or None."""
    if task.name in columns:
        return [task.name]
    points = task.labels or [str(number) for number in range(1, task.num_points + 1)]
    forms = ("{task}_{point}_{axis}", "{point}_{axis}", "{task}_{axis}{point}", "{axis}{point}")
    for form in forms:
        names = [
            form.format(task=task.name, point=point, axis=axis) for point in points for axis in "xy"
        ]
        if all(name in columns for name in names):
            return names
    return None


def read_numbers(
    what: str, columns: Mapping[str, Sequence[Any]], names: Sequence[str], count: int
) -> np.ndarray:
    """`count` numbers a row, from as many columns or from the text of one; NaN where a cell is
    empty.

    Raises:
        DataError: another count of numbers, with the first row.
    """
    if len(names) == 1 and count > 1:
        rows = [
            [np.nan] * count if cell is None else [float(n) for n in _NUMBER.findall(str(cell))]
            for cell in columns[names[0]]
        ]
        wrong = [row for row, numbers in enumerate(rows) if len(numbers) != count]
        if wrong:
            raise DataError(
                f"{what}: column '{names[0]}' should hold {count} numbers in each cell. Received: "
                f"{columns[names[0]][wrong[0]]!r}."
            )
        return np.asarray(rows, float).reshape(-1, count)
    if len(names) != count:
        raise DataError(
            f"{what} should have {count} columns, or one with {count} numbers in each cell. "
            f"Received: {', '.join(names)}."
        )
    return np.stack([_to_floats(what, name, columns[name]) for name in names], -1)


def _to_floats(what: str, name: str, cells: Sequence[Any]) -> np.ndarray:
    try:
        return np.asarray([np.nan if cell is None else float(cell) for cell in cells])
    except (TypeError, ValueError):
        strange = next(cell for cell in cells if not _is_number(cell))
        raise DataError(
            f"{what}: column '{name}' should hold numbers. Received: {strange!r}."
        ) from None


def _is_number(cell: Any) -> bool:
    try:
        return cell is None or float(cell) is not None
    except (TypeError, ValueError):
        return False


def read_boxes(
    numbers: np.ndarray, box_format: str, sizes: np.ndarray | None
) -> tuple[np.ndarray, dict[int, str]]:
    """Boxes as tasks take them: left, top, right, bottom, from 0 to 1.

    Args:
        numbers: `(rows, 4)`; NaN where a row has no box.
        box_format: one of `BOX_FORMATS`, or with `_pixels`.
        sizes: `(rows, 2)`: height and width of each picture; needed for pixels.

    Returns:
        `(boxes, problems)`: float32 `(rows, 4)`, and what is wrong by row.
    """
    order, _, unit = box_format.partition("_")
    boxes = np.array(numbers, float).reshape(-1, 4)
    slack = np.zeros((len(boxes), 2)) + 1e-6
    if unit:
        scale = np.asarray(sizes, float)[:, [1, 0, 1, 0]]
        boxes = boxes / scale
        slack = 1.01 / scale[:, :2]
    is_half = np.isnan(boxes).any(-1) & ~np.isnan(boxes).all(-1)
    problems = {int(row): "the box has empty cells" for row in np.flatnonzero(is_half)}
    is_full = ~np.isnan(boxes).any(-1)
    bare = boxes.copy()
    if order == "xywh":
        boxes[:, 2:] += boxes[:, :2]
    elif order == "cxcywh":
        boxes = np.concatenate([boxes[:, :2] - bare[:, 2:] / 2, boxes[:, :2] + bare[:, 2:] / 2], -1)
    for row in np.flatnonzero(is_full):
        problem = box_problem(boxes[row], slack[row])
        if problem is not None:
            problems[int(row)] = problem + _advice(bare, is_full, box_format, numbers)
    return np.clip(boxes, 0.0, 1.0).astype("float32"), problems


def _advice(bare: np.ndarray, is_full: np.ndarray, box_format: str, numbers: np.ndarray) -> str:
    """Which other format would fit all boxes."""
    rows = bare[is_full]
    order, _, unit = box_format.partition("_")
    if not unit and np.abs(numbers[is_full]).max() > 2:
        return f". Are these pixels? Give `box_format='{order}_pixels'`"
    fits = {
        "ltrb": (rows[:, 2:] >= rows[:, :2]).all() and (rows <= 1.01).all(),
        "xywh": (rows[:, :2] + rows[:, 2:] <= 1.01).all(),
        "cxcywh": (np.abs(rows[:, :2] - 0.5) + rows[:, 2:] / 2 <= 0.51).all(),
    }
    others = [name for name, is_fit in fits.items() if is_fit and name != order]
    if not others:
        return ""
    return f". All boxes fit `box_format='{others[0]}{'_pixels' if unit else ''}'`"


def read_points(
    numbers: np.ndarray, in_pixels: bool, sizes: np.ndarray | None
) -> tuple[np.ndarray, dict[int, str]]:
    """Points as `Keypoints` takes them, x and y from 0 to 1.

    Args:
        numbers: `(rows, points, 2)`, NaN where a point is not known.
        in_pixels: bool.
        sizes: `(rows, 2)`: height and width of each picture; needed for pixels.

    Returns:
        `(points, problems)`: float32 `(rows, points, 2)`, and what is wrong by row.
    """
    points = np.asarray(numbers, float)
    slack = 1e-6
    if in_pixels:
        points = points / np.asarray(sizes, float)[:, None, ::-1]
        slack = 0.01
    is_outside = ((points < -slack) | (points > 1 + slack)).any((1, 2))
    advice = "" if in_pixels else ". Are these pixels? Give `box_format='ltrb_pixels'`"
    problems = {
        int(row): f"a point lies outside the picture (0 to 1): "
        f"{np.round(points[row], 4).tolist()[0]}{advice}"
        for row in np.flatnonzero(is_outside)
    }
    return np.clip(points, 0.0, 1.0).astype("float32"), problems
