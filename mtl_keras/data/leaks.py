"""Inputs that tell the answer: columns that alone give a task's label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_keras.data.roles import Column

__all__ = ["Leak", "LeakWarning", "find_leaks"]

#: Share of what a constant answer leaves open that one column explains, from which it is named.
_NEARLY_ALL = 0.98
_FEWEST = 20
_ROWS = 5000


class LeakWarning(UserWarning):
    """A column alone gives a task's label nearly everywhere: it may be known only afterwards.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("ignore", mtl.data.LeakWarning)
    """


@dataclass(frozen=True)
class Leak:
    """A column that gives a task's label.

    Attributes:
        column: str.
        task: str.
        explained: float. Share of what the best constant answer leaves open; 1 is all.
        is_copy: bool. True where values of the column and labels are the same, name by name.
    """

    column: str
    task: str
    explained: float
    is_copy: bool

    def __str__(self) -> str:
        if self.is_copy:
            return f"Column '{self.column}' is the label of task '{self.task}' in other words."
        return (
            f"Column '{self.column}' alone gives {self.explained:.1%} of what is to learn of task "
            f"'{self.task}'."
        )


def find_leaks(
    columns: Sequence[Column], labels: Mapping[str, np.ndarray], are_classes: Mapping[str, bool]
) -> list[Leak]:
    """Columns that alone give a label, each answer made from other rows.

    Args:
        columns: inputs: numbers and categories.
        labels: dict of task name to labels, `(rows,)` or `(rows, 1)`, NaN or -1 where missing.
        are_classes: by task name, whether labels are classes.

    Returns:
        list of `Leak`.
    """
    leaks = []
    for task, values in labels.items():
        y = np.asarray(values, float).reshape(len(values), -1)
        if y.shape[1] != 1:
            continue
        y = y[:, 0]
        is_label = np.isfinite(y) & ((y >= 0) | (not are_classes[task]))
        for column in columns:
            rows = np.flatnonzero(is_label & column.present)
            if len(rows) < _FEWEST or len(np.unique(y[rows])) < 2:
                continue
            if len(rows) > _ROWS:
                rows = np.random.default_rng(0).choice(rows, _ROWS, replace=False)
            leak = _measure(column, task, y[rows], rows, are_classes[task])
            if leak is not None:
                leaks.append(leak)
    return leaks


def _measure(
    column: Column, task: str, y: np.ndarray, rows: np.ndarray, is_class: bool
) -> Leak | None:
    names = column.names[rows]
    is_number = column.role == "number"
    # Ids are one to one with any numbers.
    is_copy = is_class or (is_number and _is_same(column.numbers[rows], y))
    if is_copy and _is_one_to_one(names, y):
        return Leak(column.name, task, 1.0, True)
    answers = _by_neighbor(column.numbers[rows], y) if is_number else None
    if answers is None:
        answers = _by_category(names, y, is_class)
    if is_class:
        _, counts = np.unique(y, return_counts=True)
        open_share = 1 - counts.max() / len(y)
        explained = 1 - (answers != y).mean() / open_share
    else:
        explained = 1 - ((answers - y) ** 2).mean() / y.var()
    if explained < _NEARLY_ALL:
        return None
    return Leak(column.name, task, float(explained), False)


def _is_one_to_one(names: np.ndarray, y: np.ndarray) -> bool:
    pairs = set(zip(names.tolist(), y.tolist(), strict=True))
    return len(pairs) == len({name for name, _ in pairs}) == len({label for _, label in pairs})


def _is_same(numbers: np.ndarray, y: np.ndarray) -> bool:
    """Whether labels are the numbers, in any unit."""
    if not np.isfinite(numbers).all() or numbers.std() == 0 or y.std() == 0:
        return False
    return bool(abs(np.corrcoef(numbers, y)[0, 1]) > 1 - 1e-9)


def _by_neighbor(numbers: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each row the label of the row whose number is nearest."""
    order = np.random.default_rng(0).permutation(len(numbers))
    order = order[np.argsort(numbers[order], kind="stable")]
    x, labels = numbers[order], y[order]
    before = np.concatenate([[np.inf], np.diff(x)])
    after = np.concatenate([np.diff(x), [np.inf]])
    answers = np.where(before <= after, np.roll(labels, 1), np.roll(labels, -1))
    result = np.empty_like(y)
    result[order] = answers
    return result


def _by_category(names: np.ndarray, y: np.ndarray, is_class: bool) -> np.ndarray:
    """For each row the answer of the other rows of its category; the constant answer for a
    category of one row."""
    _, groups = np.unique(names.astype(str), return_inverse=True)
    sizes = np.bincount(groups)[groups]
    if not is_class:
        sums = np.bincount(groups, y)[groups]
        mean = y.mean()
        return np.where(sizes > 1, (sums - y) / np.maximum(sizes - 1, 1), mean)
    classes, codes = np.unique(y, return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(classes)))
    np.add.at(counts, (groups, codes), 1)
    others = counts[groups]
    others[np.arange(len(y)), codes] -= 1
    most = np.bincount(codes).argmax()
    return np.where(sizes > 1, classes[others.argmax(1)], classes[most])
