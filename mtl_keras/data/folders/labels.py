"""Labels of files by the folders that hold them, and what all sources of labels share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.fields import Field
from mtl_keras.data.folders.cells import cells_field, guess_cells
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Column", "FolderLabels", "Labels", "Sizes", "as_cells", "folder_columns"]

#: A column, or several, or an aspect of annotations.
Column = Any
Sizes = Callable[[Sequence[int]], np.ndarray]


class Labels:
    """Labels of files. Rows are those files that have any.

    Attributes:
        source: str. Where the labels come from, for messages.
        files: list of int. The file of each row.
        problems: dict of row to what is wrong with its labels.
        remarks: list of str, for `describe`.
    """

    source: str
    files: list[int]
    problems: dict[int, str]
    remarks: list[str]

    def default_tasks(self) -> dict[Any, Column]:
        """Tasks where the caller names none: a dict of name to column."""
        raise NotImplementedError

    def column_of(self, task: Task) -> Column:
        """The column of a task where the caller names none."""
        raise NotImplementedError

    def guess(self, name: str, column: Column) -> Task:
        """A task for a column."""
        raise NotImplementedError

    def field(self, task: Task, column: Column, rows: np.ndarray) -> tuple[Task, Field]:
        """The task, with the names of its classes where it had none, and its labels in `rows`."""
        raise NotImplementedError

    def check(self, task: Task, column: Column, find_sizes: Sizes) -> None:
        """Add what is wrong with a task's labels to `problems`."""

    def columns(self) -> dict[str, Sequence[Any]]:
        """Values per row that `group`, `time` and `weight` may name."""
        return {}


def folder_columns(files: Sequence[str]) -> dict[str, list[str | None]]:
    """The folders of files: "folder" is the one that holds the file, "folder_1" the outermost."""
    parents = [PurePosixPath(file).parent.parts for file in files]
    columns: dict[str, list[str | None]] = {"folder": [p[-1] if p else None for p in parents]}
    for level in range(max((len(parts) for parts in parents), default=0)):
        columns[f"folder_{level + 1}"] = [p[level] if len(p) > level else None for p in parents]
    return columns


class FolderLabels(Labels):
    """The names of sub-folders as classes.

    Args:
        folder: the folder.
        files: its files.
        kind: what the files are, for messages.
    """

    def __init__(self, folder: Path, files: Sequence[str], kind: str) -> None:
        self.source, self.files = str(folder), list(range(len(files)))
        self.problems, self.remarks = {}, []
        self._columns = folder_columns(files)
        self._kind, self._folder, self._paths = kind, folder, files

    def default_tasks(self) -> dict[Any, Column]:
        return {"label": "folder"} if any(self._columns["folder"]) else {}

    def column_of(self, task: Task) -> Column:
        return task.name if task.name in self._columns else "folder"

    def empty_folders(self) -> list[str]:
        """Class folders without a file, where others have some."""
        holders = {PurePosixPath(file).parent for file in self._paths}
        depths = {len(holder.parts) for holder in holders}
        empty = []
        for root, folders, _ in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
            inside = PurePosixPath(Path(root).relative_to(self._folder).as_posix())
            if not folders and inside not in holders and len(inside.parts) in depths:
                empty.append(str(inside))
        return sorted(empty)

    def guess(self, name: str, column: Column) -> Task:
        return guess_cells(name, [self._cells(column)])

    def field(self, task: Task, column: Column, rows: np.ndarray) -> tuple[Task, Field]:
        names = [self._paths[row] for row in rows]
        return cells_field(task, [self._cells(column)[rows]], names)

    def _cells(self, column: Column) -> np.ndarray:
        if column not in self._columns:
            raise DataError(unknown_name("folder level", str(column), list(self._columns)))
        return as_cells(self._columns[column])

    def columns(self) -> dict[str, Sequence[Any]]:
        return dict(self._columns)


def as_cells(values: Sequence[Any]) -> Any:
    """Cells as an array of objects."""
    cells = np.empty(len(values), object)
    cells[:] = list(values)
    return cells
