"""What Tab offers for an argument: words of SQL, names of tables, ids of exchanges.

No recording is read for SQL, for every store has the same columns; ids are read from
the store that the line names.
"""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import CompletionItem

from sse_recorder.cli.completing import SQL
from sse_recorder.cli.schema import by_table, columns_without_recordings, row_of
from sse_recorder.cli.sql_words import completions
from sse_recorder.cli.waterfall import printable
from sse_recorder.store.store import Store

_NO_SQL: Final = CompletionItem("", SQL)
"""It has no value, and says that no name of a file is due either."""
# Ids of a foreign cassette may be anything, and a line is what a shell runs.
_IDS: Final = """
SELECT
    CASE WHEN starts_with(short, $1) THEN short ELSE exchange_id END AS id,
    concat_ws(' ', method, path, strftime(started_at, '%Y-%m-%d %H:%M:%S')) AS meaning
FROM (SELECT *, right(exchange_id, 8) AS short FROM exchanges)
WHERE (starts_with(short, $1) OR starts_with(exchange_id, $1))
    AND regexp_full_match(exchange_id, '[0-9A-Za-z-]+')
ORDER BY started_at DESC
LIMIT 100
"""


def sql(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - click's
    incomplete: str,
) -> list[CompletionItem[str]]:
    """Complete SQL; or names of tables, where these are to be explained."""
    columns = columns_without_recordings()
    tables = by_table(columns)
    if ctx.params.get("explain_schema"):
        before, comma, typed = incomplete.rpartition(",")
        names = [name for name in tables if name.startswith(typed)]
        return [CompletionItem(before + comma + name) for name in names] or [_NO_SQL]
    meanings = {column.column: column.meaning for column in reversed(columns)}
    meanings |= {name: row_of(name) for name in tables}
    words = completions(incomplete, tables)
    return [CompletionItem(w, SQL, meanings.get(w)) for w in words] or [_NO_SQL]


def exchange(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - click's
    incomplete: str,
) -> list[CompletionItem[str]]:
    """Complete the id of an exchange: its end, as `ls` shows it, or its beginning."""
    with Store.open(ctx.params.get("store") or "recordings") as store:
        found = store.sql(_IDS, [incomplete]).to_pylist()
    return [CompletionItem(row["id"], help=printable(row["meaning"])) for row in found]
