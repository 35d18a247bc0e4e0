"""A client that notes when it reads what, for the tests of faults on sockets."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from sse_recorder.clock import SYSTEM

END = b"0\r\n\r\n"
SLACK_MS = 150
"""How much later than due something may come on a machine that does more than this."""


class Received(NamedTuple):
    """What a client read until the response was over."""

    reads: list[tuple[float, bytes]]
    """With their times in milliseconds since it had asked."""
    was_reset: bool
    ended_ms: float

    @property
    def head(self) -> bytes:
        """The response head."""
        return self.data.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def body(self) -> bytes:
        """The body as it was on the wire."""
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def data(self) -> bytes:
        """All of it."""
        return b"".join(data for _, data in self.reads)

    def came_ms(self, mark: bytes) -> float:
        """Return when something had come."""
        data = b""
        for at_ms, more in self.reads:
            data += more
            if mark in data:
                return at_ms
        raise AssertionError(f"{mark!r} never came, but {data!r}")


async def received(url: str, request: bytes) -> Received:
    """Ask a server of ours, and read until the response is over."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    now_ns = SYSTEM.monotonic_ns
    began_ns = now_ns()
    writer.write(request)
    reads: list[tuple[float, bytes]] = []
    data, was_reset = b"", False
    try:
        async with asyncio.timeout(10):
            while not data.endswith(END) and (more := await reader.read(65_536)):
                reads.append(((now_ns() - began_ns) / 1e6, more))
                data += more
    except ConnectionResetError:
        was_reset = True
    finally:
        writer.close()
    return Received(reads, was_reset, (now_ns() - began_ns) / 1e6)


def chunks_of(body: bytes) -> list[bytes]:
    """Return the payloads of the chunks of a body, each of which was one write."""
    chunks, rest = list[bytes](), body.removesuffix(END)
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        chunks.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return chunks


def unchunked(body: bytes) -> bytes:
    """Return the payload of a body in chunks, whether or not the last one came."""
    return b"".join(chunks_of(body))
