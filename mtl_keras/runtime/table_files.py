"""CSV files as people have them: any delimiter, encoding, and decimal mark; rows are named by
their line."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_keras.runtime.cells import MISSING, decimal_mark, to_number

__all__ = ["TableError", "TableFile", "read_csv"]

_DELIMITERS = (",", ";", "\t", "|")
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SAMPLE = 200


class TableError(ValueError):
    """A table file that can't be read; it says where."""


@dataclass(frozen=True)
class TableFile:
    """A table as it stands in its file.

    Attributes:
        name: str. The file's name.
        columns: dict of column name to its cells, an object array of str; None where a cell is
            missing.
        lines: int array. The line in which each row begins.
        decimal: "." or ",". The file's decimal mark.
        delimiter: str. Between cells.
    """

    name: str
    columns: dict[str, np.ndarray]
    lines: np.ndarray
    decimal: str
    delimiter: str

    @property
    def row_names(self) -> list[str]:
        """Such as "patients.csv:17"."""
        return [f"{self.name}:{line}" for line in self.lines]


def read_csv(
    path: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
    missing: Sequence[str] = MISSING,
) -> TableFile:
    """Read a CSV file with a row of column names.

    Args:
        path: the file.
        encoding: str. None: UTF-8, or UTF-16 where the file says so.
        delimiter: str. Between cells. None finds it: comma, semicolon, tab or bar.
        decimal: "." or ",". None finds it.
        missing: list of str. Cells that say that there is no value.

    Returns:
        `TableFile`.

    Raises:
        FileNotFoundError: there is no such file.
        TableError: another encoding, no column names, rows of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    text = _decode(path.name, path.read_bytes(), encoding)
    if not text.strip():
        raise TableError(f"{path.name} is empty.")
    delimiter = delimiter or _find_delimiter(text)
    header, rows, lines = _read_rows(path.name, text, delimiter)
    none = frozenset(missing)
    columns = {}
    for position, name in enumerate(header):
        cells = np.empty(len(rows), object)
        cells[:] = [None if (cell := row[position].strip()) in none else cell for row in rows]
        columns[name] = cells
    if decimal is None:
        decimal = _find_decimal(columns, delimiter)
    return TableFile(path.name, columns, np.array(lines), decimal, delimiter)


def _decode(name: str, content: bytes, encoding: str | None) -> str:
    """The file's text.

    Raises:
        TableError: bytes that the encoding does not know; an encoding that nobody knows.
    """
    is_named = encoding is not None
    if encoding is None:
        marks = [codec for mark, codec in _MARKS.items() if content.startswith(mark)]
        encoding = marks[0] if marks else _unmarked_encoding(content)
    try:
        return content.decode(encoding)
    except LookupError:
        raise TableError(f"There is no encoding {encoding!r}; try 'utf-8' or 'latin-1'.") from None
    except UnicodeError as error:
        start = getattr(error, "start", 0)
        line = content[:start].count(b"\n") + 1
        advice = "Name another `encoding`" if is_named else "Name its `encoding`"
        raise TableError(
            f"{name} is not {encoding}: line {line} holds byte 0x{content[start]:02x}. {advice}: "
            f"'latin-1' or 'cp1252' (Western Europe), 'utf-16', 'cp1251' (Cyrillic), 'gb18030' "
            f"(Chinese) or 'shift_jis' (Japanese)."
        ) from None


def _unmarked_encoding(content: bytes) -> str:
    """UTF-8, or UTF-16 where every second byte of ASCII letters is 0."""
    head = content[:2000]
    if len(head) > 3 and head.count(0) * 4 > len(head):
        return "utf-16-le" if head[1] == 0 else "utf-16-be"
    return "utf-8"


def _find_delimiter(text: str) -> str:
    """The delimiter with which most rows have as many cells as the first."""

    def score(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        counts = [len(row) for row in itertools.islice(reader, _SAMPLE) if row]
        width = counts[0] if counts else 0
        if width < 2:
            return (0.0, 0)
        return (sum(count == width for count in counts) / len(counts), width)

    scores = {delimiter: score(delimiter) for delimiter in _DELIMITERS}
    return max(scores, key=lambda delimiter: scores[delimiter])


def _read_rows(
    name: str, text: str, delimiter: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """Column names, rows, and the line in which each row begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] | None = None
    line = 1
    try:
        for row in reader:
            if header is None:
                header = _check_header(name, row) if any(cell.strip() for cell in row) else None
            elif any(cell.strip() for cell in row):
                rows.append(_check_width(f"{name}:{line}", row, len(header)))
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise TableError(f"{name}:{line} can't be read as CSV: {error}.") from None
    if header is None or not rows:
        raise TableError(f"{name} has no row below its column names.")
    return header, rows, lines


def _check_header(name: str, row: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in row]
    while names and not names[-1]:
        names.pop()
    if all(cell and to_number(cell) is not None for cell in names):
        raise TableError(
            f"The first row of {name} should hold the names of the columns. Received numbers: "
            f"{', '.join(names[:4])}."
        )
    # The index that pandas writes has no name.
    names = [cell or f"unnamed_{number}" for number, cell in enumerate(names, 1)]
    for cell in names:
        if names.count(cell) > 1:
            raise TableError(f"Column {cell!r} stands {names.count(cell)} times in {name}.")
    return names


def _check_width(where: str, row: list[str], width: int) -> list[str]:
    if len(row) > width and not any(cell.strip() for cell in row[width:]):
        row = row[:width]
    if len(row) != width:
        raise TableError(
            f"{where} has {len(row)} cells, and there are {width} columns. Cells that hold the "
            f"delimiter should stand in quotes."
        )
    return row


def _find_decimal(columns: dict[str, np.ndarray], delimiter: str) -> str:
    """The file's decimal mark; where no cell shows it, "," only between semicolons or tabs."""
    cells = [cell for column in columns.values() for cell in column[: 10 * _SAMPLE]]
    mark = decimal_mark(cells)
    if mark is not None:
        return mark
    has_commas = any(
        cell is not None and "," in cell and to_number(cell, ",") is not None for cell in cells
    )
    return "," if has_commas and delimiter in (";", "\t") else "."
