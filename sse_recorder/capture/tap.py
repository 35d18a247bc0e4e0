"""The ear on one exchange, and the queue between it and the writer.

The `Tap` of an exchange is called by whatever carries the stream, after it has passed
the bytes on.  It does no I/O, reads no clock and never waits: it puts a record into a
queue.  The queue is bounded.  When it is full the record is dropped and the exchange
will end as `incomplete`, because a recorder must never be what breaks or slows a
stream.  Of an exchange that begins then there is the bare beginning, and its end; and
when there are very many of those, it is counted, and nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Final

from sse_recorder.exchange import (
    Ending,
    Headers,
    Op,
    Opening,
    Outcome,
    Payload,
    RawRecord,
    RequestHead,
    ResponseHead,
)

FLUSH_INTERVAL_S: Final = 0.08
"""How long records are gathered, from the first one on: what the journal lacks is never
older than a tenth of a second, and an idle recorder sleeps.  Every batch finds the
caches cold, so that many small ones cost more than a few."""

FLUSH_BYTES: Final = 1 << 20
"""So much is not gathered for longer."""

BARE_BYTES: Final = 4 << 20
"""How much more than its limit a queue may have, of beginnings and ends."""

# What a record costs in memory beside its bytes.
_RECORD_OVERHEAD: Final = 200
_BARE_TEXT_MAX: Final = 1_000
_BODIES: Final = frozenset({Op.REQUEST_DATA, Op.DATA})
_DATA: Final = Op.DATA


class RecordQueue:
    """Records on their way from any number of threads to the one that writes."""

    def __init__(self, limit_bytes: int) -> None:
        self.refused = 0
        """Records for which there was no room."""
        self.unheard = 0
        """Exchanges that were only counted."""
        self.taken_bytes = 0
        """How much was taken the last time."""
        self.waiting_bytes = 0
        """How much waits to be taken."""
        self._limit = limit_bytes
        self._records: list[RawRecord] = []
        self._lock = threading.Lock()
        self._is_closed = False
        # Set for the first record of a batch, when there is much, and at the end.
        self._begun = threading.Event()
        self._urgent = threading.Event()

    def put(self, record: RawRecord, size: int = 0) -> bool:
        """Queue a record without waiting; False when there is no room for it."""
        with self._lock:
            waiting = self.waiting_bytes
            if waiting + size > self._limit and record[1] is not Op.END:
                self.refused += 1
                self._begun.set()  # to be told of it, also when nothing waits
                return False
            self._records.append(record)
            self.waiting_bytes = now_waiting = waiting + size + _RECORD_OVERHEAD
        # The writer is not woken for each record, but for each batch.
        if not waiting:
            self._begun.set()
        if now_waiting > FLUSH_BYTES >= waiting:
            self._urgent.set()
        return True

    def put_bare(self, opening: RawRecord) -> bool:
        """Queue what must be known of an exchange whose opening was refused."""
        opening = bare(opening)
        with self._lock:
            # What is lost must not be lost silently, and not all memory must go for it.
            if self.waiting_bytes > self._limit + BARE_BYTES:
                self.unheard += 1
                return False
            self._records.append(opening)
            self.waiting_bytes += size_of(opening) + _RECORD_OVERHEAD
        self._begun.set()
        return True

    def take(self, timeout_s: float | None) -> list[RawRecord] | None:
        """Wait for records, gather for a moment, and return them.

        Returns:
            The records, in order; none when the time was up; None when the queue is
            closed and empty.
        """
        if self._begun.wait(timeout_s):
            self._urgent.wait(FLUSH_INTERVAL_S)
        # Made before: who makes a list may collect garbage, which may want to put.
        fresh: list[RawRecord] = []
        with self._lock:
            records, self._records = self._records, fresh
            self.taken_bytes, self.waiting_bytes = self.waiting_bytes, 0
            if self._is_closed:
                return records or None
            self._begun.clear()
            self._urgent.clear()
        return records

    def close(self) -> None:
        """Let the writer finish: what is queued is still taken."""
        with self._lock:
            self._is_closed = True
            self._begun.set()
            self._urgent.set()


class Tap:
    """The ear on one exchange.  Times are the monotonic clock's; offsets come out."""

    __slots__ = ("_is_unheard", "_lost", "_queue", "_t0_ns", "exchange_id")

    def __init__(self, queue: RecordQueue, exchange_id: str, t0_ns: int) -> None:
        self.exchange_id = exchange_id
        self._queue = queue
        self._t0_ns = t0_ns
        self._lost = 0
        self._is_unheard = False

    def opened(self, opening: Opening) -> None:
        """Take in the request's head."""
        record: RawRecord = (self.exchange_id, Op.OPEN, 0, opening)
        if not self._queue.put(record, size_of(record)):
            self._lost += 1
            self._is_unheard = not self._queue.put_bare(record)

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
        # After a loss no more of the bodies is kept: joined to what came before it, the
        # rest would make events that nobody sent.
        if self._lost or not self._queue.put(
            (self.exchange_id, _DATA, at_ns - self._t0_ns, data), len(data)
        ):
            self._lost += 1

    def ended(self, at_ns: int, ending: Ending) -> None:
        """Note how the exchange ended; nothing may follow."""
        if self._is_unheard:
            return  # an end is of no use without its beginning
        if self._lost:
            ending = replace(
                ending,
                outcome=Outcome.INCOMPLETE,
                error=f"{self._lost} records were lost: the writer fell behind",
                trailers=(),
            )
        self._put(Op.END, at_ns, ending, _size(ending.trailers))

    def _put(self, op: Op, at_ns: int, payload: Payload, size: int) -> None:
        record = (self.exchange_id, op, at_ns - self._t0_ns, payload)
        is_gap = self._is_unheard or (self._lost and op in _BODIES)
        if is_gap or not self._queue.put(record, size):
            self._lost += 1


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)


def size_of(record: RawRecord) -> int:
    """Return how many bytes there are in a record."""
    match record[3]:
        case bytes(data):
            return len(data)
        case Opening(request=request, url=url):
            return _size(request.headers) + 2 * len(url)  # the target has it again
        case ResponseHead(headers=headers) | Ending(trailers=headers):
            return _size(headers)
    return 0


def bare(opening: RawRecord) -> RawRecord:
    """Return what is kept of an opening when there is no room for it."""
    eid, op, at_ns, payload = opening
    assert isinstance(payload, Opening)
    request = payload.request
    short = RequestHead(request.method, _shortened(request.target))
    url = _shortened(payload.url)
    rest = replace(payload, request=short, url=url, received_path="")
    return (eid, op, at_ns, rest)


def _shortened(url: str) -> str:
    # Without what a mask would have to see whole.
    return url.partition("?")[0][:_BARE_TEXT_MAX]
