r"""Faults: exact, seeded disturbances of a response, recorded or live.

    KIND[=VALUE][@PLACE:N]          reset@event:12   stall=2s@bytes:500   reslice=1

A fault is a machine that is fed steps with their times and gives steps with their
times: the same one serves a replay, whose steps are all known, and a live relay, where
they come as they come.  Faults compose: the first is fed what was recorded, the next
what the first one gave.

Where
-----
`event:N`   when N events are over; comments and other frames do not count
`bytes:N`   behind N bytes of the body
`ms:T`      T milliseconds after the request was complete

What
----
cut         end the connection in order, before the body's framing says so
reset       break it by a TCP reset
stall       send nothing more for VALUE; without one, for as long as the client waits
error       send an event that says `error` as the API does, and end in order
corrupt     one bit of the byte behind the place is flipped; with `event:N`, of a byte
            of event N, in the chunk that ends it, chosen by the seed
duplicate   event N is sent twice
drop        event N is not sent
delay       event N leaves VALUE later, and what would overtake it waits
status      answer with this status in place of the recorded one:
            `status=429,retry-after=2`
first-byte  the head, and all behind it, leave VALUE later
reslice     the same bytes in other chunks: `1` (or more) bytes each, `merge` (all that
            is due at a time, in one), `random`, `utf8` (a cut inside of each character
            of several bytes), `crlf` (a cut inside of each line end)

Rules
-----
1. Before the place nothing is changed, and not one byte too many passes it.
2. Times never run backwards: what a fault holds back, everything behind it waits for.
3. Every fault says what it did, and where; one whose place never came says so.
4. Whatever is chosen is drawn from the seed and the stream's name, so that the same
   seed gives the same bytes, whatever else is going on.

Pure: no I/O and no clock.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final, Literal, NamedTuple, TypeAlias

from sse_recorder import dialects
from sse_recorder.errors import UsageError
from sse_recorder.exchange import ResponseHead
from sse_recorder.playback import (
    Break,
    Data,
    End,
    Fail,
    Head,
    Step,
    TimedStep,
    Timeline,
    is_plain_event_stream,
)
from sse_recorder.sse import Parser

_NS_PER: Final = {"us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)")
_SPEC: Final = re.compile(
    r"(?P<kind>[a-z-]+)(?:=(?P<value>[^@]*))?(?:@(?P<place>[a-z]+):(?P<number>\d+))?"
)
# How likely a cut is behind each byte.
_RANDOM: Final = 1 / 8
_MULTIBYTE: Final = re.compile(rb"[\xc2-\xf4](?=[\x80-\xbf])")
_LINE_ENDS: Final = re.compile(rb"[\r\n](?=[\r\n])")
_EXAMPLE: Final = "such as reset@event:12, stall=2s@bytes:500 or status=503"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a response."""

    unit: Literal["event", "bytes", "ms"]
    number: int

    def __str__(self) -> str:
        return f"{self.unit}:{self.number}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A fault as it was asked for."""

    kind: str
    value: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        return f"{self.kind}{value}{f'@{self.place}' if self.place else ''}"


def parse(text: str) -> Spec:
    """Read a fault.

    Raises:
        UsageError: it is none, or lacks its value or its place.
    """
    match = _SPEC.fullmatch(text.strip())
    fault = match and KINDS.get(match["kind"])
    if not match or not fault:
        raise UsageError(
            f"{text!r} is not a fault: give one of {', '.join(sorted(KINDS))},"
            f" {_EXAMPLE}"
        )
    place = None
    if match["place"]:
        place = _place(text, match["place"], int(match["number"]), fault.units)
    elif fault.needs_place:
        units = " or ".join(f"@{unit}:N" for unit in fault.units)
        raise UsageError(f"{text!r} says not where: add {units}")
    spec = Spec(match["kind"], match["value"] or "", place)
    fault(spec, _random(""), "generic")  # finds out whether its value is one
    return spec


def _place(text: str, unit: str, number: int, units: tuple[str, ...]) -> Place:
    if not units:
        raise UsageError(f"{text!r} is of the whole response: leave away the place")
    match unit:
        case "event" | "bytes" | "ms" if unit in units:
            return Place(unit, number)
    known = " or ".join(f"@{name}:N" for name in units)
    raise UsageError(f"{text!r} cannot be at {unit}: give {known}")


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - what matters is that it comes again


def duration_ns(text: str) -> int:
    """Read a duration, such as 200ms or 1.5s.

    Raises:
        UsageError: it is none.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not a duration: give one such as 200ms or 1.5s")
    return round(float(match[1]) * _NS_PER[match[2]])


Fed: TypeAlias = "Step | Tick"


class Disturbance:
    """The faults of one response, one behind the other.

    Args:
        specs: in the order in which they act.
        seed: what is chosen at random depends on this
        name: and on this: of the stream.
        dialect: in whose form an error is told.
    """

    def __init__(
        self, specs: Iterable[Spec], *, seed: int, name: str, dialect: str = "generic"
    ) -> None:
        self._faults = [
            KINDS[spec.kind](spec, _random(f"{seed}/{name}/{at}"), dialect)
            for at, spec in enumerate(specs)
        ]

    @property
    def wakes_ns(self) -> int | None:
        """When to feed a `Tick`, if no step comes before."""
        times = [t for fault in self._faults if (t := fault.wakes_ns) is not None]
        return min(times, default=None)

    def feed(self, at_ns: int, step: Fed) -> list[TimedStep]:
        """Take the next step, and return what is done in its place, and when."""
        steps: list[tuple[int, Fed]] = [(at_ns, step)]
        for fault in self._faults:
            outs = [out for at, one in steps for out in fault.feed(at, one)]
            # Time passes for all of them, also where one holds something back.
            steps = [*outs, (at_ns, step)] if isinstance(step, Tick) else [*outs]
        return [(at, one) for at, one in steps if not isinstance(one, Tick)]

    def apply(self, timeline: Timeline) -> Timeline:
        """Return a whole timeline as it is with the faults."""
        return [out for at_ns, step in timeline for out in self.feed(at_ns, step)]

    @property
    def report(self) -> list[str]:
        """What each of them did, in words."""
        return [
            f"{fault.spec}: {fault.done or fault.not_done}" for fault in self._faults
        ]


class Tick(NamedTuple):
    """Nothing came, but time has passed: see `Disturbance.wakes_ns`."""


class Fault:
    """One fault: fed steps, it gives steps.

    A kind says what happens at its place (`act`), or changes the head, chunks or end.
    """

    units: ClassVar[tuple[str, ...]] = ("event", "bytes", "ms")
    needs_place: ClassVar[bool] = True

    def __init__(self, spec: Spec, rng: random.Random, dialect: str) -> None:
        self.spec = spec
        self.done = ""
        """What it did, in words; empty so far."""
        self._rng = rng
        self._dialect = dialect
        self._is_over = False  # nothing more is sent
        self._shift_ns = 0  # everything leaves so much later,
        self._floor_ns = 0  # and nothing before this
        self._parser: Parser | None = None
        self._events = self._bytes = 0  # that are over, of what was fed
        self.read_value(spec.value)

    def read_value(self, value: str) -> None:
        """Take the value apart.

        Raises:
            UsageError: it is none for this kind.
        """
        if value:
            raise UsageError(f"{self.spec.kind} takes no value: leave away ={value}")

    @property
    def wakes_ns(self) -> int | None:
        """When it wants to be fed a tick, if nothing else comes before."""
        place = self.spec.place
        if self.done or self._is_over or place is None or place.unit != "ms":
            return None
        return place.number * _NS_PER["ms"]

    @property
    def not_done(self) -> str:
        """Why nothing was done."""
        place = self.spec.place
        if place is not None and place.unit == "event" and self._parser is None:
            return "not done: the body is no event stream, or a compressed one"
        return f"not done: the response had {self._events} events, {self._bytes} bytes"

    def feed(self, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        """Take a step, and give what is done in its place."""
        for out_ns, out in self._feed(at_ns, step):
            self._floor_ns = max(self._floor_ns, out_ns)
            yield self._floor_ns, out

    def _feed(self, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        wakes_ns = self.wakes_ns
        if wakes_ns is not None and at_ns >= wakes_ns:
            yield from self.act(wakes_ns)
        if self._is_over or isinstance(step, Tick):
            return
        at_ns += self._shift_ns
        if isinstance(step, Head):
            if is_plain_event_stream(step.head.headers):
                self._parser = Parser()
            yield from self.head(at_ns, step)
        elif isinstance(step, Data):
            yield from self.data(at_ns, step.data)
        else:
            yield from self.end(at_ns, step)

    # What a kind changes.

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        """Do it, at its place."""
        raise AssertionError(f"{self.spec} has no place to act at {at_ns}")

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        """Give what is done in place of the head."""
        yield at_ns, step
        place = self.spec.place
        if place is not None and place.unit != "ms" and not place.number:
            yield from self.act(at_ns)

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        """Give what is done in place of a chunk."""
        cut = None if self.done else self._cut(data)
        if cut is None:
            yield at_ns, Data(data)
            return
        if data[:cut]:
            yield at_ns, Data(data[:cut])
        before_ns = self._shift_ns
        yield from self.act(at_ns)
        if not self._is_over and data[cut:]:
            yield at_ns + self._shift_ns - before_ns, Data(data[cut:])

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        """Give what is done in place of the end."""
        yield at_ns, step

    # Where things are.

    def _frames(self, data: bytes) -> list[tuple[int, bool]]:
        """Return where in a chunk frames end, and whether each was an event."""
        if self._parser is None:
            return []
        return [
            # One may be known to be over only by what comes behind it.
            (max(frame.start + frame.size - self._bytes, 0), frame.type == "event")
            for frame in self._parser.feed(data)
        ]

    def _cut(self, data: bytes) -> int | None:
        """Return before which byte of a chunk the place is, if it is there."""
        place, cut = self.spec.place, None
        for end, is_event in self._frames(data):
            self._events += is_event
            if place and place.unit == "event" and is_event:
                cut = end if self._events == place.number else cut
        start, self._bytes = self._bytes, self._bytes + len(data)
        if place and place.unit == "bytes" and start < place.number <= self._bytes:
            cut = place.number - start
        return cut

    def _note(self, what: str, at_ns: int) -> None:
        self.done = f"{what} at {at_ns / 1e6:,.1f} ms"


class _Ending(Fault):
    """`cut` and `reset`."""

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        self._is_over = True
        self._note(self.spec.kind, at_ns)
        yield at_ns, Break(reset=self.spec.kind == "reset")


class _Stall(Fault):
    """`stall`."""

    _for_ns: int | None = None

    def read_value(self, value: str) -> None:
        if value:
            self._for_ns = duration_ns(value)

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        if self._for_ns is None:
            self._is_over = True
        else:
            self._shift_ns += self._for_ns
        self._note("stalled", at_ns)
        return iter(())


class _Error(Fault):
    """`error`."""

    _message = "injected by sse-recorder"

    def read_value(self, value: str) -> None:
        self._message = value or self._message

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        self._is_over = True
        self._note("an error event, and the end,", at_ns)
        event = dialects.load(self._dialect).error_event(self._message)
        yield at_ns, Data(event.encode())
        yield at_ns, End(())


class _OfAnEvent(Fault):
    """What is done to event N: it is held back until it is known to be one."""

    units: ClassVar[tuple[str, ...]] = ("event",)

    def __init__(self, spec: Spec, rng: random.Random, dialect: str) -> None:
        super().__init__(spec, rng, dialect)
        self._held: list[tuple[int, bytes]] = []

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Give what is sent in place of the chunks of the event."""
        raise NotImplementedError

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        assert self.spec.place is not None
        number = self.spec.place.number
        sent = start = 0  # of what is sent, and of the frame
        for end, is_event in self._frames(data):
            self._events += is_event
            if is_event and self._events == number:
                if data[sent:start]:
                    yield at_ns, Data(data[sent:start])
                held, self._held = [*self._held, (at_ns, data[start:end])], []
                self._note(f"{self.spec.kind} event {number}", at_ns)
                yield from ((t, Data(d)) for t, d in self.change(held) if d)
                sent = end
            yield from self._let_go()
            start = max(start, end)
        self._bytes += len(data)
        may_be = self._parser is not None and self._events == number - 1
        keep = start if may_be else len(data)
        if data[sent:keep]:
            yield at_ns, Data(data[sent:keep])
        if data[keep:]:
            self._held.append((at_ns, data[keep:]))

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        yield from self._let_go()
        yield at_ns, step

    def _let_go(self) -> Iterator[TimedStep]:
        held, self._held = self._held, []
        return ((at_ns, Data(data)) for at_ns, data in held)


class _Drop(_OfAnEvent):
    """`drop`."""

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        del held
        return iter(())


class _Duplicate(_OfAnEvent):
    """`duplicate`."""

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        yield from held
        yield held[-1][0], b"".join(data for _, data in held)


class _Delay(_OfAnEvent):
    """`delay`."""

    _by_ns = 0

    def read_value(self, value: str) -> None:
        self._by_ns = duration_ns(value)

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        return ((at_ns + self._by_ns, data) for at_ns, data in held)


class _Corrupt(Fault):
    """`corrupt`."""

    units: ClassVar[tuple[str, ...]] = ("event", "bytes")

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        yield at_ns, step

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        at = None if self.done else self._byte(data)
        if at is not None:
            self._note(f"corrupted byte {self._bytes + at}", at_ns)
            flipped = data[at] ^ (1 << self._rng.randrange(8))
            data = data[:at] + bytes([flipped]) + data[at + 1 :]
        self._bytes += len(data)
        yield at_ns, Data(data)

    def _byte(self, data: bytes) -> int | None:
        """Return which byte of a chunk it is, if it is there."""
        place, start, found = self.spec.place, 0, None
        assert place is not None
        for end, is_event in self._frames(data):
            self._events += is_event
            if place.unit == "event" and is_event and self._events == place.number:
                # One that is over only by what comes behind it has none here.
                found = self._rng.randrange(start, end) if start < end else None
            start = end
        if place.unit == "bytes" and 0 <= place.number - self._bytes < len(data):
            found = place.number - self._bytes
        return found


class _OfTheResponse(Fault):
    """What is done to a response as a whole, at no place."""

    units: ClassVar[tuple[str, ...]] = ()
    needs_place = False


class _Status(_OfTheResponse):
    """`status`."""

    _status = HTTPStatus.SERVICE_UNAVAILABLE
    _retry_after = ""

    def read_value(self, value: str) -> None:
        number, _, rest = value.partition(",")
        name, _, self._retry_after = rest.partition("=")
        try:
            self._status = HTTPStatus(int(number))
        except ValueError:
            raise UsageError(f"{value!r} is not a status: give one as 503") from None
        if self._status < HTTPStatus.BAD_REQUEST or (rest and name != "retry-after"):
            raise UsageError(
                f"{value!r} is not the status of an error: give one such as 503 or"
                " 429,retry-after=2"
            )

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        del step
        return self._answer(at_ns)

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        del step
        return self._answer(at_ns)  # there was no head

    def _answer(self, at_ns: int) -> Iterator[TimedStep]:
        self._is_over = True
        self._note(f"answered {self._status}", at_ns)
        message = f"injected by sse-recorder: {self._status.phrase}"
        value = {"error": {"type": "injected_fault", "message": message}}
        body = json.dumps(value).encode()
        headers = [("Content-Type", "application/json")]
        if self._retry_after:
            headers.append(("Retry-After", self._retry_after))
        headers.append(("Content-Length", str(len(body))))
        phrase = self._status.phrase
        yield at_ns, Head(ResponseHead(self._status, phrase, tuple(headers)))
        yield at_ns, Data(body)
        yield at_ns, End(())


class _FirstByte(_OfTheResponse):
    """`first-byte`."""

    _by_ns = 0

    def read_value(self, value: str) -> None:
        self._by_ns = duration_ns(value)

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        return self._late(at_ns, step)

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        return iter([(at_ns, step)]) if self.done else self._late(at_ns, step)

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        yield at_ns, Data(data)

    def _late(self, at_ns: int, step: Head | End | Break | Fail) -> Iterator[TimedStep]:
        self._shift_ns = self._by_ns
        self._note(f"{self._by_ns / 1e6:g} ms late", at_ns + self._by_ns)
        yield at_ns + self._by_ns, step


class _Reslice(_OfTheResponse):
    """`reslice`."""

    _MODES: ClassVar[dict[str, Callable[[bytes, random.Random], Iterable[int]]]] = {
        "random": lambda d, rng: [
            n for n in range(1, len(d)) if rng.random() < _RANDOM
        ],
        "utf8": lambda d, _: [m.start() + 1 for m in _MULTIBYTE.finditer(d)],
        "crlf": lambda d, _: [m.start() + 1 for m in _LINE_ENDS.finditer(d)],
    }
    _size = 0
    _merge = 0
    _count = 0

    def __init__(self, spec: Spec, rng: random.Random, dialect: str) -> None:
        self._waiting: list[bytes] = []
        super().__init__(spec, rng, dialect)

    def read_value(self, value: str) -> None:
        if value.isdecimal() and int(value):
            self._size = int(value)
        elif value.startswith("merge") and (value[5:] or "2").isdecimal():
            self._merge = max(2, int(value[5:] or "2"))
        elif value not in self._MODES:
            modes = ", ".join(["a number of bytes", "merge", *self._MODES])
            raise UsageError(f"reslice={value} is not a way to cut: give {modes}")

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        self._bytes += len(data)
        if self._merge:
            self._waiting.append(data)
            if len(self._waiting) == self._merge:
                yield from self._merged(at_ns)
            return
        if self._size:
            cuts: Iterable[int] = range(self._size, len(data), self._size)
        else:
            cuts = self._MODES[self.spec.value](data, self._rng)
        start = 0
        for cut in (*cuts, len(data)):
            yield at_ns, Data(data[start:cut])
            self._count += 1
            start = cut
        self._note(f"{self._count} chunks, the last", at_ns)

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        if self._waiting:
            yield from self._merged(at_ns)
        yield at_ns, step

    def _merged(self, at_ns: int) -> Iterator[TimedStep]:
        data, self._waiting = b"".join(self._waiting), []
        self._count += 1
        self._note(f"{self._count} chunks, the last", at_ns)
        yield at_ns, Data(data)


KINDS: Final[dict[str, type[Fault]]] = {
    "cut": _Ending,
    "reset": _Ending,
    "stall": _Stall,
    "error": _Error,
    "corrupt": _Corrupt,
    "duplicate": _Duplicate,
    "drop": _Drop,
    "delay": _Delay,
    "status": _Status,
    "first-byte": _FirstByte,
    "reslice": _Reslice,
}
"""The kinds of faults, by their names."""
