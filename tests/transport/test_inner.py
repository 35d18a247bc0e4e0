"""The library's own transports: one for each library, colour and loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pytest
import trio
from transport.clients import Upstream

from sse_recorder.transport.inner import Inner


def request(library: Any) -> Any:
    """Return a request of a library."""
    return library.Request("GET", "http://a/")


def test_each_library_has_one(upstream: Upstream) -> None:
    """It is made when it is asked for, with the options, and once by many threads."""
    inner = Inner(trust_env=False)
    with ThreadPoolExecutor(20) as pool:
        for library in (httpx, httpx2):
            made = set(
                pool.map(lambda _, of=library: inner.plain(request(of)), range(60))
            )
            (transport,) = made
            assert type(transport) is library.HTTPTransport
    assert len(inner._made) == 2
    url = f"{upstream.url}/plain"
    assert httpx.Client(transport=inner.plain(request(httpx))).get(url).text == "plain"
    inner.close()
    assert inner._made == {}


def test_each_loop_has_one_and_those_of_closed_loops_are_let_go() -> None:
    """A connection cannot be used on another loop, or closed without its own."""
    inner = Inner()

    async def ask() -> Any:
        assert inner.awaited(request(httpx)) is inner.awaited(request(httpx))
        return inner.awaited(request(httpx))

    one, two = asyncio.run(ask()), asyncio.run(ask())
    assert one is not two
    assert [*inner._made.values()] == [two]
    three = trio.run(ask)
    assert type(three) is httpx.AsyncHTTPTransport
    assert [*inner._made.values()] == [three]


def test_closing_leaves_those_of_other_loops_alone() -> None:
    """And those without a loop; whoever wants all of them closed says so."""
    inner = Inner()
    inner.plain(request(httpx))
    with asyncio.Runner() as runner:

        async def ask() -> None:
            inner.awaited(request(httpx))

        async def close() -> None:
            await inner.aclose()

        runner.run(ask())
        asyncio.run(close())
        assert len(inner._made) == 2
        runner.run(close())
        assert [key.loop for key in inner._made] == [None]


@pytest.mark.parametrize("is_open", [True, False])
def test_all_of_them_can_be_closed(upstream: Upstream, *, is_open: bool) -> None:
    """Also the connections of a client that was forgotten on a loop that is idle."""
    inner = Inner()
    runner = asyncio.Runner()

    async def ask() -> None:
        client = httpx.AsyncClient(transport=inner.awaited(request(httpx)))
        assert (await client.get(f"{upstream.url}/kept")).text == "kept"
        if not is_open:
            await client.aclose()

    runner.run(ask())
    if not is_open:
        runner.close()
    inner.plain(request(httpx))
    inner.close_all()
    assert inner._made == {}
    runner.close()
