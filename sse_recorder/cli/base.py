"""What the commands share: options, output, and how errors are told.

Data goes to stdout, messages and progress to stderr.  A command that fails says why in
one line, and what to do, and exits with the code that the error's class has.
"""

from __future__ import annotations

import csv
import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Any, TypeVar

import click
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from sse_recorder import config

F = TypeVar("F", bound=Callable[..., Any])

messages = Console(stderr=True, highlight=False)
"""Where messages for people go."""


class Option(click.Option):
    """An option that can also be set by its environment variable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = max(self.opts, key=len)
        self.envvar = config.variable(longest)


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option of a command."""
    return click.option(*names, cls=Option, **attributes)


store_option = option(
    "--store",
    metavar="PATH",
    default="recordings",
    show_default=True,
    help="The folder of recordings, or a cassette.",
)

format_option = option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)


def print_rows(table: pa.Table, format_: str) -> None:
    """Print rows to stdout in one of the formats of `format_option`."""
    rows = plain_rows(table)
    match format_:
        case "json":
            click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        case "jsonl":
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False))
        case "csv":
            writer = csv.writer(sys.stdout)
            writer.writerow(table.column_names)
            writer.writerows([_cell(value) for value in row.values()] for row in rows)
        case _:
            print_table(table.column_names, (row.values() for row in rows))


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON can hold them: times in ISO 8601, bytes in base64."""
    columns = {
        name: [_plain(value) for value in _values(column)]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    names = list(columns)
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def print_table(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows for people; as plain text where stdout is no terminal."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(_escape(_cell(value)) for value in row))
        count += 1
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a wrapped column in a file: let lines be as long as they are.
        console.width = 1 << 16
    console.print(table if count else "(no rows)")


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetime has no nanoseconds, text has.
        text = column.cast(pa.string()).to_pylist()
        return [value and value.replace(" ", "T") for value in text]
    return list(column.to_pylist())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _escape(text: str) -> str:
    # Recorded text may hold what rich takes for markup, or control a terminal.
    safe = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return safe.replace("[", "\\[")
