"""What each head looks at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.analysis.attributions import Attribution, attributions
from mtl_keras.analysis.classes import class_names, has_classes
from mtl_keras.analysis.rows import batches
from mtl_keras.plot.answers import answer
from mtl_keras.plot.answers import number as number_text
from mtl_keras.plot.drawing import input_kind, picture_of, show_picture
from mtl_keras.plot.figures import COLORS, FADED, Picture, finish, rc, shorten, text_width
from mtl_keras.plot.rows import Row, choose_tasks, take_rows, token_words

__all__ = ["saliency"]

#: Raises the score, lowers it.
_RAISES, _LOWERS = COLORS[5], COLORS[0]
#: Of texts: letters in a line, lines, and a line's height in inches.
_LETTERS, _MOST_LINES, _LINE = 60, 10, 0.22


def saliency(
    model: Any,
    data: Any,
    task: str | Sequence[str] | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    method: str | None = None,
    count: int = 4,
    target: int | None = None,
    steps: int = 64,
) -> Picture:
    """Draw what each head looks at, a line per row and a column per task.

    On pictures the heat of Grad-CAM lies over the picture. Integrated gradients color each pixel,
    word or column: orange-red where it raises the score, blue where it lowers it.
    `mtl.analysis.attributions` says which score that is.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`.
        task: name of a task, or a list of them; None draws all tasks.
        path: file to write (".png"), or None.
        method: "grad_cam" or "integrated_gradients". None takes Grad-CAM for pictures, integrated
            gradients for all else.
        count: int. How many rows, from the first. Defaults to 4.
        target: int. The class to explain; None explains each row's predicted class.
        steps: int. Of integrated gradients. Defaults to 64.

    Returns:
        `Picture`, a matplotlib figure.

    Raises:
        ValueError: as in `mtl.analysis.attributions`; a count below 1.

    Examples:
        >>> picture = mtl.plot.saliency(model, (images, labels), "digit", count=2)

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017; Sundararajan, Taly, Yan, "Axiomatic Attribution
        for Deep Networks", ICML 2017.
    """
    tasks = choose_tasks(model, task)
    rows = take_rows(model, data, count)
    kind = input_kind(rows[0])[0]
    if method is None:
        method = "grad_cam" if kind == "picture" else "integrated_gradients"
    x = _first_inputs(data, len(rows))
    results = [
        attributions(model, x, part.name, method, target=target, steps=steps) for part in tasks
    ]
    with rc():
        figure = _draw(model, tasks, rows, results, kind)
        return finish(figure, path)


def _first_inputs(data: Any, count: int) -> Any:
    import keras

    parts, total = [], 0
    for x, _, _ in batches(data, count):
        parts.append(x)
        total += len(keras.tree.flatten(x)[0])
        if total >= count:
            break
    return keras.tree.map_structure(lambda *p: np.concatenate(p)[:count], *parts)


def _draw(
    model: Any, tasks: list[Any], rows: list[Row], results: list[Attribution], kind: str
) -> Picture:
    is_picture = kind in ("picture", "video")
    columns = len(tasks) + is_picture
    width, height = (2.3, 2.5) if is_picture else (4.2, 2.4)
    if is_picture:
        size = picture_of(rows[0].inputs[input_kind(rows[0])[1]]).shape
        height = float(np.clip(width * size[0] / size[1], 1.0, 3.2)) + 0.4
    elif _shows_words(model, rows[0], kind):
        lines = max(len(_word_lines(model, row)) for row in rows)
        height = 0.45 + _LINE * lines
    figure = Picture(
        figsize=(width * columns + 0.2, height * len(rows) + 0.4), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, row in enumerate(rows):
        if is_picture:
            show_picture(axes[i][0], picture_of(row.inputs[input_kind(row)[1]]))
            axes[i][0].set_title(shorten(row.name, 28), fontsize=8, color=FADED)
        for j, (task, result) in enumerate(zip(tasks, results, strict=True)):
            axis = axes[i][j + is_picture]
            _draw_one(axis, model, row, result, i, kind)
            axis.set_title(_title(task, row, result.targets[i]), fontsize=8)
    figure.suptitle(_key(results[0], kind), fontsize=8, color=FADED)
    return figure


def _key(result: Attribution, kind: str) -> str:
    if result.method == "grad_cam":
        return f"Grad-CAM at {result.layer}: yellow places matter most"
    return "integrated gradients: orange-red raises the score, blue lowers it"


def _title(task: Any, row: Row, target: int | None) -> str:
    said = answer(task, row.output[task.name], row.truth.get(task.name))
    text = said.text
    if target is not None and has_classes(task):
        name = class_names(task)[target]
        if task.kind == "segmentation":
            text = f"pixels of {name}"
        elif task.kind == "multi_label" or not text.startswith(str(name)):
            text = f"for {name}"
    elif target is not None and task.kind == "detection":
        text = f"for {class_names(task)[target]}"
    return shorten(f"{task.name}: {text}".rstrip(": "), 34)


def _draw_one(axis: Any, model: Any, row: Row, result: Attribution, number: int, kind: str) -> None:
    name = input_kind(row)[1]
    if kind in ("picture", "video") and name in result.values:
        _draw_on_picture(axis, row, result, number, name)
    elif kind in ("series", "wave") and name in result.values:
        _draw_on_series(axis, row, result, number, name)
    elif _shows_words(model, row, kind):
        _draw_on_words(axis, model, row, result, number)
    else:
        _draw_columns(axis, model, row, result, number)


def _shows_words(model: Any, row: Row, kind: str) -> bool:
    """Whether a row is ids of words."""
    (value, *_) = row.inputs.values()
    is_ids = len(row.inputs) == 1 and value.ndim == 1 and value.dtype.kind in "iu"
    return kind in ("words", "numbers") and is_ids


def _draw_on_picture(axis: Any, row: Row, result: Attribution, number: int, name: str) -> None:
    picture = picture_of(row.inputs[name])
    gray = picture if picture.ndim == 2 else picture.mean(-1)
    show_picture(axis, gray)
    height, width = gray.shape
    heat = result.values[name][number]
    place = {"extent": (0, width, height, 0)}
    if result.method == "grad_cam":
        scaled = heat / (heat.max() or 1.0)
        axis.imshow(
            scaled, cmap="inferno", vmin=0, vmax=1, alpha=0.55, **place, interpolation="bilinear"
        )
        return
    heat = heat.reshape(-1, *heat.shape[-3:]).mean(0).sum(-1)
    bound = np.percentile(np.abs(heat), 99.5) or 1.0
    signed = np.clip(heat / bound, -1, 1)
    colors = np.empty((*heat.shape, 4))
    from matplotlib.colors import to_rgb

    colors[..., :3] = np.where((signed > 0)[..., None], to_rgb(_RAISES), to_rgb(_LOWERS))
    colors[..., 3] = np.abs(signed) ** 0.7
    axis.images[0].set_clim(-1.0, 1.6)
    axis.imshow(colors, **place, interpolation="nearest")


def _draw_on_series(axis: Any, row: Row, result: Attribution, number: int, name: str) -> None:
    values = row.inputs[name]
    heat = result.values[name][number]
    heat = heat.sum(-1) if heat.ndim > 1 and result.method != "grad_cam" else heat
    if heat.ndim > 1:
        heat = heat.mean(tuple(range(1, heat.ndim)))
    series = values if values.ndim == 1 else values.mean(-1)
    windows = np.array_split(heat, min(len(heat), 120))
    strip = np.array([window.sum() for window in windows])
    bound = np.abs(strip).max() or 1.0
    low, high = float(series.min()), float(series.max())
    margin = 0.05 * (high - low or 1.0)
    axis.imshow(
        strip[None],
        aspect="auto",
        cmap="RdBu_r" if result.method != "grad_cam" else "OrRd",
        vmin=-bound if result.method != "grad_cam" else 0,
        vmax=bound,
        alpha=0.7,
        extent=(0, len(series), low - margin, high + margin),
    )
    axis.plot(series, color="black", linewidth=0.7)
    axis.set_xlim(0, len(series))
    axis.set_yticks([])


def _word_lines(model: Any, row: Row) -> list[list[tuple[int, int, str]]]:
    """The words in lines: each word's place among the ids, its column, and its letters."""
    ((_, ids),) = row.inputs.items()
    lines: list[list[tuple[int, int, str]]] = [[]]
    column = 0
    for place, word in enumerate(token_words(model.encoder, ids)):
        if not word:
            continue
        word = shorten(word, _LETTERS)
        if column and column + text_width(word) > _LETTERS:
            lines.append([])
            column = 0
        lines[-1].append((place, column, word))
        column += text_width(word) + 1
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], [(-1, 0, "…")]]
    return lines


def _draw_on_words(axis: Any, model: Any, row: Row, result: Attribution, number: int) -> None:
    """The words in lines, each on the color of its value."""
    from matplotlib.colors import to_rgb

    ((name, ids),) = row.inputs.items()
    heat = np.ravel(result.values[name][number])
    if len(heat) != len(ids):
        heat = np.interp(np.linspace(0, 1, len(ids)), np.linspace(0, 1, len(heat)), heat)
    heat = heat / (np.abs(heat).max() or 1.0)
    axis.axis("off")
    lines = _word_lines(model, row)
    size = axis.figure.get_size_inches()[1] / axis.get_gridspec().nrows
    height = max((size - 0.55) / _LINE, len(lines))
    # Lines keep their height where another row has more of them.
    axis.set(xlim=(-0.5, _LETTERS), ylim=(height, 0))
    for i, line in enumerate(lines):
        for place, column, word in line:
            value = float(heat[place]) if place >= 0 else 0.0
            color = np.array(to_rgb(_RAISES if value > 0 else _LOWERS))
            shade = 1 - (1 - color) * abs(value) * 0.75
            axis.text(
                column,
                i + 0.5,
                word,
                va="center",
                fontsize=8,
                fontfamily="DejaVu Sans Mono",
                bbox={"facecolor": tuple(shade), "edgecolor": "none", "pad": 1.5},
            )


def _draw_columns(
    axis: Any, model: Any, row: Row, result: Attribution, number: int, most: int = 10
) -> None:
    """A bar per column, the largest first."""
    names, values = [], []
    for key, part in result.values.items():
        heat = np.ravel(part[number])
        names += _column_names(model.encoder, key, len(heat))
        values += heat.tolist()
    order = np.argsort(-np.abs(values), kind="stable")[:most][::-1]
    shown = np.array(values)[order]
    colors = [_RAISES if value > 0 else _LOWERS for value in shown]
    axis.barh(range(len(order)), shown, color=colors)
    axis.axvline(0, color="black", linewidth=0.8)
    words = row.words if isinstance(row.words, dict) else {}
    labels = []
    for i in order:
        value = words.get(names[i])
        text = number_text(value) if isinstance(value, float) else str(value or "")
        labels.append(shorten(names[i], 18) + (f" = {shorten(text, 12)}" if text else ""))
    axis.set_yticks(range(len(order)), labels, fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.locator_params(axis="x", nbins=5)


def _column_names(encoder: Any, key: str, count: int) -> list[str]:
    columns = list(getattr(encoder, key, None) or []) if encoder is not None else []
    return columns if len(columns) == count else [f"{key} {i}" for i in range(count)]
