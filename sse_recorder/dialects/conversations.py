"""Conversations: calls that the client answers in its next request.

A model asks for a tool and its response ends; the client runs the tool and sends the
result in its next request, which is another exchange.  `Conversations` hears of all
exchanges of a recorder and finds which result answers which call:

    began(A)   asked(A, …)   ended(A, calls)            began(B)   asked(B, results)
                                  ▲                                     │
                                  └───────── the result of a call ──────┘

What it gives back are the calls of A once more, now with their result: `timing` is
`cross_request`, and the time from the call's arguments being complete to the request B
is the client's turnaround: the tool, with all that the client does round it.  Calls
that were made side by side have one and the same end.

How they are found
------------------
Ids are not enough.  Some APIs give none (Gemini), some give the same ones in every
response (`call_0`), and clients change them: they send the item's id, put the
response's id in front, or make one up.  So, of the exchanges with the same host in the
same dialect, and for all results of a request before the next way is tried:

    exact id      of the call
    item id       of the item that the call is (OpenAI's `fc_…`)
    suffix        the ids are equal after their last colon
    echo          the request repeats the call with this name and these arguments
    order         the first call of this name, if it or the result has no id

Where several calls fit, that of the same conversation goes first, then one with the
arguments that the request repeats, then the latest response.  An id alone is not
believed where the names differ, or both the conversation and the arguments; echo and
order are guesses, and stay within a conversation.  Echo comes before order, because
conversations that run side by side call the same tools.  A result that may be old (see
`turns`) has the id and the arguments of its call, or answers none.

A result may be heard of before its call: the client need not read a response to its
end.  It waits while an exchange is open that may have made the call.  One that fits
nothing then is `unmatched`, unless it is only repeated, as when a request is tried
again.  The first request that brings a result has answered.

No I/O and no clock.  Memory is bounded: what is oldest is forgotten.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Final, NamedTuple

from sse_recorder.dialects.turns import ClientResult
from sse_recorder.exchange import ToolCall
from sse_recorder.trace import derive_span_id

CROSS_REQUEST: Final = "cross_request"
CALLS_MAX: Final = 10_000
"""The calls that wait for their result, and the results that are remembered."""
BYTES_MAX: Final = 32 << 20
"""The arguments of those, and the results of requests that wait."""
WAITING_MAX: Final = 1_000
"""The requests whose results wait for their call."""
_CANDIDATES: Final = 64
"""Calls that are looked at for one result; the latest ones."""
_NS_LIMIT: Final = 2**63
_WAYS: Final = ("exact id", "item id", "suffix", "echo", "order")
_SURE: Final = ("exact id", "item id")

Key = tuple[str | None, ...]


class Part(NamedTuple):
    """What an exchange is to its conversation."""

    exchange_id: str
    host: str
    dialect: str
    started_at: int
    """The wall time of t0."""
    session_id: str | None = None
    thread: str | None = None
    results: tuple[ClientResult, ...] = ()
    """What its request answers."""
    calls: tuple[tuple[str, ToolCall], ...] = ()
    """What it leaves to the client, with the dialect's keys."""
    answered: tuple[str, ...] = ()
    """The ids of calls that have their result in its own stream."""
    rows: int = 0
    """Its own rows of tool calls."""
    length_ns: int = 0
    """How long it took, once it is over."""

    @property
    def scope(self) -> Key:
        """What exchanges of one conversation have in common for certain."""
        return (self.dialect, self.host)


@dataclass(slots=True, eq=False)
class _Open:
    """A call that waits for its result."""

    part: Part
    call: ToolCall
    arguments: str | None
    response: int
    """The number of its response,"""
    number: int
    """and its own."""
    keys: list[Key] = field(default_factory=list)

    @property
    def size(self) -> int:
        call = self.call
        return _size(call.arguments) + 5 * _size(call.tool_id, call.tool_name)

    @property
    def called_at(self) -> int:
        return self.part.started_at + (self.call.called_ns or 0)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request whose results wait for their calls."""

    part: Part
    number: int
    results: list[ClientResult]
    count: int | None = None
    """The rows of tool calls of its own, once it has ended."""

    @property
    def size(self) -> int:
        return sum(
            _size(one.tool_id, one.result, one.name, one.arguments)
            for one in self.results
        )


class Conversations:
    """The calls without a result, and the results without a call, of a recorder."""

    def __init__(
        self, calls_max: int = CALLS_MAX, waiting_max: int = WAITING_MAX
    ) -> None:
        self.found: Counter[str] = Counter()
        """How many results were found in each way, repeated, or unmatched."""
        self._calls_max = calls_max
        self._waiting_max = waiting_max
        self._numbers = count()
        self._running: dict[str, dict[str, int]] = {}
        """The open exchanges of a host, in the order in which they began."""
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._open_size = 0
        self._index: dict[Key, dict[int, _Open]] = {}
        self._answered: OrderedDict[int, None] = OrderedDict()
        """Hashes, because an id may be of any length."""
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._waiting_size = 0

    def began(self, exchange_id: str, host: str) -> None:
        """Hear that an exchange began."""
        self._running.setdefault(host, {})[exchange_id] = next(self._numbers)

    def asked(self, part: Part) -> list[ToolCall]:
        """Hear of a request with results; return the calls that they answer."""
        if not part.results or part.exchange_id in self._waiting:
            return []
        running = self._running.get(part.host, {})
        number = running.get(part.exchange_id, next(self._numbers))
        waiting = _Waiting(_bare(part), number, self._not_known(part))
        answered = list(self._match(waiting))
        if waiting.results:
            self._waiting[part.exchange_id] = waiting
            self._waiting_size += waiting.size
        return answered + self._give_up()

    def _not_known(self, part: Part) -> list[ClientResult]:
        """Return the results of a request that were not heard of before for certain."""
        new = list[ClientResult]()
        for result in part.results:
            if result.may_be_old and self._is_known(part, result):
                self.found["repeated"] += 1
            else:
                new.append(result)
        return new

    def _is_known(self, part: Part, result: ClientResult) -> bool:
        return any(hash(key) in self._answered for key in _repeats(part, result))

    def is_waiting(self, exchange_id: str) -> bool:
        """Tell whether a request has results for which no call is known."""
        return exchange_id in self._waiting

    def ended(self, part: Part) -> list[ToolCall]:
        """Hear that an exchange is over; return the calls that are answered by now."""
        self._gone(part.exchange_id, part.host)
        for tool_id in part.answered:
            self._remember((*part.scope, tool_id))
        response, bare = next(self._numbers), _bare(part)
        for key, call in part.calls:
            self._add(bare, key, call, response)
        if own := self._waiting.get(part.exchange_id):
            own.count = part.rows
        answered = list[ToolCall]()
        if part.calls:
            earliest = min(
                part.started_at + (call.called_ns or 0) for _, call in part.calls
            )
            for waiting in list(self._waiting.values()):
                # What was sent before the first of them was made answers none.
                sent_at, scope = waiting.part.started_at, waiting.part.scope
                if scope == part.scope and sent_at >= earliest:
                    self._waiting_size -= waiting.size
                    answered += self._match(waiting)
                    self._waiting_size += waiting.size
        return answered + self._settled(part.host) + self._give_up()

    def left(self, exchange_id: str, host: str) -> list[ToolCall]:
        """Hear that an exchange is over and has no part in any conversation."""
        self._gone(exchange_id, host)
        self._drop(exchange_id)
        return self._settled(host)

    def close(self) -> list[ToolCall]:
        """Return what came of all results that still wait."""
        return [row for eid in list(self._waiting) for row in self._settle(eid)]

    def _gone(self, exchange_id: str, host: str) -> None:
        running = self._running.get(host, {})
        running.pop(exchange_id, None)
        if not running:
            self._running.pop(host, None)

    # --- calls

    def _add(self, part: Part, key: str, call: ToolCall, response: int) -> None:
        number = next(self._numbers)
        given = _canonical(call.arguments or "{}")
        one = _Open(part, call, given, response, number)
        ways: dict[str, Key] = {
            "exact id": (call.tool_id,),
            "item id": (key if key not in ("", call.tool_id) else None,),
            "suffix": (_tail(call.tool_id),),
            "echo": (call.tool_name, given),
            "order": (call.tool_name,),
        }
        one.keys = [
            (*part.scope, way, *key) for way, key in ways.items() if None not in key
        ]
        for each in one.keys:
            self._index.setdefault(each, {})[number] = one
        self._open[number] = one
        self._open_size += one.size
        while len(self._open) > self._calls_max or self._open_size > BYTES_MAX:
            self._remove(next(iter(self._open.values())))

    def _remove(self, one: _Open) -> None:
        del self._open[one.number]
        self._open_size -= one.size
        for key in one.keys:
            found = self._index[key]
            del found[one.number]
            if not found:
                del self._index[key]

    # --- results

    def _match(self, waiting: _Waiting) -> Iterator[ToolCall]:
        """Give the calls that results answer, and leave the results that do not."""
        part = waiting.part
        for way in _WAYS:
            for result in list(waiting.results):
                one = self._find(way, waiting, result)
                if one is not None:
                    waiting.results.remove(result)
                    self._remove(one)
                    self.found[way] += 1
                    for key in _repeats(part, result):
                        self._remember(key)
                    if one.call.tool_id is not None:
                        self._remember((*part.scope, one.call.tool_id))
                    yield _answered(one, part, result)

    def _find(self, way: str, waiting: _Waiting, result: ClientResult) -> _Open | None:
        """Return the call that a result answers, as far as one way shows it."""
        part = waiting.part
        if result.may_be_old and way not in _SURE:
            return None
        given = _canonical(result.arguments)
        wanted: Key = {
            "exact id": (result.tool_id,),
            "item id": (result.tool_id,),
            "suffix": (_tail(result.tool_id),),
            "echo": (result.name, given),
            "order": (result.name,),
        }[way]
        if None in wanted:
            return None
        known = self._index.get((*part.scope, way, *wanted), {})
        fits = [
            one
            for one in islice(reversed(known.values()), _CANDIDATES)
            if _fits(way, one, part, result, given)
            # By the order in which they are heard of where that tells, else by time.
            and (one.number < waiting.number or one.called_at <= part.started_at)
        ]

        def rank(one: _Open) -> tuple[bool, bool, int, int]:
            return (
                _same(one.part.thread, part.thread) is True,
                _same(one.arguments, given) is True,
                # The latest response, and of that the first call.
                one.response,
                -one.call.seq,
            )

        return max(fits, key=rank, default=None)

    def _settled(self, host: str) -> list[ToolCall]:
        """Return what came of the results for which no call can come any more."""
        oldest = next(iter(self._running.get(host, {}).values()), None)
        over = [
            eid
            for eid, waiting in self._waiting.items()
            if waiting.part.host == host
            and waiting.count is not None
            and (oldest is None or oldest > waiting.number)
        ]
        return [row for eid in over for row in self._settle(eid)]

    def _give_up(self) -> list[ToolCall]:
        """Return what came of the oldest results, where too many wait."""
        rows = list[ToolCall]()
        while (
            len(self._waiting) > self._waiting_max or self._waiting_size > BYTES_MAX
        ) and self._waiting:
            rows += self._settle(next(iter(self._waiting)))
        return rows

    def _settle(self, exchange_id: str) -> Iterator[ToolCall]:
        """Give a request's results that answer no call, as its own rows."""
        waiting = self._drop(exchange_id)
        if waiting is None:
            return
        for result in waiting.results:
            keys = _repeats(waiting.part, result)
            if result.may_be_old or self._is_known(waiting.part, result):
                self.found["repeated"] += 1
                continue
            self.found["unmatched"] += 1
            if waiting.count is not None:  # else its number is not known
                for key in keys:
                    self._remember(key)
                yield _unmatched(waiting.part, waiting.count, result)
                waiting.count += 1

    def _drop(self, exchange_id: str) -> _Waiting | None:
        waiting = self._waiting.pop(exchange_id, None)
        if waiting is not None:
            self._waiting_size -= waiting.size
        return waiting

    def _remember(self, key: Key) -> None:
        self._answered[hash(key)] = None
        self._answered.move_to_end(hash(key))
        while len(self._answered) > 2 * self._calls_max:
            self._answered.popitem(last=False)


def rebuilt(parts: Iterable[Part | None]) -> list[ToolCall]:
    """Return what is told of exchanges that are over, heard of by their times."""
    machine = Conversations()
    told = list[ToolCall]()
    events = list[tuple[int, bool, Part]]()
    for part in filter(None, parts):
        events.append((part.started_at, True, part))
        events.append((part.started_at + max(part.length_ns, 1), False, part))
    for _, is_beginning, part in sorted(events, key=lambda event: event[:2]):
        if is_beginning:
            machine.began(part.exchange_id, part.host)
            told += machine.asked(part)
        else:
            told += machine.ended(part)
    return told + machine.close()


def _fits(
    way: str, one: _Open, part: Part, result: ClientResult, given: str | None
) -> bool:
    """Tell whether nothing speaks against a result being that of a call."""
    if _same(one.part.session_id, part.session_id) is False:
        return False
    if _same(one.call.tool_name, result.name) is False:
        return False
    if result.may_be_old and _same(one.arguments, given) is not True:
        return False
    is_elsewhere = _same(one.part.thread, part.thread) is False
    if way in ("echo", "order"):
        has_ids = one.call.tool_id is not None and result.tool_id is not None
        return not is_elsewhere and not (way == "order" and has_ids)
    return not (is_elsewhere and _same(one.arguments, given) is False)


def _bare(part: Part) -> Part:
    """Return what must be kept of an exchange as long as its calls or results are."""
    return part._replace(results=(), calls=(), answered=())


def _size(*texts: str | None) -> int:
    return sum(len(text) for text in texts if text is not None)


def _same(one: str | None, other: str | None) -> bool | None:
    """Compare what may not be known."""
    return None if one is None or other is None else one == other


def _tail(tool_id: str | None) -> str | None:
    """Return an id from its last colon on."""
    return (tool_id or "").rpartition(":")[2] or None


def _canonical(arguments: str | None) -> str | None:
    """Return a digest of arguments that is the same however they are written."""
    if arguments is None:
        return None
    text = arguments or "{}"
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), sort_keys=True)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _repeats(part: Part, result: ClientResult) -> list[Key]:
    """Return what a result has in common with its repetitions."""
    if result.tool_id is not None:
        return [(*part.scope, result.tool_id)]
    given = _canonical(result.arguments)
    return [(*part.scope, "", result.name, given, _canonical(result.result))]


def _answered(one: _Open, part: Part, result: ClientResult) -> ToolCall:
    """Return a call with its result, on the clock of its own exchange."""
    called_ns = one.call.called_ns
    at_ns: int | None = part.started_at - one.part.started_at
    if at_ns is None or not (called_ns or 0) <= at_ns < _NS_LIMIT:
        at_ns = None  # the wall clock was set meanwhile
    return replace(
        one.call,
        result=result.result,
        status="error" if result.failed else "ok",
        timing=CROSS_REQUEST,
        result_ns=at_ns,
        duration_ns=None if at_ns is None or called_ns is None else at_ns - called_ns,
        result_frame=None,
        result_exchange_id=part.exchange_id,
    )


def _unmatched(part: Part, seq: int, result: ClientResult) -> ToolCall:
    """Return a result without a call, as a row of the exchange whose request it is."""
    return ToolCall(
        exchange_id=part.exchange_id,
        seq=seq,
        tool_id=result.tool_id,
        tool_name=result.name,
        arguments=result.arguments,
        result=result.result,
        status="unmatched",
        timing=CROSS_REQUEST,
        result_ns=0,
        result_exchange_id=part.exchange_id,
        parallelism=0,
        span_id=derive_span_id(part.exchange_id, seq),
    )
