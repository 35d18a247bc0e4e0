"""A prompt for SQL, in a terminal: line editing, history and Tab by readline.

    sql> SELECT kind, count(*)
    ...> FROM frames GROUP BY ALL;

A statement ends with `;` or an empty line.  Before each the store is looked at again,
so that what is being recorded is there.  Ctrl-C gives up what is being typed, or the
query that is running; Ctrl-D ends.  An error is told, and the prompt goes on.

The history lasts as long as the prompt: what is typed is written nowhere.  The prompt
is no data, so it goes to stderr where stdout is no terminal.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from sse_recorder.cli.base import messages, print_rows
from sse_recorder.cli.schema import by_table, columns_of
from sse_recorder.cli.sql_words import completions, is_statement
from sse_recorder.errors import SSERecorderError, UsageError
from sse_recorder.store.store import Store

_FIRST: Final = "sql> "
_NEXT: Final = "...> "
# All that is no part of a name.
_DELIMITERS: Final = " \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?."


def converse(store: Store, format_: str) -> None:
    """Answer what is typed until that ends.

    Args:
        store: what is asked.
        format_: one of those of `format_option`.
    """
    lines: list[str] = []
    if sys.stdout.isatty():  # or else lines are read without it
        _complete_names(store, lines)
    messages.print(
        "SQL over exchanges, chunks, frames, tool_calls; Tab completes, `;` or an empty"
        " line ends a statement, Ctrl-D ends."
    )
    while True:
        try:
            if (statement := _statement(lines)) is None:
                return
            store.refresh()
            print_rows(store.sql(statement), format_)
        except SSERecorderError as error:
            _tell(error)
        except KeyboardInterrupt:
            messages.print("interrupted")


def _statement(lines: list[str]) -> str | None:
    """Read a statement; None if there is none any more.

    Args:
        lines: where those that were read are gathered, for Tab to see them.
    """
    lines.clear()
    while True:
        try:
            line = _line(_NEXT if lines else _FIRST)
        except EOFError:
            messages.print()
            return None
        except KeyboardInterrupt:
            messages.print()
            lines.clear()
            continue
        if line.strip():
            lines.append(line)
        statement = "\n".join(lines)
        if lines and (not line.strip() or is_statement(statement)):
            return statement


def _line(prompt: str) -> str:
    if sys.stdout.isatty():
        return input(prompt)
    click.echo(prompt, nl=False, err=True)
    return input()


def _tell(error: SSERecorderError) -> None:
    """Say what is wrong, with the place that the database points at."""
    # What to do is on the last line, and known to who has a prompt.
    text = str(error)
    if isinstance(error, UsageError):
        text = text.rpartition("; ")[0] or text
    click.echo(text, err=True)


def _complete_names(store: Store, lines: list[str]) -> None:
    """Have Tab complete what a store has."""
    try:
        import readline  # noqa: PLC0415 - not every Python has it
    except ImportError:
        return
    found: list[str] = []

    def complete(_: str, number: int) -> str | None:
        """Return one of the names that a word may become, by its number."""
        if number == 0:
            typed = readline.get_line_buffer()[: readline.get_endidx()]
            tables = by_table(columns_of(store))
            found[:] = completions("\n".join([*lines, typed]), tables)
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(_DELIMITERS)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
