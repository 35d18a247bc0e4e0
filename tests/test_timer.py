"""The timer: what is called when, on both loops and with both kinds of alarm."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from http1.wire import Run

from sse_recorder import timer as timer_module
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.timer import Timer

MS = 1_000_000
HOUR = 3_600_000 * MS


class Calls:
    """The callbacks that came, each with its time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.times: list[int] = []
        self._changed = asyncio.Event()

    def __call__(self, name: str) -> Callable[[], None]:
        """Return a callback with a name."""

        def call() -> None:
            self.names.append(name)
            self.times.append(MONOTONIC_NS())
            self._changed.set()

        return call

    async def until(self, count: int) -> None:
        """Wait until so many have come."""
        while len(self.names) < count:
            self._changed.clear()
            await self._changed.wait()


@contextmanager
def open_timer(*, precise: bool) -> Iterator[Timer]:
    """Make a timer on the running loop, and close it."""
    timer = Timer(precise=precise)
    try:
        yield timer
    finally:
        timer.close()


@pytest.fixture(params=[True, False], ids=["timerfd", "call_later"])
def precise(request: pytest.FixtureRequest) -> bool:
    """Return which kind of alarm the timer has."""
    return bool(request.param)


def test_what_is_cancelled_is_not_called_and_keeps_nothing(
    run: Run, *, precise: bool
) -> None:
    """Its time may be an hour away: until then it holds nothing of who set it."""

    async def main() -> None:
        calls, now_ns = Calls(), MONOTONIC_NS()
        with open_timer(precise=precise) as timer:
            early = timer.call_at(now_ns + 5 * MS, calls("never"))
            callback = calls("nor this")
            late = timer.call_at(now_ns + HOUR, callback)
            kept = weakref.ref(callback)
            timer.call_at(now_ns + 10 * MS, calls("this"))
            early.cancel()
            late.cancel()
            del callback
            assert kept() is None
            await calls.until(1)
            assert calls.names == ["this"]

    run(main())


def test_deadlines_come_in_order_and_equal_ones_as_they_were_set(
    run: Run, *, precise: bool
) -> None:
    """The earliest is called first; of equal ones, the one that was set first."""

    async def main() -> None:
        calls, now_ns = Calls(), MONOTONIC_NS()
        with open_timer(precise=precise) as timer:
            for name, after_ms in (("d", 20), ("b", 10), ("c", 10), ("a", 5)):
                timer.call_at(now_ns + after_ms * MS, calls(name))
            await calls.until(4)
        assert calls.names == ["a", "b", "c", "d"]

    run(main())


def test_nothing_fires_early(run: Run, *, precise: bool) -> None:
    """A callback sees its due time or a later one, however the loop rounds."""

    async def main() -> None:
        calls, now_ns = Calls(), MONOTONIC_NS()
        dues = [now_ns + n * 700_001 for n in range(1, 101)]
        with open_timer(precise=precise) as timer:
            for due_ns in dues:
                timer.call_at(due_ns, calls(""))
            await calls.until(100)
        assert all(at >= due for at, due in zip(calls.times, dues, strict=True))

    run(main())


@pytest.mark.parametrize("ago_ns", [0, HOUR, 1 << 62], ids=["now", "hour", "before"])
def test_a_deadline_in_the_past_fires_at_once_but_not_within_the_call(
    run: Run, ago_ns: int, *, precise: bool
) -> None:
    """Who sets a deadline is never called back before the call returns."""

    async def main() -> None:
        calls = Calls()
        with open_timer(precise=precise) as timer:
            timer.call_at(MONOTONIC_NS() - ago_ns, calls("past"))
            assert calls.names == []
            await calls.until(1)

    run(main())


def test_a_deadline_can_be_set_within_a_callback(run: Run, *, precise: bool) -> None:
    """A stream goes from step to step that way, whether the next is due or not."""

    async def main() -> None:
        calls = Calls()
        with open_timer(precise=precise) as timer:

            def step() -> None:
                calls("step")()
                if len(calls.names) < 5:
                    late = 5 * MS if len(calls.names) % 2 else -5 * MS
                    timer.call_at(MONOTONIC_NS() + late, step)

            timer.call_at(MONOTONIC_NS(), step)
            await calls.until(5)
        assert calls.names == ["step"] * 5

    run(main())


def test_an_earlier_deadline_set_later_does_not_wait_for_the_first(
    run: Run, *, precise: bool
) -> None:
    """The alarm is moved forward; the later deadline keeps its time."""

    async def main() -> None:
        calls = Calls()
        with open_timer(precise=precise) as timer:
            timer.call_at(MONOTONIC_NS() + HOUR, calls("in an hour"))
            timer.call_at(MONOTONIC_NS() + 50 * MS, calls("later"))
            timer.call_at(MONOTONIC_NS() + 5 * MS, calls("earlier"))
            await calls.until(2)
        assert calls.names == ["earlier", "later"]

    run(main())


def test_a_callback_that_raises_does_not_silence_the_others(*, precise: bool) -> None:
    """The loop hears of the exception, and what is due after it is still called."""
    problems: list[BaseException] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, c: problems.append(c["exception"]))
        calls, now_ns = Calls(), MONOTONIC_NS()

        def fail() -> None:
            raise ValueError("of this stream alone")

        with open_timer(precise=precise) as timer:
            timer.call_at(now_ns, fail)
            timer.call_at(now_ns, calls("same time"))
            timer.call_at(now_ns + 5 * MS, calls("later"))
            async with asyncio.timeout(10):
                await calls.until(2)
        assert calls.names == ["same time", "later"]

    asyncio.run(main())
    assert [str(problem) for problem in problems] == ["of this stream alone"]


@pytest.mark.parametrize("due_ns", [1 << 61, 1 << 70, 10**30])
def test_a_deadline_may_be_later_than_anything(
    run: Run, due_ns: int, *, precise: bool
) -> None:
    """No alarm takes such a time, and the nearer ones must not suffer from it."""

    async def main() -> None:
        with open_timer(precise=precise) as timer:
            calls = Calls()
            timer.call_at(due_ns, calls("never"))
            timer.call_at(MONOTONIC_NS() + 10 * MS, calls("soon"))
            await calls.until(1)
            await asyncio.sleep(0.02)  # the alarm is set for the other one again
            assert calls.names == ["soon"]

    run(main())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux alone tells")
@pytest.mark.parametrize("is_open", [True, False])
def test_a_timer_that_is_forgotten_keeps_no_descriptor(
    run: Run, *, is_open: bool
) -> None:
    """Neither on a loop that goes on, nor after one that was closed with it."""

    def timers() -> int:
        # One is that of the folder itself, and gone by the time it is looked at.
        links = [p for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]
        return sum("timerfd" in str(link.readlink()) for link in links)

    async def main() -> None:
        kept.append(Timer())
        calls = Calls()
        kept[-1].call_at(MONOTONIC_NS(), calls("first"))
        await calls.until(1)
        if is_open:
            kept.clear()
            gc.collect()
            await asyncio.sleep(0.01)  # it is the loop that closes it
            assert timers() == before

    kept: list[Timer] = []
    gc.collect()
    before = timers()
    run(main())
    kept.clear()
    gc.collect()
    assert timers() == before


def test_a_closed_timer_calls_nobody(run: Run, *, precise: bool) -> None:
    """Closing forgets what was set, also within a callback, and can be done twice."""

    async def main() -> None:
        calls, now_ns = Calls(), MONOTONIC_NS()
        closed, other = Timer(precise=precise), Timer(precise=precise)
        closed.call_at(now_ns, calls("first"))
        closed.call_at(now_ns, closed.close)
        closed.call_at(now_ns, calls("after the close"))
        other.call_at(now_ns + 10 * MS, calls("of another timer"))
        await calls.until(2)
        closed.close()
        closed.call_at(now_ns, calls("set after the close"))
        other.call_at(now_ns, calls("of another timer"))
        await calls.until(3)
        other.close()
        assert calls.names == ["first", "of another timer", "of another timer"]

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
def test_a_precise_timer_is_a_timerfd_and_closes_it(run: Run) -> None:
    """The descriptor lasts as long as the timer."""

    async def main() -> None:
        timer = Timer()
        alarm = timer._alarm
        assert isinstance(alarm, timer_module._TimerFd)
        assert alarm._fd > 2
        timer.close()
        assert alarm._fd == -1

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
def test_a_deadline_moved_after_it_fired_is_not_lost(run: Run) -> None:
    """A wake-up that finds nothing to read leaves the new setting as it is."""

    async def main() -> None:
        calls = Calls()
        with open_timer(precise=True) as timer:
            alarm = timer._alarm
            assert isinstance(alarm, timer_module._TimerFd)
            timer.call_at(MONOTONIC_NS() + 20 * MS, calls("kept"))
            alarm._readable()  # as if it had been set anew after it had fired
            assert calls.names == []
            await calls.until(1)

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
def test_no_timerfd_is_an_error_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor to spare it says which call failed."""
    monkeypatch.setattr(timer_module, "_CLOCK_MONOTONIC", -1)

    async def main() -> None:
        with pytest.raises(OSError, match="timerfd_create"):
            Timer()

    asyncio.run(main())
