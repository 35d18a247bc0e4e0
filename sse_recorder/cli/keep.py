"""`export` and `recover`: what is done with recordings as files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sse_recorder.cli.base import messages, option, store_option
from sse_recorder.errors import UsageError
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
    type=click.Choice(["cassette", "raw"]),
    default="cassette",
    show_default=True,
    help="Text that can be replayed and reviewed, or the bodies as on the wire.",
)
@option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there instead of to stdout.",
)
def export(ids: tuple[str, ...], store: str, format_: str, output: Path | None) -> None:
    """Write exchanges as a cassette, or their raw bodies.

    ID may be a few characters from the beginning or the end of an exchange's id.
    Without one, every exchange that is over is exported.

    \b
    sse-recorder export 4f2a91c0 -o tests/chat.sse.jsonl
    sse-recorder export 4f2a91c0 --format raw
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
        with click.open_file(str(output or "-"), "wb") as file:
            for exchange in chosen:
                if format_ == "raw":
                    file.write(opened.body(exchange.exchange_id))
                else:
                    chunks = opened.chunks(exchange.exchange_id)
                    file.write(cassette.dumps(exchange, chunks).encode())
    if output is not None:
        messages.print(f"Wrote {len(chosen)} exchanges to {output}.")


@click.command()
@store_option
def recover(store: str) -> None:
    """Seal what a crash left in a store.

    A recorder does this when it starts; this command does it without one.  It can be
    run at any time, beside living recorders.

    \b
    sse-recorder recover --store recordings
    """
    if not Path(store).is_dir():
        raise UsageError(f"{store}: no such folder; name a store with --store")
    found = recover_store(Path(store))
    for item in found:
        cut = f", {item.cut} of them cut" if item.cut else ""
        count = f" ({item.exchanges} exchanges{cut})" if item.exchanges else ""
        click.echo(f"{item.segment} {item.decision.value}{count}")
    if not found:
        messages.print("Nothing to recover.")
    if any(item.decision is Decision.REPORT for item in found):
        sys.exit(1)


COMMANDS = (export, recover)
