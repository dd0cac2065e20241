"""Decoding inside the graph: class numbers, counts and pixels as outputs of their own, beside the
heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mtl_keras.runtime.decoding import SUFFIX
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name

__all__ = ["SUFFIX", "agree", "check", "decode"]


def check(model: keras.Model, names: Sequence[str]) -> list[str]:
    """The tasks to decode, in the model's order.

    Raises:
        ValueError: an unknown task, or a kind that is decoded outside only.
    """
    if isinstance(names, str):
        raise ValueError(f"`decode` is a list of tasks: decode=[{names!r}].")
    tasks = {task.name: task for task in getattr(model, "tasks", ())}
    for name in names:
        if name not in tasks:
            raise ValueError(unknown_name("task in `decode`:", name, list(tasks)))
        if tasks[name].kind not in _KINDS:
            raise ValueError(
                f"Task '{name}' ({tasks[name].kind}) is decoded outside the file, by "
                f"`TFLiteModel.predict` and by snippets; "
                f"inside go {', '.join(sorted(_KINDS))}."
            )
        if tasks[name].kind in ("bounding_box", "keypoints"):
            _picture(model, name)
        if f"{name}{SUFFIX}" in model.output:
            raise ValueError(
                f"A task named '{name}{SUFFIX}' would take the decoded output's name: rename it."
            )
    return [name for name in tasks if name in names]


def decode(model: keras.Model, name: str, output: Any) -> Any:
    """A head's output, decoded in the graph."""
    task = model.task(name)
    size = _picture(model, name) if task.kind in ("bounding_box", "keypoints") else (0, 0)
    return _KINDS[task.kind](task.facts(), output, size)


def agree(model: keras.Model, name: str, raw: np.ndarray, found: np.ndarray, exact: bool) -> None:
    """Hold a decoded output to its head's, both from the file.

    Raises:
        ExportError: they differ: at all in a float file, in more than one value of a hundred in a
            quantized one.
    """
    expected = keras.ops.convert_to_numpy(decode(model, name, ops.convert_to_tensor(raw)))
    if expected.dtype.kind == "i":
        differ = float(np.mean(expected != found))
    else:
        step = 1e-4 if exact else 0.02
        differ = float(
            np.mean(np.abs(expected - found) > step * max(1.0, float(np.abs(expected).max())))
        )
    if differ > (0 if exact else 0.01):
        raise ExportError(
            f"Output '{name}{SUFFIX}' is not what head '{name}' says, in {differ:.1%} of its "
            f"values.",
            [name],
        )


def _picture(model: keras.Model, name: str) -> tuple[int, int]:
    """Height and width of the one picture that comes in."""
    sizes = [
        tuple(t.shape[1:3]) for t in model.inputs if len(t.shape) == 4 and None not in t.shape[1:3]
    ]
    if len(sizes) != 1:
        raise ValueError(
            f"Task '{name}' is decoded to pixels of the picture, and the model takes {len(sizes)} "
            f"of fixed size."
        )
    return sizes[0]


def _index(x: Any) -> Any:
    # TensorFlow's own: Keras's converts to no builtin operator.
    import tensorflow as tf

    return tf.argmax(x, axis=-1, output_type=tf.int32)


def _above(x: Any, threshold: float) -> Any:
    return ops.cast(x >= threshold, "int32")


def _number(facts: Mapping[str, Any], x: Any, size: Any) -> Any:
    low, high = facts["range"]
    if low is not None:
        x = ops.maximum(x, low)
    if high is not None:
        x = ops.minimum(x, high)
    return ops.exp(x) - 1.0 if facts["log"] else x * 1.0


def _pixels(facts: Mapping[str, Any], x: Any, size: tuple[int, int]) -> Any:
    repeats = 2 if x.shape[-1] == 4 else 1
    return x * ops.convert_to_tensor(np.array([size[1], size[0]] * repeats, "float32"))


_KINDS: dict[str, Callable[[Mapping[str, Any], Any, tuple[int, int]], Any]] = {
    "classification": lambda facts, x, size: _index(x),
    "binary": lambda facts, x, size: _above(x[:, 0], facts["threshold"]),
    "multi_label": lambda facts, x, size: _above(x, facts["threshold"]),
    "ordinal": lambda facts, x, size: ops.sum(_above(x, 0.5), axis=-1),
    "regression": _number,
    "bounding_box": _pixels,
    "keypoints": _pixels,
    "segmentation": lambda facts, x, size: (
        _above(x[..., 0], 0.5) if facts["num_classes"] == 1 else _index(x)
    ),
    "token_tagging": lambda facts, x, size: _index(x),
}
