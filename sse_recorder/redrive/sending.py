"""Sending what can be sent when it may go, and recording what comes back.

Each new recording has the tag `redrive_of`, the id of the one that it is of, so which
belong together is known and not guessed; `redrive_run` is the same for all of one run.

Nothing is sent twice, no redirect is followed, no cookie is kept.

Lateness is how much later than it could a request was handed to the transport.  One
that waited could go when what it waited for was over, and is counted in `held`.  What
waits because `concurrency` requests are open is late, and is told as late: that limit
is ours and not the recording's.  At `MAX_SPEED` nothing is due, so nothing is late.

Bodies wait in a file that has no name until they are due, so that memory is bounded by
the heads, and by what `concurrency` requests hold.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from sse_recorder.capture import Writer
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Exchange
from sse_recorder.playback import MAX_SPEED, Lateness
from sse_recorder.redact import Redactor
from sse_recorder.redrive.order import Gate, Plan
from sse_recorder.redrive.requests import Given, Job, Skip, unsendable
from sse_recorder.routing import Upstream
from sse_recorder.store.store import Store
from sse_recorder.timer import Timer
from sse_recorder.transport import RecordingTransport

if TYPE_CHECKING:
    import ssl

    import httpx

TAG: Final = "redrive_of"
"""The tag that names the recorded exchange."""

RUN_TAG: Final = "redrive_run"
"""The tag that all the recordings of one run share."""

# A server closes a connection that nothing is sent on after some seconds, often five.
# A request that crosses with that fails, and it would be no fault of the server's.
_KEPT_S: Final = 2.0
_IDS_SHOWN: Final = 3


class Redrive:
    """Recorded requests, sent again.

    Args:
        exchanges: those of the requests, in any order, with their requests' bodies;
            read here, and once.
        to: the URL of the live server; its path goes in front of those of requests.
        store: the folder to record into.
        plan: when they are sent.
        given: headers in place of recorded ones.
        redactor: what masked the recordings, and knows what else is secret; by default
            the rules without configuration, and what is given.
        tls: how to check the server's certificate.
        clock: what all times are read from.

    Raises:
        UsageError: the URL is none.
        StoreError: there are no exchanges.
    """

    def __init__(
        self,
        exchanges: Iterable[Exchange],
        to: str,
        *,
        store: str | Path = "recordings",
        plan: Plan | None = None,
        given: Given | None = None,
        redactor: Redactor | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.plan = plan or Plan()
        self.store = Path(store)
        self.run_id = ""
        """What tells the new recordings from others, once they are begun."""
        self.skipped: list[Skip] = []
        self.left_out: Counter[str] = Counter()
        """How many requests are sent without a header, by its name."""
        self.times: Counter[int] = Counter()
        """How often each job was sent, by its number."""
        self.unsent = 0
        """Requests that were not sent, because it was stopped."""
        self.over = 0
        self.unanswered = 0
        """Requests that got no response head."""
        self.first_error = ""
        """Why the first of them did not."""
        self.held = 0
        """Requests that waited for earlier ones."""
        self.on_change: Callable[[], object] = lambda: None
        """Is called whenever one of these numbers has changed."""
        self._given = given or Given()
        self._redactor = redactor or self._given.redactor()
        self._clock = clock
        self._upstream = Upstream.parse(to, tls)
        self._bodies: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this
        self._late = array("q")
        self._round: _Round | None = None
        self._is_stopped = False
        try:
            self.jobs = self._read(exchanges)
        except BaseException:
            self.close()
            raise
        self.due_ns = self.plan.due_ns(job.exchange.started_at for job in self.jobs)
        """When each job is due, after the first."""

    @property
    def sent(self) -> int:
        """How many requests were sent."""
        return self.times.total()

    @property
    def lateness(self) -> Lateness:
        """How much later than they could the requests were sent."""
        return Lateness.of(self._late)

    def skips(self) -> Iterator[str]:
        """Give the reasons for which requests are skipped, with some of their ids."""
        by_reason: defaultdict[str, list[str]] = defaultdict(list)
        for exchange, reason in self.skipped:
            by_reason[reason].append(exchange.exchange_id)
        for reason, ids in by_reason.items():
            more = ", …" if len(ids) > _IDS_SHOWN else ""
            yield f"{len(ids):,}, {reason}: {', '.join(ids[:_IDS_SHOWN])}{more}"

    async def run(self) -> None:
        """Send all of them, and record what comes back.

        Raises:
            StoreError: the store cannot be written.
        """
        import httpx  # noqa: PLC0415 - costs every other command 150 ms

        timeout = dict.fromkeys(("connect", "read", "write"), self.plan.timeout_s)
        # In a process of its own, because what writes would make requests late.
        writer = Writer(
            self.store, redactor=self._redactor, clock=self._clock, own_process=True
        )
        self.run_id = writer.recorder_id
        inner = httpx.AsyncHTTPTransport(
            verify=self._upstream.origin.ssl_context or False,
            trust_env=False,
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_KEPT_S),
        )
        try:
            await _warm_up(inner)
            for _ in range(self.plan.repeat):
                if not self._is_stopped:
                    send = partial(self._send, writer, inner, {"timeout": timeout})
                    self._round = _Round(self, send)
                    await self._round.run()
        finally:
            self.unsent = len(self.jobs) * self.plan.repeat - self.sent
            await inner.aclose()
            await asyncio.to_thread(writer.close)

    def stop(self) -> None:
        """Send no more; what is under way may end."""
        self._is_stopped = True
        if self._round is not None:
            self._round.stop()

    def cut(self) -> None:
        """Send no more, and read no more."""
        self.stop()
        if self._round is not None:
            self._round.cut()

    def recorded(self, store: Store) -> dict[str, list[Exchange]]:
        """Return the new recordings, by the ids of those that they are of."""
        found: defaultdict[str, list[Exchange]] = defaultdict(list)
        for exchange in store.exchanges(f"tags['{RUN_TAG}'] = '{self.run_id}'"):
            bare = replace(exchange, request_body=b"")
            found[exchange.tags.get(TAG, "")].append(bare)
        return dict(found)

    def close(self) -> None:
        """Let go of the requests' bodies."""
        self._bodies.close()

    def note_late(self, late_ns: int) -> None:
        """Note how late a request is sent."""
        self._late.append(late_ns)

    def _read(self, exchanges: Iterable[Exchange]) -> list[Job]:
        """Return what is sent, in the order in which it was, and keep its bodies."""
        jobs = [job for exchange in exchanges if (job := self._job(exchange))]
        self._bodies.flush()
        self.skipped.sort(key=lambda skip: _began(skip.exchange))
        if not jobs and not self.skipped:
            raise StoreError(
                "there is no exchange to send again; `sse-recorder ls` shows what is"
                " there"
            )
        return sorted(jobs, key=lambda job: _began(job.exchange))

    def _job(self, exchange: Exchange) -> Job | None:
        """Return what is sent for an exchange; None, and skip it, if nothing can be."""
        body, bare = exchange.request_body, replace(exchange, request_body=b"")
        reason = unsendable(exchange, self._redactor)
        left_out: set[str] = set()
        headers = self._given.over(exchange.request_headers, left_out.add)
        target = self._upstream.target(exchange.target)
        job = Job(bare, headers, target, self._bodies.tell())
        reason = reason or job.wrong(self._upstream.url(target))
        if reason is not None:
            self.skipped.append(Skip(bare, reason))
            return None
        self._bodies.write(body)
        self.left_out.update(left_out)
        return job

    async def _send(
        self,
        writer: Writer,
        inner: httpx.AsyncBaseTransport,
        extensions: Mapping[str, Any],
        number: int,
    ) -> None:
        """Send one request, and read its answer to the end."""
        job = self.jobs[number]
        exchange = job.exchange
        size = exchange.request_body_size
        body = os.pread(self._bodies.fileno(), size, job.body_at)
        # One for each, because a transport has tags, and its requests have none.
        tags = {TAG: exchange.exchange_id, RUN_TAG: self.run_id}
        transport = RecordingTransport(
            writer, inner=inner, tags=tags, clock=self._clock
        )
        request = job.request(self._upstream.url(job.target), body, extensions)
        self.times[number] += 1
        self.on_change()
        response = None
        try:
            response = await transport.handle_async_request(request)
            async for _ in response.stream:
                pass
        except Exception as error:  # noqa: BLE001 - the recording has it, whatever it is
            if response is None:
                self.unanswered += 1
                told = f"{type(error).__name__}: {error}".removesuffix(": ")
                self.first_error = self.first_error or told
        finally:
            if response is not None:
                await response.aclose()
            self.over += 1
            self.on_change()


class _Round:
    """All requests, once."""

    def __init__(self, redrive: Redrive, send: Callable[[int], Any]) -> None:
        plan = redrive.plan
        self._redrive = redrive
        self._send = send
        self._clock = redrive._clock  # noqa: SLF001 - of this module
        self._is_max = plan.speed == MAX_SPEED
        self._open_max = plan.open_max
        self._gate = Gate([job.exchange for job in redrive.jobs], plan.order)
        self._left = len(redrive.jobs)
        self._free_ns: dict[int, int] = {}
        self._open: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._is_over = asyncio.Event()
        self._fault: BaseException | None = None
        self._timer = Timer(self._clock)

    async def run(self) -> None:
        """Send them, and wait until what was sent is over."""
        begun_ns = self._clock.monotonic_ns()
        try:
            for number, due_ns in enumerate(self._redrive.due_ns):
                due = partial(self._due, number, begun_ns + due_ns)
                if self._is_max:
                    due()
                else:
                    self._timer.call_at(begun_ns + due_ns, due)
            self._pump()
            await self._is_over.wait()
        finally:
            self.stop()
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        """Send no more."""
        self._is_stopped = True
        self._timer.close()
        self._pump()

    def cut(self) -> None:
        """Read no more."""
        for task in self._open:
            task.cancel()

    def _due(self, number: int, due_ns: int) -> None:
        if self._gate.due(number):
            self._free_ns[number] = due_ns
        else:
            self._redrive.held += 1
        if not self._is_max:
            self._pump()

    def _pump(self) -> None:
        """Send what may be sent."""
        while not self._is_stopped and len(self._open) < self._open_max:
            number = self._gate.take()
            if number is None:
                break
            task = asyncio.get_running_loop().create_task(self._sent(number))
            self._open.add(task)
            task.add_done_callback(partial(self._ended, number))
        if not self._open and (self._is_stopped or not self._left):
            self._is_over.set()

    async def _sent(self, number: int) -> None:
        free_ns = self._free_ns.pop(number)
        if not self._is_max:
            self._redrive.note_late(self._clock.monotonic_ns() - free_ns)
        await self._send(number)

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._left -= 1
        if not task.cancelled() and (fault := task.exception()):  # ours, or a disk's
            self._fault = fault
            self.stop()
        now_ns = self._clock.monotonic_ns()
        for freed in self._gate.over(number):
            self._free_ns[freed] = now_ns
        self._pump()


async def _warm_up(transport: httpx.AsyncBaseTransport) -> None:
    """Ask a port at which nobody listens.

    With their first request the libraries load what they need for one.  That takes
    25 ms, which would all be lateness of the requests that are due meanwhile.
    """
    import httpx  # noqa: PLC0415 - as above

    with socket.socket() as nobody, suppress(httpx.TransportError):
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        await transport.handle_async_request(httpx.Request("GET", url))


def _began(exchange: Exchange) -> tuple[int, str]:
    return exchange.started_at, exchange.exchange_id
