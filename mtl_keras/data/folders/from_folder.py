"""A data set of a folder of files: pictures, sounds or texts, with labels beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.fields import Field
from mtl_keras.data.folders.assignments import assign_tasks, check_rows, read_task_labels
from mtl_keras.data.folders.files import FileIndex, find_copies
from mtl_keras.data.folders.inputs import picture_inputs, sound_inputs, text_inputs
from mtl_keras.data.folders.labels import as_cells
from mtl_keras.data.folders.opening import open_labels
from mtl_keras.data.folders.rows import Request, Rows, find_files, match_files
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import to_date, to_numbers
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["from_folder"]


def from_folder(
    folder: str | os.PathLike[str],
    labels: Any = None,
    tasks: Any = None,
    *,
    kind: str | None = None,
    size: int | Sequence[int] = 160,
    channels: int = 3,
    file: str | None = None,
    masks: Mapping[str, str] | None = None,
    mask_values: Mapping[str, Mapping[Any, Any]] | None = None,
    depth_scale: float = 1.0,
    box_format: str | None = None,
    sample_rate: int = 16000,
    seconds: float | None = None,
    group: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    on_bad: str = "error",
    cache: str | os.PathLike[str] | None = None,
) -> TaskDataset:
    """A data set of a folder of pictures, sounds or texts.

    Files are read when they are needed: there may be more than memory holds. Pictures are resized,
    turned and scaled by a `mtl.data.ImageEncoder`, sounds by a `mtl.data.SoundEncoder`; the encoder
    is saved with the model, so that the device makes the same numbers of a file.

    Args:
        folder: the folder; its sub-folders belong to it.
        labels: where labels are:

            - None: sub-folders are classes, as in `photos/cat/1.jpg`.
            - a CSV file or DataFrame: one column names the files (with or without sub-folders and
              ending), the others hold labels. An empty cell is a missing label.
            - a COCO file (.json), a folder of Pascal VOC files (.xml), or `Annotations`.

            A relative path is looked for here, then in `folder`.
        tasks: list of `Task`; or a dict of `Task`, or of a task's name, to what holds its labels.
            Of a name, the task is guessed from the labels. None guesses a task for each column.
            Labels are held by:

            - a column of the table, or a list of columns: the four edges of a box (and its class,
              for `Detection`), x and y of each point, a yes or no for each of several labels. One
              cell may hold several labels, as in "red|round".
            - of annotations: "boxes", "box", "masks", "silhouette", "points", "categories",
              "category", "count", or a category's name (is it there?).
            - "folder" (the folder that holds the file), "folder_1" (the outermost), "folder_2", ...

            Where nothing is named, it is the column with the task's name, or what of annotations
            suits the task's kind.
        kind: "image", "sound" or "text". None tells it from the files.
        size: int, or `(height, width)`. Of pictures in the network. Defaults to 160.
        channels: 1 (gray) or 3 (color). Defaults to 3.
        file: the table's column that names files. None finds it.
        masks: dict of task name to the path of a picture's mask, depth map or normals, inside
            `folder` (or a path from elsewhere that begins with "/" or ".."), such as
            "masks/{stem}.png". `{stem}`, `{name}`, `{path}` and `{folder}` are parts of the
            picture's path. A picture whose file is absent has no label.
        mask_values: dict of task name to a dict of a mask's value (or color) to its class, -1 for
            no label. Defaults to the values themselves, 255 for no label; in masks of one
            silhouette, 255 is the silhouette if 1 does not occur.
        depth_scale: float. Factor from a depth map's values to the task's unit, such as 0.001.
        box_format: of boxes in tables: "ltrb" (left, top, right, bottom), "xywh" (left, top, width,
            height) or "cxcywh" (center, width, height), from 0 to 1 of the picture; with "_pixels"
            behind it, in pixels. None takes it from the columns' names, else "ltrb".
        sample_rate: int, Hz. Of sounds in the network. Defaults to 16000.
        seconds: float. Length of sounds in the network; longer ones are cut, shorter ones filled up
            with silence. None: the longest sound's, at most 5.
        group, time, weight: columns with the group of each row (no group is split), its time, its
            weight. "folder" and "folder_<n>" may be groups.
        on_bad: "error" or "skip": what to do about files that are damaged, and rows of a table
            without a file. "skip" reads each file once before training, leaves bad ones out, and
            counts them in `describe()`. Defaults to "error", which looks at the files' heads.
        cache: None; "memory"; or a folder in which resized pictures and sounds are stored.

    Returns:
        `TaskDataset`.

    Raises:
        DataError: no file of this kind; no labels; rows without a file, damaged files, labels that
            tasks don't take: each with the first names and how many there are.

    Examples:
        >>> pets = mtl.data.from_folder("photos", size=32)
        >>> train, test = pets.split(0.75, 0.25)
        >>> pets.tasks[0].labels
        ['cat', 'dog']
    """
    request = Request(
        folder=_check_folder(folder),
        masks=dict(masks or {}),
        mask_values=dict(mask_values or {}),
        depth_scale=depth_scale,
        on_bad=_check_on_bad(on_bad),
        cache=cache,
    )
    kind, files = find_files(request, kind)
    index = FileIndex(files)
    source = open_labels(labels, request.folder, index, kind=kind, file=file, box_format=box_format)
    rows = Rows(request, source, files)
    match_files(rows)
    assignments = assign_tasks(tasks, request, rows)
    check_rows(rows, assignments)
    make_inputs = {"image": picture_inputs, "sound": sound_inputs, "text": text_inputs}[kind]
    options = {"size": size, "channels": channels, "sample_rate": sample_rate, "seconds": seconds}
    inputs, map_size = make_inputs(rows, assignments, options)
    resolved = [read_task_labels(rows, assignment, map_size) for assignment in assignments]
    return _build(kind, rows, resolved, inputs, {"group": group, "time": time, "weight": weight})


def _check_folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return path


def _check_on_bad(on_bad: str) -> str:
    if on_bad not in ("error", "skip"):
        raise DataError(f"`on_bad` should be 'error' or 'skip'. Received: {on_bad!r}.")
    return on_bad


# ------------------------------------------------------------------ the data set
def _build(
    kind: str,
    rows: Rows,
    labels: Sequence[tuple[Task, Field]],
    inputs: Mapping[str, Any],
    by: Mapping[str, str | None],
) -> TaskDataset:
    """The data set. `inputs` are arguments of `TaskDataset.from_parts`."""
    names = list(rows.source.columns())
    for argument, name in by.items():
        if name is not None and name not in names:
            raise DataError(unknown_name(f"column for `{argument}`:", name, names))
    weight, group, time = by["weight"], by["group"], by["time"]
    return TaskDataset.from_parts(
        [task for task, _ in labels],
        labels={task.name: part for task, part in labels},
        weights=None if weight is None else {"": _weights(rows, weight)},
        row_names=rows.names(),
        groups=None if group is None else _groups(rows, group),
        times=None if time is None else _times(rows, time),
        kind=kind,
        notes=rows.remarks,
        fingerprints=find_copies(rows.paths()),
        columns={name: as_cells(rows.column(name)) for name in names},
        **inputs,
    )


def _weights(rows: Rows, name: str) -> np.ndarray:
    """A weight per row; 1 where the labels' source says nothing of a row."""
    cells = rows.column(name)
    numbers, _ = to_numbers(as_cells([1.0 if cell is None else cell for cell in cells]))
    bad = np.flatnonzero(~(numbers >= 0) | np.isinf(numbers))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{rows.names()[row]}: a weight in column '{name}' should be a number >= 0. Received: "
            f"{cells[row]!r}."
        )
    return numbers.astype("float32")


def _groups(rows: Rows, name: str) -> np.ndarray:
    """A group per row; rows without one are groups of their own."""
    cells = rows.column(name)
    own = [f"({file} without a group)" for file in rows.names()]
    return np.asarray(
        [str(cell) if cell is not None else own[row] for row, cell in enumerate(cells)]
    )


def _times(rows: Rows, name: str) -> np.ndarray:
    cells = as_cells(rows.column(name))
    if any(cell is None for cell in cells):
        row = next(row for row, cell in enumerate(cells) if cell is None)
        raise DataError(f"{rows.names()[row]}: column '{name}' holds no time.")
    numbers, others = to_numbers(cells)
    if not others.any():
        return numbers
    try:
        return to_date(cells)
    except ValueError as error:
        raise DataError(f"Column '{name}' of {rows.source.source}: {error}.") from None
