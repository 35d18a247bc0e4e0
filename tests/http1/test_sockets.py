"""Resets, and who has left, on real sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from http1.wire import Peer, Run

from sse_recorder.clock import SYSTEM
from sse_recorder.http1.sockets import has_left, reset_connection, reset_when_sent

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells the state of a connection"
)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[asyncio.Transport, Peer]]:
    """Give our end of a connection, as a transport, and the peer's."""
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.Future()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    peer = Peer(*await asyncio.open_connection(*address))
    ours = (await accepted).transport
    try:
        # uvloop's transports do not say that they are asyncio's.
        yield cast("asyncio.Transport", ours), peer
    finally:
        ours.abort()
        peer.writer.transport.abort()
        server.close()


def test_a_reset_is_read_as_an_error(run: Run) -> None:
    """A peer that reads on is told that something went wrong."""

    async def main() -> None:
        async with pair() as (ours, peer):
            reset_connection(ours)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()
            reset_connection(ours)  # and nothing more can be done to it

    run(main())


def test_a_reset_can_wait_until_all_was_taken(run: Run) -> None:
    """A slow peer has every byte that was written, and then the error."""
    body = b"x" * (8 << 20)

    async def main() -> None:
        async with pair() as (ours, peer):
            ours.write(body)
            reset_when_sent(ours, SYSTEM)
            await asyncio.sleep(0.3)
            await peer.expect(body)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()

    run(main())


def test_a_reset_that_waits_ends_with_its_connection(run: Run) -> None:
    """What closes meanwhile is not watched any longer."""

    async def main() -> None:
        async with pair() as (ours, _):
            ours.write(b"x" * (8 << 20))
            reset_when_sent(ours, SYSTEM)
            ours.abort()
            await asyncio.sleep(0.05)

    run(main())


@linux_only
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_peer_that_has_left_is_told_from_one_that_has_not(run: Run, how: str) -> None:
    """The kernel knows, although nobody reads."""

    async def main() -> None:
        async with pair() as (ours, peer):
            ours.pause_reading()
            assert not has_left(ours)
            if how == "end":
                peer.writer.write_eof()
            else:
                reset_connection(cast("asyncio.Transport", peer.writer.transport))
            async with asyncio.timeout(10):
                while not has_left(ours):  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)

    run(main())
