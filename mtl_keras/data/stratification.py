"""Stratified parts over several tasks at once, with rows that hold together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["label_table", "stratify_units"]

#: Numbers are cut into so many ranges with the same number of rows.
_RANGES = 4
#: More classes than that are not balanced one by one.
_MOST_CLASSES = 500


def label_table(task: Task, labels: np.ndarray) -> np.ndarray:
    """What is balanced of one task: a column per class, or range of numbers, and one where no label
    is there.

    Args:
        task: `Task`.
        labels: array `(rows, ...)`.

    Returns:
        bool array `(rows, columns)`.
    """
    values = np.asarray(labels, float)
    flat = values.reshape(len(values), -1)
    if task.kind == "multi_label":
        is_present = (np.isfinite(flat) & (flat >= 0)).any(1)
        return np.concatenate([flat > 0.5, ~is_present[:, None]], 1)
    if task.kind in ("classification", "ordinal", "binary"):
        is_present = np.isfinite(flat).all(1) & (flat >= 0).all(1)
        if flat.shape[1] > 1:
            codes = np.where(np.isfinite(flat), flat, -1).argmax(1)
        else:
            codes = (np.where(is_present, flat[:, 0], 0) + 0.5).astype(int)
    elif len(task.label_shape) == 1:
        is_present = np.isfinite(flat).all(1)
        codes = _ranges(flat[:, 0], is_present)
    else:
        is_present = np.isfinite(flat).any(1)
        codes = np.zeros(len(flat), int)
    codes = np.where(is_present, codes + 1, 0)
    classes, codes = np.unique(codes, return_inverse=True)
    if len(classes) > _MOST_CLASSES:
        return np.zeros((len(flat), 0), bool)
    return codes[:, None] == np.arange(len(classes))


def _ranges(numbers: np.ndarray, is_present: np.ndarray) -> np.ndarray:
    """The range of each number, so that ranges have about the same number of rows."""
    if not is_present.any():
        return np.zeros(len(numbers), int)
    ends = np.quantile(numbers[is_present], np.linspace(0, 1, _RANGES + 1)[1:-1])
    return np.searchsorted(np.unique(ends), np.where(is_present, numbers, 0.0), side="right")


def stratify_units(
    table: np.ndarray, units: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Part of each row, so that parts have their share of the rows of each label.

    Labels are served from the rarest on. Each unit with that label goes to the part that still
    wants most of it; of equals, to the part that wants most rows.

    Args:
        table: bool array `(rows, labels)`.
        units: int array `(rows,)`, from 0. Rows of one unit stay together.
        shares: share of each part; they add up to 1.
        seed: int. Of the order in which units are served, and of ties.

    Returns:
        int array `(rows,)`: the number of the part.

    Note:
        Units with several rows are served from the largest on, which the paper, whose units are
        rows, has no need of.

    References:
        Sechidis, Tsoumakas, Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.
    """
    rng = np.random.default_rng(seed)
    count = int(units.max()) + 1
    sizes = np.bincount(units, minlength=count)
    labels_of, totals = _labels_by_unit(table, units, count)

    # === What each part still wants: rows, and rows of each label ===
    wanted_rows = [share * len(units) for share in shares]
    wanted = [[share * total for share in shares] for total in totals]
    order = np.lexsort((rng.permutation(count), -sizes))
    members: list[list[int]] = [[] for _ in totals]
    for unit in order.tolist():
        for label, _ in labels_of[unit]:
            members[label].append(unit)
    ties = rng.random((count, len(shares))).tolist()

    # === Units of the rarest label first ===
    parts = [-1] * count
    left = list(map(float, totals))

    def assign(unit: int, wishes: Sequence[float]) -> None:
        keys = zip(wishes, wanted_rows, ties[unit], strict=True)
        part = max(enumerate(keys), key=lambda item: item[1])[0]
        parts[unit] = part
        wanted_rows[part] -= float(sizes[unit])
        for label, number in labels_of[unit]:
            wanted[label][part] -= number
            left[label] -= number
            if left[label] > 0:
                heapq.heappush(queue, (left[label], label))

    queue = [(total, label) for label, total in enumerate(left) if total > 0]
    heapq.heapify(queue)
    while queue:
        remaining, label = heapq.heappop(queue)
        if remaining != left[label]:
            continue  # an old count of this label
        for unit in members[label]:
            if parts[unit] < 0:
                assign(unit, wanted[label])
    for unit in order.tolist():
        if parts[unit] < 0:
            assign(unit, wanted_rows)
    return np.asarray(parts)[units]


def _labels_by_unit(
    table: np.ndarray, units: np.ndarray, count: int
) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """For each unit its labels with their numbers of rows; and the rows of each label."""
    labels_of: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    totals: list[Any] = []
    for label in range(table.shape[1]):
        numbers = np.bincount(units[table[:, label]], minlength=count)
        totals.append(int(numbers.sum()))
        for unit in np.flatnonzero(numbers).tolist():
            labels_of[unit].append((label, int(numbers[unit])))
    return labels_of, totals
