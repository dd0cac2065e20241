"""Cells of tables as people write them: numbers, missing values, yes and no, dates."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "MISSING",
    "decimal_mark",
    "is_date",
    "is_missing",
    "to_date",
    "to_number",
    "to_numbers",
    "to_truth",
]

#: Cells that say that there is no value. Case counts: "none" may be a category.
MISSING = (
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "NAN",
    "NULL",
    "null",
    "None",
    "?",
    "-",
    "--",
    "–",
    "—",
    ".",
)
_TRUTH = {
    **dict.fromkeys(("yes", "y", "true", "t", "on", "ja", "oui", "sí", "si", "да", "是"), True),
    **dict.fromkeys(("no", "n", "false", "f", "off", "nein", "non", "нет", "否"), False),
}
# Spaces that group digits, of all widths.
_SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f'’](?=\d{3}(?!\d))")
_NUMBER = {
    ".": re.compile(
        r"[+-]?(\d{1,3}(,\d{3})+(\.\d*)?|\d+\.?\d*(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?)", re.IGNORECASE
    ),
    ",": re.compile(r"[+-]?(\d{1,3}(\.\d{3})+(,\d*)?|\d+,?\d*(e[+-]?\d+)?|,\d+)", re.IGNORECASE),
}
# A mark behind which there are not exactly three digits, or before which there are more than three
# or a leading zero, groups no thousands.
_DECIMAL = {
    mark: re.compile(
        rf"[+-]?(\d*{re.escape(mark)}(\d{{1,2}}|\d{{4,}})(e[+-]?\d+)?|(0\d*|\d{{4,}}){re.escape(mark)}\d+)"
        r"\s*%?",
        re.IGNORECASE,
    )
    for mark in ".,"
}
_DATE_FORMS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d-%m-%Y",
    "%d.%m.%y",
    "%Y年%m月%d日",
)
_DATE = re.compile(r"\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}日?([ T]\d{1,2}:\d{2}.*)?")


def is_missing(cell: Any, missing: Iterable[str] = MISSING) -> bool:
    """Whether a cell says that there is no value."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(cell, (float, np.floating)):
        return math.isnan(cell)
    return isinstance(cell, str) and cell.strip() in missing


def to_number(cell: Any, decimal: str = ".") -> float | None:
    """A cell as a number: "1,234.5", "12 %" (0.12) or, with `decimal=","`, "1.234,5".

    Returns:
        float, or None where the cell is no number.
    """
    if isinstance(cell, (bool, np.bool_, int, float, np.integer, np.floating)):
        return float(cell)
    text = _SPACES.sub("", str(cell).strip()).replace("\u2212", "-")
    percent = text.endswith("%")
    if percent:
        text = text[:-1].rstrip()
    if not _NUMBER[decimal].fullmatch(text):
        return None
    if decimal == ",":
        text = text.replace(".", "").replace(",", ".")
    value = float(text.replace(",", ""))
    return value / 100 if percent else value


def to_numbers(
    cells: Sequence[Any], decimal: str = ".", missing: Iterable[str] = MISSING
) -> tuple[np.ndarray, np.ndarray]:
    """Cells of a column as numbers.

    Returns:
        `(numbers, others)`: float array with NaN where a cell is missing or no number, and a bool
        array, True where a cell is there and no number.
    """
    values = np.asarray(cells)
    if values.dtype.kind in "iufb":
        return values.astype(float), np.zeros(len(values), bool)
    numbers = np.full(len(cells), np.nan)
    others = np.zeros(len(cells), bool)
    missing = frozenset(missing)
    for row, cell in enumerate(cells):
        if is_missing(cell, missing):
            continue
        number = to_number(cell, decimal)
        if number is None:
            others[row] = True
        else:
            numbers[row] = number
    return numbers, others


def decimal_mark(cells: Iterable[Any]) -> str | None:
    """The decimal mark that cells show, "." or ",", or None where they show none."""
    counts = {".": 0, ",": 0}
    for cell in cells:
        if isinstance(cell, str) and any(mark in cell for mark in ".,"):
            text = _SPACES.sub("", cell.strip())
            marks = [mark for mark in ".," if mark in text]
            if len(marks) == 2:
                # Of two marks the last one is the decimal mark, if all of it is a number.
                last = max(marks, key=text.rfind)
                counts[last] += to_number(text, last) is not None
            elif _DECIMAL[marks[0]].fullmatch(text):
                counts[marks[0]] += 1
    if counts["."] == counts[","]:
        return None
    return max(counts, key=lambda mark: counts[mark])


def to_truth(cell: Any) -> bool | None:
    """ "yes", "no", "true", "ja", "non", ... as a bool; None for anything else."""
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    return _TRUTH.get(str(cell).strip().casefold())


def is_date(cell: Any) -> bool:
    """Whether a cell is a date, or a date with a time."""
    if isinstance(cell, (datetime.date, np.datetime64)):
        return True
    return isinstance(cell, str) and bool(_DATE.fullmatch(cell.strip()))


def to_date(cells: Sequence[Any]) -> np.ndarray:
    """Cells as times, `datetime64[s]`; "not a time" where one is missing.

    Of "03/04/2024" it depends on the whole column whether the day or the month comes first: the
    first form that all cells have is taken, the day before the month.

    Raises:
        ValueError: a cell that is no date; it says which.
    """
    values = np.asarray(cells)
    if values.dtype.kind == "M":
        return values.astype("datetime64[s]")
    texts = [None if is_missing(cell) else str(cell).strip() for cell in cells]
    try:
        times = [np.datetime64("NaT") if t is None else _iso(t) for t in texts]
        return np.array(times, "datetime64[s]")
    except ValueError:
        pass
    for form in _DATE_FORMS:
        try:
            return np.array([_with_form(text, form) for text in texts], "datetime64[s]")
        except ValueError:
            continue
    bad = (
        next(text for text in texts if text is not None and not is_date(text))
        if any(text is not None and not is_date(text) for text in texts)
        else next(text for text in texts if text is not None)
    )
    raise ValueError(f"{bad!r} is no date in a form that all cells have, such as 2024-03-31")


def _iso(text: str) -> np.datetime64:
    if not re.match(r"\d{4}-\d{2}", text):
        raise ValueError(text)
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return np.datetime64(moment.replace(microsecond=0))


def _with_form(text: str | None, form: str) -> np.datetime64:
    if text is None:
        return np.datetime64("NaT")
    day, _, clock = text.partition(" ")
    moment = datetime.datetime.strptime(day, form)
    if clock:
        hours = datetime.time.fromisoformat(clock if len(clock) > 4 else f"0{clock}")
        moment = datetime.datetime.combine(moment.date(), hours.replace(tzinfo=None))
    return np.datetime64(moment.replace(microsecond=0))
