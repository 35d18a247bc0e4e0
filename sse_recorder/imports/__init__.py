"""Recordings of other tools, as exchanges of ours.

    har     HAR 1.2, as browsers and proxies save what they loaded
    vcr     cassettes of VCR.py and pytest-recording, YAML or JSON
    curl    what `curl -N` printed, with or without time stamps, or its trace

`read` tells the formats apart and gives the records of each exchange, which is what
cassettes are read into and stores are made of.  What it gives is masked as a recorder
would have masked it, so nothing that is written of it has more in it than a recording.

What a tool stored of a body is what comes out, byte for byte; what it did not store
(times, chunks, the framing) is not made up beyond what its module says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Outcome, Record
from sse_recorder.imports import curl, har, vcr
from sse_recorder.imports.base import DAMAGE, Found, Tape, records, said, wire_text
from sse_recorder.masking import BodyMask, UnmaskableError
from sse_recorder.redact import Redactor

Format = Literal["har", "vcr", "curl"]
FORMATS: Final[tuple[Format, ...]] = ("har", "vcr", "curl")

_NAMES: Final = {
    "har": "a HAR",
    "vcr": "a cassette of VCR.py",
    "curl": "output of curl",
}
_VCR: Final = re.compile(rb"^interactions:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file has, masked."""

    format: Format
    exchanges: list[list[Record]]
    """The records of each, in the order in which they began."""
    notes: list[str]
    """What was left out, or is not as it was, and why."""


def read(
    path: Path,
    redactor: Redactor,
    *,
    format_: Format | None = None,
    url: str | None = None,
    method: str | None = None,
    body: Path | None = None,
    stamps: bool | None = None,
) -> Imported:
    """Read a file of another tool.

    Args:
        path: the file.
        redactor: what masks.
        format_: of what tool; None to tell by what is in it.
        url: of the request, where curl's output does not say.
        method: the same.
        body: what curl printed while it wrote a `--trace-ascii`.
        stamps: whether each line of curl's output has a stamp; None to tell.

    Raises:
        StoreError: it cannot be read, or is damaged.
        UsageError: more has to be said of it.
    """
    data = _content(path)
    format_ = format_ or detect(path.name, data)
    printed = None if body is None else _content(body)
    known = curl.Known(url and wire_text(url), method, printed, stamps)
    if format_ != "curl" and any(value is not None for value in known):
        raise UsageError(
            f"{path}: {_NAMES[format_]} says all of --url, --method, --body and"
            " --stamps itself; leave them out"
        )
    try:
        found = _found(format_, data, known)
        tapes = [_masked(tape, redactor) for tape in found.tapes]
        exchanges = records(tapes, data, path.stat().st_mtime_ns)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise StoreError(
            f"{path}: not {_NAMES[format_]} that can be read ({said(error)}); save it"
            " again, or name another --format"
        ) from error
    return Imported(format_, exchanges, found.notes)


def detect(name: str, data: bytes) -> Format:
    """Tell which tool wrote a file: what is neither HAR nor VCR.py's is curl's."""
    if name.lower().endswith(".har"):
        return "har"
    if name.lower().endswith((".yaml", ".yml")) or _VCR.search(data):
        return "vcr"
    try:
        value: Any = json.loads(data) if data.lstrip()[:1] == b"{" else None
    except (ValueError, RecursionError):
        value = None
    match value:
        case {"log": {"entries": _}}:
            return "har"
        case {"interactions": _}:
            return "vcr"
    return "curl"


def _found(format_: Format, data: bytes, known: curl.Known) -> Found:
    if format_ == "curl":
        return curl.read(data, known)
    return har.read(data) if format_ == "har" else vcr.read(data)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror}; name a file that can be read"
        ) from error


def _masked(tape: Tape, redactor: Redactor) -> Tape:
    """Return an exchange as a recorder would have kept it."""
    request_mask = redactor.body(tape.request)
    sent, lost = _masked_body(request_mask, [Chunk(0, tape.request_body)])
    chunks: Sequence[Chunk] = ()
    response = tape.response
    if response is not None and not lost:
        chunks, lost = _masked_body(redactor.body(response), tape.chunks)
    tape = replace(
        tape,
        url=redactor.url(tape.url),
        request_headers=redactor.headers(tape.request_headers),
        request_body=b"".join(chunk.data for chunk in sent),
        response=response and redactor.response_head(response),
        chunks=chunks,
        trailers=redactor.headers(tape.trailers),
    )
    return replace(tape, outcome=Outcome.INCOMPLETE, error=lost) if lost else tape


def _masked_body(
    mask: BodyMask, chunks: Sequence[Chunk]
) -> tuple[list[Chunk], str | None]:
    """Return a body without its secrets, or what is before the first, and why."""
    kept: list[tuple[int, bytes]] = []
    try:
        for at_ns, data in chunks:
            kept += mask.feed(at_ns, data)
        kept += mask.flush()
    except UnmaskableError as error:
        return [Chunk(*chunk) for chunk in [*kept, *error.before]], str(error)
    return [Chunk(*chunk) for chunk in kept], None
