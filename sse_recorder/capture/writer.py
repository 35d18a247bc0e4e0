"""The thread that takes records to whoever writes them.

It empties the queue every `FLUSH_INTERVAL_S` while there is something in it, and hands
each batch to a scribe, which may take its time: meanwhile the queue fills, and when it
is full records are dropped.  Nothing else here can be slow, and nothing here can fail
in a way that the streams would notice.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sse_recorder.capture.complaints import Complaints
from sse_recorder.capture.process import ScribeProcess
from sse_recorder.capture.scribe import Limits, Scribe, Spans, Status
from sse_recorder.capture.tap import RecordQueue, Tap
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.exchange import RawRecord
from sse_recorder.redact import Redactor
from sse_recorder.stats import Usage
from sse_recorder.store.recovery import Recovered

_NS_PER_S = 1_000_000_000
_RECENTLY_NS = 60 * _NS_PER_S
_WEDGED_NS = 2 * _NS_PER_S
"""A batch that takes longer to be written is a sign that something is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterHealth:
    """How the writer is."""

    problems: tuple[str, ...] = ()
    """What keeps it from writing everything, in words; empty while all is well."""
    refused: int = 0
    """Records for which there was no room."""
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
            makes an exporter of its own from `environ`.
        environ: the variables for that; None for no spans.

    Raises:
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        root: Path,
        *,
        redactor: Redactor | None = None,
        spans: Spans | None = None,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        recorder_id: str | None = None,
        own_process: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.recorder_id = recorder_id or secrets.token_hex(4)
        limits, redactor = limits or Limits(), redactor or Redactor()
        self.queue = RecordQueue(limits.queue_bytes)
        self.spans_lost = 0
        """Spans that had not been delivered when it was closed."""
        self._clock = clock
        self._complaints = Complaints(clock)
        self._refused = 0
        self._refused_ns: int | None = None
        self._began_ns: int | None = None  # of the batch that is being written
        self._backend: Backend
        if own_process:
            self._backend = ScribeProcess(
                root,
                recorder_id=self.recorder_id,
                redactor=redactor,
                environ=environ,
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
        now_ns, status = self._clock.monotonic_ns(), self._backend.status
        problems = list(status.problems)
        began_ns, refused_ns = self._began_ns, self._refused_ns
        if began_ns is not None and now_ns - began_ns > _WEDGED_NS:
            waited_s = (now_ns - began_ns) / _NS_PER_S
            problems.append(f"the writer has been busy for {waited_s:.0f} s")
        if self.queue.refused > self._refused or (
            refused_ns is not None and now_ns - refused_ns < _RECENTLY_NS
        ):
            problems.append("records were dropped: the writer fell behind")
        return WriterHealth(
            problems=tuple(problems),
            refused=self.queue.refused,
            queued_bytes=self.queue.waiting_bytes,
            journal_errors=status.journal_errors,
            seals=status.seals,
            seal_failures=status.seal_failures,
            writer_restarts=status.restarts,
        )

    def usage(self) -> Usage:
        """Return what this process uses, and the one that writes."""
        pid = self._backend.pid
        return Usage.of() if pid is None else Usage.of() + Usage.of(pid)

    def close(self) -> None:
        """Write what is queued, and seal it; for a wedged process, give up in time."""
        self.queue.close()
        self._backend.hurry()
        self._thread.join()

    def _run(self) -> None:
        while (records := self.queue.take(self._backend.pause_s())) is not None:
            if self.queue.refused > self._refused:
                self._refused = self.queue.refused
                self._refused_ns = self._clock.monotonic_ns()
                self._complaints.say(
                    "the writer fell behind and records were dropped; streams flow on,"
                    " and their exchanges will be incomplete"
                )
            self._began_ns = self._clock.monotonic_ns()
            self._backend.write(records)
            self._began_ns = None
        self.spans_lost = self._backend.close()
