"""The transports within ours that nobody gave it: one for each library and colour.

Those with `await` belong to an event loop, because their connections do.  So there is
one for each loop, and one whose loop is closed is let go: nothing could close it.
"""

from __future__ import annotations

import asyncio
import sys
from threading import Lock
from typing import Any, Final, NamedTuple

from sse_recorder.transport.shell import Library, library_of

_PLAIN: Final = "HTTPTransport"
_AWAITED: Final = "AsyncHTTPTransport"


class _Key(NamedTuple):
    library: Library
    loop: Any
    """Where it is used; None for those without `await`."""


class Inner:
    """Makes a library's own transport when it is asked for, and closes it.

    Args:
        options: of the transports.
    """

    def __init__(self, **options: object) -> None:
        self._options = options
        self._made: dict[_Key, Any] = {}
        self._lock = Lock()

    def plain(self, request: Any) -> Any:
        """Return the transport for a request of a client without `await`."""
        return self._get(_Key(library_of(request), None), _PLAIN)

    def awaited(self, request: Any) -> Any:
        """Return the transport for a request of a client on the running loop."""
        return self._get(_Key(library_of(request), _running()), _AWAITED)

    def _get(self, key: _Key, kind: str) -> Any:
        with self._lock:
            for gone in [other for other in self._made if _is_closed(other.loop)]:
                del self._made[gone]
            if key not in self._made:
                self._made[key] = getattr(key.library, kind)(**self._options)
            return self._made[key]

    def close(self) -> None:
        """Close those without `await`."""
        for _, transport in self._take(None):
            transport.close()

    async def aclose(self) -> None:
        """Close those of the running loop."""
        for _, transport in self._take(_running()):
            await transport.aclose()

    def close_all(self) -> None:
        """Close everything, also on loops that others have left open and idle."""
        self.close()
        with self._lock:
            loops = {key.loop for key in self._made}
        for loop in loops:
            for _, transport in self._take(loop):
                if isinstance(loop, asyncio.AbstractEventLoop) and not (
                    loop.is_closed() or loop.is_running()
                ):
                    loop.run_until_complete(transport.aclose())

    def _take(self, loop: Any) -> list[tuple[_Key, Any]]:
        with self._lock:
            keys = [key for key in self._made if key.loop is loop]
            return [(key, self._made.pop(key)) for key in keys]


def _running() -> Any:
    """Return what stands for the running event loop, whose it ever is."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return sys.modules["trio"].lowlevel.current_trio_token()


def _is_closed(loop: Any) -> bool:
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()
