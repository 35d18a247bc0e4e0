"""Named reports: one `.sql` file each, and the few lines that run them.

A report is a query over the views `exchanges`, `chunks`, `frames` and `tool_calls`.
Its file runs as it is in any DuckDB that has those views, so it can be copied, read and
changed; here it is run on a `Store`, on all of it or on some of its exchanges.

How it works
------------
The comment at the top of a file is part of the report: `-- By:` lists what it can be
grouped by, and each line `--   name: formula` says what a column or a measure means.
What to group by is DuckDB's variable `by`, which the query reads; unset, everything is
one group named `all`.

Exchanges are selected without touching the query: it becomes a subquery, and common
table expressions outside it, named like the views, give it those rows alone.  The
alternative, views in a schema of their own, would leave something behind on a
connection that others use.

The variable does live on the store's connection while a report runs, so two threads
need a store each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final

import pyarrow as pa

from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store

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
)
SELECT * FROM (
{query}
)"""


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
) -> Report:
    """Run a report on a store.

    Args:
        store: what to run it on.
        name: one of `names()`.
        by: one of `groupings(name)`; everything is one group without it.
        since: the first moment at which an exchange may have begun; see `condition`.
        until: the moment before which it began.
        where: an SQL condition on the table `exchanges`.

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
    selected = condition(store, since=since, until=until, where=where)
    if selected != "true":
        # DuckDB keeps the order of a subquery that is the only thing selected from.
        bare = query.rstrip().removesuffix(";")
        sql = _SELECTED.format(condition=selected, query=bare)
    else:
        sql = query
    store.sql(f"SET VARIABLE \"by\" = '{by}'" if by else 'RESET VARIABLE "by"')
    try:
        return Report(store.sql(sql), _FORMULA.findall(query))
    finally:
        store.sql('RESET VARIABLE "by"')


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
        store.sql(f"FROM exchanges WHERE (\n{where}\n) LIMIT 0")
    except UsageError as error:
        complaint = str(error).partition("\n")[0]
        raise UsageError(
            f"where {where!r}: {complaint}; give an SQL condition on the columns of"
            " exchanges, such as: status >= 400"
        ) from error


def _moment(name: str, value: datetime | str) -> str:
    """Return a moment as SQL."""
    if isinstance(value, str):
        if age := _AGE.fullmatch(value):
            return f"now() - INTERVAL '{age[1]} {_UNITS[age[2]]}'"
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise UsageError(
                f"{name} {value!r} is not a moment; write 2026-11-23,"
                " 2026-11-23T10:15:00Z, or how long ago: 90s, 15m, 24h, 7d"
            ) from error
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat()}'"


def _one_of(known: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
