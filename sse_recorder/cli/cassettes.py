"""`import` and `cassette`: other tools' recordings, and the care of cassettes.

`import` reads what `sse_recorder.imports` knows, masks it, and writes a cassette or a
segment of a store.  An exchange has the same id whenever it is imported, so that doing
it twice makes the same cassette, and adds nothing to a store.

A cassette is canonical when it is what `rewrite` makes of it: each exchange as `export`
writes it, in the order of time.  Then a difference in a review is one of what was
recorded.  `lint` looks for what is not, and for what a test suite would trip over.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import pyarrow as pa

from sse_recorder import imports
from sse_recorder.cli import redact
from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    rule_options,
    say,
)
from sse_recorder.clock import SYSTEM
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Op, Outcome, Record, ResponseHead
from sse_recorder.http1 import framing
from sse_recorder.redact import Redactor
from sse_recorder.store import cassette
from sse_recorder.store.segment import Layout, OpenSegment, new_segment_name
from sse_recorder.store.store import Store
from sse_recorder.tables import Rows
from sse_recorder.transcript import Transcript

_PRIVATE: Final = 0o600
_LINE: Final = re.compile(r", line (\d+): ")
_FLAWS: Final = pa.schema(
    [
        ("level", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("exchange_id", pa.string()),
        ("check", pa.string()),
        ("problem", pa.string()),
        ("remedy", pa.string()),
    ]
)

file_argument = click.Path(dir_okay=False, path_type=Path)
output_option = option(
    "--output",
    "-o",
    metavar="CASSETTE",
    type=file_argument,
    only_in="cassette",
    required=True,
    help="The cassette to write; a file that is there is replaced.",
)


# --- import ---------------------------------------------------------------------------


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=file_argument, metavar="FILE...")
@option(
    "--output",
    "-o",
    metavar="CASSETTE",
    type=file_argument,
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
    type=file_argument,
    only_in="import",
    help="What curl printed, for a --trace-ascii, which has not all bytes.",
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
            path, redactor, format_=format_, url=url, method=method, body=body
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
        _write(output, _text(map(_whole, made)))
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


def _write_beside(path: Path, exchanges: list[list[Record]]) -> None:
    """Write the cassette that has a file's name, if that is not another's already."""
    output = path.with_name(path.stem + cassette.SUFFIX)
    text = _text(map(_whole, exchanges))
    if output.exists() and output.read_bytes() != text.encode():
        raise UsageError(f"{output}: there is another already; name one with --output")
    _write(output, text)
    click.echo(output)


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
        for records in new.values():
            segment.journal.append(records)
            segment.keep(_rows(records)[1])
        segment.seal()
    except OSError as error:
        raise StoreError(
            f"{error.filename or root}: {error.strerror}; name a folder that can be"
            " written with --store"
        ) from error
    return len(new)


# --- cassettes as text ----------------------------------------------------------------


class _Whole(NamedTuple):
    """An exchange with its chunks."""

    exchange: Exchange
    chunks: list[Chunk]


def _rows(records: Iterable[Record]) -> tuple[Transcript, Rows]:
    first, *others = records
    transcript, rows = Transcript(first.exchange_id), Rows()
    for record in (first, *others):
        transcript.add(record, rows)
    return transcript, rows


def _whole(records: Sequence[Record]) -> _Whole:
    exchange = _rows(records)[0].ended
    assert exchange is not None, "a cassette's exchange has an end"
    chunks = [
        Chunk(record.at_ns, record.payload)
        for record in records
        if record.op is Op.DATA and isinstance(record.payload, bytes)
    ]
    return _Whole(exchange, chunks)


def _text(exchanges: Iterable[_Whole]) -> str:
    """Return exchanges as a canonical cassette."""
    ordered = sorted(
        exchanges, key=lambda one: (one.exchange.started_at, one.exchange.exchange_id)
    )
    return "".join(cassette.dumps(*one) for one in ordered)


def _write(path: Path, text: str, mode: int = _PRIVATE) -> None:
    """Let a file appear, or take the place of another, at once."""
    path = path.resolve()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
        new.chmod(mode)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: {error.strerror}; name a file in a folder that can be written"
        ) from error


# --- cassette -------------------------------------------------------------------------


@click.group("cassette")
@click.pass_context
def care(ctx: click.Context) -> None:
    """Keep cassettes fit for reviews and tests: lint, rewrite, slice, redact.

    \b
    sse-recorder cassette lint tests/*.sse.jsonl
    sse-recorder cassette rewrite tests/chat.sse.jsonl
    sse-recorder cassette slice tests/chat.sse.jsonl --first 2 -o short.sse.jsonl
    """
    # What a file sets for `cassette` is for each of its commands.
    ctx.default_map = dict.fromkeys(care.commands, ctx.default_map or {})


class Flaw(NamedTuple):
    """What is wrong with a cassette: a row of what `lint` prints."""

    level: str
    """`problem`, or `warning` where it may be meant."""
    file: str
    line: int | None
    exchange_id: str | None
    check: str
    problem: str
    remedy: str


@care.command()
@click.argument("files", nargs=-1, required=True, type=file_argument, metavar="FILE...")
@rule_options
@format_option
def lint(
    files: tuple[Path, ...],
    mask: tuple[str, ...],
    keep: tuple[str, ...],
    patterns: tuple[str, ...],
    format_: str,
) -> int:
    """Check cassettes before a commit; exit with 1 if there are problems.

    Problems are damage, secrets, a form that `rewrite` would change, exchanges that
    cannot be served, and ids that are there twice.  Equal answers to equal requests
    are warned of only, as they may be meant.

    \b
    sse-recorder cassette lint tests/*.sse.jsonl
    """
    redactor = Redactor(mask=mask, keep=keep, patterns=patterns)
    seen: dict[object, str] = {}
    flaws = [flaw for path in files for flaw in _flaws(path, redactor, seen)]
    if flaws or format_ != "table":
        rows = [flaw._asdict() for flaw in flaws]
        print_rows(pa.Table.from_pylist(rows, schema=_FLAWS), format_)
    problems = sum(flaw.level == "problem" for flaw in flaws)
    warnings = len(flaws) - problems
    say(
        f"Checked {counted(len(files), 'file')}:"
        f" {counted(problems, 'problem') if problems else 'no problems'}"
        + f", {counted(warnings, 'warning')}" * bool(warnings)
        + "."
    )
    return int(bool(problems))


def _flaws(path: Path, redactor: Redactor, seen: dict[object, str]) -> Iterator[Flaw]:
    try:
        exchanges = [_whole(records) for records in cassette.read(path)]
    except StoreError as error:
        yield _damage(path, str(error))
        return
    lines = path.read_bytes().decode().split("\n")
    heads = [number for number, line in enumerate(lines, start=1) if _is_head(line)]
    places = dict(zip((e.exchange.exchange_id for e in exchanges), heads, strict=False))
    yield from _uncanonical(path, lines, exchanges)
    for one in exchanges:
        eid = one.exchange.exchange_id
        at = (str(path), places.get(eid), eid)
        for why in _unservable(one):
            remedy = "record it again, or take it out with `cassette slice`"
            yield Flaw("problem", *at, "serve", why, remedy)
        yield from _duplicates(one, at, seen)
    for eid, found in redact.secrets_in(path, redactor, is_dry=True):
        remedy = f"sse-recorder redact {path}"
        if found.is_stuck:
            remedy = "record it again uncoded (Accept-Encoding: identity)"
        problem = f"{found.where}, {found.rule}: {found.preview}"
        at = (str(path), places.get(eid), eid)
        yield Flaw("problem", *at, "secret", problem, remedy)


def _is_head(line: str) -> bool:
    return '"request"' in line and "request" in json.loads(line)


def _damage(path: Path, message: str) -> Flaw:
    problem, _, remedy = message.removeprefix(str(path)).rpartition("; ")
    line = _LINE.match(problem)
    return Flaw(
        level="problem",
        file=str(path),
        line=int(line[1]) if line else None,
        exchange_id=None,
        check="damage",
        problem=problem[line.end() :] if line else problem.removeprefix(": "),
        remedy=remedy,
    )


def _uncanonical(
    path: Path, lines: list[str], exchanges: list[_Whole]
) -> Iterator[Flaw]:
    pairs = zip_longest(lines, _text(exchanges).split("\n"))
    for number, (line, canonical) in enumerate(pairs, start=1):
        if line != canonical:
            yield Flaw(
                level="problem",
                file=str(path),
                line=number,
                exchange_id=None,
                check="form",
                problem="from here on it is not as `rewrite` writes it",
                remedy=f"sse-recorder cassette rewrite {path}",
            )
            return


def _unservable(one: _Whole) -> Iterator[str]:
    """Say why a replay cannot serve an exchange, or not whole."""
    exchange = one.exchange
    if exchange.outcome is Outcome.INCOMPLETE:
        yield f"it is incomplete: {exchange.error}"
    if exchange.status is None:
        return
    headers = exchange.response_headers
    try:
        head = ResponseHead(exchange.status, exchange.reason or "", headers)
        framing.encode_response(head)
        kind = framing.response_framing(exchange.method, exchange.status, headers)
        length = framing.content_length(headers)
    except UsageError as error:
        yield str(error)
        return
    size = sum(len(chunk.data) for chunk in one.chunks)
    is_over = exchange.outcome is Outcome.COMPLETE
    if kind == "none" and size:
        yield f"an answer of {exchange.status} has no body, and this has {size} bytes"
    elif kind == "length" and (size != length if is_over else size > (length or 0)):
        yield f"Content-Length says {length}, and its body has {size} bytes"


def _duplicates(
    one: _Whole, at: tuple[str, int | None, str], seen: dict[object, str]
) -> Iterator[Flaw]:
    exchange = one.exchange
    place = f"{at[0]}, line {at[1]}"
    if (first := seen.setdefault(exchange.exchange_id, place)) != place:
        problem, remedy = f"the same id is in {first}", "take one of them out"
        yield Flaw("problem", *at, "duplicate", problem, remedy)
        return
    body = hashlib.sha256(b"".join(chunk.data for chunk in one.chunks)).digest()
    answer = (exchange.request_key, exchange.status, exchange.outcome, body)
    if (first := seen.setdefault(answer, place)) != place:
        problem = f"the same answer to the same request is in {first}"
        remedy = "take one of them out: the last answers again when they run out"
        yield Flaw("warning", *at, "duplicate", problem, remedy)


@care.command()
@click.argument("files", nargs=-1, required=True, type=file_argument, metavar="FILE...")
def rewrite(files: tuple[Path, ...]) -> None:
    """Write cassettes in their canonical form, in their place.

    Keys come in a fixed order and exchanges in the order of time, so that what differs
    in a review is what was recorded.

    \b
    sse-recorder cassette rewrite tests/*.sse.jsonl
    """
    for path in files:
        text = _text(_whole(records) for records in cassette.read(path))
        if path.read_bytes() == text.encode():
            say(f"{path} is in its canonical form.")
            continue
        _write(path, text, path.stat().st_mode & 0o777)
        say(f"Rewrote {path}.")


@care.command("slice")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@output_option
@option(
    "--exchange",
    "ids",
    metavar="ID",
    multiple=True,
    only_in="cassette",
    help="This one, by a few characters of its id; may be repeated.",
)
@option(
    "--first",
    metavar="N",
    type=click.IntRange(min=1),
    only_in="cassette",
    help="As many of those that began first.",
)
@option(
    "--where",
    metavar="SQL",
    only_in="cassette",
    help="Those of which a condition on the table `exchanges` holds.",
)
def cut_out(
    source: Path,
    output: Path,
    ids: tuple[str, ...],
    first: int | None,
    where: str | None,
) -> None:
    """Write some exchanges of a cassette, or a store, as another cassette.

    \b
    sse-recorder cassette slice chats.sse.jsonl --exchange 4f2a91c0 -o one.sse.jsonl
    sse-recorder cassette slice chats.sse.jsonl --where 'status >= 400' -o bad.sse.jsonl
    """
    if sum(map(bool, (ids, first, where))) != 1:
        raise UsageError(
            "say which exchanges: --exchange ID…, --first N or --where SQL"
        )
    with Store.open(source) as opened:
        if ids:
            chosen = list(
                {e.exchange_id: e for e in map(opened.exchange, ids)}.values()
            )
        else:
            over = f"outcome IS NOT NULL AND ({where or 'true'})"
            chosen = list(opened.exchanges(over))[:first]
        if not chosen:
            raise UsageError(
                f"{source}: no exchange is like that; `sse-recorder ls --store"
                f" {source}` shows what there is"
            )
        text = _text(_Whole(e, opened.chunks(e.exchange_id)) for e in chosen)
    _write(output, text)
    say(f"Wrote {counted(len(chosen), 'exchange')} to {output}.")


care.add_command(redact.redact)

COMMANDS = (import_, care)
