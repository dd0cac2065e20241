"""Rows in every form that people have them in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

__all__ = ["load_arrays", "unify"]


def unify(model: keras.Model, data: Any) -> Any:
    """Data as `sampling.take_rows` knows them: arrays (or `(x, y)`), a `tf.data.Dataset`, or an
    iterator over batches.

    Args:
        model: functional model.
        data: also the path of a `.npy` or `.npz` file, a `keras.utils.PyDataset` or another
            sequence of batches, a list of batches, any object that can be iterated over (a PyTorch
            `DataLoader`), or a function without arguments that gives such an object, as
            TensorFlow's converter takes it.

    Raises:
        ValueError: a path to no such file, or nothing of these.
    """
    if (
        data is None
        or isinstance(data, (np.ndarray, Mapping, tuple))
        or hasattr(data, "element_spec")
    ):
        return data
    if isinstance(data, (str, os.PathLike)):
        return load_arrays(data)
    if callable(data) and not hasattr(data, "__getitem__"):
        return unify(model, data())
    if isinstance(data, list):
        if _is_list_of_batches(model, data):
            return _batches(model, data)
        return np.asarray(data) if _is_list_of_rows(model, data) else data
    if hasattr(data, "__array__"):
        return data
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        # By number: a `PyDataset` has no end of its own.
        return _batches(model, (data[i] for i in range(len(data))))
    if hasattr(data, "__iter__"):
        return _batches(model, data)
    raise ValueError(
        f"Rows are arrays, a data set, a list of batches, or a .npy or .npz file; got "
        f"{type(data).__name__}: {data!r:.80}."
    )


def load_arrays(path: str | os.PathLike[str]) -> Any:
    """What a `.npy` file (one array) or a `.npz` file (arrays by name) holds.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there.")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as file:
            return dict(file)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no .npy or .npz file of arrays: {error}.") from None


def _batches(model: keras.Model, data: Iterable[Any]) -> Iterator[Any]:
    """Batches of inputs, or tuples of inputs and labels: a PyTorch `DataLoader` gives lists of
    these."""
    for batch in data:
        labeled = (
            isinstance(batch, list)
            and len(batch) in (2, 3)
            and len(keras.tree.flatten(batch[0])) == len(model.inputs)
        )
        yield (
            tuple(batch)
            if labeled and len(keras.tree.flatten(batch)) > len(model.inputs)
            else batch
        )


def _is_list_of_batches(model: keras.Model, data: Sequence[Any]) -> bool:
    """Whether a list holds batches; one of as many arrays as the model has inputs holds these, as
    in Keras."""
    if not data:
        return False
    if all(isinstance(entry, (tuple, list, Mapping)) and _holds_arrays(entry) for entry in data):
        return True
    if (
        len(model.inputs) != 1
        or len(data) == 1
        or not all(hasattr(entry, "shape") for entry in data)
    ):
        return False
    return all(len(entry.shape) == len(model.inputs[0].shape) for entry in data)


def _is_list_of_rows(model: keras.Model, data: Sequence[Any]) -> bool:
    """Whether a list holds the one input's rows, as numbers or as arrays without an axis for
    rows."""
    if len(model.inputs) != 1 or len(data) == 0 or isinstance(data[0], Mapping):
        return False
    return np.ndim(data[0]) == len(model.inputs[0].shape) - 1


def _holds_arrays(entry: Any) -> bool:
    return any(
        hasattr(part, "shape") or isinstance(part, Mapping) for part in keras.tree.flatten(entry)
    )
