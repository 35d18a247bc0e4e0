"""SIGKILL while recording: what was older than a tenth of a second is there.

A busy machine keeps the recorder's writer, which is nice, from its work for longer than
that.  A pulse that is as nice tells for how long it did.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from support import command, run_command

from sse_recorder import Store, running
from sse_recorder.capture.process import NICENESS
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.demo import AgentServer

GUARANTEE_NS = 100_000_000
LONGEST_S = 1.2
"""A chat takes a little longer: every kill is in the middle of one."""


BEAT_NS = 10_000_000
BEATING = f"""
import os, time
os.nice({NICENESS})
while True:
    print(time.monotonic_ns(), flush=True)
    time.sleep({BEAT_NS / 1e9})
"""


class Pulse(threading.Thread):
    """Notes when a process that is as nice as the writer was at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.beats: list[int] = []
        self._process = process
        self._beat = threading.Condition()
        self.start()

    def run(self) -> None:
        """Read until the process ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._beat:
                self.beats.append(int(line))
                self._beat.notify()

    def kept_ns(self, since_ns: int, until_ns: int) -> int:
        """Return for how long it was kept from work between two moments."""
        with self._beat:
            assert self._beat.wait_for(lambda: self.beats[-1:] > [until_ns], 30)
        return sum(
            later - earlier - BEAT_NS
            for earlier, later in pairwise(self.beats)
            if later > since_ns and earlier < until_ns
        )


@contextmanager
def beating() -> Iterator[Pulse]:
    """Have a pulse while the block lasts."""
    with subprocess.Popen(
        [sys.executable, "-c", BEATING], stdout=subprocess.PIPE, text=True
    ) as process:
        pulse = Pulse(process)
        try:
            pulse.kept_ns(0, MONOTONIC_NS())  # it beats by now
            yield pulse
        finally:
            process.kill()
            pulse.join()


class Client(threading.Thread):
    """Holds a chat, and keeps what came when."""

    def __init__(self, url: str, session: str) -> None:
        super().__init__()
        self.session = session
        self.reads: list[tuple[int, bytes]] = []
        self.connected = threading.Event()
        self._url = f"{url}/v2/sessions/{session}/chat/stream"
        self.start()

    def run(self) -> None:
        """Read until the connection breaks."""
        try:
            with httpx.stream("POST", self._url, content=b"hello") as response:
                self.connected.set()
                for data in response.iter_raw():
                    self.reads.append((MONOTONIC_NS(), data))
        except httpx.TransportError:
            self.connected.set()

    def had_before(self, at_ns: int) -> bytes:
        """Return what had come by a moment."""
        return b"".join(data for when, data in self.reads if when <= at_ns)


@pytest.mark.parametrize("kills", [7, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_recorder_loses_at_most_a_tenth_of_a_second(
    tmp_path: Path, kills: int
) -> None:
    """Many kills at random instants, into one store: nothing is corrupt after any."""
    instants = random.Random(7)  # noqa: S311 - moments, not secrets
    had: dict[str, bytes] = {}
    with running(AgentServer()) as agent, beating() as pulse:
        for number in range(kills):
            with command("record", "--upstream", agent.url, cwd=tmp_path) as recorder:
                client = Client(recorder.url, f"session-{number}")
                client.connected.wait()
                threading.Event().wait(instants.uniform(0, LONGEST_S))
                killed_ns = MONOTONIC_NS()
                recorder.process.kill()
                client.join()
                sure_ns = killed_ns - GUARANTEE_NS
                sure_ns -= pulse.kept_ns(sure_ns - GUARANTEE_NS, killed_ns)
                had[client.session] = client.had_before(sure_ns)
    assert run_command("recover", cwd=tmp_path).returncode == 0
    assert not list(tmp_path.glob("recordings/.journal/*"))
    with Store.open(tmp_path / "recordings") as store:
        recorded = {e.session_id: e for e in store.exchanges()}
        for session, needed in had.items():
            if needed:
                body = store.body(recorded[session].exchange_id)
                assert body.startswith(needed)
                assert recorded[session].outcome == "incomplete"
    assert sum(map(bool, had.values())) > kills // 2
