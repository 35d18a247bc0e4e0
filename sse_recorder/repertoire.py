"""What every replay shares: its recordings, and the account of how it went.

A `Repertoire` loads stores and cassettes, finds what answers a request, and makes of it
the timeline that the request asked for.  Who plays that, on sockets or within the
process, is not its business; it is told how late the steps left.

Exchanges that are open, or that the recorder itself did not get whole (`incomplete`),
are not served; `skipped` counts them.  The headers of a connection (RFC 9110 section
7.6.1) are not served either: a replay has connections of its own, or none.

A request may ask for what is else set for all of them, by headers that take no part in
matching: `X-SSE-Recorder-Speed`, `X-SSE-Recorder-Fault` (any number of them) and
`X-SSE-Recorder-Scope`, which begins at the first recording again.
"""

from __future__ import annotations

import random
from array import array
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple, TypedDict

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Headers, Outcome, RequestHead
from sse_recorder.faults import Disturbance, Spec, parse
from sse_recorder.http1 import framing
from sse_recorder.match import Matcher, MatchRules, Miss
from sse_recorder.playback import (
    MAX_SPEED,
    Head,
    Lateness,
    Pace,
    Recording,
    Timeline,
)
from sse_recorder.redact import Redactor
from sse_recorder.store.store import Store

_SKIPPED: Final = (None, Outcome.INCOMPLETE)
_STREAMS: Final = (1, 9, 99, 999)
"""Where the numbers of streams that lateness is told for end; the rest is one more."""
_PREFIX: Final = "x-sse-recorder-"
_MISSES_KEPT: Final = 100


class Answer(NamedTuple):
    """A recording, as it is to be played for one request."""

    exchange: Exchange
    timeline: Timeline


class _Wishes(NamedTuple):
    """What one request asks for."""

    pace: Pace
    faults: tuple[Spec, ...]
    scope: str


class ReplayOptions(TypedDict, total=False):
    """What every replay can be given, by the names that a `Repertoire` has for it."""

    speed: float
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
        sources: folders and cassettes, in the order in which they answer.
        speed: how many times as fast as recorded; `MAX_SPEED` for no waiting.
        pace: the speed and more, in its place.
        faults: what is done to every response; see `sse_recorder.faults`.
        seed: what jitter and faults are drawn from.
        ignore: fields of requests that take no part in matching, by name or by path,
            such as `request_id`, `messages[*].id` or `query.ts`.
        match_headers: names of headers that do.
        redactor: what masked the recordings.

    Raises:
        StoreError: a source cannot be read, or none has an exchange to serve.
        UsageError: a fault is none, or what is to be ignored or matched.
    """

    def __init__(
        self,
        sources: Iterable[str | Path],
        *,
        speed: float = 1.0,
        pace: Pace | None = None,
        faults: Iterable[str | Spec] = (),
        seed: int = 0,
        ignore: str | Iterable[str] = (),
        match_headers: str | Iterable[str] = (),
        redactor: Redactor | None = None,
    ) -> None:
        self.pace = pace or Pace(speed=speed)
        self.faults = tuple(parse(f) if isinstance(f, str) else f for f in faults)
        self.seed = seed
        self.redactor = redactor or Redactor()
        rules = MatchRules.of(ignore, match_headers)
        self.matcher: Matcher[Recording] = Matcher(rules)
        self.served = 0
        """Requests that were answered from a recording."""
        self.missed = 0
        """Requests that no recording matched."""
        self.misses: deque[Miss[Recording]] = deque(maxlen=_MISSES_KEPT)
        """The latest of them, and why."""
        self.skipped = 0
        """Exchanges that cannot be served."""
        self.loaded = 0
        """Exchanges that can."""
        self.held = 0
        """Steps that left late because their client was not reading."""
        self.fault_report: list[str] = []
        """What faults did, a line for each of them and of the responses."""
        self._late: dict[int, array[int]] = {}
        self._finding = Lock()  # requests may come from any thread
        names = [str(source) for source in sources]
        for name in names:
            self._load(Path(name))
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
        return Answer(found.exchange, self._timeline(found, wishes))

    def note_miss(self, miss: Miss[Recording]) -> dict[str, object]:
        """Count a miss that nobody else answers, and return the JSON that tells it."""
        with self._finding:
            self.missed += 1
            self.misses.append(miss)
        return miss.to_json(_describe)

    @property
    def lateness(self) -> Lateness:
        """How late the steps left so far."""
        return Lateness.of(late for values in self._late.values() for late in values)

    def lateness_by_streams(self) -> dict[str, Lateness]:
        """Return the same by how many responses were under way: `1`, `2-9`, …."""
        return {_streams(top): Lateness.of(v) for top, v in sorted(self._late.items())}

    def note_late(self, late_ns: int, streams: int) -> None:
        """Note how late a step left, and how many responses were under way."""
        top = next((most for most in _STREAMS if streams <= most), _STREAMS[-1] + 1)
        self._late.setdefault(top, array("q")).append(late_ns)

    def assert_punctual(self, **most_ms: float) -> None:
        """Check how late the steps left.

        Args:
            most_ms: `p50_ms`, `p99_ms` or `max_ms`, each the most that is allowed.

        Raises:
            AssertionError: one was later, or nothing was played.
        """
        lateness = self.lateness
        found = {
            "p50_ms": lateness.p50_ns / 1e6,
            "p99_ms": lateness.p99_ns / 1e6,
            "max_ms": lateness.max_ns / 1e6,
        }
        late = {
            name: found[name] for name, most in most_ms.items() if found[name] > most
        }
        if late or not lateness.count:
            raise AssertionError(
                f"the replay was not punctual: {lateness}; allowed were {most_ms}"
            )

    def report(self) -> dict[str, Any]:
        """Return what was served, what was not, and how late, as JSON can hold it."""
        return {
            "served": self.served,
            "missed": self.missed,
            "skipped": self.skipped,
            "unused": [r.exchange.exchange_id for r in self.matcher.unused()],
            "held_steps": self.held,
            "lateness": asdict(self.lateness),
            "lateness_by_streams": {
                streams: asdict(lateness)
                for streams, lateness in self.lateness_by_streams().items()
            },
            "faults": self.fault_report,
        }

    def _load(self, source: Path) -> None:
        with Store.open(source) as store:
            chunks = dict(store.all_chunks())
            for exchange in store.exchanges():
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
        pace, asked = self.pace, list[Spec]()
        for name, value in headers:
            lower = name.lower()
            if lower == f"{_PREFIX}speed":
                pace = replace(pace, speed=speed_of(value))
            elif lower == f"{_PREFIX}fault":
                asked.append(parse(value))
            elif lower == f"{_PREFIX}scope":
                scope = value
        return _Wishes(pace, tuple(asked) or self.faults, scope)

    def _timeline(self, recording: Recording, wishes: _Wishes) -> Timeline:
        """Return a recording's timeline as it was asked for."""
        exchange = recording.exchange
        name = exchange.exchange_id
        rng = random.Random(f"{self.seed}/{name}")  # noqa: S311 - it has to come again
        timeline = wishes.pace.apply(recording.timeline, rng)
        if not wishes.faults:
            return timeline
        disturbance = Disturbance(
            wishes.faults,
            seed=self.seed,
            name=name,
            dialect=exchange.dialect or "generic",
        )
        timeline = disturbance.apply(timeline)
        self.fault_report += [
            f"{exchange.method} {exchange.path}: {line}" for line in disturbance.report
        ]
        return timeline


def speed_of(text: str) -> float:
    """Read a speed: a factor, or `max`.

    Raises:
        UsageError: it is none.
    """
    if text == "max":
        return MAX_SPEED
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < MAX_SPEED:
        raise UsageError(f"{text!r} is not a speed: give a number above 0, or max")
    return speed


def _streams(top: int) -> str:
    if top > _STREAMS[-1]:
        return f"{top}+"
    before = max((most + 1 for most in _STREAMS if most < top), default=top)
    return str(top) if before == top else f"{before}-{top}"


def _recording(source: Path, exchange: Exchange, chunks: Iterable[Chunk]) -> Recording:
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


def _describe(recording: Recording) -> dict[str, object]:
    exchange = recording.exchange
    return {
        "exchange_id": exchange.exchange_id,
        "method": exchange.method,
        "path": exchange.path,
    }
