"""Tasks and the columns that hold their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import MISSING, is_missing, to_number, to_numbers, to_truth
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Target", "read_labels", "resolve_targets"]


@dataclass(frozen=True)
class Target:
    """A task, and the columns that hold its labels.

    Attributes:
        task: `Task`.
        columns: names of the columns: one, or as many as a label has numbers.
    """

    task: Task
    columns: tuple[str, ...]


def resolve_targets(
    tasks: Any, table: Mapping[str, Any], where: str, decimal: str = "."
) -> list[Target]:
    """Tasks in every form that sources take, with their columns.

    Args:
        tasks: list of `Task`, whose columns have the tasks' names; or a dict of task name or `Task`
            to a column, a list of columns, or a `Task`. Tasks that only have a name are guessed
            from the values.
        table: dict of column to its cells.
        where: what the table is, for messages, such as the file's name.
        decimal: "." or ",". Decimal mark of numbers that come as text.

    Returns:
        list of `Target`.

    Raises:
        DataError: no task; a column that is missing; values of which no task can be guessed.
    """
    from mtl_keras.tasks import Task, guess_task

    if isinstance(tasks, Task):
        tasks = [tasks]
    items: list[tuple[Any, Any]]
    if isinstance(tasks, Mapping):
        items = list(tasks.items())
    elif isinstance(tasks, str) or tasks is None:
        raise DataError(
            f"`tasks` should be a list of tasks, or a dict of task name to column. Received: "
            f"{tasks!r}."
        )
    else:
        items = [(task, task.name if isinstance(task, Task) else task) for task in tasks]
    if not items:
        raise DataError("A data set should have at least one task. Received: none.")
    targets = []
    for key, value in items:
        task = key if isinstance(key, Task) else value if isinstance(value, Task) else None
        name = key if isinstance(key, str) else task.name if task is not None else str(key)
        columns = value if not isinstance(value, Task) else key
        columns = tuple([columns] if isinstance(columns, str) else columns)
        for column in columns:
            if column not in table:
                raise DataError(
                    unknown_name(f"column of task '{name}' in {where}:", column, list(table))
                )
        if task is None:
            if len(columns) > 1:
                raise DataError(
                    f"Task '{name}' has {len(columns)} columns: give a task, such as "
                    f"{{mtl.tasks.MultiLabel('{name}', {len(columns)}): {list(columns)}}}."
                )
            try:
                task = guess_task(name, table[columns[0]], decimal=decimal)
            except ValueError as error:
                raise DataError(f"Column '{columns[0]}' of {where}: {error}") from None
        targets.append(Target(task, columns))
    return targets


def read_labels(
    target: Target,
    table: Mapping[str, Any],
    row_names: Sequence[str],
    *,
    decimal: str = ".",
    missing: Sequence[str] = MISSING,
) -> tuple[Task, np.ndarray]:
    """Labels of one task from the cells of its columns.

    Args:
        target: task and columns.
        table: dict of column to its cells: numbers or texts.
        row_names: where each row comes from, for messages.
        decimal, missing: of cells that are texts.

    Returns:
        `(task, labels)`: the task, which knows the names of its classes then, and an array as the
        task takes it, with its `missing_value` where there is no label.

    Raises:
        DataError: a cell that is no label of this task; it names the row and says what to do.
    """
    task = target.task
    reader = _Reader(task, row_names, decimal, frozenset(missing))
    columns = [np.asarray(table[column], object) for column in target.columns]
    kind = task.kind
    if kind in ("classification", "ordinal") and len(columns) == 1:
        task, labels = reader.classes(columns[0])
    elif kind == "binary" and len(columns) == 1:
        labels = reader.truths(columns[0])
    elif kind == "multi_label" and len(columns) == 1 and task.label_shape != (1,):
        labels = reader.sets(columns[0])
    elif kind == "multi_label":
        labels = np.concatenate([reader.truths(column) for column in columns], 1)
    else:
        labels = reader.numbers(columns)
    reader.check(task, labels)
    return task, labels


class _Reader:
    """Cells of one task's columns to labels."""

    def __init__(
        self, task: Task, row_names: Sequence[str], decimal: str, missing: frozenset[str]
    ) -> None:
        self.task, self.row_names = task, row_names
        self.decimal, self.missing = decimal, missing

    def refuse(self, row: int, cell: Any, expected: str) -> None:
        raise DataError(
            f"{self.row_names[row]}: the label of task '{self.task.name}' should be {expected}. "
            f"Received: {cell!r}."
        )

    def is_missing(self, cell: Any) -> bool:
        return is_missing(cell, self.missing)

    # ------------------------------------------------------------------ kinds of labels
    def classes(self, cells: np.ndarray) -> tuple[Task, np.ndarray]:
        """Class numbers: of texts, their places among the task's labels."""
        from mtl_keras.runtime.encoders.table_encoder import category_name

        task: Any = self.task
        names = [None if self.is_missing(cell) else category_name(cell) for cell in cells]
        known = sorted({name for name in names if name is not None})
        numbers, others = to_numbers(cells, self.decimal, self.missing)
        has_words = all(
            to_number(category_name(label), self.decimal) is None for label in task.labels or ()
        )
        if has_words and not others.any():
            # Numbers of classes, also where the classes have words for names.
            return task, self.class_numbers(cells, numbers)
        if task.labels is None:
            if len(known) != task.num_classes:
                some = ", ".join(map(repr, known[:5])) + (", ..." if len(known) > 5 else "")
                raise DataError(
                    f"Task '{task.name}' has {task.num_classes} classes, and its column holds "
                    f"{len(known)} different labels: {some}. Name the classes: `labels=[...]`."
                )
            task = task.copy(labels=known)
        ids = {category_name(label): i for i, label in enumerate(task.labels)}
        labels = np.full(len(cells), -1, "int32")
        for row, name in enumerate(names):
            if name is None or name == "-1":
                continue
            if name not in ids:
                hint = unknown_name("label", name, list(ids))
                raise DataError(f"{self.row_names[row]}: task '{task.name}': {hint}")
            labels[row] = ids[name]
        return task, labels

    def class_numbers(self, cells: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        task: Any = self.task
        known = np.isfinite(numbers) & (numbers != -1)
        count = task.num_classes
        bad = known & ((numbers < 0) | (numbers >= count) | (numbers != np.round(numbers)))
        if bad.any():
            row = int(np.argmax(bad))
            present = numbers[known]
            if present.min() == 1 and present.max() == count:
                raise DataError(
                    f"{self.row_names[row]}: classes of task '{task.name}' seem to be numbered "
                    f"from 1 to {count}; they should go from 0 to {count - 1}. Subtract 1, or name "
                    f"the classes: `labels={[str(i) for i in range(1, min(count, 3) + 1)]}`"
                    f"{' and so on' if count > 3 else ''}."
                )
            self.refuse(row, cells[row], f"a whole number from 0 to {count - 1}")
        return np.where(known, numbers, -1).astype("int32")

    def truths(self, cells: np.ndarray) -> np.ndarray:
        """Yes as 1 and no as 0; probabilities from 0 to 1 stay, "80 %" is one."""
        labels = np.full((len(cells), 1), np.nan, "float32")
        present = []
        for row, cell in enumerate(cells):
            if self.is_missing(cell):
                continue
            truth = to_truth(cell)
            number = float(truth) if truth is not None else to_number(cell, self.decimal)
            if number is None:
                self.refuse(
                    row,
                    cell,
                    "0 or 1, yes or no, or a probability (two names of classes make a "
                    "`Classification`)",
                )
            present.append((row, number))
        numbers = np.array([number for _, number in present], float)
        bad = (numbers != -1) & ((numbers < 0) | (numbers > 1))
        if bad.any():
            row, number = present[int(np.argmax(bad))]
            values = set(np.unique(numbers))
            if values <= {1.0, 2.0}:
                expected = "0 or 1; 1 and 2 look like classes that are numbered from 1: subtract 1"
            elif numbers.max() <= 100 and numbers.min() >= 0 and len(values) > 2:
                expected = "a probability from 0 to 1; these look like percentages: divide by 100"
            else:
                expected = "0 or 1, or a probability between"
            self.refuse(row, cells[row], expected)
        for row, number in present:
            labels[row] = np.nan if number == -1 else number
        return labels

    def sets(self, cells: np.ndarray) -> np.ndarray:
        """Names of the labels that hold, such as "comedy; drama", as 0 and 1 per label."""
        from mtl_keras.runtime.encoders.table_encoder import category_name

        task: Any = self.task
        if task.labels is None:
            raise DataError(
                f"Task '{task.name}' has one column for {task.num_labels} labels: name them, "
                f"`labels=[...]`, or give a column per label."
            )
        ids = {category_name(label): i for i, label in enumerate(task.labels)}
        labels = np.full((len(cells), task.num_labels), np.nan, "float32")
        for row, cell in enumerate(cells):
            if self.is_missing(cell):
                continue
            labels[row] = 0.0
            names = cell if isinstance(cell, (list, tuple, np.ndarray)) else _names_in(str(cell))
            for name in names:
                if category_name(name) not in ids:
                    hint = unknown_name("label", str(name), list(ids))
                    raise DataError(f"{self.row_names[row]}: task '{task.name}': {hint}")
                labels[row, ids[category_name(name)]] = 1.0
        return labels

    def numbers(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """Numbers side by side; a label with a number missing is missing."""
        task = self.task
        shape = task.label_shape
        if None in shape or len(columns) != int(np.prod(shape)):  # type: ignore[arg-type]
            raise DataError(
                f"Task '{task.name}' ({task.kind}) has labels of shape {shape}, and {len(columns)} "
                f"columns were named: give a column per number, `{{task: [columns]}}`, or arrays, "
                f"`mtl.data.from_arrays`."
            )
        values = []
        for cells in columns:
            numbers, others = to_numbers(cells, self.decimal, self.missing)
            if others.any():
                row = int(np.argmax(others))
                self.refuse(row, cells[row], "a number")
            values.append(numbers)
        labels = np.stack(values, -1).reshape(-1, *shape)
        return labels.astype("float32")

    def check(self, task: Task, labels: np.ndarray) -> None:
        """What the task itself refuses, with the row."""
        try:
            task.check_labels(labels)
        except ValueError as error:
            row = _first_refused(task, labels)
            where = "" if row is None else f"{self.row_names[row]}: "
            raise DataError(f"{where}{error}") from None


def _names_in(cell: str) -> list[str]:
    for delimiter in (";", "|", ","):
        if delimiter in cell:
            return [name.strip() for name in cell.split(delimiter) if name.strip()]
    return [cell.strip()]


def _first_refused(task: Task, labels: np.ndarray) -> int | None:
    """The first row whose label the task refuses alone."""
    for row in range(len(labels)):
        try:
            task.check_labels(labels[row : row + 1])
        except ValueError:
            return row
    return None
