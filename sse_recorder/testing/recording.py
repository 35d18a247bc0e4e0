"""The life of a recording: served or recorded, stopped, and told of.

An `SSERecording` is a real server on loopback, so any client in any language works, in
this process or another, with an event loop or without one:

    replay        Player(cassette)
    record        LiveRecorder(upstream) ─▶ a store that is thrown away ─▶ cassette
    new episodes  Player(cassette), which hands what it misses to a LiveRecorder

Which of them it is depends on the mode and on the cassette (`keeping`).

What was recorded is masked, as everything recorded is, and is written when the test is
over and has passed.  What a failing test recorded may be half of what it needs, and
would be replayed from then on: it stays in the store, and the test is told where.

Tests that share a cassette have a server each, and so each is answered from the first
recording on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from sse_recorder.background import running
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import SSERecorderError, StoreError
from sse_recorder.exchange import Exchange, Outcome, RequestHead, ToolCall, header
from sse_recorder.faults import Spec
from sse_recorder.match import Miss
from sse_recorder.playback import Lateness, Recording
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store
from sse_recorder.testing.keeping import Cassette, Take
from sse_recorder.testing.messages import Messages, error_line
from sse_recorder.testing.options import Mode, Options, Place, Report, Sharing
from sse_recorder.testing.servers import LiveRecorder, Nobody, Player, Together

PATIENCE_S: Final = 1.0
"""How long a response that its client has closed may take to be over."""
_NS_PER_DAY: Final = 86_400 * 1_000_000_000
_PAUSE_S: Final = 0.01
_REDIRECTS: Final = range(300, 400)


class SSERecording:
    """A cassette that is served, or recorded, on a URL of its own.

    Args:
        path: the cassette.
        mode: what is recorded.
        options: what the test asks for.
        place: what the messages speak of.
        sharing: whether other tests use the cassette.
        redactor: what masks secrets.
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
        sharing: Sharing = Sharing.NO,
        redactor: Redactor | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.path = path
        """The cassette."""
        self.upstream = options.upstream
        """Where requests go while recording."""
        self._options = options
        self._place = place
        self._say = Messages(path, place, options, sharing)
        self._may_leave = options.allow_unused
        if self._may_leave is None:
            self._may_leave = sharing is Sharing.YES
        self._clock = clock
        self._redactor = redactor or Redactor()
        self._stack = ExitStack()
        self._url = ""
        self._store = Path()
        self._left: list[RequestHead] | None = None
        self._faults = options.specs()
        self._pace = options.pace()
        rules = options.rules()
        self._recorder: LiveRecorder | None = None
        self._player: Player | None = None
        self._nobody: Nobody | None = None
        try:
            self._cassette = Cassette(path, mode, rules, began_ns=place.began_ns)
            if self._cassette.is_recorded:
                self._recorder = self._new_recorder()
            self._source = self._cassette.source(place.scratch)
            if self._source is not None:
                self._player = self._new_player(self._source)
        except SSERecorderError as error:
            if self._recorder is not None:
                self._recorder.writer.close()
            if isinstance(error, StoreError):
                raise self._say.unreadable(error) from error
            raise
        # A test that need not ask may have nothing to be recorded.
        if not (self._recorder or self._player):
            if not options.allow_unused:
                raise self._say.no_cassette()
            self._nobody = Nobody(self._say.command(Mode.ONCE), clock)

    def _new_recorder(self) -> LiveRecorder:
        if self.upstream is None:
            raise self._say.no_upstream()
        self._store = self._place.scratch()
        return LiveRecorder(
            self.upstream,
            store=self._store,
            faults=map(str, self._faults),
            seed=self._options.seed,
            redactor=self._redactor,
            clock=self._clock,
        )

    def _new_player(self, source: Path) -> Player:
        options = self._options
        return Player(
            source,
            command=self._say.command(Mode.NEW_EPISODES),
            allow_repeats=options.allow_repeats,
            pace=self._pace,
            step=options.step,
            faults=self._faults,
            seed=options.seed,
            ignore=options.ignore,
            match_headers=options.match_headers,
            fallback=self._recorder.connection if self._recorder else None,
            redactor=self._redactor,
            clock=self._clock,
        )

    def __enter__(self) -> Self:
        all_of_them = (self._recorder, self._player, self._nobody)
        together = Together([one for one in all_of_them if one is not None])
        self._url = self._stack.enter_context(running(together)).url
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # What a test asks.

    @property
    def url(self) -> str:
        """The base URL for any client, in any language."""
        return self._url

    @property
    def is_recording(self) -> bool:
        """Whether requests can reach the upstream."""
        return self._recorder is not None

    @property
    def lateness(self) -> Lateness:
        """How late the replayed steps left so far."""
        return self._player.lateness if self._player else Lateness.of(())

    def assert_punctual(
        self,
        *,
        p50_ms: float | None = None,
        p99_ms: float | None = None,
        max_ms: float | None = None,
    ) -> None:
        """Check how late the replayed steps left; what is recorded is never late.

        Args:
            p50_ms: the most that half of them may have been.
            p99_ms: the most that all but one in a hundred may.
            max_ms: the most that any may.

        Raises:
            AssertionError: one was later, or nothing was replayed.
        """
        if self._player is not None and not (self._recorder and self._recorder.count):
            self._player.assert_punctual(p50_ms=p50_ms, p99_ms=p99_ms, max_ms=max_ms)

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
        return self._played() + [exchange for exchange, _ in self._recorded()]

    def body(self, exchange: Exchange) -> bytes:
        """Return the response body of one of them, as it was on the wire."""
        with self._store_of(exchange) as store:
            return store.body(exchange.exchange_id)

    def tool_calls(self, exchange: Exchange) -> list[ToolCall]:
        """Return the tool calls of one of them, in the order of their beginning."""
        with self._store_of(exchange) as store:
            return store.tool_calls(exchange.exchange_id)

    def _store_of(self, exchange: Exchange) -> Store:
        played = {one.exchange_id for one in self._played()}
        is_played = exchange.exchange_id in played and self._source is not None
        return Store.open(self._source if is_played and self._source else self._store)

    def _played(self) -> list[Exchange]:
        played = self._player.matcher.used() if self._player else []
        return [recording.exchange for recording in played]

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
        return (
            self._say.stale(age_days, max_age_days) if age_days > max_age_days else None
        )

    # How it ends.

    def stop(self) -> None:
        """Stop serving, and note what is left open."""
        if self._left is not None:
            return
        recorder = self._recorder
        _wait(lambda: not self._open_heads() and not (recorder and recorder.relays))
        self._left = self._open_heads()
        self._stack.close()

    def _open_heads(self) -> list[RequestHead]:
        player = self._player
        return [replay.head for replay in tuple(player.playing)] if player else []

    def finish(self, *, has_passed: bool) -> Report:
        """Stop, write what was recorded, and say how it went.

        Args:
            has_passed: whether the test did; what a failing one recorded is not kept.
        """
        self.stop()
        new = self._recorded()
        made = [exchange for exchange, _ in new]
        cut = [e for e in made if e.outcome is Outcome.INCOMPLETE]
        told = self._faults_told(made)
        problems = [*self._problems(cut, told, has_passed=has_passed)]
        report = Report(problems, [], [*self._leading_away(made)])
        if not has_passed:
            report.notes.extend(self._notes(made, told))
        elif new and not cut:
            self._keep(new, report)
        return report

    def _keep(self, new: list[Take], report: Report) -> None:
        try:
            self._cassette.keep(new)
        except OSError as error:
            report.problems.append(self._say.not_written(error, self._store))
            return
        shutil.rmtree(self._store, ignore_errors=True)
        for exchange, _ in new:
            if exchange.outcome is Outcome.UPSTREAM_ERROR:
                report.warnings.append(self._say.recorded_error(exchange))

    def _problems(
        self, cut: list[Exchange], told: list[str], *, has_passed: bool
    ) -> Iterator[str]:
        player, recorder, misses = self._player, self._recorder, self._misses()
        missed = player.missed if player else len(misses)
        served = player.served if player else 0
        asked = served + missed + (recorder.count if recorder else 0)
        if not asked and not self._options.allow_unused:
            done = "replayed" if player else "recorded"
            yield self._say.unreached(self._url, done)
        if misses:
            yield self._say.missed(misses, missed)
        elif player is not None and asked and has_passed and not self._may_leave:
            unused = [recording.exchange for recording in player.matcher.unused()]
            if unused:
                yield self._say.unused(unused, player.loaded)
        if player is not None and player.outstayed:
            yield self._say.outstayed(player.outstayed)
        if self._left:
            yield self._say.left_open(self._left)
        if cut:
            yield self._say.cut(cut)
        if idle := [spec for spec in self._faults if _is_idle(spec, told)]:
            yield self._say.idle(idle, told)

    def _misses(self) -> list[Miss[Recording]]:
        if self._player is not None:
            return self._player.misses
        return self._nobody.misses if self._nobody is not None else []

    def _faults_told(self, made: list[Exchange]) -> list[str]:
        """Return what faults did, a line for each of them and of the responses."""
        told = list(self._player.fault_report) if self._player else []
        names = {e.exchange_id: f"{e.method} {e.path}" for e in made}
        for line in self._recorder.fault_report if self._recorder else ():
            exchange_id, _, rest = line.partition(": ")
            told.append(f"{names.get(exchange_id, exchange_id)}: {rest}")
        return told

    def _leading_away(self, made: list[Exchange]) -> Iterator[str]:
        """Say which redirects lead past this server, and may have been followed."""
        answered = self._played() + made
        for exchange in answered:
            to = urlsplit(header(exchange.response_headers, "location") or "")
            if exchange.status not in _REDIRECTS or not to.netloc:
                continue
            # Where it was followed here, a transport has brought the client back.
            others = {other.path for other in answered if other is not exchange}
            here = urlsplit(self._url).netloc
            if to.netloc != here and (to.path or "/") not in others:
                yield self._say.leads_away(exchange)

    def _notes(self, made: list[Exchange], told: list[str]) -> Iterator[str]:
        if told:
            yield self._say.faulted(told)
        for exchange in made:
            if exchange.outcome is Outcome.UPSTREAM_ERROR:
                yield error_line(exchange)
        if made:
            yield self._say.not_kept(self._store)

    def _recorded(self) -> list[Take]:
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


def _is_idle(spec: Spec, told: list[str]) -> bool:
    """Tell whether a fault has done nothing to any of the responses."""
    lines = [line for line in told if f": {spec}: " in line]
    return bool(lines) and all(f": {spec}: not done: " in line for line in lines)


def _wait(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds that nothing announces, but not for ever."""
    for _ in range(round(patience_s / _PAUSE_S)):
        if condition():
            return
        time.sleep(_PAUSE_S)
