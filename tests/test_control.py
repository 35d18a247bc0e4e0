"""Guiding a replay from outside, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from support import PATIENCE_S

from recordings import CHUNKS, exchange
from sse_recorder.background import running
from sse_recorder.control import ControlServer
from sse_recorder.exchange import Outcome
from sse_recorder.replay import ReplayServer
from sse_recorder.store import cassette


class Both:
    """A replay and its control, on one loop."""

    def __init__(self, replay: ReplayServer) -> None:
        self.replay, self.control = replay, ControlServer(replay)

    @property
    def url(self) -> str:
        """Where it is controlled."""
        return self.control.url

    async def start(self) -> None:
        """Begin."""
        await self.replay.start()
        await self.control.start()

    async def stop(self, grace_s: float = 0.0) -> None:
        """End."""
        await self.control.stop(grace_s)
        await self.replay.stop(grace_s)


@contextmanager
def controlled(
    folder: Path, *, step: bool, **changes: object
) -> Iterator[tuple[Both, httpx.Client]]:
    """Serve a recording, and talk to its control."""
    path = folder / "a.sse.jsonl"
    path.write_text(cassette.dumps(exchange(**changes), CHUNKS))
    with ExitStack() as stack:
        both = stack.enter_context(running(Both(ReplayServer(path, step=step))))
        http = httpx.Client(base_url=both.url, trust_env=False, timeout=PATIENCE_S)
        yield both, stack.enter_context(http)


def ask(both: Both) -> httpx.Response:
    """Ask for the recording."""
    url = f"{both.replay.url}/chat?x=1"
    return httpx.post(url, json={"a": 1, "b": 2}, trust_env=False, timeout=PATIENCE_S)


def test_what_is_released_before_a_request_is_for_the_next_one(tmp_path: Path) -> None:
    """A script may let go first, and then ask."""
    with controlled(tmp_path, step=True) as (both, http):
        assert http.post("/release?events=9").json() == {"responses": 0}
        assert ask(both).content == b"".join(chunk.data for chunk in CHUNKS)


def test_a_release_is_told_of_those_that_take_it(tmp_path: Path) -> None:
    """A response that is held open until its client leaves is not one of them."""
    left = Outcome.CLIENT_ABORT
    with controlled(tmp_path, step=True, outcome=left) as (both, http):
        url, body = f"{both.replay.url}/chat?x=1", {"a": 1, "b": 2}
        with httpx.stream("POST", url, json=body, trust_env=False) as answer:
            chunks = answer.iter_raw()
            assert http.post("/release?events=9").json() == {"responses": 1}
            assert next(chunks) == CHUNKS[0].data
            assert http.post("/release?events=9").json() == {"responses": 0}


def test_a_reset_begins_again(tmp_path: Path) -> None:
    """What was served is waiting again; the report still counts it."""
    with controlled(tmp_path, step=False) as (both, http):
        assert http.get("/report").json()["unused"] == [exchange().exchange_id]
        ask(both)
        assert http.get("/report").json()["unused"] == []
        assert http.post("/reset").json() == {}
        report = http.get("/report").json()
        assert (report["unused"], report["served"]) == ([exchange().exchange_id], 1)


@pytest.mark.parametrize(
    ("step", "asked", "why"),
    [
        (False, "release?events=1", "start the replay with --step"),
        (True, "release?events=0", "give 1 or more"),
        (True, "release?events=all", "give 1 or more"),
        (True, "release?events=1&events=2", "give 1 or more"),
        (True, f"release?events={'9' * 5_000}", "give 1 or more"),
        (True, "release?event=3", "'event' means nothing here: give events=N"),
        (True, "reset?scope=a", "'scope' means nothing here: leave it away"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, asked: str, why: str, *, step: bool
) -> None:
    """A mistake is answered 400, with what to do."""
    with controlled(tmp_path, step=step) as (both, http):
        answer = http.post(f"/{asked}")
        assert both.replay.released() == (0 if step else None)
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]


def test_a_report_needs_nothing_else(tmp_path: Path) -> None:
    """It is of the whole replay."""
    with controlled(tmp_path, step=False) as (_, http):
        assert http.get("/report?scope=a").status_code == 400
