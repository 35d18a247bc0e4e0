"""An upstream that stops in the middle of a stream until it is told to go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from support import PATIENCE_S

FIRST, LAST = b"data: first\n\n", b"data: last\n\n"


class Held:
    """An upstream that sends half of a stream, and the rest when it is told to."""

    def __init__(self, listener: socket.socket, status: bytes) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.release = threading.Event()
        self._listener = listener
        self._status = status

    def serve_one(self) -> None:
        """Answer one request."""
        connection, _ = self._listener.accept()
        with connection:
            while not connection.recv(65536).endswith(b"\r\n\r\n"):
                pass
            length = len(FIRST) + len(LAST)
            connection.sendall(
                b"HTTP/1.1 %b\r\nContent-Type: text/event-stream\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (self._status, length, FIRST)
            )
            self.release.wait(PATIENCE_S)
            connection.sendall(LAST)


@contextmanager
def held_upstream(status: bytes = b"200 OK") -> Iterator[Held]:
    """Run one in a thread."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        held = Held(listener, status)
        serving = pool.submit(held.serve_one)
        try:
            yield held
        finally:
            held.release.set()
        # The recorder may have hung up on it.
        assert isinstance(serving.exception(), OSError | None)
