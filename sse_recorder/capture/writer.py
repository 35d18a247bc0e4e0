"""The thread that takes records to whoever writes them.

It empties the queue every `FLUSH_INTERVAL_S` while there is something in it, and hands
each batch to a scribe, which may take its time: meanwhile the queue fills, and when it
is full records are dropped.  Nothing else here can be slow, and nothing here can fail
in a way that the streams would notice.  A large batch is handed over in pieces, so that
each is answered soon.

What was lost is told by `health` for a minute, whatever lost it: who asks now and then
is to hear of it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sse_recorder.capture.audience import Spans
from sse_recorder.capture.complaints import Complaints
from sse_recorder.capture.process import ScribeProcess
from sse_recorder.capture.scribe import Limits, Loss, Scribe, Status
from sse_recorder.capture.tap import RecordQueue, Tap, size_of
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.exchange import RawRecord
from sse_recorder.otel import Recipe
from sse_recorder.redact import Redactor
from sse_recorder.stats import Usage
from sse_recorder.store.census import Census, count
from sse_recorder.store.recovery import Recovered
from sse_recorder.store.segment import Layout

log = logging.getLogger("sse_recorder.capture")

_NS_PER_S = 1_000_000_000
_RECENTLY_NS = 60 * _NS_PER_S
_WEDGED_NS = 2 * _NS_PER_S
"""A batch that takes longer to be written is a sign that something is wrong."""
PIECE_BYTES = 4 << 20
"""What is handed over at once, or one record."""
_FELL_BEHIND = "records were dropped: the writer fell behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterHealth:
    """How the writer is."""

    problems: tuple[str, ...] = ()
    """What keeps it from writing everything, or did so within the last minute, in
    words; empty while all is well."""
    lasting: tuple[str, ...] = ()
    """Those of them that are so now."""
    refused: int = 0
    """Records for which there was no room."""
    unheard: int = 0
    """Exchanges of which nothing is known but that they were: no room for more."""
    queued_bytes: int = 0
    """Of records that wait to be written."""
    journal_errors: int = 0
    """Batches that the journal did not take."""
    seals: int = 0
    """Segments that were sealed."""
    seal_failures: int = 0
    """Seals that failed; their journals are kept."""
    writer_restarts: int = 0
    """How often the writing process died and was replaced."""


class Backend(Protocol):
    """Who writes: a `Scribe`, or what stands for one in another process."""

    @property
    def recovered(self) -> list[Recovered]:
        """What an earlier crash left, and what was done about it."""

    @property
    def recorders(self) -> list[str]:
        """The ids of all that wrote in its name."""

    @property
    def status(self) -> Status:
        """How it is; asked from any thread."""

    @property
    def pid(self) -> int | None:
        """Its process, if that is another one."""

    def write(self, records: list[RawRecord]) -> None:
        """Take a batch.  It may take as long as it takes; it must not raise."""

    def pause_s(self) -> float | None:
        """Return after how long without records it wants an empty batch."""

    def hurry(self) -> None:
        """Give up in time, from now on, on what hangs; from any thread."""

    def close(self) -> int:
        """Finish, seal what there is, and return how many spans were not delivered."""


class Writer:
    """Writes what taps hear to a store.

    Args:
        root: the store.
        redactor: what masks; by default the rules that need no configuration.
        spans: who wants to hear of exchanges that are over.
        limits: how much may wait, and when a segment is sealed.
        clock: of the taps' times.
        recorder_id: what names the segments; random by default.
        own_process: whether a process of its own writes.  It cannot call `spans`, and
            makes a telemetry of its own from `recipe`.
        recipe: what that is made of; None for no telemetry.

    Raises:
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        redactor: Redactor | None = None,
        spans: Spans | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        recorder_id: str | None = None,
        own_process: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        root = Path(root)
        self.recorder_id = recorder_id or secrets.token_hex(4)
        limits, redactor = limits or Limits(), redactor or Redactor()
        self.spans = spans
        self.queue = RecordQueue(limits.queue_bytes)
        self.spans_lost = 0
        """Spans that had not been delivered when it was closed."""
        self.recorded = Census()
        """What the store had of it then."""
        self._layout = Layout(root)
        self._clock = clock
        self._complaints = Complaints(clock)
        self._refused = 0
        self._loss: Loss | None = None
        self._fault: str | None = None
        self._began_ns: int | None = None  # of the batch that is being written
        self._backend: Backend
        if own_process:
            self._backend = ScribeProcess(
                root,
                recorder_id=self.recorder_id,
                redactor=redactor,
                telemetry=recipe,
                limits=limits,
                clock=clock,
            )
        else:
            self._backend = Scribe(
                root,
                recorder_id=self.recorder_id,
                redactor=redactor,
                spans=spans,
                limits=limits,
                clock=clock,
            )
        self._thread = threading.Thread(
            target=self._run, name="sse-recorder-writer", daemon=True
        )
        self._thread.start()

    @property
    def recovered(self) -> list[Recovered]:
        """What an earlier crash left, and what was done about it."""
        return self._backend.recovered

    def tap(self, exchange_id: str, t0_ns: int) -> Tap:
        """Return the tap of a new exchange."""
        return Tap(self.queue, exchange_id, t0_ns)

    def health(self) -> WriterHealth:
        """Return how it is; asked from any thread."""
        status = self._backend.status
        lasting = [*status.problems, *self._own_problems()]
        losses = status.losses if self._loss is None else (*status.losses, self._loss)
        since_ns = self._clock.monotonic_ns() - _RECENTLY_NS
        recent = [loss.reason for loss in losses if loss.at_ns > since_ns]
        return WriterHealth(
            problems=tuple(dict.fromkeys(lasting + recent)),
            lasting=tuple(lasting),
            refused=self.queue.refused,
            unheard=self.queue.unheard,
            queued_bytes=self.queue.waiting_bytes,
            journal_errors=status.journal_errors,
            seals=status.seals,
            seal_failures=status.seal_failures,
            writer_restarts=status.restarts,
        )

    def _own_problems(self) -> Iterator[str]:
        began_ns = self._began_ns
        now_ns = self._clock.monotonic_ns()
        waited_ns = 0 if began_ns is None else now_ns - began_ns
        if waited_ns > _WEDGED_NS:
            yield f"the writer has been busy for {waited_ns / _NS_PER_S:.0f} s"
        if self.queue.refused > self._refused:
            yield _FELL_BEHIND
        if self._fault is not None:
            yield self._fault

    def usage(self) -> Usage:
        """Return what this process uses, and the one that writes."""
        pid = self._backend.pid
        return Usage.of() if pid is None else Usage.of() + Usage.of(pid)

    def leave(self) -> None:
        """Let go of the store, in a fork of the process that records into it."""
        if isinstance(self._backend, Scribe):
            self._backend.leave()

    def close(self) -> None:
        """Write what is queued, and seal it; for a wedged process, give up in time."""
        self.queue.close()
        self._backend.hurry()
        self._thread.join()

    def _run(self) -> None:
        while (records := self.queue.take(self._backend.pause_s())) is not None:
            self._look_at_queue()
            for piece in self._pieces(records):
                self._hand_over(piece)
        self.spans_lost = self._backend.close()
        self.recorded = count(self._layout, self._backend.recorders)

    def _hand_over(self, records: list[RawRecord]) -> None:
        self._began_ns = self._clock.monotonic_ns()
        try:
            self._backend.write(records)
        except Exception as error:
            # Without this thread nothing would be recorded any more.
            if self._fault is None:
                log.exception("a batch was not written; please report this")
            self._fault = f"the recorder failed: {error}"
        else:
            self._fault = None
        self._began_ns = None

    def _pieces(self, records: list[RawRecord]) -> Iterator[list[RawRecord]]:
        """Cut a batch, if it is large; few are."""
        if self.queue.taken_bytes <= PIECE_BYTES:
            yield records
            return
        start = size = 0
        for number, record in enumerate(records):
            size += size_of(record)
            if size > PIECE_BYTES and number > start:
                yield records[start:number]
                start, size = number, size_of(record)
        yield records[start:]

    def _look_at_queue(self) -> None:
        """Say so if there was no room in it."""
        refused = self.queue.refused
        if refused == self._refused:
            return
        self._refused = refused
        self._loss = Loss(_FELL_BEHIND, self._clock.monotonic_ns())
        self._complaints.say(
            "queue",
            "the writer fell behind and records were dropped; streams flow on, and"
            " their exchanges will be incomplete",
        )
        if unheard := self.queue.unheard:
            self._complaints.say(
                "unheard",
                f"the writer is so far behind that {unheard} exchanges are not"
                " recorded at all",
            )
