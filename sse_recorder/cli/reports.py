"""`latency` and `tools`: the reports.

A table for people has rounded numbers, is no wider than the terminal, and is followed
by its formulas.  The other formats have the rows as the query gives them.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

import click
import pyarrow as pa
from rich.text import Text

from sse_recorder import analytics
from sse_recorder.cli.base import format_option, option, print_rows, store_option
from sse_recorder.cli.columns import GAP, Column, number, print_columns, wide_console
from sse_recorder.cli.waterfall import cut, middle, printable
from sse_recorder.store.store import Store

# Counts of calls that share a column, because most of them are zero.
_TROUBLES: Final = ("error", "unanswered", "superseded", "unmatched")
_TOOL_WIDTH_MIN: Final = 12


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


COMMANDS: Final = (latency, tools)


def print_report(report: analytics.Report, format_: str) -> None:
    """Print a report to stdout in one of the formats of `format_option`.

    As a table it is followed by its formulas, and each group stands under its name.
    """
    if format_ != "table" or not report.table.num_rows:
        print_rows(report.table, format_)
        return
    console = wide_console()
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
        print_columns(
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
            cells = list(map(number, values))
            columns.append(Column(title, cells, is_number=True))
    if troubles:
        cells = ["\n".join(filter(None, row)) for row in zip(*troubles, strict=True)]
        columns.append(Column("not ok", cells))
    first, *others = columns
    room = max(width - sum(c.width + GAP for c in others), _TOOL_WIDTH_MIN)
    return [first._replace(cells=[cut(c, room) for c in first.cells]), *others]
