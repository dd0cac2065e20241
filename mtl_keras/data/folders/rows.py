"""The rows of a data set of files: which files have labels, and which are bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data.folders import maps
from mtl_keras.data.folders.files import list_files, list_names
from mtl_keras.data.folders.labels import Labels
from mtl_keras.data.folders.pictures import picture_suffixes
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.encoders.waveforms import SOUND_SUFFIXES
from mtl_keras.runtime.names import unknown_name

__all__ = ["Request", "Rows", "find_files", "match_files"]

_TEXT_SUFFIXES = (".txt",)


@dataclass(frozen=True)
class Request:
    """Arguments of `from_folder`, checked."""

    folder: Path
    masks: dict[str, str]
    mask_values: dict[str, Mapping[Any, Any]]
    depth_scale: float
    on_bad: str
    cache: Any

    @property
    def skips(self) -> bool:
        return self.on_bad == "skip"


def find_files(request: Request, kind: str | None) -> tuple[str, list[str]]:
    """What kind of files the folder holds, and the files, without masks."""
    suffixes: dict[str, Sequence[str]] = {
        "image": picture_suffixes(),
        "sound": SOUND_SUFFIXES,
        "text": _TEXT_SUFFIXES,
    }
    if kind is not None and kind not in suffixes:
        raise DataError(unknown_name("kind of files:", kind, list(suffixes)))
    for name, pattern in request.masks.items():
        maps.check_pattern(name, pattern)
    files = {name: list_files(request.folder, ends) for name, ends in suffixes.items()}
    for pattern in request.masks.values():
        masks = maps.pattern_files(pattern, files["image"])
        files["image"] = [name for name in files["image"] if name not in masks]
    if kind is None:
        # Texts beside pictures and sounds describe them.
        kinds = [name for name in ("image", "sound") if files[name]]
        if len(kinds) == 2:
            raise DataError(
                f"{request.folder} holds {len(files['image'])} pictures and "
                f"{len(files['sound'])} sounds. Say which with `kind`."
            )
        kind = kinds[0] if kinds else "text"
    if not files[kind]:
        raise DataError(
            f"{request.folder} holds no pictures, sounds or texts."
            if kind == "text"
            else f"{request.folder} holds no file of the kind '{kind}'."
        )
    return kind, files[kind]


class Rows:
    """The rows of the data set: files that have a label, without bad ones.

    Attributes:
        request: what was asked for.
        source: the labels.
        files: all files of the folder.
        numbers: int array. The file of each row.
        label_rows: int array. The row of `source` that belongs to each row, -1 where there is none.
        remarks: sentences for `describe`.
        sizes: dict of file to height and width of the picture.
    """

    def __init__(self, request: Request, source: Labels, files: list[str]) -> None:
        self.request, self.source, self.files = request, source, files
        self.numbers = np.array(source.files, int)
        self.label_rows = np.arange(len(source.files))
        self.remarks: list[str] = []
        self.sizes: dict[int, tuple[int, int]] = {}
        self._problems: dict[int, str] = {}

    def names(self) -> list[str]:
        """The file of each row, inside the folder."""
        return [self.files[number] for number in self.numbers]

    def paths(self) -> list[Path]:
        return [self.request.folder / name for name in self.names()]

    def labeled(self) -> np.ndarray:
        """Rows of `source`, in the order of those rows that have one."""
        return self.label_rows[self.label_rows >= 0]

    def add_unlabeled(self, numbers: Sequence[int]) -> None:
        """Add files of which `source` says nothing."""
        self.numbers = np.append(self.numbers, np.array(numbers, int))
        self.label_rows = np.append(self.label_rows, np.full(len(numbers), -1))

    def add_problems(self, problems: Sequence[str | None]) -> None:
        """Note what is wrong with the rows' files."""
        for number, problem in zip(self.numbers.tolist(), problems, strict=True):
            if problem is not None:
                self._problems.setdefault(number, problem)

    def drop_problems(self) -> None:
        """Leave out rows with problems and say how many, or refuse.

        Raises:
            DataError: the first problem, where bad rows are not skipped; no row is left.
        """
        labels = {self.source.files[row]: text for row, text in self.source.problems.items()}
        problems = {**labels, **self._problems}
        self.remarks += self.source.remarks
        if not problems:
            return
        first = min(problems)
        text = f"{self.files[first]}: {problems[first]}"
        if not self.request.skips:
            others = f" {len(problems)} files are bad in all." if len(problems) > 1 else ""
            raise DataError(f'{text}{others} `on_bad="skip"` leaves them out.')
        remark = f"{len(problems)} files are bad and left out, such as {text}"
        self.remarks.append(remark)
        is_good = np.array([number not in problems for number in self.numbers.tolist()], bool)
        self.numbers, self.label_rows = self.numbers[is_good], self.label_rows[is_good]
        if not len(self.numbers):
            raise DataError(f"No file of {self.request.folder} can be used: {remark}")

    def find_sizes(self, files: Sequence[int]) -> np.ndarray:
        """`(files, 2)`: height and width of pictures, NaN where one can't be read."""
        return np.array([self.sizes.get(number, (np.nan, np.nan)) for number in files], float)

    def column(self, name: str) -> list[Any]:
        """A column of `source`, None where a row has no labels.

        Raises:
            KeyError: no such column.
        """
        cells = self.source.columns()[name]
        return [None if row < 0 else cells[row] for row in self.label_rows.tolist()]


def match_files(rows: Rows) -> None:
    """Rows without a file, and files without a row."""
    source = rows.source
    lost = getattr(source, "lost", [])
    if lost:
        text = f"{len(lost)} rows of {source.source} have no file in {rows.request.folder}: "
        if not rows.request.skips:
            raise DataError(f'{text}{list_names(lost)}. `on_bad="skip"` leaves them out.')
        rows.remarks.append(f"{text}{list_names(lost)}. They are left out.")
    if not source.files:
        raise DataError(f"{source.source} names no file of {rows.request.folder}.")
    _add_unlabeled(rows)


def _add_unlabeled(rows: Rows) -> None:
    """Files without a row: those with a mask have labels too, the others are left out."""
    folder, patterns = rows.request.folder, list(rows.request.masks.values())
    masked: list[int] = []
    unlabeled: list[int] = []
    for number in sorted({*range(len(rows.files))} - {*rows.source.files}):
        name = rows.files[number]
        is_masked = any((folder / maps.expand_pattern(p, name)).is_file() for p in patterns)
        (masked if is_masked else unlabeled).append(number)
    rows.add_unlabeled(masked)
    if unlabeled:
        names = [rows.files[number] for number in unlabeled]
        rows.remarks.append(
            f"{len(names)} of {len(rows.files)} files have no label in {rows.source.source} and "
            f"are left out: {list_names(names)}."
        )
