"""Recordings in tests: one cassette, served or recorded for one test.

An `SSERecording` is a real server on loopback, so any client in any language works, in
this process or another, with an event loop or without one:

    replay        ReplayServer(cassette)
    record        Recorder(upstream) ─▶ a store that is thrown away ─▶ cassette
    new episodes  ReplayServer(cassette), which hands what it misses to a Recorder

Which of them it is depends on the mode and on whether there is a cassette (`_plan`).

What was recorded is masked, as everything recorded is, and is written at once when the
test is over and has passed.  What a failing test recorded may be half of what it needs,
and would be replayed from then on: it stays in the store, and the test is told where.

`finish` says what is wrong.  Each of its texts names the file, the request, what
differs, and what to type, so nobody has to open the documentation to go on.

Tests that share a cassette have a server each, and so each is answered from the first
recording on.  They can record it together in one process; in several, the last one that
ends would win.

Nothing here knows of pytest; `sse_recorder.pytest_plugin` is the shell round it.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from sse_recorder.background import Service, running
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import SSERecorderError, StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Outcome, RequestHead
from sse_recorder.match import MatchRules, Miss, canonical
from sse_recorder.playback import MAX_SPEED, Lateness, Recording
from sse_recorder.proxy import Recorder
from sse_recorder.redact import Redactor
from sse_recorder.repertoire import speed_of
from sse_recorder.replay import ReplayServer
from sse_recorder.store.cassette import dumps
from sse_recorder.store.store import Store
from sse_recorder.transport.shell import Library, Shell, library_of

PATIENCE_S: Final = 1.0
"""How long a response that its client has closed may take to be over."""
SHOWN_MAX: Final = 5
"""Requests that a message lists."""
_NS_PER_S: Final = 1_000_000_000
_NS_PER_DAY: Final = 86_400 * _NS_PER_S
_PAUSE_S: Final = 0.01
_ID_SHOWN: Final = 8


class Mode(StrEnum):
    """What is recorded, in the words of VCR."""

    NONE = "none"
    """Nothing: everything is replayed."""
    ONCE = "once"
    """What has no cassette yet."""
    NEW_EPISODES = "new_episodes"
    """What the cassette does not have; what it has is replayed."""
    ALL = "all"
    """Everything; recordings of other requests are kept."""
    REWRITE = "rewrite"
    """Everything, into a new cassette."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test may ask of its recording."""

    upstream: str | None = None
    """Where requests go while recording."""
    speed: float | str = "max"
    """How many times as fast as recorded it is replayed, or `max`."""
    step: bool = False
    """Whether replayed events wait for `release`."""
    faults: str | Sequence[str] = ()
    """What is done to replayed responses; see `sse_recorder.faults`."""
    ignore: str | Sequence[str] = ()
    """Fields of requests that take no part in matching; see `sse_recorder.match`."""
    match_headers: str | Sequence[str] = ()
    """Headers that do."""
    allow_unused: bool = False
    """Whether the test need not ask for every recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a recording is used, in the words of who runs the tests."""

    test: str
    """The test's node id."""
    root: Path
    """The folder that paths are shown from."""
    scratch: Callable[[], Path]
    """Gives an empty folder for what is being recorded."""
    hints: Callable[[], Sequence[str]] = tuple
    """Gives reasons why a request may not have come, of what is known of the test."""
    is_ci: bool = False
    """Whether it is for continuous integration that nothing is recorded."""


class Report(NamedTuple):
    """How it went."""

    problems: list[str]
    """What is wrong, even with a test that passed."""
    notes: list[str]
    """What helps to understand one that did not."""
    has_written: bool = False
    """Whether the cassette is a new one."""


class _Plan(NamedTuple):
    replays: bool
    records: bool


def _plan(mode: Mode, *, has_cassette: bool) -> _Plan:
    match mode:
        case Mode.NONE:
            return _Plan(replays=True, records=False)
        case Mode.ONCE:
            return _Plan(replays=has_cassette, records=not has_cassette)
        case Mode.NEW_EPISODES:
            return _Plan(replays=has_cassette, records=True)
        case Mode.ALL | Mode.REWRITE:
            return _Plan(replays=False, records=True)


class SSERecording:
    """A cassette that is served, or recorded, on a URL of its own.

    Args:
        path: the cassette.
        mode: what is recorded.
        options: what the test asks for.
        place: what the messages speak of.
        redactor: what masks secrets.
        is_fresh: whether another test has just recorded the cassette, so that this one
            adds to it.
        clock: gives the time of everything.

    Raises:
        SSERecorderError: it can be neither replayed nor recorded; the message says what
            to type.
    """

    def __init__(
        self,
        path: Path,
        mode: Mode,
        options: Options,
        place: Place,
        *,
        redactor: Redactor | None = None,
        is_fresh: bool = False,
        clock: Clock = SYSTEM,
    ) -> None:
        self.path = path
        """The cassette."""
        self.upstream = options.upstream
        """Where requests go while recording."""
        if is_fresh and mode in {Mode.ONCE, Mode.REWRITE}:
            mode = Mode.NEW_EPISODES
        self._mode = mode
        self._options = options
        self._rules = MatchRules.of(options.ignore, options.match_headers)
        self._place = place
        self._clock = clock
        self._redactor = redactor or Redactor()
        self._stack = ExitStack()
        self._url = ""
        self._store = Path()
        self._recorder: Recorder | None = None
        self._player: ReplayServer | None = None
        plan = _plan(mode, has_cassette=path.exists())
        if plan.records:
            self._recorder = self._new_recorder()
        if plan.replays:
            try:
                self._player = self._new_player()
            except SSERecorderError:
                if self._recorder is not None:
                    self._recorder.writer.close()
                raise

    def _new_recorder(self) -> Recorder:
        if self.upstream is None:
            raise UsageError(
                f"{self.shown_path}: there is no upstream to record this from. Say"
                " where the requests are to go:\n\n"
                '    @pytest.mark.sse_recording(upstream="https://api.example.com")'
            )
        self._store = self._place.scratch()
        return Recorder(
            self.upstream,
            store=self._store,
            redactor=self._redactor,
            clock=self._clock,
        )

    def _new_player(self) -> ReplayServer:
        options = self._options
        if not self.path.exists():
            # An option that is given stands above the variable.
            why = (
                ", and where the variable CI is set none is made. Record it on your"
                " machine, and commit the file"
                if self._place.is_ci
                else ". Record it"
            )
            raise StoreError(
                f"{self.shown_path}: there is no such recording{why}:\n\n"
                f"    {self._command(Mode.ONCE)}"
            )
        is_max = options.speed == MAX_SPEED
        faults = options.faults
        return ReplayServer(
            self.path,
            speed=MAX_SPEED if is_max else speed_of(str(options.speed)),
            step=options.step,
            faults=[faults] if isinstance(faults, str) else faults,
            ignore=options.ignore,
            match_headers=options.match_headers,
            fallback=self._recorder.connection if self._recorder else None,
            redactor=self._redactor,
            clock=self._clock,
        )

    def __enter__(self) -> Self:
        services = [s for s in (self._recorder, self._player) if s is not None]
        self._url = self._stack.enter_context(running(_Together(services))).url
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # What a test asks.

    @property
    def url(self) -> str:
        """The base URL for any client, in any language."""
        return self._url

    @property
    def shown_path(self) -> str:
        """The cassette's path as messages show it."""
        if self.path.is_relative_to(self._place.root):
            return str(self.path.relative_to(self._place.root))
        return str(self.path)

    @property
    def is_recording(self) -> bool:
        """Whether requests can reach the upstream."""
        return self._recorder is not None

    @property
    def lateness(self) -> Lateness:
        """How late the replayed steps left so far."""
        return self._player.lateness if self._player else Lateness.of(())

    def assert_punctual(self, **most_ms: float) -> None:
        """Check how late the replayed steps left; what is recorded is never late.

        Args:
            most_ms: `p50_ms`, `p99_ms` or `max_ms`, each the most that is allowed.

        Raises:
            AssertionError: one was later, or nothing was replayed.
        """
        if self._player is not None and not (self._recorder and self._recorder.count):
            self._player.assert_punctual(**most_ms)

    def release(self, events: int = 1) -> None:
        """Let the next events of a replay go, where the test asks for `step=True`.

        What is recorded comes when its upstream sends it.
        """
        if self._player is not None:
            self._player.release(events)

    def exchanges(self) -> list[Exchange]:
        """Return what has answered the test so far, in the order of its beginning.

        Replayed exchanges come first, in recorded order; open ones are not there yet.
        """
        played = self._player.matcher.used() if self._player else []
        new = [exchange for exchange, _ in self._recorded()]
        return [recording.exchange for recording in played] + new

    def stale(self, max_age_days: float) -> str | None:
        """Return what to say of a cassette that is older than that, if it is.

        Args:
            max_age_days: 0 for any age.
        """
        if self._player is None or not max_age_days:
            return None
        recordings = self._player.matcher.unused() + self._player.matcher.used()
        oldest_ns = min(recording.exchange.started_at for recording in recordings)
        age_days = (self._clock.wall_ns() - oldest_ns) / _NS_PER_DAY
        if age_days <= max_age_days:
            return None
        return (
            f"{self.shown_path} was recorded {age_days:.0f} days ago, and"
            f" {max_age_days:g} are allowed (sse_recording_max_age_days). See whether"
            f" the API still answers like that: {self._command(Mode.REWRITE)}"
        )

    # How it ends.

    def finish(self, *, has_passed: bool) -> Report:
        """Stop, write what was recorded, and say how it went.

        Args:
            has_passed: whether the test did; what a failing one recorded is not kept.
        """
        player, recorder = self._player, self._recorder

        def open_heads() -> list[RequestHead]:
            return [replay.head for replay in tuple(player.playing)] if player else []

        _wait(lambda: not open_heads() and not (recorder and recorder.relays))
        left = open_heads()
        self._stack.close()
        new = self._recorded()
        cut = [e for e, _ in new if e.outcome is Outcome.INCOMPLETE]
        report = Report([*self._problems(left, cut)], [])
        if not has_passed:
            report.notes.extend(self._notes([e for e, _ in new]))
        elif new and not cut:
            try:
                self._write(new)
            except OSError as error:
                report.problems.append(
                    f"{self.shown_path}: {error.strerror}. Make its folder writable;"
                    f" what was recorded is in {self._store}"
                )
            else:
                shutil.rmtree(self._store, ignore_errors=True)
                return report._replace(has_written=True)
        return report

    def _problems(self, left: list[RequestHead], cut: list[Exchange]) -> Iterator[str]:
        player, recorder = self._player, self._recorder
        asked = (player.served + player.missed if player else 0) + (
            recorder.count if recorder else 0
        )
        allows_unused = self._options.allow_unused
        if not asked and not allows_unused:
            yield self._unreached()
        if player is not None and player.misses:
            yield self._missed(list(player.misses), player.missed)
        elif player is not None and asked and not allows_unused:
            unused = [recording.exchange for recording in player.matcher.unused()]
            if unused:
                yield self._unused(unused, player.loaded)
        if left:
            yield self._left_open(left)
        if cut:
            yield self._cut(cut)

    def _recorded(self) -> list[tuple[Exchange, list[Chunk]]]:
        """Return what was recorded so far and is over."""
        recorder = self._recorder
        if recorder is None or not recorder.count:
            return []
        _wait(lambda: not recorder.relays, PATIENCE_S / 4)
        with Store.open(self._store) as store:

            def ended() -> list[Exchange]:
                store.refresh()
                return list(store.exchanges("outcome IS NOT NULL"))

            # The client has had its end before the journal has.
            _wait(lambda: len(ended()) >= sum(recorder.ended.values()))
            return [(e, store.chunks(e.exchange_id)) for e in ended()]

    def _write(self, new: list[tuple[Exchange, list[Chunk]]]) -> None:
        """Put a cassette in the place of the one that is there, when all is written."""
        keys = {self._key(exchange) for exchange, _ in new}
        text = [
            dumps(exchange, chunks)
            for exchange, chunks in self._before()
            if self._mode is Mode.NEW_EPISODES or self._key(exchange) not in keys
        ]
        text += [dumps(exchange, chunks) for exchange, chunks in new]
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        # Only its owner may read it, like everything recorded.
        descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write("".join(text).encode())
            Path(name).replace(self.path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _key(self, exchange: Exchange) -> str:
        """Return what two requests share that are the same to this test."""
        request = exchange.request_headers, exchange.request_body
        return canonical(exchange.method, exchange.target, *request, self._rules).key

    def _before(self) -> Iterator[tuple[Exchange, list[Chunk]]]:
        """Give the recordings that are there already and may be kept."""
        if self._mode in {Mode.ALL, Mode.NEW_EPISODES} and self.path.exists():
            with Store.open(self.path) as store:
                for exchange in store.exchanges():
                    yield exchange, store.chunks(exchange.exchange_id)

    # What it says.

    def _command(self, mode: Mode) -> str:
        return f"pytest --sse-record={mode} {shlex.quote(self._place.test)}"

    def _unreached(self) -> str:
        hints = "".join(f"\n- {hint}" for hint in self._place.hints())
        done = "recorded" if self._player is None else "replayed"
        return (
            f"No request came to {self._url}, so nothing of {self.shown_path} was"
            f" {done}. Give that URL to your client as its base URL: it is"
            f" `sse_base_url`, and `sse_recording.url`.{hints}\n\n{_ALLOW_UNUSED}"
        )

    def _missed(self, misses: list[Miss[Recording]], count: int) -> str:
        ignored = self._options.ignore
        known = [ignored] if isinstance(ignored, str) else list(ignored)
        shown = misses[:SHOWN_MAX]
        lines = [line for miss in shown for line in _miss_lines(miss, known)]
        return (
            f"{_counted(count, 'request')} had no recording in {self.shown_path}:\n\n"
            f"{_listed(lines, count - SHOWN_MAX)}\n\n"
            "If the request is as it should be, record the test again:\n\n"
            f"    {self._command(Mode.REWRITE)}\n\n"
            "or add what is new to what is there:\n\n"
            f"    {self._command(Mode.NEW_EPISODES)}"
        )

    def _unused(self, unused: list[Exchange], count: int) -> str:
        lines = [_line(exchange) for exchange in unused[:SHOWN_MAX]]
        return (
            f"The test did not ask for {len(unused)} of"
            f" {_counted(count, 'recording')} in {self.shown_path}:\n\n"
            f"{_listed(lines, len(unused) - SHOWN_MAX)}\n\n"
            "If it needs them no more, record the test again:\n\n"
            f"    {self._command(Mode.REWRITE)}\n\n{_ALLOW_UNUSED}"
        )

    def _left_open(self, left: list[RequestHead]) -> str:
        lines = [f"{head.method} {head.path}" for head in left[:SHOWN_MAX]]
        step = (
            "\n\nThe test has step=True, so events wait for it:"
            " `sse_recording.release(1000)` lets the rest go."
        ) * self._options.step
        return (
            f"{_counted(len(left), 'response')} of {self.shown_path} was still open"
            f" when the test ended:\n\n{_listed(lines, len(left) - SHOWN_MAX)}\n\n"
            f"{_READ_OR_CLOSE}{step}"
        )

    def _cut(self, cut: list[Exchange]) -> str:
        lines = [f"{e.method} {e.path}: {e.error}" for e in cut[:SHOWN_MAX]]
        return (
            f"{_counted(len(cut), 'exchange')} could not be recorded whole, so"
            f" {self.shown_path} was not written:\n\n"
            f"{_listed(lines, len(cut) - SHOWN_MAX)}\n\n{_READ_OR_CLOSE}"
        )

    def _notes(self, new: list[Exchange]) -> Iterator[str]:
        for exchange in new:
            if exchange.outcome is Outcome.UPSTREAM_ERROR:
                yield f"{exchange.method} {exchange.url}: {exchange.error}"
        if new:
            yield (
                f"The test did not pass, so what it recorded is not in"
                f" {self.shown_path}. Look at it there:\n\n"
                f"    sse-recorder ls --store {shlex.quote(str(self._store))}"
            )


class ServerTransport(Shell):
    """A transport that takes whatever a client asks for to one server.

    It is for clients whose base URL cannot be changed.  One object serves httpx and
    httpx2, with and without `await`; which it is, the request tells.

    Args:
        url: the server's.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._inner: dict[tuple[Library, str], Any] = {}

    def handle_request(self, request: Any) -> Any:
        """Send a request, and return its response."""
        inner = self._for(request, "HTTPTransport")
        return inner.handle_request(self._moved(request))

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return its response."""
        inner = self._for(request, "AsyncHTTPTransport")
        return await inner.handle_async_request(self._moved(request))

    def _for(self, request: Any, kind: str) -> Any:
        library = library_of(request)
        if (library, kind) not in self._inner:
            self._inner[library, kind] = getattr(library, kind)(trust_env=False)
        return self._inner[library, kind]

    def _moved(self, request: Any) -> Any:
        library = library_of(request)
        server = library.URL(self._url)
        # A new one, because the response's own request is to be the client's.
        return library.Request(
            request.method,
            request.url.copy_with(scheme="http", host=server.host, port=server.port),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    def close(self) -> None:
        """Close the connections."""
        for key in [key for key in self._inner if key[1] == "HTTPTransport"]:
            self._inner.pop(key).close()

    async def aclose(self) -> None:
        """Close the connections of a client with `await`."""
        for key in [key for key in self._inner if key[1] == "AsyncHTTPTransport"]:
            await self._inner.pop(key).aclose()


class _Together:
    """Services on one loop, as one; its URL is that of the last."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._services = services
        self._begun: list[Service] = []

    @property
    def url(self) -> str:
        """Where the last one listens."""
        return self._services[-1].url

    async def start(self) -> None:
        """Start one after the other."""
        for service in self._services:
            self._begun.append(service)
            await service.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """Stop those that were started, the last one first."""
        while self._begun:
            await self._begun.pop().stop(grace_s)


_ALLOW_UNUSED: Final = (
    "If that is on purpose, say so: @pytest.mark.sse_recording(allow_unused=True)"
)
_READ_OR_CLOSE: Final = (
    "Read responses to their end, or close them: `with client.stream(…) as response:`,"
    " or `response.close()`."
)


def _wait(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds that nothing announces, but not for ever."""
    for _ in range(round(patience_s / _PAUSE_S)):
        if condition():
            return
        time.sleep(_PAUSE_S)


def _miss_lines(miss: Miss[Recording], ignored: list[str]) -> Iterator[str]:
    yield f"{miss.method} {miss.path}"
    if miss.nearest is None:
        return
    yield f"    nearest     {_line(miss.nearest.exchange)}"
    yield f"    differs in  {miss.field}"
    yield f"    recorded    {miss.expected}"
    yield f"    received    {miss.actual}"
    if miss.rule:
        # The closest mark counts alone, so it has to name what is ignored already.
        rules = json.dumps([*ignored, miss.rule], ensure_ascii=False)
        yield f"    to ignore   @pytest.mark.sse_recording(ignore={rules})"


def _line(exchange: Exchange) -> str:
    began = datetime.fromtimestamp(exchange.started_at // _NS_PER_S, UTC)
    when = f"{began:%Y-%m-%d %H:%M}"
    short = exchange.exchange_id[-_ID_SHOWN:]
    return f"{exchange.method} {exchange.path} ({short}, recorded {when})"


def _listed(lines: Iterable[str], more: int) -> str:
    rest = [f"… and {more} more"] if more > 0 else []
    return "\n".join(f"    {line}" for line in [*lines, *rest])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
