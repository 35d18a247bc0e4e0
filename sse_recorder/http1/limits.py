"""How much of everything a server takes from its clients.

The defaults are for a server in front of streams: what bounds a request is tight, and
no time at all is set for a response, which may be silent for as long as it likes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from sse_recorder.errors import UsageError
from sse_recorder.http1 import framing


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server takes.

    Raises:
        UsageError: one of them is not above zero.
    """

    head_bytes: int = framing.HEAD_BYTES_MAX
    """A larger request head is answered 431.  Where it is above 256 KiB, an upstream's
    heads may be as large, too."""
    headers: int = 200
    """More headers in one request are answered 431."""
    connections: int = 10_000
    """A connection beyond them is answered 503 with `Retry-After`, and closed.  They
    are fewer where the process may not open as many files."""
    idle_timeout_s: float = 300.0
    """How long a connection is kept without a request.  It never applies while a
    response is open."""
    head_timeout_s: float = 60.0
    """How long a request head may take once it has begun, before it is answered 408.
    It never applies while a response is open, nor to a request's body."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                name = field.name.replace("_", " ")
                raise UsageError(f"The limit of {name} is {value}: it must be above 0.")
