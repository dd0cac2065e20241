"""Tables in the terminal, the same everywhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["build_table", "format_table", "print_table"]

#: Characters up to which a name is not folded.
_WHOLE = 24
_BOXES = {"plain": None, "light": "SIMPLE_HEAD", "heavy": "HEAVY_HEAD"}


def build_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    left: Collection[str] | None = None,
    box: str = "heavy",
) -> Table:
    """A table of texts; long texts are folded inside their cell.

    Args:
        columns: names of the columns.
        rows: one sequence of values per row, as long as `columns`.
        title: line above the table. None for none.
        left: names of the columns that are aligned to the left; the others are aligned to the
            right. None aligns all of them to the left.
        box: lines around cells: "heavy", "light" (below the names only) or "plain" (none).

    Returns:
        `rich.table.Table`.

    Raises:
        ValueError: an unknown `box`; a row that is not as long as `columns`.
    """
    from rich import box as boxes
    from rich.table import Table

    if box not in _BOXES:
        raise ValueError(f"`box` should be one of {', '.join(_BOXES)}. Received: {box!r}.")
    style = _BOXES[box]
    table = Table(title=title, box=getattr(boxes, style) if style else None)
    if style is None:
        table.pad_edge, table.padding = False, (0, 2, 0, 0)
    rows = [tuple(map(str, row)) for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(
                f"A row should have {len(columns)} values, one per column. Received: {row!r}."
            )
    # The first column names the row: short names stay whole.
    names = [len(line) for row in rows for line in row[0].splitlines()] if columns else []
    width = min(max(names, default=0), _WHOLE)
    for i, column in enumerate(columns):
        is_left = left is None or column in left
        table.add_column(
            column,
            justify="left" if is_left else "right",
            overflow="fold",
            min_width=width if i == 0 else None,
        )
    for row in rows:
        table.add_row(*row)
    return table


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, console: Any = None, **options: Any
) -> None:
    """Print a table.

    Args:
        columns, rows, **options: as in `build_table`.
        console: `rich.console.Console`. None prints to standard output.
    """
    from rich.console import Console

    (console or Console()).print(build_table(columns, rows, **options))


def format_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], width: int = 120
) -> str:
    """A table as text, the same in every terminal.

    Args:
        title, columns, rows: as in `build_table`.
        width: characters per line.
    """
    import io

    from rich.console import Console

    table = build_table(columns, rows, title=title)
    table.title_justify = "left"
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()
