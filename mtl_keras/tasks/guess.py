"""What a column of labels asks for: a task, guessed from its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_keras.runtime.cells import is_missing, to_numbers, to_truth
from mtl_keras.runtime.encoders.table_encoder import category_name
from mtl_keras.runtime.names import unknown_name
from mtl_keras.tasks.classification import Binary, Classification
from mtl_keras.tasks.ordinal import Ordinal
from mtl_keras.tasks.regression import Regression
from mtl_keras.tasks.task import Task

__all__ = ["KINDS", "guess_task"]

#: Kinds that a column of a table can be.
KINDS = ("binary", "classification", "ordinal", "regression")
#: Up to so many different whole numbers are classes, where each occurs several times.
_MOST_NUMBERS = 12
#: Up to so many different texts are classes.
_MOST_CLASSES = 1000


def guess_task(
    name: str, values: Sequence[Any], kind: str | None = None, decimal: str = "."
) -> Task:
    """A task for a column of labels.

    - 0 and 1, yes and no, true and false: `Binary`.
    - Texts: `Classification`, whose classes are the texts in alphabetical order.
    - Whole numbers with up to 12 different values, each several times: `Classification`.
    - Other numbers: `Regression` with `scale="fit"`.

    Args:
        name: str. Of the task.
        values: labels, one per row: numbers or texts; None, NaN, "", "NA", "?" are missing.
        kind: "binary", "classification", "ordinal" or "regression"; None guesses it.
        decimal: "." or ",". Decimal mark of numbers that come as text.

    Returns:
        `Task`.

    Raises:
        ValueError: no label is there; one value only; values that are no labels of this kind.

    Examples:
        >>> mtl.tasks.guess_task("sold", ["yes", "no", "?"])
        Binary(name='sold', loss_weight=1.0, ...)
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(unknown_name("kind of task:", kind, KINDS))
    cells = [value for value in np.asarray(values, object) if not is_missing(value)]
    if not cells:
        raise ValueError(f"Task '{name}' has no label in any row.")
    names = sorted({category_name(cell) for cell in cells})
    numbers, others = to_numbers(cells, decimal)
    are_numbers = not others.any()
    if kind is None:
        kind = _guess_kind(cells, names, numbers if are_numbers else None)
    if kind == "regression":
        if not are_numbers:
            raise ValueError(
                f"Task '{name}' should have numbers as labels. Received: "
                f"{cells[int(np.argmax(others))]!r}."
            )
        return Regression(name, scale="fit")
    if len(names) < 2:
        raise ValueError(
            f"Task '{name}' has one label only, {names[0]!r}: there is nothing to learn."
        )
    if kind == "binary":
        return Binary(name)
    if len(names) > _MOST_CLASSES:
        raise ValueError(
            f"Task '{name}' would have {len(names)} classes, such as {names[0]!r} and "
            f"{names[-1]!r}. A column of names or texts is no label."
        )
    if are_numbers:
        # In the order of the numbers: "2" comes before "10".
        order = {category_name(cell): number for cell, number in zip(cells, numbers, strict=True)}
        names = sorted(names, key=lambda label: order[label])
    if kind == "ordinal":
        return Ordinal(name, len(names), labels=names)
    return Classification(name, len(names), labels=names)


def _guess_kind(cells: Sequence[Any], names: Sequence[str], numbers: np.ndarray | None) -> str:
    if all(to_truth(cell) is not None for cell in cells):
        return "binary"
    if numbers is None:
        return "classification"
    if set(np.unique(numbers)) <= {0.0, 1.0}:
        return "binary"
    are_whole = bool((numbers == np.round(numbers)).all())
    are_repeated = len(cells) >= 3 * len(names)
    if are_whole and len(names) <= _MOST_NUMBERS and are_repeated:
        return "classification"
    return "regression"
