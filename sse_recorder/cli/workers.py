"""`record --workers N`: several processes that share one port.

    parent ── settings, then {"stats": 7} and {"stop": 5.0} ──▶ a worker
           ◀── {"ready": …}, {"stats": …, "of": 7}, {"done": …} ──

Each worker is a recorder of its own, with its own id and its own segments, and listens
on the same port (SO_REUSEPORT): the kernel deals connections out among them.  The
parent holds the port, without listening on it, so that it stays the same whichever
worker comes or goes.  Parent and worker speak in lines of JSON, over a pair of sockets
that is theirs alone: whatever else writes to a worker's stdout ends up on stderr.

Rules
-----
1. A worker is a process started anew, not a fork: this one has threads.
2. It is in a session of its own, so a Ctrl-C comes to the parent alone, which then
   tells each worker once.  What a service sends to all its processes waits until the
   worker can end in order.  The end of their sockets tells it the same: no worker
   outlives its parent, and none that hangs outlives its time to end.
3. A worker that dies is replaced after a pause, which doubles while they die young, so
   that a fault does not become a storm.
4. The counts of a worker that died were its own, and are gone: the sums go back, as
   Prometheus' counters do when a process begins again.
5. It looks for modules where its parent does, and not in the current folder, where a
   project may have a `signal.py` of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sse_recorder.background import run
from sse_recorder.capture.process import ENDINGS, signals_blocked
from sse_recorder.cli.base import counted
from sse_recorder.cli.serve import Signals, stop_in_order
from sse_recorder.cli.settings import Settings
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import ListenError, SSERecorderError
from sse_recorder.proxy import Recorder
from sse_recorder.stats import NONE, Stats

log = logging.getLogger("sse_recorder.workers")

ANSWER_TIMEOUT_S: Final = 2.0
"""How long a worker may take to tell its counts."""
FAULTS_SHOWN: Final = 20
"""How many lines of what faults did are shown at the end."""
PAUSE_S: Final = 0.5
PAUSE_MAX_S: Final = 60.0
YOUNG_NS: Final = 60_000_000_000
"""Who lives for longer did not die of beginning."""
GRACE_S: Final = 5.0
"""How long open exchanges may take to end when nobody is left to say."""
PATIENCE_S: Final = 10.0
"""How long a worker may take, beyond that, to write what it has and to end."""
_LINE_BYTES_MAX: Final = 1 << 20
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    f" from {__name__} import main; main(int(sys.argv[1]))"
)


@dataclass(slots=True)
class Summary:
    """What recorders have to say when they are done."""

    count: int = 0
    """Exchanges that they saw."""
    spans_lost: int = 0
    recovered: int = 0
    """Segments that an earlier recorder had left."""
    sealed: int = 0
    """Exchanges that are in the store;"""
    incomplete: int = 0
    """those of them that lack something,"""
    unsealed: int = 0
    """and those that only a journal has."""
    faults: list[str] = field(default_factory=list)
    """What faults did, so much of it as is shown;"""
    faults_told: int = 0
    """and how many lines that would be in all."""

    @classmethod
    def of(cls, recorder: Recorder) -> Summary:
        """Return that of one recorder."""
        recovered = len(recorder.writer.recovered)
        recorded = recorder.writer.recorded
        faults = recorder.fault_report[:FAULTS_SHOWN], recorder.faults_told
        return cls(recorder.count, recorder.spans_lost, recovered, *recorded, *faults)

    def sentence(self, store: str) -> str:
        """Say how many exchanges a store has, and what became of the others."""
        recorded = counted(self.count, "exchange")
        if self.sealed < self.count:
            recorded = f"{self.sealed:,} of {recorded}"
        lost = max(self.count - self.sealed - self.unsealed, 0)
        return (
            f"Recorded {recorded} into {store}"
            + f", {self.incomplete:,} of them incomplete" * bool(self.incomplete)
            + f"; {self.unsealed:,} in a journal, which `sse-recorder recover` seals"
            * bool(self.unsealed)
            + f"; {lost:,} lost" * bool(lost)
            + "."
        )

    def what_faults_did(self) -> list[str]:
        """Return the lines that are shown of it."""
        shown = self.faults[:FAULTS_SHOWN]
        if more := self.faults_told - len(shown):
            shown.append(f"… and {more:,} more.")
        return shown


class WorkerError(SSERecorderError):
    """A worker cannot begin, and says why."""

    def __init__(
        self, message: str, exit_code: int = SSERecorderError.exit_code
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Workers:
    """Recorders in processes of their own, behind one port.

    Args:
        settings: what each of them is made of.
        count: how many there are.
        host: the address to listen on.
        port: 0 picks one, which is the same for all.
        clock: tells how long a worker has lived.
    """

    def __init__(
        self,
        settings: Settings,
        count: int,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM,
    ) -> None:
        self.summary = Summary()
        """Of those that have ended."""
        self.url = ""
        """Where clients send what they would send to the upstream."""
        self._settings = settings
        self._numbers = range(1, count + 1)
        self._clock = clock
        self._address = (host, port)
        self._holder: socket.socket | None = None
        self._workers: dict[int, _Worker] = {}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, and return when all of them listen.

        Raises:
            SSERecorderError: one of them cannot.
        """
        self._holder, self._address = _hold(*self._address)
        begun = await asyncio.gather(
            *(self._begin(number) for number in self._numbers), return_exceptions=True
        )
        for error in begun:
            if isinstance(error, BaseException):
                raise error
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(self._keep(n)) for n in self._numbers]

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """Let them all end in order.  It can be called again, to be done sooner."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        workers = dict(self._workers)
        await asyncio.gather(*(worker.stop(grace_s) for worker in workers.values()))
        for number, worker in workers.items():
            self._forget(number, worker)
        if self._holder is not None:
            self._holder.close()

    async def stats(self) -> Stats:
        """Return the sum of what they count; who does not answer is a problem."""
        answers = await asyncio.gather(*map(self._stats, self._numbers))
        return sum(answers, NONE)

    async def _stats(self, number: int) -> Stats:
        worker = self._workers.get(number)
        if worker is None:
            return Stats(recorders=0, problems=(f"worker {number} is not there",))
        silent = Stats(recorders=0, problems=(f"worker {number} does not answer",))
        return await worker.stats() or silent

    async def _begin(self, number: int) -> None:
        now_ns = self._clock.monotonic_ns()
        worker = await _Worker.start(self._settings, self._address, now_ns)
        try:
            ready = await worker.ready
        except BaseException:
            await worker.kill()  # it has nothing yet that it would have to write
            raise
        self._workers[number] = worker
        self.url = ready["url"]
        self.summary.recovered += ready["recovered"]

    async def _keep(self, number: int) -> None:
        """Replace a worker whenever it dies."""
        pause_s = PAUSE_S
        while True:
            worker = self._workers.get(number)
            if worker is not None:
                code = await asyncio.shield(worker.over)
                self._forget(number, worker)
                log.error(
                    "worker %d ended with exit code %d; another takes its place, and"
                    " seals what it recorded",
                    number,
                    code,
                )
                if self._clock.monotonic_ns() - worker.began_ns > YOUNG_NS:
                    pause_s = PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MAX_S)
            try:
                await self._begin(number)
            except (SSERecorderError, OSError) as error:
                log.error("worker %d cannot begin: %s", number, error)  # noqa: TRY400 - no fault of ours

    def _forget(self, number: int, worker: _Worker) -> None:
        if self._workers.pop(number, None) is worker:
            for name in asdict(self.summary).keys() - {"recovered"}:
                value = getattr(self.summary, name) + getattr(worker.summary, name)
                setattr(self.summary, name, value)


def _hold(host: str, port: int) -> tuple[socket.socket, tuple[str, int]]:
    """Take a port for others of this user to listen on; nobody is connected by it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Asked without SO_REUSEPORT first: what listens there already is not joined.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        raise ListenError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. Stop what"
            " listens there, or use port 0 to get a free one."
        ) from error
    return holder, (host, port)


class _Worker:
    """The parent's end of one worker."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        lines: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        began_ns: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.began_ns = began_ns
        self.ready: asyncio.Future[dict[str, Any]] = loop.create_future()
        """What it says when it listens."""
        self.summary = Summary()
        self._process = process
        self._lines = lines
        self._writer = writer
        self._questions = 0
        self._asked: dict[int, asyncio.Future[Stats]] = {}
        self.over = loop.create_task(self._listen())
        """Its exit code; done when it has ended."""

    @classmethod
    async def start(
        cls, settings: Settings, address: tuple[str, int], began_ns: int
    ) -> _Worker:
        """Start a process; `ready` tells when it listens."""
        ours, theirs = socket.socketpair()
        lines, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES_MAX)
        with theirs:
            number = theirs.fileno()
            path = json.dumps(sys.path)
            # Not by the loop: uvloop would begin it with no signal blocked.
            with signals_blocked():
                process = subprocess.Popen(  # noqa: ASYNC220, S603 - it is short, and this very program
                    [sys.executable, "-P", "-c", _PROGRAM, str(number), path],
                    stdin=subprocess.DEVNULL,
                    stdout=sys.__stderr__,
                    pass_fds=(number,),
                    start_new_session=True,
                )
        worker = cls(process, lines, writer, began_ns)
        host, port = address
        worker._tell({"settings": settings.dumps(), "host": host, "port": port})
        return worker

    async def stats(self) -> Stats | None:
        """Return what it counts; None when it does not say."""
        question = self._questions = self._questions + 1
        answer: asyncio.Future[Stats] = asyncio.get_running_loop().create_future()
        self._asked[question] = answer
        self._tell({"stats": question})
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[question]

    async def stop(self, grace_s: float) -> None:
        """Tell it to end, and wait until it has; kill it if it hangs."""
        self._tell({"stop": grace_s})
        patience_s = grace_s + PATIENCE_S
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.shield(self.over)
        except TimeoutError:
            log.error("a worker did not end within %g s: it is killed", patience_s)  # noqa: TRY400 - no fault of ours
            await self.kill()

    async def kill(self) -> None:
        """End it at once, and wait until it has ended."""
        self._kill()
        await asyncio.shield(self.over)

    def _tell(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    def _kill(self) -> None:
        self._process.kill()

    async def _listen(self) -> int:
        try:
            with suppress(ConnectionError):  # it died with something unread
                async for line in self._lines:
                    self._hear(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            self._fail(f"a worker said what cannot be understood: {error!r}")
            self._kill()
        code = await asyncio.to_thread(self._process.wait)
        self._writer.close()
        self._fail(f"a worker ended as it began, with exit code {code}")
        return code

    def _fail(self, message: str) -> None:
        """Let whoever waits for it to begin wait no more."""
        if not self.ready.done():
            self.ready.set_exception(WorkerError(f"{message}; its log tells why"))

    def _hear(self, message: dict[str, Any]) -> None:
        match message:
            case {"ready": ready}:
                self.ready.set_result(ready)
            case {"failed": text, "exit_code": code}:
                self.ready.set_exception(WorkerError(text, code))
            case {"stats": stats, "of": question}:
                answer = self._asked.get(question)
                if answer is not None and not answer.done():
                    answer.set_result(Stats.from_json(stats))
            case {"done": done}:
                self.summary = Summary(**done)


# --- the worker's own end -------------------------------------------------------------


async def work(number: int) -> None:
    """Record until the parent or a signal says that it is over.

    Args:
        number: that of the file over which the parent speaks.
    """
    sock = socket.socket(fileno=number)
    lines, parent = await asyncio.open_connection(sock=sock, limit=_LINE_BYTES_MAX)
    try:
        await _record(lines, parent)
    finally:
        parent.close()
        with suppress(ConnectionError):
            await parent.wait_closed()


async def _record(lines: asyncio.StreamReader, parent: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    first = json.loads(await lines.readline())
    ends: Signals = asyncio.Queue()
    for number in ENDINGS:
        loop.add_signal_handler(number, ends.put_nowait, GRACE_S)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    try:
        settings = Settings.loads(first["settings"])
        recorder = settings.recorder(first["host"], first["port"], reuse_port=True)
        await recorder.start()
    except SSERecorderError as error:
        await _say(parent, {"failed": str(error), "exit_code": error.exit_code})
        return
    recovered = len(recorder.writer.recovered)
    await _say(parent, {"ready": {"url": recorder.url, "recovered": recovered}})
    obeying = loop.create_task(_obey(lines, parent, recorder, ends))
    await stop_in_order(recorder, await ends.get(), ends)
    obeying.cancel()
    await _say(parent, {"done": asdict(Summary.of(recorder))})


async def _obey(
    lines: asyncio.StreamReader,
    parent: asyncio.StreamWriter,
    recorder: Recorder,
    ends: Signals,
) -> None:
    """Do what the parent says; its end is an end, too."""
    with suppress(ConnectionError):
        async for line in lines:
            match json.loads(line):
                case {"stats": question}:
                    stats = recorder.stats().to_json()
                    await _say(parent, {"stats": stats, "of": question})
                case {"stop": grace_s}:
                    ends.put_nowait(grace_s)
    ends.put_nowait(GRACE_S)


async def _say(parent: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    parent.write(json.dumps(message).encode() + b"\n")
    try:
        await parent.drain()
    except ConnectionError:
        log.debug("the parent is gone")


def main(number: int) -> None:
    """Be a worker."""
    logging.basicConfig(
        level=logging.WARNING, format="sse-recorder: %(levelname)s: %(message)s"
    )
    run(work(number))
