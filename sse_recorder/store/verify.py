"""Verify: whether a store says the same thing everywhere, and can be read to its end.

A recording tells most things twice: chunks have sizes and frames have bytes, an
exchange has counts and the tables have rows, a frame has a kind and its event says it.
So nothing but the recording is needed to tell whether it is whole:

1. Every byte of every file is read, and held against its page's checksum.
2. The bytes of each exchange are put through a `Transcript` once more, cut as its
   chunks say, and what comes out is held against the rows that are there.

`CHECKS` says what is held to be true, and what to do where it is not.  Exchanges that
are `incomplete` lack something, and say so; of them the rows need not agree with the
counts, but what is there must be readable and in order.  Where a newer version reads an
API that its recorder did not know, its kinds and tool calls are left alone.

Segments are read one after another, and rows as they are needed: of a large store only
the exchanges' ids are in memory.  It can be run beside living recorders.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
)
from sse_recorder.match import PARSED_BYTES_MAX, BodyDigest, request_key
from sse_recorder.sse import rebuild
from sse_recorder.store import cassette, journal
from sse_recorder.store.answered import Answered, own
from sse_recorder.store.rebuild.lock import leftovers
from sse_recorder.store.segment import (
    CARRY_SUFFIX,
    DAMAGED_SUFFIX,
    Layout,
    segment_recorder,
)
from sse_recorder.store.store import to_exchange
from sse_recorder.tables import (
    SCHEMA_VERSION,
    SCHEMAS,
    VERSION_KEY,
    FrameRow,
    Row,
    Rows,
)
from sse_recorder.transcript import Transcript


class Check(NamedTuple):
    """One thing that is true of a store that is whole."""

    rule: str
    remedy: str
    is_warning: bool = False


_RESTORE = "restore the file, or move the segment's four files out of the store"
_RECOVER = "run `sse-recorder recover`"
_DISTRUST = "do not rely on this exchange: export what is good of it, or record it anew"
_REBUILD = (
    "run `sse-recorder rebuild`, if another version recorded it; else do not rely on"
    " this exchange"
)

CHECKS: Final = {
    "file": Check("the file can be read, and its checksums are right", _RESTORE),
    "schema": Check(
        "its columns have the names, types and ids of this version or an earlier one",
        "read it with the version that wrote it, or with a newer one",
    ),
    "segment": Check("the four files of a segment are there", _RESTORE),
    "journal": Check("a journal is being written", _RECOVER),
    "leftover": Check(
        "nothing is left of a seal, a journal or a rebuild that was given up",
        "run `sse-recorder recover`, and move out of the store what it leaves",
    ),
    "unique": Check(
        "an exchange is in one segment",
        "do not count it twice: one of the rows is what another process knew of it",
    ),
    "exchange": Check("every row belongs to an exchange", _RESTORE),
    "request": Check("the request body has its size, sha256 and key", _DISTRUST),
    "order": Check("`seq` counts from 0 without a gap", _DISTRUST),
    "times": Check("times do not go back, and none is after the end", _DISTRUST),
    "counts": Check("chunks, frames and tool calls are as many as counted", _DISTRUST),
    "bytes": Check("the chunks' sizes are those of the bytes in the frames", _DISTRUST),
    "frames": Check("the bytes, parsed again, give these frames", _DISTRUST),
    "kinds": Check("the events, read again, are of these kinds", _REBUILD),
    "tool_calls": Check(
        "the events, and the requests after them, read again, make these tool calls",
        _REBUILD,
    ),
    "summary": Check("the exchange's row says what its frames say", _REBUILD),
    "mode": Check(
        "its user alone can read it",
        "run `chmod -R go=` on the store, or share it knowingly",
        is_warning=True,
    ),
}

# What a transcript finds out again, check by check.
_SUMMARY: Final = {
    "counts": ("chunk_count", "frame_count", "tool_call_count"),
    "bytes": ("response_size",),
    "summary": (
        *("first_chunk_ns", "first_event_ns", "first_content_ns", "last_content_ns"),
        *("session_id", "model", "input_tokens", "output_tokens", "finish_reason"),
    ),
}
_TIMES: Final = (
    *("sent_ns", "headers_ns", "first_chunk_ns", "first_event_ns"),
    *("first_content_ns", "last_content_ns"),
)
_KIND: Final = FrameRow._fields.index("kind")
_EXEMPT: Final = frozenset({"counts", "bytes", "frames", "kinds", "tool_calls"})
"""What an exchange that is `incomplete` need not fulfil, nor its summary."""
_OTHERS: Final = 0o077
_BATCH_ROWS: Final = 4_096
_SHORT: Final = 60


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    file: str
    exchange_id: str | None
    check: str
    problem: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return CHECKS[self.check].remedy

    @property
    def is_warning(self) -> bool:
        """Whether the recording is whole nevertheless."""
        return CHECKS[self.check].is_warning


@dataclass(slots=True)
class Tally:
    """What was looked at so far."""

    files: int = 0
    exchanges: int = 0
    size: int = 0
    """Bytes in the files."""


class _Problem(Exception):  # noqa: N818 - it never leaves this module
    """A check of an exchange failed, and what follows it cannot be told."""

    def __init__(self, check: str, problem: str) -> None:
        super().__init__(problem)
        self.check = check
        self.problem = problem


def verify(source: Path, tally: Tally) -> Iterator[Finding]:
    """Give what is wrong with a store, a cassette, or a folder of cassettes.

    Args:
        source: where it is.
        tally: is added to.

    Raises:
        StoreError: nothing is there.
    """
    if source.is_file():
        yield from _verify_cassette(source, tally)
        return
    layout = Layout(source)
    cassettes = sorted(source.glob(f"*{cassette.SUFFIX}"))
    if not cassettes and not layout.exists():
        raise StoreError(
            f"{source}: no store or cassette is here; name one, or a store with --store"
        )
    for path in cassettes:
        yield from _verify_cassette(path, tally)
    if layout.exists():
        yield from _Folder(layout, tally).verify()


# --- cassettes ------------------------------------------------------------------------


def _verify_cassette(path: Path, tally: Tally) -> Iterator[Finding]:
    tally.files += 1
    try:
        tally.size += path.stat().st_size
        tables = cassette.read_rows(path).tables()
    except (OSError, StoreError) as error:
        yield Finding(str(path), None, "file", str(error))
        return
    order = [("exchange_id", "ascending"), ("seq", "ascending")]
    # What requests tell of earlier calls is not in the file; it was just made.
    tables["tool_calls"] = own(tables["tool_calls"])
    streams = {
        name: _Stream([table.sort_by(order)])
        for name, table in tables.items()
        if name != "exchanges"
    }
    for exchange in sorted(_exchanges(tables["exchanges"]), key=_by_id):
        tally.exchanges += 1
        parts = {name: s.take(exchange.exchange_id) for name, s in streams.items()}
        for problem in chain(_check_request(exchange), _check(exchange, **parts)):
            yield Finding(
                str(path), exchange.exchange_id, problem.check, problem.problem
            )


# --- folders --------------------------------------------------------------------------


@dataclass(slots=True)
class _Folder:
    layout: Layout
    tally: Tally
    open_ids: set[str] = field(default_factory=set)
    """Exchanges that a journal has."""
    living: set[str] = field(default_factory=set)
    """Recorders that may seal, while this looks, what is missed here."""
    pending: dict[str, list[str]] = field(default_factory=dict)
    """The segments of a recorder's exchanges that have no row in any of them yet."""
    is_damaged: bool = False
    """Whether some of a recorder's segments could not be read."""
    answered: Answered = field(default_factory=Answered)
    """The recorder's calls that later requests answered."""
    ids: list[tuple[Path, pa.Array]] = field(default_factory=list)
    """The exchanges of each segment."""

    def verify(self) -> Iterator[Finding]:
        yield from self._look_for_leftovers()
        # Journals first: one that is sealed meanwhile is then seen as a segment.
        held = set[str]()
        for name in self.layout.journal_names():
            yield from self._look_at_journal(name, held)
        there = {n for table in SCHEMAS for n in self.layout.table_names(table)}
        recorder_id = ""
        for name in sorted(there - held, key=lambda n: (segment_recorder(n), n[-36:])):
            if segment_recorder(name) != recorder_id:
                yield from self._close_recorder(recorder_id)
                recorder_id = segment_recorder(name)
            yield from self._verify_segment(name)
        yield from self._close_recorder(recorder_id)
        yield from self._look_for_doubles()

    def _look_for_leftovers(self) -> Iterator[Finding]:
        """Give what no living process and no journal answers for."""
        layout = self.layout
        for name in layout.part_names():
            if layout.journal(name).exists():
                continue  # it is being sealed, or is to be recovered
            for path in filter(Path.exists, (layout.part(name, t) for t in SCHEMAS)):
                problem = "it is a part of a segment that has no journal"
                yield self._finding(path, None, "leftover", problem)
        for path in layout.journals.glob("*" + CARRY_SUFFIX):
            with suppress(FileNotFoundError), journal.claim(path) as is_ours:
                if is_ours:
                    problem = "its recorder died when it had only begun it"
                    yield self._finding(path, None, "leftover", problem)
        for path in layout.journals.glob("*" + DAMAGED_SUFFIX):
            problem = "what follows the damage in it is in no segment"
            yield self._finding(path, None, "leftover", problem)
        for path in leftovers(layout):
            problem = "the rebuild that wrote it was killed"
            yield self._finding(path, None, "leftover", problem)

    def _look_for_doubles(self) -> Iterator[Finding]:
        """Give the exchanges that are there more than once."""
        if not self.ids:
            return
        counts = pc.value_counts(pa.chunked_array([ids for _, ids in self.ids]))
        is_double = pc.greater(counts.field("counts"), 1)
        doubles = counts.field("values").filter(is_double)
        if not len(doubles):
            return
        for path, ids in self.ids:
            for eid in ids.filter(pc.is_in(ids, doubles)).to_pylist():
                problem = "it is in this store more than once"
                yield Finding(str(path), eid, "unique", problem)

    def _look_at_journal(self, name: str, held: set[str]) -> Iterator[Finding]:
        path = self.layout.journal(name)
        try:
            with journal.claim(path) as is_ours:
                if not is_ours:
                    held.add(name)
                    self.living.add(segment_recorder(name))
                yield from self._read_journal(path)
        except FileNotFoundError:
            return  # sealed since
        except StoreError as error:
            yield self._finding(path, None, "journal", str(error))
            return
        if is_ours and not self.layout.table(name, "exchanges").exists():
            problem = "its recorder died, and it is not sealed"
            yield self._finding(path, None, "journal", problem)

    def _read_journal(self, path: Path) -> Iterator[Finding]:
        yield from self._look_at_file(path)
        for record in journal.read(path):
            if record.op is Op.OPEN:
                self.open_ids.add(record.exchange_id)

    def _look_at_file(self, path: Path) -> Iterator[Finding]:
        status = path.stat()
        self.tally.files += 1
        self.tally.size += status.st_size
        if status.st_mode & _OTHERS:
            problem = f"its mode is {status.st_mode & 0o777:o}"
            yield self._finding(path, None, "mode", problem)

    def _verify_segment(self, name: str) -> Iterator[Finding]:
        findings = [f for table in SCHEMAS for f in self._verify_file(name, table)]
        yield from findings
        if any(not finding.is_warning for finding in findings):
            # Of what goes on in it nothing can be said, nor of what began in it.
            self.is_damaged = True
            self.pending.clear()
            return
        yield from self._verify_rows(name)

    def _verify_file(self, name: str, table: str) -> Iterator[Finding]:
        path = self.layout.table(name, table)
        if not path.exists():
            problem = "it is not there"
            if self.layout.journal(name).exists():
                problem += f", but its journal is: {_RECOVER}"
            yield self._finding(path, None, "segment", problem)
            return
        try:
            yield from self._look_at_file(path)
            with _open(path) as file:
                difference = _schema_problem(file.schema_arrow, table)
                if difference is not None:
                    yield self._finding(path, None, "schema", difference)
                    return
                for _ in file.iter_batches(_BATCH_ROWS):
                    pass  # its pages are held against their checksums
        except (OSError, pa.ArrowException, ValueError) as error:
            yield self._finding(path, None, "file", str(error).partition("\n")[0])

    def _verify_rows(self, name: str) -> Iterator[Finding]:
        path = self.layout.table(name, "exchanges")
        calls_path = self.layout.table(name, "tool_calls")
        calls = _read(calls_path, SCHEMAS["tool_calls"])
        self.answered.calls(str(calls_path), calls)
        exchanges: list[Exchange] = []
        for exchange in _read_exchanges(path):
            self.answered.request(exchange)
            for problem in _check_request(exchange):
                yield self._finding(path, exchange, problem.check, problem.problem)
            exchanges.append(_without_long_body(exchange))
        exchanges.sort(key=_by_id)
        ids = [exchange.exchange_id for exchange in exchanges]
        self.ids.append((path, pa.array(ids, pa.string())))
        self.tally.exchanges += len(exchanges)
        streams = {
            table: _Stream(_read(self.layout.table(name, table), SCHEMAS[table]))
            for table in ("chunks", "frames")
        }
        calls = _read(calls_path, SCHEMAS["tool_calls"])
        streams["tool_calls"] = _Stream(map(own, calls))
        for exchange in exchanges:
            self._skip(name, streams, exchange.exchange_id)
            for problem in self._check(exchange, streams):
                yield self._finding(path, exchange, problem.check, problem.problem)
        self._skip(name, streams, None)

    def _check(
        self, exchange: Exchange, streams: dict[str, _Stream]
    ) -> Iterator[_Problem]:
        eid = exchange.exchange_id
        earlier = self.pending.pop(eid, [])
        parts = {
            table: chain(self._rows_of(eid, earlier, table), stream.take(eid))
            for table, stream in streams.items()
        }
        if self.is_damaged:
            first = next(parts["chunks"], None)
            if first is None or first[1]:
                return  # it began in what is damaged
            parts["chunks"] = chain([first], parts["chunks"])
        yield from _check(exchange, **parts)

    def _rows_of(
        self, exchange_id: str, names: Iterable[str], table: str
    ) -> Iterator[Row]:
        """Give what earlier segments have of an exchange."""
        for name in names:
            rows = pq.read_table(
                self.layout.table(name, table),
                columns=SCHEMAS[table].names,
                filters=[("exchange_id", "=", exchange_id)],
                partitioning=None,
            )
            if table == "tool_calls":
                rows = own(rows)
            yield from _tuples(rows.sort_by("seq"))

    def _skip(self, name: str, streams: dict[str, _Stream], before: str | None) -> None:
        """Note what goes on, or ends, in a later segment."""
        for stream in streams.values():
            for eid in stream.skip(before):
                names = self.pending.setdefault(eid, [])
                if name not in names:
                    names.append(name)

    def _close_recorder(self, recorder_id: str) -> Iterator[Finding]:
        for wrong in self.answered.close(is_whole=not self.is_damaged):
            yield Finding(wrong.file, wrong.exchange_id, "tool_calls", wrong.problem)
        is_sure = not self.is_damaged and recorder_id not in self.living
        for eid, names in self.pending.items():
            if is_sure and eid not in self.open_ids:
                path = self.layout.table(names[-1], "exchanges")
                problem = "it has rows in other tables, and none in any file of this"
                yield Finding(str(path), eid, "exchange", problem)
        self.pending.clear()
        self.is_damaged = False

    def _finding(
        self, path: Path, exchange: Exchange | None, check: str, problem: str
    ) -> Finding:
        eid = exchange.exchange_id if exchange else None
        return Finding(str(path), eid, check, problem)


def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


@cache
def _expected(table: str) -> pa.Schema:
    """Return the schema of a table as its files give it back."""
    file = BytesIO()
    pq.write_table(SCHEMAS[table].empty_table(), file, store_schema=False)
    return pq.read_schema(file)


def _schema_problem(found: pa.Schema, table: str) -> str | None:
    """Say how columns differ from ours; fewer at the end are an earlier form."""
    expected = _expected(table)
    version = (found.metadata or {}).get(VERSION_KEY, b"none").decode()
    if version != SCHEMA_VERSION:
        return f"its schema version is {version}, not {SCHEMA_VERSION}"
    if len(found) > len(expected):
        return f"it has columns that are not known here: {found.names[len(expected) :]}"
    for one, other in zip(found, expected, strict=False):
        if not one.equals(other, check_metadata=True):
            return f"the column {one.name!r} is not the {other.name!r} of this version"
    return None


def _read(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with _open(path) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=schema.names)


def _read_exchanges(path: Path) -> Iterator[Exchange]:
    with _open(path) as file:
        for batch in file.iter_batches(64):
            yield from _exchanges(pa.Table.from_batches([batch]))


def _exchanges(table: pa.Table) -> Iterator[Exchange]:
    place = table.schema.get_field_index("started_at")
    times = table.column(place).cast(pa.int64())
    for row in table.set_column(place, "started_at", times).to_pylist():
        yield to_exchange(row)


def _by_id(exchange: Exchange) -> str:
    return exchange.exchange_id


def _tuples(batch: pa.RecordBatch | pa.Table) -> Iterator[Row]:
    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


class _Stream:
    """Rows in the order of their exchanges, taken exchange by exchange."""

    def __init__(self, batches: Iterable[pa.RecordBatch | pa.Table]) -> None:
        self._rows = chain.from_iterable(map(_tuples, batches))
        self._next = next(self._rows, None)

    def take(self, exchange_id: str) -> Iterator[Row]:
        """Give the rows of an exchange, if it is the next one."""
        while self._next is not None and self._next[0] == exchange_id:
            row, self._next = self._next, next(self._rows, None)
            yield row

    def skip(self, before: str | None) -> Iterator[str]:
        """Give the exchanges before one, without their rows; all, without one."""
        while self._next is not None and (before is None or self._next[0] < before):
            exchange_id = self._next[0]
            yield exchange_id
            for _ in self.take(exchange_id):
                pass


# --- exchanges ------------------------------------------------------------------------


def _check_request(exchange: Exchange) -> Iterator[_Problem]:
    body = exchange.request_body
    sha256 = hashlib.sha256(body).hexdigest()
    form = body if len(body) <= PARSED_BYTES_MAX else BodyDigest(len(body), sha256)
    key = request_key(exchange.method, exchange.target, exchange.request_headers, form)
    for name, value in (
        ("request_body_size", len(body)),
        ("request_body_sha256", sha256),
        ("request_key", key),
    ):
        if (said := getattr(exchange, name)) != value:
            yield _Problem("request", f"{name} is {said}, and is {value} by the body")
            return


def _check(
    exchange: Exchange,
    chunks: Iterable[Row],
    frames: Iterable[Row],
    tool_calls: Iterable[Row],
) -> Iterator[_Problem]:
    """Give what is wrong with an exchange, each kind of thing once."""
    yield from _check_times(exchange)
    streams = (iter(chunks), iter(frames), iter(tool_calls))
    try:
        for problem in _check_rows(exchange, *streams):
            if not _is_exempt(exchange, problem):
                yield problem
    except _Problem as problem:
        if not _is_exempt(exchange, problem):
            yield problem
    for stream in streams:
        deque(stream, maxlen=0)  # what was not looked at belongs to it all the same


def _is_exempt(exchange: Exchange, problem: _Problem) -> bool:
    is_incomplete = exchange.outcome is Outcome.INCOMPLETE
    return is_incomplete and problem.check in _EXEMPT | {"summary"}


def _check_times(exchange: Exchange) -> Iterator[_Problem]:
    end = exchange.ended_ns or 0
    for name in _TIMES:
        at_ns = getattr(exchange, name)
        if at_ns is not None and not 0 <= at_ns <= end:
            yield _Problem("times", f"{name} is {at_ns}, not between 0 and {end}")
            return


def _check_rows(
    exchange: Exchange,
    chunks: Iterator[Row],
    frames: Iterator[Row],
    tool_calls: Iterator[Row],
) -> Iterator[_Problem]:
    """Put the bytes through a transcript, and compare."""
    again, rows = Transcript(exchange.exchange_id), Rows()
    for record in _head(exchange):
        again.add(record, rows)
    stored = _Frames(_in_order(frames, "frames"), exchange)
    last_ns = 0
    for chunk in _in_order(chunks, "chunks"):
        _, seq, at_ns, size, data = chunk
        if not last_ns <= at_ns <= (exchange.ended_ns or 0):
            raise _Problem("times", f"chunk {seq} came at {at_ns}, after {last_ns}")
        last_ns = at_ns
        if data is None:
            data = stored.read(size)
        elif len(data) != size:
            raise _Problem("bytes", f"chunk {seq} has {len(data)} bytes, not {size}")
        again.add(Record(exchange.exchange_id, Op.DATA, at_ns, data), rows)
        stored.compare(rows.frames)
        rows.chunks.clear()
    ending = Ending(outcome=exchange.outcome or Outcome.COMPLETE, error=exchange.error)
    again.add(
        Record(exchange.exchange_id, Op.END, exchange.ended_ns or 0, ending), rows
    )
    stored.compare(rows.frames)
    stored.close()
    assert again.ended is not None
    is_same_dialect = again.ended.dialect == exchange.dialect
    if stored.kind_problem and is_same_dialect:
        yield _Problem("kinds", stored.kind_problem)
    yield from _check_summary(exchange, again.ended, stored, is_same=is_same_dialect)
    yield from _check_tool_calls(exchange, tool_calls, rows, is_same=is_same_dialect)


def _head(exchange: Exchange) -> Iterator[Record]:
    eid = exchange.exchange_id
    request = RequestHead(exchange.method, exchange.target, exchange.request_headers)
    opening = Opening(
        recorder_id=exchange.recorder_id,
        started_at=exchange.started_at,
        url=exchange.url,
        request=request,
    )
    yield Record(eid, Op.OPEN, 0, opening)
    # What is longer was not read by its dialect either.
    if exchange.request_body_size <= PARSED_BYTES_MAX:
        yield Record(eid, Op.REQUEST_DATA, 0, exchange.request_body)
        if exchange.sent_ns is not None:
            yield Record(eid, Op.SENT, exchange.sent_ns)
    if exchange.status is not None:
        head = ResponseHead(exchange.status, "", exchange.response_headers)
        yield Record(eid, Op.HEAD, exchange.headers_ns or 0, head)


def _in_order(rows: Iterator[Row], table: str) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if row[1] != number:
            raise _Problem("order", f"{table} {number} is numbered {row[1]}")
        yield row


class _Frames:
    """The frames of an exchange: their bytes, and what they should be."""

    def __init__(self, rows: Iterator[Row], exchange: Exchange) -> None:
        self.count = 0
        self.kind_problem: str | None = None
        """The first kind that is another one."""
        self._rows = rows
        # The frames of a coded body that was damaged end somewhere.
        is_coded = any(
            name.lower() == "content-encoding" for name, _ in exchange.response_headers
        )
        self._may_end = is_coded and exchange.error is not None
        self._bytes = bytearray()
        self._waiting: deque[Row] = deque()

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        while len(self._bytes) < size:
            row = self._next()
            if row is None:
                missing = size - len(self._bytes)
                raise _Problem("bytes", f"the frames lack {missing} bytes of a chunk")
            self._waiting.append(row)
            self._bytes += _bytes_of(FrameRow(*row))
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        return data

    def compare(self, expected: list[Row]) -> None:
        """Hold the next frames against those that the bytes make."""
        for row in expected:
            found = self._waiting.popleft() if self._waiting else self._next()
            if found is None:
                if not self._may_end:
                    raise _Problem("frames", f"frame {row[1]} is not there")
                break
            self._hold(found, row)
        expected.clear()

    def close(self) -> None:
        """See that nothing is left."""
        if (self._waiting or self._next() is not None) and not self._may_end:
            raise _Problem("frames", "there are more than the chunks have bytes for")
        if self._bytes:
            raise _Problem("bytes", f"the frames have {len(self._bytes)} bytes more")

    def _next(self) -> Row | None:
        row = next(self._rows, None)
        self.count += row is not None
        return row

    def _hold(self, found: Row, expected: Row) -> None:
        if found == expected or self._may_end:
            return
        for name, one, other in zip(FrameRow._fields, found, expected, strict=True):
            if one != other and name != "kind":
                raise _Problem(
                    "frames",
                    f"{name} of frame {found[1]} is {_short(one)}, and is"
                    f" {_short(other)} by its bytes",
                )
        self.kind_problem = self.kind_problem or (
            f"frame {found[1]} is {found[_KIND]!r}, and says {expected[_KIND].value!r}"
        )


def _bytes_of(frame: FrameRow) -> bytes:
    if frame.raw is not None:
        return frame.raw
    try:
        data = rebuild(frame.layout, frame.event, frame.data, frame.id, frame.retry)
    except ValueError as error:
        raise _Problem("frames", f"frame {frame.seq}: {error}") from error
    if len(data) != frame.size:
        raise _Problem(
            "bytes", f"frame {frame.seq} has {len(data)} bytes, not {frame.size}"
        )
    return data


def _check_summary(
    exchange: Exchange, again: Exchange, stored: _Frames, *, is_same: bool
) -> Iterator[_Problem]:
    for check, names in _SUMMARY.items():
        for name in names:
            value, said = getattr(again, name), getattr(exchange, name)
            if name == "frame_count":
                value = stored.count
            if value != said and (is_same or check != "summary"):
                yield _Problem(check, f"{name} is {_short(said)}, not {_short(value)}")
                break


def _check_tool_calls(
    exchange: Exchange, found: Iterator[Row], rows: Rows, *, is_same: bool
) -> Iterator[_Problem]:
    # One that is closed late may be in a later segment than those after it.
    calls = list(_in_order(iter(sorted(found, key=itemgetter(1))), "tool_calls"))
    if len(calls) != exchange.tool_call_count:
        yield _Problem(
            "counts", f"tool_call_count is {exchange.tool_call_count}, not {len(calls)}"
        )
    elif is_same:
        expected = sorted(rows.tool_calls, key=lambda row: int(row[1]))
        for one, other in zip(calls, expected, strict=False):
            if one != other:
                yield _Problem("tool_calls", f"call {one[1]} is another one")
                return


def _without_long_body(exchange: Exchange) -> Exchange:
    if exchange.request_body_size <= PARSED_BYTES_MAX:
        return exchange
    return replace(exchange, request_body=b"")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"
