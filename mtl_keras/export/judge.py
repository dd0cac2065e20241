"""What a file costs each task in its own metric, and files that cost too much refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from mtl_keras.analysis import score
from mtl_keras.export import rows
from mtl_keras.export.models import inputs_by_name, pack_inputs
from mtl_keras.runtime.files import ExportError
from mtl_keras.runtime.names import unknown_name

if TYPE_CHECKING:
    from mtl_keras.export.artifact import TFLiteArtifact

__all__ = ["HeldOut", "enforce_max_drop", "held_out", "limits", "metric_drops", "scores"]

#: Inputs by name, labels by task.
HeldOut = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


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


def held_out(model: keras.Model, data: Any) -> HeldOut:
    """Inputs by name and labels by task of held-out data: `(x, y)` arrays, or a finite data set of
    `(x, y)` batches.

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
        labeled = [(x, y if isinstance(y, Mapping) else {only: y}) for x, y, *_ in batches]
        batches = [(inputs_by_name(model, x), y) for x, y in labeled]
        if not batches:
            raise ValueError("`evaluate` is empty: at least one row is needed.")
        x = {name: np.concatenate([part[name] for part, _ in batches]) for name in batches[0][0]}
        y = {
            name: np.concatenate([np.asarray(part[name]) for _, part in batches])
            for name in batches[0][1]
        }
    elif isinstance(data, (tuple, list)) and len(data) >= 2:
        x, y = inputs_by_name(model, data[0]), data[1]
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


def scores(model: keras.Model, data: HeldOut) -> dict[str, float]:
    """Every task's metrics in Keras on `held_out` data, by `<task>_<metric>`."""
    x, y = data
    return score(model.tasks, model.predict(pack_inputs(model, x), verbose=0), y)


def metric_drops(
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
        by task `(metric, before, after, how much worse)`, and, of tasks that are worse than
        allowed, `(task, in words)`.
    """
    metrics, too_much = {}, []
    for task in model.tasks:
        metric = task.new_metrics()[0]
        key = f"{task.name}_{metric.name}"
        drop = (before[key] - after[key]) * (1 if metric.higher_is_better else -1)
        metrics[task.name] = (metric.name, before[key], after[key], drop)
        if task.name in allowed and not drop <= allowed[task.name]:
            message = (
                f"'{task.name}' {metric.name} {before[key]:.4f} -> {after[key]:.4f} "
                f"(allowed: {allowed[task.name]:g})"
            )
            too_much.append((task.name, message))
    return metrics, too_much


def enforce_max_drop(artifact: TFLiteArtifact) -> None:
    """The last stage: every head's first metric, in Keras and in the file, held to what it may
    lose.

    The report's heads learn their metrics, whatever comes of it. Without held-out data there is
    nothing to hold.

    Raises:
        ExportError: heads are worse by more than they are allowed.
    """
    request, report = artifact.request, artifact.report
    if request.held_out is None:
        return
    x, y = request.held_out
    tasks = request.network.tasks
    metrics, too_much = metric_drops(
        request.network, request.keras_scores, score(tasks, artifact.file.run(x), y), request.limits
    )
    for head in report.heads:
        head.metric, head.before, head.after, head.drop = metrics[head.name]
    if not too_much:
        return
    rows = len(next(iter(x.values())))
    losses = "; ".join(message for _, message in too_much)
    raise ExportError(
        f"The {report.format} loses more than allowed on {losses}, over {rows} rows. Use a finer "
        f"quantization, keep these "
        "heads in float (`keep_float=`), or allow more (`max_drop`).",
        [name for name, _ in too_much],
    )
