"""What a data set holds, before anything is trained on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.runtime.files import atomic_write
from mtl_keras.runtime.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mtl_keras.data.dataset import TaskDataset
    from mtl_keras.tasks import Task

__all__ = ["Description", "TaskDescription", "describe"]

_CLASSES = ("classification", "binary", "ordinal", "multi_label")
#: Classes that a table lists; the others are counted.
_SHOWN = 6
#: A class below this share of the rows with a label is named.
_RARE = 0.01
#: Labels of dense tasks are measured on so many rows.
_DENSE_ROWS = 200


@dataclass(frozen=True)
class TaskDescription:
    """Labels of one task.

    Attributes:
        name, kind: of the task.
        rows: int. Rows with a label.
        share: float. Of all rows.
        classes: dict of class to its number of rows, for tasks of classes.
        numbers: dict of "min", "median", "max", "mean" and "std", for other tasks.
    """

    name: str
    kind: str
    rows: int
    share: float
    classes: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The labels in a few words."""
        if self.classes:
            total = max(sum(self.classes.values()), 1)
            items = sorted(self.classes.items(), key=lambda item: -item[1])
            some = ", ".join(f"{name} {count / total:.1%}" for name, count in items[:_SHOWN])
            return some + (f", {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")
        if not self.numbers:
            return ""
        n = self.numbers
        return (
            f"{n['min']:.4g} to {n['max']:.4g}, median {n['median']:.4g}, mean {n['mean']:.4g}, "
            f"standard deviation {n['std']:.4g}"
        )


@dataclass(frozen=True)
class Description:
    """What a data set holds. `print` shows it as tables.

    Attributes:
        rows: int. Number of rows.
        kind: str. What rows are.
        inputs: dict of input name to shape; empty before an encoder is fitted.
        tasks: list of `TaskDescription`.
        columns: list of `(name, role, reason)`: what each column of a table was taken for.
        groups: int or None. Number of groups.
        duplicates: int. Rows that repeat an earlier row.
        notes: list of sentences: what looks wrong, and what the source left out.

    Examples:
        >>> description = mtl.data.from_arrays(images, labels, tasks).describe()
        >>> description.tasks[0].rows
        16
    """

    rows: int
    kind: str
    inputs: dict[str, tuple[int | None, ...]]
    tasks: list[TaskDescription]
    columns: list[tuple[str, str, str]]
    groups: int | None
    duplicates: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {
            "rows": self.rows,
            "kind": self.kind,
            "inputs": {name: list(shape) for name, shape in self.inputs.items()},
            "tasks": {
                task.name: {
                    "kind": task.kind,
                    "rows": task.rows,
                    "share": task.share,
                    "classes": dict(task.classes),
                    "numbers": dict(task.numbers),
                }
                for task in self.tasks
            },
            "columns": [list(column) for column in self.columns],
            "groups": self.groups,
            "duplicates": self.duplicates,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        groups = "" if self.groups is None else f", {self.groups} groups"
        parts = [f"{self.rows} rows ({self.kind}){groups}"]
        rows = [
            (task.name, task.kind, f"{task.rows} ({task.share:.1%})", task.summary)
            for task in self.tasks
        ]
        names = ("task", "kind", "rows with a label", "labels")
        parts.append(format_table("Tasks", names, rows).rstrip())
        if self.columns:
            parts.append(format_table("Columns", ("column", "role", "why"), self.columns).rstrip())
        parts += [f"- {note}" for note in self.notes]
        return "\n".join(parts)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw a panel per task: its classes, or a summary of its numbers, and its missing labels.

        Args:
            path: where to write it as a PNG, or None.

        Returns:
            `matplotlib.figure.Figure`.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        count = len(self.tasks) + 1
        columns = min(count, 3)
        lines = -(-count // columns)
        figure = Figure(figsize=(4.2 * columns, 3.2 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        _plot_coverage(axes[0], self)
        for axis, task in zip(axes[1:], self.tasks, strict=False):
            _plot_task(axis, task)
        for axis in axes[count:]:
            axis.set_axis_off()
        if path is not None:
            with atomic_write(path) as fresh:
                figure.savefig(fresh, format="png", dpi=120)
        return figure


def _plot_coverage(axis: Any, description: Description) -> None:
    names = [task.name for task in description.tasks]
    axis.barh(names, [task.share for task in description.tasks], color="tab:blue")
    axis.set_xlim(0, 1)
    axis.invert_yaxis()
    axis.set_xlabel("share of rows with a label")
    axis.set_title(f"{description.rows} rows")


def _plot_task(axis: Any, task: TaskDescription) -> None:
    axis.set_title(f"{task.name} ({task.kind})")
    if task.classes:
        items = sorted(task.classes.items(), key=lambda item: -item[1])[:20]
        axis.barh([name for name, _ in items], [count for _, count in items], color="tab:green")
        axis.invert_yaxis()
        axis.set_xlabel("rows")
        return
    if not task.numbers:
        axis.set_axis_off()
        return
    n = task.numbers
    stats = {
        "med": n["median"],
        "q1": n["q25"],
        "q3": n["q75"],
        "whislo": n["min"],
        "whishi": n["max"],
        "mean": n["mean"],
    }
    axis.bxp([stats], showmeans=True, showfliers=False)
    axis.set_xticks([])


def describe(data: TaskDataset) -> Description:
    """What a data set holds. See `TaskDataset.describe`."""
    source = data._source
    tasks = [_describe_task(task, data) for task in source.tasks]
    duplicates = _count_duplicates(data.fingerprints)
    notes = [*source.notes, *source.details.get("leaks", ())]
    notes += _task_notes(tasks)
    if duplicates:
        verb = "row repeats" if duplicates == 1 else "rows repeat"
        notes.append(f"{duplicates} {verb} an earlier one{_first_duplicate(data)}.")
    inputs = dict(data.inputs) if source.raw is None or data._fit.is_done else {}
    groups = data.groups
    return Description(
        rows=len(data),
        kind=data.kind,
        inputs=inputs,
        tasks=tasks,
        columns=list(source.details.get("columns", ())),
        groups=None if groups is None else len(np.unique(groups)),
        duplicates=duplicates,
        notes=notes,
    )


def _describe_task(task: Task, data: TaskDataset) -> TaskDescription:
    rows = np.arange(len(data))
    is_dense = len(task.label_shape) > 1
    if is_dense and len(rows) > _DENSE_ROWS:
        rows = np.linspace(0, len(rows) - 1, _DENSE_ROWS).astype(int)
    labels = data.label_fields[task.name].load(rows)
    _, is_present = task.target(np.asarray(labels, "float32"))
    is_present = np.asarray(is_present).reshape(len(rows), -1)
    has_label = is_present.any(1)
    share = float(has_label.mean()) if len(rows) else 0.0
    values: dict[str, Any] = {}
    if task.kind in _CLASSES:
        values["classes"] = _count_classes(task, labels, has_label)
    elif not is_dense and has_label.any():
        values["numbers"] = _measure_numbers(np.asarray(labels, float)[has_label])
    return TaskDescription(task.name, task.kind, round(share * len(data)), share, **values)


def _count_classes(task: Any, labels: np.ndarray, has_label: np.ndarray) -> dict[str, int]:
    if task.kind == "multi_label":
        names = task.labels or [str(i) for i in range(task.num_labels)]
        values = np.asarray(labels, float).reshape(len(labels), -1)
        return {name: int((values[:, i] > 0.5).sum()) for i, name in enumerate(names)}
    is_binary = task.kind == "binary"
    count = 2 if is_binary else task.num_classes
    names = ["no", "yes"] if is_binary else task.labels or [str(i) for i in range(count)]
    values = np.asarray(labels, float).reshape(len(labels), -1)[has_label]
    if values.shape[1] > 1:
        classes = values.argmax(1)
    else:
        classes = (values[:, 0] > 0.5).astype(int) if is_binary else values[:, 0].astype(int)
    counts = np.bincount(classes, minlength=count)
    return {name: int(number) for name, number in zip(names, counts, strict=True)}


def _measure_numbers(values: np.ndarray) -> dict[str, float]:
    values = values[np.isfinite(values)]
    low, q25, median, q75, high = np.percentile(values, [0, 25, 50, 75, 100])
    return {
        "min": float(low),
        "q25": float(q25),
        "median": float(median),
        "q75": float(q75),
        "max": float(high),
        "mean": float(values.mean()),
        "std": float(values.std()),
    }


def _task_notes(tasks: Sequence[TaskDescription]) -> list[str]:
    """What looks wrong with the labels."""
    notes = []
    for task in tasks:
        if not task.rows:
            notes.append(f"Task '{task.name}' has no label in any row.")
            continue
        if task.numbers and task.numbers["std"] == 0:
            notes.append(f"Task '{task.name}' has the label {task.numbers['mean']:g} in each row.")
        empty = [name for name, count in task.classes.items() if not count]
        if empty:
            some = ", ".join(empty[:_SHOWN]) + (", ..." if len(empty) > _SHOWN else "")
            notes.append(f"Task '{task.name}' has no row of {len(empty)} classes: {some}.")
        rare = [name for name, count in task.classes.items() if 0 < count < _RARE * task.rows]
        if rare:
            some = ", ".join(rare[:_SHOWN]) + (", ..." if len(rare) > _SHOWN else "")
            notes.append(f"Task '{task.name}' has classes below 1 % of its rows: {some}.")
    return notes


def _count_duplicates(fingerprints: np.ndarray | None) -> int:
    return 0 if fingerprints is None else len(fingerprints) - len(np.unique(fingerprints))


def _first_duplicate(data: TaskDataset) -> str:
    first: dict[Any, int] = {}
    for row, value in enumerate(np.asarray(data.fingerprints).tolist()):
        if value in first:
            return (
                f" ({data.row_names[row]} is the first, and repeats {data.row_names[first[value]]})"
            )
        first[value] = row
    return ""
