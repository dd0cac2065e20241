"""Drawing one row: its input, and the answers that have a place in a picture."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.patches import Rectangle

from mtl_keras.analysis.classes import class_names
from mtl_keras.plot.answers import box_overlap, mask_classes, match_objects, number
from mtl_keras.plot.figures import COLORS, FADED, RIGHT, WRONG, class_color, shorten, text_width
from mtl_keras.plot.rows import Row, is_known, token_words
from mtl_keras.tasks import Task

__all__ = [
    "MAPS",
    "draw_input",
    "draw_map",
    "draw_overlays",
    "input_kind",
    "picture_of",
    "wrap",
]

#: Kinds of tasks that answer with a map, which gets panels of its own.
MAPS = ("segmentation", "depth", "normals")

#: A dark line around a light one (or a letter): seen on every picture.
_HALO = [patheffects.withStroke(linewidth=3, foreground="white")]


def input_kind(row: Row) -> tuple[str, str]:
    """What to draw of a row: ("picture", "wave", "series", "words" or "numbers", input name).

    A picture goes before a sound, and a sound before words.
    """
    by_rank = {name: value.ndim for name, value in row.inputs.items()}
    for rank, kind in ((3, "picture"), (4, "video")):
        for name, value in row.inputs.items():
            if by_rank[name] == rank and value.dtype.kind in "fu":
                return kind, name
    for name, value in row.inputs.items():
        if value.ndim == 2 and value.dtype.kind == "f":
            return "series", name
        if value.ndim == 1 and value.dtype.kind == "f" and (name == "waveform" or len(value) > 400):
            return "wave", name
    if row.words is not None:
        return "words", next(iter(row.inputs))
    return "numbers", next(iter(row.inputs))


def picture_of(value: np.ndarray) -> np.ndarray:
    """An input as a picture with values from 0 to 1: gray `(height, width)`, or color."""
    picture = np.asarray(value, float)
    if picture.ndim == 4:
        picture = picture[len(picture) // 2]
    if picture.shape[-1] not in (1, 3):
        picture = picture.mean(-1, keepdims=True)
    low, high = np.nanmin(picture), np.nanmax(picture)
    if low >= 0 and 1 < high <= 255:
        picture = picture / 255
    elif low < 0 or high > 1:
        picture = (picture - low) / (high - low or 1.0)
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def show_picture(axis: Any, picture: np.ndarray) -> None:
    """A picture whose pixels fill their places: coordinates run from 0 to width and height."""
    height, width = picture.shape[:2]
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    _bare(axis)


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


# === Inputs ===


def draw_input(axis: Any, row: Row, width: int) -> None:
    """Draw a row's input.

    Args:
        axis: matplotlib axes.
        row: the row.
        width: int. Letters that fit beside each other.
    """
    kind, name = input_kind(row)
    value = row.inputs[name]
    if kind in ("picture", "video"):
        show_picture(axis, picture_of(value))
    elif kind == "wave":
        _draw_wave(axis, value)
    elif kind == "series":
        _draw_series(axis, value)
    else:
        _bare(axis)
        lines = input_lines(row, width) if kind == "words" else number_lines(np.ravel(value), width)
        draw_lines(axis, lines)


def _draw_wave(axis: Any, wave: np.ndarray) -> None:
    """The range of the values in each of 400 windows: a line through 16,000 of them is a blot."""
    size = max(1, len(wave) // 400)
    windows = wave[: len(wave) // size * size].reshape(-1, size)
    times = np.arange(len(windows)) * size
    axis.fill_between(times, windows.min(1), windows.max(1), color=COLORS[0], linewidth=0.4)
    axis.set_xlim(0, len(wave))
    axis.set_yticks([])
    axis.tick_params(labelsize=7)
    axis.locator_params(axis="x", nbins=4)


def _draw_series(axis: Any, series: np.ndarray) -> None:
    if series.shape[1] > 8:
        axis.imshow(series.T, aspect="auto", origin="lower", cmap="viridis")
        _bare(axis)
        return
    for channel, values in enumerate(series.T):
        axis.plot(values, color=class_color(channel), linewidth=0.9)
    axis.set_xlim(0, max(len(series) - 1, 1))
    axis.tick_params(labelsize=7)
    axis.locator_params(nbins=4)


def wrap(text: str, width: int, most: int) -> list[str]:
    """A text in lines, at most so many; wide letters count twice."""
    wide = text_width(text) / max(len(text), 1)
    lines = textwrap.wrap(" ".join(str(text).split()), max(8, int(width / max(wide, 1))))
    if len(lines) > most:
        lines = [*lines[: most - 1], shorten(f"{lines[most - 1]} {lines[most]}…", width)]
        if not lines[-1].endswith("…"):
            lines[-1] = f"{lines[-1]}…"
    return lines or [""]


def input_lines(row: Row, width: int, most: int = 8) -> list[tuple[str, str]]:
    """What a person reads of a row, as `(faded, plain)` parts of lines."""
    if isinstance(row.words, dict):
        items = list(row.words.items())
        shown = items if len(items) <= most else items[: most - 1]
        lines = [_column_line(name, value, width) for name, value in shown]
        if len(shown) < len(items):
            lines.append((f"and {len(items) - len(shown)} more columns", ""))
        return lines
    return [("", line) for line in wrap(row.words, width, most)]


def _column_line(name: str, value: Any, width: int) -> tuple[str, str]:
    text = number(float(value)) if isinstance(value, (float, int, np.number)) else str(value)
    text = "–" if value is None or value != value else text
    text = shorten(text, width // 2)
    return shorten(name, width - text_width(text) - 2), text


def number_lines(values: np.ndarray, width: int, most: int = 8) -> list[tuple[str, str]]:
    """The first values of an input without names."""
    per_line = max(1, width // 9)
    texts = [number(float(value)) for value in values]
    lines = [("", "  ".join(texts[i : i + per_line])) for i in range(0, len(texts), per_line)]
    if len(lines) > most:
        lines = [*lines[: most - 1], (f"and {len(texts) - (most - 1) * per_line} more", "")]
    return lines


def draw_lines(axis: Any, lines: list[tuple[str, str]]) -> None:
    """Lines of a name and its value, from the top."""
    height = axis.get_position().height * axis.figure.get_size_inches()[1]
    for i, (name, text) in enumerate(lines):
        y = 1 - (i + 0.6) * 0.165 / height
        place = {"transform": axis.transAxes, "va": "center", "fontsize": 8}
        axis.text(0.02, y, name, color=FADED, ha="left", **place)
        is_value = bool(name)
        axis.text(0.98 if is_value else 0.02, y, text, ha="right" if is_value else "left", **place)


# === Answers with a place in the picture ===


def draw_overlays(axis: Any, tasks: list[Task], row: Row) -> None:
    """Draw boxes, objects and points over a picture: predictions as solid lines and dots, the truth
    dashed and as rings."""
    height, width = picture_of(row.inputs[input_kind(row)[1]]).shape[:2]
    for task in tasks:
        draw = {
            "bounding_box": _draw_box,
            "detection": _draw_objects,
            "keypoints": _draw_points,
        }.get(task.kind)
        if draw is not None:
            label = row.truth.get(task.name)
            draw(axis, task, row.output[task.name], label, np.array([width, height]))


def _rectangle(axis: Any, box: Any, size: np.ndarray, color: str, is_truth: bool) -> None:
    left, top, right, bottom = np.asarray(box, float) * np.tile(size, 2)
    for line_width, edge in ((3.0, "white"), (1.4, color)):
        axis.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                edgecolor=edge,
                linewidth=line_width,
                linestyle=(0, (3, 2)) if is_truth and edge != "white" else "-",
            )
        )


def _draw_box(
    axis: Any, task: Task, output: np.ndarray, label: np.ndarray | None, size: np.ndarray
) -> None:
    color = FADED
    if label is not None and is_known(task, label):
        _rectangle(axis, label, size, "black", is_truth=True)
        color = RIGHT if box_overlap(np.asarray(label, float), output) >= 0.5 else WRONG
    _rectangle(axis, output, size, color, is_truth=False)


def _draw_objects(
    axis: Any, task: Any, output: np.ndarray, label: np.ndarray | None, size: np.ndarray
) -> None:
    decoded = task.decode(output[None])[0]
    is_right: list[bool] | None = None
    if label is not None and is_known(task, label):
        is_right, is_found = match_objects(task, decoded, label)
        truth = np.asarray(label, float)
        truth = truth[np.isfinite(truth).all(1) & (truth[:, 4] >= 0)]
        for box, found in zip(truth, is_found, strict=True):
            _rectangle(axis, box[:4], size, "black", is_truth=True)
            if not found:
                name = class_names(task)[int(box[4])]
                _tag(axis, box[0] * size[0], box[3] * size[1], f"missed {name}", "black", "top")
    for i, part in enumerate(decoded):
        color = FADED if is_right is None else RIGHT if is_right[i] else WRONG
        box = [part[side] for side in ("left", "top", "right", "bottom")]
        _rectangle(axis, box, size, color, is_truth=False)
        _tag(axis, box[0] * size[0], box[1] * size[1], str(part["label"]), color, "bottom")


def _tag(axis: Any, x: float, y: float, text: str, color: str, side: str) -> None:
    axis.text(
        x,
        y,
        shorten(text, 18),
        color=color,
        fontsize=7,
        va=side,
        ha="left",
        clip_on=True,
        path_effects=_HALO,
    )


def _draw_points(
    axis: Any, task: Any, output: np.ndarray, label: np.ndarray | None, size: np.ndarray
) -> None:
    known = is_known(task, label)
    known = known if known.ndim else np.zeros(len(output), bool)
    for i, point in enumerate(output):
        x, y = point * size
        color = FADED
        if known[i] and label is not None:
            true_x, true_y = np.asarray(label[i], float) * size
            is_near = np.linalg.norm(point - label[i]) < task.within
            color = RIGHT if is_near else WRONG
            axis.plot([x, true_x], [y, true_y], color=color, linewidth=1, path_effects=_HALO)
            ring = {"markeredgecolor": "black", "markerfacecolor": "none"}
            axis.plot(true_x, true_y, "o", markersize=7, path_effects=_HALO, **ring)
        axis.plot(x, y, "o", markersize=4, color=color, markeredgecolor="white", clip_on=False)


# === Maps ===


def draw_map(
    axis: Any, task: Any, row: Row, is_truth: bool, limits: tuple[float, float] | None
) -> bool:
    """Draw the truth or the prediction of a task that answers for every pixel.

    Args:
        axis: matplotlib axes.
        task: `Segmentation`, `Depth` or `Normals`.
        row: the row.
        is_truth: bool.
        limits: range of depths that the colors span.

    Returns:
        Whether there was anything to draw: False for a missing truth.
    """
    label = row.truth.get(task.name)
    value = label if is_truth else row.output[task.name]
    known = (
        is_known(task, label) if is_truth else np.ones(np.shape(row.output[task.name])[:2], bool)
    )
    if value is None or not known.any():
        _bare(axis)
        axis.set_facecolor("#EEEEEE")
        axis.text(
            0.5, 0.5, "no label", ha="center", va="center", color=FADED, transform=axis.transAxes
        )
        axis.set_box_aspect(known.shape[0] / known.shape[1] if known.ndim == 2 else 1)
        return False
    pixels = _map_pixels(task, np.asarray(value), known, is_truth, limits)
    if task.kind == "segmentation":
        kind, name = input_kind(row)
        if kind in ("picture", "video"):
            background = picture_of(row.inputs[name])
            gray = background if background.ndim == 2 else background.mean(-1)
            axis.imshow(gray, cmap="gray", vmin=-0.6, vmax=1.2, extent=(0, 1, 1, 0))
    axis.imshow(pixels, extent=(0, 1, 1, 0), interpolation="nearest")
    axis.set_aspect(pixels.shape[0] / pixels.shape[1])
    _bare(axis)
    return True


def _map_pixels(
    task: Any,
    value: np.ndarray,
    known: np.ndarray,
    is_truth: bool,
    limits: tuple[float, float] | None,
) -> np.ndarray:
    """Red, green, blue and opacity of each pixel; pixels without a label are gray."""
    import matplotlib
    from matplotlib.colors import to_rgba

    if task.kind == "segmentation":
        classes = (
            mask_classes(task, value) if is_truth else np.asarray(task.decode(value[None])[0])
        ).astype(int)
        table = np.array([to_rgba(class_color(i)) for i in range(int(classes.max()) + 1)])
        pixels = table[classes]
        # Class 0 is the background in most data: the picture shows through.
        pixels[..., 3] = np.where(classes == 0, 0.0 if _has_background(task) else 0.35, 0.6)
    elif task.kind == "depth":
        low, high = limits or (0.0, 1.0)
        depth = (value.reshape(known.shape) - low) / (high - low or 1.0)
        pixels = matplotlib.colormaps["viridis_r"](np.nan_to_num(np.clip(depth, 0, 1)))
    else:
        length = np.linalg.norm(np.nan_to_num(value), axis=-1, keepdims=True)
        unit = np.nan_to_num(value) / np.maximum(length, 1e-6)
        pixels = np.concatenate([(unit + 1) / 2, np.ones((*known.shape, 1))], -1)
    pixels = np.clip(np.asarray(pixels, float), 0, 1)
    pixels[~known] = (0.85, 0.85, 0.85, 1.0)
    return pixels


def _has_background(task: Any) -> bool:
    names = class_names(task)
    return (
        task.num_classes == 1
        or task.labels is None
        or names[0].lower()
        in (
            "background",
            "bg",
            "none",
            "void",
            "other",
        )
    )


# === Tokens ===


def draw_tags(axis: Any, task: Any, row: Row, encoder: Any, width: int, most: int = 10) -> None:
    """A table of tokens: the word, the predicted tag, and the true one where it differs."""
    names = class_names(task)
    (ids,) = [v for v in row.inputs.values() if v.ndim == 1][:1]
    words = token_words(encoder, ids)
    label = row.truth.get(task.name)
    known = is_known(task, label)
    guesses = row.output[task.name].argmax(-1)
    places = [i for i, word in enumerate(words) if word and i < len(guesses)]
    lines = []
    for i in places[:most]:
        guess, truth = names[int(guesses[i])], None
        if known.ndim and i < len(known) and known[i] and label is not None:
            values = np.asarray(label)
            truth = names[int(values[i].argmax() if values.ndim == 2 else values[i])]
        lines.append((words[i], guess, truth))
    draw_tag_lines(axis, lines, len(places) - len(lines), width)


def draw_tag_lines(
    axis: Any, lines: list[tuple[str, str, str | None]], rest: int, width: int
) -> None:
    _bare(axis)
    height = axis.get_position().height * axis.figure.get_size_inches()[1]
    for i, (word, guess, truth) in enumerate(lines):
        y = 1 - (i + 0.6) * 0.165 / height
        place = {"transform": axis.transAxes, "va": "center", "fontsize": 8}
        axis.text(0.02, y, shorten(word, width // 3), ha="left", **place)
        is_right = truth is not None and truth == guess
        color = FADED if truth is None else RIGHT if is_right else WRONG
        text = guess if truth is None or is_right else f"✗ {guess}, is {truth}"
        axis.text(0.42, y, shorten(text, width * 3 // 5), color=color, ha="left", **place)
    if rest > 0:
        y = 1 - (len(lines) + 0.6) * 0.165 / height
        axis.text(
            0.02,
            y,
            f"and {rest} more tokens",
            color=FADED,
            fontsize=8,
            va="center",
            transform=axis.transAxes,
        )
