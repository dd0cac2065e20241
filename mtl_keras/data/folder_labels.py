"""Where the labels of a folder's files come from: its sub-folders, a table, or annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data import boxes
from mtl_keras.data.annotations import Annotations, read_coco, read_voc
from mtl_keras.data.annotations.labels import (
    ASPECTS,
    annotation_field,
    default_aspect,
    guess_annotation_task,
    pad_boxes,
)
from mtl_keras.data.cell_labels import cells_field, guess_cells
from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.files import FileIndex, list_names
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import is_missing
from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.table_files import TableError, read_csv

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["AnnotationLabels", "FolderLabels", "Labels", "TableLabels", "open_labels"]

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
        found = [None if cell is None else index.find(cell) for cell in cells]
        #: By file, the table's rows.
        self._rows: dict[int, list[int]] = {}
        for row, number in enumerate(found):
            if number is not None:
                self._rows.setdefault(number, []).append(row)
        self.files = list(self._rows)
        self._first = np.array([rows[0] for rows in self._rows.values()], int)
        self.problems, self.remarks = {}, []
        self.lost = [
            f"{lines[row]} ({cells[row]})" for row, number in enumerate(found) if number is None
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
        found = boxes.find_box_columns("box", names)
        tasks: dict[Any, Column] = {}
        if found is not None:
            tasks["box"] = found[0]
            names = [name for name in names if name not in found[0]]
        return {**tasks, **{name: name for name in names}}

    def column_of(self, task: Task) -> Column:
        names = [name for name in self._table if name != self._file]
        found: Column = None
        if task.kind in ("bounding_box", "detection"):
            found = boxes.find_box_columns(task.name, names)
            if found is not None:
                found = found[0]
        elif task.kind == "keypoints":
            found = boxes.find_point_columns(task, names)
        elif task.name in names or task.name in self._folders:
            found = task.name
        elif task.kind == "multi_label" and set(getattr(task, "labels", None) or [""]) <= set(
            names
        ):
            found = list(task.labels)  # type: ignore[attr-defined]
        if found is None:
            raise DataError(unknown_name(f"column in {self.source} for task:", task.name, names))
        if task.kind == "detection":
            classes = [n for n in ("class", "label", "category", "name", task.name) if n in names]
            found = [*found, *classes[:1]]
        return found

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
            names = [column] if isinstance(column, str) else list(column)
            numbers = boxes.read_numbers(
                f"Task '{task.name}'", self._columns_of(names), names, 2 * task.num_points
            )[self._first].reshape(-1, task.num_points, 2)
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

    def _columns_of(self, names: Sequence[str]) -> dict[str, np.ndarray]:
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

    def columns(self) -> dict[str, Sequence[Any]]:
        values = {name: cells[self._first] for name, cells in self._table.items()}
        return {**self._folders, **values}


class AnnotationLabels(Labels):
    """Annotations of pictures.

    Args:
        annotations: the annotations.
        index: the folder's files.
    """

    def __init__(self, annotations: Annotations, index: FileIndex) -> None:
        self.source, self.annotations = annotations.source, annotations
        found = {name: index.find(name) for name in annotations.pictures}
        self.lost = [name for name, number in found.items() if number is None]
        names = {number: name for name, number in found.items() if number is not None}
        self.files = sorted(names)
        self.names = [names[number] for number in self.files]
        self.problems = {
            row: f"{annotations.problems[name]}."
            for row, name in enumerate(self.names)
            if name in annotations.problems
        }
        self.remarks = list(annotations.remarks)
        self._folders = folder_columns([index.files[number] for number in self.files])

    def default_tasks(self) -> dict[Any, Column]:
        tasks = {"objects": "boxes"}
        if self.annotations.has_masks:
            tasks["mask"] = "masks"
        if self.annotations.points:
            tasks["points"] = "points"
        return tasks

    def column_of(self, task: Task) -> Column:
        return self._aspect(default_aspect(task), task.name)

    def _aspect(self, aspect: Column, task: str) -> str:
        known = [*ASPECTS, *self.annotations.categories]
        if aspect not in known:
            raise DataError(
                unknown_name(f"label of annotations for task '{task}':", str(aspect), known)
            )
        return str(aspect)

    def guess(self, name: str, column: Column) -> Task:
        return guess_annotation_task(name, self._aspect(column, name), self.annotations)

    def field(self, task: Task, column: Column, rows: np.ndarray) -> tuple[Task, Field]:
        raise NotImplementedError("Annotations need the size of maps: call `map_field`.")

    def sized_field(
        self, task: Task, column: Column, rows: np.ndarray, size: Sequence[int]
    ) -> tuple[Task, Field]:
        """As `field`, with the `(height, width)` of maps; row -1 has no label."""
        files = [None if row < 0 else self.names[row] for row in rows]
        aspect = self._aspect(column, task.name)
        return task, annotation_field(task, aspect, self.annotations, files, size)

    def check_sizes(self, sizes: Sequence[tuple[int, int] | None]) -> None:
        """Add pictures of another shape than the annotated ones to `problems`."""
        for row, (name, size) in enumerate(zip(self.names, sizes, strict=True)):
            if size is None:
                continue
            height, width = self.annotations.pictures[name].size
            # The same picture in another size has the same proportions.
            if abs(size[0] * width - size[1] * height) > 0.03 * size[1] * height:
                self.problems.setdefault(
                    row,
                    f"the annotations are those of a picture of {width} x {height} pixels, and "
                    f"the file, upright, has {size[1]} x {size[0]}.",
                )

    def columns(self) -> dict[str, Sequence[Any]]:
        return dict(self._folders)


def _finds(index: FileIndex, name: Any) -> bool:
    try:
        return index.find(name) is not None
    except DataError:
        return True


def as_cells(values: Sequence[Any]) -> np.ndarray:
    """Cells as an array of objects."""
    cells = np.empty(len(values), object)
    cells[:] = list(values)
    return cells


def open_labels(
    labels: Any,
    folder: Path,
    index: FileIndex,
    *,
    kind: str,
    file: str | None,
    box_format: str | None,
) -> Labels:
    """The labels that `from_folder` was given.

    Raises:
        DataError: labels of an unknown form, or a file that can't be read.
    """
    if labels is None:
        return FolderLabels(folder, index.files, kind)
    if isinstance(labels, Annotations):
        return AnnotationLabels(labels, index)
    if hasattr(labels, "columns") and hasattr(labels, "to_dict"):
        table = {str(name): _plain_cells(labels[name]) for name in labels.columns}
        lines = [f"row {number} of the table" for number in range(len(labels))]
        return TableLabels(table, "the table", lines, index, file, box_format)
    path = find_label_path(labels, folder)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".xml":

        def find_size(name: str) -> tuple[int, int]:
            from mtl_keras.data.pictures import upright_size

            number = index.find(name)
            if number is None:
                raise DataError(f"{path} does not say the size of {name}, which {folder} lacks.")
            return upright_size(folder / index.files[number])

        return AnnotationLabels(read_voc(path, find_size=find_size), index)
    if suffix == ".json":
        return AnnotationLabels(read_coco(path), index)
    if suffix not in (".csv", ".tsv", ".txt"):
        raise DataError(
            f"`labels` should be a CSV file, a COCO file (.json), a folder of Pascal VOC files "
            f"(.xml), a DataFrame or Annotations. Received: {labels!r}."
        )
    try:
        content = read_csv(path)
    except TableError as error:
        raise DataError(str(error)) from None
    return TableLabels(
        content.columns,
        content.name,
        content.row_names,
        index,
        file,
        box_format,
        content.decimal,
    )


def find_label_path(labels: Any, folder: Path) -> Path:
    """The file or folder of labels: from where the program runs, else inside the folder."""
    path = Path(labels)
    for candidate in (path, folder / path):
        if candidate.exists():
            return candidate
    raise DataError(f"There are no labels {labels}, neither here nor in {folder}.")


def _plain_cells(column: Any) -> np.ndarray:
    return as_cells([None if is_missing(cell) else cell for cell in column.tolist()])
