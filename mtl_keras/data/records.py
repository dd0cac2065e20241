"""Data sets of records: rows with features of known kinds, from other libraries' data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.dataset import RowNames, TaskDataset
from mtl_keras.data.fields import ArrayField, Field, FunctionField
from mtl_keras.data.sources import DataError
from mtl_keras.runtime.encoders import ImageEncoder, SoundEncoder
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["Feature", "Records", "from_records"]

#: Features that are read row by row, when they are needed.
_LARGE = ("image", "map", "depth", "sound")


@dataclass(frozen=True)
class Feature:
    """What a value of a record is.

    Attributes:
        kind: "image", "map" (a class per pixel), "depth" (a number per pixel), "sound", "class",
            "classes" (any number of them), "flag" (yes or no), "number", "numbers", "box" (top,
            left, bottom, right, from 0 to 1), "text", or "other".
        shape: of a value.
        labels: names of the classes, or None.
        offset: int. What class 0 is in the data, for maps.
    """

    kind: str
    shape: tuple[int | None, ...] = ()
    labels: tuple[str, ...] | None = None
    offset: int = 0


@dataclass(frozen=True)
class Records:
    """Rows of another library's data set.

    Attributes:
        name: str. Of the data set, for messages.
        features: dict of name, nested ones as "attributes/Smiling", to `Feature`.
        count: int. Rows.
        columns: function of a list of names to a dict of their values of all rows.
        value: function of a row number and a name to one value.
        sample_rate: int or None. Of sounds, in Hz.
    """

    name: str
    features: Mapping[str, Feature]
    count: int
    columns: Callable[[list[str]], dict[str, np.ndarray]]
    value: Callable[[int, str], Any]
    sample_rate: int | None = None


def from_records(
    records: Records,
    tasks: Any,
    *,
    inputs: Sequence[str] | str | None = None,
    size: int | Sequence[int] = 160,
    seconds: float | None = None,
    tokenizer: Any = "auto",
) -> TaskDataset:
    """A `TaskDataset` of records.

    Args:
        records: `Records`.
        tasks: list of `Task`, each with the name of its feature; or a dict of task name, or `Task`,
            to feature (a list of features for `MultiLabel` and for numbers side by side).
        inputs: name of the input, or names of columns. None takes the first picture that is no
            label, else the first sound, else all texts, else all columns that are no labels.
        size: int or `(height, width)`. Of pictures and maps.
        seconds: float or None. Length of sounds; None takes 1 second.
        tokenizer: for texts, as in `from_dataframe`.

    Raises:
        DataError: an unknown feature; a feature of which no task can be guessed; no input.
    """
    targets = _targets(records, tasks)
    used = {name for names in targets.values() for name in names}
    names = [inputs] if isinstance(inputs, str) else None if inputs is None else list(inputs)
    for name in names or ():
        _feature(records, name, "input")
    main = _main_input(records, names, used)
    if main is None:
        return _from_columns(records, targets, names, used, tokenizer)
    feature = records.features[main]
    picture_size = (size, size) if isinstance(size, int) else tuple(size)
    row_names = RowNames(f"{records.name}, row ", records.count)
    if feature.kind == "image":
        channels = 1 if feature.shape[-1:] == (1,) else 3
        encoder: Any = ImageEncoder(picture_size, channels)
        shape: tuple[int, ...] = (*encoder.size, channels)
        kind, backbone, options = "image", "small_cnn", {}
    else:
        rate = records.sample_rate or 16000
        encoder = SoundEncoder(rate, seconds or 1.0)
        shape = (len(encoder),)
        kind, backbone = "sound", "log_mel_cnn"
        options = {"sample_rate": rate, "hop": rate // 100, "window": 3 * (rate // 100)}

    def encode(row: int) -> np.ndarray:
        return np.asarray(encoder.encode([np.asarray(records.value(row, main))])[0])

    fields = {encoder.name: FunctionField(encode, records.count, shape, row_names=row_names)}
    labels = [
        _labels(records, task, columns, picture_size, row_names)
        for task, columns in targets.items()
    ]
    return TaskDataset.from_parts(
        [task for task, _ in labels],
        inputs=fields,
        labels={task.name: field for task, field in labels},
        row_names=row_names,
        kind=kind,
        encoder=encoder,
        backbone=backbone,
        backbone_options=options,
    )


# ------------------------------------------------------------------ tasks of features
def _feature(records: Records, name: str, use: str) -> Feature:
    if name not in records.features:
        raise DataError(
            unknown_name(f"feature of {records.name} as {use}:", name, records.features)
        )
    return records.features[name]


def _targets(records: Records, tasks: Any) -> dict[Any, tuple[str, ...]]:
    """Tasks with the names of their features."""
    from mtl_keras.tasks import Task

    if isinstance(tasks, Task):
        tasks = [tasks]
    pairs = (
        list(tasks.items())
        if isinstance(tasks, Mapping)
        else [(task, getattr(task, "name", task)) for task in tasks]
    )
    if not pairs:
        raise DataError("A data set should have at least one task. Received: none.")
    targets: dict[Any, tuple[str, ...]] = {}
    for key, value in pairs:
        task_name = key.name if isinstance(key, Task) else str(key)
        names = (value,) if isinstance(value, str) else tuple(value)
        for name in names:
            _feature(records, name, f"label of task '{task_name}'")
        task = key if isinstance(key, Task) else _guess(records, task_name, names)
        targets[task] = names
    return targets


def _guess(records: Records, name: str, columns: tuple[str, ...]) -> Task:
    """The task that a feature's kind asks for."""
    from mtl_keras import tasks as t

    feature = records.features[columns[0]]
    labels = None if feature.labels is None else list(feature.labels)
    count = 0 if labels is None else len(labels)
    makers: dict[str, Callable[[], Any]] = {
        "class": lambda: t.Classification(name, count, labels=labels),
        "classes": lambda: t.MultiLabel(name, count, labels=labels),
        "flag": lambda: t.Binary(name),
        "number": lambda: _guess_number(records, name, columns[0]),
        "text": lambda: _guess_number(records, name, columns[0]),
        "box": lambda: t.BoundingBox(name),
        "depth": lambda: t.Depth(name),
    }
    if len(columns) > 1:
        if {records.features[column].kind for column in columns} == {"flag"}:
            short = [column.rsplit("/", 1)[-1] for column in columns]
            return t.MultiLabel(name, len(columns), labels=short)
    elif feature.kind == "map" and labels is not None:
        # Two classes, of which the first has no name, are a silhouette.
        if labels[0] == "":
            return t.Segmentation(name)
        return t.Segmentation(name, count, labels=labels)
    elif feature.kind in makers:
        return makers[feature.kind]()
    raise DataError(
        f"Task '{name}' can't be guessed from {', '.join(map(repr, columns))} of {records.name} "
        f"({feature.kind}): give a task, such as {{mtl.tasks.Segmentation('{name}', 3): "
        f"'{columns[0]}'}}."
    )


def _guess_number(records: Records, name: str, column: str) -> Task:
    from mtl_keras.tasks import guess_task

    try:
        return guess_task(name, list(records.columns([column])[column]))
    except ValueError as error:
        raise DataError(f"Feature '{column}' of {records.name}: {error}") from None


# ------------------------------------------------------------------ labels
def _labels(
    records: Records,
    task: Task,
    columns: tuple[str, ...],
    size: Sequence[int],
    row_names: Sequence[str],
) -> tuple[Task, Field]:
    feature = records.features[columns[0]]
    if feature.kind in _LARGE:
        return task, _map_field(records, columns[0], feature, size, row_names)
    values = records.columns(list(columns))
    if feature.kind in ("box", "numbers", "classes") or len(columns) > 1:
        labels = _wide_labels(task, feature, [values[column] for column in columns])
        return task, _checked(records, task, labels)
    if feature.labels is not None:
        numbers = np.array([int(value) for value in values[columns[0]]])
        return task, _checked(records, task, np.where(numbers < 0, -1, numbers))
    from mtl_keras.data.targets import Target, read_labels

    cells: dict[str, Any] = {columns[0]: _cells(values[columns[0]], feature)}
    known, labels = read_labels(Target(task, columns), cells, row_names)
    return known, ArrayField(labels)


def _wide_labels(task: Task, feature: Feature, columns: list[np.ndarray]) -> np.ndarray:
    """Labels of several numbers per row."""
    if feature.kind == "classes":
        labels = np.zeros((len(columns[0]), len(feature.labels or ())), "float32")
        for row, numbers in enumerate(columns[0]):
            labels[row, np.asarray(numbers, "int64")] = 1.0
        return labels
    if feature.kind == "box":
        boxes = np.stack([np.asarray(box, "float32") for box in columns[0]])
        # TFDS has (top, left, bottom, right); a box without area is no box.
        boxes = boxes[:, [1, 0, 3, 2]]
        has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        return np.where(has_area[:, None], boxes, np.float32(np.nan))
    parts = [np.stack([np.asarray(value, "float32") for value in column]) for column in columns]
    labels = np.concatenate([part.reshape(len(part), -1) for part in parts], 1)
    shape: Any = task.label_shape
    return labels if None in shape else labels.reshape(-1, *shape)


def _checked(records: Records, task: Task, labels: np.ndarray) -> Field:
    try:
        task.check_labels(labels)
    except ValueError as error:
        raise DataError(f"{records.name}: {error}") from None
    return ArrayField(labels)


def _map_field(
    records: Records, name: str, feature: Feature, size: Sequence[int], row_names: Sequence[str]
) -> Field:
    """Maps at the pictures' size: of classes the nearest pixel, as no class lies between two."""
    height, width = size

    def read(row: int) -> np.ndarray:
        values = np.asarray(records.value(row, name))
        values = values[..., 0] if values.ndim == 3 else values
        rows = ((np.arange(height) + 0.5) * values.shape[0] / height).astype(int)
        columns = ((np.arange(width) + 0.5) * values.shape[1] / width).astype(int)
        resized = values[rows[:, None], columns]
        if feature.kind == "depth":
            depth = resized.astype("float32")
            return np.where(depth > 0, depth, np.float32(np.nan))[..., None]
        numbers = resized.astype("int32") - feature.offset
        is_class = numbers >= 0
        if feature.labels is not None:
            is_class &= numbers < len(feature.labels)
        return np.where(is_class, numbers, -1)[..., None]

    dtype = "float32" if feature.kind == "depth" else "int32"
    return FunctionField(read, records.count, (height, width, 1), dtype, row_names=row_names)


# ------------------------------------------------------------------ inputs
def _main_input(records: Records, names: list[str] | None, used: set[str]) -> str | None:
    """The picture or sound that is the input, or None for texts and tables."""
    candidates = names or [name for name in records.features if name not in used]
    for kind in ("image", "sound"):
        for name in candidates:
            if records.features[name].kind == kind:
                return name
    return None


def _from_columns(
    records: Records,
    targets: Mapping[Any, tuple[str, ...]],
    names: list[str] | None,
    used: set[str],
    tokenizer: Any,
) -> TaskDataset:
    """Texts and tables, by `from_dataframe`."""
    from mtl_keras.data.tables import from_dataframe

    small = ("class", "flag", "number", "text")
    inputs = [
        name
        for name in (names or records.features)
        if name not in used and records.features[name].kind in small
    ]
    texts = [name for name in inputs if records.features[name].kind == "text"]
    if names is None and texts:
        inputs = texts
    if not inputs:
        raise DataError(f"{records.name} has no feature that is an input: name them, `inputs=`.")
    raw = records.columns([*inputs, *dict.fromkeys(used)])
    frame = {name: _cells(values, records.features[name]) for name, values in raw.items()}
    roles = {
        name: {"number": "number", "text": "text"}.get(records.features[name].kind, "category")
        for name in inputs
    }
    return from_dataframe(
        frame,
        {
            task: columns[0] if len(columns) == 1 else list(columns)
            for task, columns in targets.items()
        },
        inputs=roles,
        tokenizer=tokenizer,
        name=records.name,
    )


def _cells(values: np.ndarray, feature: Feature) -> np.ndarray:
    """A column as a table has it: names in place of class numbers, None where missing."""
    cells = np.empty(len(values), object)
    labels = feature.labels
    for row, value in enumerate(values):
        if feature.kind == "classes" and labels is not None:
            cells[row] = [labels[int(number)] for number in value]
        elif feature.kind == "class" and labels is not None:
            cells[row] = labels[int(value)] if int(value) >= 0 else None
        elif isinstance(value, bytes):
            cells[row] = value.decode("utf-8", "replace")
        else:
            cells[row] = value.item() if isinstance(value, (np.generic, np.ndarray)) else value
    return cells
