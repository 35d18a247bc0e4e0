"""Tables for people whose columns are fitted by hand to the width of a terminal.

Numbers are rounded to what an eye compares; in a file, which has no width, lines are as
long as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP: Final = 2
"""Cells between two columns."""


class Column(NamedTuple):
    """A column of a table for people."""

    name: str
    cells: Sequence[str]
    is_number: bool = False

    @property
    def width(self) -> int:
        """Cells that it needs."""
        cells = (self.name, *self.cells)
        lines = (line for cell in cells for line in cell.splitlines())
        return max(map(cell_len, lines), default=0)


def number(value: float | None) -> str:
    """Return a number in four digits, or more where it is larger than that."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    digits = next((d for d, least in enumerate((1000, 100, 10)) if value >= least), 3)
    return f"{value:,.{digits}f}"


def print_columns(
    console: Console, columns: Sequence[Column], widths: Sequence[int]
) -> None:
    """Print a table, each column in as many cells as are given for it."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            Text(column.name),
            justify="right" if column.is_number else "left",
            width=width,
            no_wrap=True,
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def wide_console() -> Console:
    """Return where tables are printed: as wide as a terminal, or without bounds."""
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a shortened path in a file: let lines be as long as they are.
        console.width = 1 << 16
    return console
