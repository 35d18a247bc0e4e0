"""One fault: a machine that is fed steps with their times, and gives such steps.

This is what all kinds share: where in a response the place is, that nothing passes an
end, and that times never run backwards.  A kind says what happens at the place (`act`),
or changes the head, the chunks or the end.

The steps of `feed` are made one by one as they are asked for: what a fault reports is
done when the step behind it is asked for, and not before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple, TypeAlias

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, ResponseHead, header
from sse_recorder.faults.grammar import Spec
from sse_recorder.playback import (
    Break,
    Data,
    End,
    Fail,
    Head,
    Step,
    TimedStep,
    is_plain_event_stream,
)
from sse_recorder.sse import Parser

_NS_PER_MS: Final = 1_000_000
_BODILESS: Final = frozenset({204, 304})
NO_STREAM: Final = "the body is no event stream, or a compressed one"
"""Why a fault that is of events, or sends one, is not done."""


class Tick(NamedTuple):
    """Nothing came, but time has passed: see `Disturbance.wakes_ns`."""


Fed: TypeAlias = "Step | Tick"


class Setting(NamedTuple):
    """What a fault knows of its response beside the steps."""

    rng: random.Random
    dialect: str = "generic"
    """In whose form an error is told."""
    method: str = "GET"
    """Of the request: the answer to HEAD has no body, whatever its head says."""


class Fault:
    """One fault: fed steps, it gives steps."""

    units: ClassVar[tuple[str, ...]] = ("event", "bytes", "ms")
    needs_place: ClassVar[bool] = True
    first_event: ClassVar[int] = 0
    """The first that the place may be: behind event 0 is behind the head."""
    edits: ClassVar[bool] = False
    """Whether events come in or go out: of an event stream alone, and then the body may
    be of another size than its head says."""

    def __init__(self, spec: Spec, setting: Setting) -> None:
        self.spec = spec
        self.done = ""
        """What it did, in words; empty so far."""
        self.done_ns = 0
        """When it did so first."""
        self.is_over = False
        """Whether nothing more passes it."""
        self.setting = setting
        self._why_not = ""
        self._has_acted = False  # or never will
        self._has_head = False
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
        if self._has_acted or self.is_over or place is None or place.unit != "ms":
            return None
        return place.number * _NS_PER_MS

    @property
    def so_far(self) -> str:
        """What of the response was fed."""
        return f"{self._events} events, {self._bytes} bytes"

    @property
    def not_done(self) -> str:
        """Why nothing was done."""
        place = self.spec.place
        if place is not None and place.unit == "event" and self._parser is None:
            return NO_STREAM
        return self._why_not or f"the response had {self.so_far}"

    def feed(self, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        """Take a step, and give what is done in its place."""
        for out_ns, out in self._feed(at_ns, step):
            self._floor_ns = max(self._floor_ns, out_ns)
            self.is_over = self.is_over or not isinstance(out, (Head, Data))
            yield self._floor_ns, out

    def _feed(self, at_ns: int, step: Fed) -> Iterator[TimedStep]:
        wakes_ns = self.wakes_ns
        if wakes_ns is not None and at_ns >= wakes_ns:
            yield from self._act_before(wakes_ns)
        if self.is_over or isinstance(step, Tick):
            return
        at_ns += self._shift_ns
        if isinstance(step, Head):
            yield from self.head(at_ns, Head(self._take_head(step.head)))
        elif isinstance(step, Data):
            yield from self.data(at_ns, step.data)
        else:
            yield from self.end(at_ns, step)

    def _take_head(self, head: ResponseHead) -> ResponseHead:
        self._has_head = True
        has_body = self.setting.method != "HEAD" and head.status not in _BODILESS
        if has_body and is_plain_event_stream(head.headers):
            self._parser = Parser()
            return _without_length(head) if self.edits else head
        if self.edits:
            self.give_up(NO_STREAM)
        return head

    # What a kind changes.

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        """Do it, at its place."""
        raise AssertionError(f"{self.spec} has no place to act at {at_ns}")

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        """Give what is done in place of the head."""
        yield at_ns, step
        place = self.spec.place
        is_here = place is not None and place.unit != "ms" and not place.number
        if is_here and not self._has_acted:
            yield from self._act_before(at_ns)

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        """Give what is done in place of a chunk."""
        cut = self._cut(data)
        if cut is None:
            yield at_ns, Data(data)
            return
        if data[:cut]:
            yield at_ns, Data(data[:cut])
        yield from self._act_before(at_ns, Data(data[cut:]))

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        """Give what is done in place of the end."""
        if self._cut(None) is None:
            yield at_ns, step
        else:
            yield from self._act_before(at_ns, step)

    def _act_before(self, at_ns: int, *rest: Step) -> Iterator[TimedStep]:
        """Do it, and give what is behind the place."""
        self._has_acted = True
        before_ns = self._shift_ns
        yield from self.act(at_ns)
        for step in rest:
            if not self.is_over and step != Data(b""):
                yield at_ns + self._shift_ns - before_ns, step

    # Where things are.

    def frames(self, data: bytes | None) -> list[tuple[int, bool]]:
        """Return where in a chunk frames end, and whether each was an event.

        None is the end of the body, which may show that a last one was over.
        """
        if self._parser is None:
            return []
        parser = self._parser
        return [
            # One may be known to be over only by what comes behind it.
            (max(frame.start + frame.size - self._bytes, 0), frame.type == "event")
            for frame in (parser.close() if data is None else parser.feed(data))
        ]

    def _cut(self, data: bytes | None) -> int | None:
        """Return before which byte of a chunk the place is, if it is there."""
        place, cut = self.spec.place, None
        for end, is_event in self.frames(data):
            self._events += is_event
            if place and place.unit == "event" and is_event:
                cut = end if self._events == place.number else cut
        start, self._bytes = self._bytes, self._bytes + len(data or b"")
        if place and place.unit == "bytes" and start < place.number <= self._bytes:
            cut = place.number - start
        return None if self._has_acted else cut

    def give_up(self, why: str) -> None:
        """Note why it cannot be done, wherever its place is."""
        self._has_acted = True
        self._why_not = why

    def note(self, what: str, at_ns: int) -> None:
        """Note what was done."""
        self.done_ns = self.done_ns if self.done else at_ns
        self.done = f"{what} at {at_ns / _NS_PER_MS:,.1f} ms"


def _without_length(head: ResponseHead) -> ResponseHead:
    """Return a head whose body may be of any length."""
    if header(head.headers, "content-length") is None:
        return head
    headers: Headers = tuple(
        pair
        for pair in head.headers
        if pair[0].lower() not in {"content-length", "transfer-encoding"}
    )
    headers = (*headers, ("Transfer-Encoding", "chunked"))
    return ResponseHead(head.status, head.reason, headers, head.http_version)
