"""Which class is taken for which."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.analysis.classes import check_classes, class_names, confusion_matrix, has_classes
from mtl_keras.analysis.rows import batches, predict
from mtl_keras.plot.figures import Picture, finish, rc, shorten
from mtl_keras.plot.rows import choose_tasks

__all__ = ["confusion", "count_confusion"]

#: From so many classes on, cells hold no numbers.
_MOST_NUMBERED = 12
#: So many classes get their names written.
_MOST_NAMED = 40


def confusion(
    model: Any,
    data: Any,
    task: str | Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    normalize: bool = True,
) -> Picture:
    """Draw confusion matrices: rows are the true classes, columns the predicted ones.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`. Rows
            without a label are left out.
        task: name of a task, or a list of them; None draws every task of classes. Of `MultiLabel`
            each label has a matrix of its own; of `Segmentation` pixels are counted, of
            `TokenTagging` tokens.
        path: file to write (".png"), or None.
        normalize: bool. Colors, and percentages in the cells, are shares of the true class. False
            shows counts. Defaults to True.

    Returns:
        `Picture`, a matplotlib figure. `mtl.analysis.confusion_matrix` gives the numbers.

    Raises:
        ValueError: an unknown task, a task without classes, or no task of classes at all.

    Examples:
        >>> picture = mtl.plot.confusion(model, (images, labels), "digit")
    """
    tasks = choose_tasks(model, task)
    if task is None:
        tasks = [part for part in tasks if has_classes(part)]
    if not tasks:
        kinds = ", ".join(f"{part.name} ({part.kind})" for part in model.tasks)
        raise ValueError(f"No task of this model answers with classes. Its tasks: {kinds}.")
    matrices = count_confusion(tasks, model, data)
    panels = [panel for part in tasks for panel in _panels(part, matrices[part.name])]
    with rc():
        return finish(_draw(panels, normalize), path)


def count_confusion(tasks: Sequence[Any], model: Any, data: Any) -> dict[str, np.ndarray]:
    """The confusion matrix of each task, batch by batch."""
    totals: dict[str, Any] = {}
    for task in tasks:
        check_classes(task)
        names = len(class_names(task))
        shape = (names, 2, 2) if task.kind == "multi_label" else (names, names)
        totals[task.name] = np.zeros(shape, "int64")
    for x, y, _ in batches(data):
        outputs = predict(model, x)
        for task in tasks:
            if task.name in y:
                totals[task.name] += confusion_matrix(task, outputs[task.name], y[task.name])
    return totals


def _panels(task: Any, matrix: np.ndarray) -> list[tuple[str, list[str], np.ndarray]]:
    """Title, names and matrix of each panel."""
    names = class_names(task)
    if task.kind == "multi_label":
        return [
            (f"{task.name}: {name}", ["no", "yes"], part)
            for name, part in zip(names, matrix, strict=True)
        ]
    return [(task.name, names, matrix)]


def _draw(panels: list[tuple[str, list[str], np.ndarray]], normalize: bool) -> Picture:
    largest = max(len(names) for _, names, _ in panels)
    side = float(np.clip(0.42 * largest + 1.7, 2.7, 9.0))
    columns = min(len(panels), max(1, int(12 // side)))
    rows = math.ceil(len(panels) / columns)
    # Long names stand aslant under their columns.
    longest = max(min(len(name), 16) for _, names, _ in panels for name in names)
    height = side + (0.3 if longest <= 3 else 0.3 + 0.05 * longest)
    figure = Picture(figsize=(side * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (title, names, matrix) in zip(axes, panels, strict=False):
        _draw_matrix(axis, title, names, matrix, normalize)
    return figure


def _draw_matrix(
    axis: Any, title: str, names: list[str], matrix: np.ndarray, normalize: bool
) -> None:
    totals = matrix.sum(1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    shown = np.ma.masked_where(np.broadcast_to(totals == 0, matrix.shape), shares)
    if not normalize:
        shown = np.ma.masked_array(matrix / max(matrix.max(), 1))
    axis.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    axis.set_facecolor("#EEEEEE")
    if len(names) <= _MOST_NUMBERED:
        _write_numbers(axis, matrix, shares, shown, normalize, totals)
    step = math.ceil(len(names) / _MOST_NAMED)
    ticks = list(range(0, len(names), step))
    size = 8 if len(names) <= 20 else 6
    labels = [shorten(names[i], 16) for i in ticks]
    is_long = max(map(len, labels)) > 3
    axis.set_xticks(
        ticks,
        labels,
        fontsize=size,
        rotation=45 if is_long else 0,
        ha="right" if is_long else "center",
        rotation_mode="anchor" if is_long else "default",
    )
    axis.set_yticks(ticks, labels, fontsize=size)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    known = int(matrix.sum())
    right = np.trace(matrix) / known if known else float("nan")
    note = f"{right:.1%} of {known:,} right" if known else "no label"
    axis.set_title(f"{shorten(title, 28)}\n{note}", fontsize=9)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")


def _write_numbers(
    axis: Any,
    matrix: np.ndarray,
    shares: np.ndarray,
    shown: Any,
    normalize: bool,
    totals: np.ndarray,
) -> None:
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            if normalize and not totals[i, 0]:
                text = "–"
            elif normalize:
                text = f"{shares[i, j]:.0%}\n{_short(matrix[i, j])}"
            else:
                text = _short(matrix[i, j])
            is_dark = float(np.ma.filled(shown, 0.0)[i, j]) > 0.55
            axis.text(
                j,
                i,
                text,
                ha="center",
                va="center",
                fontsize=7 if len(matrix) <= 8 else 5.5,
                color="white" if is_dark else "black",
                linespacing=1.05,
            )


def _short(count: int) -> str:
    """A count in at most four letters: 12k for twelve thousand."""
    if count < 10_000:
        return str(int(count))
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"
