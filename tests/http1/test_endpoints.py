"""Small answers at a few paths, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import httpx
import pytest
from support import PATIENCE_S

from sse_recorder.background import running
from sse_recorder.errors import UsageError
from sse_recorder.exchange import RequestHead
from sse_recorder.http1.answers import send_json
from sse_recorder.http1.endpoints import Endpoint, EndpointServer
from sse_recorder.http1.response import ResponseStream


async def greet(head: RequestHead, stream: ResponseStream) -> None:
    """Answer with the query."""
    send_json(stream, HTTPStatus.OK, head.query)


async def refuse(head: RequestHead, _: ResponseStream) -> None:
    """Say that the query is wrong."""
    raise UsageError(f"{head.query!r} is wrong: give another one")


async def fail(_: RequestHead, __: ResponseStream) -> None:
    """Fail."""
    raise ZeroDivisionError


@contextmanager
def asking() -> Iterator[httpx.Client]:
    """Serve three endpoints, and talk to them."""
    endpoints = {
        "/greet": Endpoint(("GET", "HEAD"), greet),
        "/refuse": Endpoint(("POST",), refuse),
        "/fail": Endpoint(("GET",), fail),
    }
    with (
        running(EndpointServer(endpoints)) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=PATIENCE_S) as http,
    ):
        yield http


def test_a_path_is_answered_by_its_endpoint() -> None:
    """It is given the head; a HEAD has no body."""
    with asking() as http:
        assert http.get("/greet?a=1").json() == "a=1"
        assert http.head("/greet").content == b""


def test_other_requests_are_told_what_there_is() -> None:
    """A mistyped path and a method that is another one's are errors."""
    with asking() as http:
        lost, posted = http.get("/great"), http.post("/greet", content=b"x" * 99)
        assert http.get("/greet").status_code == 200
    assert lost.status_code == 404
    assert "/greet and /refuse and /fail" in lost.json()["error"]["message"]
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")


def test_what_is_wrong_with_a_request_is_told() -> None:
    """An error of usage is an answer, in words."""
    with asking() as http:
        answer = http.post("/refuse?x")
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "type": "bad_request",
        "message": "'x' is wrong: give another one.",
    }


def test_a_failure_breaks_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A probe fails then, as it should, and the log says why."""
    with asking() as http, pytest.raises(httpx.TransportError):
        http.get("/fail")
    assert "please report this" in caplog.text
