"""What every replay shares: its recordings, and the account of how it went.

A `Repertoire` loads stores and cassettes, finds what answers a request, and makes of it
the timeline that the request asked for.  Who plays that, on sockets or within the
process, is not its business; it is told how late the steps left.

Exchanges that are open, or that the recorder itself did not get whole (`incomplete`),
are not served; `skipped` counts them.  The headers of a connection (RFC 9110 section
7.6.1) are not served either: a replay has connections of its own, or none.

A request may ask for what is else set for all of them, by headers that take no part in
matching: `X-SSE-Recorder-Speed`, `X-SSE-Recorder-Fault` (faults with `;` between them,
or `none`) and `X-SSE-Recorder-Scope`, which begins at the first recording again.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, TypedDict, cast

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Headers, Outcome, RequestHead
from sse_recorder.faults import KINDS, Disturbance, Spec, parse
from sse_recorder.http1 import framing
from sse_recorder.match import Matcher, MatchRules, Miss
from sse_recorder.playback import (
    Head,
    Histogram,
    Lateness,
    Pace,
    Player,
    Recording,
    TimedStep,
    speed_of,
)
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store, source_and_id

_SKIPPED: Final = (None, Outcome.INCOMPLETE)
_STREAMS: Final = (1, 9, 99, 999)
"""Where the numbers of streams that lateness is told for end; the rest is one more."""
_PREFIX: Final = "x-sse-recorder-"
# Who replays for a month wants to know how it began to go wrong, and not to run out of
# memory.
_MISSES_KEPT: Final = 100
_OUTSTAYED_KEPT: Final = 100
_FAULTS_KEPT: Final = 1_000
_NONE: Final = "none"
# A comma is within values, too; and some clients join headers of one name with it.
_BETWEEN_FAULTS: Final = re.compile(
    rf"\s*;\s*|\s*,\s*(?=(?:{'|'.join(KINDS)}|{_NONE})(?:[=@,;\s]|$))"
)


class Answer(NamedTuple):
    """A recording, as it is to be played for one request."""

    exchange: Exchange
    timeline: Iterable[TimedStep]
    disturbance: Disturbance | None = None
    """What is done to it; what comes of that is told by `Repertoire.note_end`."""
    speed: float = 1.0
    """How many times as fast as recorded."""


class _Wishes(NamedTuple):
    """What one request asks for."""

    pace: Pace
    faults: tuple[Spec, ...]
    scope: str


class ReplayOptions(TypedDict, total=False):
    """What every replay can be given, by the names that a `Repertoire` has for it."""

    speed: float | str
    pace: Pace | None
    faults: Iterable[str | Spec]
    seed: int
    ignore: str | Iterable[str]
    match_headers: str | Iterable[str]
    redactor: Redactor | None


class Repertoire:
    """The recordings of stores and cassettes, and how their replay went.

    Requests are masked as they were while recording, and matched by
    `sse_recorder.match`.

    Args:
        sources: folders and cassettes, or one exchange of either (`SOURCE#ID`), in the
            order in which they answer.
        speed: how many times as fast as recorded; `MAX_SPEED`, or `max`, for no
            waiting.
        pace: the speed and more, in its place.
        faults: what is done to every response; see `sse_recorder.faults`.
        seed: what jitter and faults are drawn from.
        ignore: fields of requests that take no part in matching, by name or by path,
            such as `request_id`, `messages[*].id` or `query.ts`.
        match_headers: names of headers that do.
        redactor: what masked the recordings.

    Raises:
        StoreError: a source cannot be read, or none has an exchange to serve.
        UsageError: there are no sources, or an option is none: the speed, a fault, or
            what is to be ignored or matched.
    """

    def __init__(
        self,
        sources: Iterable[str | Path],
        *,
        speed: float | str = 1.0,
        pace: Pace | None = None,
        faults: Iterable[str | Spec] = (),
        seed: int = 0,
        ignore: str | Iterable[str] = (),
        match_headers: str | Iterable[str] = (),
        redactor: Redactor | None = None,
    ) -> None:
        names = [str(source) for source in sources]
        if not names:
            raise UsageError("there is nothing to replay: give a folder or a cassette")
        self.pace = pace or Pace(speed=speed_of(speed))
        self.faults = tuple(parse(f) if isinstance(f, str) else f for f in faults)
        self.seed = seed
        self.redactor = redactor or Redactor()
        rules = MatchRules.of(ignore, match_headers)
        self.matcher: Matcher[Recording] = Matcher(rules)
        self.served = 0
        """Requests that were answered from a recording."""
        self.missed = 0
        """Requests that no recording matched."""
        self.misses: list[Miss[Recording]] = []
        """The first of them, and why."""
        self.skipped = 0
        """Exchanges that cannot be served."""
        self.loaded = 0
        """Exchanges that can."""
        self.held = 0
        """Steps that left late because their client was not reading."""
        self.outstayed: list[Exchange] = []
        """The first recordings that their client left, and which were replayed to one
        that waited for more."""
        self.fault_report: list[str] = []
        """What faults did: a line for each of them and of the first responses."""
        self.faults_told = 0
        """How many lines there would be."""
        self._late: defaultdict[int, Histogram] = defaultdict(Histogram)
        self._finding = Lock()  # requests may come from any thread,
        self._noting = Lock()  # and so may steps, which wait for no search
        for name in names:
            self._load(name)
        if not self.loaded:
            raise StoreError(
                f"{', '.join(names)}: no exchange that can be served;"
                " `sse-recorder ls` shows what is there"
            )

    def find(
        self, head: RequestHead, body: bytes, *, scope: str = ""
    ) -> Answer | Miss[Recording]:
        """Return what answers a request, or why nothing does.

        Args:
            head: of the request.
            body: of the request, whole.
            scope: of the request, where it does not say.

        Raises:
            UsageError: it asks, in our own headers, for what there is not.
        """
        wishes = self._wishes(head.headers, scope)
        masked = self.redactor.request_head(head)
        with self._finding:
            found = self.matcher.find(
                masked.method,
                masked.target,
                masked.headers,
                self.redactor.whole_body(head, body),
                scope=wishes.scope,
            )
            if isinstance(found, Miss):
                return found
            self.served += 1
        return self._prepared(found, wishes)

    def note_miss(self, miss: Miss[Recording]) -> dict[str, object]:
        """Count a miss that nobody else answers, and return the JSON that tells it."""
        with self._finding:
            self.missed += 1
            if len(self.misses) < _MISSES_KEPT:
                self.misses.append(miss)
        return miss.to_json(describe)

    def note_end(self, answer: Answer, player: Player, now_ns: int) -> None:
        """Note how the replay of an answer went, once, when it is over or was left."""
        with self._noting:
            kept = len(self.outstayed) < _OUTSTAYED_KEPT
            if kept and player.outstayed(now_ns):
                self.outstayed.append(answer.exchange)
            if answer.disturbance is None:
                return
            name = f"{answer.exchange.method} {answer.exchange.path}"
            for line in answer.disturbance.told(player.left_ns(now_ns)):
                self.faults_told += 1
                if self.faults_told <= _FAULTS_KEPT:
                    self.fault_report.append(f"{name}: {line}")

    @property
    def lateness(self) -> Lateness:
        """How late the steps left so far."""
        with self._noting:
            return Histogram(self._late.values()).summary()

    def lateness_by_streams(self) -> dict[str, Lateness]:
        """Return the same by how many responses were under way: `1`, `2-9`, …."""
        with self._noting:
            late = sorted((top, part.summary()) for top, part in self._late.items())
        return {_streams(top): lateness for top, lateness in late}

    def note_late(self, late_ns: int, streams: int) -> None:
        """Note how late a step left, and how many responses were under way."""
        top = next((most for most in _STREAMS if streams <= most), _STREAMS[-1] + 1)
        with self._noting:
            self._late[top].add(late_ns)

    def assert_punctual(
        self,
        *,
        p50_ms: float | None = None,
        p99_ms: float | None = None,
        max_ms: float | None = None,
    ) -> None:
        """Check how late the steps left.

        Args:
            p50_ms: the most that half of them may have been.
            p99_ms: the most that all but one in a hundred may.
            max_ms: the most that any may.

        Raises:
            AssertionError: one was later, or nothing was played.
        """
        late = self.lateness
        found = (late.p50_ns / 1e6, late.p99_ns / 1e6, late.max_ns / 1e6)
        most = (p50_ms, p99_ms, max_ms)
        pairs = zip(found, most, strict=True)
        if not late.count or any(m is not None and f > m for f, m in pairs):
            allowed = zip(("p50", "p99", "max"), most, strict=True)
            told = " ".join(f"{name}={m:g} ms" for name, m in allowed if m is not None)
            raise AssertionError(
                f"the replay was not punctual: {late}; allowed were {told or 'any'}"
            )

    def report(self) -> dict[str, Any]:
        """Return what was served, what was not, and how late, as JSON can hold it."""
        return {
            "served": self.served,
            "missed": self.missed,
            "misses": [
                {"method": miss.method, "path": miss.path}
                | cast("dict[str, object]", miss.to_json(describe)["error"])
                for miss in self.misses
            ],
            "skipped": self.skipped,
            "unused": [r.exchange.exchange_id for r in self.matcher.unused()],
            "outstayed": [exchange.exchange_id for exchange in self.outstayed],
            "held_steps": self.held,
            "lateness": asdict(self.lateness),
            "lateness_by_streams": {
                streams: asdict(lateness)
                for streams, lateness in self.lateness_by_streams().items()
            },
            "faults": self.fault_report,
            "faults_told": self.faults_told,
        }

    def _load(self, name: str) -> None:
        source, exchange_id = source_and_id(name)
        with Store.open(source) as store:
            if exchange_id is None:
                exchanges, chunks = store.exchanges(), dict(store.all_chunks())
            else:
                one = store.exchange(exchange_id)
                exchanges = iter([one])
                chunks = {one.exchange_id: store.chunks(one.exchange_id)}
            for exchange in exchanges:
                if exchange.outcome in _SKIPPED:
                    self.skipped += 1
                    continue
                self.loaded += 1
                self.matcher.add(
                    _recording(source, exchange, chunks.get(exchange.exchange_id, ())),
                    exchange.method,
                    exchange.target,
                    exchange.request_headers,
                    exchange.request_body,
                    received_path=exchange.received_path,
                )

    def _wishes(self, headers: Headers, scope: str) -> _Wishes:
        pace, asked = self.pace, list[str]()
        for name, value in headers:
            lower = name.lower()
            if lower == f"{_PREFIX}speed":
                pace = replace(pace, speed=speed_of(value))
            elif lower == f"{_PREFIX}fault":
                asked += _BETWEEN_FAULTS.split(value.strip())
            elif lower == f"{_PREFIX}scope":
                scope = value
        faults = tuple(parse(text) for text in asked if text != _NONE)
        return _Wishes(pace, faults if asked else self.faults, scope)

    def _prepared(self, recording: Recording, wishes: _Wishes) -> Answer:
        """Return a recording as it was asked for."""
        exchange = recording.exchange
        name = exchange.exchange_id
        rng = random.Random(f"{self.seed}/{name}")  # noqa: S311 - it has to come again
        timeline = wishes.pace.apply(recording.timeline, rng)
        if not wishes.faults:
            return Answer(exchange, timeline, speed=wishes.pace.speed)
        disturbance = Disturbance(
            wishes.faults,
            seed=self.seed,
            name=name,
            dialect=exchange.dialect or "generic",
            method=exchange.method,
        )
        disturbed = disturbance.apply(timeline)
        return Answer(exchange, disturbed, disturbance, wishes.pace.speed)


def without_wishes(headers: Headers) -> Headers:
    """Return the headers of a request without those that are for us."""
    return tuple(pair for pair in headers if not pair[0].lower().startswith(_PREFIX))


def _streams(top: int) -> str:
    if top > _STREAMS[-1]:
        return f"{top}+"
    before = max((most + 1 for most in _STREAMS if most < top), default=top)
    return str(top) if before == top else f"{before}-{top}"


def _recording(source: str, exchange: Exchange, chunks: Iterable[Chunk]) -> Recording:
    headers = framing.end_to_end(exchange.response_headers)
    try:
        recording = Recording(replace(exchange, response_headers=headers), chunks)
        for _, step in recording.timeline[:1]:
            if isinstance(step, Head):
                framing.encode_response(step.head)  # whatever is wrong is found here
    except UsageError as error:
        raise StoreError(
            f"{source}: exchange {exchange.exchange_id} cannot be served: {error}"
        ) from error
    return recording


def describe(recording: Recording) -> dict[str, object]:
    """Return how a recording is named where a miss is told."""
    exchange = recording.exchange
    return {
        "exchange_id": exchange.exchange_id,
        "method": exchange.method,
        "path": exchange.path,
    }
