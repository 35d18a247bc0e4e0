"""A scribe in a process of its own, and what stands for it here.

    here                                             there
    ScribeProcess.write ──── batches, pickled ─────▶ main ─▶ Scribe
    a thread that listens ◀─ an answer to each ─────

While it is at work, the other process says so twice a second: what is silent then is
stopped, or hangs.

The two talk through a pair of sockets.  Every message is its length and a pickle; both
ends are the same program.  What is written blocks when the other process does not read,
which is what makes the queue fill, which is what makes the tap drop: so a process that
hangs or is stopped costs what a queue may hold, and its recordings.

Who ends the recorder with Ctrl-C, or a service with all its processes, does not mean
that what was recorded is to be lost: from its first instruction on the other process
hears no such signal (see `signals_blocked`), and leaves when this one says so.

When this process dies, the other one reads the end of the stream: it writes to the
journal what was on its way and leaves, so that a crash here looks on the disk as if
both had been one.  When the other one dies, a new one is started.  It recovers what is
in the journal, and is told of the exchanges whose beginnings had not been answered: if
no journal has them nobody else knows of them, and they will be `incomplete`.

It is a program started afresh and not a fork, because this one has threads.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sse_recorder.capture.complaints import Complaints
from sse_recorder.capture.debt import Debt
from sse_recorder.capture.scribe import Limits, Scribe, Status
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import SSERecorderError, StoreError
from sse_recorder.exchange import Op, RawRecord
from sse_recorder.otel import Recipe, Telemetry
from sse_recorder.redact import Redactor
from sse_recorder.store.recovery import Recovered

PATIENCE_S: Final = 5.0
"""How long the process may be silent when it is to finish."""

ENDINGS: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a program to end."""

_BEAT_S: Final = 0.5
_ATTEMPTS: Final = 2
_START_S: Final = 60.0
"""How long it may be silent when it begins."""
NICENESS: Final = 15
"""The streams come first: on a busy machine it is recording that falls behind."""
_RESTART_INTERVAL_NS: Final = 1_000_000_000
_WEDGED_NS: Final = 2_000_000_000
_LENGTH: Final = struct.Struct("!Q")
# Modules are looked for where this process looks for them.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from sse_recorder.capture.process import main; main(int(sys.argv[1]))"
)

log = logging.getLogger("sse_recorder.capture")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The first message: how to write."""

    root: Path
    recorder_id: str
    redactor: Redactor
    telemetry: Recipe | None
    """What it makes its telemetry of; None for none."""
    limits: Limits
    log_level: int
    lost: list[RawRecord]
    """The beginnings and ends of exchanges that may not be known there."""
    reason: str = ""
    """Why they are lost."""
    recorders: tuple[str, ...] = ()
    """Whose they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The answer to it."""

    recovered: list[Recovered]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The answer to a batch; and, without any, what has changed by itself."""

    status: Status
    batches: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The last answer."""

    status: Status
    spans_lost: int


def _send(peer: socket.socket, message: object) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    peer.sendall(_LENGTH.pack(len(data)) + data)


def _receive(peer: socket.socket) -> Any:
    """Return the next message.

    Raises:
        EOFError: the peer is gone.
        TimeoutError: nothing came within the socket's timeout.
    """
    (length,) = _LENGTH.unpack(_receive_exactly(peer, _LENGTH.size))
    # The peer is this very program at the other end of an unnamed pair of sockets.
    return pickle.loads(_receive_exactly(peer, length))  # noqa: S301


def _receive_exactly(peer: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        try:
            count = peer.recv_into(view)
        except ConnectionError:
            count = 0
        if not count:
            raise EOFError
        view = view[count:]
    return data


class _Link:
    """The other process's end, which speaks while a thing is done (see `busy`)."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self._lock = threading.Lock()
        self._is_busy = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message: object) -> None:
        """Send a message, whole."""
        with self._lock:
            _send(self.peer, message)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Let the peer know that this is at work while the block lasts."""
        self._is_busy.set()
        try:
            yield
        finally:
            self._is_busy.clear()

    def _beat(self) -> None:
        with suppress(OSError):  # the peer is gone, which the other thread notices
            while self._is_busy.wait():
                time.sleep(_BEAT_S)
                if self._is_busy.is_set():
                    self.send(None)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM in this thread while the block lasts.

    A process that is started in it begins with them blocked.  To ignore them there is
    too late: until it has read its modules it would die of them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ScribeProcess:
    """Stands for a scribe in another process.

    `write` and `close` are called by one thread, `status` by any.

    Raises:
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        root: Path,
        *,
        recorder_id: str,
        redactor: Redactor,
        telemetry: Recipe | None,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._setup = Setup(
            root=root.absolute(),
            recorder_id=recorder_id,
            redactor=redactor,
            telemetry=telemetry,
            limits=limits,
            log_level=logging.getLogger().getEffectiveLevel(),
            lost=[],
        )
        self._clock = clock
        self._complaints = Complaints(clock)
        self._restarts = 0
        self._retry_ns = 0
        self._status = Status()
        self._finished: Finished | None = None
        self._is_gone = False
        self._is_closed = threading.Event()
        self._heard_ns = clock.monotonic_ns()
        self._patience_s = _START_S
        # Of the batches that are not answered: when each went, and what of it begins
        # and ends exchanges.
        self._unanswered: deque[tuple[int, list[RawRecord]]] = deque()
        self._debt = Debt()
        """The same of those that could not be sent."""
        self.recorders = [recorder_id]
        """The ids of all that wrote."""
        self.recovered = self._start(self._setup)
        """What an earlier crash left, and what was done about it."""

    def _start(self, setup: Setup) -> list[Recovered]:
        try:
            self._launch()
        except OSError as error:
            raise StoreError(
                f"the writing process cannot be started: {error.strerror or error}"
            ) from error
        try:
            _send(self._peer, setup)
            while (started := self._hear()) is None:
                pass  # it is recovering
        except (EOFError, OSError) as error:
            self._kill()
            raise StoreError(
                "the writing process did not start; see what it said above"
            ) from error
        self._peer.settimeout(None)
        if started.error is not None:
            self._kill()
            raise StoreError(started.error)
        self._patience_s = PATIENCE_S
        self._is_gone = False
        self._listener = threading.Thread(
            target=self._listen, name="sse-recorder-listener", daemon=True
        )
        try:
            self._listener.start()
        except RuntimeError as error:
            self._kill()
            raise StoreError(
                f"the writing process is not listened to: {error}"
            ) from error
        recovered: list[Recovered] = started.recovered
        return recovered

    def _launch(self) -> None:
        """Start the process, and be connected with it."""
        self._patience_s = _START_S
        self._heard_ns = self._clock.monotonic_ns()
        path = json.dumps([str(Path(entry).absolute()) for entry in sys.path])
        ours, theirs = socket.socketpair()
        try:
            with theirs, signals_blocked():
                # -P: a file in this folder must not stand in for a module of Python's.
                self._process = subprocess.Popen(  # noqa: S603 - this very program
                    [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), path],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        except OSError:
            ours.close()
            raise
        self._peer = ours
        self._peer.settimeout(_START_S)

    def _hear(self) -> Any:
        """Return the next message; None says that it is at work."""
        message = _receive(self._peer)
        self._heard_ns = self._clock.monotonic_ns()
        return message

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def status(self) -> Status:
        """How it is; asked from any thread."""
        status, problems = self._status, list(self._status.problems)
        with suppress(IndexError):
            since_ns = max(self._unanswered[0][0], self._heard_ns)
            silent_ns = self._clock.monotonic_ns() - since_ns
            if silent_ns > _WEDGED_NS:
                problems.append(
                    f"the writing process has not answered for {silent_ns / 1e9:.0f} s"
                )
        if self._is_gone:
            problems.append("the writing process is gone")
        return replace(status, problems=tuple(problems), restarts=self._restarts)

    def pause_s(self) -> float | None:
        """Return None: the other process keeps its own time."""
        return None

    def write(self, records: list[RawRecord]) -> None:
        """Send a batch; wait for as long as the other process does not take it."""
        ends = [r for r in records if r[1] is Op.OPEN or r[1] is Op.END]
        if self._is_gone and not self._restart():
            self._debt.add(ends)
            return
        self._unanswered.append((self._clock.monotonic_ns(), ends))
        with suppress(OSError):  # the listener notices, and the next batch restarts it
            _send(self._peer, records)

    def hurry(self) -> None:
        """From now on end the process when it is silent for long; from any thread."""
        threading.Thread(
            target=self._watch, name="sse-recorder-watch", daemon=True
        ).start()

    def _watch(self) -> None:
        self._heard_ns = self._clock.monotonic_ns()
        while not self._is_closed.wait(_BEAT_S):
            silent_ns = self._clock.monotonic_ns() - self._heard_ns
            if silent_ns > self._patience_s * 1e9:
                self._process.kill()

    def close(self) -> int:
        """Let it finish; end it if it does not.  Return how many spans it lost."""
        for _ in range(_ATTEMPTS):
            if self._is_gone:
                self._retry_ns = 0
                self._restart()  # to recover what the last one left
            with suppress(OSError):
                _send(self._peer, None)
            self._listener.join()
            if self._finished is not None:
                break
        self._is_closed.set()
        self._kill()
        if self._finished is None:
            self._complaints.say(
                "close",
                "the writing process did not finish and was ended; what is in its"
                " journal is kept, and `sse-recorder recover` seals it",
            )
            return 0
        return self._finished.spans_lost

    def _listen(self) -> None:
        """Take the answers, until there are no more."""
        try:
            while True:
                match self._hear():
                    case Finished() as finished:
                        self._status, self._finished = finished.status, finished
                        return
                    case Written(status=status, batches=batches):
                        self._status = status
                        for _ in range(min(batches, len(self._unanswered))):
                            self._unanswered.popleft()
                    case None:
                        pass  # it is at work
        except (EOFError, OSError):
            self._is_gone = True

    def _restart(self) -> bool:
        """Start another one in place of one that died; not more than once a second."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._retry_ns:
            return False
        self._retry_ns = now_ns + _RESTART_INTERVAL_NS
        self._kill()
        self._restarts += 1
        reason = "the writing process died"
        told = f"{reason}; streams flow on, and another one is started"
        if self._setup.telemetry is not None:
            # How many those are, it alone knew.
            told += "; spans that it had not sent are left to `otel export`"
        self._complaints.say("death", told)
        # What the last one left is not carried on, but recovered.
        recorder_id = f"{self._setup.recorder_id}-{self._restarts}"
        earlier = tuple(self.recorders)
        self.recorders.append(recorder_id)
        try:
            self._start(
                replace(
                    self._setup,
                    recorder_id=recorder_id,
                    lost=list(self._unknown()),
                    reason=reason,
                    recorders=earlier,
                )
            )
        except StoreError as error:
            self._complaints.say(
                "restart", f"{error}; nothing is recorded until it can be"
            )
            self._is_gone = True
            return False
        self._unanswered.clear()
        self._debt = Debt()
        return True

    def _unknown(self) -> Iterator[RawRecord]:
        """Give the beginnings and ends of exchanges that no journal may have."""
        begun: set[str] = set()
        unanswered = (records for _, records in self._unanswered)
        for record in chain(*unanswered, self._debt.all()):
            if record[1] is Op.OPEN:
                begun.add(record[0])
                yield record
            elif record[0] in begun:
                yield record

    def _kill(self) -> None:
        self._process.kill()  # it has finished, or never will
        self._process.wait()
        self._peer.close()


def main(descriptor: int) -> None:
    """Be the other process: write what comes, until the peer says so or is gone."""
    with suppress(OSError):
        os.nice(NICENESS)
    link = _Link(socket.socket(fileno=descriptor))
    try:
        setup: Setup = _receive(link.peer)
    except EOFError:
        os._exit(1)  # the recorder is gone, and there is nothing yet to write
    logging.basicConfig(
        level=setup.log_level, format="sse-recorder: %(levelname)s: %(message)s"
    )
    telemetry = None
    try:
        with link.busy():
            if setup.telemetry is not None:
                telemetry = setup.telemetry.make()
            scribe = _begin(setup, telemetry)
    except SSERecorderError as error:
        link.send(Started(recovered=[], error=str(error)))
        return
    # Arrow's own allocator takes huge pages, and gives them back after every segment:
    # to zero them anew was a sixth of all the time here.
    pa.set_memory_pool(pa.system_memory_pool())
    # Rows are tuples of texts and numbers: millions of them, and no cycles.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        link.send(Started(recovered=scribe.recovered))
        _serve(link, scribe)
        with link.busy():
            scribe.close()
            spans_lost = telemetry.close() if telemetry else 0
        link.send(Finished(status=scribe.status, spans_lost=spans_lost))
    except (EOFError, OSError):
        # The recorder is gone.  Everything that it sent is in the journal.
        os._exit(1)


def _begin(setup: Setup, telemetry: Telemetry | None) -> Scribe:
    scribe = Scribe(
        setup.root,
        recorder_id=setup.recorder_id,
        redactor=setup.redactor,
        spans=telemetry,
        limits=setup.limits,
        clock=SYSTEM,
    )
    scribe.give_up(setup.lost, setup.reason, setup.recorders)
    return scribe


def _serve(link: _Link, scribe: Scribe) -> None:
    peer = link.peer
    while True:
        if not _wait(peer, scribe.pause_s()):
            with link.busy():
                scribe.write([])
            link.send(Written(status=scribe.status))
            continue
        with link.busy():
            records = _receive(peer)
            if records is None:
                return
            scribe.write(records)
        link.send(Written(status=scribe.status, batches=1))


def _wait(peer: socket.socket, timeout_s: float | None) -> bool:
    """Wait for a message, or its sender's end; False when the time is up."""
    peer.settimeout(timeout_s)
    try:
        peer.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    finally:
        peer.settimeout(None)
    return True
