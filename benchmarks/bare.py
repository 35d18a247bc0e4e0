"""The least that a relay on this event loop can cost: bytes in, the same bytes out.

It parses nothing, keeps nothing and knows nothing of HTTP.  What the recorder costs
beyond it is parsing, recording and what they do to the caches.

    python benchmarks/bare.py LISTEN_PORT UPSTREAM_PORT
"""

from __future__ import annotations

import asyncio
import sys

from sse_recorder.background import run


class _End(asyncio.Protocol):
    """One side of a connection; what it reads, the other one writes."""

    transport: asyncio.Transport

    def __init__(self, other: _End | None = None) -> None:
        self.other = other
        self.waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # uvloop's own class
        if self.other is None:
            self.task = asyncio.ensure_future(self.connect())
        else:
            self.other.other = self
            for data in self.other.waiting:
                self.transport.write(data)

    async def connect(self) -> None:
        """Connect to the upstream."""
        loop, port = asyncio.get_running_loop(), int(sys.argv[2])
        await loop.create_connection(lambda: _End(self), "127.0.0.1", port)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.waiting.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.other is not None:
            self.other.transport.close()


async def main() -> None:
    """Relay until it is stopped."""
    loop, port = asyncio.get_running_loop(), int(sys.argv[1])
    server = await loop.create_server(_End, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    run(main())
