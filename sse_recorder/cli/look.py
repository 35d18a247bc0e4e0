"""`ls` and `show`: what a store has in it, and one exchange.

Tables are for people: numbers are rounded, ids and paths are shortened, and nothing is
wider than the terminal.  The other formats are for programs, and have everything as it
is in the tables.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from sse_recorder import analytics
from sse_recorder.cli import candidates
from sse_recorder.cli.base import (
    format_option,
    option,
    plain_rows,
    print_rows,
    store_option,
)
from sse_recorder.cli.columns import GAP, Column, print_columns, wide_console
from sse_recorder.cli.waterfall import (
    WIDTH_MIN,
    Line,
    Row,
    Stall,
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
# A terminal too narrow for `ls` does without these, the first of them first.
_DISPENSABLE: Final = ("dialect", "method", "frames", "size")
_LS_COLUMNS: Final = (
    "started_at, exchange_id, method, path, status, dialect, outcome,"
    " ended_ns / 1e6 AS duration_ms, frame_count, tool_call_count, response_size"
)
_STALLS: Final = (
    "SELECT begin_ns, end_ns, state FROM stalls"
    " WHERE exchange_id = ? AND state <> 'tool_running'"
)
_YEAR_FROM_WIDTH: Final = 100


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
@click.argument("name", metavar="ID", shell_complete=candidates.exchange)
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


COMMANDS: Final = (list_, show)


def _print_list(rows: list[dict[str, Any]]) -> None:
    console = wide_console()
    columns = _list_columns(rows, has_year=console.width >= _YEAR_FROM_WIDTH)
    spare = console.width - sum(c.width + GAP for c in columns if c.name != "path")
    wanted = next(c.width for c in columns if c.name == "path")
    for name in _DISPENSABLE:
        if spare >= min(wanted, _PATH_WIDTH_MIN):
            break
        spare += next(c.width for c in columns if c.name == name) + GAP
        columns = [c for c in columns if c.name != name]
    room = max(spare, 1)
    columns = [
        replace(c, cells=[_tail(cell, room) for cell in c.cells])
        if c.name == "path"
        else c
        for c in columns
    ]
    print_columns(console, columns, [c.width for c in columns])


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
    found = opened.sql(_STALLS, [exchange.exchange_id]).to_pylist()
    stalls = [Stall(**row) for row in found]
    for row in waterfall(exchange, frames, calls, width, stalls):
        _print_line(console, _row_text(row))


def _text(line: Line) -> Text:
    return Text(line.text, line.style)


def _row_text(row: Row) -> Text:
    gap = " " * GAP
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
