"""How long tools really take: servers of these tests note it, and tell it at a path.

Each run is timed round the tool's own body, on the clock that all processes of a
machine share: this is what a recording is held against.

Between a tool's body and the wire there is the server's own work, a millisecond or two
while nobody else wants the machine, and so the least of several errors is what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sse_recorder import ToolCall
from sse_recorder.clock import MONOTONIC_NS

TOLERANCE_NS: Final = 5_000_000
_ROUNDS: Final = 20

_took_ns: Final[dict[str, int]] = {}


@contextmanager
def timed(tool_id: str | None) -> Iterator[None]:
    """Note how long the body of a tool takes, for the last call of an id."""
    began_ns = MONOTONIC_NS()
    try:
        yield
    finally:
        _took_ns[tool_id or ""] = MONOTONIC_NS() - began_ns


async def _tell(request: Request) -> Response:
    del request
    return JSONResponse(_took_ns)


ROUTE: Final = Route("/took", _tell)
"""What such a server has besides its own."""


def took_ns(url: str) -> dict[str, int]:
    """Return how long the last run of each tool took, by the ids of their calls."""
    answer: dict[str, int] = httpx.get(f"{url}/took").raise_for_status().json()
    return answer


def errors_ns(
    calls: Iterable[ToolCall], true_ns: dict[str, int], name: str
) -> dict[str, int]:
    """Return by how much calls seem shorter or longer than they are.

    Args:
        calls: as they were recorded.
        true_ns: what `took_ns` says of them.
        name: the field that tells tools from each other; the best of each counts.
    """
    errors: dict[str, int] = {}
    for call in calls:
        assert call.duration_ns is not None
        error = abs(call.duration_ns - true_ns[call.tool_id or ""])
        key = getattr(call, name)
        errors[key] = min(error, errors.get(key, error))
    return errors


def least(errors_ns: dict[str, int], again: Callable[[], dict[str, int]]) -> int:
    """Return the error of the tool that fared worst, each in its best round.

    Args:
        errors_ns: of the first round, by the tool.
        again: makes another round, if one was not good enough.
    """
    for _ in range(_ROUNDS):
        if max(errors_ns.values()) < TOLERANCE_NS:
            break
        errors_ns = {key: min(errors_ns[key], new) for key, new in again().items()}
    return max(errors_ns.values())
