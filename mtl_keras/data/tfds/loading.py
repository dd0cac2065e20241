"""A data set of TensorFlow Datasets as a `TaskDataset`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.records import Feature, Records, from_records
from mtl_keras.data.sources import DataError
from mtl_keras.data.tfds.adapters import ADAPTERS, Adapter

__all__ = ["from_tfds"]


def from_tfds(
    name: str,
    tasks: Any = None,
    *,
    split: str = "train",
    inputs: Sequence[str] | str | None = None,
    size: int | Sequence[int] = 160,
    seconds: float | None = None,
    tokenizer: Any = "auto",
    data_dir: str | None = None,
    download: bool = True,
) -> TaskDataset:
    """A data set of TensorFlow Datasets.

    Pictures, maps and sounds are read when they are needed, one row at a time, and resized; other
    features are held in memory. The names of classes come from the features. Features inside others
    are named by their path, `"attributes/Smiling"`.

    Rows are read by their number (`tfds.data_source`), for which TFDS prepares its files in the
    array_record format. Files that were prepared in another format are read once, into memory.

    Args:
        name: as `tfds.load` takes it: "cifar100", "movielens/100k-ratings". Our own are
            "mtl_keras/fashion_scenes", "mtl_keras/flights" and "mtl_keras/gloss"; `tfds.load` knows
            them after `import mtl_keras.data.tfds.builders`.
        tasks: list of `Task`, each with the name of its feature; or a dict of task name, or `Task`,
            to a feature (a list of features for `MultiLabel`). A task that only has a name is
            guessed from the feature. None takes those that suit the data set, where we know it:
            `sorted(mtl_keras.data.tfds.adapters.ADAPTERS)`.
        split: str. As in `tfds.load`: "train", "test", "train[:10%]". Defaults to "train".
        inputs: name of the input, or names of columns of a table. None finds them: a picture that
            is no label, else a sound, else texts, else the other columns.
        size: int or `(height, width)`. Of pictures and maps. Defaults to 160.
        seconds: float or None. Length of sounds. Defaults to 1.
        tokenizer: for texts, as in `from_dataframe`.
        data_dir: where TFDS keeps its files; None takes its own place.
        download: bool. Whether TFDS may download. Defaults to True.

    Returns:
        `TaskDataset`.

    Raises:
        DataError: tensorflow-datasets is not installed; a feature or data set that is unknown; a
            feature of which no task can be guessed.

    Examples:
        >>> import tensorflow_datasets as tfds
        >>> with tfds.testing.mock_data(num_examples=8):
        ...     pets = mtl.data.from_tfds("cifar100", {"fine": "label", "coarse": "coarse_label"}, size=32)
        >>> [task.num_classes for task in pets.tasks]
        [100, 20]
    """
    tfds = import_tfds()
    base = name.split("/")[0].split(":")[0]
    if base == "mtl_keras":
        # Registers our own.
        from mtl_keras.data.tfds import builders  # noqa: F401
    adapter = ADAPTERS.get(name, ADAPTERS.get(base, Adapter({})))
    if tasks is None and not adapter.tasks:
        raise DataError(f"Data set '{name}' needs `tasks`, such as {{'label': 'label'}}.")
    try:
        tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise DataError(f"TensorFlow Datasets has no data set '{name}'.") from None
    rows = _open_rows(tfds, name, split, data_dir, download)
    # Some data sets know the names of their classes once they are prepared.
    tree = tfds.builder(name, data_dir=data_dir).info.features
    features = features_of(tree) | dict(adapter.features)
    records = Records(
        name=f"{name} ({split})",
        features=features,
        count=len(rows),
        columns=rows.columns,
        value=rows.value,
        sample_rate=_sample_rate(tree),
    )
    if inputs is None and adapter.inputs is not None:
        inputs = [part for part in adapter.inputs if part in features]
    return from_records(
        records,
        adapter.tasks if tasks is None else tasks,
        inputs=inputs,
        size=size,
        seconds=seconds,
        tokenizer=tokenizer,
    )


def import_tfds() -> Any:
    """The module, or what to install.

    Raises:
        DataError: it, or a package that it needs, is not installed.
    """
    try:
        import tensorflow_datasets as tfds  # type: ignore[import-untyped]
    except ImportError as error:
        raise DataError(
            f'TensorFlow Datasets is needed: pip install "mtl_keras[tfds]". ({error})'
        ) from None
    return tfds


# ------------------------------------------------------------------ features
def features_of(tree: Any) -> dict[str, Feature]:
    """Features by their path."""
    return {path: _as_feature(feature) for path, feature in _flatten(tree)}


def _flatten(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if type(tree).__name__ == "FeaturesDict":
        for name, feature in tree.items():
            yield from _flatten(feature, f"{path}/{name}" if path else name)
    else:
        yield path, tree


def _as_feature(feature: Any) -> Feature:
    kind, shape = type(feature).__name__, feature.shape
    if kind == "ClassLabel":
        return Feature("class", (), _class_names(feature))
    if kind == "Sequence":
        inner = getattr(feature, "feature", None)
        if type(inner).__name__ == "ClassLabel":
            return Feature("classes", (None,), _class_names(inner))
        return Feature("other")
    named = {"Image": "image", "Audio": "sound", "BBoxFeature": "box", "Text": "text"}
    if kind in named:
        return Feature(named[kind], tuple(shape))
    if not isinstance(shape, tuple) or not hasattr(feature, "np_dtype"):
        return Feature("other")
    dtype = np.dtype(feature.np_dtype)
    if shape == ():
        return Feature(
            {"b": "flag", "O": "text", "S": "text", "U": "text"}.get(dtype.kind, "number")
        )
    return Feature("numbers" if None not in shape and dtype.kind in "iuf" else "other", shape)


def _class_names(label: Any) -> tuple[str, ...]:
    names = label.names if label.num_classes is not None else []
    return tuple(names) or tuple(map(str, range(label.num_classes or 0)))


def _sample_rate(tree: Any) -> int | None:
    rates = [getattr(feature, "_audio_decoder", feature) for _, feature in _flatten(tree)]
    known = [
        getattr(part, "sample_rate", None) or getattr(part, "_sample_rate", None) for part in rates
    ]
    return next((int(rate) for rate in known if rate), None)


# ------------------------------------------------------------------ rows
def _open_rows(tfds: Any, name: str, split: str, data_dir: Any, download: bool) -> Any:
    options = {"split": split, "data_dir": data_dir, "download": download}
    try:
        return _SourceRows(tfds, name, options)
    except NotImplementedError:
        # Prepared as TFRecord files, which know no row numbers.
        return _MemoryRows(list(tfds.as_numpy(tfds.load(name, **options))))


class _SourceRows:
    """Rows that are read by their number."""

    def __init__(self, tfds: Any, name: str, options: Mapping[str, Any]) -> None:
        self._tfds, self._name, self._options = tfds, name, dict(options)
        self._source = tfds.data_source(name, **self._options)
        # What other features need is not decoded: pictures cost most.
        self._partial: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def columns(self, names: list[str]) -> dict[str, np.ndarray]:
        source = self._decoding(tuple(names))
        return _columns([source[row] for row in range(len(source))], names)

    def value(self, row: int, name: str) -> Any:
        return _pick(self._partial_source(name)[row], name)

    def _partial_source(self, name: str) -> Any:
        # Rows are read by several threads.
        with self._lock:
            if name not in self._partial:
                self._partial[name] = self._decoding((name,))
            return self._partial[name]

    def _decoding(self, names: tuple[str, ...]) -> Any:
        wanted: dict[str, Any] = {}
        for name in names:
            *parents, leaf = name.split("/")
            place = wanted
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = True
        decoders = self._tfds.decode.PartialDecoding(wanted)
        return self._tfds.data_source(self._name, **self._options, decoders=decoders)


class _MemoryRows:
    """Rows in memory."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self, names: list[str]) -> dict[str, np.ndarray]:
        return _columns(self._rows, names)

    def value(self, row: int, name: str) -> Any:
        return _pick(self._rows[row], name)


def _pick(row: Any, name: str) -> Any:
    for part in name.split("/"):
        row = row[part]
    return row


def _columns(rows: Sequence[Any], names: list[str]) -> dict[str, np.ndarray]:
    columns = {}
    for name in names:
        column = np.empty(len(rows), object)
        for number, row in enumerate(rows):
            column[number] = _pick(row, name)
        columns[name] = column
    return columns
