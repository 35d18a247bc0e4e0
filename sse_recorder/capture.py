"""Capture: from what a socket read to what the disk has.

    Tap ──▶ RecordQueue ──▶ Writer: mask ──▶ journal ──▶ rows ──▶ segment
    (the stream's thread)   (its own thread)               └────▶ spans

The `Tap` of an exchange is called by whatever carries the stream, after it has passed
the bytes on.  It does no I/O, reads no clock and never waits: it puts a record into a
queue.  The queue is bounded.  When it is full the record is dropped and the exchange
will end as `incomplete`, because a recorder must never be what breaks or slows a
stream.

The `Writer` takes the records in batches.  It wakes when there is something to do, then
gathers for `FLUSH_INTERVAL_S` or until there is `FLUSH_BYTES`, so that what the journal
lacks is never older than a tenth of a second, and an idle recorder sleeps.  A batch is
masked, appended to the journal, and run through the transcripts of its exchanges, whose
rows wait in memory, as Arrow, for the segment to be sealed.  Sealing is done by another
thread, so that the journal does not wait for it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Headers,
    Op,
    Opening,
    Outcome,
    Payload,
    Record,
    RequestHead,
    ResponseHead,
    ToolCall,
)
from sse_recorder.redact import BodyMask, Redactor
from sse_recorder.store.recovery import Decision, Recovered, recover
from sse_recorder.store.segment import Layout, OpenSegment, new_segment_name
from sse_recorder.tables import Rows
from sse_recorder.transcript import Transcript

log = logging.getLogger("sse_recorder.capture")

FLUSH_INTERVAL_S: Final = 0.05
FLUSH_BYTES: Final = 1 << 20
# What a record costs in memory beside its bytes.
_RECORD_OVERHEAD: Final = 200
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_OUR_FAULT: Final = "the recorder failed; its log says how"
_COMPLAINT_INTERVAL_S: Final = 60
_ALWAYS: Final = frozenset({Op.OPEN, Op.END})
_BODIES: Final = frozenset({Op.REQUEST_DATA, Op.DATA})
# Whose bodies are over when a record of this kind comes.
_BODIES_OVER: Final = {Op.SENT: (Op.REQUEST_DATA,), Op.END: (Op.REQUEST_DATA, Op.DATA)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a segment is sealed, and how much may wait to be written."""

    queue_bytes: int = 64 << 20
    """Beyond this records are dropped and their exchanges are `incomplete`."""
    segment_bytes: int = 64 << 20
    """A journal of this size is sealed,"""
    segment_age_s: float = 300
    """or of this age,"""
    idle_s: float = 10
    """or when no exchange has been open for this long."""


class RecordQueue:
    """Records on their way from any number of threads to the one that writes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.refused = 0
        """Records for which there was no room."""
        self._records: list[Record] = []
        self._bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._is_urgent = False

    def put(self, record: Record, size: int = 0) -> bool:
        """Queue a record without waiting; False when there is no room for it."""
        with self._changed:
            # Beginnings and ends always pass: what is lost must not be lost silently.
            if self._bytes + size > self._limit and record.op not in _ALWAYS:
                self.refused += 1
                return False
            self._bytes += size + _RECORD_OVERHEAD
            self._records.append(record)
            # One wake-up begins a batch and one may cut it short: the writer is not
            # woken for each record.
            if len(self._records) == 1:
                self._changed.notify()
            elif self._bytes > FLUSH_BYTES and not self._is_urgent:
                self._is_urgent = True
                self._changed.notify()
        return True

    def take(self, timeout_s: float | None) -> list[Record] | None:
        """Wait for records, gather for a moment, and return them.

        Returns:
            The records, in order; none when the time was up; None when the queue is
            closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._records or self._is_closed, timeout_s)
            if self._records and not self._is_closed:
                self._changed.wait_for(
                    lambda: self._is_urgent or self._is_closed, FLUSH_INTERVAL_S
                )
            if self._is_closed and not self._records:
                return None
            records, self._records = self._records, []
            self._bytes = 0
            self._is_urgent = False
        return records

    def close(self) -> None:
        """Let the writer finish: what is queued is still taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Tap:
    """The ear on one exchange.  Times are the monotonic clock's; offsets come out."""

    __slots__ = ("_lost", "_queue", "_t0_ns", "exchange_id")

    def __init__(self, queue: RecordQueue, exchange_id: str, t0_ns: int) -> None:
        self.exchange_id = exchange_id
        self._queue = queue
        self._t0_ns = t0_ns
        self._lost = 0

    def opened(self, opening: Opening) -> None:
        """Take in the request's head."""
        self._put(Op.OPEN, self._t0_ns, opening, _size(opening.request.headers))

    def request_data(self, at_ns: int, data: bytes) -> None:
        """Take in some of the request's body."""
        self._put(Op.REQUEST_DATA, at_ns, data, len(data))

    def sent(self, at_ns: int) -> None:
        """Note that the request has gone upstream whole."""
        self._put(Op.SENT, at_ns, None, 0)

    def head(self, at_ns: int, head: ResponseHead) -> None:
        """Take in the response's head."""
        self._put(Op.HEAD, at_ns, head, _size(head.headers))

    def data(self, at_ns: int, data: bytes) -> None:
        """Take in what one read brought of the response's body."""
        self._put(Op.DATA, at_ns, data, len(data))

    def ended(self, at_ns: int, ending: Ending) -> None:
        """Note how the exchange ended; nothing may follow."""
        if self._lost:
            ending = replace(
                ending,
                outcome=Outcome.INCOMPLETE,
                error=f"{self._lost} records were lost: the writer fell behind",
            )
        self._put(Op.END, at_ns, ending, 0)

    def _put(self, op: Op, at_ns: int, payload: Payload, size: int) -> None:
        record = Record(self.exchange_id, op, at_ns - self._t0_ns, payload)
        # After a loss no more of the bodies is kept: joined to what came before it, the
        # rest would make events that nobody sent.
        is_gap = self._lost and op in _BODIES
        if is_gap or not self._queue.put(record, size):
            self._lost += 1


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)


class Spans(Protocol):
    """What wants to hear of each exchange that is over (see `otel.Telemetry`)."""

    def emit(self, exchange: Exchange, tool_calls: list[ToolCall]) -> None:
        """Take in an exchange; must not wait."""


class Writer:
    """Writes what taps hear to a store, in a thread of its own."""

    def __init__(
        self,
        root: Path,
        *,
        redactor: Redactor | None = None,
        spans: Spans | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        recorder_id: str | None = None,
    ) -> None:
        """Recover what an earlier crash left, and begin to write.

        Raises:
            StoreError: the store cannot be written.
        """
        self.recorder_id = recorder_id or secrets.token_hex(4)
        self.queue = RecordQueue((limits or Limits()).queue_bytes)
        self._layout = Layout(root)
        self._redactor = redactor or Redactor()
        self._spans = spans
        self._limits = limits or Limits()
        self._clock = clock
        self._transcripts: dict[str, Transcript] = {}
        self._masks: dict[tuple[str, Op], BodyMask] = {}
        self._lost: dict[str, str] = {}
        self._last_heard_ns = 0
        self._latest_ns = 0
        self._refused = 0
        self._complaints = _Complaints(clock)
        try:
            self._segment = self._begin_segment()
        except OSError as error:
            raise StoreError(
                f"{error.filename or root}: {error.strerror}; name a folder that can be"
                " written with --store"
            ) from error
        self.recovered = self._recover(root)
        """What an earlier crash left, and what was done about it."""
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="sse-recorder-seal")
        self._thread = threading.Thread(
            target=self._run, name="sse-recorder-writer", daemon=True
        )
        self._thread.start()

    def _recover(self, root: Path) -> list[Recovered]:
        try:
            found = recover(root)
        except StoreError as error:
            # What cannot be recovered now is still there, and no reason not to record.
            self._complaints.say(f"what a crash left is not recovered: {error}")
            return []
        return [item for item in found if item.decision is not Decision.LEAVE]

    def tap(self, exchange_id: str, t0_ns: int) -> Tap:
        """Return the tap of a new exchange."""
        return Tap(self.queue, exchange_id, t0_ns)

    def close(self) -> None:
        """Write what is queued, and seal it."""
        self.queue.close()
        self._thread.join()
        self._sealer.shutdown()

    def _run(self) -> None:
        while True:
            wait_s = None if self._segment.is_empty else self._limits.idle_s / 4
            records = self.queue.take(wait_s)
            if records is None:
                break
            if self.queue.refused > self._refused:
                self._refused = self.queue.refused
                self._complaints.say(
                    "the writer fell behind and records were dropped; streams flow on,"
                    " and their exchanges will be incomplete"
                )
            try:
                self._write(records)
                if self._is_due():
                    self._roll()
            except Exception:
                # A fault of ours must not end the recording of everything else.
                log.exception("a batch was not recorded whole; please report this")
                self._lose(records, _OUR_FAULT)
                # The journal may have what the tables now lack.
                self._segment.is_suspect = True
                for record in records:
                    if record.op is Op.END:
                        self._forget(record.exchange_id)
        self._submit_seal(self._segment)

    def _forget(self, exchange_id: str) -> None:
        self._lost.pop(exchange_id, None)
        self._transcripts.pop(exchange_id, None)
        for op in _BODIES:
            self._masks.pop((exchange_id, op), None)

    def _write(self, records: list[Record]) -> None:
        if not records:
            return
        masked = [new for record in records for new in self._safely_masked(record)]
        try:
            self._segment.journal.append(masked)
        except OSError as error:
            self._lose(masked, f"the journal could not be written: {error.strerror}")
            masked = [self._honest(r) for r in masked if r.op not in _BODIES]
        rows = Rows()
        for record in masked:
            self._transcribe(record, rows)
        self._segment.keep(rows)
        self._last_heard_ns = self._clock.monotonic_ns()

    def _transcribe(self, record: Record, rows: Rows) -> None:
        eid = record.exchange_id
        if record.op is Op.OPEN:
            self._transcripts[eid] = Transcript(eid)
        transcript = self._transcripts.get(eid)
        if transcript is None:
            return  # it failed before, and has had its row
        if record.op is Op.END:
            del self._transcripts[eid]
        try:
            transcript.add(record, rows)
            if transcript.ended is not None and self._spans is not None:
                calls = sorted(transcript.tool_calls, key=lambda call: call.seq)
                self._spans.emit(transcript.ended, calls)
        except Exception:
            # A fault of ours, and the other exchanges must not suffer from it.
            log.exception("exchange %s cannot be transcribed; please report this", eid)
            self._transcripts.pop(eid, None)
            if transcript.ended is None and transcript.opening is not None:
                self._give_up(eid, transcript.opening, record.at_ns, rows)

    def _give_up(self, eid: str, opening: Opening, at_ns: int, rows: Rows) -> None:
        """Say in a row that there was an exchange, and that it was not recorded."""
        stub = Transcript(eid)
        stub.add(Record(eid, Op.OPEN, 0, opening), rows)
        ending = Ending(outcome=Outcome.INCOMPLETE, error=_OUR_FAULT)
        stub.add(Record(eid, Op.END, at_ns, ending), rows)

    def _safely_masked(self, record: Record) -> list[Record]:
        """Return what the disk may have of a record; nothing, if that is not known."""
        try:
            return list(self._masked(record))
        except Exception:
            log.exception("a record cannot be masked; please report this")
            self._lost[record.exchange_id] = _OUR_FAULT
            match record.payload:
                case Opening() as opening:
                    unknown = RequestHead(opening.request.method, "/")
                    bare = replace(opening, url="", request=unknown)
                    return [record._replace(payload=bare)]
                case Ending():
                    return [self._honest(record)]
            return []

    def _masked(self, record: Record) -> Iterator[Record]:
        """Give what the disk may have of a record."""
        eid = record.exchange_id
        if record.op in _BODIES and eid in self._lost:
            return  # nothing of a body that follows a gap (see `Tap`)
        for body in _BODIES_OVER.get(record.op, ()):
            mask = self._masks.pop((eid, body), None)
            if mask is not None and (rest := mask.flush()):
                yield record._replace(op=body, payload=rest)
        yield self._mask(record)

    def _mask(self, record: Record) -> Record:
        redactor, payload = self._redactor, record.payload
        match record.op:
            case Op.DATA | Op.REQUEST_DATA:
                assert isinstance(payload, bytes)
                return record._replace(payload=self._mask_body(record, payload))
            case Op.OPEN:
                assert isinstance(payload, Opening)
                masked = replace(
                    payload,
                    url=redactor.url(payload.url),
                    request=redactor.request_head(payload.request),
                )
                return record._replace(payload=masked)
            case Op.HEAD:
                assert isinstance(payload, ResponseHead)
                return record._replace(payload=redactor.response_head(payload))
            case Op.END:
                assert isinstance(payload, Ending)
                trailers = redactor.headers(payload.trailers)
                masked_end = replace(payload, trailers=trailers)
                return self._honest(record._replace(payload=masked_end))
        return record

    def _honest(self, record: Record) -> Record:
        """Let the end of an exchange say so if some of it was lost."""
        if record.op is not Op.END:
            return record
        reason = self._lost.pop(record.exchange_id, None)
        if reason is None:
            return record
        ending = Ending(outcome=Outcome.INCOMPLETE, error=reason)
        return record._replace(payload=ending)

    def _mask_body(self, record: Record, data: bytes) -> bytes:
        # Requests and responses are masked apart: each may end inside a secret.
        key = (record.exchange_id, record.op)
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = self._redactor.body(record.exchange_id)
        return mask.feed(data)

    def _lose(self, records: list[Record], reason: str) -> None:
        """Note that records are gone; their exchanges will say so when they end."""
        for record in records:
            self._lost.setdefault(record.exchange_id, reason)
        self._complaints.say(
            f"{reason}; streams flow on, but are not recorded until it can be"
        )

    def _is_due(self) -> bool:
        segment, limits = self._segment, self._limits
        if segment.is_empty:
            return False
        now_ns = self._clock.monotonic_ns()
        idle_ns = now_ns - self._last_heard_ns
        return (
            segment.size > limits.segment_bytes
            or now_ns - segment.began_ns > limits.segment_age_s * _NS_PER_S
            or (not self._transcripts and idle_ns > limits.idle_s * _NS_PER_S)
        )

    def _begin_segment(self) -> OpenSegment:
        # Segments are read in the order of their names, which a wall clock that steps
        # back must not change.
        self._latest_ns = max(self._clock.wall_ns(), self._latest_ns + _NS_PER_MS)
        name = new_segment_name(self.recorder_id, self._latest_ns)
        return OpenSegment(self._layout, name, self._clock.monotonic_ns())

    def _roll(self) -> None:
        """Go on in a new segment, and seal the one so far."""
        carried = [r for t in self._transcripts.values() for r in t.carry()]
        segment = None
        try:
            segment = self._begin_segment()
            if carried:
                segment.journal.append(carried)
        except OSError as error:
            if segment is not None:
                segment.journal.remove()
            self._complaints.say(f"no new segment could be begun: {error.strerror}")
            return
        sealed, self._segment = self._segment, segment
        self._submit_seal(sealed)

    def _submit_seal(self, segment: OpenSegment) -> None:
        self._sealer.submit(self._seal, segment)

    def _seal(self, segment: OpenSegment) -> None:
        try:
            if segment.is_suspect:
                raise RuntimeError("some of its rows could not be made")  # noqa: TRY301
            segment.seal()
        except Exception as error:  # noqa: BLE001 - the journal has it all, and is kept
            segment.journal.close()
            self._complaints.say(
                f"segment {segment.name} could not be sealed ({error}); its journal is"
                " kept, and `sse-recorder recover` seals it"
            )


class _Complaints:
    """Says what went wrong in the log, the same thing at most once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_ns: dict[str, int] = {}

    def say(self, message: str) -> None:
        now_ns = self._clock.monotonic_ns()
        last_ns = self._said_ns.get(message)
        if last_ns is None or now_ns - last_ns > _COMPLAINT_INTERVAL_S * _NS_PER_S:
            self._said_ns[message] = now_ns
            log.error("%s", message)
