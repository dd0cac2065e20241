"""What the columns of a table are: numbers, categories, texts; and which are left out, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mtl_keras.data.sources import DataError
from mtl_keras.runtime.cells import is_date, is_missing, to_numbers
from mtl_keras.runtime.encoders.table_encoder import category_name
from mtl_keras.runtime.encoders.words import split_words
from mtl_keras.runtime.names import unknown_name

__all__ = ["INPUT_ROLES", "Column", "choose_inputs", "measure_column"]

#: Roles of columns that are inputs.
INPUT_ROLES = ("number", "category", "text")
# "patient_id", "PassengerId", "row nr"; not "paid".
_ID_NAME = re.compile(
    r"(^|[_\s-])(id|ids|uuid|guid|index|idx|nr|no|number|row|key)$", re.IGNORECASE
)
_CAMEL_ID = re.compile(r"[a-z](Id|ID)$")
_UNNAMED = re.compile(r"unnamed[_:\s]*\d+", re.IGNORECASE)
#: Cells that are looked at to tell texts from categories.
_SAMPLE = 500
_MOST_CATEGORIES = 50


@dataclass
class Column:
    """A column of a table, measured.

    Attributes:
        name: str.
        cells: object array: numbers or texts.
        numbers: float array, NaN where a cell is no number.
        others: bool array: cells that are there and are no numbers.
        present: bool array: cells that are not missing.
        names: object array: each cell as a category's name; "" where it is missing.
        role: what the column is: one of `INPUT_ROLES`, "id", "constant", "date", "mixed", or what
            the caller uses it for.
        reason: str. Why it is not an input, or what it looks like.
    """

    name: str
    cells: np.ndarray
    numbers: np.ndarray
    others: np.ndarray
    present: np.ndarray
    names: np.ndarray
    role: str = ""
    reason: str = ""
    distinct: set[str] = field(default_factory=set)

    @property
    def is_numeric(self) -> bool:
        """Whether each cell that is there is a number."""
        return bool(self.present.any()) and not self.others.any()


def measure_column(name: str, cells: np.ndarray, decimal: str, missing: Sequence[str]) -> Column:
    """A column with its role as it looks."""
    none = frozenset(missing)
    numbers, others = to_numbers(cells, decimal, none)
    if np.asarray(cells).dtype.kind in "iufb":
        present = np.isfinite(numbers)
    else:
        present = np.array([not is_missing(cell, none) for cell in cells], bool)
    names = np.full(len(cells), "", object)
    names[present] = [category_name(cell) for cell in np.asarray(cells, object)[present]]
    column = Column(name, np.asarray(cells), numbers, others, present, names)
    column.distinct = set(names[present])
    column.role, column.reason = _guess_role(column)
    return column


def _guess_role(column: Column) -> tuple[str, str]:
    count, distinct = int(column.present.sum()), len(column.distinct)
    if not count:
        return "constant", "no value in any row"
    if distinct == 1 and count == len(column.present):
        return "constant", f"the value {next(iter(column.distinct))!r} in each row"
    sample = column.cells[column.present][:_SAMPLE]
    if column.cells.dtype.kind == "M" or all(is_date(cell) for cell in sample):
        return "date", "a date: `time=` splits by it; make numbers of it to learn from it"
    if column.is_numeric:
        return _guess_number(column, count, distinct)
    if 2 * int(column.others.sum()) <= count:
        return "mixed", ""
    words = np.mean([len(split_words(str(cell))) for cell in sample])
    if words >= 8 or (words >= 3 and distinct > 0.5 * count):
        return "text", ""
    if count > 10 and (distinct == count or distinct > max(_MOST_CATEGORIES, 0.5 * count)):
        return "id", f"{distinct} different values in {count} rows"
    return "category", ""


def _guess_number(column: Column, count: int, distinct: int) -> tuple[str, str]:
    numbers = column.numbers[column.present]
    are_whole = bool((numbers == np.round(numbers)).all())
    looks_like_id = bool(
        _ID_NAME.search(column.name)
        or _CAMEL_ID.search(column.name)
        or _UNNAMED.fullmatch(column.name)
    )
    if are_whole and looks_like_id and (distinct == count or distinct > 20):
        return "id", "its name and its values look like an id"
    if are_whole and count > 30 and count == len(numbers) and bool((np.diff(numbers) == 1).all()):
        return "id", "it counts the rows"
    return "number", ""


def choose_inputs(
    columns: Mapping[str, Column],
    inputs: Sequence[str] | Mapping[str, str] | None,
    text: Sequence[str],
    row_names: Sequence[str],
    where: str,
) -> dict[str, str]:
    """The columns that are inputs, and as what.

    Args:
        columns: those that may be inputs, by name.
        inputs: names, or a dict of name to role; None takes all that look like inputs.
        text: names of the columns of texts.
        row_names: for messages.
        where: what the table is, for messages.

    Returns:
        dict of column to role.

    Raises:
        DataError: a column that is missing, constant, a date, or neither numbers nor categories.
    """
    named: dict[str, str | None]
    if isinstance(inputs, Mapping):
        named = {str(name): str(role) for name, role in inputs.items()}
    else:
        named = dict.fromkeys(inputs or ())
    named |= dict.fromkeys(text, "text")
    for name, role in named.items():
        if name not in columns:
            raise DataError(unknown_name(f"input column in {where}:", name, list(columns)))
        if role is not None and role not in INPUT_ROLES:
            raise DataError(unknown_name(f"role of column '{name}':", role, INPUT_ROLES))
    if inputs is None:
        named = {
            name: named.get(name, column.role)
            for name, column in columns.items()
            if name in named or column.role in (*INPUT_ROLES, "mixed")
        }
    roles = {
        name: _resolve_role(columns[name], role, row_names, where) for name, role in named.items()
    }
    if not roles:
        raise DataError(f"No column of {where} looks like an input. Name them: `inputs=[...]`.")
    return roles


def _resolve_role(column: Column, role: str | None, row_names: Sequence[str], where: str) -> str:
    """The role of a column that is an input; what it looks like where none is named."""
    name = column.name
    if role is None:
        role = column.role
        if role == "id":
            role = "number" if column.is_numeric else "category"
    if column.role == "constant":
        raise DataError(f"Column '{name}' of {where} holds {column.reason}: leave it out.")
    if role == "date":
        raise DataError(
            f"Column '{name}' of {where} holds dates. Make numbers of it (year, month, weekday), or "
            f"leave it out."
        )
    if role == "mixed" or (role == "number" and column.others.any()):
        row = int(np.argmax(column.others))
        share = 1 - column.others.sum() / column.present.sum()
        raise DataError(
            f"Column '{name}' of {where} is mixed: {share:.1%} of its values are numbers, and "
            f"{row_names[row]} holds {str(column.cells[row])!r}. Where that means a missing value, "
            f"add it to `missing`; else name the column's role, "
            f"`inputs={{..., '{name}': 'category'}}`, or `leave_out=['{name}']`."
        )
    return role
