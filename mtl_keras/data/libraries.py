"""Data sets of `tf.data` and of Hugging Face `datasets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_keras.data.arrays import from_arrays
from mtl_keras.data.dataset import TaskDataset
from mtl_keras.data.mixing_sources import is_batched
from mtl_keras.data.records import Feature, Records, from_records
from mtl_keras.data.sources import DataError

__all__ = ["from_huggingface", "from_tf_data"]


def from_tf_data(dataset: Any, tasks: Any, *, group: Any = None, time: Any = None) -> TaskDataset:
    """A data set of the rows of a `tf.data.Dataset`, read once into memory.

    Splits, weights and row numbers need rows that can be read by their number. A stream that does
    not fit into memory goes to `fit`, or to `mtl.data.mix`, as it is.

    Args:
        dataset: finite `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`, batched or not,
            `y` a dict by task name. All rows have one shape.
        tasks: list of `Task`.
        group, time: array with a value per row, or None; see `from_arrays`.

    Returns:
        `TaskDataset`.

    Raises:
        DataError: an endless data set, one without rows, rows of different shapes, or labels that a
            task refuses.

    Examples:
        >>> data = mtl.data.from_tf_data(train, tasks)
        >>> training, test = data.split(0.75, 0.25)
    """
    import tensorflow as tf

    if not hasattr(dataset, "element_spec"):
        raise DataError(
            f"`dataset` should be a tf.data.Dataset. Received: {type(dataset).__name__}."
        )
    if int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError("`dataset` has no end: cut it, `dataset.take(...)`.")
    try:
        batched = is_batched(dataset.element_spec, list(tasks), "dataset")
    except ValueError as error:
        raise DataError(str(error)) from None
    elements = list(dataset.as_numpy_iterator())
    if not elements:
        raise DataError("`dataset` should have at least one row. Received: no row.")
    join = np.concatenate if batched else np.stack
    try:
        parts = tf.nest.map_structure(lambda *values: join(values), *elements)
    except ValueError as error:
        raise DataError(f"All rows of `dataset` should have one shape: {error}") from None
    x, y, *weight = parts
    y = y if isinstance(y, Mapping) else {tasks[0].name: y}
    return from_arrays(
        x, y, tasks, sample_weight=weight[0] if weight else None, group=group, time=time
    )


def from_huggingface(
    dataset: Any,
    tasks: Any,
    *,
    inputs: Sequence[str] | str | None = None,
    size: int | Sequence[int] = 160,
    seconds: float | None = None,
    tokenizer: Any = "auto",
) -> TaskDataset:
    """A data set of a Hugging Face `datasets.Dataset`.

    Pictures are read when they are needed; other columns are held in memory. The names of classes
    come from `ClassLabel` features; a class of -1, or None, is a missing label.

    Args:
        dataset: one split, such as `datasets.load_dataset(...)["train"]`.
        tasks: list of `Task`, each with the name of its column; or a dict of task name, or `Task`,
            to a column. A task that only has a name is guessed from the column.
        inputs: name of the input, or names of columns. None takes a picture that is no label, else
            the texts, else the other columns.
        size: int or `(height, width)`. Of pictures. Defaults to 160.
        seconds: float or None. Length of sounds. Defaults to 1.
        tokenizer: for texts, as in `from_dataframe`.

    Returns:
        `TaskDataset`.

    Raises:
        DataError: several splits, or no data set; an unknown column; a column of which no task can
            be guessed.

    Examples:
        >>> import datasets
        >>> rows = {"text": ["good film", "bad film"] * 4, "stars": [5.5, 1.0] * 4}
        >>> table = datasets.Dataset.from_dict(rows)
        >>> films = mtl.data.from_huggingface(table, [mtl.tasks.Regression("stars")])
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(repr, dataset))
        raise DataError(f"Give one split of the data set, such as dataset['train']: {splits}.")
    if not hasattr(dataset, "select_columns"):
        raise DataError(
            f"`dataset` should be a Hugging Face datasets.Dataset with a known number of rows. "
            f"Received: {type(dataset).__name__}."
        )
    features = {name: _as_feature(part) for name, part in dataset.features.items()}
    views = {name: dataset.select_columns([name]).with_format(None) for name in features}

    def columns(names: list[str]) -> dict[str, np.ndarray]:
        values = {}
        for name in names:
            column = np.empty(len(dataset), object)
            is_class = features[name].kind == "class"
            for row, value in enumerate(views[name][:][name]):
                column[row] = -1 if value is None and is_class else value
            values[name] = column
        return values

    def value(row: int, name: str) -> Any:
        cell = views[name][row][name]
        return cell["array"] if isinstance(cell, dict) and "array" in cell else np.asarray(cell)

    records = Records(
        name=str(getattr(dataset.info, "dataset_name", None) or "the data set"),
        features=features,
        count=len(dataset),
        columns=columns,
        value=value,
        sample_rate=next(
            (
                getattr(part, "sampling_rate", None)
                for part in dataset.features.values()
                if type(part).__name__ == "Audio"
            ),
            None,
        ),
    )
    return from_records(
        records, tasks, inputs=inputs, size=size, seconds=seconds, tokenizer=tokenizer
    )


def _as_feature(feature: Any) -> Feature:
    kind = type(feature).__name__
    if kind == "ClassLabel":
        return Feature("class", (), tuple(feature.names))
    if kind in ("Image", "Audio"):
        return Feature({"Image": "image", "Audio": "sound"}[kind])
    if kind in ("Sequence", "List", "LargeList"):
        inner = feature.feature
        if type(inner).__name__ == "ClassLabel":
            return Feature("classes", (None,), tuple(inner.names))
        length = getattr(feature, "length", -1)
        if length > 0 and getattr(inner, "dtype", "").startswith(("int", "uint", "float")):
            return Feature("numbers", (length,))
        return Feature("other")
    dtype = getattr(feature, "dtype", "")
    if dtype == "bool":
        return Feature("flag")
    if dtype in ("string", "large_string"):
        return Feature("text")
    if isinstance(dtype, str) and dtype.startswith(("int", "uint", "float")):
        return Feature("number")
    return Feature("other")
