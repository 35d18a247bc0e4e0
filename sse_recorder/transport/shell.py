"""What both transports share: the library that a request is of, and what it asks for.

A library takes a body only as one of its own streams, and a response only as its own.
So the shells are made into classes of a library when the first request of it comes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, RequestHead

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Transport(
        httpx.BaseTransport,
        httpx2.BaseTransport,
        httpx.AsyncBaseTransport,
        httpx2.AsyncBaseTransport,
    ):
        """What type checkers take the transports for."""

        def handle_request(self, request: Any) -> Any: ...
        async def handle_async_request(self, request: Any) -> Any: ...
else:
    _Transport = object

T = TypeVar("T")

Library = Any
"""The module `httpx` or `httpx2`."""

_LIBRARIES: Final = ("httpx", "httpx2")


def library_of(request: object) -> Library:
    """Return the library that a request is of."""
    for kind in type(request).__mro__:
        name = kind.__module__.partition(".")[0]
        if name in _LIBRARIES:
            return sys.modules[name]
    raise UsageError(
        f"{request!r} is no request of httpx or httpx2: give the transport to a client"
        " of one of them"
    )


@cache
def stream_of(library: Library, shell: type[T]) -> type[T]:
    """Return a shell as a stream of a library, whose clients take nothing else."""
    bases = (shell, library.SyncByteStream, library.AsyncByteStream)
    return cast("type[T]", type(shell.__name__, bases, {}))


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return headers as text; the libraries have them as bytes, with their case."""
    return tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in raw
    )


def raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return headers as the libraries have them."""
    return [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers
    ]


def request_head(request: Any) -> RequestHead:
    """Return the head that a request has on the wire."""
    # The library sends the extension in place of the path, if there is one.
    target: bytes = request.extensions.get("target", request.url.raw_path)
    headers = headers_of(request.headers.raw)
    return RequestHead(request.method, target.decode("latin-1"), headers)


class Shell(_Transport):
    """What a client calls beside `handle_request`, and its twins with `await`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()
