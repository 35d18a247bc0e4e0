"""The servers of tests: what they say of misses, and what they keep to themselves."""

from __future__ import annotations

import httpx
import pytest

from sse_recorder.background import running
from sse_recorder.clock import SYSTEM
from sse_recorder.testing.servers import Nobody, Together


def test_nobody_misses_everything() -> None:
    """Whatever comes is counted, and answered with what to type."""
    with (
        running(Nobody("pytest x", SYSTEM)) as nobody,
        httpx.Client(base_url=nobody.url, trust_env=False) as client,
    ):
        for content in (b"", b"x" * 1_000_000):
            answer = client.post("/chat?a=b", content=content)
            assert answer.status_code == 404
            error = answer.json()["error"]
            assert (error["type"], error["nearest"]) == ("no_recording_matches", None)
            assert error["message"] == (
                "No recording matches POST /chat: there are no recordings; send a"
                " request that was recorded, or record this one with `pytest x`."
            )
    assert [(miss.method, miss.path) for miss in nobody.misses] == [
        ("POST", "/chat")
    ] * 2


class Service:
    """Notes what is done to it."""

    def __init__(self, name: str, done: list[str], *, fails: bool = False) -> None:
        self.url = f"http://{name}"
        self._name = name
        self._done = done
        self._fails = fails

    async def start(self) -> None:
        """Note it, and fail if it is to."""
        self._done.append(f"start {self._name}")
        if self._fails:
            raise LookupError

    async def stop(self, grace_s: float = 0.0) -> None:
        """Note it."""
        self._done.append(f"stop {self._name} {grace_s:g}")


@pytest.mark.parametrize("fails", [True, False])
def test_services_are_stopped_in_reverse_if_they_were_started(*, fails: bool) -> None:
    """Also the one that could not start; and the URL is that of the last."""
    done: list[str] = []
    together = Together([Service("a", done, fails=fails), Service("b", done)])
    assert together.url == "http://b"
    if fails:
        with pytest.raises(LookupError), running(together):
            pass
        assert done == ["start a", "stop a 0"]
    else:
        with running(together):
            pass
        assert done == ["start a", "start b", "stop b 0", "stop a 0"]
