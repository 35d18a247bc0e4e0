"""Tables for people whose columns are fitted by hand to the width of a terminal.

Numbers are rounded to what an eye compares; in a file, which has no width, lines are as
long as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

GAP: Final = 2
"""Cells between two columns."""


@dataclass(frozen=True)
class Column:
    """A column of a table for people."""

    name: str
    cells: Sequence[str]
    is_number: bool = False

    @cached_property
    def width(self) -> int:
        """Cells that it needs."""
        cells = (self.name, *self.cells)
        lines = (line for cell in cells for line in cell.splitlines())
        return max(map(cell_len, lines), default=0)

    def line(self, text: str, width: int) -> str:
        """Return a line of a cell in so many of the terminal's."""
        if self.is_number:
            return " " * (width - cell_len(text)) + text
        return set_cell_size(text, width)


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

    def lines(cells: Iterable[list[str]]) -> str:
        return "\n".join(
            (" " * GAP)
            .join(
                column.line(text, width)
                for column, width, text in zip(columns, widths, texts, strict=True)
            )
            .rstrip()
            for texts in zip_longest(*cells, fillvalue="")
        )

    titles = [column.name.splitlines() for column in columns]
    height = max(map(len, titles))
    head = lines([""] * (height - len(title)) + title for title in titles)
    rows = zip(*(column.cells for column in columns), strict=True)
    body = "\n".join(lines(cell.splitlines() or [""] for cell in row) for row in rows)
    # By hand, because a table of rich's takes longer than all else that a report does.
    console.print(Text(head, "bold"), no_wrap=True, overflow="crop")
    console.print(Text(body), no_wrap=True, overflow="crop")


def wide_console() -> Console:
    """Return where tables are printed: as wide as a terminal, or without bounds."""
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a shortened path in a file: let lines be as long as they are.
        console.width = 1 << 16
    return console
