"""The kinds of faults, and what each of them makes of its value and of a response."""

from __future__ import annotations

import codecs
import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import ClassVar, Final

from sse_recorder import dialects
from sse_recorder.clock import duration_ns
from sse_recorder.errors import UsageError
from sse_recorder.exchange import ResponseHead, phrase_of
from sse_recorder.faults.fault import NO_STREAM, Fault, Setting
from sse_recorder.faults.grammar import Spec, number
from sse_recorder.playback import Break, Data, End, Fail, Head, TimedStep

# How likely a cut is behind each byte.
_RANDOM: Final = 1 / 8
_MULTIBYTE: Final = re.compile(rb"[\xc2-\xf4](?=[\x80-\xbf])")
_LINE_ENDS: Final = re.compile(rb"[\r\n](?=[\r\n])")
# Any status of an error, for not all that are in use have a name (529, 520 to 526); a
# header is text that can be sent as it is.
_STATUS: Final = re.compile(r"([45][0-9]{2})(?:,retry-after=([!-~][ -~]*))?")
_MERGE: Final = re.compile(r"merge([0-9]{0,3})")
_BLANK_LINES: Final = (b"\n\n", b"\r\r", b"\r\n\r\n")
_EVENT_STREAM: Final = (
    ("Content-Type", "text/event-stream"),
    ("Transfer-Encoding", "chunked"),
)


class _Ending(Fault):
    """`cut` and `reset`."""

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        self.note(self.spec.kind, at_ns)
        # A cut is to be in order also where that makes what was sent look whole.
        yield at_ns, Break(reset=True if self.spec.kind == "reset" else None)


class _Stall(Fault):
    """`stall`."""

    _for_ns: int | None = None

    def read_value(self, value: str) -> None:
        if value:
            self._for_ns = duration_ns(value)

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        if self._for_ns is None:
            self.is_over = True
        else:
            self._shift_ns += self._for_ns
        self.note("stalled", at_ns)
        return iter(())


class _Error(Fault):
    """`error`: an event of its own, also where the place is within another."""

    edits: ClassVar[bool] = True
    _message = "injected by sse-recorder"
    _tail = b""  # of what was sent

    def read_value(self, value: str) -> None:
        self._message = value or self._message

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        for out_ns, step in super().data(at_ns, data):
            if isinstance(step, Data):
                self._tail = (self._tail + step.data)[-4:]
            yield out_ns, step

    def act(self, at_ns: int) -> Iterator[TimedStep]:
        if not self._has_head and self.setting.method == "HEAD":
            self.give_up(NO_STREAM)
            return
        if not self._has_head:
            yield at_ns, Head(ResponseHead(HTTPStatus.OK, "OK", _EVENT_STREAM))
        self.note("an error event, and the end,", at_ns)
        # The first of them ends an open line, if only by making a CR a CRLF.
        is_open = self._tail and not self._tail.endswith(_BLANK_LINES)
        event = dialects.load(self.setting.dialect).error_event(self._message)
        yield at_ns, Data(b"\n\n" * bool(is_open) + event.encode())
        yield at_ns, End(())


class _OfAnEvent(Fault, ABC):
    """What is done to event N: it is held back until it is known to be one."""

    units: ClassVar[tuple[str, ...]] = ("event",)
    first_event: ClassVar[int] = 1
    did: ClassVar[str]
    """What is told of it."""
    _by_ns = 0  # the event leaves so much later

    def __init__(self, spec: Spec, setting: Setting) -> None:
        super().__init__(spec, setting)
        self._held: list[tuple[int, bytes]] = []

    @abstractmethod
    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Give what is sent in place of the chunks of the event."""

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        return self._pass(at_ns, data, self.frames(data))

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        yield from self._pass(at_ns, b"", self.frames(None))
        yield from self._let_go()
        yield at_ns, step

    def _pass(
        self, at_ns: int, data: bytes, frames: list[tuple[int, bool]]
    ) -> Iterator[TimedStep]:
        assert self.spec.place is not None
        number = self.spec.place.number
        sent = start = 0  # of what is sent, and of the frame
        for end, is_event in frames:
            self._events += is_event
            if is_event and self._events == number:
                if data[sent:start]:
                    yield at_ns, Data(data[sent:start])
                held, self._held = [*self._held, (at_ns, data[start:end])], []
                self.note(f"{self.did} event {number}", at_ns + self._by_ns)
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

    def _let_go(self) -> Iterator[TimedStep]:
        held, self._held = self._held, []
        return ((at_ns, Data(data)) for at_ns, data in held)


class _Drop(_OfAnEvent):
    """`drop`."""

    edits: ClassVar[bool] = True
    did: ClassVar[str] = "dropped"

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        del held
        return iter(())


class _Duplicate(_OfAnEvent):
    """`duplicate`."""

    edits: ClassVar[bool] = True
    did: ClassVar[str] = "duplicated"

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        yield from held
        event = b"".join(data for _, data in held)
        # The mark of a stream is one at its beginning alone.
        is_first = self._events == 1
        yield held[-1][0], event.removeprefix(codecs.BOM_UTF8 * is_first)


class _Delay(_OfAnEvent):
    """`delay`."""

    did: ClassVar[str] = "delayed"

    def read_value(self, value: str) -> None:
        self._by_ns = duration_ns(value)

    def change(self, held: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        return ((at_ns + self._by_ns, data) for at_ns, data in held)


class _Corrupt(Fault):
    """`corrupt`."""

    units: ClassVar[tuple[str, ...]] = ("event", "bytes")
    first_event: ClassVar[int] = 1

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        yield at_ns, step  # behind no byte is before the first one

    def data(self, at_ns: int, data: bytes) -> Iterator[TimedStep]:
        at = None if self.done else self._byte(data)
        if at is not None:
            self.note(f"corrupted byte {self._bytes + at}", at_ns)
            flipped = data[at] ^ (1 << self.setting.rng.randrange(8))
            data = data[:at] + bytes([flipped]) + data[at + 1 :]
        self._bytes += len(data)
        yield at_ns, Data(data)

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        if not self.done:
            self._byte(None)
        yield at_ns, step

    def _byte(self, data: bytes | None) -> int | None:
        """Return which byte of a chunk it is, if it is there."""
        place, start, found = self.spec.place, 0, None
        assert place is not None
        for end, is_event in self.frames(data):
            self._events += is_event
            if place.unit == "event" and is_event and self._events == place.number:
                if start < end:
                    found = self.setting.rng.randrange(start, end)
                else:
                    self.give_up("only what came behind it showed that it was over")
            start = end
        if place.unit == "bytes" and 0 <= place.number - self._bytes < len(data or b""):
            found = place.number - self._bytes
        return found


class _OfTheResponse(Fault):
    """What is done to a response as a whole, at no place."""

    units: ClassVar[tuple[str, ...]] = ()
    needs_place = False


class _Status(_OfTheResponse):
    """`status`."""

    _status = 503
    _retry_after = ""

    def read_value(self, value: str) -> None:
        match = _STATUS.fullmatch(value)
        if match is None:
            raise UsageError(
                f"{value!r} is not the status of an error: give one such as 503 or"
                " 429,retry-after=2"
            )
        self._status, self._retry_after = int(match[1]), match[2] or ""

    def head(self, at_ns: int, step: Head) -> Iterator[TimedStep]:
        del step
        return self._answer(at_ns)

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        del step
        return self._answer(at_ns)  # there was no head

    def _answer(self, at_ns: int) -> Iterator[TimedStep]:
        self.note(f"answered {self._status}", at_ns)
        phrase = phrase_of(self._status)
        message = f"injected by sse-recorder: {phrase or self._status}"
        value = {"error": {"type": "injected_fault", "message": message}}
        body = json.dumps(value).encode()
        headers = [("Content-Type", "application/json")]
        if self._retry_after:
            headers.append(("Retry-After", self._retry_after))
        headers.append(("Content-Length", str(len(body))))
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
        self.note(f"{self._by_ns / 1e6:g} ms late", at_ns + self._by_ns)
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

    def __init__(self, spec: Spec, setting: Setting) -> None:
        self._waiting: list[bytes] = []
        super().__init__(spec, setting)

    def read_value(self, value: str) -> None:
        self._size = number(value) or 0
        if match := _MERGE.fullmatch(value):
            self._merge = int(match[1] or "2")
        if not self._size and self._merge < 2 and value not in self._MODES:  # noqa: PLR2004 - one chunk is merged with none
            modes = ", ".join(["a number of bytes", "merge", "merge3", *self._MODES])
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
            cuts = self._MODES[self.spec.value](data, self.setting.rng)
        start = 0
        for cut in (*cuts, len(data)):
            yield at_ns, self._chunk(at_ns, data[start:cut])
            start = cut

    def end(self, at_ns: int, step: End | Break | Fail) -> Iterator[TimedStep]:
        if self._waiting:
            yield from self._merged(at_ns)
        yield at_ns, step

    def _merged(self, at_ns: int) -> Iterator[TimedStep]:
        data, self._waiting = b"".join(self._waiting), []
        yield at_ns, self._chunk(at_ns, data)

    def _chunk(self, at_ns: int, data: bytes) -> Data:
        self._count += 1
        self.note(f"{self._count} chunks, the last", at_ns)
        return Data(data)


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
