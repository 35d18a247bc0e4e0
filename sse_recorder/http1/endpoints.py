"""A server of a few small answers, for those who run something and not for its clients.

Each path has its methods and a coroutine that answers.  What a request carries in its
body is of no use here and is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, RequestHead
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.response import ResponseStream
from sse_recorder.http1.server import Server

log = logging.getLogger("sse_recorder.http1")


class Endpoint(NamedTuple):
    """What is answered at a path."""

    methods: tuple[str, ...]
    answer: Callable[[RequestHead, ResponseStream], Awaitable[None]]
    """Answers a request.  A `UsageError` becomes a 400 that says it."""


class EndpointServer:
    """Serves endpoints.

    Args:
        endpoints: by their paths.
        host: the address to listen on.
        port: 0 picks one.
        clock: gives the time of every read.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM,
    ) -> None:
        self._endpoints = endpoints
        self._address = (host, port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = Server(lambda: _Connection(self), clock=clock)

    @property
    def url(self) -> str:
        """Where it is asked."""
        return self._server.url

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address is taken or not ours.
        """
        await self._server.listen(*self._address)

    async def stop(self, grace_s: float = 0.0) -> None:
        """Close everything."""
        await self._server.close(grace_s=grace_s)

    def answer(self, head: RequestHead, stream: ResponseStream) -> None:
        """Begin to answer a request."""
        task = asyncio.get_running_loop().create_task(self._answer(head, stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, head: RequestHead, stream: ResponseStream) -> None:
        endpoint = self._endpoints.get(head.path)
        try:
            if endpoint is None:
                known = " and ".join(self._endpoints)
                message = f"There is no {head.path} here: ask for {known}."
                send_json_error(stream, HTTPStatus.NOT_FOUND, "not_found", message)
            elif head.method not in endpoint.methods:
                _send_method_not_allowed(stream, endpoint.methods)
            else:
                await endpoint.answer(head, stream)
        except UsageError as error:
            status = HTTPStatus.BAD_REQUEST
            send_json_error(stream, status, "bad_request", f"{error}.")
        except Exception:
            log.exception("a request could not be answered; please report this")
            stream.abort(reset=True)


def _send_method_not_allowed(stream: ResponseStream, methods: tuple[str, ...]) -> None:
    send_json_error(
        stream,
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method_not_allowed",
        f"That cannot be done here: send {methods[0]}.",
        (("Allow", ", ".join(methods)),),
    )


class _Connection:
    """A client's connection, and the requests on it: what they send is of no use."""

    def __init__(self, server: EndpointServer) -> None:
        self._server = server

    def request_head(
        self, head: RequestHead, stream: ResponseStream, at_ns: int
    ) -> _Connection:
        del at_ns
        self._server.answer(head, stream)
        return self

    def connection_closed(self) -> None:
        pass

    def request_data(self, data: bytes, at_ns: int) -> None:
        pass

    def request_end(self, at_ns: int, trailers: Headers) -> None:
        pass

    def client_gone(self, at_ns: int, error: BaseException | None) -> None:
        pass

    def pause_response(self) -> None:
        pass

    def resume_response(self) -> None:
        pass
