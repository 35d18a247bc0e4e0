"""The server and the ways that all tests of transports share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from transport.clients import WAYS, Upstream, Way


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """Return a server that is there for all tests."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(
    params=WAYS,
    ids=lambda way: f"{way.library.__name__}-{'async' if way.is_async else 'sync'}",
)
def way(request: pytest.FixtureRequest) -> Way:
    """Return each of the four ways."""
    result: Way = request.param
    return result
