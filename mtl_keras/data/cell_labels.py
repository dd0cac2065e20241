"""From the cells of a column to a task's labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.files import list_names
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import to_numbers, to_truth
from mtl_keras.tasks import Binary, Classification, MultiLabel, Regression, Task

__all__ = ["cells_field", "guess_cells"]

_SEPARATOR = re.compile(r"\s*[|;]\s*")


def guess_cells(name: str, cells: Any, decimal: str = ".") -> Task:
    """A task for a column's cells: yes or no, a class, several labels, or a number.

    Raises:
        DataError: a column without a value.
    """
    if isinstance(cells, list):
        return MultiLabel(name, len(cells))
    values = [cell for cell in cells if cell is not None]
    if not values:
        raise DataError(f"Column '{name}' is empty: there is no label for a task.")
    numbers, others = to_numbers(values, decimal)
    if not others.any():
        is_answer = set(np.unique(numbers)) <= {0.0, 1.0}
        return Binary(name) if is_answer else Regression(name)
    if all(to_truth(value) is not None for value in values):
        return Binary(name)
    texts = [str(value) for value in values]
    if any(_SEPARATOR.search(text) for text in texts):
        labels = sorted({part for text in texts for part in split_labels(text)})
        return MultiLabel(name, len(labels), labels=labels)
    labels = sorted(set(texts))
    if len(labels) < 2:
        raise DataError(f"Column '{name}' holds one value only, '{labels[0]}': there is no task.")
    return Classification(name, len(labels), labels=labels)


def split_labels(text: str) -> list[str]:
    """The labels in one cell."""
    return [part for part in _SEPARATOR.split(text.strip()) if part]


def cells_field(
    task: Task, cells: Any, source: str, column: Any, decimal: str = "."
) -> tuple[Task, Field]:
    """The task, with the names of its classes where it had none, and its labels.

    Args:
        task: the task.
        cells: object array, or a list of them for several columns.
        source, column: where the cells come from, for messages.
        decimal: str.

    Raises:
        DataError: cells that the task doesn't take.
    """
    what = f"Task '{task.name}', column '{column}' of {source}"
    if task.kind in ("classification", "ordinal"):
        task, labels = _class_labels(task, cells, what, decimal)
    elif task.kind == "binary":
        labels = _truths(cells, what, decimal)
    elif task.kind == "multi_label":
        task, labels = _multi_labels(task, cells, what, decimal)
    elif task.kind == "transcription":
        texts = [None if cell is None else str(cell) for cell in cells]
        longest = max((len(text) for text in texts if text is not None), default=1)
        labels = np.concatenate(
            [
                np.full((1, longest), -1, "int32") if text is None else task.encode([text], longest)  # type: ignore[attr-defined]
                for text in texts
            ]
        )
    else:
        parts = cells if isinstance(cells, list) else [cells]
        labels = np.stack([_numbers(part, what, decimal) for part in parts], -1)
        labels = labels[:, 0] if len(parts) == 1 else labels
        labels = labels.astype("float32")
    try:
        task.check_labels(labels)
    except ValueError as error:
        raise DataError(f"{what}: {error}") from None
    return task, ArrayField(labels)


def _numbers(cells: Any, what: str, decimal: str) -> np.ndarray:
    numbers, others = to_numbers(cells, decimal)
    if others.any():
        strange = [cells[row] for row in np.flatnonzero(others)]
        raise DataError(f"{what}: numbers are expected. Received: {list_names(strange)}.")
    return numbers


def _class_labels(task: Any, cells: Any, what: str, decimal: str) -> tuple[Task, np.ndarray]:
    numbers, others = to_numbers(cells, decimal)
    names = sorted({str(cell) for cell in cells if cell is not None})
    if task.labels is None and not others.any():
        known = numbers[np.isfinite(numbers)]
        if len(known) and known.min() == 1 and known.max() == task.num_classes:
            raise DataError(
                f"{what}: classes go from 1 to {task.num_classes}, and 0 to "
                f"{task.num_classes - 1} are expected. Give the task `labels` "
                f"({', '.join(names[:3])}, ...), or subtract 1."
            )
        return task, np.where(np.isfinite(numbers), numbers, -1).astype("int32")
    if task.labels is None:
        if len(names) > task.num_classes:
            raise DataError(
                f"{what}: there are {len(names)} classes ({list_names(names)}), and the task has "
                f"{task.num_classes}."
            )
        if len(names) < task.num_classes:
            raise DataError(
                f"{what}: there are {len(names)} classes ({list_names(names)}), and the task has "
                f"{task.num_classes}. Name its `labels`."
            )
        task = _with_labels(task, names)
    strange = [name for name in names if name not in task.labels]
    if strange:
        raise DataError(
            f"{what} holds {list_names(strange)}, and the task's labels are "
            f"{list_names(task.labels, 10)}."
        )
    ids = {label: number for number, label in enumerate(task.labels)}
    return task, np.array([-1 if c is None else ids[str(c)] for c in cells], "int32")


def _with_labels(task: Any, labels: Sequence[str]) -> Any:
    """The task with names of its classes; its head is the user's."""
    twin = task.copy(labels=list(labels))
    twin._head = task._head
    return twin


def _truths(cells: Any, what: str, decimal: str) -> np.ndarray:
    numbers, others = to_numbers(cells, decimal)
    for row in np.flatnonzero(others):
        truth = to_truth(cells[row])
        if truth is None:
            raise DataError(f"{what}: yes or no, 0 or 1 is expected. Received: {cells[row]!r}.")
        numbers[row] = truth
    return np.where(np.isfinite(numbers), numbers, -1).astype("float32")


def _multi_labels(task: Any, cells: Any, what: str, decimal: str) -> tuple[Task, np.ndarray]:
    if isinstance(cells, list):
        return task, np.stack([_truths(part, what, decimal) for part in cells], -1)
    parts = [None if cell is None else split_labels(str(cell)) for cell in cells]
    names = sorted({name for row in parts if row is not None for name in row})
    if task.labels is None:
        if len(names) != task.num_labels:
            raise DataError(
                f"{what}: there are {len(names)} labels ({list_names(names)}), and the task has "
                f"{task.num_labels}. Name its `labels`."
            )
        task = _with_labels(task, names)
    strange = [name for name in names if name not in task.labels]
    if strange:
        raise DataError(
            f"{what} holds {list_names(strange)}, and the task's labels are "
            f"{list_names(task.labels, 10)}."
        )
    labels = np.full((len(parts), task.num_labels), -1, "int32")
    for label, row in zip(labels, parts, strict=True):
        if row is not None:
            label[:] = 0
            label[[task.labels.index(name) for name in row]] = 1
    return task, labels
