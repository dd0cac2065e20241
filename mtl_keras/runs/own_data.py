"""A data set of whatever a path is, with tasks as a shell spells them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras import data as data_room
from mtl_keras.data import DataError, TaskDataset
from mtl_keras.data.parquet import read_parquet
from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.table_files import TableError, read_csv
from mtl_keras.tasks import Task, guess_task
from mtl_keras.tasks.guess import KINDS

__all__ = ["load_data", "parse_target", "tasks_of"]

_TABLES = (".csv", ".tsv", ".txt", ".parquet")


def load_data(
    path: str | os.PathLike[str], tasks: Any, labels: Any = None, **options: Any
) -> TaskDataset:
    """A data set of a CSV or Parquet file, or of a folder of pictures or sounds.

    Args:
        path: the file or folder.
        tasks: as in `mtl.data.from_csv`: list of `Task`, or a dict of tasks and columns.
        labels: file of labels, for folders.
        **options: those of `mtl.data.from_csv`, `from_parquet` or `from_folder`.

    Returns:
        `TaskDataset`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: data that can't be learned from.

    Examples:
        >>> _ = open("flats.csv", "w").write("rooms;price\\n1;1,5\\n3;2,25\\n2;?\\n")
        >>> len(mtl.runs.load_data("flats.csv", [mtl.tasks.Regression("price", scale="fit")]))
        3
    """
    path = Path(path)
    options = {name: value for name, value in options.items() if value is not None}
    if path.is_dir():
        return data_room.from_folder(path, labels=labels, tasks=tasks, **options)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    if labels is not None:
        raise DataError(f"`labels` is for folders; {path} is a file, whose columns are the labels.")
    if path.suffix.lower() not in _TABLES:
        raise DataError(
            f"{path} should be a CSV file ({', '.join(_TABLES[:3])}), a Parquet file (.parquet), "
            f"or a folder."
        )
    read = data_room.from_parquet if path.suffix.lower() == ".parquet" else data_room.from_csv
    return read(path, tasks, **options)


def parse_target(text: str) -> tuple[str, str | None]:
    """Column and kind of `diabetes:binary`; the kind is None where it is to be guessed.

    Raises:
        ValueError: an unknown kind.
    """
    column, separator, kind = text.rpartition(":")
    if not separator:
        return text, None
    if kind not in KINDS:
        raise ValueError(unknown_name(f"kind of task in '{text}':", kind, KINDS))
    return column, kind


def tasks_of(path: str | os.PathLike[str], targets: Sequence[str]) -> dict[Task, str]:
    """A task for every target, with its column.

    Args:
        path: a CSV or Parquet file; for a folder, the file of its labels.
        targets: list of "column" or "column:kind".

    Returns:
        dict of `Task` to column.

    Raises:
        DataError: no target, a column that is missing, values that are no labels of this kind.
    """
    columns, decimal = _read_columns(Path(path))
    if not targets:
        raise DataError(
            f"Name at least one column to predict: --target COLUMN or --target COLUMN:KIND, with "
            f"KIND {', '.join(KINDS)}. {Path(path).name} has the columns {', '.join(columns)}."
        )
    result: dict[Task, str] = {}
    names: set[str] = set()
    for target in targets:
        # A column's own name may hold a colon.
        column, kind = (target, None) if target in columns else parse_target(target)
        if column not in columns:
            raise DataError(
                unknown_name(f"column to predict in {Path(path).name}:", column, list(columns))
            )
        name = _task_name(column)
        if name in names:
            raise DataError(f"Two targets would make a task of the name '{name}': {target!r}.")
        names.add(name)
        try:
            task = guess_task(name, columns[column], kind, decimal)
        except ValueError as error:
            raise DataError(f"Column '{column}' of {Path(path).name}: {error}") from None
        result[task] = column
    return result


def _read_columns(path: Path) -> tuple[Mapping[str, Any], str]:
    """Columns of a table as cells, and the decimal mark."""
    if path.suffix.lower() == ".parquet":
        columns = read_parquet(path)
        return {name: column.to_pylist() for name, column in columns.items()}, "."
    try:
        file = read_csv(path)
    except TableError as error:
        raise DataError(str(error)) from None
    return file.columns, file.decimal


def _task_name(column: str) -> str:
    """A column's name with letters, digits and underscores only: "Blood pressure" is
    `Blood_pressure`."""
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_")
    return name if name[:1].isalpha() else f"task_{name}" if name else "task"


def has_label(task: Task, labels: Any) -> bool:
    """Whether any row has a label of this task."""
    from keras import ops

    _, present = task.target(ops.convert_to_tensor(np.asarray(labels)))
    return bool(np.any(ops.convert_to_numpy(present)))
