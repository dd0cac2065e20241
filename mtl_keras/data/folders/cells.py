"""Labels of files in the cells of columns: what tables have too, several labels in a cell, and
texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.sources import DataError
from mtl_keras.data.targets import Target, read_labels

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["cells_field", "guess_cells"]

_SEPARATOR = re.compile(r"\s*[|;]\s*")


def guess_cells(name: str, columns: Sequence[Any], decimal: str = ".") -> Task:
    """A task for the cells of one or more columns.

    Several columns are a yes or no each; texts with "|" or ";" are several labels; the rest is
    guessed by `mtl.tasks.guess_task`.

    Raises:
        DataError: no task can be guessed.
    """
    from mtl_keras.tasks import MultiLabel, guess_task

    if len(columns) > 1:
        return MultiLabel(name, len(columns))
    cells: Any = columns[0]
    if any(isinstance(cell, str) and _SEPARATOR.search(cell) for cell in cells):
        labels = names_in_cells(cells)
        return MultiLabel(name, len(labels), labels=labels)
    try:
        return guess_task(name, cells, decimal=decimal)
    except ValueError as error:
        raise DataError(str(error)) from None


def names_in_cells(cells: np.ndarray) -> list[str]:
    """All labels that cells hold, in alphabetical order."""
    parts = (part for cell in cells if cell is not None for part in _SEPARATOR.split(str(cell)))
    return sorted({part.strip() for part in parts} - {""})


def cells_field(
    task: Any, columns: Sequence[np.ndarray], row_names: Sequence[str], decimal: str = "."
) -> tuple[Task, Field]:
    """The task, with the names of its classes where it had none, and its labels.

    Args:
        task: the task.
        columns: object arrays, None where a cell is empty.
        row_names: where each row comes from, for messages.
        decimal: "." or ",".

    Raises:
        DataError: a cell that the task doesn't take.
    """
    if task.kind == "transcription":
        return task, ArrayField(_letters(task, columns[0], row_names))
    if task.kind == "multi_label" and len(columns) == 1 and task.labels is None:
        labels = names_in_cells(columns[0])
        if len(labels) == task.num_labels > 1:
            task = task.copy(labels=labels)
    table: dict[str, Any] = {str(number): cells for number, cells in enumerate(columns)}
    task, values = read_labels(Target(task, tuple(table)), table, row_names, decimal=decimal)
    return task, ArrayField(values)


def _letters(task: Any, cells: np.ndarray, row_names: Sequence[str]) -> np.ndarray:
    """Texts as numbers of letters, -1 behind their end."""
    longest = max([1, *(len(str(cell)) for cell in cells if cell is not None)])
    rows = np.full((len(cells), longest), -1, "int32")
    for row, cell in enumerate(cells):
        if cell is not None:
            try:
                rows[row] = task.encode([str(cell)], longest)[0]
            except ValueError as error:
                raise DataError(f"{row_names[row]}: {error}") from None
    return rows
