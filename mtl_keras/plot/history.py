"""Learning curves, a row per task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from mtl_keras.plot.figures import COLORS, FADED, Picture, class_color, finish, rc, shorten
from mtl_keras.tasks import TaskMetric

__all__ = ["best_epoch", "history"]

#: What `BalanceMonitor` and Keras's schedules log beside losses and metrics.
_OTHERS = ("learning_rate", "lr")


def history(
    history: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    directions: Mapping[str, str] | None = None,
) -> Picture:
    """Draw the curves of losses and metrics, in training and in validation, task by task.

    A ring marks the best epoch of each curve, by validation where there is one: the lowest loss or
    error, the highest score. Weights, gradient norms and cosines that
    `mtl.callbacks.BalanceMonitor` logs, and learning rates, get panels in the first row.

    Args:
        history: what `fit` returns, or a dict of name to a list with a value per epoch.
        path: file to write (".png"), or None.
        directions: dict of metric name to "max" or "min". None takes those of the history's model;
            of a dict, a metric's name says whether higher is better.

    Returns:
        `Picture`, a matplotlib figure.

    Raises:
        ValueError: a history without epochs.

    Examples:
        >>> logs = model.fit(images, labels, epochs=2, verbose=0)
        >>> picture = mtl.plot.history(logs)
    """
    model = getattr(history, "model", None)
    logs = {
        name: np.asarray(values, float)
        for name, values in getattr(history, "history", history).items()
    }
    if not logs or not any(len(values) for values in logs.values()):
        raise ValueError("The history has no epoch: it was not trained, or `epochs=0`.")
    known = dict(getattr(model, "metric_directions", None) or {}) | dict(directions or {})
    tasks = _tasks(logs, model)
    grid = [row for row in _grid(logs, tasks) if row]
    columns = max(len(row) for row in grid)
    with rc():
        figure = Picture(
            figsize=(max(3.1 * columns, 5), 2.3 * len(grid) + 0.35), layout="constrained"
        )
        axes = figure.subplots(len(grid), columns, squeeze=False)
        for row, line in zip(grid, axes, strict=True):
            for axis in line[len(row) :]:
                axis.remove()
            for (title, names), axis in zip(row, line, strict=False):
                if names is None:
                    _draw_metric(axis, title, logs, known)
                else:
                    _draw_group(axis, title, names, logs)
        _draw_key(figure, any(name.startswith("val_") for name in logs))
        return finish(figure, path)


def best_epoch(values: Any, direction: str) -> int | None:
    """Number of the best epoch, from 0; the first of equals, None where no value is finite.

    Args:
        values: a value per epoch; NaN where a task had no labels.
        direction: "max" or "min".
    """
    values = np.asarray(values, float)
    if not np.isfinite(values).any():
        return None
    worst = -np.inf if direction == "max" else np.inf
    values = np.where(np.isfinite(values), values, worst)
    return int(values.argmax() if direction == "max" else values.argmin())


def _tasks(logs: Mapping[str, Any], model: Any) -> list[str]:
    names = getattr(model, "task_names", None)
    if names:
        return list(names)
    return [
        name.removesuffix("_loss")
        for name in logs
        if name.endswith("_loss") and not name.startswith("val_") and name != "val_loss"
    ]


def _grid(
    logs: Mapping[str, Any], tasks: Sequence[str]
) -> list[list[tuple[str, list[str] | None]]]:
    """Rows of panels: a title, and the names of a panel of several curves (None: one metric)."""
    names = [name for name in logs if not name.startswith("val_")]
    names += [n[4:] for n in logs if n.startswith("val_") and n[4:] not in names]
    first: list[tuple[str, list[str] | None]] = [("loss", None)] if "loss" in names else []
    groups = {
        "weights of the tasks": [f"{t}_weight" for t in tasks],
        "gradient norms": [f"{t}_gradient_norm" for t in tasks],
        "cosines of gradients": [n for n in names if n.startswith("cosine_")],
        "learning rate": [n for n in names if n in _OTHERS],
    }
    grouped = set()
    for title, members in groups.items():
        members = [name for name in members if name in logs]
        grouped |= set(members)
        if members and np.isfinite(np.concatenate([logs[name] for name in members])).any():
            first.append((title, members))
    rows: dict[str, list[tuple[str, list[str] | None]]] = {task: [] for task in tasks}
    for name in names:
        # Of "a" and "a_b", "a_b_loss" is the second's.
        owners = [task for task in tasks if name.startswith(f"{task}_")]
        if name == "loss" or name in grouped:
            continue
        if owners:
            rows[max(owners, key=len)].append((name, None))
        else:
            first.append((name, None))
    for row in rows.values():
        row.sort(key=lambda panel: not panel[0].endswith("_loss"))
    width = max([3, *(len(row) for row in rows.values())])
    return [*(first[i : i + width] for i in range(0, len(first), width)), *rows.values()]


def _direction(name: str, known: Mapping[str, str]) -> str:
    if name in known:
        return known[name]
    if name.endswith("loss"):
        return "min"
    try:
        return "max" if TaskMetric(_Named(name)).higher_is_better else "min"
    except (TypeError, ValueError):
        return "min"


def _Named(name: str) -> Any:
    """A metric of this name, to ask in which direction such names improve."""
    import keras

    return keras.metrics.Mean(name=name)


def _draw_metric(
    axis: Any, name: str, logs: Mapping[str, np.ndarray], known: Mapping[str, str]
) -> None:
    curves = [
        (logs.get(name), COLORS[0], "-"),
        (logs.get(f"val_{name}"), COLORS[1], "-"),
    ]
    for values, color, style in curves:
        if values is not None and np.isfinite(values).any():
            epochs = np.arange(1, len(values) + 1)
            axis.plot(epochs, values, style, color=color, marker=".", markersize=4)
    judged, color = next(
        ((v, c) for v, c, _ in reversed(curves) if v is not None), (np.array([]), "")
    )
    best = best_epoch(judged, _direction(name, known))
    note = "no value"
    if best is not None:
        axis.plot(
            best + 1, judged[best], "o", markersize=9, fillstyle="none", color="black", zorder=5
        )
        note = f"best {judged[best]:.4g}, epoch {best + 1}"
    axis.set_title(shorten(name, 34), loc="left", pad=14)
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=FADED, va="bottom")
    _epoch_axis(axis)


def _draw_group(
    axis: Any, title: str, names: Sequence[str], logs: Mapping[str, np.ndarray]
) -> None:
    for i, name in enumerate(names):
        values = logs[name]
        label = name.removesuffix("_weight").removesuffix("_gradient_norm")
        axis.plot(
            np.arange(1, len(values) + 1),
            values,
            color=class_color(i),
            marker=".",
            markersize=4,
            label=shorten(label.removeprefix("cosine_").replace("_", " "), 18),
        )
    axis.set_title(title, loc="left", pad=14)
    if len(names) > 1:
        axis.legend(fontsize=7, ncols=1 + (len(names) > 4))
    _epoch_axis(axis)


def _epoch_axis(axis: Any) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axis.set_xlabel("epoch")
    axis.grid(axis="y", color="#E6E6E6", linewidth=0.7)
    axis.set_axisbelow(True)


def _draw_key(figure: Picture, has_validation: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLORS[0], marker=".", label="training")]
    if has_validation:
        handles.append(Line2D([], [], color=COLORS[1], marker=".", label="validation"))
    ring: dict[str, Any] = {"marker": "o", "fillstyle": "none", "linestyle": "", "markersize": 8}
    handles.append(Line2D([], [], color="black", label="best epoch", **ring))
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
