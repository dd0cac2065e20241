"""A data set of a folder of files: pictures, sounds or texts, with labels beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data import maps
from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.fields import ArrayField, Field
from mtl_keras.data.files import (
    FileField,
    FileIndex,
    find_copies,
    list_files,
    list_names,
    map_parallel,
)
from mtl_keras.data.folder_labels import (
    AnnotationLabels,
    Column,
    FolderLabels,
    Labels,
    TableLabels,
    as_cells,
    open_labels,
)
from mtl_keras.data.pictures import check_pictures, picture_field, picture_suffixes
from mtl_keras.data.sounds import check_sounds, choose_seconds, find_lengths, sound_field
from mtl_keras.data.sources import DataError
from mtl_keras.data.texts import RawTexts
from mtl_keras.runtime.cells import to_date, to_numbers
from mtl_keras.runtime.encoders import ImageEncoder, SoundEncoder
from mtl_keras.runtime.encoders.waveforms import SOUND_SUFFIXES
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

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
    _match_files(rows)
    assignments = _assign_tasks(tasks, request, rows)
    _check_rows(rows, assignments)
    make_inputs = {"image": _pictures, "sound": _sounds, "text": _texts}[kind]
    options = {"size": size, "channels": channels, "sample_rate": sample_rate, "seconds": seconds}
    inputs, map_size = make_inputs(rows, assignments, options)
    resolved = [_read_labels(rows, assignment, map_size) for assignment in assignments]
    return _build(kind, rows, resolved, inputs, {"group": group, "time": time, "weight": weight})


# ------------------------------------------------------------------ inputs
def _pictures(
    rows: _Rows, assignments: Sequence[_Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[int, int] | None]:
    """Pictures as `from_parts` takes them, and the size of maps."""
    size = options["size"]
    size = (size, size) if isinstance(size, int) else tuple(size)
    encoder = ImageEncoder(size, options["channels"])
    _check_pictures(rows, assignments)
    rows.drop_problems()
    pictures = picture_field(rows.paths(), encoder, rows.names(), rows.request.cache)
    inputs = {"inputs": {encoder.name: pictures}, "encoder": encoder, "backbone": "small_cnn"}
    return inputs, encoder.size


def _sounds(
    rows: _Rows, assignments: Sequence[_Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], None]:
    """Sounds as `from_parts` takes them."""
    rate = options["sample_rate"]
    lengths = find_lengths(rows.paths())
    encoder = SoundEncoder(rate, choose_seconds(rows.paths(), lengths, options["seconds"]))
    rows.add_problems(check_sounds(rows.paths(), encoder, rows.request.skips))
    rows.drop_problems()
    longer = int((lengths > encoder.seconds + 0.5 / rate).sum())
    if longer:
        rows.remarks.append(
            f"{longer} sounds are longer than {encoder.seconds:g} s and are cut; the longest has "
            f"{lengths.max():.3g} s."
        )
    sounds = sound_field(rows.paths(), encoder, rows.names(), rows.request.cache)
    # Windows of 30 ms every 10 ms at each rate.
    backbone = {"sample_rate": rate, "hop": rate // 100, "window": 3 * (rate // 100)}
    return {
        "inputs": {encoder.name: sounds},
        "encoder": encoder,
        "backbone": "log_mel_cnn",
        "backbone_options": backbone,
    }, None


def _texts(
    rows: _Rows, assignments: Sequence[_Assignment], options: Mapping[str, Any]
) -> tuple[dict[str, Any], None]:
    """Texts as `from_parts` takes them; they are held in memory."""

    def read(path: Path) -> tuple[str, str | None]:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            return "", f"it is no text in UTF-8: {error}."
        return text, None if text.strip() else "it is empty."

    texts = map_parallel(read, rows.paths())
    by_file = dict(zip(rows.numbers.tolist(), (text for text, _ in texts), strict=True))
    rows.add_problems([problem for _, problem in texts])
    rows.drop_problems()
    return {"raw": RawTexts([by_file[number] for number in rows.numbers.tolist()])}, None


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
class _Rows:
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

    def __init__(self, request: _Request, source: Labels, files: list[str]) -> None:
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


def _match_files(rows: _Rows) -> None:
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


def _check_rows(rows: _Rows, assignments: Sequence[_Assignment]) -> None:
    """Several rows per file, and empty class folders."""
    source, skips = rows.source, rows.request.skips
    if isinstance(source, TableLabels):
        repeated = source.repeated()
        if repeated and not any(a.task.kind == "detection" for a in assignments):
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


def _add_unlabeled(rows: _Rows) -> None:
    """Files without a row: those with a mask have labels too, the others are left out."""
    folder, patterns = rows.request.folder, list(rows.request.masks.values())
    masked, unlabeled = [], []
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


def _check_pictures(rows: _Rows, assignments: Sequence[_Assignment]) -> None:
    """Pictures that can't be read, and labels that do not fit their sizes."""
    checks = check_pictures(rows.paths(), rows.request.skips)
    rows.add_problems([problem for _, problem in checks])
    for number, (size, _) in zip(rows.numbers.tolist(), checks, strict=True):
        if size is not None:
            rows.sizes[number] = size
    if isinstance(rows.source, AnnotationLabels):
        rows.source.check_sizes([rows.sizes.get(number) for number in rows.source.files])
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
    from mtl_keras.tasks import Task

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
    from mtl_keras.tasks import Depth, Segmentation

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
    is_map = task.kind in maps.MAP_KINDS
    if is_map and size is None:
        raise DataError(
            f"Task '{task.name}' answers for places of a picture: these files are none."
        )
    if assignment.pattern is not None:
        return task, _map_labels(rows, task, _map_paths(rows, assignment.pattern, task.name), size)
    if isinstance(rows.source, AnnotationLabels):
        return rows.source.sized_field(task, column, rows.label_rows, size or ())
    if is_map:
        return task, _map_labels(rows, task, _column_paths(rows, task, column), size)
    task, labels = rows.source.field(task, column, rows.labeled())
    if len(labels) == len(rows.numbers):
        return task, labels
    # Rows that the source says nothing of.
    values = labels.load(np.arange(len(labels)))
    missing = np.nan if values.dtype.kind == "f" else task.missing_value
    full = np.full((len(rows.numbers), *values.shape[1:]), missing, values.dtype)
    full[rows.label_rows >= 0] = values
    return task, ArrayField(full)


def _column_paths(rows: _Rows, task: Task, column: Column) -> list[Path | None]:
    """Maps that a table's column names, None where a cell is empty."""
    if column not in rows.source.columns():
        raise DataError(
            f"Task '{task.name}' learns from files: give `masks`, or a column that names them."
        )
    folder = rows.request.folder
    paths = [None if cell is None else folder / str(cell) for cell in rows.column(column)]
    for path in paths:
        if path is not None and not path.is_file():
            raise DataError(f"Task '{task.name}': there is no file {path}.")
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
    inputs: Mapping[str, Any],
    by: Mapping[str, str | None],
) -> TaskDataset:
    """The data set. `inputs` are arguments of `TaskDataset.from_parts`."""
    names = list(rows.source.columns())
    for argument, name in by.items():
        if name is not None and name not in names:
            raise DataError(unknown_name(f"column for `{argument}`:", name, names))
    weight, group, time = by["weight"], by["group"], by["time"]
    return TaskDataset.from_parts(
        [task for task, _ in labels],
        labels={task.name: part for task, part in labels},
        weights=None if weight is None else {"": _weights(rows, weight)},
        row_names=rows.names(),
        groups=None if group is None else _groups(rows, group),
        times=None if time is None else _times(rows, time),
        kind=kind,
        notes=rows.remarks,
        fingerprints=find_copies(rows.paths()),
        columns={name: as_cells(rows.column(name)) for name in names},
        **inputs,
    )


def _weights(rows: _Rows, name: str) -> np.ndarray:
    """A weight per row; 1 where the labels' source says nothing of a row."""
    cells = rows.column(name)
    numbers, _ = to_numbers(as_cells([1.0 if cell is None else cell for cell in cells]))
    bad = np.flatnonzero(~(numbers >= 0) | np.isinf(numbers))
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{rows.names()[row]}: a weight in column '{name}' should be a number >= 0. Received: "
            f"{cells[row]!r}."
        )
    return numbers.astype("float32")


def _groups(rows: _Rows, name: str) -> np.ndarray:
    """A group per row; rows without one are groups of their own."""
    cells = rows.column(name)
    own = [f"({file} without a group)" for file in rows.names()]
    return np.asarray(
        [str(cell) if cell is not None else own[row] for row, cell in enumerate(cells)]
    )


def _times(rows: _Rows, name: str) -> np.ndarray:
    cells = as_cells(rows.column(name))
    if any(cell is None for cell in cells):
        row = next(row for row, cell in enumerate(cells) if cell is None)
        raise DataError(f"{rows.names()[row]}: column '{name}' holds no time.")
    numbers, others = to_numbers(cells)
    if not others.any():
        return numbers
    try:
        return to_date(cells)
    except ValueError as error:
        raise DataError(f"Column '{name}' of {rows.source.source}: {error}.") from None
