"""Services beside synchronous code, each in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sse_recorder import background
from sse_recorder.background import running
from sse_recorder.demo import AgentServer
from sse_recorder.errors import ListenError


class Fake:
    """A service that notes what is done to it, and where."""

    url = "http://127.0.0.1:1"

    def __init__(self, problem: Exception | None = None) -> None:
        self.done: list[str] = []
        self.threads: set[threading.Thread] = set()
        self._problem = problem

    async def start(self) -> None:
        """Note it, and fail if it shall."""
        await self._note("start")
        if self._problem is not None:
            raise self._problem

    async def stop(self, grace_s: float = 1.0) -> None:
        """Note it."""
        assert grace_s == 1.0
        await self._note("stop")

    async def _note(self, what: str) -> None:
        await asyncio.sleep(0)
        self.done.append(what)
        self.threads.add(threading.current_thread())


def test_a_service_runs_in_a_thread_of_its_own_while_the_block_lasts() -> None:
    """It is started before the block and stopped after it, and its thread is gone."""
    fake = Fake()
    with running(fake) as service:
        assert service is fake
        assert fake.done == ["start"]
        (thread,) = fake.threads
        assert thread.is_alive()
        assert thread is not threading.current_thread()
    assert fake.done == ["start", "stop"]
    assert fake.threads == {thread}
    assert not thread.is_alive()


def test_an_error_of_the_start_comes_out_and_what_was_made_is_closed() -> None:
    """The caller sees the service's own exception, and no thread stays behind."""
    fake = Fake(ListenError("the port is taken"))
    block = running(fake)
    with pytest.raises(ListenError, match="the port is taken"):
        block.__enter__()
    assert fake.done == ["start", "stop"]
    assert not any(thread.is_alive() for thread in fake.threads)


def test_a_service_stops_when_the_block_raises() -> None:
    """The block's exception comes out unchanged."""
    fake = Fake()
    with pytest.raises(KeyError, match="mine"), running(fake):
        raise KeyError("mine")
    assert fake.done == ["start", "stop"]
    assert not any(thread.is_alive() for thread in fake.threads)


@pytest.mark.parametrize("moment", ["start", "stop"])
def test_a_service_that_is_interrupted_comes_to_its_end_first(moment: str) -> None:
    """It is not stopped while it is half started, nor left while it is half stopped."""

    class Slow(Fake):
        async def _note(self, what: str) -> None:
            if what == moment:
                # It is waiting for us, as when somebody presses Ctrl-C.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                await asyncio.sleep(0.2)
            await super()._note(what)

    fake = Slow()
    with pytest.raises(KeyboardInterrupt), running(fake):
        pass
    assert fake.done == ["start", "stop"]
    assert not any(thread.is_alive() for thread in fake.threads)


def test_an_error_of_the_stop_comes_out() -> None:
    """Whoever ran it is to know that it did not end in order."""

    class Failing(Fake):
        async def stop(self, grace_s: float = 1.0) -> None:
            await super().stop(grace_s)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), running(Failing()):
        pass


def test_a_service_can_be_run_again() -> None:
    """Each block makes a loop of its own."""
    fake = Fake()
    for _ in range(2):
        with running(fake):
            pass
    assert fake.done == ["start", "stop"] * 2
    assert len(fake.threads) == 2


def test_services_run_beside_each_other_in_one_block_and_from_several_threads() -> None:
    """Nothing is shared between two of them."""

    def ask(_: int) -> tuple[int, int]:
        with running(AgentServer()) as one, running(AgentServer()) as two:
            assert one.url != two.url
            with httpx.Client(trust_env=False) as client:
                return tuple(client.get(s.url).status_code for s in (one, two))  # type: ignore[return-value]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(8))) == [(404, 404)] * 8


def test_two_services_cannot_have_one_port() -> None:
    """The real server's error comes out of the block, too."""
    with running(AgentServer()) as one:
        port = int(one.url.rpartition(":")[2])
        with (
            pytest.raises(ListenError, match="the port is taken"),
            running(AgentServer(port=port)),
        ):
            pytest.fail("it did not fail")


def test_run_ends_with_its_coroutine_on_the_fast_loop() -> None:
    """What the coroutine raises comes out."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        background.run(main())
    assert type(loops[0]) is type(background.new_event_loop())
