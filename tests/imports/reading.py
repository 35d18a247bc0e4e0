"""What the tests of importers have in common: files, and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from support import run_command

from sse_recorder import imports
from sse_recorder.exchange import Chunk, Ending, Op, Opening, Record, ResponseHead
from sse_recorder.imports.base import Tape, records
from sse_recorder.redact import Redactor

FILES: Final = Path(__file__).parent / "files"
FRAMES: Final = (
    'event: status\r\ndata: {"s": "café 😀"}\r\n\r\n'.encode(),
    b": ping\n\n",
    b"id: 7\ndata: a\ndata: b.c\n\n",
    b"event: done\ndata: [DONE]\n\n",
)
BODY: Final = b"".join(FRAMES)


def read(path: Path, **known: Any) -> imports.Imported:
    """Read a file of another tool, with its secrets."""
    return imports.read(path, Redactor(enabled=False), **known)


def opening(found: list[Record]) -> Opening:
    """Return how an exchange begins."""
    payload = found[0].payload
    assert isinstance(payload, Opening)
    return payload


def head(found: list[Record]) -> ResponseHead:
    """Return the head of its response."""
    (payload,) = (r.payload for r in found if r.op is Op.HEAD)
    assert isinstance(payload, ResponseHead)
    return payload


def ending(found: list[Record]) -> Ending:
    """Return how it ends."""
    payload = found[-1].payload
    assert isinstance(payload, Ending)
    return payload


def chunks(found: list[Record]) -> list[Chunk]:
    """Return the chunks of its response."""
    return [
        Chunk(r.at_ns, r.payload)
        for r in found
        if r.op is Op.DATA and isinstance(r.payload, bytes)
    ]


def body(found: list[Record]) -> bytes:
    """Return the body of its response."""
    return b"".join(chunk.data for chunk in chunks(found))


def sent(found: list[Record]) -> bytes:
    """Return the body of its request."""
    (payload,) = [r.payload for r in found if r.op is Op.REQUEST_DATA] or [b""]
    assert isinstance(payload, bytes)
    return payload


def only(tapes: list[Tape]) -> list[Record]:
    """Return the records of the one exchange of a file."""
    (found,) = records(tapes, b"", 0)
    return found


def cassette_of(folder: Path, path: Path, *args: str) -> Path:
    """Import a file by the command, and return where its cassette is."""
    done = run_command("import", str(path), "-o", "made.sse.jsonl", *args, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "made.sse.jsonl"
