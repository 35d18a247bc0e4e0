"""What the commands that listen have in common."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import pytest

from sse_recorder.background import run
from sse_recorder.cli.serve import (
    Address,
    Signals,
    serve,
    spared_collections,
    stop_in_order,
)


class Noted:
    """A service that notes what is done with it."""

    def __init__(self, log: list[str], name: str, *, is_broken: bool = False) -> None:
        self.url = "http://127.0.0.1:1"
        self._log = log
        self._name = name
        self._is_broken = is_broken

    async def start(self) -> None:
        """Begin."""
        self._log.append(f"{self._name} starts")
        if self._is_broken:
            raise OSError

    async def stop(self, grace_s: float = 0.0) -> None:
        """End after the grace, as if something were open for longer."""
        self._log.append(f"{self._name} stops in {grace_s:g}")
        await asyncio.sleep(grace_s)
        self._log.append(f"{self._name} stopped")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:8787", ("0.0.0.0", 8787)),  # noqa: S104 - read, not listened on
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
        (":8787", ("127.0.0.1", 8787)),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    """Without a host it is this machine, and no other can reach it."""
    assert Address()(text) == expected
    assert Address()(expected) == expected


def test_what_stands_beside_is_there_for_as_long_as_the_service() -> None:
    """Who looks after a recorder can still ask while it ends."""
    log: list[str] = []

    async def work(signals: Signals) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await signals.get() == signal.SIGTERM
        log.append("work")
        return 7

    main, beside = Noted(log, "main"), Noted(log, "beside")
    assert run(serve(main, 0.01, work, beside=beside)) == 7
    assert log == [
        *("beside starts", "main starts", "work"),
        *("main stops in 0.01", "main stopped", "beside stops in 0", "beside stopped"),
    ]


def test_what_cannot_start_is_stopped_with_what_stands_beside_it() -> None:
    """Nothing is left behind by a port that is taken."""
    log: list[str] = []

    async def work(_: Signals) -> int:
        raise AssertionError

    main, beside = Noted(log, "main", is_broken=True), Noted(log, "beside")
    with pytest.raises(OSError):  # noqa: PT011 - it has no message
        run(serve(main, 1, work, beside=beside))
    assert log[2:] == [
        *("main stops in 0", "main stopped", "beside stops in 0", "beside stopped"),
    ]


def test_a_second_signal_ends_the_grace() -> None:
    """Who presses Ctrl-C twice does not want to wait."""
    log: list[str] = []

    async def main() -> None:
        signals: Signals = asyncio.Queue()
        signals.put_nowait(signal.SIGINT)
        await stop_in_order(Noted(log, "main"), 3600, signals)

    run(main())
    assert log == ["main stops in 3600", "main stops in 0", "main stopped"]


def test_collections_are_spared_while_a_block_lasts() -> None:
    """What is there before is not looked at again; afterwards all is as it was."""
    before = gc.get_threshold()
    with spared_collections():
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold() != before
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
