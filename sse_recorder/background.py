"""Running a recorder or a replay server beside synchronous code.

Both live on an event loop.  A test or a script that has none gives them one: a thread
with a loop of its own, started and stopped by a `with` block.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

try:
    import uvloop
except ImportError:  # a platform that it is not made for
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    new_event_loop = uvloop.new_event_loop


class Service(Protocol):
    """What can be started and stopped on a loop."""

    @property
    def url(self) -> str:
        """Where it listens."""

    async def start(self) -> None:
        """Begin to listen."""

    async def stop(self, grace_s: float = ...) -> None:
        """Let what is under way end, for a while, and close everything.

        It is called after a `start` that failed, too.
        """


S = TypeVar("S", bound=Service)
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fastest loop that there is, and return its result."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


@contextmanager
def running(service: S) -> Iterator[S]:
    """Run a service in a thread while the block lasts.

    It is started and stopped in that thread, by which a Ctrl-C, that comes to the main
    thread at any moment, finds it whole.

    Raises:
        Whatever its `start` or its `stop` raises.
    """
    started, left, ended = Future[None](), Future[None](), Future[None]()

    async def live() -> None:
        try:
            await service.start()
            started.set_result(None)
            await asyncio.wrap_future(left)
        finally:
            await service.stop()

    def work() -> None:
        try:
            run(live())
        except BaseException as error:  # noqa: BLE001 - it is raised in the block's thread
            ended.set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=work, name="sse-recorder-loop", daemon=True)
    try:
        thread.start()
        wait((started, ended), return_when=FIRST_COMPLETED)
        if not started.done():
            ended.result()
        yield service
    finally:
        left.set_result(None)
        if thread.is_alive():
            _wait_patiently(ended)
            thread.join()
    ended.result()


def _wait_patiently(end: Future[None]) -> None:
    """Wait, also through one Ctrl-C: what is being closed is to be closed."""
    try:
        wait((end,))
    except KeyboardInterrupt:
        # Not for the thread: after that, an interrupted `join` takes it for ended.
        wait((end,))
        raise
