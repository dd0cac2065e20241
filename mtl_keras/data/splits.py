"""Splits of a data set: which rows train, validate and test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.sources import DataError
from mtl_keras.data.stratification import label_table, stratify_units
from mtl_keras.runtime.callers import warn_caller
from mtl_keras.runtime.files import atomic_write
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.data.dataset import TaskDataset

__all__ = ["Split", "SplitWarning", "check_parts", "split_rows"]

#: More repeated rows than that are what rows with few columns look like, and no mistake.
_MOST_REPEATED = 0.5
_CLASSES = ("classification", "ordinal", "binary")


class SplitWarning(UserWarning):
    """A part of a split lacks a class, or repeats rows of another part.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("ignore", mtl.data.SplitWarning)
    """


class Split(list[Any]):
    """The parts of a data set; a list of `TaskDataset`.

    Args:
        parts: list of `TaskDataset`. The first is for training.
        may_share_groups: bool. Whether a group may be in two parts, as in a split by time. Defaults
            to False.

    Raises:
        DataError: a row, or a group, is in two parts.

    Examples:
        >>> flowers = mtl.data.from_arrays(images, labels, tasks)
        >>> flowers.split(0.5, 0.5, seed=3).save("split.json")
        >>> train, test = mtl.data.Split.load("split.json", flowers)
    """

    def __init__(self, parts: Iterable[TaskDataset], may_share_groups: bool = False) -> None:
        super().__init__(parts)
        self.may_share_groups = bool(may_share_groups)
        check_parts(self, may_share_groups=self.may_share_groups)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the names of each part's rows to a JSON file.

        Args:
            path: the file.

        Raises:
            DataError: two rows have the same name.
        """
        names = [list(part.row_names) for part in self]
        every = [name for part in names for name in part]
        if len(set(every)) < len(every):
            repeated = next(name for name in every if every.count(name) > 1)
            raise DataError(
                f"Rows should have names of their own to be saved by them. Received: {repeated!r} "
                f"twice."
            )
        content = {
            "parts": names,
            "labels": [_digest(part) for part in self],
            "may_share_groups": self.may_share_groups,
        }
        with atomic_write(path) as fresh:
            fresh.write_text(json.dumps(content, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], data: TaskDataset) -> Split:
        """The parts that `save` wrote, of the same data.

        Args:
            path: the file.
            data: `TaskDataset` with the rows that the file names. Rows that it does not name are in
                no part.

        Returns:
            `Split`.

        Raises:
            FileNotFoundError: there is no such file.
            DataError: a file that `save` did not write; a row that the data lack, or whose labels
                are not those that were saved; a row or group in two parts.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            parts, digests = content["parts"], content["labels"]
            may_share_groups = content["may_share_groups"]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{path.name} holds no split: `Split.save` writes one.") from None
        rows = {name: row for row, name in enumerate(data.row_names)}
        first_part: dict[str, int] = {}
        for number, names in enumerate(parts):
            for name in names:
                if name not in rows:
                    raise DataError(f"{path.name} names row {name!r}, which the data lack.")
                if name in first_part:
                    raise DataError(
                        f"{path.name} names row {name!r} twice, in parts {first_part[name]} and "
                        f"{number}."
                    )
                first_part[name] = number
        numbers = [np.array([rows[name] for name in names], int) for names in parts]
        for number, digest in enumerate(digests):
            if digest != _digest(data[numbers[number]]):
                raise DataError(
                    f"The rows of part {number} have other labels than when {path.name} was saved: "
                    f"the data have changed."
                )
        return data.parts(numbers, may_share_groups=may_share_groups)


def _digest(data: TaskDataset) -> str:
    """What labels in memory hold; labels of files are not read."""
    digest = hashlib.sha256()
    for name, part in sorted(data.label_fields.items()):
        if part.in_memory:
            values = np.asarray(part.load(np.arange(len(part))), "float32")
            digest.update(name.encode() + np.where(np.isnan(values), -1, values).tobytes())
    return digest.hexdigest()


def split_rows(
    data: TaskDataset,
    fractions: Sequence[float],
    *,
    seed: int,
    by: str | None,
    stratify: bool | Sequence[str],
) -> list[np.ndarray]:
    """Row numbers of each part. Arguments are those of `TaskDataset.split`."""
    shares = _check_fractions(fractions)
    if by == "time":
        parts = _split_by_time(data, shares)
    else:
        units = _units(data, by)
        tasks = _stratified_tasks(data, stratify)
        all_shares = [*shares, max(1 - shares.sum(), 0.0)]
        if tasks:
            tables = [label_table(data.task_of(name), data.labels(name)) for name in tasks]
            numbers = stratify_units(np.concatenate(tables, 1), units, all_shares, seed)
        else:
            numbers = _draw_units(units, all_shares, seed)
        parts = [np.flatnonzero(numbers == part) for part in range(len(shares))]
    for number, part in enumerate(parts):
        if not len(part):
            raise DataError(
                f"Part {number} of the split has no row: {_count(data, by)} are too few for a "
                f"share of {shares[number]:g}."
            )
    return parts


def _count(data: TaskDataset, by: str | None) -> str:
    if by == "time":
        return f"{len(np.unique(data.times))} different times"  # type: ignore[arg-type]
    units = len(np.unique(_units(data, by)))
    return f"{len(data)} rows" if units == len(data) else f"{units} groups of rows"


def _check_fractions(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, float)
    is_valid = shares.ndim == 1 and len(shares) and np.isfinite(shares).all()
    if not is_valid or (shares <= 0).any() or shares.sum() > 1 + 1e-9:
        raise DataError(
            f"Fractions should be numbers > 0 that add up to at most 1, such as 0.8, 0.1, 0.1. "
            f"Received: {', '.join(map(str, fractions)) or 'none'}."
        )
    return shares


def _stratified_tasks(data: TaskDataset, stratify: bool | Sequence[str]) -> list[str]:
    """Tasks whose labels are balanced. Labels that are read from files are not, unless named."""
    if isinstance(stratify, bool):
        fields = data.label_fields
        return [name for name in data.task_names if stratify and fields[name].in_memory]
    names = [stratify] if isinstance(stratify, str) else list(stratify)
    for name in names:
        if name not in data.task_names:
            raise DataError(unknown_name("task in `stratify`:", name, data.task_names))
    return names


def _units(data: TaskDataset, by: str | None) -> np.ndarray:
    """A number per row; rows of one number stay together."""
    if by is None:
        values = data.groups if data.groups is not None else _repeated(data)
    elif by == "group" and "group" not in data.columns:
        if data.groups is None:
            raise DataError("`by='group'` needs groups: name a column when the data are read.")
        values = data.groups
    else:
        columns = data.columns
        if by not in columns:
            raise DataError(unknown_name("column in `by`:", by, ["group", "time", *columns]))
        values = columns[by].astype(str)
    if values is None:
        return np.arange(len(data))
    return np.unique(values, return_inverse=True)[1]


def _repeated(data: TaskDataset) -> np.ndarray | None:
    """Fingerprints, where a few rows repeat others."""
    values = data.fingerprints
    if values is None or len(np.unique(values)) < (1 - _MOST_REPEATED) * len(values):
        return None
    return values


def _draw_units(units: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Part of each row: units in a random order, each part filled up to its share."""
    sizes = np.bincount(units)
    order = np.random.default_rng(seed).permutation(len(sizes))
    # The middle of a unit decides on which side of an end it is.
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    ends = np.round(np.cumsum(shares[:-1]) * len(units))
    parts = np.empty(len(sizes), int)
    parts[order] = np.searchsorted(ends, middles, side="left")
    return parts[units]


def _split_by_time(data: TaskDataset, shares: np.ndarray) -> list[np.ndarray]:
    """The earliest rows first; rows of one time stay together."""
    times = data.times
    if times is None:
        raise DataError("`by='time'` needs times: name a column when the data are read.")
    order = np.argsort(times, kind="stable")
    changes = np.flatnonzero(times[order][1:] != times[order][:-1]) + 1
    changes = np.concatenate([[0], changes, [len(order)]])
    ends = [changes[np.argmin(abs(changes - end))] for end in np.cumsum(shares) * len(order)]
    starts = [0, *ends[:-1]]
    return [np.sort(order[start:end]) for start, end in zip(starts, ends, strict=True)]


# ------------------------------------------------------------------ what is wrong with parts
def check_parts(parts: Sequence[TaskDataset], *, may_share_groups: bool = False) -> None:
    """Refuse parts that share rows or groups; warn of repeated rows and of classes that a part
    lacks.

    Args:
        parts: list of `TaskDataset`. The first is for training.
        may_share_groups: bool. True for parts by time.

    Raises:
        DataError: names the row or the group.
    """
    names: dict[str, int] = {}
    groups: dict[Any, int] = {}
    for number, part in enumerate(parts):
        for name in part.row_names:
            if names.setdefault(name, number) != number:
                raise DataError(f"Row {name!r} is in parts {names[name]} and {number}.")
        for group in np.unique(part.groups) if part.groups is not None else ():
            if groups.setdefault(group, number) != number and not may_share_groups:
                raise DataError(f"Group {str(group)!r} is in parts {groups[group]} and {number}.")
    _warn_of_repeated_rows(parts)
    _warn_of_empty_classes(parts)


def _warn_of_repeated_rows(parts: Sequence[TaskDataset]) -> None:
    first: dict[Any, tuple[int, str]] = {}
    repeated = []
    for number, part in enumerate(parts):
        values = part.fingerprints
        if values is None or part._source is not parts[0]._source or _repeated(part) is None:
            continue
        for value, name in zip(values.tolist(), part.row_names, strict=True):
            part_number, other = first.setdefault(value, (number, name))
            if part_number != number:
                repeated.append((name, other))
    if repeated:
        name, other = repeated[0]
        warn_caller(
            f"{len(repeated)} rows repeat rows of another part, such as {name} and {other}: results "
            f"on them are no results on new rows.",
            SplitWarning,
        )


def _warn_of_empty_classes(parts: Sequence[TaskDataset]) -> None:
    first = parts[0] if parts else None
    if first is None:
        return
    for task in first._source.tasks:
        if task.kind not in _CLASSES or not first.label_fields[task.name].in_memory:
            continue
        counts = [_count_classes(part.labels(task.name)) for part in parts]
        every = sorted({value for part in counts for value in part})
        labels = getattr(task, "labels", None)
        for number, part in enumerate(counts):
            lacking = [value for value in every if value not in part]
            if lacking:
                names = [labels[v] if labels else str(v) for v in lacking]
                some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                warn_caller(
                    f"Part {number} of the split has no row of these classes of task "
                    f"'{task.name}': {some}.",
                    SplitWarning,
                )


def _count_classes(labels: np.ndarray) -> set[int]:
    values = np.asarray(labels, float).reshape(len(labels), -1)
    if values.shape[1] > 1:
        return set(np.where(np.isfinite(values), values, -1).argmax(1).tolist())
    values = values[np.isfinite(values) & (values >= 0)]
    return set(np.round(values).astype(int).tolist())
