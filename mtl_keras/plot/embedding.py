"""The shared representation as a map."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.analysis.classes import class_names
from mtl_keras.analysis.representation import project, representations
from mtl_keras.analysis.rows import batches
from mtl_keras.plot.figures import COLORS, Picture, class_color, finish, rc, shorten
from mtl_keras.plot.rows import is_known

__all__ = ["embedding"]

#: So many classes have a line of the legend.
_MOST_NAMED = 20
_NUMBERS = ("regression",)
_CLASSES = ("classification", "binary", "ordinal", "embedding")


def embedding(
    model: Any,
    data: Any,
    color_by: str | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    method: str = "pca",
    layer: str | None = None,
    seed: int = 0,
) -> Picture:
    """Draw what the heads share, a dot per row: rows that the trunk finds alike lie close.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`.
        color_by: name of a task whose labels color the dots: one of classes, levels or numbers.
            Rows without a label are light gray. None takes the first such task that has labels.
        path: file to write (".png"), or None.
        method: "pca" (principal components; the axes name their share of the variance) or "tsne"
            (needs scikit-learn).
        layer: name of a layer. None takes the deepest layer that all heads share.
        seed: int. Of t-SNE.

    Returns:
        `Picture`, a matplotlib figure. `mtl.analysis.representations` and `project` give the
        numbers.

    Raises:
        ValueError: an unknown task, method or layer; a task that can't color dots; a model whose
            heads share nothing.
        DataError: "tsne" without scikit-learn.

    Examples:
        >>> picture = mtl.plot.embedding(model, (images, labels), color_by="digit")
    """
    labels = _all_labels(data)
    task = _coloring_task(model, labels, color_by)
    vectors = representations(model, data, layer)
    points = project(vectors, method, seed)
    with rc():
        figure = Picture(figsize=(6.4, 4.6), layout="constrained")
        axis = figure.subplots()
        if task is None or task.name not in labels:
            axis.scatter(points[:, 0], points[:, 1], s=12, color=COLORS[0], linewidths=0)
        else:
            _draw(figure, axis, points, task, labels[task.name])
        _describe_axes(axis, vectors, points, method)
        by = "" if task is None else f", colored by {task.name}"
        axis.set_title(f"shared representation of {len(points):,} rows{by}", loc="left")
        return finish(figure, path)


def _all_labels(data: Any) -> dict[str, np.ndarray]:
    """Labels of all rows by task."""
    parts: dict[str, list[np.ndarray]] = {}
    for _, y, _ in batches(data):
        for name, value in y.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items() if _is_flat(values[0])}


def _is_flat(labels: np.ndarray) -> bool:
    """Labels of dense tasks are left out: they may be large, and color no dot."""
    return labels.ndim <= 2


def _coloring_task(model: Any, labels: dict[str, np.ndarray], color_by: str | None) -> Any:
    suited = (*_CLASSES, *_NUMBERS)
    if color_by is not None:
        task = model.task(color_by)
        if task.kind not in suited:
            raise ValueError(
                f"`color_by` should name a task of kind {', '.join(suited)}. Received: "
                f"'{color_by}', of kind '{task.kind}'."
            )
        return task
    return next((t for t in model.tasks if t.kind in suited and t.name in labels), None)


def _draw(figure: Any, axis: Any, points: np.ndarray, task: Any, labels: np.ndarray) -> None:
    known = np.array([bool(np.all(is_known(task, label))) for label in labels])
    size = float(np.clip(3000 / len(points), 5, 28))
    if not known.all():
        axis.scatter(
            *points[~known].T, s=size, color="#CCCCCC", linewidths=0, label="no label", zorder=1
        )
    if task.kind in _NUMBERS:
        values = np.asarray(labels, float).reshape(len(labels), -1)[known, 0]
        dots = axis.scatter(*points[known].T, s=size, c=values, cmap="viridis", linewidths=0)
        figure.colorbar(dots, ax=axis, label=f"{task.name} {task.unit}".strip())
        if not known.all():
            axis.legend(loc="best")
        return
    target, _ = task.target(ops.convert_to_tensor(np.asarray(labels)[known]))
    target = ops.convert_to_numpy(target)
    if task.kind == "binary":
        classes = (target[:, 0] > 0.5).astype(int)
    elif task.kind == "ordinal":
        classes = (target > 0.5).sum(-1)
    else:
        classes = target.argmax(-1) if target.ndim == 2 else target.astype(int)
    names = class_names(task) if task.kind != "embedding" else None
    occurring = np.unique(classes)
    for number in occurring:
        name = names[number] if names is not None else str(number)
        color = class_color(int(number)) if task.kind != "ordinal" else _level_color(number, names)
        axis.scatter(
            *points[known][classes == number].T,
            s=size,
            color=color,
            linewidths=0,
            alpha=0.85,
            label=shorten(name, 22) if len(occurring) <= _MOST_NAMED else None,
        )
    figure.legend(loc="outside right upper", markerscale=1.5)


def _level_color(number: int, names: Any) -> Any:
    """Levels have an order, and so do their colors."""
    import matplotlib

    return matplotlib.colormaps["viridis"](number / max(len(names) - 1, 1))


def _describe_axes(axis: Any, vectors: np.ndarray, points: np.ndarray, method: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if method != "pca":
        return
    total = np.asarray(vectors, "float64").var(0).sum()
    shares = points.var(0) / total if total > 0 else np.zeros(2)
    axis.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
    axis.set_ylabel(f"second component, {shares[1]:.0%} of the variance")
