"""Scores of outputs, whatever made them: a model, a file on a device, a trivial rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mtl_keras.tasks import Task

__all__ = ["collect", "score", "trivial"]


def score(
    tasks: Sequence[Task], outputs: Mapping[str, Any], labels: Mapping[str, Any], batch: int = 512
) -> dict[str, float]:
    """Every task's metrics of `outputs` against `labels`, under the names that `evaluate` uses;
    missing labels left out.

    Args:
        tasks: list of `Task`.
        outputs: dict of task name to raw outputs, `(rows, ...)`.
        labels: dict of task name to labels.
        batch: int. Rows at a time.

    Examples:
        >>> mtl.analysis.score(model.tasks, model.predict(x), y)
    """
    scores = {}
    for task in tasks:
        metrics = task.new_metrics()
        rows = len(labels[task.name])
        for start in range(0, rows, batch):
            part = slice(start, start + batch)
            target, present = task.target(
                keras.ops.convert_to_tensor(np.asarray(labels[task.name][part]))
            )
            weight = keras.ops.cast(present, "float32")
            output = keras.ops.convert_to_tensor(np.asarray(outputs[task.name][part], "float32"))
            for m in metrics:
                m.metric.update_state(target, output, sample_weight=weight)
        scores.update({f"{task.name}_{m.name}": float(m.metric.result()) for m in metrics})
    return scores


def trivial(
    tasks: Sequence[Task], train: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, float]:
    """The scores of each task's best constant answer, learned from the training labels: what a head
    has to beat."""
    outputs = {}
    for task in tasks:
        constant = task.baseline(np.asarray(train[task.name]))
        outputs[task.name] = np.broadcast_to(constant, (len(test[task.name]), *constant.shape))
    return score(tasks, outputs, test)


def collect(dataset: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A finite data set of `(x, y)` batches as arrays: `(x, y)`, with `x` in the structure it
    has."""
    xs, ys = [], []
    for x, y in dataset:
        xs.append(keras.tree.map_structure(np.asarray, x))
        ys.append({name: np.asarray(value) for name, value in y.items()})
    x = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *xs)
    return x, {name: np.concatenate([part[name] for part in ys]) for name in ys[0]}
