"""One precise timer for any number of deadlines.

Event loops round: asyncio's clock has a microsecond but its selectors wait in
milliseconds, uvloop's clock has a millisecond.  On Linux a `timerfd` wakes the loop at
an absolute time of the monotonic clock instead, as a file descriptor that becomes
readable.  All deadlines lie in one heap, and the descriptor is set to the first of
them.

Where there is no timerfd, the loop's own `call_later` takes its place.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Final, Protocol

from sse_recorder.clock import SYSTEM, Clock

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = 0o4000
_TFD_CLOEXEC: Final = 0o2000000
_TFD_TIMER_ABSTIME: Final = 1
_NS_PER_S: Final = 1_000_000_000
# The latest time that every alarm can be set for: that of decades, and then set anew.
_LATEST_NS: Final = 1 << 61
# struct itimerspec: interval and value, each seconds and nanoseconds.
_ITIMERSPEC: Final = struct.Struct("@llll")


class _Alarm(Protocol):
    """What wakes the loop once, at a time."""

    def set(self, due_ns: int) -> None:
        """Wake at a time of the monotonic clock; the earlier setting is forgotten."""

    def close(self) -> None:
        """Never wake again."""


class Call:
    """A callback that waits for its time."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def cancel(self) -> None:
        """Do nothing when it is time, and keep nothing alive until then."""
        self.callback = _nothing


def _nothing() -> None:
    """Do what was cancelled."""


class Timer:
    """Calls back at absolute times of the monotonic clock, on the running loop."""

    def __init__(self, clock: Clock = SYSTEM, *, precise: bool = True) -> None:
        """Start one on the running loop.

        Args:
            clock: what due times are measured on.
            precise: use a timerfd where there is one.
        """
        self._clock = clock
        self._heap: list[tuple[int, int, Call]] = []
        self._count = 0
        self._set_for: int | None = None
        self._is_closed = False
        loop = asyncio.get_running_loop()
        self._alarm: _Alarm = (
            _TimerFd(loop, self._fire)
            if precise and sys.platform == "linux"
            else _LoopAlarm(loop, clock, self._fire)
        )

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> Call:
        """Call back at a time; at once if it has passed, but never within this call."""
        call = Call(callback)
        if not self._is_closed:
            self._count += 1  # equal times are kept in their order
            heapq.heappush(self._heap, (due_ns, self._count, call))
            self._arm()
        return call

    def close(self) -> None:
        """Forget everything that is due, now and later."""
        self._is_closed = True
        self._heap.clear()
        self._alarm.close()

    def _fire(self) -> None:
        heap, now_ns = self._heap, self._clock.monotonic_ns()
        self._set_for = 0  # no callback needs to set the alarm: it is set in the end
        try:
            # What becomes due meanwhile waits for the next round, so that the loop can
            # do something else, too, when more is due than can be done.
            while heap and heap[0][0] <= now_ns:
                heapq.heappop(heap)[2].callback()
        finally:
            self._set_for = None
            self._arm()  # one stream's callback that raises must not silence the others

    def _arm(self) -> None:
        if self._heap:
            due_ns = self._heap[0][0]
            if self._set_for is None or due_ns < self._set_for:
                self._set_for = due_ns
                self._alarm.set(min(due_ns, _LATEST_NS))


class _TimerFd:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._fire = fire
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(
            _CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC
        )
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, _call_weakly, weakref.WeakMethod(self._readable))
        # Its user may forget to close it, and so may who forgets the loop.
        self._let_go = weakref.finalize(self, _let_go, loop, self._fd)
        self._let_go.atexit = False

    def set(self, due_ns: int) -> None:
        # A value of zero would disarm it; the past fires at once.
        seconds, rest = divmod(max(due_ns, 1), _NS_PER_S)
        value = _ITIMERSPEC.pack(0, 0, seconds, rest)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, value, None)

    def close(self) -> None:
        if self._let_go.detach():
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set anew after it had fired
        self._fire()


def _call_weakly(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call a method of what may be gone: the loop is not to keep it."""
    if (bound := method()) is not None:
        bound()


def _let_go(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """Close a timerfd that was forgotten, from whichever thread collects garbage."""

    def close() -> None:
        loop.remove_reader(fd)
        os.close(fd)

    try:
        loop.call_soon_threadsafe(close)
    except RuntimeError:  # the loop is closed
        os.close(fd)


class _LoopAlarm:
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        fire: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None

    def set(self, due_ns: int) -> None:
        self.close()
        delay_ns = max(0, due_ns - self._clock.monotonic_ns())
        self._handle = self._loop.call_later(delay_ns / _NS_PER_S, self._fire)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
