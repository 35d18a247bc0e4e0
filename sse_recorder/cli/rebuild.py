"""`rebuild`: what dialects tell of old recordings, told anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import pyarrow as pa

from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    say,
    store_option_with,
)
from sse_recorder.store import cassette
from sse_recorder.store.rebuild.plan import Tally
from sse_recorder.store.rebuild.run import rebuild as rebuild_store
from sse_recorder.store.segment import Layout

_DIFFERENCES: Final = pa.schema(
    [
        ("column", pa.string()),
        ("before", pa.string()),
        ("after", pa.string()),
        ("count", pa.int64()),
    ]
)


@click.command()
@store_option_with("The folder of recordings.")
@option(
    "--dry-run",
    only_in="rebuild",
    is_flag=True,
    help="Only say what would change.",
)
@format_option
def rebuild(store: str, format_: str, *, dry_run: bool) -> int:
    """Tell anew, of old recordings, what a newer version understands better.

    Kinds of frames, tool calls, and what an exchange's model, session, usage and
    finish reason are, are read again from what is stored, by the dialects of this
    version and of the packages that are installed.  Bytes, times and requests stay as
    they are.  Only files in which something changes are written; it can be run beside
    recorders, and again when it was killed.  Exits with 1 if a segment cannot be read.

    \b
    sse-recorder rebuild --dry-run
    sse-recorder rebuild --store recordings
    """
    path = Path(store)
    if _is_of_cassettes(path):
        say(
            f"{path}: there is nothing to rebuild in a cassette; what dialects tell of"
            " it is not stored, and is read anew each time."
        )
        return 0
    tally = rebuild_store(path, is_dry=dry_run)
    rows = _rows(tally)
    if rows or format_ != "table":
        print_rows(pa.Table.from_pylist(rows, schema=_DIFFERENCES), format_)
    _say(tally, "would change" if dry_run else "changed")
    return int(bool(tally.problems))


def _is_of_cassettes(path: Path) -> bool:
    if path.is_dir():
        has_some = any(path.glob(f"*{cassette.SUFFIX}"))
        return has_some and not Layout(path).exists()
    return path.is_file()


def _rows(tally: Tally) -> list[dict[str, object]]:
    return [
        {
            "column": found.what,
            "before": found.before or None,
            "after": found.after or None,
            "count": count,
        }
        for found, count in sorted(tally.differences.items())
    ]


def _say(tally: Tally, verb: str) -> None:
    for problem in tally.problems:
        say(f"{problem}; `sse-recorder verify` says more, and it stays as it is.")
    for reason, count in sorted(tally.left.items()):
        say(f"{counted(count, 'exchange')} left as recorded: {reason}.")
    say(
        f"Read {counted(tally.exchanges, 'exchange')} in"
        f" {counted(tally.segments, 'segment')} anew:"
        f" {counted(tally.changed_exchanges, 'exchange')} {verb}, in"
        f" {counted(tally.changed_segments, 'segment')}."
    )


COMMANDS = (rebuild,)
