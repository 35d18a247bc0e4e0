"""What there is to ask a store for: its tables and views, and what their columns mean.

The names and the types are those that the database has.  The meanings stand beside the
schemas (`tables.MEANINGS`) and in the comments of `views.sql`; a table that the user
has made has none.
"""

from __future__ import annotations

import os
from itertools import groupby
from typing import Final, NamedTuple

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sse_recorder.cli.base import print_rows
from sse_recorder.cli.columns import GAP, wide_console
from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store
from sse_recorder.store.views import views
from sse_recorder.tables import MEANINGS, ROWS, SCHEMAS

# The unit of a value, by the last word of its column's name.
_UNITS: Final = {
    "ns": "ns",
    "ms": "ms",
    "s": "s",
    "size": "bytes",
    "tokens": "tokens",
    "retry": "ms",
}
# A rate is none of these.
_RATE: Final = "_per_"
# What a store makes its tables of.
_INTERNAL: Final = [f"{name}_ns" for name in SCHEMAS] + [f"live_{n}" for n in SCHEMAS]


class Column(NamedTuple):
    """A column of a table or a view."""

    table: str
    column: str
    type: str
    """DuckDB's."""
    unit: str
    meaning: str
    """In one line; empty where none is known."""


def columns_of(store: Store) -> list[Column]:
    """Return all columns of a store: first those of its tables, then those of views."""
    # The views are made when a query names them, as this one does.
    order = [*ROWS, *views()]
    found = store.sql(
        "SELECT table_name, column_name, data_type FROM duckdb_columns()"  # noqa: S608 - constants
        f" WHERE NOT internal AND table_name NOT IN {tuple(_INTERNAL)}"
        f" ORDER BY list_position({order}, table_name) NULLS LAST, table_name,"
        " column_index"
    )
    return [
        Column(**row, unit=_unit(row["column"]), meaning=_meaning(**row))
        for row in found.rename_columns(["table", "column", "type"]).to_pylist()
    ]


def columns_without_recordings() -> list[Column]:
    """Return the columns that every store has, in the time it takes to read none."""
    # A cassette of no exchange.
    with Store.open(os.devnull) as store:
        return columns_of(store)


def by_table(columns: list[Column]) -> dict[str, list[str]]:
    """Return the names of columns by their tables."""
    return {
        table: [column.column for column in group]
        for table, group in groupby(columns, key=lambda column: column.table)
    }


def explain(columns: list[Column], tables: str | None, format_: str) -> None:
    """Print what columns there are.

    Args:
        columns: of a store.
        tables: the names of some tables, with commas between them; None for all.
        format_: one of those of `format_option`.

    Raises:
        UsageError: there is no such table.
    """
    if tables is not None:
        wanted = [name.strip() for name in tables.split(",")]
        known = by_table(columns)
        for name in wanted:
            if name not in known:
                raise UsageError(
                    f"there is no table {name!r} to explain; the tables and views are"
                    f" {', '.join(known)}"
                )
        columns = [column for column in columns if column.table in wanted]
    if format_ == "table":
        _print_for_people(columns, wide_console())
        return
    rows = pa.Table.from_pylist([column._asdict() for column in columns])
    print_rows(rows, format_)


def _print_for_people(columns: list[Column], console: Console) -> None:
    """Print each table under its name and what a row of it is."""
    names = Column._fields[1:]
    for name, group in groupby(columns, key=lambda column: column.table):
        heading = f"{name}: {row}" if (row := row_of(name)) else name
        console.print(Text(heading, "bold cyan"))
        table = Table(
            box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0)
        )
        for title in names:
            # The type of headers would leave little for what they mean.
            width = console.width // 5 if title == "type" else None
            table.add_column(title, max_width=width, overflow="fold")
        for column in group:
            table.add_row(*map(Text, column[1:]))
        console.print(table)
        console.print()


def row_of(table: str) -> str:
    """Return in words what a row of a table or a view is; empty if that is unknown."""
    view = views().get(table)
    return ROWS.get(table, "") if view is None else view.meaning


def _meaning(table: str, column: str, **_: str) -> str:
    view = views().get(table)
    if view is None:
        return MEANINGS.get(table, {}).get(column, "")
    # What it does not explain it has taken over from the exchanges.
    return view.columns.get(column) or MEANINGS["exchanges"].get(column, "")


def _unit(column: str) -> str:
    return "" if _RATE in column else _UNITS.get(column.rpartition("_")[2], "")
