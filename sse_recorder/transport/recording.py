"""The recording transport: it stands before the transport that does the work, `inner`.

    client ─▶ RecordingTransport ─▶ inner ─▶ network
                   └──▶ Tap ─▶ Writer ─▶ store

- A chunk is what the inner stream gives at once, its time is when it gives it, and t0
  is when the transport was called.  In the proxy the bytes are passed on before the tap
  hears of them; an iterator that gives bytes away comes back only when its client wants
  more, so here the tap hears first.  That is putting a reference into a list.
- What fails in recording is logged.  The stream flows on.
- Every exchange ends once: as its body ends; as `client_abort` where the client stops
  reading, raises, is cancelled or forgets the response; and as what the inner transport
  raised says, which passes on unchanged.  A `timeout` is one also before the head.
- Garbage may be collected in the middle of anything, so that what is forgotten cannot
  take a lock.  It is noted, and told with the next request, or when all is closed.
- The exchange is in the trace of whoever asked (see `tracing`), and what goes to the
  inner transport says so.  Its tag `sse_recorder.mode` says that it was recorded here.
- Not seen are trailers and 1xx answers, which the libraries keep to themselves.

Closing the client seals.  Who forgets the client, and every response of it, has it
sealed then, by a thread of its own; and who keeps it, as the process ends.
"""

from __future__ import annotations

import _thread
import atexit
import copy
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from threading import Lock, RLock
from types import MappingProxyType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from sse_recorder import semconv
from sse_recorder.capture import Tap, Writer
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    END_OF_FILE,
    RESET,
    Ending,
    Headers,
    Opening,
    Outcome,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.http1 import framing
from sse_recorder.otel.propagation import Mode
from sse_recorder.otel.telemetry import Telemetry
from sse_recorder.redact import Redactor
from sse_recorder.transport.inner import Inner
from sse_recorder.transport.shell import (
    Library,
    Shell,
    headers_of,
    library_of,
    raw_headers,
    request_head,
    stream_of,
)
from sse_recorder.transport.tracing import Place, Tracing, current

log = logging.getLogger("sse_recorder.transport")

P = ParamSpec("P")
S = TypeVar("S")

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class RecordingTransport(Shell):
    """Records what a client of httpx or httpx2 sends, and what it gets.

    Args:
        store: the folder to record into; or a `Writer`, which any number of transports
            can share, and which is closed by whoever made it.
        inner: the transport that does the work; by default an `HTTPTransport` or
            `AsyncHTTPTransport` of the library of the client.  A client does not hand
            its own settings (`verify`, `http2`, `proxy`, …) to a transport that it is
            given: these belong to the inner one.
        tags: what every exchange is labelled with.
        redactor: what masks secrets, where `store` is a folder.
        telemetry: where spans and metrics go, where `store` is a folder; it is closed
            by whoever made it.  See `otel.Telemetry` and `otel.GlobalTelemetry`.
        propagate: what upstreams are told of traces; see `otel.Propagation`.
        clock: gives the time of everything.

    Raises:
        StoreError: the store cannot be written.
        UsageError: there are a writer and a redactor, or a writer and a telemetry.
    """

    def __init__(
        self,
        store: str | Path | Writer = "recordings",
        *,
        inner: Any = None,
        tags: Mapping[str, str] = _NOTHING,
        redactor: Redactor | None = None,
        telemetry: Telemetry | None = None,
        propagate: Mode = "child",
        clock: Clock = SYSTEM,
    ) -> None:
        self._given = inner
        self._own = Inner()
        if isinstance(store, Writer):
            if redactor is not None:
                raise UsageError("a Writer has a redactor: give this one to the Writer")
            if telemetry is not None:
                raise UsageError("a Writer has its spans: give this one to the Writer")
            spans = store.spans
            telemetry = spans if isinstance(spans, Telemetry) else None
            self._ear = _Ear(store, None, tags, Tracing(telemetry, propagate), clock)
        else:
            make = partial(
                Writer, Path(store), redactor=redactor, spans=telemetry, clock=clock
            )
            self._ear = _Ear(make(), make, tags, Tracing(telemetry, propagate), clock)
            if telemetry is not None:
                _TELEMETRY.add(telemetry)
        self._hold = _Hold()
        # As the process ends, all are sealed at once.
        weakref.finalize(self._hold, _seal_aside, self._ear).atexit = False

    def handle_request(self, request: Any) -> Any:
        """Have a request answered, and listen."""
        # Made before t0: to read the certificate authorities takes a tenth of a second.
        inner = self._given or self._own.plain(request)
        heard = self._ear.hear(request)
        with heard.asking(), current(heard.place):
            response = inner.handle_request(heard.passed_on(request))
        return heard.answered(response, self._hold)

    async def handle_async_request(self, request: Any) -> Any:
        """Have a request answered, and listen."""
        inner = self._given or self._own.awaited(request)
        heard = self._ear.hear(request)
        with heard.asking(), current(heard.place):
            response = await inner.handle_async_request(heard.passed_on(request))
        return heard.answered(response, self._hold)

    def close(self) -> None:
        """Close the inner transport, and seal what was recorded.

        What is sent after that is recorded again.
        """
        try:
            (self._given or self._own).close()
        finally:
            self._ear.seal()

    async def aclose(self) -> None:
        """Do the same without blocking the event loop."""
        from anyio import to_thread  # noqa: PLC0415 - of whoever has an `await`

        try:
            await (self._given or self._own).aclose()
        finally:
            await to_thread.run_sync(self._ear.seal)


class _Hold:
    """What a transport and its responses have in common: with it, all of them are gone.

    An exchange that is open keeps its `_Heard`, but not this, which its client does.
    """

    __slots__ = ("__weakref__",)


class _Ear:
    """What the exchanges of one transport share.

    Args:
        writer: takes the records.
        make: makes another one, after that was closed; None where it is not ours.
        tags: of every exchange.
        tracing: where in traces they are.
        clock: of their times.
    """

    def __init__(
        self,
        writer: Writer,
        make: Callable[[], Writer] | None,
        tags: Mapping[str, str],
        tracing: Tracing,
        clock: Clock,
    ) -> None:
        self.clock = clock
        self.open: dict[str, _Heard] = {}
        """Exchanges that have begun and not ended.  To take one out is to end it, which
        only one thread can do."""
        self.forgotten: deque[tuple[_Heard, int]] = deque()
        """Exchanges whose client did, and when."""
        self._writer: Writer | None = writer
        self._make = make
        self._tags = {semconv.MODE: semconv.CLIENT, **tags}
        self._tracing = tracing
        self._latest_start = 0
        # Garbage may be collected while it is held, and end another exchange.
        self.lock = RLock()
        self._sealing = Lock()
        _EARS.add(self)
        if make is not None:
            _UNSEALED.add(self)

    def hear(self, request: Any) -> _Heard:
        """Begin an exchange."""
        heard = _Heard(self, request, self.clock.monotonic_ns())
        heard.begin(request)
        return heard

    def begin(self, heard: _Heard, head: RequestHead, url: str) -> Place:
        """Begin an exchange; return where it is in its trace."""
        with self.lock:
            # Exchanges keep their order where the clock is coarse, or is set back.
            started_at = max(self.clock.wall_at(heard.t0_ns), self._latest_start + 1)
            self._latest_start = started_at
        exchange_id = uuid7(started_at)
        place = self._tracing.place(exchange_id, head.headers)
        # Who seals takes the writer away, and then ends what is open with it.
        with self.lock:
            writer = self._writer
            if writer is None:
                if self._make is None:
                    raise _ForkedError(_FORKED)
                writer = self._writer = self._make()
                _UNSEALED.add(self)
            tap = writer.tap(exchange_id, heard.t0_ns)
            tap.opened(
                Opening(
                    recorder_id=writer.recorder_id,
                    started_at=started_at,
                    url=url,
                    request=replace(head, headers=place.headers),
                    trace_id=place.context.trace_id,
                    span_id=place.context.span_id,
                    parent_span_id=place.parent_span_id,
                    tags=self._tags,
                    trace_flags=place.flags,
                )
            )
            heard.tap = tap
            self.open[exchange_id] = heard
        return place

    def settle(self) -> None:
        """End what was forgotten."""
        with suppress(IndexError):
            while True:
                heard, at_ns = self.forgotten.popleft()
                heard.end(_left("the client forgot the response"), at_ns)

    def seal(self) -> None:
        """End what is open, and seal the recording if it is ours.

        Who comes while another one does that waits until it is done.
        """
        with self._sealing:
            self.settle()
            with self.lock:
                writer = self._writer
                if self._make is not None:
                    self._writer = None
                still_open = list(self.open.values())
            for heard in still_open:
                heard.end(_left("the client was closed"))
            if self._make is None:
                return
            if writer is not None:
                writer.close()
            with self.lock:
                if self._writer is None:
                    _UNSEALED.discard(self)

    def begin_anew(self) -> None:
        """Leave what was begun to the process that this one is a fork of.

        Neither its threads nor who held a lock came along.
        """
        self.lock, self._sealing = RLock(), Lock()
        for heard in self.open.values():
            heard.tap = None
        self.open.clear()
        self.forgotten.clear()
        if self._writer is not None:
            # What it has not written yet is the other process's to write.
            self._writer.leave()
            _LEFT.append(self._writer)
            self._writer = None


_UNSEALED: Final[set[_Ear]] = set()
"""What nobody has closed yet: few people close the client of an SDK."""
_LEFT: Final[list[Writer | None]] = []
"""Writers of the process that this one is a fork of."""
_TELEMETRY: Final[set[Telemetry]] = set()
"""What transports were given, and is perhaps closed by nobody either."""
_EARS: Final[weakref.WeakSet[_Ear]] = weakref.WeakSet()
"""All that there are."""
_FORKED: Final = (
    "nothing is recorded here: this process is a fork of one whose Writer it shares;"
    " make a Writer after the fork"
)


class _ForkedError(Exception):
    """A writer is another process's."""


def _seal_aside(ear: _Ear) -> None:
    """Seal without waiting for it, and without a lock: garbage is being collected.

    To start a `threading.Thread` takes one.
    """
    with suppress(RuntimeError):  # no more threads: as the process ends, it is sealed
        _thread.start_new_thread(_seal_in_thread, (ear,))


def _seal_in_thread(ear: _Ear) -> None:
    # What asks for the current thread is to find one.
    threading.Thread(target=ear.seal, name="sse-recorder-seal", daemon=True).start()


def _seal_all() -> None:
    closing: list[Callable[[], object]] = [ear.seal for ear in _UNSEALED]
    closing += [telemetry.close for telemetry in _TELEMETRY]
    for close in closing:
        try:
            close()
        except Exception:
            log.exception("something was not sealed; please report this")


def _seal_child() -> None:
    """Seal in a child of `multiprocessing` that is a fork: it calls no `atexit`."""
    module = sys.modules.get("multiprocessing.process")
    if module is not None and module.parent_process() is not None:
        _seal_all()


def _begin_anew() -> None:
    for ear in list(_EARS):
        ear.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


# After all threads but daemons have ended, which may record until then.
atexit.register(_seal_all)
_at_shutdown: Callable[[Callable[[], None]], object] | None = getattr(
    threading, "_register_atexit", None
)
if _at_shutdown is not None:
    _at_shutdown(_seal_child)


def _quietly(
    tell: Callable[Concatenate[S, P], None],
) -> Callable[Concatenate[S, P], None]:
    """Log what fails in recording: the stream must not notice."""

    @wraps(tell)
    def quiet(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(self, *args, **kwargs)
        except _ForkedError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("something was not recorded; please report this")

    return quiet


class _Heard:
    """One exchange, as its tap is told of it."""

    def __init__(self, ear: _Ear, request: Any, t0_ns: int) -> None:
        self.library = library_of(request)
        self._method = request.method
        self._ear = ear
        self.t0_ns = t0_ns
        self.tap: Tap | None = None
        """None where not even the beginning was recorded."""
        self.place: Place | None = None
        """Where it is in its trace, where that is known."""
        self._headers: Headers | None = None  # of the request, where they are others
        stream = request.stream
        self._content = stream if isinstance(stream, self.library.ByteStream) else ()
        self._is_sent = False
        self._request_bytes = self._response_bytes = 0
        self._passed_bytes = 0  # of the request, in this go
        self._length: int | None = None  # of the response, where it is known

    @_quietly
    def begin(self, request: Any) -> None:
        """Tell of the request's head."""
        self._ear.settle()
        head, url = request_head(request), str(request.url)
        self.place = self._ear.begin(self, head, url)
        if self.place.headers != head.headers:
            self._headers = self.place.headers

    # The request's body.

    def passed_on(self, request: Any) -> Any:
        """Return the request for the inner transport, with a body that tells.

        It is a copy, because redirects take the client's own stream from its request.
        """
        passed, library = copy.copy(request), self.library
        passed.extensions = request.extensions
        if self._headers is not None:
            passed.headers = library.Headers(raw_headers(self._headers))
        body = _RequestEar(self)
        passed.stream = stream_of(library, _Body)(request.stream, body, None)
        return passed

    def starts_over(self) -> None:
        """Expect the request's body from its first byte on.

        An inner transport may send it again; what is sent twice is recorded once.
        """
        self._passed_bytes = 0

    @_quietly
    def request_data(self, data: bytes) -> None:
        """Tell of some of the request's body."""
        known = self._request_bytes - self._passed_bytes
        self._passed_bytes += len(data)
        new = data[max(known, 0) :]
        if new and self.tap is not None:
            self._request_bytes += len(new)
            self.tap.request_data(self._now_ns(), new)

    @_quietly
    def sent(self) -> None:
        """Tell that the request is complete."""
        if self.tap is not None and not self._is_sent:
            self._is_sent = True
            self.tap.sent(self._now_ns())

    def _finish_request(self) -> None:
        """Tell of content that was not read through us: a replay has to match it.

        It may have been known to the inner transport, or never have got as far.
        """
        self.starts_over()
        for data in self._content:
            self.request_data(data)

    # The response.

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Tell how it ended, if the inner transport raises."""
        try:
            yield
        except GeneratorExit:  # of a coroutine that is garbage
            self.forget()
            raise
        except BaseException as error:
            self.end(_ending(self.library, error, has_head=False))
            raise

    def answered(self, response: Any, hold: _Hold) -> Any:
        """Tell of the response's head, and return the response with a body that tells.

        It is a new one, since the old one may have been read before, as what is made
        of bytes has been, and would not be read through us.
        """
        library, stream = self.library, response.stream
        self._head(response)
        if response.is_stream_consumed and not isinstance(stream, library.ByteStream):
            error = "the inner transport read the body itself"
            self.end(Ending(outcome=Outcome.INCOMPLETE, error=error))
            return response
        return library.Response(
            response.status_code,
            headers=response.headers,
            stream=stream_of(library, _Body)(stream, _ResponseEar(self), hold),
            extensions=response.extensions,
        )

    @_quietly
    def _head(self, response: Any) -> None:
        if self.tap is None:
            return
        at_ns, extensions = self._now_ns(), response.extensions
        version: bytes = extensions.get("http_version", b"HTTP/1.1")
        head = ResponseHead(
            response.status_code,
            extensions.get("reason_phrase", b"").decode("latin-1"),
            headers_of(response.headers.raw),
            version.decode("ascii").removeprefix("HTTP/"),
        )
        self._finish_request()
        self.sent()
        self.tap.head(at_ns, head)
        match framing.response_framing(self._method, head.status, head.headers):
            case "none":
                self._length = 0
            case "length":
                self._length = framing.content_length(head.headers)

    @_quietly
    def response_data(self, data: bytes) -> None:
        """Tell of a chunk."""
        if data and self.tap is not None:
            self.tap.data(self._now_ns(), data)
            self._response_bytes += len(data)

    # The end.

    def complete(self) -> None:
        """Tell that the response is."""
        self.end(Ending(outcome=Outcome.COMPLETE))

    def failed(self, error: BaseException) -> None:
        """Tell what broke the response."""
        self.end(_ending(self.library, error, has_head=True))

    def left(self) -> None:
        """Tell that the client has closed the response, read or not."""
        if self._response_bytes == self._length:
            self.complete()
        else:
            self.end(_left("the client closed the response"))

    def forget(self) -> None:
        """Note, without taking a lock, that nobody holds the response any more."""
        if self.tap is not None and self.tap.exchange_id in self._ear.open:
            self._ear.forgotten.append((self, self._now_ns()))

    @_quietly
    def end(self, ending: Ending, at_ns: int | None = None) -> None:
        """Tell how it ended, the first time."""
        tap = self.tap
        if tap is None:
            return
        # Who seals has the writer closed only when this has been told.
        with self._ear.lock:
            if self._ear.open.pop(tap.exchange_id, None) is not None:
                self._finish_request()
                tap.ended(self._now_ns() if at_ns is None else at_ns, ending)

    def _now_ns(self) -> int:
        return self._ear.clock.monotonic_ns()


def _left(why: str) -> Ending:
    return Ending(outcome=Outcome.CLIENT_ABORT, error=why)


def _ending(library: Library, error: BaseException, *, has_head: bool) -> Ending:
    """Return how an exchange ended in which an error was raised."""
    told = f"{type(error).__name__}: {error}".removesuffix(": ")
    if not isinstance(error, Exception):  # cancelled, interrupted
        return _left(f"the client left: {told}")
    outcome, kind = Outcome.UPSTREAM_ABORT, END_OF_FILE
    if isinstance(error, library.TimeoutException):
        outcome, kind = Outcome.TIMEOUT, "timeout"
    elif not has_head:
        outcome = Outcome.UPSTREAM_ERROR
    elif isinstance(error, library.NetworkError):
        kind = RESET
    return Ending(outcome=outcome, error=f"{kind}: {told}" if has_head else told)


class _BodyEar(Protocol):
    """Who hears of a body on its way."""

    def begins(self) -> None:
        """It is read from its beginning."""

    def data(self, data: bytes) -> None:
        """Some of it passes."""

    def ends(self) -> None:
        """It is over."""

    def fails(self, error: BaseException) -> None:
        """Reading it raised."""

    def closed(self) -> None:
        """It was closed, read or not."""

    def forgotten(self) -> None:
        """Nobody reads it any more; perhaps told by the garbage collector."""


class _RequestEar:
    """Hears of what the client sends."""

    def __init__(self, heard: _Heard) -> None:
        self.begins = heard.starts_over
        self.data = heard.request_data
        self.ends = heard.sent
        self._heard = heard

    def fails(self, error: BaseException) -> None:
        """End it: what the client was going to send is the client's affair."""
        told = f"{type(error).__name__}: {error}"
        self._heard.end(_left(f"the request's body failed: {told}"))

    def closed(self) -> None:
        """Take no notice: what becomes of the exchange, the inner transport says."""

    forgotten = closed


class _ResponseEar:
    """Hears of what the client gets."""

    def __init__(self, heard: _Heard) -> None:
        self.data = heard.response_data
        self.ends = heard.complete
        self.fails = heard.failed
        self.closed = heard.left
        self.forgotten = heard.forget

    def begins(self) -> None:
        """Take no notice: it is read once."""


class _Body:
    """A stream on its way through."""

    def __init__(self, stream: Any, ear: _BodyEar, hold: _Hold | None) -> None:
        self._stream = stream
        self._ear = ear
        self._hold = hold

    def __iter__(self) -> Iterator[bytes]:
        tell = self._ear.data
        with _reading(self._ear):
            for data in self._stream:
                tell(data)
                yield data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tell = self._ear.data
        with _reading(self._ear):
            async for data in self._stream:
                tell(data)
                yield data

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._ear.closed()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._ear.closed()

    def __del__(self) -> None:
        self._ear.forgotten()


@contextmanager
def _reading(ear: _BodyEar) -> Iterator[None]:
    """Tell an ear how the reading of a body went."""
    ear.begins()
    try:
        yield
    except GeneratorExit:
        ear.forgotten()
        raise
    except BaseException as error:
        ear.fails(error)
        raise
    ear.ends()
