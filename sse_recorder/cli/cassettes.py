"""`cassette`: the care of cassettes.

A cassette is canonical when it is what `rewrite` makes of it: each exchange as `export`
writes it, in the order of time.  Then a difference in a review is one of what was
recorded.  `lint` looks for what is not, and for what a test suite would trip over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Final, NamedTuple

import click
import pyarrow as pa

from sse_recorder.cli import redact
from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    rule_options,
    say,
)
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Outcome, ResponseHead
from sse_recorder.http1 import framing
from sse_recorder.imports.base import wrong_names
from sse_recorder.redact import Redactor
from sse_recorder.store import cassette
from sse_recorder.store.cassette import Whole
from sse_recorder.store.store import Store
from sse_recorder.tables import Rows

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

_file = click.Path(dir_okay=False, path_type=Path)


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
@click.argument("files", nargs=-1, required=True, type=_file, metavar="FILE...")
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
        exchanges = [
            (line, cassette.transcribe(records, Rows()))
            for line, records in cassette.read_with_lines(path)
        ]
    except StoreError as error:
        yield _damage(path, str(error))
        return
    yield from _uncanonical(path, [one for _, one in exchanges])
    for line, one in exchanges:
        at = (str(path), line, one.exchange.exchange_id)
        for why in _unservable(one):
            remedy = "record it again, or take it out with `cassette slice`"
            yield Flaw("problem", *at, "serve", why, remedy)
        yield from _duplicates(one, at, seen)
    places = {one.exchange.exchange_id: line for line, one in exchanges}
    if len(places) < len(exchanges):
        return  # whose secrets these are can be told when each has its own id
    for eid, found in redact.secrets_in(path, redactor, is_dry=True):
        remedy = f"sse-recorder redact {path}"
        if found.is_stuck:
            remedy = "record it again uncoded (Accept-Encoding: identity)"
        problem = f"{found.where}, {found.rule}: {found.preview}"
        at = (str(path), places[eid], eid)
        yield Flaw("problem", *at, "secret", problem, remedy)


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


def _uncanonical(path: Path, exchanges: list[Whole]) -> Iterator[Flaw]:
    lines = path.read_bytes().split(b"\n")
    pairs = zip_longest(lines, cassette.canonical(exchanges).encode().split(b"\n"))
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


def _unservable(one: Whole) -> Iterator[str]:
    """Say why a replay cannot serve an exchange, or not whole."""
    exchange = one.exchange
    if exchange.outcome is Outcome.INCOMPLETE:
        yield f"it is incomplete: {exchange.error}"
    yield from wrong_names(
        exchange.method,
        exchange.request_headers,
        exchange.response_headers,
        exchange.response_trailers,
    )
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
    one: Whole, at: tuple[str, int | None, str], seen: dict[object, str]
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
@click.argument("files", nargs=-1, required=True, type=_file, metavar="FILE...")
def rewrite(files: tuple[Path, ...]) -> None:
    """Write cassettes in their canonical form, in their place.

    Keys come in a fixed order and exchanges in the order of time, so that what differs
    in a review is what was recorded.

    \b
    sse-recorder cassette rewrite tests/*.sse.jsonl
    """
    for path in files:
        text = cassette.canonical(
            cassette.transcribe(records, Rows()) for records in cassette.read(path)
        )
        if path.read_bytes() == text.encode():
            say(f"{path} is in its canonical form.")
            continue
        cassette.write(path, text, path.stat().st_mode & 0o777)
        say(f"Rewrote {path}.")


@care.command("slice")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@option(
    "--output",
    "-o",
    metavar="CASSETTE",
    type=_file,
    only_in="cassette",
    required=True,
    help="The cassette to write; a file that is there is replaced.",
)
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
        text = cassette.canonical(
            Whole(e, opened.chunks(e.exchange_id)) for e in chosen
        )
    cassette.write(output, text)
    say(f"Wrote {counted(len(chosen), 'exchange')} to {output}.")


care.add_command(redact.redact)

COMMANDS = (care,)
