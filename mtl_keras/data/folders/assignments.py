"""Which labels of a folder's files belong to which task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.folders import maps
from mtl_keras.data.folders.annotation_labels import AnnotationLabels
from mtl_keras.data.folders.files import FileField, list_names
from mtl_keras.data.folders.labels import Column, FolderLabels
from mtl_keras.data.folders.rows import Request, Rows
from mtl_keras.data.folders.table_labels import TableLabels
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Assignment", "assign_tasks", "check_rows", "read_task_labels"]


@dataclass(frozen=True)
class Assignment:
    """A task, and what holds its labels: a column, or the pattern of files."""

    task: Task
    column: Column = None
    pattern: str | None = None


def assign_tasks(tasks: Any, request: Request, rows: Rows) -> list[Assignment]:
    """What holds the labels of each task."""
    from mtl_keras.tasks import Task

    source = rows.source
    if tasks is None:
        columns = source.default_tasks() if not request.masks or rows.source.files else {}
        tasks = {**columns, **dict.fromkeys(request.masks)}
    if isinstance(tasks, Task):
        tasks = [tasks]
    pairs = list(tasks.items()) if isinstance(tasks, Mapping) else [(task, None) for task in tasks]
    if not pairs:
        raise DataError(
            f"{request.folder} has no sub-folders that could be classes: give `labels`, or `masks`."
        )
    assignments = []
    for key, column in pairs:
        name = key.name if isinstance(key, Task) else str(key)
        pattern = request.masks.get(name)
        if pattern is not None:
            task = key if isinstance(key, Task) else _guess_map_task(name, request, rows)
            assignments.append(Assignment(task, pattern=pattern))
        elif isinstance(key, Task):
            column = source.column_of(key) if column is None else column
            assignments.append(Assignment(key, column))
        else:
            column = name if column is None else column
            assignments.append(Assignment(source.guess(name, column), column))
    names = [assignment.task.name for assignment in assignments]
    for name in (*request.masks, *request.mask_values):
        if name not in names:
            raise DataError(unknown_name("task in `masks` or `mask_values`:", name, names))
    return assignments


def check_rows(rows: Rows, assignments: Sequence[Assignment]) -> None:
    """Several rows per file, and empty class folders."""
    source, skips = rows.source, rows.request.skips
    if isinstance(source, TableLabels):
        repeated = source.repeated()
        if repeated and not any(a.task.kind == "detection" for a in assignments):
            raise DataError(
                f"{len(repeated)} files have several rows in {source.source}: "
                f"{list_names(repeated)}. Only boxes of a Detection task have a row for each."
            )
    if isinstance(source, FolderLabels) and any(a.pattern is None for a in assignments):
        empty = source.empty_folders()
        if empty:
            text = f"{len(empty)} class folders of {source.source} hold no file: "
            if not skips:
                raise DataError(f'{text}{list_names(empty)}. `on_bad="skip"` leaves them out.')
            rows.remarks.append(f"{text}{list_names(empty)}.")


def _guess_map_task(name: str, request: Request, rows: Rows) -> Task:
    """A task for files of maps: depth of 16 bits and real numbers, else classes."""
    from mtl_keras.tasks import Depth, Segmentation

    paths = [path for path in _map_paths(rows, request.masks[name], name) if path is not None]
    values = [maps.read_map(path) for path in paths[:32]]
    if any(value.ndim == 3 for value in values) and name not in request.mask_values:
        raise DataError(
            f"{paths[0]} has colors. Give `mask_values` for '{name}', or a Segmentation or Normals "
            f"task in `tasks`."
        )
    if name in request.mask_values:
        top = max(int(number) for number in request.mask_values[name].values())
        return Segmentation(name, 1 if top < 2 else top + 1)
    if any(value.dtype.itemsize > 1 for value in values):
        return Depth(name)
    classes = {int(v) for value in values for v in np.unique(value)}
    if classes <= {0, 1, 255}:
        return Segmentation(name)
    return Segmentation(name, max(classes - {255}) + 1)


def _map_paths(rows: Rows, pattern: str, task: str) -> list[Path | None]:
    """The map of each row, None where there is no file.

    Raises:
        DataError: no row has one.
    """
    folder = rows.request.folder
    candidates = [folder / maps.expand_pattern(pattern, name) for name in rows.names()]
    paths = [path if path.is_file() else None for path in candidates]
    if not any(path is not None for path in paths):
        raise DataError(
            f"Task '{task}': no picture has a file '{pattern}', for example {candidates[0]}."
        )
    return paths


def read_task_labels(
    rows: Rows, assignment: Assignment, size: Sequence[int] | None
) -> tuple[Task, Field]:
    """A task and its labels, for the rows that remain."""
    task, column = assignment.task, assignment.column
    is_map = task.kind in maps.MAP_KINDS
    if is_map and size is None:
        raise DataError(
            f"Task '{task.name}' answers for places of a picture: these files are none."
        )
    if assignment.pattern is not None:
        return task, _map_labels(rows, task, _map_paths(rows, assignment.pattern, task.name), size)
    if isinstance(rows.source, AnnotationLabels):
        return rows.source.sized_field(task, column, rows.label_rows, size or ())
    if is_map:
        return task, _map_labels(rows, task, _column_paths(rows, task, column), size)
    task, labels = rows.source.field(task, column, rows.labeled())
    if len(labels) == len(rows.numbers):
        return task, labels
    # Rows that the source says nothing of.
    values = labels.load(np.arange(len(labels)))
    missing = np.nan if values.dtype.kind == "f" else task.missing_value
    full = np.full((len(rows.numbers), *values.shape[1:]), missing, values.dtype)
    full[rows.label_rows >= 0] = values
    return task, ArrayField(full)


def _column_paths(rows: Rows, task: Task, column: Column) -> list[Path | None]:
    """Maps that a table's column names, None where a cell is empty."""
    if column not in rows.source.columns():
        raise DataError(
            f"Task '{task.name}' learns from files: give `masks`, or a column that names them."
        )
    folder = rows.request.folder
    paths = [None if cell is None else folder / str(cell) for cell in rows.column(column)]
    for path in paths:
        if path is not None and not path.is_file():
            raise DataError(f"Task '{task.name}': there is no file {path}.")
    return paths


def _map_labels(
    rows: Rows, task: Task, paths: Sequence[Path | None], size: Sequence[int] | None
) -> FileField:
    request = rows.request
    reader = maps.MapReader(
        task, size or (), request.mask_values.get(task.name), request.depth_scale
    )
    reader.survey([path for path in paths if path is not None])
    return maps.map_field(reader, paths, rows.names(), request.cache)
