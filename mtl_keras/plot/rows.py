"""The rows of a picture: inputs, truth and answers of some rows of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from mtl_keras.analysis.rows import batches, inputs_by_name, predict
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks import Task

__all__ = ["Row", "choose_tasks", "is_known", "take_rows"]

#: How parts of words mark that a word begins.
_WORD_START = "\u2581"


@dataclass(frozen=True)
class Row:
    """One row of data.

    Attributes:
        name: where it comes from.
        inputs: the network's inputs by name.
        words: what a person reads of it: a text, a dict of columns, or None.
        truth: labels by task; tasks without labels are left out.
        output: raw outputs by task.
    """

    name: str
    inputs: dict[str, np.ndarray]
    words: Any
    truth: dict[str, np.ndarray]
    output: dict[str, np.ndarray]


def choose_tasks(model: Any, names: str | Sequence[str] | None) -> list[Task]:
    """The tasks of these names; all where None."""
    if names is None:
        return list(model.tasks)
    names = [names] if isinstance(names, str) else list(names)
    return [model.task(name) for name in names]


def take_rows(model: Any, data: Any, count: int, raw: Sequence[Any] | None = None) -> list[Row]:
    """The first rows of data with the model's answers.

    Args:
        model: `MultiTaskModel`.
        data: as in `mtl_keras.analysis.rows.batches`.
        count: int >= 1.
        raw: a text or a dict of columns per row, or None.

    Raises:
        ValueError: a count below 1, no rows, or labels of an unknown task.
    """
    if int(count) < 1:
        raise ValueError(f"`count` should be at least 1. Received: {count!r}.")
    rows: list[Row] = []
    for x, y, part in batches(data, int(count)):
        for name in y:
            if name not in model.task_names:
                raise ValueError(unknown_name("task in the labels:", name, model.task_names))
        inputs = inputs_by_name(model, x)
        outputs = predict(model, x)
        columns = _raw_rows(model.encoder, part)
        for i in range(len(next(iter(inputs.values())))):
            values = {name: value[i] for name, value in inputs.items()}
            number = len(rows)
            words = raw[number] if raw is not None else columns.get(i)
            words = read_words(model.encoder, values) if words is None else words
            rows.append(
                Row(
                    f"row {number}" if part is None else str(part.row_names[i]),
                    values,
                    words,
                    {name: value[i] for name, value in y.items()},
                    {name: value[i] for name, value in outputs.items()},
                )
            )
            if len(rows) == count:
                return rows
    if not rows:
        raise ValueError("`data` has no row.")
    return rows


def _raw_rows(encoder: Any, part: Any) -> dict[int, Any]:
    """The rows of a table as they were before the encoder: a text, or a dict of columns, by row
    number."""
    columns = getattr(part, "columns", None) or {}
    names = [name for name in getattr(encoder, "columns", ()) if name in columns]
    if names:
        return {i: {name: columns[name][i] for name in names} for i in range(len(part))}
    if getattr(encoder, "kind", None) != "text" or not columns:
        return {}
    texts = [name for name, role in part.column_roles.items() if role == "text"]
    if len(texts) != 1:
        return {}
    return {i: str(text) for i, text in enumerate(columns[texts[0]]) if text is not None}


def is_known(task: Task, label: np.ndarray | None) -> np.ndarray:
    """Where one row's label is: one bool, or one for each place of a dense task."""
    if label is None:
        return np.asarray(False)
    _, present = task.target(ops.convert_to_tensor(np.asarray(label)[None]))
    return np.asarray(ops.convert_to_numpy(present)[0])


# === What a person reads of encoded rows ===


def read_words(encoder: Any, inputs: Mapping[str, np.ndarray]) -> Any:
    """A text or a dict of columns from the network's inputs; None where the encoder does not tell."""
    kind = getattr(encoder, "kind", None)
    if kind == "table" and hasattr(encoder, "numeric"):
        return _columns(encoder, inputs)
    name = getattr(encoder, "name", None)
    if kind == "text" and vocabulary(encoder) and isinstance(name, str) and name in inputs:
        words = [word for word in token_words(encoder, inputs[name]) if word]
        if hasattr(encoder, "vocabulary"):
            return " ".join(words)
        return "".join(words).replace(_WORD_START, " ").strip()
    return None


def _columns(encoder: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if "numeric" in inputs:
        columns.update(zip(encoder.numeric, map(float, inputs["numeric"]), strict=False))
    if "categorical" in inputs:
        for (name, values), number in zip(
            encoder.categorical.items(), inputs["categorical"], strict=False
        ):
            columns[name] = values[int(number) - 1] if number > 0 else "(unknown)"
    return columns


def vocabulary(encoder: Any) -> list[str]:
    """The words, letters or parts of words with the ids 2, 3, ...; empty where they are not
    known."""
    if getattr(encoder, "vocabulary", None) is not None:
        return list(encoder.vocabulary)
    if hasattr(encoder, "merges"):
        parts = [*encoder.letters, *(left + right for left, right in encoder.merges)]
        return list(dict.fromkeys(parts))
    return list(getattr(encoder, "alphabet", ""))


def token_words(encoder: Any, ids: np.ndarray) -> list[str]:
    """The word of each id; empty for padding, "?" for a word that the vocabulary lacks."""
    known = vocabulary(encoder)
    words = []
    for number in np.asarray(ids).ravel().tolist():
        number = int(number)
        if number == 0:
            words.append("")
        elif 2 <= number < len(known) + 2:
            words.append(str(known[number - 2]))
        else:
            words.append("?" if known else str(number))
    return words
