"""A data set: rows with inputs, and labels of several tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mtl_keras.data.fields import ConstantField, Field, as_field
from mtl_keras.data.inputs import Inputs, RawInputs
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.names import check_task_names, unknown_name

if TYPE_CHECKING:
    from mtl_keras.data.description import Description
    from mtl_keras.data.splits import Split
    from mtl_keras.tasks import Task

__all__ = ["TaskDataset"]


@dataclass(frozen=True)
class _Source:
    """What all parts of a data set share: everything about all rows, before an encoder."""

    tasks: tuple[Task, ...]
    inputs: dict[str, Field]
    raw: RawInputs | None
    labels: dict[str, Field]
    weights: dict[str, Field]
    row_names: Sequence[str]
    groups: np.ndarray | None
    times: np.ndarray | None
    kind: str
    encoder: Any
    backbone: Any
    backbone_options: Mapping[str, Any]
    notes: tuple[str, ...]
    columns: Mapping[str, np.ndarray]
    fingerprints: np.ndarray | None
    details: Mapping[str, Any]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))


@dataclass
class _Fit:
    """What is measured on the training rows, once it is first asked for.

    The parts of one split share it: all of them are encoded alike.
    """

    source: _Source
    rows: np.ndarray
    source_rows: np.ndarray
    _results: dict[str, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return bool(self._results)

    def _measure(self) -> dict[str, Any]:
        if not self._results:
            source = self.source
            encoder, inputs = source.encoder, dict(source.inputs)
            backbone, options = source.backbone, dict(source.backbone_options)
            if source.raw is not None:
                encoder = source.raw.fit(self.rows)
                inputs = {**source.raw.encode(encoder), **inputs}
                suggestion, suggested_options = source.raw.suggest_backbone(encoder)
                backbone = suggestion if backbone is None else backbone
                options = {**suggested_options, **options}
            shapes = {name: tuple(part.shape) for name, part in inputs.items()}
            dtypes = {name: part.dtype for name, part in inputs.items()}
            self._results = {
                "tasks": [self._fit_task(task) for task in source.tasks],
                "fields": inputs,
                "inputs": Inputs(
                    shapes,
                    dtypes=dtypes,
                    encoder=encoder,
                    backbone=backbone,
                    backbone_options=options,
                ),
            }
        return self._results

    def _fit_task(self, task: Task) -> Task:
        if not getattr(task, "needs_fit", False):
            return task
        return task.fit_to(self.source.labels[task.name].load(self.rows))  # type: ignore[attr-defined]

    @property
    def tasks(self) -> list[Task]:
        return list(self._measure()["tasks"])

    @property
    def fields(self) -> dict[str, Field]:
        return dict(self._measure()["fields"])

    @property
    def inputs(self) -> Inputs:
        inputs: Inputs = self._measure()["inputs"]
        return inputs


class TaskDataset:
    """Rows with inputs, and labels of several tasks; read when they are needed.

    Sources make one: `mtl.data.from_csv`, `from_dataframe`, `from_arrays` and others. It is not
    changed by what is done with it. `data[rows]` and `split` return data sets that share the rows
    in memory.

    An encoder and the scales of regression tasks are measured when they are first asked for: on the
    first part of a split, or on all rows where there was no split. All parts of a split, and the
    data set that was split, are encoded with it. So `data.split(...)` comes first, then
    `data.inputs` and `data.tasks`.

    Attributes:
        kind: str. "table", "text", "image", "sound", "array" or "mixed".

    Examples:
        >>> rows = {"numeric": np.random.rand(100, 3)}
        >>> price = mtl.tasks.Regression("price")
        >>> flats = mtl.data.from_arrays(rows, {"price": np.random.rand(100)}, [price])
        >>> train, test = flats.split(0.8, 0.2)
        >>> network = mtl.builders.hard_sharing(flats.inputs, flats.tasks)
        >>> network.compile("adam")
        >>> history = network.fit(train.batch(32), verbose=0)
    """

    def __init__(self, source: _Source, rows: np.ndarray, fit: _Fit, part: int | None) -> None:
        self._source, self._rows, self._fit, self._part = source, rows, fit, part

    @classmethod
    def from_parts(
        cls,
        tasks: Sequence[Task],
        *,
        inputs: Mapping[str, Any] | None = None,
        labels: Mapping[str, Any],
        raw: RawInputs | None = None,
        weights: Mapping[str, Any] | None = None,
        row_names: Sequence[str] | None = None,
        groups: Any = None,
        times: Any = None,
        kind: str = "array",
        encoder: Any = None,
        backbone: Any = None,
        backbone_options: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        columns: Mapping[str, Any] | None = None,
        fingerprints: Any = None,
        details: Mapping[str, Any] | None = None,
    ) -> TaskDataset:
        """Make a data set of fields. Every source ends here.

        Args:
            tasks: list of `Task`.
            inputs: dict of input name to `Field` or array: what the network takes as it is.
            labels: dict of task name to `Field` or array. A task that is not named has no label in
                any row.
            raw: `RawInputs`, whose encoder is fitted on the training part, or None.
            weights: dict of task name, or "" for all tasks, to a weight per row.
            row_names: sequence of str. Where each row comes from, such as "patients.csv:17", for
                messages. Defaults to "row 0", "row 1", ...
            groups: array with a group per row, such as a patient, or None. No group is split.
            times: array with a time per row, for splits by time, or None.
            kind: what rows are, see the class.
            encoder: what made `inputs` from raw rows, or None; saved with the model.
            backbone, backbone_options: what a builder takes by default.
            notes: sentences for `describe`, such as how many pictures were left out.
            columns: dict of name to an array with a value per row, that `split(by=...)` may name.
            fingerprints: array with a value per row, the same for rows that repeat each other (such
                as a file's hash), or None. Splits keep such rows together.
            details: what `describe` shows of the source: "columns", a list of
                `(name, role, reason)`, and "leaks", a list of sentences.

        Returns:
            `TaskDataset`.

        Raises:
            DataError: no task, no row, no input; fields of different lengths; labels of an unknown
                task.
        """
        tasks = tuple(tasks)
        if not tasks:
            raise DataError("A data set should have at least one task. Received: tasks=[].")
        check_task_names(task.name for task in tasks)
        fields = {name: as_field(values) for name, values in (inputs or {}).items()}
        label_fields = {name: as_field(values) for name, values in labels.items()}
        weight_fields = {name: as_field(values) for name, values in (weights or {}).items()}
        names = [task.name for task in tasks]
        for name in (*label_fields, *(name for name in weight_fields if name)):
            if name not in names:
                raise DataError(unknown_name("task in the labels or weights:", name, names))
        if not fields and raw is None:
            raise DataError("A data set should have at least one input. Received: no input.")
        count = _count_rows({**fields, **{f"labels of {n}": f for n, f in label_fields.items()}})
        for task in tasks:
            if task.name not in label_fields:
                label_fields[task.name] = ConstantField(_missing_label(task, fields), count)
        source = _Source(
            tasks=tasks,
            inputs=fields,
            raw=raw,
            labels={name: label_fields[name] for name in names},
            weights=weight_fields,
            row_names=row_names if row_names is not None else RowNames("row ", count),
            groups=None if groups is None else np.asarray(groups),
            times=None if times is None else np.asarray(times),
            kind=kind,
            encoder=encoder,
            backbone=backbone,
            backbone_options=dict(backbone_options or {}),
            notes=tuple(notes),
            columns={name: np.asarray(values) for name, values in (columns or {}).items()},
            fingerprints=None if fingerprints is None else np.asarray(fingerprints),
            details=dict(details or {}),
        )
        others: dict[str, Any] = {"row names": source.row_names, "groups": source.groups}
        others |= {"times": source.times, "fingerprints": source.fingerprints, **source.columns}
        others |= {f"weights '{n}'": f for n, f in weight_fields.items()}
        for name, values in others.items():
            if values is not None and len(values) != count:
                raise DataError(f"There are {count} rows, but {len(values)} {name}.")
        rows = np.arange(count)
        return cls(source, rows, _Fit(source, rows, rows), None)

    # ------------------------------------------------------------------ what it holds
    @property
    def tasks(self) -> list[Task]:
        """The tasks. Regression tasks with `scale="fit"` have the training part's scale."""
        return self._fit.tasks

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self._source.tasks]

    def task(self, name: str) -> Task:
        """The task of this name.

        Raises:
            DataError: no task has this name.
        """
        if name not in self.task_names:
            raise DataError(unknown_name("task", name, self.task_names))
        return self.tasks[self.task_names.index(name)]

    @property
    def inputs(self) -> Inputs:
        """What every builder takes as `inputs`."""
        return self._fit.inputs

    @property
    def encoder(self) -> Any:
        """What makes the network's inputs from raw rows, or None."""
        return self._fit.inputs.encoder

    @property
    def kind(self) -> str:
        """ "table", "text", "image", "sound", "array" or "mixed"."""
        return self._source.kind

    @property
    def input_fields(self) -> dict[str, Field]:
        """The network's inputs, by name."""
        return {name: self._view(part) for name, part in self._fit.fields.items()}

    @property
    def label_fields(self) -> dict[str, Field]:
        """Labels, by task name."""
        return {name: self._view(part) for name, part in self._source.labels.items()}

    @property
    def weight_fields(self) -> dict[str, Field]:
        """Weights of rows: for all tasks under "", else by task name. May be empty."""
        return {name: self._view(part) for name, part in self._source.weights.items()}

    @property
    def row_names(self) -> Sequence[str]:
        """Where each row comes from, such as "patients.csv:17"."""
        names = self._source.row_names
        return names if self._is_whole else SelectedNames(names, self._rows)

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each row, or None."""
        groups = self._source.groups
        return None if groups is None else groups[self._rows]

    @property
    def times(self) -> np.ndarray | None:
        """The time of each row, or None."""
        times = self._source.times
        return None if times is None else times[self._rows]

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Values per row that `split(by=...)` may name."""
        return {name: values[self._rows] for name, values in self._source.columns.items()}

    @property
    def column_roles(self) -> dict[str, str]:
        """What each column of a table was taken for: "number", "text", "label", ..."""
        return {name: role for name, role, _ in self._source.details.get("columns", ())}

    @property
    def fingerprints(self) -> np.ndarray | None:
        """A value per row that is the same for rows that repeat each other, or None."""
        values = self._source.fingerprints
        return None if values is None else values[self._rows]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the source has to say, such as how many pictures were left out."""
        return self._source.notes

    @property
    def _is_whole(self) -> bool:
        return self._rows is self._fit.source_rows

    def _view(self, part: Field) -> Field:
        return part if self._is_whole else part.select(self._rows)

    # ------------------------------------------------------------------ rows
    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> TaskDataset:
        """The data set of some rows: a slice, row numbers, or a bool per row."""
        numbers = np.arange(len(self))
        if isinstance(rows, (int, np.integer)):
            rows = [rows]
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.dtype == bool and len(rows) != len(self):
                raise DataError(
                    f"A bool per row should be given: {len(self)}. Received: {len(rows)}."
                )
            if not len(rows):
                rows = rows.astype(int)
        return TaskDataset(self._source, self._rows[numbers[rows]], self._fit, self._part)

    def labels(self, task: str) -> np.ndarray:
        """Labels of one task, for all rows, in memory.

        Args:
            task: str. Name of the task.

        Returns:
            array `(rows, ...)`; missing labels are the task's `missing_value`.

        Raises:
            DataError: an unknown task.
        """
        if task not in self.task_names:
            raise DataError(unknown_name("task", task, self.task_names))
        return self._source.labels[task].load(self._rows)

    def arrays(self) -> tuple[Any, ...]:
        """All rows in memory, for `fit` and `evaluate`.

        Returns:
            `(x, y)`, or `(x, y, sample_weight)` where there are weights: dicts of arrays.
        """
        numbers = np.arange(len(self))
        x = {name: part.load(numbers) for name, part in self.input_fields.items()}
        y = {name: part.load(numbers) for name, part in self.label_fields.items()}
        weights = {name: part.load(numbers) for name, part in self.weight_fields.items()}
        return (x, y, combine_weights(weights, self.task_names)) if weights else (x, y)

    # ------------------------------------------------------------------ parts
    def split(
        self,
        *fractions: float,
        seed: int = 0,
        by: str | None = None,
        stratify: bool | Sequence[str] = True,
    ) -> Split:
        """Cut the data set into parts; the first is for training.

        Rows of one group stay together, and so do rows that repeat each other. Parts have about
        the same shares of the classes (and of low and high numbers, and of missing labels) of each
        task.

        Args:
            *fractions: float > 0. Share of each part; together at most 1.
            seed: int. Of the draw. The same seed gives the same parts.
            by: None: by groups where the data set has them, else by rows. "group"; "time": the
                first part has the earliest rows, and labels are not balanced; or the name of a
                column whose values are groups.
            stratify: True balances the labels of all tasks; a list names tasks; False draws at
                random.

        Returns:
            `Split`, a list of `TaskDataset`, one per fraction. `Split.save` writes it to a file.

        Raises:
            DataError: fractions that are no shares; a part without rows; no groups or times.

        Examples:
            >>> flowers = mtl.data.from_arrays(images, labels, tasks)
            >>> train, validation, test = flowers.split(0.5, 0.25, 0.25, seed=0, stratify=False)
        """
        from mtl_keras.data.splits import split_rows

        parts = split_rows(self, fractions, seed=seed, by=by, stratify=stratify)
        return self.parts(parts, may_share_groups=by is not None and by != "group")

    def parts(self, rows: Sequence[np.ndarray], *, may_share_groups: bool = False) -> Split:
        """Parts with the rows of these numbers; the first is for training.

        Args:
            rows: list of int arrays, one per part.
            may_share_groups: bool. Whether a group may be in two parts. Defaults to False.

        Returns:
            `Split`, a list of `TaskDataset`. An encoder is fitted on the first.

        Raises:
            DataError: a row or a group is in two parts.
        """
        from mtl_keras.data.splits import Split

        chosen = [self._rows[np.asarray(numbers, int)] for numbers in rows]
        is_training = self._part in (None, 0)
        fit = self._fit
        if self._part is None:
            # Parts of an earlier split keep theirs.
            fit = _Fit(self._source, chosen[0], self._fit.source_rows)
        split = Split(
            [
                TaskDataset(self._source, numbers, fit, number if is_training else number + 1)
                for number, numbers in enumerate(chosen)
            ],
            may_share_groups,
        )
        if self._part == 0 and not fit.is_done and np.array_equal(fit.rows, self._rows):
            # The training part is cut again before its encoder was needed.
            fit.rows = chosen[0]
        self._fit = fit
        return split

    def task_of(self, name: str) -> Task:
        """The task of this name as it was given, before scales are measured."""
        return self._source.tasks[self.task_names.index(name)]

    def replace(self, **changes: Any) -> TaskDataset:
        """The same rows with other labels, weights, inputs or tasks.

        Args:
            **changes: `labels`, `weights`, `inputs` (dicts of name to `Field` or array, for all
                rows of this data set), `tasks`, `notes`, `details`.

        Returns:
            `TaskDataset`. A part of a split keeps its split's encoder.

        Raises:
            DataError: another name; what `from_parts` refuses.
        """
        source = self._source
        known = ("inputs", "labels", "weights", "tasks", "notes", "details")
        for name in changes:
            if name not in known:
                raise DataError(unknown_name("part of a data set:", name, known))
        # Of a part, the encoder is the one of its split.
        is_encoded = self._part is not None or self._fit.is_done or "inputs" in changes
        fields = self._fit.fields if is_encoded else source.inputs
        raw = None if is_encoded or source.raw is None else source.raw.select(self._rows)
        result = TaskDataset.from_parts(
            changes.get("tasks", self.tasks if is_encoded else source.tasks),
            inputs=changes.get("inputs", {name: self._view(f) for name, f in fields.items()}),
            labels=changes.get("labels", self.label_fields),
            raw=raw,
            weights=changes.get("weights", self.weight_fields),
            row_names=self.row_names,
            groups=self.groups,
            times=self.times,
            kind=source.kind,
            encoder=self.encoder if is_encoded else source.encoder,
            backbone=self.inputs.backbone if is_encoded else source.backbone,
            backbone_options=(
                self.inputs.backbone_options if is_encoded else source.backbone_options
            ),
            notes=changes.get("notes", source.notes),
            columns=self.columns,
            fingerprints=self.fingerprints,
            details=changes.get("details", source.details),
        )
        return TaskDataset(result._source, result._rows, result._fit, self._part)

    def weighted(
        self, classes: Any = None, rows: Any = None, *, beta: float = 0.999
    ) -> TaskDataset:
        """The same rows with weights, by which their losses count. Weights multiply.

        Call it on the training part of a split: the other parts are evaluated as they are.

        Args:
            classes: "inverse" or "effective_number", for all tasks over classes; or a dict of task
                name to one of them, or to the weights `{class: weight}`. None leaves classes alike.
                See `mtl.data.class_weights`.
            rows: "inverse" or "effective_number": rows with labels of rarely labelled tasks weigh
                more, see `mtl.data.row_weights`; an array with a weight per row; or a dict of task
                name to such arrays. None leaves rows alike.
            beta: float in [0, 1). Of "effective_number". Defaults to 0.999.

        Returns:
            `TaskDataset`, with a weight per row, pixel or label of each task.

        Raises:
            DataError: an unknown task; another number of weights than rows.
            ValueError: an unknown method.
        """
        from mtl_keras.data.weights import weighted

        return weighted(self, classes, rows, beta)

    def describe(self) -> Description:
        """What the rows hold: labels per task, balance, ranges, roles of columns, what looks wrong.

        Returns:
            `Description`: prints as tables; `to_dict()` gives plain values, `plot(path)` a picture.

        Examples:
            >>> flowers = mtl.data.from_arrays(images, labels, tasks)
            >>> flowers.describe().to_dict()["rows"]
            16
        """
        from mtl_keras.data.description import describe

        return describe(self)

    # ------------------------------------------------------------------ what it is made into
    def batch(
        self,
        batch_size: int,
        *,
        shuffle: bool | None = None,
        augment: Any = None,
        seed: int = 0,
        drop_remainder: bool = False,
        initial_epoch: int = 0,
    ) -> Any:
        """Batches for `fit`, `evaluate` and `predict`.

        Each whole pass over the result is one epoch. With `shuffle` each epoch has another order,
        which depends on `seed` and on the epoch's number only. `fit` tells the batches the number
        of its epoch: a training that goes on with `initial_epoch=` sees what would have followed.

        Args:
            batch_size: int >= 1.
            shuffle: bool. None, the default: True for the first part of a split and with
                `augment`, else False, so that predictions are in the order of the rows.
            augment: list of steps, by name or as objects of `mtl.data.augment`; a dict of input
                name to a list, where there are several inputs; an `Augmenter`; or None.
            seed: int. Of the order and of the augmentation.
            drop_remainder: bool. Leave out a last batch that is not full. Defaults to False.
            initial_epoch: int >= 0. Number of the first pass, to go on after an interruption.

        Returns:
            `tf.data.Dataset` of `(x, y)`, or `(x, y, sample_weight)` where there are weights: dicts
            of tensors. Its length is known.

        Raises:
            DataError: no rows, a batch size below 1.
        """
        from mtl_keras.data.pipeline import make_batches

        if shuffle is None:
            shuffle = self._part == 0 or augment is not None
        return make_batches(
            self,
            batch_size,
            shuffle=shuffle,
            augment=augment,
            seed=seed,
            drop_remainder=drop_remainder,
            initial_epoch=initial_epoch,
        )

    def __repr__(self) -> str:
        names = ", ".join(self.task_names)
        return f"TaskDataset({len(self)} rows, kind={self.kind!r}, tasks: {names})"


class RowNames(Sequence[str]):
    """Names of rows that follow from their numbers, such as "patients.csv:17".

    Args:
        prefix: str. Before the number.
        count: int. Number of rows.
        first: int. Number of the first row.
    """

    def __init__(self, prefix: str, count: int, first: int = 0) -> None:
        self._prefix, self._numbers = prefix, range(first, first + count)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [f"{self._prefix}{number}" for number in self._numbers[row]]
        return f"{self._prefix}{self._numbers[row]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{self._prefix}{number}" for number in self._numbers)


class SelectedNames(Sequence[str]):
    """Names of some rows."""

    def __init__(self, names: Sequence[str], rows: np.ndarray) -> None:
        self._names, self._rows = names, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...
    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self._names[int(number)] for number in self._rows[row]]
        return self._names[int(self._rows[row])]


def combine_weights(weights: Mapping[str, Any], names: Sequence[str]) -> Any:
    """A vector where all tasks share their weights, else a dict by task name.

    Args:
        weights: dict of task name, or "" for all tasks, to arrays or tensors; not empty.
        names: names of all tasks.
    """
    if set(weights) == {""}:
        return weights[""]
    rows = weights.get("")
    by_task = {}
    for name in names:
        factors = [value for value in (rows, weights.get(name)) if value is not None]
        if not factors:
            first = next(iter(weights.values()))
            factors = [first * 0 + 1]
        by_task[name] = factors[0] if len(factors) == 1 else factors[0] * factors[1]
    return by_task


def _count_rows(fields: Mapping[str, Field]) -> int:
    counts = {name: len(part) for name, part in fields.items()}
    if len(set(counts.values())) > 1:
        raise DataError(
            f"Inputs and labels should have the same number of rows. Received: {counts}."
        )
    count = next(iter(counts.values()), 0)
    if not count:
        raise DataError("A data set should have at least one row. Received: no row.")
    return count


def _missing_label(task: Task, inputs: Mapping[str, Field]) -> np.ndarray:
    """The label of one row that has none; dense labels are as large as the picture."""
    sizes = [part.shape for part in inputs.values() if len(part.shape) == 3]
    output_shape = (None, *sizes[0]) if sizes else None
    row: np.ndarray = task.missing(1, output_shape)[0]
    return row
