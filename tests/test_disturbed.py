"""Faults on a live relay, as its client reads them from the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faults.reading import END, SLACK_MS, Received, received, unchunked
from http1.wire import Peer, Run, upstream

from sse_recorder.disturbed import DUE_BYTES_MAX, DisturbedStream
from sse_recorder.exchange import Exchange
from sse_recorder.faults import Spec
from sse_recorder.proxy import Recorder
from sse_recorder.sse import Parser
from sse_recorder.store.store import Store

GET = b"GET /chat HTTP/%b\r\nHost: a\r\n\r\n"
ONE, TWO, THREE = b"data: one\n\n", b"event: e\ndata: two\n\n", b"data: three\n\n"
ALL = ONE + TWO + THREE
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
HEAD = SSE + b"Transfer-Encoding: chunked\r\n\r\n"
ERROR = b'event: error\ndata: {"error":{"type":"injected_fault","message":"late"}}\n\n'
# What the client gets of the body, whether by a reset, and when it ends.
ENDS: dict[str, tuple[bytes, bool, int]] = {
    "cut@event:1": (ONE, False, 0),
    "reset@event:2": (ONE + TWO, True, 300),
    "reset@bytes:15": (ONE + TWO[:4], True, 300),
    "cut@ms:150": (ONE, False, 150),
    "error=late@event:1": (ONE + ERROR, False, 0),
    "error=late@bytes:15": (ONE + TWO[:4] + b"\n\n" + ERROR, False, 300),
    "error=late@ms:100": (ONE + ERROR, False, 100),
    "stall=10ms@ms:50 cut@ms:150": (ONE, False, 150),
    "stall@event:1 cut@ms:150": (ONE, False, 150),
    "drop@event:1 reset@event:1": (TWO, True, 300),
}
# The chunks that the client gets, and when the second and the last of them come.
CHANGES: dict[str, tuple[list[bytes], int, int]] = {
    "drop@event:2": ([ONE, THREE], 320, 320),
    "duplicate@event:1": ([ONE, ONE, TWO, THREE], 0, 320),
    "reslice=merge3": ([ALL], 320, 320),
    "stall=100ms@event:1": ([ONE, TWO, THREE], 400, 420),
    "delay=50ms@event:2": ([ONE, TWO, THREE], 350, 350),
    "first-byte=100ms": ([ONE, TWO, THREE], 400, 420),
    "stall=100ms@event:1 delay=50ms@event:3": ([ONE, TWO, THREE], 400, 470),
    "reslice=crlf": (
        [ONE[:10], ONE[10:], TWO[:-1], TWO[-1:], THREE[:-1], THREE[-1:]],
        0,
        320,
    ),
}


def chunk(data: bytes) -> bytes:
    """Return data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


async def until_left(peer: Peer) -> None:
    """Wait until the recorder leaves, which a fault may have it do at any moment."""
    with suppress(ConnectionResetError):
        await peer.read_all()


async def api(peer: Peer) -> None:
    """Answer with three events, the last two after a while."""
    await peer.read_until(b"\r\n\r\n")
    peer.send(HEAD + chunk(ONE))
    await asyncio.sleep(0.3)
    for data in (TWO, THREE):
        peer.send(chunk(data))
        await asyncio.sleep(0.02)
    peer.send(END)
    await until_left(peer)


async def slow_api(peer: Peer) -> None:
    """Answer after a while."""
    await peer.read_until(b"\r\n\r\n")
    await asyncio.sleep(0.3)
    peer.send(HEAD + chunk(ONE) + END)
    await until_left(peer)


def answering(answer: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Return an API that answers so at once, and ends the connection."""

    async def answer_at_once(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(answer)

    return answer_at_once


def relayed(
    run: Run,
    folder: Path,
    faults: str,
    answer: Callable[[Peer], Awaitable[None]] = api,
    version: str = "1.1",
) -> tuple[Received, Exchange, list[str]]:
    """Return what a client reads, what is recorded, and what the faults tell."""
    results: list[Received] = []
    told: list[str] = []

    async def main() -> None:
        async with upstream(answer) as port:
            url = f"http://127.0.0.1:{port}"
            recorder = Recorder(url, store=folder, faults=faults.split())
            await recorder.start()
            results.append(await received(recorder.url, GET % version.encode()))
            await asyncio.sleep(0.05)
            await recorder.stop(grace_s=1)
            told.extend(recorder.fault_report)
            assert recorder.faults_told == len(told)

    run(main())
    with Store.open(folder) as store:
        (exchange,) = store.exchanges()
    assert {line.partition(": ")[0] for line in told} == {exchange.exchange_id}
    return results[0], exchange, [line.partition(": ")[2] for line in told]


@pytest.mark.parametrize("faults", ENDS)
def test_a_fault_ends_a_live_response_where_it_says(
    run: Run, tmp_path: Path, faults: str
) -> None:
    """The client gets what is before the place; the recording says what ended it."""
    body, is_reset, ended_ms = ENDS[faults]
    got, exchange, told = relayed(run, tmp_path, faults)
    assert unchunked(got.body) == body
    assert got.was_reset == is_reset
    assert got.body.endswith(END) == ("error" in faults)
    assert ended_ms <= got.ended_ms < ended_ms + SLACK_MS
    assert exchange.outcome == "client_abort"
    assert exchange.error == f"a fault ended it for the client: {'; '.join(told)}"
    assert [line.partition(": ")[0] for line in told] == faults.split()
    assert "not done" not in "".join(told)


@pytest.mark.parametrize("faults", CHANGES)
def test_a_fault_changes_a_live_response_as_it_says(
    run: Run, tmp_path: Path, faults: str
) -> None:
    """The client gets what the fault makes of it; what is recorded is the truth."""
    chunks, second_ms, last_ms = CHANGES[faults]
    got, exchange, told = relayed(run, tmp_path, faults)
    assert got.body == b"".join(map(chunk, chunks)) + END
    head_ms = 100 if faults.startswith("first-byte") else 0
    assert head_ms <= got.came_ms(b"\r\n\r\n") < head_ms + SLACK_MS
    for due_ms, count in ((second_ms, 2), (last_ms, len(chunks))):
        came_ms = got.came_ms(b"".join(map(chunk, chunks[:count])))
        assert due_ms <= came_ms < due_ms + SLACK_MS
    assert not got.was_reset
    assert (exchange.outcome, exchange.error) == ("complete", None)
    assert [line.partition(": ")[0] for line in told] == faults.split()
    with Store.open(tmp_path) as store:
        assert store.body(exchange.exchange_id) == ALL


def test_one_bit_of_a_live_response_is_corrupt(run: Run, tmp_path: Path) -> None:
    """In the event that was meant; what is recorded is the truth."""
    got, exchange, _ = relayed(run, tmp_path, "corrupt@event:2")
    body = unchunked(got.body)
    flipped = [(a ^ b, n) for n, (a, b) in enumerate(zip(body, ALL, strict=True))]
    ((bits, at),) = [pair for pair in flipped if pair[0]]
    assert bits.bit_count() == 1
    assert len(ONE) <= at < len(ONE + TWO)
    with Store.open(tmp_path) as store:
        assert store.body(exchange.exchange_id) == ALL


@pytest.mark.parametrize(
    ("faults", "status", "body", "ended_ms"),
    [
        ("error=late@ms:50", b"200 OK", chunk(ERROR) + END, 50),
        ("cut@ms:50", b"", b"", 50),
        ("first-byte=100ms", b"200 OK", chunk(ONE) + END, 400),
        ("first-byte=200ms error=late@ms:350", b"200 OK", chunk(ERROR) + END, 350),
    ],
)
def test_a_fault_may_come_before_the_head(
    run: Run, tmp_path: Path, faults: str, status: bytes, body: bytes, ended_ms: int
) -> None:
    """A client is told of an error by a whole response, and waits for nothing."""
    got, exchange, told = relayed(run, tmp_path, faults, slow_api)
    assert got.data.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ") == status
    assert got.body == body
    assert ended_ms <= got.ended_ms < ended_ms + SLACK_MS
    assert not got.was_reset
    is_whole = faults.startswith("first-byte")  # and all there is to record
    report = f"a fault ended it for the client: {'; '.join(told)}"
    assert exchange.error == (None if is_whole else report)
    assert exchange.outcome == ("complete" if is_whole else "client_abort")


@pytest.mark.parametrize("status", ["429 Too Many Requests", "529 "])
def test_a_status_takes_the_place_of_a_live_answer(
    run: Run, tmp_path: Path, status: str
) -> None:
    """The client is told to come again, and its upstream is left."""
    left = asyncio.Event()

    async def waiting_api(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(HEAD + chunk(ONE))
        await until_left(peer)
        left.set()

    async def main() -> None:
        async with upstream(waiting_api) as port:
            faults = [f"status={status[:3]},retry-after=2"]
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=tmp_path, faults=faults
            )
            await recorder.start()
            number = int(recorder.url.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            data = await reader.read()
            assert data.startswith(f"HTTP/1.1 {status}\r\n".encode())
            assert b"\r\nRetry-After: 2\r\n" in data
            writer.close()
            await asyncio.wait_for(left.wait(), 10)
            await recorder.stop(grace_s=1)

    run(main())
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
    assert (exchange.status, exchange.outcome) == (200, "client_abort")


LENGTH = b"%bContent-Length: %d\r\n\r\n%b" % (SSE, len(ALL), ALL)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    ("fault", "body"),
    [
        ("drop@event:2", ONE + THREE),
        ("duplicate@event:3", ALL + THREE),
        ("error=late@event:3", ALL + ERROR),
    ],
)
def test_a_length_that_becomes_wrong_is_not_announced(
    run: Run, tmp_path: Path, version: str, fault: str, body: bytes
) -> None:
    """What is more than it is read, and what is less is not waited for."""
    got, *_ = relayed(run, tmp_path, fault, answering(LENGTH), version)
    assert b"Content-Length" not in got.head
    assert not got.was_reset
    if version == "1.0":
        assert got.body == body
    else:
        assert unchunked(got.body) == body
        assert got.body.endswith(END)


@pytest.mark.parametrize(
    ("head", "version"),
    [(SSE + b"\r\n", "1.1"), (SSE + b"\r\n", "1.0"), (HEAD, "1.0")],
)
def test_a_cut_is_in_order_also_where_the_body_looks_whole(
    run: Run, tmp_path: Path, head: bytes, version: str
) -> None:
    """A client that cannot tell what it lacks is what is to be tried."""
    body = ONE + TWO if head != HEAD else chunk(ONE) + chunk(TWO) + END
    answer = answering(head + body)
    got, _, told = relayed(run, tmp_path, "cut@event:1", answer, version)
    assert (got.body, got.was_reset) == (ONE, False)
    assert told[0].startswith("cut@event:1: cut at ")


@pytest.mark.parametrize("end", [b"\r", b"\n"])
def test_an_error_within_an_event_is_an_event(
    run: Run, tmp_path: Path, end: bytes
) -> None:
    """Whatever is open is ended first, and the client's parser sees the error."""
    body = end.join([b"data: a", b"", b"data: b", b"data: c", b"", b""])
    answer = answering(HEAD + chunk(body) + END)
    got, *_ = relayed(run, tmp_path, "error=late@bytes:17", answer)
    *_, last = Parser().feed(unchunked(got.body))
    assert (last.event, last.data) == ("error", ERROR[19:-2].decode())


PLAIN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
)


@pytest.mark.parametrize("place", ["event:0", "bytes:3", "bytes:0"])
def test_an_error_stays_out_of_what_is_no_stream(
    run: Run, tmp_path: Path, place: str
) -> None:
    """A JSON answer comes as it is, and the report says why."""
    answer = answering(PLAIN + b'{"a":1}')
    got, exchange, told = relayed(run, tmp_path, f"error@{place}", answer, "1.0")
    assert got.body == b'{"a":1}'
    assert exchange.outcome == "complete"
    why = "not done: the body is no event stream, or a compressed one"
    assert told == [f"error@{place}: {why}"]


BIG = b"data: " + b"x" * 60_000 + b"\n\n"


@pytest.mark.parametrize("fault", ["delay=500ms@event:2", "stall=200ms@event:1"])
def test_an_upstream_waits_for_what_a_fault_holds_back(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """A recorder does not fill with it, and in the end the client has it all."""
    count = 100

    async def flood(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(HEAD + chunk(ONE))
        for _ in range(count):
            peer.send(chunk(BIG))
            await peer.writer.drain()
        peer.send(END)
        await peer.read_all()

    async def main() -> None:
        async with upstream(flood) as port:
            url = f"http://127.0.0.1:{port}"
            recorder = Recorder(url, store=tmp_path, faults=[fault])
            await recorder.start()
            asked = asyncio.ensure_future(received(recorder.url, GET % b"1.1"))
            most = 0
            while not asked.done():
                streams = [relay._stream for relay in recorder.relays]
                for stream in streams:
                    assert isinstance(stream, DisturbedStream)
                    most = max(most, stream._due_bytes)
                await asyncio.sleep(0.01)
            # One read of the socket more than what is enough.
            assert DUE_BYTES_MAX < most < 2 * DUE_BYTES_MAX
            assert asked.result().body.count(b"x") == count * 60_000
            await recorder.stop(grace_s=1)

    run(main())


def test_what_a_client_left_behind_is_forgotten_and_its_rest_recorded(
    run: Run, tmp_path: Path
) -> None:
    """An upstream that is read to its end is not left for what was still due."""

    async def main() -> None:
        async with upstream(api) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}",
                store=tmp_path,
                faults=["delay=100ms@event:1", "cut@event:3"],
                on_client_abort="finish",
            )
            await recorder.start()
            number = int(recorder.url.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.write(b"GET /chat HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.close()
            await recorder.stop(grace_s=5)
            told = [line.partition(": ")[2] for line in recorder.fault_report]
            late = "not done: the client left before it was due, at "
            assert told[0].startswith(f"delay=100ms@event:1: {late}")
            left = "the client left; by then there were 1 events, 11 bytes"
            assert told[1:] == [f"cut@event:3: not done: {left}"]

    run(main())
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        assert store.body(exchange.exchange_id) == ALL
    assert exchange.error == "the client left; the rest was recorded"


def test_a_fault_that_fails_ends_the_response_and_not_the_recorder(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client does not wait for ever, and the recording says whose doing it was."""

    async def main() -> None:
        async with upstream(api) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=tmp_path, faults=["drop@event:1"]
            )
            recorder.faults = (Spec("drop"),)  # which no text is read as
            await recorder.start()
            got = await received(recorder.url, GET % b"1.1")
            assert (got.body, got.was_reset) == (b"", True)
            await asyncio.sleep(0.05)
            await recorder.stop(grace_s=1)

    run(main())
    assert "a fault failed; please report this" in caplog.text
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        assert store.body(exchange.exchange_id) == ONE
    assert exchange.status == 200
    assert (exchange.error or "").startswith("a fault ended it for the client: drop")


def test_only_the_first_reports_are_kept(run: Run, tmp_path: Path) -> None:
    """A recorder that runs for months does not fill with them."""
    options: dict[str, Any] = {"store": tmp_path, "faults": ["cut@event:9"]}

    async def main() -> None:
        async with upstream(answering(PLAIN + b'{"a":1}')) as port:
            recorder = Recorder(f"http://127.0.0.1:{port}", **options)
            await recorder.start()
            recorder.note_faults(str(number) for number in range(999))
            for _ in range(3):
                await received(recorder.url, GET % b"1.0")
            await recorder.stop(grace_s=1)
            assert (len(recorder.fault_report), recorder.faults_told) == (1_000, 1_002)
            assert "cut@event:9: not done" in recorder.fault_report[-1]

    run(main())
