"""Fixtures that more than one test file uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop
from http1.wire import Run

pytest_plugins = ("pytester",)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that nobody waits for it in the end."""
    items.sort(key=lambda item: "/test_readme.py" not in item.nodeid)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine on each loop, and fails if the loop saw an error."""

    def run_one(main: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            problems: list[dict[str, object]] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: problems.append(context))
            async with asyncio.timeout(30):
                await main
            assert problems == []

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(guarded())

    return run_one
