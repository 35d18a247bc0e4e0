"""`export`, `verify` and `recover`: what is done with recordings as files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import click
import pyarrow as pa

from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    say,
    store_option,
    store_option_with,
)
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.store import cassette
from sse_recorder.store.atomic import replacing
from sse_recorder.store.recovery import Decision
from sse_recorder.store.recovery import recover as recover_store
from sse_recorder.store.store import Store
from sse_recorder.store.verify import Finding, Tally
from sse_recorder.store.verify import verify as verify_source

_FINDINGS: Final = pa.schema(
    [
        (name, pa.string())
        for name in ("level", "file", "exchange_id", "check", "problem", "remedy")
    ]
)


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@store_option
@option(
    "--format",
    "format_",
    only_in="export",
    type=click.Choice(["cassette", "raw"]),
    default="cassette",
    show_default=True,
    help="Text that can be replayed and reviewed, or the bodies, byte for byte.",
)
@option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    only_in="export",
    help="Write there instead of to stdout; a file that is there is replaced.  Only"
    " its owner may read it.",
)
def export(ids: tuple[str, ...], store: str, format_: str, output: Path | None) -> None:
    """Write exchanges as a cassette, or their raw bodies.

    ID may be a few characters from the beginning or the end of an exchange's id.
    Without one, every exchange that is over is exported.

    \b
    sse-recorder export 4f2a91c0 -o tests/chat.sse.jsonl
    sse-recorder export 4f2a91c0 --format raw | less
    """
    with Store.open(store) as opened:
        chosen = (
            [opened.exchange(name) for name in ids]
            if ids
            else list(opened.exchanges("outcome IS NOT NULL"))
        )
        for exchange in chosen:
            if exchange.outcome is None:
                raise UsageError(
                    f"exchange {exchange.exchange_id} is still open; export it when it"
                    " has ended"
                )
        if not chosen:
            say("No exchange is over yet, so there is nothing to export.")
            return
        with _writing_to(output) as file:
            for exchange in chosen:
                if format_ == "raw":
                    file.write(opened.body(exchange.exchange_id))
                else:
                    chunks = opened.chunks(exchange.exchange_id)
                    file.write(cassette.dumps(exchange, chunks).encode())
    if output is not None:
        say(f"Wrote {counted(len(chosen), 'exchange')} to {output}.")


@contextmanager
def _writing_to(output: Path | None) -> Iterator[IO[bytes]]:
    """Open stdout, or a file that nobody else may read and that is there when whole."""
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        if output.exists() and not output.is_file():
            with output.open("wb") as file:  # a pipe, or /dev/null
                yield file
        else:
            with replacing(output) as file:
                yield file
    except OSError as error:
        raise StoreError(
            f"{output}: {error.strerror}; name a file that can be written with --output"
        ) from error


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@store_option
@format_option
def verify(sources: tuple[str, ...], store: str, format_: str) -> int:
    """Check that recordings are whole: files, checksums, and what they say of another.

    SOURCE is a store, a cassette, or a folder of cassettes; without one it is the
    store.  Every byte is read, and the bytes of each exchange are parsed again and
    compared with its rows.  Exits with 1 when there are problems; warnings are none.

    \b
    sse-recorder verify
    sse-recorder verify tests/cassettes/*.sse.jsonl
    """
    tally = Tally()
    rows = [
        _finding_row(finding)
        for source in sources or (store,)
        for finding in verify_source(Path(source), tally)
    ]
    if rows or format_ != "table":
        print_rows(pa.Table.from_pylist(rows, schema=_FINDINGS), format_)
    warnings = sum(row["level"] == "warning" for row in rows)
    problems = len(rows) - warnings
    say(
        f"Checked {counted(tally.files, 'file')} with"
        f" {counted(tally.exchanges, 'exchange')} in {tally.size:,} bytes:"
        f" {counted(problems, 'problem') if problems else 'no problems'}"
        + f", {counted(warnings, 'warning')}" * bool(warnings)
        + "."
    )
    return int(bool(problems))


def _finding_row(finding: Finding) -> dict[str, str | None]:
    return {
        "level": "warning" if finding.is_warning else "problem",
        "file": finding.file,
        "exchange_id": finding.exchange_id,
        "check": finding.check,
        "problem": finding.problem,
        "remedy": finding.remedy,
    }


@click.command()
@store_option_with("The folder of recordings.")
def recover(store: str) -> int:
    """Make what a crash left in a store part of it.

    The next recorder does this too when it starts; this command does it without one.
    It can be run at any time, beside living recorders, and leaves theirs alone.

    \b
    sse-recorder recover --store recordings
    """
    if not Path(store).is_dir():
        raise StoreError(
            f"{store}: not a folder, and nothing else can need recovering; name a"
            " store with --store"
        )
    found = recover_store(Path(store))
    for item in found:
        cut = f", {item.cut} of them cut" if item.cut else ""
        count = f" ({counted(item.exchanges, 'exchange')}{cut})" * bool(item.exchanges)
        click.echo(f"{item.segment} {item.decision.value}{count}")
    if not found:
        say("Nothing to recover.")
    return int(any(item.decision is Decision.REPORT for item in found))


COMMANDS = (export, verify, recover)
