"""Comparing what was recorded: two exchanges, or two lists of them.

    exchange[0].tool_calls[1].arguments.city   changed   "Lisbon"   "Porto"

Two runs of the same agent never have the same bytes: ids are random, the clock has gone
on, and a text is cut into other pieces.  So bytes are not compared, but what they say:
each side's frames are read by its dialect, and what comes of that is held against the
other's.

What is compared
----------------
status, outcome     as they are; `end` tells an end of file from a reset
finish_reason       as the dialect reads it
events              the sequence of frames by their kind.  A run of text deltas is one
                    step of it, and so are one of reasoning and one of arguments: how a
                    text is cut into tokens is no difference.  Comments and keep-alives
                    are none.  The payloads of all but text and tools are compared as
                    JSON, without what is noise.
text, reasoning     joined.  Where an event of both says its whole text again, that is
                    told once.
tool_calls          order, names, arguments and results as JSON, status; a result that
                    came in the client's next request is that request's, and is left out
*_ns                ttfb, ttfe, ttfc, e2e and the durations of tools, where a tolerance
                    is given; two times differ when the longer is longer than the
                    shorter by more than it

A body that is no event stream is one step whose payload is the body.

What is noise
-------------
A dialect names the JSON members that no two runs share (`Dialect.noise`).  They are
left out of events and bodies, and never out of a tool's arguments and results, where
`id` is the tool's own word.  A user's rule leaves out more: a name, or a path such as
`tool_calls[*].arguments.city`; see `sse_recorder.paths`.

How lists are aligned
---------------------
Equal items are matched in their order; what lies between two matches is matched by
likeness (its kind, its name), also in order.  What is left over on both sides and equal
was moved: `reordered`.  The rest is `missing` on the right or `added` there.  Matching
begins at the side that sorts first, so that to exchange the sides is to exchange left
with right and missing with added, and nothing else.

Exchanges are paired by their `request_key`, then by method and path, by the shape of
the path (a segment with a digit in it is like any other such), and by method and
dialect; equal ones in their order.  They go by their number on the left; those that
only the right has are numbered behind them.

Pure: no I/O, no clock, no threads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from sse_recorder import dialects
from sse_recorder.clock import duration_ns
from sse_recorder.dialects.base import Dialect, Kind, Reading, compact
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, Outcome, RequestHead, ToolCall
from sse_recorder.paths import Path, Rule, holds, written
from sse_recorder.tables import FrameRow

JSON_DEPTH_MAX: Final = 100
"""JSON that is nested deeper is compared as text."""

# Beyond so many comparisons two lists are held against each other place by place:
# aligning takes time that grows with the product of their lengths.
_ALIGNED_MAX: Final = 1 << 22
_RUN_KINDS: Final = (Kind.TEXT, Kind.REASONING, Kind.TOOL_CALL_DELTA)
_TOOL_KINDS: Final = (Kind.TOOL_CALL, Kind.TOOL_RESULT)
_THE_TEXT: Final = "(the text)"
_PERCENT: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*%")
_DIGIT: Final = re.compile(r"\d")

Keys: TypeAlias = "tuple[str, ...]"
Pair: TypeAlias = "tuple[int | None, int | None]"


class Change(StrEnum):
    """What became of something from the left to the right."""

    MISSING = "missing"
    ADDED = "added"
    CHANGED = "changed"
    REORDERED = "reordered"
    TIMING = "timing"


class Divergence(NamedTuple):
    """One difference between two exchanges or runs."""

    path: Path
    kind: Change
    left: Any = None
    """What the left has there, as JSON; None where it has nothing."""
    right: Any = None

    @property
    def where(self) -> str:
        """The path as text, such as `exchange[0].tool_calls[1].arguments.city`."""
        return written(self.path)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much two times may differ; times differ when they exceed both."""

    share: float = 0.0
    """Of the shorter of the two."""
    ns: int = 0

    def allows(self, left: int, right: int) -> bool:
        """Tell whether two durations are alike."""
        return abs(left - right) <= max(self.share * min(left, right), self.ns)


@dataclass(frozen=True, slots=True)
class Rules:
    """What does not count, and whether times do."""

    ignored: tuple[Rule, ...] = ()
    timing: Tolerance | None = None

    @property
    def names(self) -> frozenset[str]:
        """Members that are ignored wherever they are."""
        return frozenset(
            r[0] for r in self.ignored if len(r) == 1 and isinstance(r[0], str)
        )

    def ignores(self, path: Path) -> bool:
        """Tell whether a rule is a piece of a path."""
        return any(holds(rule, path) for rule in self.ignored)


def tolerance(text: str) -> Tolerance:
    """Return the tolerance that a user wrote: `10%` or `50ms`, or both with a comma.

    Raises:
        UsageError: it is neither.
    """
    share, ns = 0.0, 0
    for part in text.split(","):
        if match := _PERCENT.fullmatch(part.strip()):
            share = float(match[1]) / 100
            continue
        try:
            ns = duration_ns(part)
        except UsageError:
            raise UsageError(
                f"{text!r} is no tolerance; write 10%, 50ms, or 10%,50ms where both"
                " have to be exceeded"
            ) from None
    return Tolerance(share, ns)


class Recorded(NamedTuple):
    """An exchange with what its stream said."""

    exchange: Exchange
    frames: Iterable[FrameRow]
    tool_calls: Sequence[ToolCall]


class Compared(NamedTuple):
    """Two exchanges that were held against each other, or one that has no other."""

    left: Exchange | None
    right: Exchange | None
    divergences: list[Divergence]


NO_RULES: Final = Rules()


def compare_lists(
    left: Sequence[Exchange],
    right: Sequence[Exchange],
    load_left: Callable[[Exchange], Recorded],
    load_right: Callable[[Exchange], Recorded],
    rules: Rules = NO_RULES,
) -> Iterator[Compared]:
    """Pair the exchanges of two lists, and compare each pair.

    Frames are asked for pair by pair, so that two stores need not fit into memory.

    Args:
        left: exchanges in the order in which they began.
        right: the same, of the other run.
        load_left: gives one of the left with its frames and tool calls.
        load_right: the same of the right.
        rules: what does not count.
    """
    # The pairs begin with all of the left, so each goes by its number there.
    for number, (n, m) in enumerate(pair(left, right)):
        one, other = (None if n is None else left[n]), (None if m is None else right[m])
        place: Path = ("exchange", number)
        if one is not None and other is not None:
            found = compare(load_left(one), load_right(other), rules, place)
        elif one is not None:
            found = [Divergence(place, Change.MISSING, left=_request(one))]
        else:
            assert other is not None
            found = [Divergence(place, Change.ADDED, right=_request(other))]
        yield Compared(one, other, [d for d in found if not rules.ignores(d.path)])


def compare(
    left: Recorded,
    right: Recorded,
    rules: Rules = NO_RULES,
    place: Path = (),
) -> list[Divergence]:
    """Compare two exchanges.

    Args:
        left: an exchange.
        right: the other, of which the left says what it should be.
        rules: what does not count.
        place: what stands before the path of each divergence.
    """
    one, other = _said(left, rules), _said(right, rules)
    found = [
        *_heads(left.exchange, right.exchange),
        *_steps(one, other),
        *_changed(("text",), one.text, other.text),
        *_changed(("reasoning",), one.reasoning, other.reasoning),
        *_tool_calls(left.tool_calls, right.tool_calls, rules),
        *_timing(left.exchange, right.exchange, rules.timing),
    ]
    placed = (d._replace(path=place + d.path) for d in found)
    return [d for d in placed if not rules.ignores(d.path)]


def pair(left: Sequence[Exchange], right: Sequence[Exchange]) -> list[Pair]:
    """Return which exchanges of two lists belong together, by their numbers.

    Those of the left come in their order, then those that only the right has.
    """
    pairs: dict[int, int] = {}
    rights = set(range(len(right)))
    for likeness in _LIKENESSES:
        waiting: defaultdict[Hashable, deque[int]] = defaultdict(deque)
        for m in sorted(rights):
            waiting[likeness(right[m])].append(m)
        waiting.pop(None, None)
        for n, exchange in enumerate(left):
            if n not in pairs and (queue := waiting.get(likeness(exchange))):
                pairs[n] = queue.popleft()
                rights.remove(pairs[n])
    return [(n, pairs.get(n)) for n in range(len(left))] + [
        (None, m) for m in sorted(rights)
    ]


def _shape(exchange: Exchange) -> Hashable:
    parts = exchange.path.split("/")
    return exchange.method, tuple("*" if _DIGIT.search(p) else p for p in parts)


# From the most to the least that two exchanges can have in common; None has nothing.
_LIKENESSES: Final[tuple[Callable[[Exchange], Hashable], ...]] = (
    lambda x: x.request_key or None,
    lambda x: (x.method, x.path),
    _shape,
    lambda x: x.dialect and (x.method, x.dialect),
)


def _request(exchange: Exchange) -> str:
    return f"{exchange.method} {exchange.target}"


# --- what an exchange says ------------------------------------------------------------


class _Step(NamedTuple):
    kind: str
    payload: Any = None


class _Said(NamedTuple):
    steps: list[_Step]
    text: str
    reasoning: str


def _said(recorded: Recorded, rules: Rules) -> _Said:
    """Read an exchange by its dialect."""
    exchange = recorded.exchange
    known = dialects.load(exchange.dialect or Dialect.name)
    head = RequestHead(exchange.method, exchange.target, exchange.request_headers)
    dialect, names = known(head), known.noise | rules.names
    steps: list[_Step] = []
    text: list[str] = []
    reasoning: list[str] = []
    for frame in _whole_bodies(recorded.frames):
        reading = _read(dialect, frame)
        kind = reading.kind
        (reasoning if kind is Kind.REASONING else text).append(reading.text)
        if kind in _RUN_KINDS:
            if not steps or steps[-1].kind != kind:
                steps.append(_Step(kind))
        elif kind in _TOOL_KINDS:
            steps.append(_Step(kind))
        elif kind is not Kind.KEEPALIVE:
            steps.append(_Step(_named(kind, frame), _payload(frame, names)))
    return _Said(steps, "".join(text), "".join(reasoning))


def _whole_bodies(frames: Iterable[FrameRow]) -> Iterator[FrameRow]:
    """Give frames, and one for all those in which a long body was kept."""
    body: list[FrameRow] = []
    for frame in frames:
        if frame.type == "body":
            body.append(frame)
        else:
            yield frame
    if body:
        yield body[0]._replace(raw=b"".join(frame.raw or b"" for frame in body))


def _read(dialect: Dialect, frame: FrameRow) -> Reading:
    match frame.type:
        case "event":
            return dialect.read_event(frame.event, frame.data or "")
        case "comment":
            return Reading(Kind.KEEPALIVE)
        case "body":
            reading = dialect.read_body(frame.raw or b"")
            return reading._replace(kind=Kind.OTHER)
        case _:  # fields without an event, or the tail of a stream that was cut
            return Reading()


def _named(kind: Kind, frame: FrameRow) -> str:
    """Return a kind; what has no meaning to the dialect goes by its own name."""
    if kind is not Kind.OTHER:
        return kind
    if frame.type != "event":
        return frame.type
    return f"event {frame.event}" if frame.event else "event"


def _payload(frame: FrameRow, names: frozenset[str]) -> Any:
    if frame.data is not None:
        return _parsed(frame.data, names)
    data = frame.raw or b""
    try:
        return _parsed(data.decode(), names)
    except UnicodeDecodeError:
        return f"sha256:{hashlib.sha256(data).hexdigest()}, {len(data):,} B"


def _parsed(text: str, names: frozenset[str]) -> Any:
    """Return a text as JSON without some members; as it is where it is no JSON."""
    try:
        return _stripped(json.loads(text), names, 0)
    except (ValueError, RecursionError):
        return text


def _stripped(value: Any, names: frozenset[str], depth: int) -> Any:
    if depth > JSON_DEPTH_MAX:
        raise ValueError
    match value:
        case dict():
            return {
                name: _stripped(item, names, depth + 1)
                for name, item in value.items()
                if name not in names
            }
        case list():
            return [_stripped(item, names, depth + 1) for item in value]
        case _:
            return value


def _without(text: str, value: Any) -> Any:
    """Return JSON in which the whole text of the exchange is only named."""
    match value:
        case dict():
            return {name: _without(text, item) for name, item in value.items()}
        case list():
            return [_without(text, item) for item in value]
        case _:
            return _THE_TEXT if value == text else value


# --- comparing ------------------------------------------------------------------------


def _heads(left: Exchange, right: Exchange) -> Iterator[Divergence]:
    for name in ("dialect", "status", "outcome", "finish_reason"):
        yield from _changed((name,), getattr(left, name), getattr(right, name))
    if left.outcome == right.outcome == Outcome.UPSTREAM_ABORT:
        # How the connection broke is the error's first word; the rest is for people.
        ends = [
            re.split(r"[:;\s]", x.error or "", maxsplit=1)[0] for x in (left, right)
        ]
        yield from _changed(("end",), *ends)


def _changed(path: Path, left: Any, right: Any) -> Iterator[Divergence]:
    if left != right:
        yield Divergence(path, Change.CHANGED, left, right)


def _steps(left: _Said, right: _Said) -> Iterator[Divergence]:
    def keys(step: _Step, text: str) -> Keys:
        payload = _sorted(step.payload)
        named = _without(text, payload) if text else payload
        return compact([step.kind, payload]), compact([step.kind, named]), step.kind

    sides = [[keys(step, said.text) for step in said.steps] for said in (left, right)]
    texts = (left.text, right.text) if left.text and right.text else None
    shown = [[_shown(step) for step in said.steps] for said in (left, right)]
    for fate in _fates(*sides):
        if fate.kind is Change.CHANGED:
            one, other = left.steps[fate.left], right.steps[fate.right]
            path = ("events", fate.number)
            yield from _json(path, one.payload, other.payload, texts)
        else:
            yield fate.told(("events",), *shown)


def _shown(step: _Step) -> Any:
    return step.kind if step.payload is None else {step.kind: step.payload}


def _tool_calls(
    left: Sequence[ToolCall], right: Sequence[ToolCall], rules: Rules
) -> Iterator[Divergence]:
    left, right = _own(left), _own(right)

    def seen(calls: Sequence[ToolCall]) -> list[tuple[str, Any]]:
        return [(c.tool_name or "", _json_of(c.arguments, rules)) for c in calls]

    def keys(call: tuple[str, Any]) -> Keys:
        return compact([call[0], _sorted(call[1])]), call[0]

    one, other = seen(left), seen(right)
    shown = [[{name: a} for name, a in calls] for calls in (one, other)]
    for fate in _fates([keys(call) for call in one], [keys(call) for call in other]):
        if fate.kind is not Change.CHANGED:
            yield fate.told(("tool_calls",), *shown)
        if fate.kind in {Change.CHANGED, Change.REORDERED}:
            path = ("tool_calls", fate.number)
            yield from _call(path, left[fate.left], right[fate.right], rules)


def _own(calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Return calls as their own exchange has them."""
    return [
        replace(call, status="unanswered", result=None, duration_ns=None)
        if call.timing == CROSS_REQUEST
        else call
        for call in calls
        if (call.status, call.timing) != ("unmatched", CROSS_REQUEST)
    ]


def _call(
    path: Path, left: ToolCall, right: ToolCall, rules: Rules
) -> Iterator[Divergence]:
    for name in ("arguments", "result"):
        one, other = getattr(left, name), getattr(right, name)
        yield from _json((*path, name), _json_of(one, rules), _json_of(other, rules))
    yield from _changed((*path, "status"), left.status, right.status)
    yield from _time(
        (*path, "duration_ns"), left.duration_ns, right.duration_ns, rules.timing
    )


def _json_of(text: str | None, rules: Rules) -> Any:
    return None if text is None else _parsed(text, rules.names)


def _timing(
    left: Exchange, right: Exchange, allowed: Tolerance | None
) -> Iterator[Divergence]:
    for (name, one), other in zip(
        times(left).items(), times(right).values(), strict=True
    ):
        yield from _time((name,), one, other, allowed)


def times(exchange: Exchange) -> dict[str, int | None]:
    """Return the times of an exchange that are compared."""
    sent, head = exchange.sent_ns, exchange.headers_ns
    return {
        "ttfb_ns": None if sent is None or head is None else head - sent,
        "ttfe_ns": exchange.first_event_ns,
        "ttfc_ns": exchange.first_content_ns,
        "e2e_ns": exchange.ended_ns,
    }


def _time(
    path: Path, left: int | None, right: int | None, allowed: Tolerance | None
) -> Iterator[Divergence]:
    # A time that only one side has is of something that only that side has, and that
    # is a divergence already.
    if allowed is None or left is None or right is None:
        return
    if not allowed.allows(left, right):
        yield Divergence(path, Change.TIMING, left, right)


def _json(
    path: Path, left: Any, right: Any, texts: tuple[str, str] | None = None
) -> Iterator[Divergence]:
    """Compare two JSON values.

    Args:
        path: where they are.
        left: the one.
        right: the other.
        texts: what the two exchanges say, each of its own: where both have all of it,
            that they differ is told elsewhere.
    """
    if isinstance(left, dict) and isinstance(right, dict):
        for name in left | right:
            here = (*path, name)
            if name not in right:
                yield Divergence(here, Change.MISSING, left=left[name])
            elif name not in left:
                yield Divergence(here, Change.ADDED, right=right[name])
            else:
                yield from _json(here, left[name], right[name], texts)
    elif isinstance(left, list) and isinstance(right, list):
        keys = [[(compact(_sorted(item)), "") for item in x] for x in (left, right)]
        for fate in _fates(*keys):
            if fate.kind is Change.CHANGED:
                here = (*path, fate.number)
                yield from _json(here, left[fate.left], right[fate.right], texts)
            else:
                yield fate.told(path, left, right)
    elif _differ(left, right) and (left, right) != texts:
        yield Divergence(path, Change.CHANGED, left, right)


def _differ(left: Any, right: Any) -> bool:
    # To Python true is 1, and what is not a number is not even itself.
    if isinstance(left, bool) or isinstance(right, bool):
        return left is not right
    return bool(left != right and not (left != left and right != right))  # noqa: PLR0124


def _sorted(value: Any) -> Any:
    """Return JSON with its members in the order of their names."""
    match value:
        case dict():
            return {name: _sorted(value[name]) for name in sorted(value)}
        case list():
            return [_sorted(item) for item in value]
        case _:
            return value


# --- aligning -------------------------------------------------------------------------


class _Fate(NamedTuple):
    """What became of an item: `CHANGED` where it has another, whether it did or not."""

    kind: Change
    left: int
    """Its number; -1 where it is not."""
    right: int

    @property
    def number(self) -> int:
        """What it goes by: where it was, or else where it came."""
        return self.right if self.kind is Change.ADDED else self.left

    def told(self, path: Path, left: Sequence[Any], right: Sequence[Any]) -> Divergence:
        """Return it as a divergence, where it is one by itself."""
        n, m = self.left, self.right
        here = (*path, self.number)
        match self.kind:
            case Change.MISSING:
                return Divergence(here, self.kind, left=left[n])
            case Change.ADDED:
                return Divergence(here, self.kind, right=right[m])
            case _:
                places = (f"at {n}: {compact(left[n])}", f"at {m}: {compact(right[m])}")
                return Divergence(here, self.kind, *places)


def _fates(left: Sequence[Keys], right: Sequence[Keys]) -> Iterator[_Fate]:
    """Give what became of the items of two lists, those that were added last."""
    pairs = align(left, right)
    unclaimed: defaultdict[str, deque[int]] = defaultdict(deque)
    for n, m in pairs:
        if n is None and m is not None:
            unclaimed[right[m][0]].append(m)
    for n, m in pairs:
        if n is None:
            continue
        if m is not None:
            yield _Fate(Change.CHANGED, n, m)
        elif queue := unclaimed[left[n][0]]:
            yield _Fate(Change.REORDERED, n, queue.popleft())
        else:
            yield _Fate(Change.MISSING, n, -1)
    for m in sorted(m for queue in unclaimed.values() for m in queue):
        yield _Fate(Change.ADDED, -1, m)


def align(left: Sequence[Keys], right: Sequence[Keys]) -> list[Pair]:
    """Return which items of two lists belong together, by their numbers.

    Args:
        left: of each item, what it is like, from exactly to roughly: items are matched
            by the first key, those between two matches by the second, and so on.
        right: the same of the other list.
    """
    return list(_aligned(left, right, range(len(left)), range(len(right)), 0))


def _aligned(
    left: Sequence[Keys], right: Sequence[Keys], lefts: range, rights: range, level: int
) -> Iterator[Pair]:
    if not lefts or not rights or level == len(left[lefts[0]]):
        yield from ((n, None) for n in lefts)
        yield from ((None, m) for m in rights)
        return
    matches = _common(
        [left[n][level] for n in lefts], [right[m][level] for m in rights]
    )
    begin, other_begin = 0, 0
    for n, m in [*matches, (len(lefts), len(rights))]:
        gap, other_gap = lefts[begin:n], rights[other_begin:m]
        yield from _aligned(left, right, gap, other_gap, level + 1)
        if n < len(lefts):
            yield lefts[n], rights[m]
        begin, other_begin = n + 1, m + 1


def _common(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the numbers of equal items, rising on both sides."""
    if left > right:
        return [(n, m) for m, n in _common(right, left)]
    if len(left) * len(right) > _ALIGNED_MAX:
        pairs = enumerate(zip(left, right, strict=False))
        return [(n, n) for n, (one, other) in pairs if one == other]
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [(n + k, m + k) for n, m, size in blocks for k in range(size)]
