"""`query`: SQL over what was recorded."""

from __future__ import annotations

from typing import Final

import click

from sse_recorder.cli.base import format_option, print_rows, store_option
from sse_recorder.store.store import Store


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


COMMANDS: Final = (query,)
