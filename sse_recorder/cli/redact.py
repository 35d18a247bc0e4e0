"""`redact`: what in recordings would be masked today, and masking it in cassettes.

What was recorded without redaction, or before a rule was there, or was imported may
hold secrets.  They are found by the rules that mask while recording, so the command
says of a cassette what a recorder would have done.  Nothing that it prints has a secret
in it: what is shown comes from the masked bytes.

What is inside of a content-coded body is found, and stays: no byte of it can be masked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple

import click
import pyarrow as pa

from sse_recorder import coding
from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    rule_options,
    say,
    store_option,
)
from sse_recorder.cli.look import ID_WIDTH
from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    Chunk,
    Exchange,
    Headers,
    RequestHead,
    ResponseHead,
    header,
)
from sse_recorder.masking import Uncoded
from sse_recorder.redact import Redactor
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

_BEFORE: Final = 24
_PREVIEW_MAX: Final = 60
_CODING: Final = "content-encoding"


class Finding(NamedTuple):
    """A secret, or what is in one place of it."""

    where: str
    rule: str
    preview: str
    """What would be there, masked, and a little of what is before it."""
    is_stuck: bool = False
    """Whether it is inside of a coded body, which cannot be masked."""


@dataclass(frozen=True, slots=True)
class Masked:
    """An exchange without its secrets."""

    exchange: Exchange
    chunks: list[Chunk]
    findings: list[Finding]


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@store_option
@option(
    "--dry-run",
    only_in="redact",
    is_flag=True,
    help="Only say what is secret; exit with 1 if anything is.",
)
@rule_options
@format_option
def redact(
    sources: tuple[str, ...],
    store: str,
    mask: tuple[str, ...],
    keep: tuple[str, ...],
    patterns: tuple[str, ...],
    format_: str,
    *,
    dry_run: bool,
) -> int:
    """Find secrets in recordings, and mask them in cassettes.

    SOURCE is a store or a cassette; without one it is that of --store.  A cassette
    with secrets in it is replaced by one without.  With --dry-run nothing is changed,
    and the exit code is 1 if there are secrets, so it is a check before a commit.
    Secrets inside of compressed bodies cannot be masked: they are told, and the exit
    code is 1.

    \b
    sse-recorder redact --dry-run
    sse-recorder redact --dry-run tests/*.sse.jsonl
    sse-recorder redact chat.sse.jsonl --redact x-tenant --redact-keep api_key
    sse-recorder redact --dry-run --redact-pattern 'acct-([0-9]{8})'
    """
    redactor = Redactor(mask=mask, keep=keep, patterns=patterns)
    paths = [Path(source) for source in sources or (store,)]
    if not dry_run:
        for path in paths:
            _refuse_store(path)
    rows: list[tuple[str, str, Finding]] = []
    for path in paths:
        found = secrets_in(path, redactor, is_dry=dry_run)
        rows += [(str(path), eid, finding) for eid, finding in found]
    _print(rows, format_)
    stuck = {(path, eid): None for path, eid, finding in rows if finding.is_stuck}
    for source, eid in stuck:
        say(
            f"{source}: the compressed body of {eid} has secrets in it, which cannot be"
            " masked; take that exchange out, or record it again uncoded"
            " (Accept-Encoding: identity)."
        )
    return int(bool(rows if dry_run else stuck))


def _refuse_store(path: Path) -> None:
    if path.is_dir():
        raise UsageError(
            f"{path}: a store is never rewritten; look with --dry-run, or make a"
            f" cassette with `sse-recorder export --store {path} -o"
            f" NAME{cassette.SUFFIX}` and mask that"
        )


def secrets_in(
    path: Path, redactor: Redactor, *, is_dry: bool
) -> Iterator[tuple[str, Finding]]:
    """Give the secrets in a store or a cassette, each with the id of its exchange.

    They are masked in the file too, unless it is a dry run.
    """
    text: list[str] = []
    count = 0
    with Store.open(path) as opened:
        for exchange in opened.exchanges():
            eid = exchange.exchange_id
            masked = _masked(opened, exchange, redactor)
            yield from ((eid, finding) for finding in masked.findings)
            count += sum(not finding.is_stuck for finding in masked.findings)
            if not is_dry:
                text.append(cassette.dumps(masked.exchange, masked.chunks))
    if count and not is_dry:
        cassette.write(path, "".join(text), path.stat().st_mode & 0o777)
        say(f"Masked {counted(count, 'secret')} in {path}.")


def _masked(opened: Store, exchange: Exchange, redactor: Redactor) -> Masked:
    eid = exchange.exchange_id
    request = RequestHead(exchange.method, exchange.target, exchange.request_headers)
    response = ResponseHead(exchange.status or 0, "", exchange.response_headers)
    url = redactor.url(exchange.url)
    findings = [Finding("url", "url", _cut(url))] if url != exchange.url else []
    headers = []
    for where, pairs in (
        ("request header", exchange.request_headers),
        ("response header", exchange.response_headers),
        ("trailer", exchange.response_trailers),
    ):
        headers.append(redactor.headers(pairs))
        findings += _in_headers(where, pairs, headers[-1])
    sent, found = _in_body(redactor, request, [Chunk(0, exchange.request_body)])
    findings += [Finding("request body", *finding) for _, finding in found]
    chunks, found = _in_body(redactor, response, opened.chunks(eid))
    ends = list(accumulate(frame.size for frame in opened.frames(eid)))
    findings += [
        Finding(f"frame {bisect_right(ends, offset)}", *finding)
        for offset, finding in found
    ]
    exchange = replace(
        exchange,
        url=url,
        request_headers=headers[0],
        response_headers=headers[1],
        response_trailers=headers[2],
        request_body=b"".join(chunk.data for chunk in sent),
    )
    return Masked(exchange, chunks, findings)


def _in_headers(where: str, before: Headers, after: Headers) -> Iterator[Finding]:
    for (name, value), (_, masked) in zip(before, after, strict=True):
        if value != masked:
            yield Finding(f"{where} {name}", f"header {name.lower()}", _cut(masked))


def _in_body(
    redactor: Redactor, head: RequestHead | ResponseHead, chunks: list[Chunk]
) -> tuple[list[Chunk], list[tuple[int, tuple[str, str, bool]]]]:
    """Return a body without its secrets, and of each: where it is, and a finding.

    A coded one comes back as it is; its secrets are where they are in its text.
    """
    found: list[tuple[int, int, str]] = []
    plain_head, plain = _uncoded(head, chunks)
    is_coded = plain_head is not head
    mask = redactor.body(
        plain_head, lambda offset, data, rule: found.append((offset, len(data), rule))
    )
    after = [Chunk(*pair) for chunk in plain for pair in mask.feed(*chunk)]
    after += [Chunk(*pair) for pair in mask.flush()]
    body = b"".join(chunk.data for chunk in after) if found else b""
    return chunks if is_coded else after, [
        (at, (rule, _look(body, at, size), is_coded))
        for at, size, rule in sorted(set(found))
    ]


def _uncoded(
    head: RequestHead | ResponseHead, chunks: list[Chunk]
) -> tuple[RequestHead | ResponseHead, list[Chunk]]:
    """Return a body as it was before it was coded, as far as frames show it."""
    try:
        decoder = coding.decoder(header(head.headers, _CODING))
    except coding.CodingError:
        decoder = None
    if decoder is None:
        return head, chunks
    uncoded = Uncoded(decoder)
    decoded = (Chunk(at_ns, uncoded.take(data)) for at_ns, data in chunks)
    bare = tuple(pair for pair in head.headers if pair[0].lower() != _CODING)
    return replace(head, headers=bare), [chunk for chunk in decoded if chunk.data]


def _look(body: bytes, at: int, size: int) -> str:
    return _cut(body[max(0, at - _BEFORE) : at + size].decode(errors="replace"))


def _cut(text: str) -> str:
    return text if len(text) <= _PREVIEW_MAX else text[: _PREVIEW_MAX - 1] + "…"


def _print(rows: list[tuple[str, str, Finding]], format_: str) -> None:
    if not rows:
        say("Nothing is secret, by these rules.")
    is_table = format_ == "table"
    columns = {
        "source": [source for source, _, _ in rows],
        "exchange_id": [eid[-ID_WIDTH:] if is_table else eid for _, eid, _ in rows],
        "where": [finding.where for *_, finding in rows],
        "rule": [finding.rule for *_, finding in rows],
        "preview": [finding.preview for *_, finding in rows],
    }
    if rows or not is_table:
        schema = pa.schema([(name, pa.string()) for name in columns])
        print_rows(pa.table(columns, schema=schema), format_)


COMMANDS = (redact,)
