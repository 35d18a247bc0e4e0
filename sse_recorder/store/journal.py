"""The journal: a crash-safe file of records, one Arrow IPC stream.

A journal is appended to in batches, each with one `write`, and is never rewritten.
Killing the process at any moment therefore leaves the batches before it whole, and at
most one torn batch at the end, which readers stop at.  There is no `fsync`: it guards
against the death of the process, not of the machine.

While its writer lives it holds a lock on the file (`flock`, which the kernel drops when
a process dies in any way), so that a journal without a lock is one that a crash left.

Columns: `op` (see `exchange.Op`), `exchange_id`, `at_ns`, `data`.  Heads are JSON in
`data`, bodies are their bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa

from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    Ending,
    Headers,
    Op,
    Opening,
    Outcome,
    Payload,
    RawRecord,
    Record,
    RequestHead,
    ResponseHead,
    ToolCall,
)

SUFFIX: Final = ".arrows"
SCHEMA: Final = pa.schema(
    [
        ("op", pa.int8()),
        ("exchange_id", pa.string()),
        ("at_ns", pa.int64()),
        ("data", pa.binary()),
    ],
    metadata={b"sse_recorder.journal_version": b"1"},
)
HEADER: Final = SCHEMA.serialize().to_pybytes()
"""What every journal begins with."""

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


class Journal:
    """A journal that is being written, by this process alone."""

    def __init__(self, path: Path) -> None:
        """Begin a new journal.

        Raises:
            OSError: the file cannot be made; or one of this name exists.
        """
        self.path = path
        self.size = 0
        """Bytes in whole batches."""
        self._fd = _create(path)
        try:
            self._write(HEADER)
        except OSError:
            self.remove()
            raise

    def append(self, records: Sequence[RawRecord]) -> pa.RecordBatch:
        """Write records as one batch, and return it.

        Raises:
            OSError: the batch could not be written whole; nothing of it is left.
        """
        if not records:
            return pa.RecordBatch.from_pylist([], schema=SCHEMA)
        ids, ops, times, payloads = zip(*records, strict=True)
        data = [p if type(p) is bytes else encode(p) for p in payloads]
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip((ops, ids, times, data), SCHEMA, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        self._write(batch.serialize())
        return batch

    def close(self) -> None:
        """Close the file, and with it the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_in_place(self) -> bool:
        """Whether readers would find this very file at its path."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._fd))
        except OSError:
            return False

    def rename(self, path: Path) -> None:
        """Move the file; whatever looks for it there finds all that it has by now."""
        self.path.rename(path)
        self.path = path

    def remove(self) -> None:
        """Delete the file; its records are in a segment now."""
        self.path.unlink(missing_ok=True)
        self.close()

    def _write(self, data: bytes | pa.Buffer) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # A full disk may take half a batch.  What follows must not stand behind it.
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += memoryview(data).nbytes


def read(path: Path) -> Iterator[Record]:
    """Give the records of a journal, up to where it was cut.

    It may still be growing: what is there now is given.

    Raises:
        FileNotFoundError: there is none; it may have been sealed since it was seen.
        StoreError: it is not a journal, or is damaged before its end; what was given
            so far is sound.
    """
    try:
        with path.open("rb") as file:
            yield from _records(path, file)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; make it readable") from error


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a journal that nobody is writing; gives False where somebody is.

    Raises:
        FileNotFoundError: there is none.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _create(path: Path) -> int:
    """Make a journal's file and lock it; return its descriptor."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    while True:
        fd = os.open(path, flags, FILE_MODE)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        # A recovery came before the lock, and threw the empty file away.
        os.close(fd)


def _records(path: Path, file: BinaryIO) -> Iterator[Record]:
    if HEADER.startswith(file.read(len(HEADER) + 1)):
        return  # cut in its header, or not a batch yet
    file.seek(0)
    for batch in _batches(path, file):
        try:
            batch.validate(full=True)
            for op, exchange_id, at_ns, payload in zip(
                *(column.to_pylist() for column in batch.columns), strict=True
            ):
                known = Op(op)
                yield Record(exchange_id, known, at_ns, decode(known, payload))
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    reason = str(error).partition("\n")[0] or "an end within it"
    return StoreError(
        f"{path}: it is damaged, or of a later version ({reason}); run `sse-recorder"
        " recover`, or move it out of the store"
    )


def _batches(path: Path, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    """Give the whole batches, one at a time: a journal may be larger than memory."""
    size = os.fstat(file.fileno()).st_size
    try:
        reader = pa.ipc.open_stream(file)
        is_ours = reader.schema.equals(SCHEMA, check_metadata=True)
    except (OSError, pa.ArrowException):
        is_ours = False
    if not is_ours:
        raise StoreError(
            f"{path}: not a journal of this version; move it out of the store"
        )
    with reader:
        while True:
            try:
                batch = reader.read_next_batch()
            except (StopIteration, OSError, pa.ArrowException) as error:
                # One that was cut has been read to the end, and lacks what follows it.
                if file.tell() < size:
                    raise _damaged(path, error) from error
                return
            yield batch


def encode(payload: Payload) -> bytes | None:
    """Return the bytes that a journal keeps of a payload."""
    if payload is None or isinstance(payload, bytes):
        return payload
    value = payload if isinstance(payload, dict) else asdict(payload)
    # In ASCII, because text may hold half a surrogate pair, which UTF-8 cannot.
    return json.dumps(value, separators=(",", ":")).encode()


def decode(op: Op, data: bytes | None) -> Payload:
    """Return the payload that `encode` was given.

    Raises:
        ValueError: it was given no such thing; as do KeyError and TypeError.
    """
    if op is Op.SENT and data is None:
        return None
    if data is None:
        raise ValueError("a record has no payload")
    if op in {Op.DATA, Op.REQUEST_DATA}:
        return data
    value: dict[str, Any] = json.loads(data)
    match op:
        case Op.OPEN:
            request = RequestHead(**_with_headers(value["request"], "headers"))
            return Opening(**(value | {"request": request}))
        case Op.HEAD:
            return ResponseHead(**_with_headers(value, "headers"))
        case Op.END:
            value["outcome"] = Outcome(value["outcome"])
            return Ending(**_with_headers(value, "trailers"))
        case Op.TOOL_CALL:
            return ToolCall(**value)
        case _:
            return value


def _with_headers(value: dict[str, Any], name: str) -> dict[str, Any]:
    pairs: Headers = tuple((key, text) for key, text in value[name])
    return value | {name: pairs}
