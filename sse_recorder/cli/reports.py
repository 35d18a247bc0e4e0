"""`latency`, `tools`, `stalls`, `errors`, `usage` and `slow`: the reports.

A table for people has rounded numbers, is no wider than the terminal, and is followed
by its formulas.  The other formats have the rows as the query gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, TypeVar

import click
import pyarrow as pa
from rich.console import Console
from rich.text import Text

from sse_recorder import analytics
from sse_recorder.cli.base import Read, format_option, option, print_rows, store_option
from sse_recorder.cli.columns import GAP, Column, number, print_columns, wide_console
from sse_recorder.cli.look import ID_WIDTH
from sse_recorder.cli.waterfall import cut, middle, printable
from sse_recorder.clock import duration_ns
from sse_recorder.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])

# Counts of calls that share a column, because most of them are zero.
_TROUBLES: Final = ("error", "unanswered", "superseded", "unmatched")
_TEXT_WIDTH_MIN: Final = 12
# What a terminal too narrow for everything does without, the first of them first.
_DISPENSABLE: Final = (
    *("path", "started_at", "last", "share_pct", "major", "p90_ms", "client_p90_ms"),
)
# What is cut where that is not enough: what a peer or a user has named.
_TEXTS: Final = {"tool_name", "detail", "reason", "path"}
# What is left out then, because half a number is worse than none.
_NUMBERS: Final = (
    *("client_p99_ms", "p99_ms", "total_ms", "client_p95_ms", "p95_ms", "exchanges"),
    *("usual_ms", "over_ms", "client_max_ms", "max_ms", "p99", "p95", "p90"),
)
_IDS: Final = ("exchange_id", "latest_in", "worst")


def _selection(name: str) -> Callable[[F], F]:
    """Declare the options that every report has."""

    def declare(command: F) -> F:
        for add in (
            format_option,
            option(
                "--where",
                metavar="SQL",
                help="Only exchanges for which this is true, in SQL.",
            ),
            option(
                "--until", metavar="TIME", help="Only exchanges that began before it."
            ),
            option(
                "--since",
                metavar="TIME",
                help="Only exchanges that began at or after it: 2026-11-23,"
                " 2026-11-23T10:15:00Z, or how long ago (15m, 24h, 7d).  UTC without"
                " a zone.",
            ),
            option(
                "--by",
                type=click.Choice(analytics.groupings(name)),
                help="Make groups.  Days and hours are UTC; by tool, an exchange is in"
                " the group of every tool that it called.",
            ),
            store_option,
        ):
            command = add(command)
        return command

    return declare


@click.command()
@_selection("latency")
def latency(store: str, format_: str, **selection: Any) -> None:
    """Report where time went: first byte, first content, gaps, tools, the whole.

    Counts exchanges that have ended.  The formulas are printed below the table.

    \b
    sse-recorder latency --by model --since 24h
    sse-recorder latency --where "outcome = 'complete' AND status = 200"
    """
    _run("latency", store, format_, **selection)


@click.command()
@_selection("tools")
def tools(store: str, format_: str, **selection: Any) -> None:
    """Report which tools ran, how they ended and how long they took.

    Counts calls of exchanges that have ended.  The formulas are printed below the
    table.

    \b
    sse-recorder tools --by day --since 7d
    sse-recorder tools --where "session_id = '0193a0c4'" --format csv
    """
    _run("tools", store, format_, **selection)


@click.command()
@_selection("stalls")
@option(
    "--over",
    "over_ns",
    type=Read("duration", duration_ns),
    metavar="TIME",
    help="How long a silence is that is a stall, such as 500ms or 10s; 2s without it.",
)
def stalls(store: str, format_: str, **selection: Any) -> None:
    """Report silences: when nothing came that says something, and in which state.

    Comments, keep-alives and status end no silence.  While a tool is open it is the
    tool's time, and no stall.

    \b
    sse-recorder stalls --by model
    sse-recorder stalls --over 500ms --since 24h
    """
    _run("stalls", store, format_, **selection)


@click.command()
@_selection("errors")
def errors(store: str, format_: str, **selection: Any) -> None:
    """Report what went wrong: refusals, broken streams, errors in them, failed tools.

    An exchange may have several problems.  `show` draws the latest of each, whose id
    is in the last column.

    \b
    sse-recorder errors --since 24h
    sse-recorder errors --by model --format json
    """
    _run("errors", store, format_, **selection)


@click.command()
@_selection("usage")
def usage(store: str, format_: str, **selection: Any) -> None:
    """Report tokens, bytes and frames, and how fast they came.

    Tokens are those that the API reported, never an estimate.

    \b
    sse-recorder usage --by model --since 7d
    sse-recorder usage --by session --format csv
    """
    _run("usage", store, format_, **selection)


@click.command()
@_selection("slow")
@option(
    "--limit",
    type=click.IntRange(min=1),
    help="At most so many of each group; 20 without it.",
)
def slow(store: str, format_: str, **selection: Any) -> None:
    """List the exchanges that took longest, each with the part that made it slow.

    What is usual is the median of the group, so make groups (--by) where exchanges
    differ in what they do.

    \b
    sse-recorder slow --since 24h
    sse-recorder slow --by model --limit 5
    """
    _run("slow", store, format_, **selection)


COMMANDS: Final = (latency, tools, stalls, errors, usage, slow)


def _run(name: str, store: str, format_: str, **selection: Any) -> None:
    with Store.open(store) as opened:
        print_report(analytics.run(opened, name, **selection), format_)


def print_report(report: analytics.Report, format_: str) -> None:
    """Print a report to stdout in one of the formats of `format_option`.

    As a table it is followed by its formulas, and each group stands under its name.
    """
    if format_ != "table":
        print_rows(report.table, format_)
        return
    console = wide_console()
    if report.table.num_rows:
        _print_groups(report.table, console)
    else:
        console.print("(no rows)\n")
    for formula in report.formulas:
        console.print(Text(formula, "dim"))


def _print_groups(table: pa.Table, console: Console) -> None:
    columns = _fitting(dict(_columns(table)), console.width)
    widths = [column.width for column in columns]
    groups = table.column("group").to_pylist()
    # The only group, and groups named like their rows, need no name above them.
    is_plain = set(groups) == {"all"} or groups == table.column(1).to_pylist()
    for group, numbers in groupby(
        range(len(groups)), key=lambda n: "" if is_plain else groups[n]
    ):
        if group:
            title = middle(printable(group), console.width)
            console.print(Text(title, "bold cyan"))
        chosen = list(numbers)
        print_columns(
            console,
            [replace(c, cells=[c.cells[n] for n in chosen]) for c in columns],
            widths,
        )
        console.print()


def _columns(table: pa.Table) -> Iterator[tuple[str, Column]]:
    """Give the columns of a report for people by their names, without its groups."""
    troubles = []
    for name in table.column_names[1:]:
        values = table.column(name).to_pylist()
        if name.startswith("client_") and not any(values):
            continue
        if name in _TROUBLES:
            troubles.append([f"{n:,} {name}" if n else "" for n in values])
        else:
            yield name, _column(name, values)
    if troubles:
        cells = ["\n".join(filter(None, row)) for row in zip(*troubles, strict=True)]
        yield "not ok", Column("not ok", cells)


def _column(name: str, values: list[Any]) -> Column:
    title = name.replace("client_", "client\n").replace("_pct", " %").replace("_", " ")
    if name.endswith("_pct"):
        return Column(title, [f"{value:.1f}" for value in values], is_number=True)
    if name in _IDS:
        return Column("id" if name == "exchange_id" else title, _ends(values))
    match next((value for value in values if value is not None), None):
        case str():
            return Column(title, [printable(value or "") for value in values])
        case datetime():
            return Column(f"{title} (UTC)", [_moment(value) for value in values])
        case _:
            return Column(title, list(map(number, values)), is_number=True)


def _ends(ids: list[str]) -> list[str]:
    return [one[-ID_WIDTH:] for one in ids]


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _fitting(columns: dict[str, Column], width: int) -> list[Column]:
    """Return columns that fit a width: some left out, texts cut, as far as need be."""

    def excess() -> int:
        return sum(column.width + GAP for column in columns.values()) - GAP - width

    def leave_out(names: Iterable[str]) -> None:
        for name in names:
            if excess() > 0:
                columns.pop(name, None)

    if excess() > 0:
        columns = {
            name: replace(column, name=column.name.replace(" ", "\n"))
            for name, column in columns.items()
        }
    leave_out(_DISPENSABLE)
    for name in sorted(_TEXTS & columns.keys(), key=lambda n: -columns[n].width):
        column = columns[name]
        room = max(column.width - max(excess(), 0), _TEXT_WIDTH_MIN)
        columns[name] = replace(column, cells=[cut(c, room) for c in column.cells])
    leave_out(_NUMBERS)
    return list(columns.values())
