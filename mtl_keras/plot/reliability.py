"""Whether answers are as sure as they are right."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.analysis.calibration import Calibration, calibrate, confidences
from mtl_keras.analysis.classes import has_classes
from mtl_keras.analysis.rows import batches, predict
from mtl_keras.plot.figures import COLORS, FADED, Picture, finish, rc, shorten
from mtl_keras.plot.rows import choose_tasks

__all__ = ["reliability"]


def reliability(
    model: Any,
    data: Any,
    task: str | Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    bins: int = 10,
) -> Picture:
    """Draw reliability diagrams: how often answers of each confidence are right.

    Bars on the diagonal are calibrated; below it answers are too sure. Under each diagram stands
    how many answers each bin has; the title names the expected calibration error. Of yes-or-no
    questions (`Binary`, `MultiLabel`, silhouettes) the probability is that of yes, and the height
    is the share of yes.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`. Rows
            without a label are left out.
        task: name of a task, or a list of them; None draws every task of classes.
        path: file to write (".png"), or None.
        bins: int. Bins of equal width. Defaults to 10.

    Returns:
        `Picture`, a matplotlib figure. `mtl.analysis.calibration` gives the numbers.

    Raises:
        ValueError: an unknown task, a task without probabilities, or one without any label.

    Examples:
        >>> picture = mtl.plot.reliability(model, (images, labels), "digit")

    References:
        Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
    """
    tasks = choose_tasks(model, task)
    if task is None:
        tasks = [part for part in tasks if has_classes(part)]
    if not tasks:
        kinds = ", ".join(f"{part.name} ({part.kind})" for part in model.tasks)
        raise ValueError(f"No task of this model answers with probabilities. Its tasks: {kinds}.")
    results = _calibrate(tasks, model, data, bins)
    columns = min(len(tasks), 4)
    rows = math.ceil(len(tasks) / columns)
    with rc():
        figure = Picture(figsize=(3.1 * columns, 3.9 * rows), layout="constrained")
        parts = figure.subfigures(rows, columns, squeeze=False).ravel()
        for part, panel in zip(tasks, parts, strict=False):
            _draw(panel, part, results[part.name])
        return finish(figure, path)


def _calibrate(tasks: Sequence[Any], model: Any, data: Any, bins: int) -> dict[str, Calibration]:
    chances: dict[str, list[Any]] = {task.name: [] for task in tasks}
    for x, y, _ in batches(data):
        outputs = predict(model, x)
        for task in tasks:
            if task.name in y:
                pair = confidences(task, outputs[task.name], y[task.name])
                chances[task.name].append(pair)
    results = {}
    for task in tasks:
        pairs = chances[task.name]
        chance, holds = (
            (np.concatenate([pair[i] for pair in pairs]) if pairs else np.zeros(0)) for i in (0, 1)
        )
        results[task.name] = calibrate(task.name, chance, holds, bins)
    return results


def _draw(panel: Any, task: Any, result: Calibration) -> None:
    upper, lower = panel.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = np.diff(result.edges)
    center = (result.edges[:-1] + result.edges[1:]) / 2
    is_full = result.counts > 0
    height = np.where(is_full, np.nan_to_num(result.accuracy), 0.0)
    gap = np.where(is_full, np.nan_to_num(result.confidence) - height, 0.0)
    upper.bar(center, height, width * 0.94, color=COLORS[0], label="right")
    upper.bar(
        center[is_full],
        gap[is_full],
        width[is_full] * 0.94,
        bottom=height[is_full],
        facecolor="none",
        edgecolor=COLORS[5],
        hatch="////",
        linewidth=0.8,
        label="gap",
    )
    upper.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8)
    upper.set(xlim=(0, 1), ylim=(0, 1.001))
    is_yes = task.kind in ("binary", "multi_label") or (
        task.kind == "segmentation" and task.num_classes == 1
    )
    upper.set_ylabel("share of yes" if is_yes else "share of right answers")
    upper.set_title(f"{shorten(task.name, 28)}\ncalibration error {result.error:.1%}", fontsize=9)
    upper.legend(loc="upper left")
    lower.bar(center, result.counts, width * 0.94, color=FADED)
    lower.set_xlabel("probability of yes" if is_yes else "probability of the answer")
    lower.set_ylabel("answers")
    most = int(result.counts.max())
    lower.set_ylim(0, most * 1.25)
    lower.set_yticks([0, most], ["0", f"{most:,}"])
