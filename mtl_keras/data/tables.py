"""Data sets of tables: CSV and Parquet files, and data frames."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.leaks import LeakWarning, find_leaks
from mtl_keras.data.parquet import read_parquet
from mtl_keras.data.roles import Column, choose_inputs, measure_column
from mtl_keras.data.sources import DataError
from mtl_keras.data.targets import Target, read_labels, resolve_targets
from mtl_keras.data.texts import fit_tokenizer
from mtl_keras.runtime.callers import warn_caller
from mtl_keras.runtime.cells import MISSING, to_date
from mtl_keras.runtime.encoders import MixedEncoder, TableEncoder
from mtl_keras.runtime.names import unknown_name
from mtl_keras.runtime.table_files import TableError, read_csv

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["from_csv", "from_dataframe", "from_parquet"]


def from_csv(
    path: str | os.PathLike[str],
    tasks: Any,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = MISSING,
    **options: Any,
) -> TaskDataset:
    """A data set of a CSV file with a row of column names.

    Cells may stand in quotes and hold line breaks. Numbers may be grouped ("1,234.5", "1.234,5")
    and end in "%": "12 %" is 0.12. Messages name rows by their line: "patients.csv:17".

    Args:
        path: the file.
        tasks: see `from_dataframe`.
        encoding: str. None: UTF-8, or UTF-16 where the file says so.
        delimiter: str. Between cells. None finds it: comma, semicolon, tab or bar.
        decimal: "." or ",". Decimal mark. None finds it.
        missing: list of str. Cells that say that there is no value. Defaults to empty cells, "NA",
            "NaN", "NULL", "?", "-" and the like.
        **options: `inputs`, `text`, `leave_out`, `group`, `time`, `weight` and `tokenizer`, as in
            `from_dataframe`.

    Returns:
        `TaskDataset`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: a file that can't be read, or a table that can't be learned from, as in
            `from_dataframe`.

    Examples:
        >>> _ = open("flats.csv", "w").write("rooms;city;price\\n1;Oslo;1,5\\n3;Bergen;2,25\\n2;Oslo;?\\n")
        >>> flats = mtl.data.from_csv("flats.csv", [mtl.tasks.Regression("price", scale="fit")])
        >>> flats.labels("price").ravel().tolist()
        [1.5, 2.25, nan]
    """
    try:
        file = read_csv(
            path, encoding=encoding, delimiter=delimiter, decimal=decimal, missing=missing
        )
    except TableError as error:
        raise DataError(str(error)) from None
    return _from_table(
        file.columns,
        tasks,
        _Origin(file.name, file.row_names, file.decimal, tuple(missing)),
        _Options(**_check_options(options)),
    )


def from_parquet(path: str | os.PathLike[str], tasks: Any, **options: Any) -> TaskDataset:
    """A data set of a Parquet file.

    Args:
        path: the file.
        tasks: see `from_dataframe`.
        **options: `inputs`, `text`, `leave_out`, `group`, `time`, `weight`, `tokenizer` and
            `missing`, as in `from_dataframe`.

    Returns:
        `TaskDataset`.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: pyarrow is not installed; a file that can't be read, or a table that can't be
            learned from, as in `from_dataframe`.
    """
    path = Path(path)
    columns = {name: column.to_numpy() for name, column in read_parquet(path).items()}
    return from_dataframe(columns, tasks, name=path.name, **options)


def from_dataframe(
    frame: Any,
    tasks: Any,
    *,
    inputs: Sequence[str] | Mapping[str, str] | None = None,
    text: str | Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
    group: str | None = None,
    time: str | None = None,
    weight: str | Mapping[str, str] | None = None,
    tokenizer: Any = "auto",
    decimal: str = ".",
    missing: Sequence[str] = MISSING,
    name: str = "the table",
) -> TaskDataset:
    """A data set of a data frame, or of a dict of columns.

    Columns that are neither labels nor named for something else are inputs: numbers, categories
    (texts of few different values) and texts. Ids, dates and constant columns are left out.
    `print(data.describe())` shows what each column was taken for; `inputs` says it otherwise.

    The encoder (means, known categories, vocabularies) is fitted on the training part: on the first
    part of a split.

    Args:
        frame: `pandas.DataFrame`, `polars.DataFrame`, or a dict of column name to values.
        tasks: list of `Task`, each with the name of its column; or a dict. Its keys are tasks or
            names, its values columns (a list of them where a label has several numbers) or tasks.
            `{"pressure": "Blood pressure"}` guesses the task from the values, see
            `mtl.tasks.guess_task`.
        inputs: names of the inputs, or a dict of name to "number", "category" or "text". None finds
            them.
        text: name, or names, of columns of texts.
        leave_out: names of columns that are no inputs.
        group: column whose values hold together in splits, such as a patient.
        time: column of dates or numbers, for splits by time.
        weight: column of the rows' weights, or a dict of task name to one.
        tokenizer: what makes ids of texts: "words", "subwords", "characters", "auto" (words, or
            subwords where too many words of new texts would be unknown), or a tokenizer of
            `mtl.data`.
        decimal: "." or ",". Decimal mark of numbers that come as text.
        missing: list of str. Texts that say that there is no value.
        name: str. For messages.

    Returns:
        `TaskDataset` of kind "table", "text" (one column of texts is the only input) or "mixed".

    Raises:
        DataError: a column that is missing, constant or mixed; a label that its task does not take;
            an input that is a task's label in other words. It names column and row.

    Examples:
        >>> frame = {"rooms": [1, 2, 3, 4], "city": ["Oslo", "Bergen", "Oslo", "Oslo"],
        ...     "price": [1.0, 2.0, None, 2.5]}
        >>> flats = mtl.data.from_dataframe(frame, [mtl.tasks.Regression("price", scale="fit")])
        >>> print(flats.encoder)
        TableEncoder of 2 columns
          rooms  number: mean 2.5, standard deviation 1.118; a missing one becomes the mean
          city   category: 2 values (Bergen, Oslo); id 0 if missing or not among them
    """
    columns, row_names = _columns_of(frame, name)
    return _from_table(
        columns,
        tasks,
        _Origin(name, row_names, decimal, tuple(missing)),
        _Options(inputs, text, leave_out, group, time, weight, tokenizer),
    )


@dataclass(frozen=True)
class _Origin:
    """Where a table comes from, and how its cells are written."""

    name: str
    row_names: Sequence[str]
    decimal: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Options:
    """What a user says of the columns."""

    inputs: Sequence[str] | Mapping[str, str] | None = None
    text: str | Sequence[str] | None = None
    leave_out: Sequence[str] = ()
    group: str | None = None
    time: str | None = None
    weight: str | Mapping[str, str] | None = None
    tokenizer: Any = "auto"

    def uses(self) -> dict[str, str]:
        """What columns are used for, beside inputs and labels."""
        weights = self.weight.values() if isinstance(self.weight, Mapping) else [self.weight]
        leave_out = [self.leave_out] if isinstance(self.leave_out, str) else self.leave_out
        uses = dict.fromkeys(leave_out, "left out")
        uses |= {name: "weight" for name in weights if name is not None}
        if self.group is not None:
            uses[self.group] = "group"
        if self.time is not None:
            uses[self.time] = "time"
        return uses


def _check_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    known = list(_Options.__dataclass_fields__)
    for option in options:
        if option not in known:
            raise TypeError(unknown_name("argument of `from_csv`:", option, known))
    return options


def _columns_of(frame: Any, name: str) -> tuple[dict[str, np.ndarray], Sequence[str]]:
    """Columns of a frame as arrays, and a name per row."""
    if not isinstance(frame, Mapping) and not hasattr(frame, "columns"):
        raise DataError(
            f"A table should be a data frame or a dict of columns. Received: "
            f"{type(frame).__name__}."
        )
    names = list(frame) if isinstance(frame, Mapping) else list(frame.columns)
    columns = {str(column): _to_array(frame[column]) for column in names}
    sizes = {column: len(values) for column, values in columns.items()}
    if len(columns) < len(names):
        raise DataError(f"Names of columns of {name} should be different. Received: {names}.")
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise DataError(
            f"Columns of {name} should have one number of rows, at least 1. Received: {sizes}."
        )
    count = next(iter(sizes.values()))
    index = getattr(frame, "index", None)
    labels = range(count) if index is None or callable(index) else list(index)
    return columns, [f"{name}, row {label}" for label in labels]


def _to_array(values: Any) -> np.ndarray:
    """A column: numbers as they are, dates, or objects."""
    if hasattr(values, "astype") and hasattr(values, "array"):  # pandas
        is_plain = getattr(values.dtype, "kind", "O") in "iufM"
        array = np.asarray(values if is_plain else values.astype(object))
    else:
        array = np.asarray(values) if hasattr(values, "dtype") else _object_array(values)
    if array.dtype.kind == "M":
        return array.astype("datetime64[s]")
    return array if array.dtype.kind in "iuf" else array.astype(object)


def _object_array(values: Any) -> np.ndarray:
    values = list(values)
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _from_table(
    columns: Mapping[str, np.ndarray], tasks: Any, origin: _Origin, options: _Options
) -> TaskDataset:
    """The data set of a table. All sources of tables end here."""
    targets = resolve_targets(tasks, columns, origin.name, origin.decimal)
    uses = options.uses()
    for column in uses:
        if column not in columns:
            raise DataError(
                unknown_name(f"{uses[column]} column in {origin.name}:", column, list(columns))
            )

    # === Labels ===
    labels, final_tasks = {}, []
    for target in targets:
        task, values = read_labels(
            target, columns, origin.row_names, decimal=origin.decimal, missing=origin.missing
        )
        final_tasks.append(task)
        labels[task.name] = values
    label_columns = {column: t.task.name for t in targets for column in t.columns}

    # === Inputs ===
    measured = {
        name: measure_column(name, cells, origin.decimal, origin.missing)
        for name, cells in columns.items()
    }
    roles = _choose_roles(measured, label_columns, uses, origin, options)
    raw = RawTable(
        {name: measured[name] for name in roles},
        roles,
        origin.decimal,
        origin.missing,
        options.tokenizer,
    )
    leaks = _check_leaks(measured, roles, final_tasks, labels, origin, options)
    _name_roles(measured, label_columns, uses, roles)
    return TaskDataset.from_parts(
        final_tasks,
        raw=raw,
        labels=labels,
        weights=_weights(measured, options.weight, targets, origin),
        row_names=origin.row_names,
        groups=None if options.group is None else _groups(measured[options.group]),
        times=None if options.time is None else _times(measured[options.time], origin),
        kind=raw.kind,
        columns=columns,
        details={
            "name": origin.name,
            "columns": [(column.name, column.role, column.reason) for column in measured.values()],
            "leaks": leaks,
        },
        fingerprints=_fingerprints(measured),
    )


def _name_roles(
    measured: Mapping[str, Column],
    label_columns: Mapping[str, str],
    uses: Mapping[str, str],
    roles: Mapping[str, str],
) -> None:
    """Write into each column what it is used for."""
    for name, column in measured.items():
        if name in label_columns:
            column.role, column.reason = "label", f"task '{label_columns[name]}'"
        elif name in uses:
            column.role, column.reason = uses[name], ""
        elif name in roles:
            column.role = roles[name]
        elif column.role in ("number", "category", "text", "mixed"):
            column.role, column.reason = "left out", "not named in `inputs`"


def _choose_roles(
    measured: Mapping[str, Column],
    label_columns: Mapping[str, str],
    uses: Mapping[str, str],
    origin: _Origin,
    options: _Options,
) -> dict[str, str]:
    """Roles of the columns that are inputs."""
    text = [options.text] if isinstance(options.text, str) else list(options.text or ())
    for name in (*(options.inputs or ()), *text):
        if name in label_columns:
            raise DataError(
                f"Column '{name}' of {origin.name} is the label of task '{label_columns[name]}', "
                f"and can't be an input."
            )
    free = {
        name: column
        for name, column in measured.items()
        if name not in label_columns and name not in uses
    }
    return choose_inputs(free, options.inputs, text, origin.row_names, origin.name)


def _check_leaks(
    measured: Mapping[str, Column],
    roles: Mapping[str, str],
    tasks: Sequence[Task],
    labels: Mapping[str, np.ndarray],
    origin: _Origin,
    options: _Options,
) -> list[str]:
    """Warn of inputs that tell a label; refuse copies of it that nobody asked for."""
    classes = {task.name: task.kind in ("classification", "binary", "ordinal") for task in tasks}
    columns = []
    for name, role in roles.items():
        if role in ("number", "category"):
            measured[name].role = role
            columns.append(measured[name])
    messages = []
    for leak in find_leaks(columns, labels, classes):
        advice = f"If it is known only afterwards, leave it out: `leave_out=['{leak.column}']`."
        if leak.is_copy and options.inputs is None:
            raise DataError(
                f"{leak} Leave it out of {origin.name}: `leave_out=['{leak.column}']`; or name all "
                f"inputs: `inputs=[...]`."
            )
        messages.append(str(leak))
        warn_caller(f"{origin.name}: {leak} {advice}", LeakWarning)
    return messages


def _weights(
    measured: Mapping[str, Column],
    weight: str | Mapping[str, str] | None,
    targets: Sequence[Target],
    origin: _Origin,
) -> dict[str, np.ndarray]:
    if weight is None:
        return {}
    names = [target.task.name for target in targets]
    by_task = dict(weight) if isinstance(weight, Mapping) else {"": weight}
    weights = {}
    for task, name in by_task.items():
        if task and task not in names:
            raise DataError(unknown_name("task in `weight`:", task, names))
        numbers = measured[name].numbers
        bad = ~np.isfinite(numbers) | (numbers < 0)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{origin.row_names[row]}: a weight in column '{name}' should be a number >= 0. "
                f"Received: {measured[name].cells[row]!r}."
            )
        weights[task] = numbers.astype("float32")
    return weights


def _groups(column: Column) -> np.ndarray:
    """A group per row; rows without one are groups of their own."""
    names = column.names.copy()
    for row in np.flatnonzero(~column.present):
        names[row] = f"(row {row} without a group)"
    return names.astype(str)


def _times(column: Column, origin: _Origin) -> np.ndarray:
    missing = ~column.present
    if missing.any():
        raise DataError(
            f"{origin.row_names[int(np.argmax(missing))]}: column '{column.name}' holds no time."
        )
    if column.is_numeric:
        return column.numbers
    try:
        return to_date(column.cells)
    except ValueError as error:
        raise DataError(f"Column '{column.name}' of {origin.name}: {error}.") from None


def _fingerprints(measured: Mapping[str, Column]) -> np.ndarray:
    """A number per row; rows that are equal in all columns but ids have the same one."""
    columns = [c.names for c in measured.values() if c.role not in ("id", "constant")]
    if not columns:
        columns = [column.names for column in measured.values()]
    numbers: dict[tuple[Any, ...], int] = {}
    rows = zip(*columns, strict=True)
    return np.array([numbers.setdefault(row, len(numbers)) for row in rows], "int64")


class RawTable:
    """Columns of a table before they are encoded."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        roles: Mapping[str, str],
        decimal: str,
        missing: Sequence[str],
        tokenizer: Any,
    ) -> None:
        self._columns, self._roles = dict(columns), dict(roles)
        self._decimal, self._missing, self._tokenizer = decimal, list(missing), tokenizer

    def _names(self, role: str) -> list[str]:
        return [name for name, own in self._roles.items() if own == role]

    @property
    def kind(self) -> str:
        """ "table", "text" or "mixed"."""
        texts = self._names("text")
        if not texts:
            return "table"
        return "text" if len(self._roles) == 1 else "mixed"

    def fit(self, rows: np.ndarray) -> Any:
        """An encoder of these rows."""
        numeric, categorical = self._names("number"), self._names("category")
        table = None
        if numeric or categorical:
            values: dict[str, Any] = {name: self._columns[name].numbers[rows] for name in numeric}
            values |= {name: self._columns[name].names[rows] for name in categorical}
            try:
                table = TableEncoder.fit(values, numeric, categorical, self._decimal, self._missing)
            except ValueError as error:
                raise DataError(f"In the training part: {error}") from None
        texts = {}
        for number, name in enumerate(self._names("text"), 1):
            part = [self._text(name, row) for row in rows]
            texts[name] = fit_tokenizer(part, self._tokenizer, self._input_name(name, number))
        if not texts:
            return table
        return next(iter(texts.values())) if self.kind == "text" else MixedEncoder(table, texts)

    def _text(self, name: str, row: int) -> str:
        column = self._columns[name]
        return str(column.cells[row]) if column.present[row] else ""

    def _input_name(self, name: str, number: int) -> str:
        if self.kind == "text":
            return "tokens"
        plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
        is_plain = bool(re.match(r"[a-z]", plain))
        return f"{plain}_tokens" if is_plain else f"text{number}_tokens"

    def encode(self, encoder: Any) -> dict[str, Field]:
        """The network's inputs, for all rows."""
        if self.kind == "text":
            (name,) = self._roles
            count = len(self._columns[name].cells)
            blocks = {encoder.name: encoder.encode([self._text(name, i) for i in range(count)])}
        else:
            values: dict[str, Any] = {
                name: self._columns[name].numbers for name in self._names("number")
            }
            values |= {name: self._columns[name].names for name in self._names("category")}
            for name in self._names("text"):
                count = len(self._columns[name].cells)
                values[name] = [self._text(name, row) for row in range(count)]
            blocks = encoder.encode(values)
        return {name: ArrayField(block) for name, block in blocks.items()}

    def suggest_backbone(self, encoder: Any) -> tuple[Any, dict[str, Any]]:
        """A backbone for these inputs, and its options."""
        if self.kind == "text":
            return None, {"vocabulary_size": len(encoder)}
        table = encoder.table if isinstance(encoder, MixedEncoder) else encoder
        options: dict[str, Any] = {}
        if table is not None and table.numeric:
            options |= {"mean": table.mean, "variance": table.variance}
        if table is not None and table.categorical:
            options["cardinalities"] = table.cardinalities
        if self.kind == "table":
            return "mlp", options
        sizes = {part.name: len(part) for part in encoder.texts.values()}
        return "mixed", {**options, "vocabulary_sizes": sizes}

    def select(self, rows: np.ndarray) -> RawTable:
        """These rows only."""
        columns = {
            name: Column(
                name,
                column.cells[rows],
                column.numbers[rows],
                column.others[rows],
                column.present[rows],
                column.names[rows],
                column.role,
                column.reason,
                column.distinct,
            )
            for name, column in self._columns.items()
        }
        return RawTable(columns, self._roles, self._decimal, self._missing, self._tokenizer)
