"""`export` and `recover`: what is done with recordings as files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from sse_recorder.cli.base import counted, option, say, store_option, store_option_with
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.store import cassette
from sse_recorder.store.recovery import Decision
from sse_recorder.store.recovery import recover as recover_store
from sse_recorder.store.store import Store


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
    help="Write there instead of to stdout; a file that is there is replaced.",
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
    """Open a file, or stdout."""
    if output is None:
        yield sys.stdout.buffer
        return
    try:
        with output.open("wb") as file:
            yield file
    except OSError as error:
        raise StoreError(
            f"{output}: {error.strerror}; name a file that can be written with --output"
        ) from error


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


COMMANDS = (export, recover)
