"""Masks, depth maps and normals as files beside pictures."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mtl_keras.data.annotations.rasters import resize_nearest
from mtl_keras.data.folders.files import FileField, list_names, map_parallel
from mtl_keras.data.sources import DataError

if TYPE_CHECKING:
    from mtl_keras.tasks import Task

__all__ = ["MAP_KINDS", "MapReader", "expand_pattern", "map_field", "pattern_files"]

#: Kinds of tasks whose labels are maps.
MAP_KINDS = ("segmentation", "depth", "normals")
#: The value of mask pixels without a label, in PASCAL VOC and most sets since.
_IGNORED = 255
#: Files that are looked at before training.
_SAMPLE = 32


class MapReader:
    """From a file to a map label of one size, by the nearest pixel.

    Args:
        task: a `Segmentation`, `Depth` or `Normals` task.
        size: `(height, width)` of the label.
        values: dict of a mask's value (an int, or a color as `(red, green, blue)`) to its class (a
            number, -1 for no label, or a name of the task's `labels`). None takes values as
            classes, and 255 as no label.
        scale: float. Factor from a depth map's values to the task's unit.
    """

    def __init__(
        self,
        task: Task,
        size: Sequence[int],
        values: Mapping[Any, Any] | None = None,
        scale: float = 1.0,
    ) -> None:
        self.task, self.size, self.scale = task, tuple(size), float(scale)
        self._values = None if values is None else _class_numbers(task, values)
        #: Whether a silhouette's masks go from 0 to 255.
        self.is_gray = False

    @property
    def dtype(self) -> str:
        is_whole = self.task.kind == "segmentation" and not self.is_gray
        return "int32" if is_whole else "float32"

    @property
    def channels(self) -> int:
        return 3 if self.task.kind == "normals" else 1

    def __call__(self, path: Path) -> np.ndarray:
        """The label `(height, width, channels)`.

        Raises:
            ValueError: a file that is no map, or holds values that the task doesn't have.
        """
        raw = read_map(path)
        if self.task.kind == "normals":
            return self._normals(raw, path)
        if self.task.kind == "depth":
            if raw.ndim != 2:
                raise ValueError(
                    f"{path}: a depth map should have one channel. Received: {raw.shape}."
                )
            depth = resize_nearest(raw, self.size).astype("float32") * np.float32(self.scale)
            return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)[..., None]
        # Looked up after resizing: fewer pixels.
        return self._classes(resize_nearest(raw, self.size), path)[..., None]

    def _normals(self, raw: np.ndarray, path: Path) -> np.ndarray:
        if raw.ndim != 3 or raw.shape[-1] < 3:
            raise ValueError(
                f"{path}: a map of normals should have three channels. Received: {raw.shape}."
            )
        values = resize_nearest(raw[..., :3], self.size)
        vectors = values.astype("float32")
        if raw.dtype.kind != "f":
            # Bytes from 0 to 255 stand for -1 to 1.
            vectors = vectors / np.float32(np.iinfo(raw.dtype).max / 2) - 1
        is_missing = (values == 0).all(-1) | (np.linalg.norm(vectors, axis=-1) < 0.1)
        return np.where(is_missing[..., None], np.float32(np.nan), vectors)

    def _classes(self, raw: np.ndarray, path: Path) -> np.ndarray:
        if self._values is not None:
            return _replace(raw, self._values, path, self.task)
        if raw.ndim == 3:
            raise ValueError(
                f"{path} is a mask in color. Give `mask_values`, a class per color: "
                f"`mask_values={{'{self.task.name}': {{(255, 0, 0): 1}}}}`."
            )
        if self.is_gray:
            values = set(np.unique(raw).tolist())
            if 1 in values and values <= {0, 1, _IGNORED}:
                raise ValueError(
                    f"{path}: the mask of task '{self.task.name}' holds 1, and other masks hold "
                    f"255. Give `mask_values`, such as {{0: 0, 1: 1, 255: -1}}."
                )
            return (raw / 255).astype("float32")
        classes = raw.astype("int32")
        classes[classes == _IGNORED] = -1
        self._check(classes, path)
        return classes

    def _check(self, classes: np.ndarray, path: Path) -> None:
        count = max(self.task.num_classes, 2)  # type: ignore[attr-defined]
        strange = np.unique(classes[(classes < -1) | (classes >= count)])
        if not len(strange):
            return
        hint = ""
        if strange.tolist() == [count] and not (classes == 0).any():
            hint = " They seem to count from 1."
        raise ValueError(
            f"{path}: the mask of task '{self.task.name}' holds "
            f"{list_names(strange.tolist())}; classes from 0 to {count - 1} are expected, and 255 "
            f"where there is no label.{hint} `mask_values` says which value is which class."
        )

    def survey(self, paths: Sequence[Path]) -> None:
        """Look at some files before training: whether a silhouette's masks go to 255, and whether
        they hold what the task has.

        Raises:
            DataError: the first file that is wrong.
        """
        step = max(1, len(paths) // _SAMPLE)
        sample = list(paths[::step])[:_SAMPLE]
        if self.task.kind == "segmentation" and self._values is None:
            is_silhouette = self.task.num_classes == 1  # type: ignore[attr-defined]
            self.is_gray = is_silhouette and _is_gray([*sample, *paths])

        def problem_of(path: Path) -> str | None:
            try:
                self(path)
            except (OSError, ValueError) as error:
                return str(error)
            return None

        for problem in map_parallel(problem_of, sample):
            if problem is not None:
                raise DataError(problem)


def read_map(path: Path) -> np.ndarray:
    """A map's raw values: `(height, width)`, or `(height, width, channels)` in color.

    A palette's numbers are the values, not its colors. `.npy` files hold the array itself.

    Raises:
        ValueError: a file that is no map.
    """
    from PIL import Image, ImageOps

    if path.suffix == ".npy":
        values = np.load(path)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim not in (2, 3) or values.dtype.kind not in "iufb":
            raise ValueError(
                f"{path} should hold numbers (height, width). Received: {values.shape}, "
                f"{values.dtype}."
            )
        return values
    try:
        with Image.open(path) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            values = np.array(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture, or damaged: {error}.") from None
    if picture.mode == "LA":
        values = values[..., 0]
    return values.astype("uint8") if values.dtype == bool else values


def _is_gray(paths: Sequence[Path]) -> bool:
    """Whether silhouettes are drawn with 255, or with 1 (and 255 where there is no label)."""
    seen: set[int] = set()
    for start in range(0, len(paths), _SAMPLE):
        for raw in map_parallel(read_map, paths[start : start + _SAMPLE]):
            if raw.ndim == 2:
                seen |= set(np.unique(raw).tolist())
        # Empty masks say nothing.
        if seen - {0}:
            break
    has_levels = any(31 < value < 255 for value in seen)
    return has_levels or seen - {0} == {255}


def _class_numbers(task: Task, values: Mapping[Any, Any]) -> dict[Any, int]:
    """Classes by number, from a dict of value to number or name."""
    labels = list(getattr(task, "labels", None) or ())
    numbers = {}
    for value, number in values.items():
        if isinstance(number, str):
            if number not in labels:
                raise DataError(
                    f"`mask_values` of task '{task.name}': there is no label '{number}'. Labels: "
                    f"{', '.join(labels) or 'none'}."
                )
            number = labels.index(number)
        numbers[tuple(value) if isinstance(value, (list, tuple)) else int(value)] = int(number)
    count = max(task.num_classes, 2)  # type: ignore[attr-defined]
    wrong = [number for number in numbers.values() if not -1 <= number < count]
    if wrong:
        raise DataError(
            f"`mask_values` of task '{task.name}' should give classes from 0 to {count - 1}, or -1 "
            f"for no label. Received: {wrong[0]}."
        )
    return numbers


def _replace(raw: np.ndarray, numbers: Mapping[Any, int], path: Path, task: Task) -> np.ndarray:
    """Each value's class."""
    if raw.ndim == 3:
        color = raw[..., :3].astype("int64")
        codes = color[..., 0] << 16 | color[..., 1] << 8 | color[..., 2]
        table = {
            (key[0] << 16 | key[1] << 8 | key[2] if isinstance(key, tuple) else -2): number
            for key, number in numbers.items()
        }
    else:
        codes = raw.astype("int64")
        table = {key: number for key, number in numbers.items() if not isinstance(key, tuple)}
        table.setdefault(_IGNORED, -1)
    values, places = np.unique(codes, return_inverse=True)
    strange = [value for value in values.tolist() if value not in table]
    if strange:
        shown = [
            (code >> 16, code >> 8 & 255, code & 255) if raw.ndim == 3 else code for code in strange
        ]
        raise ValueError(
            f"{path}: the mask of task '{task.name}' holds {list_names(shown)}, which "
            f"`mask_values` does not name."
        )
    classes = np.array([table[value] for value in values.tolist()], "int32")
    return classes[places.reshape(codes.shape)]


# ------------------------------------------------------------------ which file belongs to which picture
def expand_pattern(pattern: str, file: str) -> str:
    """The path of a picture's map: `{stem}`, `{name}`, `{path}` and `{folder}` replaced.

    Args:
        pattern: such as "masks/{stem}.png".
        file: the picture's path inside its folder, such as "cats/1.jpg": its stem is "1", its name
            "1.jpg", its path "cats/1", its folder "cats".
    """
    path = PurePosixPath(file)
    parts = {
        "stem": path.stem,
        "name": path.name,
        "path": path.with_suffix("").as_posix(),
        "folder": path.parent.as_posix(),
    }
    return pattern.format(**parts)


def pattern_files(pattern: str, files: Sequence[str]) -> set[str]:
    """Those of `files` that a pattern inside the folder describes: they are no pictures."""
    parts = re.split(r"\{(?:stem|name|path|folder)\}", pattern.removeprefix("./"))
    shape = re.compile(".+".join(re.escape(part) for part in parts))
    return {file for file in files if shape.fullmatch(file)}


def check_pattern(name: str, pattern: str) -> None:
    """Refuse a pattern that is the same for all pictures, or has an unknown field."""
    fields = re.findall(r"\{([^}]*)\}", pattern)
    if not fields or not set(fields) <= {"stem", "name", "path", "folder"}:
        raise DataError(
            f"`masks` of task '{name}' should be a path with {{stem}}, {{name}}, {{path}} or "
            f"{{folder}}, such as 'masks/{{stem}}.png'. Received: '{pattern}'."
        )


def map_field(
    reader: MapReader,
    paths: Sequence[Path | None],
    row_names: Sequence[str],
    cache: str | os.PathLike[str] | None = None,
) -> FileField:
    """Map labels of one task; rows without a file have no label."""
    return FileField(
        paths,
        reader,
        (*reader.size, reader.channels),
        reader.dtype,
        row_names=row_names,
        # What looks at all labels in memory, such as a saved split, leaves these out.
        per_row=True,
        empty=-1 if reader.task.kind == "segmentation" else np.nan,
        cache=cache,
        key=f"{reader.task.kind} {reader.size} {reader.scale} {reader.is_gray} {reader._values}",
    )
