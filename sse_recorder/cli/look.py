"""`ls`, `show`, `query`, `latency` and `tools`: what a store has in it.

Tables are for people: numbers are rounded, ids and paths are shortened, and nothing is
wider than the terminal.  The other formats are for programs, and have everything as it
is in the tables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, NamedTuple

import click
import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sse_recorder import analytics
from sse_recorder.cli.base import (
    format_option,
    option,
    plain_rows,
    print_rows,
    store_option,
)
from sse_recorder.cli.waterfall import (
    WIDTH_MIN,
    Line,
    Row,
    cut,
    duration,
    frame_lines,
    heading,
    middle,
    printable,
    size,
    waterfall,
)
from sse_recorder.exchange import Exchange
from sse_recorder.store.store import Store

ID_WIDTH: Final = 8
"""The last characters of an id are random; so many tell exchanges apart."""

_PATH_WIDTH_MIN: Final = 13
_GAP: Final = 2
# A terminal too narrow for `ls` does without these, the first of them first.
_DISPENSABLE: Final = ("dialect", "method", "frames", "size")
_LS_COLUMNS: Final = (
    "started_at, exchange_id, method, path, status, dialect, outcome,"
    " ended_ns / 1e6 AS duration_ms, frame_count, tool_call_count, response_size"
)
# Counts of calls that share a column, because most of them are zero.
_TROUBLES: Final = ("error", "unanswered", "superseded", "unmatched")
_TOOL_WIDTH_MIN: Final = 12
_YEAR_FROM_WIDTH: Final = 100


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


@click.command(name="ls")
@store_option
@option("--where", metavar="SQL", help="Only exchanges for which this is true.")
@option("--limit", type=click.IntRange(min=1), help="Only so many, the newest.")
@format_option
def list_(store: str, where: str | None, limit: int | None, format_: str) -> None:
    """List what was recorded, the newest last.

    The table shows the end of each id, which is enough to name it by, and times in UTC.

    \b
    sse-recorder ls --limit 20
    sse-recorder ls --where "status >= 400 OR outcome <> 'complete'"
    sse-recorder ls --where "tool_call_count > 3" --format json
    """
    with Store.open(store) as opened:
        condition = analytics.condition(opened, where=where)
        newest = "" if limit is None else f"LIMIT {limit}"
        rows = opened.sql(
            f"WITH newest AS (SELECT {_LS_COLUMNS} FROM exchanges WHERE {condition}"  # noqa: S608 - the user's own condition
            f" ORDER BY started_at DESC, exchange_id DESC {newest})"
            " FROM newest ORDER BY started_at, exchange_id"
        )
    if format_ == "table" and rows.num_rows:
        _print_list(rows.to_pylist())
    else:
        print_rows(rows, format_)


@click.command()
@click.argument("name", metavar="ID")
@store_option
@option("--frames", "with_frames", is_flag=True, help="List its frames instead.")
@option(
    "--format",
    "format_",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A waterfall for people, or one object with frames and tool calls.",
)
def show(name: str, store: str, format_: str, *, with_frames: bool) -> None:
    """Show one exchange: what happened when, on a common axis.

    ID may be a few characters from the beginning or the end of an exchange's id.

    \b
    sse-recorder show 4f2a91c0
    sse-recorder show 4f2a91c0 --frames
    sse-recorder show 4f2a91c0 --format json | jq .tool_calls
    """
    with Store.open(store) as opened:
        exchange = opened.exchange(name)
        if format_ == "json":
            _print_object(opened, exchange.exchange_id)
        else:
            _print_exchange(opened, exchange, with_frames=with_frames)


@click.command()
@click.argument("sql")
@store_option
@format_option
def query(sql: str, store: str, format_: str) -> None:
    """Run DuckDB SQL over exchanges, chunks, frames and tool_calls.

    \b
    sse-recorder query "SELECT path, count(*) AS n FROM exchanges GROUP BY ALL"
    sse-recorder query "SELECT tool_name, arguments FROM tool_calls
                        WHERE status = 'error'" --format json
    """
    with Store.open(store) as opened:
        print_rows(opened.sql(sql), format_)


_since = option(
    "--since",
    metavar="TIME",
    help="Only exchanges that began at or after it: 2026-11-23, 2026-11-23T10:15:00Z,"
    " or how long ago (15m, 24h, 7d).  UTC without a zone.",
)
_until = option("--until", metavar="TIME", help="Only exchanges that began before it.")
_where = option(
    "--where",
    metavar="SQL",
    help="Only exchanges for which this is true, in SQL.",
)


@click.command()
@store_option
@option(
    "--by",
    type=click.Choice(analytics.groupings("latency")),
    help="Make groups.  Days are UTC.",
)
@_since
@_until
@_where
@format_option
def latency(store: str, format_: str, **selection: Any) -> None:
    """Report where time went: first byte, first content, gaps, tools, the whole.

    Counts exchanges that have ended.  The formulas are printed below the table.

    \b
    sse-recorder latency --by model --since 24h
    sse-recorder latency --where "outcome = 'complete' AND status = 200"
    """
    with Store.open(store) as opened:
        print_report(analytics.run(opened, "latency", **selection), format_)


@click.command()
@store_option
@option(
    "--by",
    type=click.Choice(analytics.groupings("tools")),
    help="Make groups.  Days are UTC.",
)
@_since
@_until
@_where
@format_option
def tools(store: str, format_: str, **selection: Any) -> None:
    """Report which tools ran, how they ended and how long they took.

    Counts calls of exchanges that have ended.  The formulas are printed below the
    table.

    \b
    sse-recorder tools --by day --since 7d
    sse-recorder tools --where "session_id = '0193a0c4'" --format csv
    """
    with Store.open(store) as opened:
        print_report(analytics.run(opened, "tools", **selection), format_)


COMMANDS: Final = (list_, show, query, latency, tools)


def print_report(report: analytics.Report, format_: str) -> None:
    """Print a report to stdout in one of the formats of `format_option`.

    As a table it is followed by its formulas, and each group stands under its name.
    """
    if format_ != "table" or not report.table.num_rows:
        print_rows(report.table, format_)
        return
    console = _console()
    columns = _report_columns(report.table, console.width)
    groups = report.table.column("group").to_pylist()
    # The only group, and groups named like their rows, need no name above them.
    is_plain = set(groups) == {"all"} or groups == report.table.column(1).to_pylist()
    for group, numbers in groupby(
        range(len(groups)), key=lambda n: "" if is_plain else groups[n]
    ):
        if group:
            title = middle(printable(group), console.width)
            console.print(Text(title, "bold cyan"))
        chosen = list(numbers)
        _print_columns(
            console,
            [c._replace(cells=[c.cells[n] for n in chosen]) for c in columns],
            [c.width for c in columns],
        )
        console.print()
    for formula in report.formulas:
        console.print(Text(formula, "dim"))


def _report_columns(table: pa.Table, width: int) -> list[Column]:
    """Return the columns of a report for people, without its groups."""
    columns, troubles = [], []
    for name in table.column_names[1:]:
        values = table.column(name).to_pylist()
        title = name.replace("client_", "client\n").replace("_", " ")
        if name.startswith("client_") and not any(values):
            continue
        if name in _TROUBLES:
            troubles.append([f"{n:,} {name}" if n else "" for n in values])
        elif pa.types.is_string(table.schema.field(name).type):
            columns.append(Column(title, list(map(printable, values))))
        else:
            cells = list(map(_number, values))
            columns.append(Column(title, cells, is_number=True))
    if troubles:
        cells = ["\n".join(filter(None, row)) for row in zip(*troubles, strict=True)]
        columns.append(Column("not ok", cells))
    first, *others = columns
    room = max(width - sum(c.width + _GAP for c in others), _TOOL_WIDTH_MIN)
    return [first._replace(cells=[cut(c, room) for c in first.cells]), *others]


def _number(value: float | None) -> str:
    """Return a number in four digits, or more where it is larger than that."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    digits = next((d for d, least in enumerate((1000, 100, 10)) if value >= least), 3)
    return f"{value:,.{digits}f}"


def _print_list(rows: list[dict[str, Any]]) -> None:
    console = _console()
    columns = _list_columns(rows, has_year=console.width >= _YEAR_FROM_WIDTH)
    spare = console.width - sum(c.width + _GAP for c in columns if c.name != "path")
    wanted = next(c.width for c in columns if c.name == "path")
    for name in _DISPENSABLE:
        if spare >= min(wanted, _PATH_WIDTH_MIN):
            break
        spare += next(c.width for c in columns if c.name == name) + _GAP
        columns = [c for c in columns if c.name != name]
    room = max(spare, 1)
    columns = [
        c._replace(cells=[_tail(cell, room) for cell in c.cells])
        if c.name == "path"
        else c
        for c in columns
    ]
    _print_columns(console, columns, [c.width for c in columns])


def _list_columns(rows: list[dict[str, Any]], *, has_year: bool) -> list[Column]:
    def texts(name: str) -> list[str]:
        return ["" if row[name] is None else printable(str(row[name])) for row in rows]

    def moment(at: datetime) -> str:
        text = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
        return text if has_year else text.partition("-")[2]

    took = [row["duration_ms"] for row in rows]
    return [
        Column("started (UTC)", [moment(row["started_at"]) for row in rows]),
        Column("id", [row["exchange_id"][-ID_WIDTH:] for row in rows]),
        Column("method", texts("method")),
        Column("path", texts("path")),
        Column("status", texts("status"), is_number=True),
        Column("dialect", texts("dialect")),
        Column("outcome", [text or "open" for text in texts("outcome")]),
        Column(
            "duration",
            ["" if ms is None else duration(round(ms * 1e6)) for ms in took],
            is_number=True,
        ),
        Column("frames", texts("frame_count"), is_number=True),
        Column("tools", texts("tool_call_count"), is_number=True),
        Column("size", [size(row["response_size"]) for row in rows], is_number=True),
    ]


def _tail(path: str, width: int) -> str:
    """Shorten a path; its end tells more than its beginning."""
    if cell_len(path) <= width:
        return path
    whole = [path[n:] for n, c in enumerate(path) if c == "/"]
    fitting = [end for end in whole if cell_len(end) < width]
    return "…" + fitting[0] if fitting else middle(path, width)


def _print_columns(
    console: Console, columns: Sequence[Column], widths: Sequence[int]
) -> None:
    table = Table(
        box=None, header_style="bold", pad_edge=False, padding=(0, _GAP, 0, 0)
    )
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


def _print_exchange(opened: Store, exchange: Exchange, *, with_frames: bool) -> None:
    console = Console(highlight=False)
    width = max(console.width, WIDTH_MIN)
    for line in heading(exchange, width):
        _print_line(console, _text(line))
    console.print()
    frames = opened.frames(exchange.exchange_id)
    if with_frames:
        for line in frame_lines(frames, width):
            _print_line(console, _text(line))
        return
    calls = opened.tool_calls(exchange.exchange_id)
    for row in waterfall(exchange, frames, calls, width):
        _print_line(console, _row_text(row))


def _text(line: Line) -> Text:
    return Text(line.text, line.style)


def _row_text(row: Row) -> Text:
    gap = " " * _GAP
    text = Text.assemble((row.time, "dim"), gap, row.label, gap)
    text.append(row.bar, row.style)
    text.append(gap + row.note)
    text.rstrip()
    return text


def _print_line(console: Console, text: Text) -> None:
    console.print(text, no_wrap=True, overflow="crop")


def _print_object(opened: Store, exchange_id: str) -> None:
    """Print an exchange as one object, its frames and tool calls in it."""

    def rows(table: str, order: str) -> list[dict[str, Any]]:
        query = f"FROM {table} WHERE exchange_id = ? ORDER BY {order}"
        return plain_rows(opened.sql(query, [exchange_id]))

    value = rows("exchanges", "exchange_id")[0]
    value["tool_calls"] = rows("tool_calls", "seq")
    value["frames"] = rows("frames", "seq")
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a shortened path in a file: let lines be as long as they are.
        console.width = 1 << 16
    return console
