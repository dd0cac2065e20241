"""Rows of data in whichever form they come: arrays, a batched data set, a `TaskDataset`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

__all__ = ["batches", "inputs_by_name", "predict"]


def batches(data: Any, batch_size: int = 256) -> Iterator[tuple[Any, dict[str, np.ndarray], Any]]:
    """Batches of `(x, y, rows)`, as arrays; `rows` is the part of a `TaskDataset`, else None.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)` arrays, `y` a dict by task (or None); a batched
            `tf.data.Dataset` of such pairs; or a `mtl.data.TaskDataset`. Sample weights are left
            out.
        batch_size: int. Rows at a time, where the data are not batched already.

    Raises:
        TypeError: data of another kind, or labels that are no dict.
    """
    if hasattr(data, "label_fields"):
        for start in range(0, len(data), batch_size):
            part = data[start : start + batch_size]
            x, y = part.arrays()[:2]
            yield x, dict(y), part
    elif isinstance(data, (tuple, list)) and len(data) in (2, 3):
        x = keras.tree.map_structure(np.asarray, data[0])
        y = {name: np.asarray(value) for name, value in _labels(data[1]).items()}
        count = len(keras.tree.flatten(x)[0])
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            yield (
                keras.tree.map_structure(lambda a, part=part: a[part], x),
                {name: value[part] for name, value in y.items()},
                None,
            )
    elif hasattr(data, "element_spec"):
        for element in data:
            x, y = element[:2] if isinstance(element, tuple) else (element, None)
            yield (
                keras.tree.map_structure(np.asarray, x),
                {name: np.asarray(value) for name, value in _labels(y).items()},
                None,
            )
    else:
        raise TypeError(
            f"`data` should be (x, y) arrays, a batched tf.data.Dataset of (x, y), or a "
            f"mtl.data.TaskDataset. Received: {type(data).__name__}."
        )


def _labels(y: Any) -> Mapping[str, Any]:
    if y is None:
        return {}
    if not isinstance(y, Mapping):
        raise TypeError(
            f"The labels should be a dict of task name to labels. Received: {type(y).__name__}."
        )
    return y


def predict(model: Any, x: Any) -> dict[str, np.ndarray]:
    """The outputs of one batch by task, as arrays."""
    outputs = model.predict_on_batch(x)
    return {name: np.asarray(value) for name, value in outputs.items()}


def inputs_by_name(model: Any, x: Any) -> dict[str, np.ndarray]:
    """A batch's inputs by name, however the model takes them."""
    names = [tensor.name for tensor in model.inputs]
    if isinstance(x, Mapping):
        return {name: np.asarray(x[name]) for name in names}
    parts = list(x) if isinstance(x, (list, tuple)) else [x]
    return {name: np.asarray(part) for name, part in zip(names, parts, strict=True)}
