"""`query`: SQL over what was recorded, from the command line, a file or a prompt."""

from __future__ import annotations

import sys
from typing import Final

import click

from sse_recorder.cli import candidates
from sse_recorder.cli.base import format_option, option, print_rows, store_option
from sse_recorder.cli.prompt import converse
from sse_recorder.cli.schema import columns_of, explain
from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store


@click.command()
@click.argument("sql", required=False, shell_complete=candidates.sql)
@option(
    "--explain-schema",
    is_flag=True,
    help="Explain all columns instead, or those of the tables that are named in place"
    " of SQL, with commas between them.",
)
@store_option
@format_option
def query(sql: str | None, store: str, format_: str, *, explain_schema: bool) -> None:
    """Run DuckDB SQL over exchanges, chunks, frames and tool_calls.

    Without SQL it is read from stdin; of several statements the last one's rows are
    printed. In a terminal there is a prompt: a statement ends with a semicolon or an
    empty line, Tab completes, Ctrl-D ends.

    \b
    sse-recorder query "SELECT path, count(*) AS n FROM exchanges GROUP BY ALL"
    sse-recorder query "SELECT tool_name, arguments FROM tool_calls
                        WHERE status = 'error'" --format json
    sse-recorder query < report.sql
    sse-recorder query --explain-schema tool_calls
    """
    with Store.open(store) as opened:
        if explain_schema:
            explain(columns_of(opened), sql, format_)
        elif sql is None and sys.stdin.isatty():
            converse(opened, format_)
        else:
            print_rows(opened.sql(_from_stdin() if sql is None else sql), format_)


def _from_stdin() -> str:
    try:
        sql = sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 ({error}); convert it") from error
    if not sql.strip():
        raise UsageError(
            'no SQL: give it as an argument, such as "FROM exchanges", or on stdin'
        )
    return sql


COMMANDS: Final = (query,)
