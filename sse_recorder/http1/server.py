"""The side that clients connect to: who listens, and whom it lets in.

A `Server` gives each connection to a `Connection` and counts what is open, so that it
can be drained: no new connections, idle ones closed, open responses given time to end.
One timer looks at all connections; a timer of their own, moved at every read, would
cost more than the read.

Who comes when it is full is told so (503) instead of being left to wait unaccepted: a
client that hears it can try again elsewhere, and one that waits in the kernel cannot.
Full is also what the limit of open files makes it, so that accepting never runs out of
them; those that are being told are few, and beyond them connections are just reset.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import resource
import socket
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import ListenError
from sse_recorder.http1 import framing
from sse_recorder.http1.connection import Connection, ConnectionHandler
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.refusal import Refusal, too_many

_SWEEP_S: Final = 0.5
# Of clients that come at once, those that do not fit try again after a second.  The
# kernel takes it down to its own limit.
_BACKLOG: Final = 4_096
_TELL_NS: Final = 60_000_000_000  # at most one line a minute says that we are full
_TURNED_AWAY_MAX: Final = 32  # connections that are being told so
_FILES_SPARED: Final = 96  # for those, and for the rest of the process

_logger = logging.getLogger("sse_recorder.http1")


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Server:
    """Accepts connections and gives each to a handler of its own.

    Args:
        handler: called once for each connection.
        clock: gives the time of every read.
        limits: how much is taken from clients.
        write_buffer_bytes: how much may wait for a client before its handler is paused.
        files_each: how many files a connection takes, those of its handler included.
            There is never room for more connections than for their files.
    """

    def __init__(
        self,
        handler: Callable[[], ConnectionHandler],
        *,
        clock: Clock = SYSTEM,
        limits: Limits | None = None,
        write_buffer_bytes: int = framing.WRITE_BUFFER_BYTES,
        files_each: int = 1,
    ) -> None:
        self.handler: Final = handler
        self.clock: Final = clock
        self.limits: Final = limits or Limits()
        self.write_buffer_bytes: Final = write_buffer_bytes
        self.connections: Final[set[Connection]] = set()
        self.room: Final = min(
            self.limits.connections,
            max(1, (_files_max() - _FILES_SPARED) // files_each),
        )
        """How many connections are served at a time."""
        self.open_streams = 0
        """How many responses are not finished."""
        self.refused: Final[Counter[str]] = Counter()
        """Requests that were answered without a handler, by the type of the error."""
        self.closing = False
        """Whether no connection is kept alive any more."""
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._address = Address("", 0)
        self._turned_away: set[Connection] = set()
        self._told_full_ns: int | None = None

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Accept connections; port 0 picks a free one, and `address` tells which.

        Args:
            host: a name or an address of this machine.
            port: 0 to 65535.
            reuse_port: let other processes listen on the same port.

        Raises:
            ListenError: the address is taken, forbidden or not of this machine.
        """
        if not 0 <= port <= 65535:  # noqa: PLR2004 - uvloop would wrap it round
            raise ListenError(f"There is no port {port}: choose one from 0 to 65535.")
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: Connection(self), host, port, reuse_port=reuse_port or None
            )
        except OSError as error:
            raise _listen_error(host, port, error) from error
        self._server = server
        for sock in server.sockets:
            # Not as `backlog`: so often does asyncio try to accept, without files, too.
            # And loops hide this call of theirs.
            ctypes.CDLL(None).listen(sock.fileno(), _BACKLOG)
        name = server.sockets[0].getsockname()
        self._address = Address(name[0], name[1])
        self._sweep_later(loop)

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that it listens on."""
        return self._address

    @property
    def url(self) -> str:
        """Where clients on this machine find it."""
        host, port = self._address
        # An address that means "all of them" is not one to connect to.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop_listening(self) -> None:
        """Accept no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def drain(self, grace_s: float) -> None:
        """Take no more requests, and give open responses so many seconds to finish."""
        self.stop_listening()
        self.closing = True
        for connection in tuple(self.connections):
            if connection.is_idle:
                connection.close()
        await self._wait_empty(grace_s)

    async def close(self, *, grace_s: float) -> None:
        """Drain, then break what has not finished."""
        await self.drain(grace_s)
        error = ConnectionAbortedError("the server is closing")
        for connection in tuple(self.connections):
            connection.abort(error)
        await self._wait_empty(1.0)  # an abort is reported in the loop's next turn
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _wait_empty(self, timeout_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()

    # Called by the connections.

    def connection_made(self, connection: Connection) -> Refusal | None:
        """Keep a connection; return why it is not served if there is no room."""
        self.connections.add(connection)
        self._emptied.clear()
        if len(self.connections) - len(self._turned_away) <= self.room:
            return None
        self._turned_away.add(connection)
        self._tell_full()
        if len(self._turned_away) > _TURNED_AWAY_MAX:
            connection.abort(None)  # whoever floods us gets no answer
        return too_many(self.room)

    def _tell_full(self) -> None:
        now_ns = self.clock.monotonic_ns()
        if self._told_full_ns is None or now_ns - self._told_full_ns > _TELL_NS:
            self._told_full_ns = now_ns
            _logger.warning(
                "%d connections are open: more are answered 503. Raise the limit of"
                " connections (%d) or that of open files (ulimit -n).",
                self.room,
                self.limits.connections,
            )

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._turned_away.discard(connection)
        if not self.connections:
            self._emptied.set()

    def request_refused(self, refusal: Refusal) -> None:
        """Count a request that is answered without its handler."""
        self.refused[refusal.kind] += 1

    def stream_started(self) -> None:
        """Count a response that is due."""
        self.open_streams += 1

    def stream_finished(self) -> None:
        """Count a response that is over."""
        self.open_streams -= 1

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        shortest_s = min(self.limits.idle_timeout_s, self.limits.head_timeout_s)
        interval_s = min(_SWEEP_S, shortest_s / 2)
        self._sweep = loop.call_later(interval_s, self._sweep_now, loop)

    def _sweep_now(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ns = self.clock.monotonic_ns()
        for connection in tuple(self.connections):
            connection.sweep(now_ns)
        self._sweep_later(loop)


def _files_max() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _listen_error(host: str, port: int, error: OSError) -> ListenError:
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return ListenError(
            f"Cannot listen on {where}: no such host. Use 127.0.0.1 or another address"
            " of this machine."
        )
    match error.errno:
        case errno.EADDRINUSE:
            text = (
                "the port is taken. Stop what listens there, or use port 0 to get a"
                " free one."
            )
        case errno.EACCES | errno.EPERM:
            text = "it is not permitted. Use a port above 1023."
        case errno.EADDRNOTAVAIL:
            text = (
                "this machine does not have that address. Use 127.0.0.1 or one of its"
                " own."
            )
        case _:
            reason = error.strerror or str(error)
            text = f"{reason}. Choose another address or port."
    return ListenError(f"Cannot listen on {where}: {text}")
