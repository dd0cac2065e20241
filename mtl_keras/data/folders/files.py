"""Files of a folder: found by the names that labels use, and read when they are needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mtl_keras.data.fields import Field
from mtl_keras.data.sources import DataError

__all__ = ["FileField", "FileIndex", "find_copies", "list_files", "list_names", "map_parallel"]


def list_files(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Files of a folder and its sub-folders with one of these endings, in order.

    Hidden files and folders are left out.

    Returns:
        list of str. Paths inside the folder, with "/".
    """
    endings = {suffix.lower() for suffix in suffixes}
    files = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        inside = Path(root).relative_to(folder).as_posix()
        files += [
            name if inside == "." else f"{inside}/{name}"
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings
        ]
    return sorted(files)


def list_names(names: Sequence[Any], most: int = 3) -> str:
    """The first names of a list, and how many there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


class FileIndex:
    """Files of a folder by the names that labels use: with or without sub-folders and ending.

    Args:
        files: paths inside the folder, with "/".
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = list(files)
        self._whole: dict[str, int] = {}
        self._ends: dict[str, list[int]] = {}
        for number, file in enumerate(self.files):
            for path in (file, str(PurePosixPath(file).with_suffix(""))):
                self._whole.setdefault(path, number)
                parts = path.split("/")
                for start in range(len(parts)):
                    self._ends.setdefault("/".join(parts[start:]), []).append(number)

    def find(self, name: Any) -> int | None:
        """The file that a name means, or None.

        A name may have fewer folders than the file, or more.

        Raises:
            DataError: several files have this name.
        """
        name = str(name).replace("\\", "/").strip().removeprefix("./")
        if name in self._whole:
            return self._whole[name]
        numbers = self._ends.get(name, [])
        if len(numbers) > 1:
            files = list_names([self.files[number] for number in numbers])
            raise DataError(
                f"The name '{name}' is that of several files: {files}. Give the sub-folder too."
            )
        if numbers:
            return numbers[0]
        parts = name.split("/")
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        return next((self._whole[end] for end in ends if end in self._whole), None)


def map_parallel(function: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    """`function` of each value, in their order, on several threads."""
    with ThreadPoolExecutor(max(4, 2 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(function, values))


def find_copies(paths: Sequence[Path]) -> np.ndarray | None:
    """For each file the number of the first file with the same content, or None where all differ.

    Only files of the same size are read.
    """
    sizes: dict[int, list[int]] = {}
    for number, path in enumerate(paths):
        sizes.setdefault(path.stat().st_size, []).append(number)
    alike = [number for numbers in sizes.values() if len(numbers) > 1 for number in numbers]
    digests = map_parallel(lambda number: _digest(paths[number]), alike)
    first: dict[bytes, int] = {}
    originals = np.arange(len(paths))
    for number, digest in sorted(zip(alike, digests, strict=True)):
        originals[number] = first.setdefault(digest, number)
    return originals if len(set(first)) < len(alike) else None


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").digest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).digest()
        )


class FileField(Field):
    """One file per row, read when it is needed, several at once.

    Args:
        paths: list of `Path`, None where a row has no file.
        read: function of a path to an array of `shape`.
        shape: shape of one row.
        dtype: str. Of what `read` returns.
        scale: float or None. Factor on what was read; the field is float32 then.
        empty: value of rows without a file.
        row_names: names of the rows, for messages.
        cache: None; "memory"; or a folder in which what was read is stored for later runs.
        key: str. What else than the files the cached values depend on.
        per_row: bool. See `Field`. Defaults to False: a batch is read at once, on several threads.

    Raises:
        DataError: when a file is read that is damaged; it names the row.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        read: Callable[[Path], np.ndarray],
        shape: Sequence[int],
        dtype: str,
        *,
        row_names: Sequence[str],
        scale: float | None = None,
        empty: float = 0.0,
        cache: str | os.PathLike[str] | None = None,
        key: str = "",
        per_row: bool = False,
    ) -> None:
        self.per_row = per_row
        self._paths, self._read, self._row_names = paths, read, row_names
        self._read_dtype, self._scale, self._empty = dtype, scale, empty
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype = dtype if scale is None else "float32"
        self._cache = None if cache is None else _open_cache(cache, paths, self.shape, dtype, key)
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, rows: np.ndarray) -> np.ndarray:
        values = self._load(np.asarray(rows))
        return values if self._scale is None else values.astype("float32") * np.float32(self._scale)

    def tensor(self, rows: Any) -> Any:
        import tensorflow as tf

        def read(numbers: np.ndarray) -> np.ndarray:
            values = self._load(np.atleast_1d(numbers))
            return values if numbers.ndim else values[0]

        values = tf.numpy_function(read, [rows], self._read_dtype, stateful=False)
        values.set_shape((*rows.shape, *self.shape))
        if self._scale is None:
            return values
        # Bytes are a quarter of the numbers' size on the way into the graph.
        return tf.cast(values, "float32") * tf.constant(self._scale, "float32")

    def _load(self, rows: np.ndarray) -> np.ndarray:
        values = np.empty((len(rows), *self.shape), self._read_dtype)

        def fill(position: int) -> None:
            values[position] = self._row(int(rows[position]))

        if len(rows) < 2:
            for position in range(len(rows)):
                fill(position)
            return values
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(4, 2 * (os.cpu_count() or 1)))
        list(self._pool.map(fill, range(len(rows))))
        return values

    def _row(self, row: int) -> Any:
        path = self._paths[row]
        if path is None:
            return self._empty
        if self._cache is not None and self._cache[1][row]:
            return self._cache[0][row]
        try:
            value = self._read(path)
        except (OSError, ValueError, ImportError, DataError) as error:
            raise DataError(
                f"{self._row_names[row]} can't be read: {error} "
                f'`on_bad="skip"` leaves such rows out.'
            ) from error
        if self._cache is not None:
            self._cache[0][row] = value
            # Only now: another thread may look at any time.
            self._cache[1][row] = True
        return value


def _open_cache(
    cache: str | os.PathLike[str],
    paths: Sequence[Path | None],
    shape: tuple[int, ...],
    dtype: str,
    key: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of all rows, and which of them have been read."""
    if cache == "memory":
        return np.empty((len(paths), *shape), dtype), np.zeros(len(paths), bool)
    folder = Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    stamps = [None if p is None else [str(p.absolute()), *_stamp(p)] for p in paths]
    text = json.dumps([stamps, list(shape), dtype, key])
    name = hashlib.sha256(text.encode()).hexdigest()[:24]
    arrays = []
    for part, part_shape, part_dtype in (
        ("values", (len(paths), *shape), dtype),
        ("ready", (len(paths),), "bool"),
    ):
        file = folder / f"{name}.{part}.npy"
        if not file.exists():
            # Written beside, then renamed: a file that exists has its size.
            fresh = folder / f".{name}.{part}.{os.getpid()}.npy"
            np.lib.format.open_memmap(fresh, "w+", dtype=part_dtype, shape=part_shape).flush()
            os.replace(fresh, file)
        arrays.append(np.load(file, mmap_mode="r+"))
    return arrays[0], arrays[1]


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with a file: its size and its time."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns
