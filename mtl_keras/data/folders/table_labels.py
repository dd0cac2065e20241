"""Labels of files in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.annotations.labels import pad_boxes
from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.folders import boxes
from mtl_keras.data.folders.cells import cells_field, guess_cells
from mtl_keras.data.folders.files import FileIndex, list_names
from mtl_keras.data.folders.labels import Column, Labels, Sizes, as_cells, folder_columns
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["TableLabels"]


class TableLabels(Labels):
    """A table in which one column names the files.

    Args:
        table: dict of column to cells, None where a cell is empty.
        source: str. The table, for messages.
        lines: names of the table's rows, for messages.
        index: the folder's files.
        file: str or None. The column that names files; None finds it.
        box_format: see `from_folder`.
        decimal: str. The table's decimal mark.
    """

    def __init__(
        self,
        table: Mapping[str, np.ndarray],
        source: str,
        lines: Sequence[str],
        index: FileIndex,
        file: str | None,
        box_format: str | None,
        decimal: str = ".",
    ) -> None:
        boxes.check_box_format(box_format)
        self.source, self._table, self._lines, self._decimal = source, table, lines, decimal
        self._file = self._find_file_column(index, file)
        self._box_format = box_format
        cells = table[self._file]
        files = [None if cell is None else index.find(cell) for cell in cells]
        #: By file, the table's rows.
        self._rows: dict[int, list[int]] = {}
        for row, number in enumerate(files):
            if number is not None:
                self._rows.setdefault(number, []).append(row)
        self.files = list(self._rows)
        self._first = np.array([rows[0] for rows in self._rows.values()], int)
        self.problems, self.remarks = {}, []
        self.lost = [
            f"{lines[row]} ({cells[row]})" for row, number in enumerate(files) if number is None
        ]
        self._boxes: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._points: dict[str, np.ndarray] = {}
        self._folders = folder_columns([index.files[number] for number in self.files])

    def _find_file_column(self, index: FileIndex, file: str | None) -> str:
        """The column that names files: the one given, or the one in which most cells do."""
        if file is not None:
            if file not in self._table:
                raise DataError(unknown_name(f"column in {self.source}:", file, list(self._table)))
            return file
        counts = {}
        for name, cells in self._table.items():
            names = [cell for cell in cells if cell is not None]
            sample = names[:: max(1, len(names) // 200)]
            counts[name] = sum(_finds(index, cell) for cell in sample) / max(len(sample), 1)
        best = max(counts, key=lambda name: counts[name])
        if not counts[best]:
            shown = {name: str(next(iter(cells), None)) for name, cells in self._table.items()}
            raise DataError(
                f"No column of {self.source} names the folder's files, such as "
                f"{list_names(index.files, 2)}. Name the column with `file`. Received, in the "
                f"first row: {shown}."
            )
        return best

    def repeated(self) -> list[str]:
        """Files with several rows."""
        return [
            f"{self._table[self._file][rows[0]]} ({', '.join(self._lines[row] for row in rows[:3])})"
            for rows in self._rows.values()
            if len(rows) > 1
        ]

    def default_tasks(self) -> dict[Any, Column]:
        names = [name for name in self._table if name != self._file]
        box_columns = boxes.find_box_columns("box", names)
        tasks: dict[Any, Column] = {}
        if box_columns is not None:
            tasks["box"] = box_columns[0]
            names = [name for name in names if name not in box_columns[0]]
        return {**tasks, **{name: name for name in names}}

    def column_of(self, task: Task) -> Column:
        names = [name for name in self._table if name != self._file]
        column: Column = None
        if task.kind in ("bounding_box", "detection"):
            column = boxes.find_box_columns(task.name, names)
            if column is not None:
                column = column[0]
        elif task.kind == "keypoints":
            column = boxes.find_point_columns(task, names)
        elif task.name in names or task.name in self._folders:
            column = task.name
        elif task.kind == "multi_label" and set(getattr(task, "labels", None) or [""]) <= set(
            names
        ):
            column = list(task.labels)  # type: ignore[attr-defined]
        if column is None:
            raise DataError(unknown_name(f"column in {self.source} for task:", task.name, names))
        if task.kind == "detection":
            classes = [n for n in ("class", "label", "category", "name", task.name) if n in names]
            column = [*column, *classes[:1]]
        return column

    def guess(self, name: str, column: Column) -> Task:
        from mtl_keras.tasks import BoundingBox, Detection

        if isinstance(column, (list, tuple)):
            if len(column) == 4:
                return BoundingBox(name)
            if len(column) == 5:
                classes = sorted({str(c) for c in self._cells(column[4]) if c is not None})
                return Detection(name, len(classes), labels=classes)
        names = [column] if isinstance(column, str) else list(column)
        return guess_cells(name, [self._cells(part) for part in names], self._decimal)

    def check(self, task: Task, column: Column, find_sizes: Sizes) -> None:
        if task.kind in ("bounding_box", "detection"):
            self._check_boxes(task, column, find_sizes)
        elif task.kind == "keypoints":
            count = task.num_points  # type: ignore[attr-defined]
            names = [column] if isinstance(column, str) else list(column)
            numbers = boxes.read_numbers(
                f"Task '{task.name}'", self._columns_of(names), names, 2 * count
            )[self._first].reshape(-1, count, 2)
            in_pixels = (self._box_format or "").endswith("_pixels")
            sizes = find_sizes(self.files) if in_pixels else None
            self._points[task.name], problems = boxes.read_points(numbers, in_pixels, sizes)
            self._add_problems(task, problems, self._first)

    def _check_boxes(self, task: Task, column: Column, find_sizes: Sizes) -> None:
        names = [column] if isinstance(column, str) else list(column)
        edges = names[:4] if len(names) >= 4 else names[:1]
        numbers = boxes.read_numbers(f"Task '{task.name}'", self._columns_of(edges), edges, 4)
        suggestion = boxes.find_box_columns(task.name, edges)
        box_format = self._box_format or (suggestion[1] if suggestion else None) or "ltrb"
        file_of_row = np.full(len(numbers), -1)
        for number, rows in self._rows.items():
            file_of_row[rows] = number
        used = np.flatnonzero(file_of_row >= 0)
        sizes = find_sizes(file_of_row[used].tolist()) if box_format.endswith("_pixels") else None
        values, problems = boxes.read_boxes(numbers[used], box_format, sizes)
        self._add_problems(task, problems, used)
        all_boxes = np.full((len(numbers), 4), np.nan, "float32")
        all_boxes[used] = values
        classes = np.zeros(len(numbers), object)
        if task.kind == "detection" and len(names) in (2, 5):
            classes = self._cells(names[-1])
        self._boxes[task.name] = (all_boxes, classes)

    def _add_problems(self, task: Task, problems: Mapping[int, str], rows: np.ndarray) -> None:
        row_of_file = {row: n for n, rows in enumerate(self._rows.values()) for row in rows}
        for position, problem in problems.items():
            line = int(rows[position])
            self.problems.setdefault(
                row_of_file[line], f"{self._lines[line]}, task '{task.name}': {problem}."
            )

    def field(self, task: Task, column: Column, rows: np.ndarray) -> tuple[Task, Field]:
        if task.kind == "detection":
            return task, ArrayField(self._detection_labels(task, rows))
        if task.kind == "bounding_box":
            return task, ArrayField(self._boxes[task.name][0][self._first[rows]])
        if task.kind == "keypoints":
            return task, ArrayField(self._points[task.name][rows])
        lines = [self._lines[self._first[row]] for row in rows]
        columns = [cells[rows] for cells in self._row_cells(column)]
        return cells_field(task, columns, lines, self._decimal)

    def _detection_labels(self, task: Any, rows: np.ndarray) -> np.ndarray:
        all_boxes, classes = self._boxes[task.name]
        table_rows = list(self._rows.values())
        labels = []
        for row in rows:
            objects = []
            for line in table_rows[row]:
                if not np.isnan(all_boxes[line]).any():
                    number = self._class_number(task, classes[line], line)
                    objects.append((*all_boxes[line], number))
            labels.append(objects)
        return pad_boxes(labels, [False] * len(labels))

    def _class_number(self, task: Any, cell: Any, line: int) -> int:
        if task.labels is not None and str(cell) in task.labels:
            return task.labels.index(str(cell))
        number = int(cell) if str(cell).strip().isdigit() else -1
        if (task.labels is not None and number < 0) or not 0 <= number < task.num_classes:
            raise DataError(
                f"{self._lines[line]}: task '{task.name}' has {task.num_classes} classes "
                f"({', '.join(task.labels or ['0 and up'])}). Received: {cell!r}."
            )
        return number

    def _columns_of(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: self._cells(name) for name in names}

    def _row_cells(self, column: Column) -> list[np.ndarray]:
        """The cells of one or more columns, by row of this object."""
        names = [column] if isinstance(column, str) else list(column)
        return [
            self._cells(name)[self._first] if name in self._table else self._cells(name)
            for name in names
        ]

    def _cells(self, name: str) -> np.ndarray:
        if name in self._table:
            return self._table[name]
        if name in self._folders:
            return as_cells(self._folders[name])
        raise DataError(unknown_name(f"column in {self.source}:", str(name), list(self._table)))

    def column_names(self) -> list[str]:
        return [*self._table, *(name for name in self._folders if name not in self._table)]

    def column(self, name: str) -> Sequence[Any]:
        return self._table[name][self._first] if name in self._table else self._folders[name]


def _finds(index: FileIndex, name: Any) -> bool:
    try:
        return index.find(name) is not None
    except DataError:
        return True
