"""Faults on a live relay, as its client reads them from the socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from http1.wire import Peer, Run, upstream

from sse_recorder.exchange import Exchange
from sse_recorder.proxy import Recorder
from sse_recorder.store.store import Store

ONE, TWO, THREE = b"data: one\n\n", b"event: e\ndata: two\n\n", b"data: three\n\n"
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
ENDS = {
    "cut@event:1": (ONE, False),
    "reset@event:2": (ONE + TWO, True),
    "reset@bytes:15": (ONE + TWO[:4], True),
    "cut@ms:150": (ONE, False),
}
CHANGES = {
    "drop@event:2": [ONE, THREE],
    "duplicate@event:1": [ONE, ONE, TWO, THREE],
    "reslice=merge3": [ONE + TWO + THREE],
    "stall=100ms@event:1": [ONE, TWO, THREE],
    "delay=50ms@event:2": [ONE, TWO, THREE],
    "first-byte=100ms": [ONE, TWO, THREE],
}


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def api(peer: Peer) -> None:
    """Answer with three events, the last two after a while."""
    await peer.read_until(b"\r\n\r\n")
    peer.send(HEAD + chunk(ONE))
    await asyncio.sleep(0.3)
    for data in (TWO, THREE):
        peer.send(chunk(data))
        await asyncio.sleep(0.02)
    peer.send(b"0\r\n\r\n")
    await peer.read_all()


async def received(recorder: Recorder) -> tuple[bytes, bool]:
    """Return what a client reads until the response ends, and if by a reset."""
    port = int(recorder.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    data = b""
    try:
        while not data.endswith(b"0\r\n\r\n") and (more := await reader.read(1)):
            data += more
    except ConnectionResetError:
        return data, True
    finally:
        writer.close()
    return data, False


def relayed(run: Run, folder: Path, fault: str) -> tuple[bytes, bool, Exchange]:
    """Return what a client reads, and the exchange that is recorded."""
    results: list[tuple[bytes, bool]] = []

    async def main() -> None:
        async with upstream(api) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=folder, faults=[fault]
            )
            await recorder.start()
            results.append(await received(recorder))
            await asyncio.sleep(0.05)
            await recorder.stop(grace_s=1)

    run(main())
    with Store.open(folder) as store:
        (exchange,) = store.exchanges()
    return *results[0], exchange


@pytest.mark.parametrize("fault", ENDS)
def test_a_fault_ends_a_live_response_where_it_says(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """The client gets what is before the place; the recording says what ended it."""
    body, is_reset = ENDS[fault]
    data, was_reset, exchange = relayed(run, tmp_path, fault)
    assert data.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"") == b"".join(
        b"%x" % len(part) + part for part in _parts(body)
    )
    assert was_reset == is_reset
    assert exchange.outcome == "client_abort"
    assert (exchange.error or "").startswith(
        f"a fault ended it for the client: {fault}"
    )


def _parts(body: bytes) -> list[bytes]:
    """Return a body as it was cut by the upstream, and by the fault."""
    return [part for part in (body[: len(ONE)], body[len(ONE) :]) if part]


@pytest.mark.parametrize("fault", CHANGES)
def test_a_fault_changes_a_live_response_as_it_says(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """The client gets what the fault makes of it; what is recorded is the truth."""
    data, was_reset, exchange = relayed(run, tmp_path, fault)
    expected = b"".join(map(chunk, CHANGES[fault])) + b"0\r\n\r\n"
    assert data.partition(b"\r\n\r\n")[2] == expected
    assert not was_reset
    assert (exchange.outcome, exchange.error) == ("complete", None)
    with Store.open(tmp_path) as store:
        assert store.body(exchange.exchange_id) == ONE + TWO + THREE


def test_a_status_takes_the_place_of_a_live_answer(run: Run, tmp_path: Path) -> None:
    """The client is told to come again, and its upstream is left."""
    data, _, exchange = relayed(run, tmp_path, "status=429,retry-after=2")
    assert data.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 2\r\n" in data
    assert exchange.status == 200
    assert exchange.outcome == "client_abort"
