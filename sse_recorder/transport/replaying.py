"""The replay transport: a `Repertoire` without sockets.

What the repertoire finds, a `Player` plays, on the clock of the process.

- A step that is due is waited for: by `Event.wait`, or by a `Timer` on asyncio's loop;
  on another loop, such as trio's, by `Event.wait` in a thread.  How late it came is in
  `lateness`; steps that were due before the client asked for them count as `held`.
- What broke is raised as the real transport raises it: `ReadError` for a reset,
  `RemoteProtocolError` for an early end, `ReadTimeout` for a timeout, and without a
  head whatever the recording names, else `ConnectError`.  What its client left waits
  for this one to leave, as `Player` says.
- The client's read timeout holds, as it would on a socket.
- A miss is answered with 404 and JSON that says why, as `ReplayServer` does.  The SDKs
  of OpenAI and Anthropic retry whatever a transport raises, twice, and hide what it
  said behind "Connection error."; a 404 they show at once.  `on_miss="raise"` is for
  those who use the library itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from threading import Event, Lock
from typing import Any, Final, Literal, NoReturn, Unpack, cast
from weakref import WeakSet

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import ReplayMissError, UsageError
from sse_recorder.exchange import Outcome
from sse_recorder.http1 import framing
from sse_recorder.match import Miss
from sse_recorder.playback import Break, Data, Fail, Head, Player, Recording, Step
from sse_recorder.repertoire import Answer, Repertoire, ReplayOptions
from sse_recorder.timer import Timer
from sse_recorder.transport.shell import (
    Library,
    Shell,
    library_of,
    request_head,
    stream_of,
)

_NS_PER_S: Final = 1_000_000_000


class ReplayTransport(Shell, Repertoire):
    """Answers a client of httpx or httpx2 from stores and cassettes.

    Requests are matched as `ReplayServer` does.  It can be given to any number of
    clients, one after the other or at once.

    Args:
        sources: folders and cassettes, in the order in which they answer.
        scope: each, such as a test, is answered from the first recording on.
        on_miss: the status of the answer to what matches no recording; or `raise`, for
            a `ReplayMissError`.
        clock: what due times are measured on.
        options: speed, faults, what is ignored and more; see `Repertoire`.

    Raises:
        StoreError: a source cannot be read, or none has an exchange to serve.
        UsageError: an option is none.
    """

    def __init__(
        self,
        *sources: str | Path,
        scope: str = "",
        on_miss: HTTPStatus | Literal["raise"] = HTTPStatus.NOT_FOUND,
        clock: Clock = SYSTEM,
        **options: Unpack[ReplayOptions],
    ) -> None:
        super().__init__(sources, **options)
        self.scope = scope
        self.on_miss = on_miss
        self.clock = clock
        self.playing: WeakSet[_Performance] = WeakSet()
        """The responses that are under way."""
        self._timers: dict[asyncio.AbstractEventLoop, Timer] = {}
        self._lock = Lock()

    def handle_request(self, request: Any) -> Any:
        """Answer a request."""
        found = self._answer(request, b"".join(request.stream))
        if isinstance(found, _Performance):
            return found.response(found.wait())
        return found

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request."""
        body = b"".join([data async for data in request.stream])
        found = self._answer(request, body)
        if isinstance(found, _Performance):
            return found.response(await found.wait_async())
        return found

    def close(self) -> None:
        """Do nothing: other clients may have the transport as well."""

    async def aclose(self) -> None:
        """Let go of the event loop, unless something is being played."""
        loop = _asyncio_loop()
        with self._lock:
            if loop in self._timers and not self.playing:
                self._timers.pop(loop).close()

    def timer(self) -> Timer:
        """Return the one timer of all responses on the running event loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for gone in [other for other in self._timers if other.is_closed()]:
                with suppress(RuntimeError):  # uvloop's, of loops that are closed
                    self._timers.pop(gone).close()
            if loop not in self._timers:
                self._timers[loop] = Timer(self.clock)
            return self._timers[loop]

    def _answer(self, request: Any, body: bytes) -> Any:
        """Return the `_Performance` of a recording, or a response in its place."""
        asked_ns = self.clock.monotonic_ns()
        library = library_of(request)
        try:
            found = self.find(request_head(request), body, scope=self.scope)
        except UsageError as error:
            told = {"type": "bad_control_header", "message": f"{error}."}
            return library.Response(HTTPStatus.BAD_REQUEST, json={"error": told})
        if isinstance(found, Miss):
            return self._missed(library, found)
        return _Performance(self, request, found, asked_ns)

    def _missed(self, library: Library, miss: Miss[Recording]) -> Any:
        told = self.note_miss(miss)
        if self.on_miss != "raise":
            return library.Response(self.on_miss, json=told)
        raise _miss_error(library)(_explained(told))


def _explained(told: Mapping[str, Any]) -> str:
    error = told["error"]
    if error["nearest"] is None:
        return str(error["message"])
    return (
        f"{error['message']} The nearest is {error['nearest']['exchange_id']}:"
        f" {error['differs_in']} was {error['recorded']} there, and is"
        f" {error['received']} here."
    )


@cache
def _miss_error(library: Library) -> type[ReplayMissError]:
    """Return our error as one of a library, so that it is caught as those are."""
    bases = (ReplayMissError, library.TransportError)
    return cast("type[ReplayMissError]", type("ReplayMissError", bases, {}))


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running loop; None if it is somebody else's."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    return None


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Performance:
    """One response, as it is played: waiting has two colours, and nothing else has."""

    def __init__(
        self, transport: ReplayTransport, request: Any, answer: Answer, asked_ns: int
    ) -> None:
        self._transport = transport
        self._library = library_of(request)
        self._answer = answer
        self._exchange = answer.exchange
        self._framing: framing.Framing = "none"
        self._player = Player(answer.timeline, asked_ns)
        self._now_ns = transport.clock.monotonic_ns
        self._is_over = Event()
        self._asleep: asyncio.Future[None] | None = None
        timeout_s = request.extensions.get("timeout", {}).get("read")
        self._patience_ns = None if timeout_s is None else round(timeout_s * _NS_PER_S)
        self._asked_ns = asked_ns  # when the client wanted the next step
        transport.playing.add(self)

    # Waiting.

    def wait(self) -> Step:
        """Return the next step when it is due."""
        while (step := self._take()) is None:
            wake_ns = self._wake_ns
            wait_ns = None if wake_ns is None else max(0, wake_ns - self._now_ns())
            self._is_over.wait(None if wait_ns is None else wait_ns / _NS_PER_S)
        return step

    async def wait_async(self) -> Step:
        """Return the next step when it is due."""
        if _asyncio_loop() is None:
            return await self._wait_in_thread()
        while (step := self._take()) is None:
            self._asleep = asyncio.get_running_loop().create_future()
            if (wake_ns := self._wake_ns) is not None:
                wake = partial(_wake, self._asleep)
                self._transport.timer().call_at(wake_ns, wake)
            await self._asleep
        return step

    async def _wait_in_thread(self) -> Step:
        from anyio import CapacityLimiter, to_thread  # noqa: PLC0415 - only then

        # A limit of its own: the one that all share would have streams wait in a queue.
        limiter = CapacityLimiter(1)
        return await to_thread.run_sync(
            self.wait, abandon_on_cancel=True, limiter=limiter
        )

    def _take(self) -> Step | None:
        """Return the next step if it is due; raise if the client is to wait no more."""
        now_ns = self._now_ns()
        if self._is_over.is_set():
            self._raise(self._library.ReadError("the response was closed"))
        if (timed := self._player.take(now_ns)) is None:
            give_up_ns = self._give_up_ns
            if give_up_ns is not None and now_ns >= give_up_ns:
                self._raise(self._library.ReadTimeout("timed out"))
            return None
        due_ns, step = timed
        if due_ns < self._asked_ns:
            self._transport.held += 1
        else:
            self._transport.note_late(now_ns - due_ns, len(self._transport.playing))
        return step

    @property
    def _give_up_ns(self) -> int | None:
        patience_ns = self._patience_ns
        return None if patience_ns is None else self._asked_ns + patience_ns

    @property
    def _wake_ns(self) -> int | None:
        times = (self._player.due_ns, self._give_up_ns)
        return min((time for time in times if time is not None), default=None)

    # What the steps mean.

    def response(self, step: Step) -> Any:
        """Return what the first step is, or raise it."""
        if not isinstance(step, Head):
            self._raise(self._failure(step))
        head, version = step.head, self._exchange.http_version or "1.1"
        self._framing = framing.response_framing(
            self._exchange.method, head.status, head.headers
        )
        return self._library.Response(
            head.status,
            headers=[
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in head.headers
            ],
            stream=stream_of(self._library, _Replayed)(self),
            extensions={
                "http_version": f"HTTP/{version}".encode("ascii"),
                "reason_phrase": head.reason.encode("latin-1"),
            },
        )

    def chunk(self, step: Step) -> bytes | None:
        """Return the data of a step, None at the end, or raise what it is."""
        if isinstance(step, Data):
            return step.data
        # A cut in order of a body that has no other end is the end of it.
        is_cut = isinstance(step, Break) and step.reset is None
        if isinstance(step, (Break, Fail)) and not (
            is_cut and self._framing == "close"
        ):
            self._raise(self._failure(step))
        self.end()
        return None

    def asked(self) -> None:
        """Note that the client wants the next step."""
        self._asked_ns = self._now_ns()

    def end(self) -> None:
        """Be over, also for who waits for the next step."""
        self._transport.playing.discard(self)
        if not self._is_over.is_set():
            self._is_over.set()
            self._transport.note_end(self._answer, self._player, self._now_ns())
        if self._asleep is not None:
            _wake(self._asleep)

    def _raise(self, error: Exception) -> NoReturn:
        self.end()
        raise error

    def _failure(self, step: Step) -> Exception:
        """Return what the real transport raises where a stream broke like that."""
        library, exchange = self._library, self._exchange
        match step:
            case Fail(status, message, _):
                is_timeout = status is HTTPStatus.GATEWAY_TIMEOUT
                other = library.ReadTimeout if is_timeout else library.ConnectError
                return _named(library, message) or cast("Exception", other(message))
            case Break(reset=True):
                error = library.ReadError("connection reset by peer, as recorded")
            case Break() if step.client_waited_ns is not None:
                error = library.RemoteProtocolError(
                    "the client left here when it was recorded, so nobody knows what"
                    " would have come"
                )
            case _ if exchange.outcome is Outcome.TIMEOUT:
                error = library.ReadTimeout("timed out, as recorded")
            case _:
                error = library.RemoteProtocolError(
                    "peer closed connection without sending complete message body, as"
                    " recorded"
                )
        return cast("Exception", error)


def _named(library: Library, message: str) -> Exception | None:
    """Return the error of a library that a recorded message begins with, if any."""
    name, _, text = message.partition(": ")
    kind = getattr(library, name, None)
    if isinstance(kind, type) and issubclass(kind, library.TransportError):
        return cast("Exception", kind(text))
    return None


class _Replayed:
    """The body of a response that is played."""

    def __init__(self, performance: _Performance) -> None:
        self._performance = performance

    def __iter__(self) -> Iterator[bytes]:
        performance = self._performance
        while True:
            performance.asked()
            data = performance.chunk(performance.wait())
            if data is None:
                return
            yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        performance = self._performance
        while True:
            performance.asked()
            data = performance.chunk(await performance.wait_async())
            if data is None:
                return
            yield data

    def close(self) -> None:
        self._performance.end()

    async def aclose(self) -> None:
        self._performance.end()
