"""`import`: other tools' recordings, as cassettes or as a part of a store.

It reads what `sse_recorder.imports` knows, masks it, and writes a cassette or a segment
of a store.  An exchange has the same id whenever and wherever its file is imported, so
that doing it twice makes the same cassette, and adds nothing to a store.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any, Final

import click

from sse_recorder import imports
from sse_recorder.cli.base import counted, option, rule_options, say
from sse_recorder.clock import SYSTEM
from sse_recorder.dialects.conversations import Part, rebuilt
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Outcome, Record, records_of
from sse_recorder.redact import Redactor
from sse_recorder.store import cassette
from sse_recorder.store.segment import Layout, OpenSegment, new_segment_name
from sse_recorder.store.store import Store
from sse_recorder.tables import Rows

# Within text the quotes are escaped, so this is the key and nothing else.
_STARTED_AT: Final = re.compile(r'"started_at": "[^"]*"')
_file = click.Path(dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=_file, metavar="FILE...")
@option(
    "--output",
    "-o",
    metavar="CASSETTE",
    type=_file,
    only_in="import",
    help="One cassette for all; a file that is there is replaced.  By default each"
    f" FILE gets its own beside it, NAME{cassette.SUFFIX}.",
)
@option(
    "--store",
    metavar="DIR",
    only_in="import",
    help="Add the exchanges to this folder of recordings instead.",
)
@option(
    "--format",
    "format_",
    only_in="import",
    type=click.Choice(imports.FORMATS),
    help="What wrote FILE, where its content does not tell.",
)
@option("--url", only_in="import", help="Of the request, for curl's output.")
@option("--method", only_in="import", help="Of the request, for curl's output.")
@option(
    "--body",
    type=_file,
    only_in="import",
    help="What curl printed, for a --trace-ascii, which has not all bytes.",
)
@option(
    "--stamps/--no-stamps",
    default=None,
    only_in="import",
    help="Whether `ts` wrote what the lines of curl's output begin with; told by it"
    " otherwise.",
)
@rule_options
def import_(
    files: tuple[Path, ...],
    *,
    output: Path | None,
    store: str | None,
    format_: imports.Format | None,
    url: str | None,
    method: str | None,
    body: Path | None,
    stamps: bool | None,
    mask: tuple[str, ...],
    keep: tuple[str, ...],
    patterns: tuple[str, ...],
) -> None:
    """Make cassettes of other tools' recordings: HAR, VCR.py, curl.

    FILE is a HAR, a cassette of VCR.py or pytest-recording (YAML or JSON), or what
    `curl -N` printed: the body, with heads (-i), with time stamps (`| ts -s '%.s'`), or
    its trace (--trace, --trace-ascii, --trace-time).  Bodies come over byte for byte,
    with the times that FILE has; secrets are masked as while recording.

    \b
    sse-recorder import devtools.har
    sse-recorder import tests/cassettes/*.yaml -o tests/chats.sse.jsonl
    sse-recorder import chat.txt --url https://api.meibel.ai/v2/chat --method POST
    """
    if output is not None and store is not None:
        raise UsageError("--output is a cassette and --store a folder: name one")
    redactor = Redactor(mask=mask, keep=keep, patterns=patterns)
    found: dict[Path, imports.Imported] = {}
    for path in files:
        found[path] = imports.read(
            path,
            redactor,
            format_=format_,
            url=url,
            method=method,
            body=body,
            stamps=stamps,
        )
        if not found[path].exchanges:
            notes = "; ".join(found[path].notes) or "it is empty"
            raise UsageError(f"{path}: nothing in it can be imported: {notes}")
    made = [records for one in found.values() for records in one.exchanges]
    if store is not None:
        count = _add_to_store(made, Path(store))
        say(f"Added {counted(count, 'exchange')} to {store}.")
        if count < len(made):
            say(f"The other {len(made) - count:,} were there already.")
    elif output is not None:
        _refuse_twice(made)
        cassette.write(output, _text(made))
        click.echo(output)
    else:
        for path, one in found.items():
            _write_beside(path, one.exchanges)
    for path, one in found.items():
        _tell(path, one)


def _tell(path: Path, found: imports.Imported) -> None:
    for note in found.notes:
        say(f"{path}: {note}.")
    for records in found.exchanges:
        ending: Any = records[-1].payload
        if ending.outcome is Outcome.INCOMPLETE:
            say(
                f"{path}: {records[0].exchange_id} is incomplete, and will not be"
                f" served: {ending.error}."
            )
    say(f"{path} ({found.format}): {counted(len(found.exchanges), 'exchange')}.")


def _text(exchanges: list[list[Record]]) -> str:
    return cassette.canonical(
        cassette.transcribe(records, Rows()) for records in exchanges
    )


def _write_beside(path: Path, exchanges: list[list[Record]]) -> None:
    """Write the cassette that has a file's name, if that is not another's already.

    Where the file has no times, those of the cassette that is there are left: the
    file's own time may be another since, as when it was checked out.
    """
    output = path.with_name(path.stem + cassette.SUFFIX)
    text = _text(exchanges)
    if not output.exists():
        cassette.write(output, text)
    elif _undated(output.read_text("utf-8", "replace")) != _undated(text):
        raise UsageError(f"{output}: there is another already; name one with --output")
    click.echo(output)


def _undated(text: str) -> str:
    """Return a cassette without when its exchanges began; their ids tell, if known."""
    return _STARTED_AT.sub("", text)


def _refuse_twice(exchanges: list[list[Record]]) -> None:
    if len({records[0].exchange_id for records in exchanges}) < len(exchanges):
        raise UsageError("two FILEs are the same; name each once")


def _add_to_store(exchanges: list[list[Record]], root: Path) -> int:
    """Write what a store does not have yet as a segment, and return how many."""
    layout = Layout(root)
    ids = [records[0].exchange_id for records in exchanges]
    known: set[str] = set()
    if layout.exists():
        with Store.open(root) as opened:
            query = "SELECT exchange_id FROM exchanges WHERE exchange_id IN"
            rows = opened.sql(f"{query} (SELECT unnest(?))", [ids])
            known = set(rows.column(0).to_pylist())
    new = {records[0].exchange_id: records for records in exchanges}
    new = {eid: records for eid, records in new.items() if eid not in known}
    if not new:
        return 0
    name = new_segment_name(f"import-{secrets.token_hex(4)}", SYSTEM.wall_ns())
    try:
        segment = OpenSegment(layout, name, SYSTEM.monotonic_ns())
        parts = list[Part | None]()
        for records in new.values():
            segment.journal.append(records)
            rows = Rows()
            parts.append(cassette.transcribe(records, rows).part)
            segment.keep(rows)
        told, rows = rebuilt(parts), Rows()
        segment.journal.append(records_of(told))
        rows.add_tool_calls(told)
        segment.keep(rows)
        segment.seal()
    except OSError as error:
        raise StoreError(
            f"{error.filename or root}: {error.strerror}; name a folder that can be"
            " written with --store"
        ) from error
    return len(new)


COMMANDS = (import_,)
