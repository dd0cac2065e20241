"""Predictions beside the truth, a card per row."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from mtl_keras.analysis.classes import class_names
from mtl_keras.plot.answers import Answer, answer
from mtl_keras.plot.answers import number as number_text
from mtl_keras.plot.drawing import (
    MAPS,
    draw_input,
    draw_map,
    draw_overlays,
    draw_tags,
    input_kind,
    input_lines,
    number_lines,
    picture_of,
    wrap,
)
from mtl_keras.plot.figures import FADED, RIGHT, WRONG, Picture, class_color, finish, rc, shorten
from mtl_keras.plot.rows import Row, choose_tasks, is_known, take_rows

__all__ = ["predictions"]

#: In inches: a line of text, the space between cards, and around all of them.
_LINE, _GAP, _MARGIN = 0.165, 0.22, 0.2


def predictions(
    model: Any,
    data: Any,
    count: int = 8,
    path: str | os.PathLike[str] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    raw: Sequence[Any] | None = None,
) -> Picture:
    """Draw predictions beside the truth for some rows, mistakes marked.

    Each row is a card: its picture, sound, text or columns, and a line per task. Boxes, objects
    and points are drawn over the picture (predictions solid, the truth dashed); masks, depths and
    normals get panels of their own. A line is blue where the answer is right, orange-red with a ✗
    and the truth where it is wrong, and gray where the truth is missing. A box is right from an
    overlap of one half.

    Args:
        model: `MultiTaskModel`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, or a `mtl.data.TaskDataset`. Tasks may
            lack labels.
        count: int. How many rows, from the first. Defaults to 8.
        path: file to write (".png"), or None.
        tasks: list of str. Names of the tasks to show; None shows all.
        raw: a text, or a dict of columns, per row: what to show where the network's inputs can't be
            read back. None reads words and columns back from the model's encoder.

    Returns:
        `Picture`, a matplotlib figure.

    Raises:
        ValueError: an unknown task, a count below 1, data without rows.
        TypeError: data of another kind.

    Examples:
        >>> picture = mtl.plot.predictions(model, (images, labels), count=4)
    """
    chosen = choose_tasks(model, tasks)
    rows = take_rows(model, data, count, raw)
    with rc():
        return finish(_Sheet(model, chosen, rows).draw(), path)


@dataclass(frozen=True)
class _Layout:
    """Sizes in inches."""

    panels: int
    panel_width: float
    input_height: float
    text_height: float
    columns: int
    rows: int
    legend_height: float

    @property
    def card_width(self) -> float:
        return self.panels * self.panel_width + (self.panels - 1) * 0.08

    @property
    def card_height(self) -> float:
        return 0.2 + self.input_height + 0.06 + self.text_height

    @property
    def size(self) -> tuple[float, float]:
        width = self.columns * (self.card_width + _GAP) - _GAP + 2 * _MARGIN
        height = self.rows * (self.card_height + _GAP) - _GAP + 2 * _MARGIN
        return max(width, 5.2), height + 0.25 + self.legend_height


class _Sheet:
    """All cards of one picture."""

    def __init__(self, model: Any, tasks: list[Any], rows: list[Row]) -> None:
        self.model, self.tasks, self.rows = model, tasks, rows
        self.kind = input_kind(rows[0])[0]
        self.maps = [task for task in tasks if task.kind in MAPS]
        self.tagged = [task for task in tasks if task.kind == "token_tagging"]
        self.answers = [
            [answer(task, row.output[task.name], row.truth.get(task.name)) for task in tasks]
            for row in rows
        ]
        self.limits = {task.name: self._depth_limits(task) for task in self.maps}
        self.classes = self._mask_classes()
        self.layout = self._arrange()
        self.figure = Picture(figsize=self.layout.size)

    # === Sizes ===

    def _arrange(self) -> _Layout:
        is_picture = self.kind in ("picture", "video")
        panel_width = 2.0 if is_picture and self.maps else 2.4 if is_picture else 3.3
        self.letters = int(panel_width / 0.068)
        panels = 1 + 2 * len(self.maps) + len(self.tagged)
        lines = max(sum(len(self._answer_lines(a)) for a in card) for card in self.answers)
        if is_picture:
            height, width = picture_of(self.rows[0].inputs[input_kind(self.rows[0])[1]]).shape[:2]
            input_height = float(np.clip(panel_width * height / width, 0.7, 3.4))
        else:
            input_height = self._words_height()
        columns = max(1, min(len(self.rows), int(13.6 // (panels * panel_width + _GAP))))
        return _Layout(
            panels,
            panel_width,
            input_height,
            max(lines, 1) * _LINE,
            columns,
            math.ceil(len(self.rows) / columns),
            _LINE * math.ceil(len(self.classes) / 5) + 0.1 if self.classes else 0.0,
        )

    def _words_height(self) -> float:
        if self.kind in ("wave", "series"):
            return 1.3
        lines = max(
            len(
                input_lines(row, self.letters)
                if self.kind == "words"
                else number_lines(np.ravel(next(iter(row.inputs.values()))), self.letters)
            )
            for row in self.rows
        )
        return _LINE * max(lines, 11 if self.tagged else 1) + 0.08

    def _answer_lines(self, part: Answer) -> list[str]:
        text = (
            f"{part.task}: {part.text}".rstrip(": ")
            if not part.text
            else f"{part.task}: {part.text}"
        )
        note = f" ({part.note})" if part.note else ""
        return wrap(f"{part.mark} {text}{note}".strip(), self._line_letters(), 3)

    def _line_letters(self) -> int:
        panels = 1 + 2 * len(self.maps) + len(self.tagged)
        return self.letters * panels

    # === What all cards share ===

    def _depth_limits(self, task: Any) -> tuple[float, float] | None:
        """One range of colors for all rows, truth and prediction."""
        if task.kind != "depth":
            return None
        values = []
        for row in self.rows:
            values.append(np.ravel(row.output[task.name]))
            label = row.truth.get(task.name)
            if label is not None:
                known = is_known(task, label)
                values.append(np.asarray(label, float).reshape(known.shape)[known])
        low, high = np.percentile(np.concatenate(values), [1, 99])
        return float(low), float(high)

    def _mask_classes(self) -> list[tuple[Any, str]]:
        """Colors and names of the classes that occur in masks."""
        from mtl_keras.plot.answers import mask_classes

        entries = []
        for task in self.maps:
            if task.kind != "segmentation":
                continue
            numbers: set[int] = set()
            for row in self.rows:
                decoded = np.asarray(task.decode(row.output[task.name][None])[0]).astype(int)
                numbers |= set(np.unique(decoded).tolist())
                label = row.truth.get(task.name)
                if label is not None and is_known(task, label).any():
                    known = is_known(task, label)
                    numbers |= set(np.unique(mask_classes(task, label)[known]).tolist())
            names = class_names(task)
            prefix = f"{task.name}: " if len(self.maps) > 1 else ""
            entries += [
                (class_color(i), prefix + shorten(names[i], 24))
                for i in sorted(numbers)
                if i or task.num_classes > 1
            ]
        return entries[:20]

    # === Drawing ===

    def draw(self) -> Picture:
        height = self.layout.size[1]
        self._draw_key(height)
        for i, row in enumerate(self.rows):
            column, line = i % self.layout.columns, i // self.layout.columns
            left = _MARGIN + column * (self.layout.card_width + _GAP)
            top = height - _MARGIN - 0.25 - line * (self.layout.card_height + _GAP)
            self._draw_card(row, self.answers[i], left, top)
        if self.classes:
            handles = [Patch(color=color, alpha=0.7, label=name) for color, name in self.classes]
            self.figure.legend(handles=handles, loc="lower center", ncols=5, borderaxespad=0.3)
        return self.figure

    def _draw_key(self, height: float) -> None:
        """One line that says what colors and lines mean."""
        parts = [("✓ right", RIGHT), ("✗ wrong", WRONG), ("no label", FADED)]
        shapes = {task.kind for task in self.tasks}
        if shapes & {"bounding_box", "detection"}:
            parts.append(("solid: prediction, dashed: truth", "black"))
        if "keypoints" in shapes:
            parts.append(("dot: prediction, ring: truth", "black"))
        left = _MARGIN
        width = self.layout.size[0]
        for text, color in parts:
            y = 1 - _MARGIN / height
            self.figure.text(left / width, y, text, color=color, va="center", fontsize=8)
            left += 0.065 * len(text) + 0.3

    def _axis(self, left: float, top: float, width: float, height: float) -> Any:
        total_width, total_height = self.layout.size
        return self.figure.add_axes(
            (
                left / total_width,
                (top - height) / total_height,
                width / total_width,
                height / total_height,
            )
        )

    def _draw_card(self, row: Row, answers: list[Answer], left: float, top: float) -> None:
        layout = self.layout
        step = layout.panel_width + 0.08
        total_width, total_height = layout.size
        self.figure.text(
            left / total_width,
            (top - 0.1) / total_height,
            shorten(row.name, self.letters),
            fontsize=7,
            color=FADED,
            va="center",
        )
        # The numbers at the axes of sounds and series need room.
        x_room = 0.32 if self.kind == "series" else 0.0
        y_room = 0.2 if self.kind in ("wave", "series") else 0.0
        axis = self._axis(
            left + x_room,
            top - 0.2,
            layout.panel_width - x_room,
            layout.input_height - y_room,
        )
        draw_input(axis, row, self.letters)
        if self.kind in ("picture", "video"):
            draw_overlays(axis, self.tasks, row)
        for i, task in enumerate(self.maps):
            for j, is_truth in enumerate((False, True)):
                panel = self._axis(
                    left + (1 + 2 * i + j) * step,
                    top - 0.2,
                    layout.panel_width,
                    layout.input_height,
                )
                draw_map(panel, task, row, is_truth, self.limits[task.name])
                panel.set_title(self._map_title(task, is_truth), fontsize=7, pad=2, color=FADED)
        for i, task in enumerate(self.tagged):
            panel = self._axis(
                left + (1 + 2 * len(self.maps) + i) * step,
                top - 0.2,
                layout.panel_width,
                layout.input_height,
            )
            draw_tags(panel, task, row, self.model.encoder, self.letters)
        self._draw_answers(answers, left, top - 0.2 - layout.input_height - 0.06)

    def _map_title(self, task: Any, is_truth: bool) -> str:
        title = f"{task.name}: {'truth' if is_truth else 'prediction'}"
        limits = self.limits[task.name]
        if limits is not None and not is_truth:
            low, high = map(number_text, limits)
            title += f" ({low} to {high} {task.unit})".replace(" )", ")")
        return title

    def _draw_answers(self, answers: list[Answer], left: float, top: float) -> None:
        total_width, total_height = self.layout.size
        for part in answers:
            is_missing = part.note == "no label"
            color = {True: RIGHT, False: WRONG, None: FADED if is_missing else "black"}
            for line in self._answer_lines(part):
                self.figure.text(
                    left / total_width,
                    (top - _LINE / 2) / total_height,
                    line,
                    color=color[part.is_right],
                    fontsize=8,
                    va="center",
                )
                top -= _LINE
