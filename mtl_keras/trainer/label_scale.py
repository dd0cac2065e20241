"""Labels in a unit that the network was not told of: seen before training, since training hides
it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.data.labels import LabelScaleWarning
from mtl_keras.tasks.regression import ScaledError
from mtl_keras.trainer.class_counts import (
    can_iterate,
    has_no_end,
    iterate_labels,
    training_rows,
)

__all__ = ["check_scales", "fit_scales", "warn_of_label_scale"]

# Beyond these, in units of the task's `scale`, a network that starts near 0 takes thousands of
# steps only to get there, or has a loss too small to learn from beside the other tasks'. Grades
# from 0 to 10 and shares of some percent lie within.
_FAR, _NARROW = 10.0, 0.01
# Losses whose size follows the labels' unit.
_ERRORS = ("scaled_error", "mean_squared_error", "mean_absolute_error", "huber", "log_cosh")
_ROWS = 256


def _unfitted(model: Any) -> list[Any]:
    """Tasks whose scale is still to be measured."""
    return [task for task in model.tasks if getattr(task, "needs_fit", False)]


def check_scales(model: Any) -> None:
    """Refuse to train where a scale is still to be measured.

    Raises:
        ValueError: names the task and what measures.
    """
    for task in _unfitted(model):
        raise ValueError(
            f"Task '{task.name}' has scale='fit', and nothing was measured yet. `fit` measures it on "
            f"its labels; before other ways of training make the task fit, before the network is "
            f"built: `task.fit_to(labels)`."
        )


def fit_scales(model: Any, x: Any, y: Any, kwargs: Mapping[str, Any]) -> None:
    """Measure the scales of tasks with `scale="fit"` on the training labels, once.

    Args:
        model: the compiled model. Its tasks, output layers and losses get the scales.
        x, y, kwargs: as `fit` is called with them.

    Raises:
        ValueError: labels that can't be looked at before training; no label of a task.
    """
    tasks = _unfitted(model)
    if not tasks:
        return
    labels = _training_labels(model, tasks, x, y, kwargs)
    for task in tasks:
        mean, scale = task.measure(labels[task.name])
        if hasattr(task, "mean"):
            task.mean = mean
        task.scale, task.needs_fit = scale, False
        loss = model.compiled_tasks.losses.get(task.name)
        if isinstance(loss, ScaledError) and loss.scale is None:
            loss.scale = scale
    # What was traced before has no scale.
    model.train_function = model.test_function = model.predict_function = None


def _training_labels(
    model: Any, tasks: list[Any], x: Any, y: Any, kwargs: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """All training labels of these tasks."""
    if y is not None:
        by_task = y if isinstance(y, Mapping) else {tasks[0].name: y}
        labels = {task.name: np.asarray(by_task[task.name]) for task in tasks}
        rows: dict[str, np.ndarray] = training_rows(labels, kwargs.get("validation_split") or 0)
        return rows
    if not can_iterate(x):
        check_scales(model)
    steps = kwargs.get("steps_per_epoch")
    if has_no_end(x, steps):
        raise ValueError(
            f"Task '{tasks[0].name}' has scale='fit', and the data set has no end: give "
            f"`steps_per_epoch`, or make the task fit, `task.fit_to(labels)`."
        )
    parts: dict[str, list[np.ndarray]] = {task.name: [] for task in tasks}
    for batch, _ in iterate_labels(x, steps):
        for task in tasks:
            values = batch[task.name] if isinstance(batch, Mapping) else batch
            parts[task.name].append(np.asarray(values))
    return {name: np.concatenate(values) for name, values in parts.items()}


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
    if hasattr(task, "mean"):
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
