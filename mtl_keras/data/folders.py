"""A data set of a folder of files: pictures, sounds or texts, with labels beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtl_keras.data import maps
from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.fields import Field
from mtl_keras.data.files import FileField, FileIndex, find_copies, list_files, list_names
from mtl_keras.data.folder_labels import (
    AnnotationLabels,
    Column,
    FolderLabels,
    Labels,
    TableLabels,
    open_labels,
)
from mtl_keras.data.pictures import check_pictures, picture_field, picture_suffixes
from mtl_keras.data.sounds import check_sounds, choose_seconds, sound_field
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import to_numbers
from mtl_keras.runtime.encoders import ImageEncoder, SoundEncoder
from mtl_keras.runtime.encoders.waveforms import SOUND_SUFFIXES
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Depth, Detection, Normals, Segmentation, Task

__all__ = ["from_folder"]

_TEXT_SUFFIXES = (".txt",)


def from_folder(
    folder: str | os.PathLike[str],
    labels: Any = None,
    tasks: Any = None,
    *,
    kind: str | None = None,
    size: int | Sequence[int] = 160,
    channels: int = 3,
    file: str | None = None,
    masks: Mapping[str, str] | None = None,
    mask_values: Mapping[str, Mapping[Any, Any]] | None = None,
    depth_scale: float = 1.0,
    box_format: str | None = None,
    sample_rate: int = 16000,
    seconds: float | None = None,
    group: str | None = None,
    time: str | None = None,
    weight: str | None = None,
    on_bad: str = "error",
    cache: str | os.PathLike[str] | None = None,
) -> TaskDataset:
    """A data set of a folder of pictures, sounds or texts.

    Files are read when they are needed: there may be more than memory holds. Pictures are resized,
    turned and scaled by a `mtl.data.ImageEncoder`, sounds by a `mtl.data.SoundEncoder`; the encoder
    is saved with the model, so that the device makes the same numbers of a file.

    Args:
        folder: the folder; its sub-folders belong to it.
        labels: where labels are:

            - None: sub-folders are classes, as in `photos/cat/1.jpg`.
            - a CSV file or DataFrame: one column names the files (with or without sub-folders and
              ending), the others hold labels. An empty cell is a missing label.
            - a COCO file (.json), a folder of Pascal VOC files (.xml), or `Annotations`.

            A relative path is looked for here, then in `folder`.
        tasks: list of `Task`; or a dict of `Task`, or of a task's name, to what holds its labels.
            Of a name, the task is guessed from the labels. None guesses a task for each column.
            Labels are held by:

            - a column of the table, or a list of columns: the four edges of a box (and its class,
              for `Detection`), x and y of each point, a yes or no for each of several labels. One
              cell may hold several labels, as in "red|round".
            - of annotations: "boxes", "box", "masks", "silhouette", "points", "categories",
              "category", "count", or a category's name (is it there?).
            - "folder" (the folder that holds the file), "folder_1" (the outermost), "folder_2", ...

            Where nothing is named, it is the column with the task's name, or what of annotations
            suits the task's kind.
        kind: "image", "sound" or "text". None tells it from the files.
        size: int, or `(height, width)`. Of pictures in the network. Defaults to 160.
        channels: 1 (gray) or 3 (color). Defaults to 3.
        file: the table's column that names files. None finds it.
        masks: dict of task name to the path of a picture's mask, depth map or normals, inside
            `folder` (or a path from elsewhere that begins with "/" or ".."), such as
            "masks/{stem}.png". `{stem}`, `{name}`, `{path}` and `{folder}` are parts of the
            picture's path. A picture whose file is absent has no label.
        mask_values: dict of task name to a dict of a mask's value (or color) to its class, -1 for
            no label. Defaults to the values themselves, 255 for no label; in masks of one
            silhouette, 255 is the silhouette if 1 does not occur.
        depth_scale: float. Factor from a depth map's values to the task's unit, such as 0.001.
        box_format: of boxes in tables: "ltrb" (left, top, right, bottom), "xywh" (left, top, width,
            height) or "cxcywh" (center, width, height), from 0 to 1 of the picture; with "_pixels"
            behind it, in pixels. None takes it from the columns' names, else "ltrb".
        sample_rate: int, Hz. Of sounds in the network. Defaults to 16000.
        seconds: float. Length of sounds in the network; longer ones are cut, shorter ones filled up
            with silence. None: the longest sound's, at most 5.
        group, time, weight: columns with the group of each row (no group is split), its time, its
            weight. "folder" and "folder_<n>" may be groups.
        on_bad: "error" or "skip": what to do about files that are damaged, and rows of a table
            without a file. "skip" reads each file once before training, leaves bad ones out, and
            counts them in `describe()`. Defaults to "error", which looks at the files' heads.
        cache: None; "memory"; or a folder in which resized pictures and sounds are stored.

    Returns:
        `TaskDataset`.

    Raises:
        DataError: no file of this kind; no labels; rows without a file, damaged files, labels that
            tasks don't take: each with the first names and how many there are.

    Examples:
        >>> data = mtl.data.from_folder("photos", size=32)
        >>> train, test = data.split(0.75, 0.25)
        >>> data.tasks[0].labels
        ['cat', 'dog']
    """
    request = _Request(
        folder=_check_folder(folder),
        masks=dict(masks or {}),
        mask_values=dict(mask_values or {}),
        depth_scale=depth_scale,
        on_bad=_check_on_bad(on_bad),
        cache=cache,
    )
    kind, files = _find_files(request, kind)
    index = FileIndex(files)
    source = open_labels(labels, request.folder, index, kind=kind, file=file, box_format=box_format)
    rows = _Rows(request, source, files)
    assignments = _assign_tasks(tasks, request, rows)
    _check_rows(rows, assignments)
    if kind == "image":
        encoder: Any = ImageEncoder((size, size) if isinstance(size, int) else size, channels)
        _check_pictures(rows, assignments)
    elif kind == "sound":
        encoder = SoundEncoder(sample_rate, choose_seconds(rows.paths(), seconds))
        rows.add_problems(check_sounds(rows.paths(), encoder, request.skips))
    else:
        raise DataError("Texts are not read yet.")
    rows.drop_problems()
    map_size = encoder.size if kind == "image" else None
    resolved = [_read_labels(rows, assignment, map_size) for assignment in assignments]
    read = picture_field if kind == "image" else sound_field
    return _build(
        kind,
        rows,
        resolved,
        read(rows.paths(), encoder, rows.names(), cache),
        encoder,
        {"group": group, "time": time, "weight": weight},
    )


# ------------------------------------------------------------------ what was asked for
@dataclass(frozen=True)
class _Request:
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


def _check_folder(folder: str | os.PathLike[str]) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return path


def _check_on_bad(on_bad: str) -> str:
    if on_bad not in ("error", "skip"):
        raise DataError(f"`on_bad` should be 'error' or 'skip'. Received: {on_bad!r}.")
    return on_bad


def _find_files(request: _Request, kind: str | None) -> tuple[str, list[str]]:
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


# ------------------------------------------------------------------ rows
@dataclass
class _Rows:
    """The rows of the data set: those files that have labels, without bad ones.

    Attributes:
        request: what was asked for.
        source: the labels.
        files: all files of the folder.
        numbers: rows of `source` that remain.
        problems: what is wrong, by row of `source`.
        remarks: sentences for `describe`.
    """

    request: _Request
    source: Labels
    files: list[str]
    numbers: np.ndarray = field(init=False)
    problems: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers = np.arange(len(self.source.files))

    def names(self) -> list[str]:
        """The file of each row, inside the folder."""
        return [self.files[self.source.files[row]] for row in self.numbers]

    def paths(self) -> list[Path]:
        return [self.request.folder / name for name in self.names()]

    def add_problems(self, problems: Sequence[str | None]) -> None:
        """Note what is wrong with the rows' files."""
        for row, problem in zip(self.numbers.tolist(), problems, strict=True):
            if problem is not None:
                self.problems.setdefault(row, problem)

    def drop_problems(self) -> None:
        """Leave out rows with problems and say how many, or refuse.

        Raises:
            DataError: the first problem, where bad rows are not skipped; no row is left.
        """
        problems = {**self.source.problems, **self.problems}
        self.remarks += self.source.remarks
        if problems:
            first = min(problems)
            name = self.files[self.source.files[first]]
            text = f"{name}: {problems[first]}"
            if not self.request.skips:
                others = f" {len(problems)} files are bad in all." if len(problems) > 1 else ""
                raise DataError(f'{text}{others} `on_bad="skip"` leaves them out.')
            self.remarks.append(f"{len(problems)} files are bad and left out, such as {text}")
            self.numbers = np.array([n for n in self.numbers if n not in problems], int)
        if not len(self.numbers):
            raise DataError(f"No file of {self.request.folder} can be used: {text}")

    def find_sizes(self, files: Sequence[int]) -> np.ndarray:
        """`(files, 2)`: height and width of pictures, NaN where one can't be read."""
        return np.array([self.sizes.get(number, (np.nan, np.nan)) for number in files], float)


def _check_rows(rows: _Rows, assignments: Sequence[_Assignment]) -> None:
    """Rows without a file, files without a row, several rows per file, empty class folders."""
    source, skips = rows.source, rows.request.skips
    lost = getattr(source, "lost", [])
    if lost:
        text = f"{len(lost)} rows of {source.source} have no file in {rows.request.folder}: "
        if not skips:
            raise DataError(f'{text}{list_names(lost)}. `on_bad="skip"` leaves them out.')
        rows.remarks.append(f"{text}{list_names(lost)}. They are left out.")
    if not source.files:
        raise DataError(f"{source.source} names no file of {rows.request.folder}.")
    has_row = set(source.files)
    unlabeled = [name for number, name in enumerate(rows.files) if number not in has_row]
    if unlabeled:
        rows.remarks.append(
            f"{len(unlabeled)} of {len(rows.files)} files have no row in {source.source} and are "
            f"left out: {list_names(unlabeled)}."
        )
    if isinstance(source, TableLabels):
        repeated = source.repeated()
        if repeated and not any(isinstance(a.task, Detection) for a in assignments):
            raise DataError(
                f"{len(repeated)} files have several rows in {source.source}: "
                f"{list_names(repeated)}. Only boxes of a Detection task have a row for each."
            )
    if isinstance(source, FolderLabels) and any(a.pattern is None for a in assignments):
        empty = source.empty_folders()
        if empty:
            text = f"{len(empty)} class folders of {source.source} hold no file: "
            if not skips:
                raise DataError(f'{text}{list_names(empty)}. `on_bad="skip"` leaves them out.')
            rows.remarks.append(f"{text}{list_names(empty)}.")


def _check_pictures(rows: _Rows, assignments: Sequence[_Assignment]) -> None:
    """Pictures that can't be read, and labels that do not fit their sizes."""
    checks = check_pictures(rows.paths(), rows.request.skips)
    rows.add_problems([problem for _, problem in checks])
    sizes = [size for size, _ in checks]
    for number, size in zip(rows.source.files, sizes, strict=True):
        if size is not None:
            rows.sizes[number] = size
    if isinstance(rows.source, AnnotationLabels):
        rows.source.check_sizes(sizes)
    for assignment in assignments:
        if assignment.pattern is None and assignment.task.kind not in maps.MAP_KINDS:
            rows.source.check(assignment.task, assignment.column, rows.find_sizes)


# ------------------------------------------------------------------ tasks
@dataclass(frozen=True)
class _Assignment:
    """A task, and what holds its labels: a column, or the pattern of files."""

    task: Task
    column: Column = None
    pattern: str | None = None


def _assign_tasks(tasks: Any, request: _Request, rows: _Rows) -> list[_Assignment]:
    """What holds the labels of each task."""
    source = rows.source
    if tasks is None:
        columns = source.default_tasks() if not request.masks or rows.source.files else {}
        tasks = {**columns, **dict.fromkeys(request.masks)}
    if isinstance(tasks, Task):
        tasks = [tasks]
    pairs = list(tasks.items()) if isinstance(tasks, Mapping) else [(task, None) for task in tasks]
    if not pairs:
        raise DataError(
            f"{request.folder} has no sub-folders that could be classes: give `labels`, or `masks`."
        )
    assignments = []
    for key, column in pairs:
        name = key.name if isinstance(key, Task) else str(key)
        pattern = request.masks.get(name)
        if pattern is not None:
            task = key if isinstance(key, Task) else _guess_map_task(name, request, rows)
            assignments.append(_Assignment(task, pattern=pattern))
        elif isinstance(key, Task):
            column = source.column_of(key) if column is None else column
            assignments.append(_Assignment(key, column))
        else:
            column = name if column is None else column
            assignments.append(_Assignment(source.guess(name, column), column))
    names = [assignment.task.name for assignment in assignments]
    for name in (*request.masks, *request.mask_values):
        if name not in names:
            raise DataError(unknown_name("task in `masks` or `mask_values`:", name, names))
    return assignments


def _guess_map_task(name: str, request: _Request, rows: _Rows) -> Task:
    """A task for files of maps: depth of 16 bits and real numbers, else classes."""
    paths = [path for path in _map_paths(rows, request.masks[name], name) if path is not None]
    values = [maps.read_map(path) for path in paths[:32]]
    if any(value.ndim == 3 for value in values) and name not in request.mask_values:
        raise DataError(
            f"{paths[0]} has colors. Give `mask_values` for '{name}', or a Segmentation or Normals "
            f"task in `tasks`."
        )
    if name in request.mask_values:
        top = max(int(number) for number in request.mask_values[name].values())
        return Segmentation(name, 1 if top < 2 else top + 1)
    if any(value.dtype.itemsize > 1 for value in values):
        return Depth(name)
    classes = {int(v) for value in values for v in np.unique(value)}
    if classes <= {0, 1, 255}:
        return Segmentation(name)
    return Segmentation(name, max(classes - {255}) + 1)


def _map_paths(rows: _Rows, pattern: str, task: str) -> list[Path | None]:
    """The map of each row, None where there is no file.

    Raises:
        DataError: no row has one.
    """
    folder = rows.request.folder
    candidates = [folder / maps.expand_pattern(pattern, name) for name in rows.names()]
    paths = [path if path.is_file() else None for path in candidates]
    if not any(path is not None for path in paths):
        raise DataError(
            f"Task '{task}': no picture has a file '{pattern}', for example {candidates[0]}."
        )
    return paths


def _read_labels(
    rows: _Rows, assignment: _Assignment, size: tuple[int, int] | None
) -> tuple[Task, Field]:
    """A task and its labels, for the rows that remain."""
    task, column = assignment.task, assignment.column
    is_map = isinstance(task, (Segmentation, Depth, Normals))
    if is_map and size is None:
        raise DataError(f"Task '{task.name}' answers for places of a picture; these are sounds.")
    if assignment.pattern is not None:
        return task, _map_labels(rows, task, _map_paths(rows, assignment.pattern, task.name), size)
    if isinstance(rows.source, AnnotationLabels):
        assert size is not None
        return rows.source.sized_field(task, column, rows.numbers, size)
    if is_map:
        return task, _map_labels(rows, task, _column_paths(rows, task, column), size)
    return rows.source.field(task, column, rows.numbers)


def _column_paths(rows: _Rows, task: Task, column: Column) -> list[Path | None]:
    """Maps that a table's column names, None where a cell is empty."""
    cells = rows.source.columns().get(column)
    if cells is None:
        raise DataError(
            f"Task '{task.name}' learns from files: give `masks`, or a column that names them."
        )
    folder = rows.request.folder
    paths: list[Path | None] = []
    for row in rows.numbers:
        cell = cells[row]
        path = None if cell is None else folder / str(cell)
        if path is not None and not path.is_file():
            raise DataError(f"Task '{task.name}': there is no file {path}.")
        paths.append(path)
    return paths


def _map_labels(
    rows: _Rows, task: Task, paths: Sequence[Path | None], size: Sequence[int] | None
) -> FileField:
    request = rows.request
    reader = maps.MapReader(
        task, size or (), request.mask_values.get(task.name), request.depth_scale
    )
    reader.survey([path for path in paths if path is not None])
    return maps.map_field(reader, paths, rows.names(), request.cache)


# ------------------------------------------------------------------ the data set
def _build(
    kind: str,
    rows: _Rows,
    labels: Sequence[tuple[Task, Field]],
    inputs: FileField,
    encoder: Any,
    by: Mapping[str, str | None],
) -> TaskDataset:
    columns = {
        name: np.asarray([values[row] for row in rows.numbers], object)
        for name, values in rows.source.columns().items()
    }
    for argument, name in by.items():
        if name is not None and name not in columns:
            raise DataError(unknown_name(f"column for `{argument}`:", name, list(columns)))
    chosen = {key: None if name is None else columns[name] for key, name in by.items()}
    weights = chosen["weight"]
    originals = find_copies(rows.paths())
    if originals is not None:
        names = rows.names()
        copies = [
            f"{names[row]} (of {names[original]})"
            for row, original in enumerate(originals)
            if row != original
        ]
        rows.remarks.append(f"{len(copies)} files are copies of others: {list_names(copies)}.")
    backbone, options = "small_cnn", {}
    if kind == "sound":
        rate = encoder.sample_rate
        backbone = "log_mel_cnn"
        options = {"sample_rate": rate, "hop": rate // 100, "window": 3 * (rate // 100)}
    return TaskDataset.from_parts(
        [task for task, _ in labels],
        inputs={encoder.name: inputs},
        labels={task.name: part for task, part in labels},
        weights=None if weights is None else {"": to_numbers(weights)[0].astype("float32")},
        row_names=rows.names(),
        groups=None if chosen["group"] is None else _as_text(chosen["group"]),
        times=chosen["time"],
        kind=kind,
        encoder=encoder,
        backbone=backbone,
        backbone_options=options,
        notes=rows.remarks,
        columns=columns,
    )


def _as_text(values: np.ndarray) -> np.ndarray:
    return np.asarray(["" if value is None else str(value) for value in values])
