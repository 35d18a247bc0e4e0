"""Running a recorder or a replay server beside synchronous code.

Both live on an event loop.  A test or a script that has none gives them one: a thread
with a loop of its own, started and stopped by a `with` block.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
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

    Raises:
        Whatever its `start` raises.
    """
    loop = new_event_loop()
    thread = threading.Thread(
        target=loop.run_forever, name="sse-recorder-loop", daemon=True
    )
    thread.start()
    try:
        try:
            asyncio.run_coroutine_threadsafe(service.start(), loop).result()
            yield service
        finally:
            asyncio.run_coroutine_threadsafe(service.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
