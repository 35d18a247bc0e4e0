"""A transport that takes whatever a client asks for to one server on loopback.

It is for clients whose base URL cannot be changed.  One object serves httpx and httpx2,
with and without `await`; which it is, the request tells.
"""

from __future__ import annotations

from typing import Any

from sse_recorder.transport.inner import Inner
from sse_recorder.transport.shell import Shell, library_of


class ServerTransport(Shell):
    """Takes a client to a server.

    Args:
        url: the server's, which is no `https`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # No proxy is for loopback, and no certificate authority is asked for.
        self._inner = Inner(trust_env=False, verify=False)

    def handle_request(self, request: Any) -> Any:
        """Send a request, and return its response."""
        return self._inner.plain(request).handle_request(self._moved(request))

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return its response."""
        inner = self._inner.awaited(request)
        return await inner.handle_async_request(self._moved(request))

    def _moved(self, request: Any) -> Any:
        library = library_of(request)
        server = library.URL(self._url)
        # A new one, because the response's own request is to be the client's.
        return library.Request(
            request.method,
            request.url.copy_with(scheme="http", host=server.host, port=server.port),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    def close(self) -> None:
        """Close the connections of clients without `await`."""
        self._inner.close()

    async def aclose(self) -> None:
        """Close the connections of clients of the running loop."""
        await self._inner.aclose()

    def close_all(self) -> None:
        """Close all connections, whoever has left them open."""
        self._inner.close_all()
