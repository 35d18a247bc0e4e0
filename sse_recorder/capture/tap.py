"""The ear on one exchange, and the queue between it and the writer.

The `Tap` of an exchange is called by whatever carries the stream, after it has passed
the bytes on.  It does no I/O, reads no clock and never waits: it puts a record into a
queue.  The queue is bounded.  When it is full the record is dropped and the exchange
will end as `incomplete`, because a recorder must never be what breaks or slows a
stream.
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
    ResponseHead,
)

FLUSH_INTERVAL_S: Final = 0.08
"""How long records are gathered, from the first one on: what the journal lacks is never
older than a tenth of a second, and an idle recorder sleeps.  Every batch finds the
caches cold, so that many small ones cost more than a few."""

FLUSH_BYTES: Final = 1 << 20
"""So much is not gathered for longer."""

# What a record costs in memory beside its bytes.
_RECORD_OVERHEAD: Final = 200
_ALWAYS: Final = frozenset({Op.OPEN, Op.END})
_BODIES: Final = frozenset({Op.REQUEST_DATA, Op.DATA})
_DATA: Final = Op.DATA


class RecordQueue:
    """Records on their way from any number of threads to the one that writes."""

    def __init__(self, limit_bytes: int) -> None:
        self.refused = 0
        """Records for which there was no room."""
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
            # Beginnings and ends always pass: what is lost must not be lost silently.
            if waiting + size > self._limit and record[1] not in _ALWAYS:
                self.refused += 1
                return False
            self._records.append(record)
            self.waiting_bytes = now_waiting = waiting + size + _RECORD_OVERHEAD
        # The writer is not woken for each record, but for each batch.
        if not waiting:
            self._begun.set()
        if now_waiting > FLUSH_BYTES >= waiting:
            self._urgent.set()
        return True

    def take(self, timeout_s: float | None) -> list[RawRecord] | None:
        """Wait for records, gather for a moment, and return them.

        Returns:
            The records, in order; none when the time was up; None when the queue is
            closed and empty.
        """
        if self._begun.wait(timeout_s):
            self._urgent.wait(FLUSH_INTERVAL_S)
        with self._lock:
            records, self._records = self._records, []
            self.waiting_bytes = 0
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
        # After a loss no more of the bodies is kept: joined to what came before it, the
        # rest would make events that nobody sent.
        if self._lost or not self._queue.put(
            (self.exchange_id, _DATA, at_ns - self._t0_ns, data), len(data)
        ):
            self._lost += 1

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
        record = (self.exchange_id, op, at_ns - self._t0_ns, payload)
        is_gap = self._lost and op in _BODIES
        if is_gap or not self._queue.put(record, size):
            self._lost += 1


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
