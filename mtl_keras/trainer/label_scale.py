"""Labels in a unit that the network was not told of: seen before training, since training hides
it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.data.labels import LabelScaleWarning

__all__ = ["warn_of_label_scale"]

# Beyond these, in units of the task's `scale`, a network that starts near 0 takes thousands of
# steps only to get there, or has a loss too small to learn from beside the other tasks'. Grades
# from 0 to 10 and shares of some percent lie within.
_FAR, _NARROW = 10.0, 0.01
# Losses whose size follows the labels' unit.
_ERRORS = ("scaled_error", "mean_squared_error", "mean_absolute_error", "huber", "log_cosh")
_ROWS = 256


def warn_of_label_scale(model: Any, x: Any, y: Any, stacklevel: int = 3) -> None:
    """Warn of each regression task whose labels lie far from the unit that its head answers in.

    Silent where the network already answers in the labels' range, as a trained one does.

    Args:
        model: the compiled model.
        x: inputs that belong to the first rows of the labels.
        y: dict of task name to labels.
        stacklevel: of the warning, as in `warnings.warn`.
    """
    if not isinstance(y, Mapping):
        return
    compiled = model.compiled_tasks
    suspects = {}
    for task in compiled.tasks:
        if (
            not hasattr(task, "scale")
            or task.name not in y
            or not _is_error(compiled.losses[task.name])
        ):
            continue
        labels = _in_head_units(task, y[task.name], task.scale)
        known = labels[np.isfinite(labels)]
        if len(known) < 8:
            continue
        size, spread = np.sqrt(np.mean(known**2)), known.std()
        if size > _FAR or 0 < spread < _NARROW:
            suspects[task.name] = 0.5 * size if size > _FAR else 2 * spread
    if not suspects:
        return
    rows = keras.tree.map_structure(lambda values: np.asarray(values[:_ROWS]), x)
    output = model(rows, training=False)
    for name, tolerable in suspects.items():
        task = model.task(name)
        answer = np.asarray(keras.ops.convert_to_numpy(output[name]), float)
        labels = _in_head_units(task, y[name][:_ROWS], task.scale)
        error = labels.reshape(answer.shape) - (answer - getattr(task, "mean", 0.0)) / task.scale
        if np.sqrt(np.nanmean(error**2)) > tolerable:
            warnings.warn(_message(task, y[name]), LabelScaleWarning, stacklevel=stacklevel)


def _is_error(loss: Any) -> bool:
    return any(getattr(loss, attribute, None) in _ERRORS for attribute in ("name", "__name__"))


def _in_label_units(task: Any, y: Any) -> np.ndarray:
    """Labels as the head sees them, missing ones NaN."""
    y = np.asarray(y, float)
    if task.kind == "depth":
        return np.where(y > 0, y, np.nan)
    y = np.log1p(y) if getattr(task, "log", False) else y
    low, high = getattr(task, "low", None), getattr(task, "high", None)
    return y if low is None and high is None else np.clip(y, low, high)


def _in_head_units(task: Any, y: Any, scale: float) -> np.ndarray:
    return (_in_label_units(task, y) - getattr(task, "mean", 0.0)) / scale


def _message(task: Any, y: Any) -> str:
    known = _in_label_units(task, y)
    known = known[np.isfinite(known)]
    kind = type(task).__name__
    if hasattr(task, "fit_to"):
        mend = f'`{kind}("{task.name}", ...).fit_to(labels)` measures both on the training labels'
        expected = f"mean={task.mean:.4g}, scale={task.scale:.4g}"
    else:
        mend = f'give `{kind}("{task.name}", scale={np.median(known):.4g})`, a typical label'
        expected = f"scale={task.scale:.4g}"
    on_log_scale = " (of log(1 + count))" if getattr(task, "log", False) else ""
    return (
        f"The labels of task '{task.name}' have mean {known.mean():.4g} and standard deviation "
        f"{known.std():.4g}"
        f"{on_log_scale}, far from what its head expects ({expected}): it will train slowly or "
        f"not at all, and may drown "
        f"the other tasks. Make the task fit: {mend}."
    )
