r"""Faults: exact, seeded disturbances of a response, recorded or live.

    KIND[=VALUE][@PLACE:N]          reset@event:12   stall=2s@bytes:500   reslice=1

A fault is a machine that is fed steps with their times and gives steps with their
times: the same one serves a replay, whose steps are all known, and a live relay, where
they come as they come.  Faults compose: the first is fed what was recorded, the next
what the first one gave.

    grammar   a fault as text
    fault     the machine that all kinds share
    kinds     what each of them does

Where
-----
`event:N`   when N events are over; comments and other frames do not count
`bytes:N`   behind N bytes of the body
`ms:T`      T milliseconds after the request was complete

What
----
cut         end the connection in order, before the body's framing says so; where only
            that end would say so, the body looks whole
reset       break it by a TCP reset
stall       send nothing more for VALUE; without one, for as long as the client waits
error       send an event that says `error` as the API does, and end in order: behind a
            frame that is open, which is ended, and with a head if none was sent
corrupt     one bit of the byte behind the place is flipped; with `event:N`, of a byte
            of event N, in the chunk that ends it, chosen by the seed
duplicate   event N is sent twice
drop        event N is not sent
delay       event N leaves VALUE later, and what would overtake it waits
status      answer with this status, 400 to 599, in place of the recorded one:
            `status=429,retry-after=2`
first-byte  the head, and all behind it, leave VALUE later
reslice     the same bytes in other chunks: `1` (or more) bytes each, `merge` (each two
            in one; `mergeN`: each N, up to 999), which wait for the last of them or for
            the end, `random`, `utf8` (a cut inside of each character of several bytes),
            `crlf` (a cut inside of each line end)

Rules
-----
1. Before the place nothing of the body is changed, and not one byte too many passes it.
   A head that announces a length loses it to what may change that: `duplicate`, `drop`
   and `error`.
2. Times never run backwards: what a fault holds back, everything behind it waits for.
3. Every fault says what it did, and where; one whose place never came says so, and so
   does one whose doing nobody saw.
4. Whatever is chosen is drawn from the seed and the stream's name, so that the same
   seed gives the same bytes, whatever else is going on.

Pure: no I/O and no clock.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Final

from sse_recorder.clock import duration_ns
from sse_recorder.errors import UsageError
from sse_recorder.faults.fault import Fault, Fed, Setting, Tick
from sse_recorder.faults.grammar import Spec, read
from sse_recorder.faults.kinds import KINDS
from sse_recorder.playback import Data, Head, Step, TimedStep, Timeline

__all__ = ["KINDS", "Disturbance", "Fed", "Spec", "Tick", "duration_ns", "parse"]

_EXAMPLE: Final = "such as reset@event:12, stall=2s@bytes:500 or status=503"


def parse(text: str) -> Spec:
    """Read a fault.

    Raises:
        UsageError: it is none, or lacks its value or its place.
    """
    spec = read(text)
    fault = spec and KINDS.get(spec.kind)
    if not spec or not fault:
        raise UsageError(
            f"{text[:80]!r} is not a fault: give one of {', '.join(sorted(KINDS))},"
            f" {_EXAMPLE}"
        )
    _check_place(text, spec, fault)
    fault(spec, Setting(_random("")))  # finds out whether its value is one
    return spec


def _check_place(text: str, spec: Spec, fault: type[Fault]) -> None:
    place, units = spec.place, " or ".join(f"@{unit}:N" for unit in fault.units)
    if place is None:
        if fault.needs_place:
            raise UsageError(f"{text!r} says not where: add {units}")
    elif not units:
        raise UsageError(f"{text!r} is of the whole response: leave away the place")
    elif place.unit not in fault.units:
        raise UsageError(f"{text!r} cannot be at {place.unit}: give {units}")
    elif place.unit == "event" and place.number < fault.first_event:
        raise UsageError(f"{text!r} is of no event: the first is @event:1")


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - what matters is that it comes again


class Disturbance:
    """The faults of one response, one behind the other.

    Args:
        specs: in the order in which they act.
        seed: what is chosen at random depends on this
        name: and on this: of the stream.
        dialect: in whose form an error is told.
        method: of the request.
    """

    def __init__(
        self,
        specs: Iterable[Spec],
        *,
        seed: int,
        name: str,
        dialect: str = "generic",
        method: str = "GET",
    ) -> None:
        self._faults = [
            KINDS[spec.kind](
                spec, Setting(_random(f"{seed}/{name}/{at}"), dialect, method)
            )
            for at, spec in enumerate(specs)
        ]

    @property
    def wakes_ns(self) -> int | None:
        """When to feed a `Tick`, if no step comes before."""
        seen = self._faults[self._first :]
        times = [t for fault in seen if (t := fault.wakes_ns) is not None]
        return min(times, default=None)

    @property
    def _first(self) -> int:
        """Which fault is the first whose doing can still be seen.

        Nothing passes one that is over, but those behind it may act at a time.
        """
        over = (at for at, fault in enumerate(self._faults, 1) if fault.is_over)
        return max(over, default=0)

    def feed(self, at_ns: int, step: Fed) -> list[TimedStep]:
        """Take the next step, and return what is done in its place, and when."""
        return list(self._feed(at_ns, step))

    def _feed(self, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        first = self._first
        return self._through(first, at_ns, Tick() if first else step)

    def _through(self, at: int, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        if at == len(self._faults):
            if not isinstance(step, Tick):
                yield at_ns, step
            return
        for out_ns, out in self._faults[at].feed(at_ns, step):
            yield from self._through(at + 1, out_ns, out)
            if self._first > at + 1:
                return  # nobody would see what it does next
        if isinstance(step, Tick):
            # Time passes for all of them, also where one holds something back.
            yield from self._through(at + 1, at_ns, step)

    def apply(self, timeline: Timeline) -> Iterator[TimedStep]:
        """Give a whole timeline as it is with the faults.

        It is made step by step as it is asked for, and so is what there is to report.
        """
        latest: Step | None = None
        for at_ns, latest in self._through_time(timeline):
            yield at_ns, latest
        # One that swallowed the end leaves the client waiting; others may end that.
        while (wakes_ns := self.wakes_ns) is not None and not _is_end(latest):
            for at_ns, latest in self._feed(wakes_ns, Tick()):
                yield at_ns, latest

    def _through_time(self, timeline: Timeline) -> Iterator[TimedStep]:
        for at_ns, step in timeline:
            while (wakes_ns := self.wakes_ns) is not None and wakes_ns < at_ns:
                yield from self._feed(wakes_ns, Tick())
            yield from self._feed(at_ns, step)

    @property
    def report(self) -> list[str]:
        """What each of them did, in words."""
        return self.told(None)

    def told(self, left_ns: int | None) -> list[str]:
        """Return what each of them did, in words, for a client that left.

        Args:
            left_ns: when it did; None if it did not.
        """
        return [
            f"{fault.spec}: {self._tell(at, fault, left_ns)}"
            for at, fault in enumerate(self._faults)
        ]

    def _tell(self, at: int, fault: Fault, left_ns: int | None) -> str:
        # One that saw no end, but one behind it did, was not seen from then on.
        ends = [] if fault.is_over else self._faults[at + 1 :]
        end = next((other for other in ends if other.is_over), None)
        if end is not None and (not fault.done or fault.done_ns > end.done_ns):
            return f"not done: {end.spec} came before it"
        if fault.done and left_ns is not None and left_ns < fault.done_ns:
            due = f"{fault.done_ns / 1e6:,.1f} ms"
            return f"not done: the client left before it was due, at {due}"
        if fault.done:
            return fault.done
        if left_ns is not None:
            return f"not done: the client left; by then there were {fault.so_far}"
        return f"not done: {fault.not_done}"


def _is_end(step: Step | None) -> bool:
    return step is not None and not isinstance(step, (Head, Data))
