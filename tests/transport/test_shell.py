"""What the libraries and the two transports have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from transport.clients import WAYS, Client, Upstream, done, recorded

from sse_recorder import RecordingTransport
from sse_recorder.errors import UsageError


def test_the_same_object_serves_both_libraries(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Which of them it is, and whether with `await`, the request tells."""

    async def main() -> None:
        transport = RecordingTransport(tmp_path)
        for way in WAYS:
            await Client(way, transport).request("GET", f"{upstream.url}/plain")
        transport.close()
        await transport.aclose()
        assert len(recorded(tmp_path)) == len(WAYS)

    done(main())
    with pytest.raises(UsageError, match="give the transport to a client"):
        RecordingTransport(tmp_path).handle_request("GET /")
