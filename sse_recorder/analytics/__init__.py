"""Named reports: one `.sql` file each, and the few lines that run them.

A report is a query over the views of a store: `exchanges`, `chunks`, `frames` and
`tool_calls`, and those that `store/views.sql` makes of them.  Its file runs as it is
in any DuckDB that has those views, so it can be copied, read and changed; here it is
run on a `Store`, on all of it or on some of its exchanges.

How it works
------------
The comment at the top of a file is part of the report: `-- By:` lists what it can be
grouped by, and each line `--   name: formula` says what a column or a measure means.
What to group by is DuckDB's variable `by`, which the view `grouped` reads; unset,
everything is one group named `all`.  `over_ns` and `limit` are variables, too.

Exchanges are selected without touching the query: it becomes a subquery, and common
table expressions outside it, named like the views, give it those rows alone.  The
alternative, views in a schema of their own, would leave something behind on a
connection that others use.

The variables do live on the store's connection while a report runs, so two threads need
a store each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final

import pyarrow as pa

from sse_recorder.clock import SYSTEM
from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store
from sse_recorder.store.views import views

_FORMULA = re.compile(r"^--   (\w[^:\n]*: .+)$", re.MULTILINE)
_BY = re.compile(r"^-- By: (.+)$", re.MULTILINE)
_AGE = re.compile(r"(\d{1,9})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# An exchange may have millions of frames: selecting them must not copy them.
_SELECTED: Final = """\
WITH exchanges AS (
SELECT * FROM main.exchanges WHERE {condition}
), chunks AS NOT MATERIALIZED (
SELECT * FROM main.chunks WHERE exchange_id IN (SELECT exchange_id FROM exchanges)
), frames AS NOT MATERIALIZED (
SELECT * FROM main.frames WHERE exchange_id IN (SELECT exchange_id FROM exchanges)
), tool_calls AS NOT MATERIALIZED (
SELECT * FROM main.tool_calls WHERE exchange_id IN (SELECT exchange_id FROM exchanges)
), {derived}
SELECT * FROM (
{query}
)"""
_DERIVED: Final = "{name} AS NOT MATERIALIZED (\n{query}\n)"


@dataclass(frozen=True, slots=True)
class Report:
    """What a report found."""

    table: pa.Table
    formulas: list[str]
    """What its columns and measures mean, one `name: formula` each."""


def names() -> list[str]:
    """Return the names of the reports."""
    found = (file.name for file in files(__name__).iterdir())
    return sorted(name.removesuffix(".sql") for name in found if name.endswith(".sql"))


def groupings(name: str) -> list[str]:
    """Return what a report can be grouped by.

    Raises:
        UsageError: there is no such report.
    """
    listed = _BY.search(_read(name))
    assert listed is not None
    return listed[1].split(", ")


def run(
    store: Store,
    name: str,
    *,
    by: str | None = None,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    where: str | None = None,
    over_ns: int | None = None,
    limit: int | None = None,
) -> Report:
    """Run a report on a store.

    Args:
        store: what to run it on.
        name: one of `names()`.
        by: one of `groupings(name)`; everything is one group without it.
        since: the first moment at which an exchange may have begun; see `condition`.
        until: the moment before which it began.
        where: an SQL condition on the table `exchanges`.
        over_ns: how long a silence is that is a stall; 2 s without it.
        limit: how many exchanges of a group `slow` has at most; 20 without it.

    Raises:
        UsageError: there is no such report, or an argument is wrong.
        StoreError: a file of the store is damaged.
    """
    query = _read(name)
    known = groupings(name)
    if by is not None and by not in known:
        raise UsageError(
            f"the report {name} cannot be grouped by {by!r}; choose {_one_of(known)}"
        )
    sql = _selecting(query, condition(store, since=since, until=until, where=where))
    with _variables(store, by=by, over_ns=over_ns, limit=limit):
        return Report(store.sql(sql), _FORMULA.findall(query))


def _selecting(query: str, selected: str) -> str:
    """Return a report's query over the exchanges that a condition selects."""
    if selected == "true":
        return query
    derived = ", ".join(
        _DERIVED.format(name=view.name, query=view.query) for view in views().values()
    )
    # DuckDB keeps the order of a subquery that is the only thing selected from.
    bare = query.rstrip().removesuffix(";")
    return _SELECTED.format(condition=selected, derived=derived, query=bare)


@contextmanager
def _variables(store: Store, **values: str | int | None) -> Iterator[None]:
    """Set variables for a while; those that are None are not set."""
    for name, value in values.items():
        # repr, of what was checked, is SQL's way to write it, too.
        statement = "RESET VARIABLE" if value is None else "SET VARIABLE"
        store.sql(f'{statement} "{name}"' + ("" if value is None else f" = {value!r}"))
    try:
        yield
    finally:
        for name in values:
            store.sql(f'RESET VARIABLE "{name}"')


def condition(
    store: Store,
    *,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    where: str | None = None,
) -> str:
    """Return the SQL condition on `exchanges` that selects some of a store.

    Args:
        store: where it will be used.
        since: a moment, as a datetime or in ISO 8601, or how long ago (`90s`, `15m`,
            `24h`, `7d`).  Without a zone it is UTC.
        until: the same; the moment itself is left out.
        where: another condition, in SQL.

    Raises:
        UsageError: an argument is wrong.
    """
    parts = []
    if since is not None:
        parts.append(f"started_at >= {_moment('since', since)}")
    if until is not None:
        parts.append(f"started_at < {_moment('until', until)}")
    if where is not None:
        _check_where(store, where)
        # On lines of its own, so that a comment in it ends.
        parts.append(f"(\n{where}\n)")
    return " AND ".join(parts) or "true"


def _read(name: str) -> str:
    known = names()
    if name not in known:
        raise UsageError(f"there is no report {name!r}; choose {_one_of(known)}")
    return files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _check_where(store: Store, where: str) -> None:
    """Let the database read a condition alone, so that its complaint is about it."""
    try:
        # Of nothing in brackets it would make a value.
        store.sql(f"FROM exchanges WHERE (true AND\n{where}\n) LIMIT 0")
    except UsageError as error:
        complaint = str(error.__cause__ or error).partition("\n")[0]
        raise UsageError(
            f"where {where!r}: {complaint}; give an SQL condition on the columns of"
            " exchanges, such as: status >= 400"
        ) from error


def _moment(name: str, value: datetime | str) -> str:
    """Return a moment as SQL."""
    try:
        at = _read_moment(value) if isinstance(value, str) else value
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (OverflowError, ValueError) as error:
        raise UsageError(
            f"{name} {value!r} is not a moment; write 2026-11-23,"
            " 2026-11-23T10:15:00Z, or how long ago: 90s, 15m, 24h, 7d"
        ) from error
    return f"TIMESTAMPTZ '{at.isoformat()}'"


def _read_moment(text: str) -> datetime:
    if age := _AGE.fullmatch(text):
        now = datetime.fromtimestamp(SYSTEM.wall_ns() / 1e9, UTC)
        return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
    return datetime.fromisoformat(text)


def _one_of(known: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
