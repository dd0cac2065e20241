"""What a file costs each task in its own metric, and files that cost too much refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from mtl_keras.analysis import score
from mtl_keras.export import archive, rows
from mtl_keras.export.report import ExportReport
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name

__all__ = ["drops", "held_out", "judge", "limits", "scores"]


def limits(model: keras.Model, max_drop: float | Mapping[str, float] | None) -> dict[str, float]:
    """What each head may lose, by task; tasks that are not named may lose anything.

    Raises:
        ValueError: a task that the model does not have.
    """
    if max_drop is None:
        return {}
    if not isinstance(max_drop, Mapping):
        return {name: float(max_drop) for name in model.output}
    for name in max_drop:
        if name not in model.output:
            raise ValueError(unknown_name("task in `max_drop`:", name, list(model.output)))
    return {name: float(value) for name, value in max_drop.items()}


def held_out(model: keras.Model, data: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs by name and labels by task of held-out data: `(x, y)` arrays, or a finite data set of `(x, y)` batches.

    Raises:
        ValueError: data without labels, labels that lack a task, a model without tasks.
    """
    if not hasattr(model, "tasks"):
        raise ValueError("Metrics are the tasks' own: `evaluate` needs a MultiTaskModel.")
    if not (isinstance(data, list) and len(data) in (2, 3) and not isinstance(data[0], tuple)):
        data = rows.unify(model, data)
    if hasattr(data, "element_spec") or hasattr(data, "__next__"):
        batches = list(data)
        if any(not isinstance(batch, tuple) or len(batch) < 2 for batch in batches):
            raise ValueError("`evaluate` needs labels: a data set of (inputs, labels).")
        only = model.tasks[0].name
        labelled = [(x, y if isinstance(y, Mapping) else {only: y}) for x, y, *_ in batches]
        batches = [(archive.by_name(model, x), y) for x, y in labelled]
        if not batches:
            raise ValueError("`evaluate` is empty: at least one row is needed.")
        x = {name: np.concatenate([part[name] for part, _ in batches]) for name in batches[0][0]}
        y = {
            name: np.concatenate([np.asarray(part[name]) for _, part in batches])
            for name in batches[0][1]
        }
    elif isinstance(data, (tuple, list)) and len(data) >= 2:
        x, y = archive.by_name(model, data[0]), data[1]
        if not isinstance(y, Mapping) and len(model.tasks) == 1:
            y = {model.tasks[0].name: y}
    else:
        raise ValueError(
            "`evaluate` is held-out data with labels: (x, y), or a data set of (x, y) batches."
        )
    for task in model.tasks:
        if task.name not in y:
            raise ValueError(
                f"`evaluate` has no labels for task '{task.name}'; it has {sorted(y)}."
            )
        task.check_labels(np.asarray(y[task.name]))
    return x, {task.name: np.asarray(y[task.name]) for task in model.tasks}


def scores(
    model: keras.Model, data: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Every task's metrics in Keras on `held_out` data, by `<task>_<metric>`."""
    x, y = data
    return score(model.tasks, model.predict(archive.feed(model, x), verbose=0), y)


def drops(
    model: keras.Model,
    before: Mapping[str, float],
    after: Mapping[str, float],
    allowed: Mapping[str, float],
) -> tuple[dict[str, tuple[str, float, float, float]], list[tuple[str, str]]]:
    """What each task's first metric was and is.

    Args:
        before, after: scores, by `<task>_<metric>`.
        allowed: by task, how much worse it may be.

    Returns:
        by task `(metric, before, after, how much worse)`, and, of tasks that are worse than allowed, `(task, in words)`.
    """
    found, too_much = {}, []
    for task in model.tasks:
        metric = task.new_metrics()[0]
        key = f"{task.name}_{metric.name}"
        drop = (before[key] - after[key]) * (1 if metric.higher_is_better else -1)
        found[task.name] = (metric.name, before[key], after[key], drop)
        if task.name in allowed and not drop <= allowed[task.name]:
            told = f"'{task.name}' {metric.name} {before[key]:.4f} -> {after[key]:.4f} (allowed: {allowed[task.name]:g})"
            too_much.append((task.name, told))
    return found, too_much


def judge(
    model: keras.Model,
    report: ExportReport,
    run: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]],
    data: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
    allowed: Mapping[str, float],
    before: Mapping[str, float] | None = None,
) -> ExportError | None:
    """Add every head's first metric, in Keras and in the file, to the report.

    Args:
        model: float32 model.
        report: of the file; its heads learn their metrics.
        run: the file.
        data: from `held_out`.
        allowed: by task, how much worse it may be, in the metric's own unit.
        before: Keras's `scores`, where they are known.

    Returns:
        the error that says which heads are worse by more than they are allowed; None where none is.
    """
    x, y = data
    before = scores(model, data) if before is None else before
    found, too_much = drops(model, before, score(model.tasks, run(x), y), allowed)
    for head in report.heads:
        head.metric, head.before, head.after, head.drop = found[head.name]
    if not too_much:
        return None
    rows = len(next(iter(x.values())))
    return ExportError(
        f"The {report.format} loses more than allowed on {'; '.join(told for _, told in too_much)}, over {rows} rows. Use "
        "a finer quantization, keep these heads in float (`keep_float=`), or allow more (`max_drop`).",
        [name for name, _ in too_much],
    )
