"""The transport that takes a client to a server, whatever it asks for."""

from __future__ import annotations

import gc

import httpx
import pytest
from transport.clients import Client, Upstream, Way, done

from sse_recorder.transport.server import ServerTransport

# Of clients that nobody closes, which is what is tested.
UNCLOSED = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
UNRAISABLE = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def test_whatever_is_asked_for_comes_to_the_server(
    way: Way, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the client's own host and path, whatever the scheme, and past any proxy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def main() -> None:
        transport = ServerTransport(upstream.url)
        for _ in range(2):  # a fixture's is used by one client after the other
            async with Client(way, transport) as client:
                url = "https://api.example.com/plain?a=b"
                response = await client.request("GET", url)
                assert (response.text, str(response.url)) == ("plain", url)
                headers, _ = upstream.requests[-1]
                assert ("Host", "api.example.com") in headers
            assert transport._inner._made == {}

    done(main())


def test_a_request_may_be_of_a_class_that_somebody_made(upstream: Upstream) -> None:
    """The library is that of its base."""

    class Request(httpx.Request):
        pass

    with ServerTransport(upstream.url) as transport:
        response = transport.handle_request(Request("GET", "http://a/plain"))
        assert b"".join(response.stream) == b"plain"


@UNCLOSED
@UNRAISABLE
def test_connections_that_were_left_open_can_be_closed(upstream: Upstream) -> None:
    """Of clients with and without `await`, when a test is over."""
    transport = ServerTransport(upstream.url)

    async def ask() -> None:
        client = httpx.AsyncClient(transport=transport)
        assert (await client.get("http://a/kept")).text == "kept"

    done(ask())
    httpx.Client(transport=transport).get("http://a/kept")
    transport.close_all()
    assert transport._inner._made == {}
    gc.collect()
