"""What the commands share: options, output, and how errors are told.

Data goes to stdout, messages and progress to stderr.  A command that fails says why in
one line, and what to do, and exits with the code that the error's class has.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any, Final, TypeVar

import click
import pyarrow as pa
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sse_recorder import config
from sse_recorder.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

messages = Console(stderr=True, highlight=False)
"""Where messages for people go."""

_UNLIMITED: Final = 1 << 30


class Option(click.Option):
    """An option that can also be set in the environment and in a file.

    Args:
        only_in: the command in which alone the name means this.  Then neither the
            variable nor the setting is shared with other commands: it is
            `SSE_RECORDER_EXPORT_FORMAT`, and `format` below `[export]`.
    """

    def __init__(self, *args: Any, only_in: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = max(self.opts, key=len).removeprefix("--")
        self.envvar = config.variable(f"{only_in}-{name}" if only_in else name)
        assert self.name is not None
        self.setting = config.Setting(name, self.name, is_shared=only_in is None)

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        """Find what is set; what a file has is read as the command line would be."""
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.DEFAULT_MAP:
            value = self._as_typed(ctx, value)
        return value, source

    def _as_typed(self, ctx: click.Context, value: Any) -> Any:
        """Return numbers as text, and one of several, without brackets, as a list."""
        if self.multiple:
            several = value if isinstance(value, list) else [value]
            return [str(one) for one in several]
        if isinstance(value, list | dict):
            message = f"{value!r} is not one value: give text or a number"
            raise click.BadParameter(message, ctx, self)
        return value if isinstance(value, bool) else str(value)


class Lines(click.types.StringParamType):
    """Text that may hold spaces: several in a variable stand in lines of their own."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Return the lines."""
        return [line for line in rv.splitlines() if line]


class Read(click.ParamType[Any]):
    """What the library reads, and explains when it cannot."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return what the library makes of a text."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except UsageError as error:
            raise click.BadParameter(str(error), ctx, param) from None


def option(*names: str, **attributes: Any) -> Callable[[F], F]:
    """Declare an option of a command."""
    return click.option(*names, cls=Option, **attributes)


def store_option_with(help_: str) -> Callable[[F], F]:
    """Declare `--store`, in a command that does something of its own with it."""
    return option(
        "--store",
        metavar="PATH",
        default="recordings",
        show_default=True,
        callback=_refuse_nothing,
        help=help_,
    )


def _refuse_nothing(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse a path of no characters, which would be that of the current folder."""
    if not value:
        message = "'' names nothing: give a folder or a cassette, or . for this folder"
        raise click.BadParameter(message, ctx, param)
    return value


store_option = store_option_with("The folder of recordings, or a cassette.")


def rule_options(command: F) -> F:
    """Declare the options that extend the rules of redaction."""
    for declare in (
        option(
            "--redact-pattern",
            "patterns",
            metavar="REGEX",
            multiple=True,
            type=Lines(),
            help="What else is secret in bodies, or its group 1; may be repeated (in"
            " the variable: one a line).",
        ),
        option(
            "--redact-keep",
            "keep",
            metavar="NAME",
            multiple=True,
            help="A header, parameter or field that is not; may be repeated.",
        ),
        option(
            "--redact",
            "mask",
            metavar="NAME",
            multiple=True,
            help="One more header, parameter or field that is secret; may be repeated.",
        ),
    ):
        command = declare(command)
    return command


format_option = option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="How rows are printed.",
)


def say(message: str) -> None:
    """Print one message for people."""
    # A path may hold what rich takes for markup; a line in a log is not to be wrapped.
    messages.print(message, markup=False, soft_wrap=not messages.is_terminal)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: `1 exchange`, `2 exchanges`."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def print_rows(table: pa.Table, format_: str) -> None:
    """Print rows to stdout in one of the formats of `format_option`."""
    table = table.rename_columns(_distinct(table.column_names))
    rows = plain_rows(table)
    match format_:
        case "json":
            click.echo(json.dumps(rows, ensure_ascii=False, indent=1))
        case "jsonl":
            for row in rows:
                click.echo(json.dumps(row, ensure_ascii=False))
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(table.column_names)
            writer.writerows([_cell(value) for value in row.values()] for row in rows)
        case _:
            print_table(table.column_names, (row.values() for row in rows))


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON can hold them: times in ISO 8601, bytes in base64."""
    columns = {
        name: [_plain(value) for value in _values(name, column)]
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    names = list(columns)
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def print_table(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Print rows for people; as plain text where stdout is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a wrapped column in a file: let lines be as long as they are.
        console.width = _UNLIMITED
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(Text(_harmless(name)), overflow="fold")
    count = 0
    for row in rows:
        table.add_row(*(Text(_harmless(_cell(value))) for value in row))
        count += 1
    console.print(table if count else "(no rows)")


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are equal: SQL may call two columns the same."""
    found: list[str] = []
    for name in names:
        candidate, count = name, 0
        while candidate in found:
            count += 1
            candidate = f"{name}_{count}"
        found.append(candidate)
    return found


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetime has no nanoseconds, text has.
        text = column.cast(pa.string()).to_pylist()
        return [value and value.replace(" ", "T") for value in text]
    try:
        return list(column.to_pylist(maps_as_pydicts="lossy"))
    except (OverflowError, ValueError) as error:  # `infinity`, or the year 290,000
        raise UsageError(
            f"column {name!r} holds a time that cannot be printed ({error}); select it"
            f" as text: {name}::VARCHAR"
        ) from error


def _plain(value: Any) -> Any:
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            # JSON has no word for the others.
            return value if math.isfinite(value) else None
        case Decimal():
            # What sums of integers are to DuckDB has no digits behind the point.
            is_whole = value.as_tuple().exponent == 0
            return int(value) if is_whole else float(value)
        case bytes():
            return b64encode(value).decode()
        case date() | time():
            return value.isoformat().replace("+00:00", "Z")
        case pa.MonthDayNano():
            seconds = Decimal(value.nanoseconds) / 10**9
            return f"P{value.months}M{value.days}DT{seconds.normalize():f}S"
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _harmless(text: str) -> str:
    """Return text with what could control a terminal written out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
