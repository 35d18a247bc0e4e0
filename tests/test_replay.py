"""Replays: what is sent when, and how a request finds it."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from http1.wire import App, Peer, Run, ok, upstream

from recordings import CHUNKS, MS, exchange
from sse_recorder import playback
from sse_recorder.cli.files import allow_files
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Chunk, Exchange, Outcome
from sse_recorder.http1.sockets import reset_connection
from sse_recorder.playback import MAX_SPEED, Pace
from sse_recorder.proxy import Recorder
from sse_recorder.replay import ReplayServer
from sse_recorder.store import cassette
from sse_recorder.store.store import Store


def saved(path: Path, *exchanges: Exchange) -> Path:
    """Save exchanges with the chunks above as a cassette, each with its own id."""
    texts = [
        cassette.dumps(
            replace(one, exchange_id=f"{one.exchange_id[:-2]}{at:02x}"), CHUNKS
        )
        for at, one in enumerate(exchanges)
    ]
    path.write_text("".join(texts))
    return path


def request(body: str = '{"b":2,"a":1}', target: str = "/chat?x=1") -> bytes:
    """Return the recorded request as another client would write it."""
    head = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def answer(*chunks: bytes) -> bytes:
    """Return a chunked event stream as it is on the wire."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks)


WHOLE = answer(*(chunk.data for chunk in CHUNKS)) + b"0\r\n\r\n"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    """Connect to a server of ours."""
    port = int(url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def replaying(
    path: Path, speed: float = 1.0, **options: Any
) -> AsyncIterator[tuple[ReplayServer, Peer]]:
    """Serve a store or a cassette, and connect to it."""
    server = ReplayServer(path, speed=speed, **options)
    await server.start()
    try:
        async with connected(server.url) as client:
            yield server, client
    finally:
        await server.stop()


def test_a_replay_has_the_recorded_bytes_and_boundaries(
    run: Run, tmp_path: Path
) -> None:
    """Each chunk is one write, and the framing is the recorded one."""

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", exchange())
        async with replaying(path) as (server, client):
            began = asyncio.get_running_loop().time()
            client.send(request())
            await client.expect(WHOLE)
            assert asyncio.get_running_loop().time() - began >= 0.049
            assert (server.lateness.count, server.served) == (5, 1)
            assert server.lateness.p50_ns > 0
            assert list(server.lateness_by_streams()) == ["1"]

    run(main())


def test_equal_requests_are_answered_in_recorded_order(
    run: Run, tmp_path: Path
) -> None:
    """The last recording answers again when they run out."""
    answers = [exchange(reason=f"Take {number}") for number in (1, 2)]

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", *answers)
        async with replaying(path, MAX_SPEED) as (_, client):
            for number in (1, 2, 2, 2):
                client.send(request())
                assert f"Take {number}".encode() in await client.read_until(b"\r\n")
                await client.read_until(b"\r\n0\r\n\r\n")

    run(main())


def test_a_miss_names_the_nearest_recording_and_what_differs(
    run: Run, tmp_path: Path
) -> None:
    """A newcomer sees at once which field of the request is another."""

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", exchange())
        async with replaying(path) as (server, client):
            client.send(request('{"a": 1, "b": 3}'))
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
            client.writer.write_eof()
            error = json.loads(await client.read_all())["error"]
            assert error["nearest"]["exchange_id"] == server.report()["unused"][0]
            assert error["differs_in"] == "body.b"
            assert (error["recorded"], error["received"]) == ("2", "3")
            assert (server.served, server.missed) == (0, 1)

    run(main())


def test_what_is_ignored_never_misses(run: Run, tmp_path: Path) -> None:
    """Equal requests are answered in recorded order, whatever their ids are."""
    takes = [
        exchange(reason=f"Take {n}", request_body=b'{"a": 1, "b": %d}' % n)
        for n in (1, 2)
    ]

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", *takes)
        options = {"ignore": ["b"], "match_headers": ["X-Tenant"]}
        async with replaying(path, MAX_SPEED, **options) as (_, client):
            for number, body in ((1, '{"a":1,"b":9}'), (2, '{"a":1}')):
                client.send(request(body))
                assert f"Take {number}".encode() in await client.read_until(b"\r\n")
                await client.read_until(b"\r\n0\r\n\r\n")
            client.send(request().replace(b"Host", b"x-tenant: b\r\nHost"))
            client.writer.write_eof()
            error = (await client.read_all()).partition(b"\r\n\r\n")[2]
            assert json.loads(error)["error"]["differs_in"] == "headers.x-tenant"

    run(main())


def test_who_replays_has_other_credentials_than_who_recorded(
    run: Run, tmp_path: Path
) -> None:
    """A request is found whatever the lengths of the secrets in its body are."""
    keys = [f"sk-ant-api03-{'Ab3' * size}" for size in (9, 30)]

    def chat(key: str, content: str = "**Hi**") -> bytes:
        message = f"{content}, I am {key}"
        return request(json.dumps({"api_key": key[:-20], "messages": [message]}))

    async def answer_twice(peer: Peer) -> None:
        for key in keys:
            await peer.read_until(json.dumps(f"**Hi**, I am {key}").encode() + b"]}")
            peer.send(answer(b"data: ok\n\n") + b"0\r\n\r\n")

    async def main() -> None:
        async with upstream(answer_twice) as port:
            recorder = Recorder(f"http://127.0.0.1:{port}", store=tmp_path)
            await recorder.start()
            async with connected(recorder.url) as client:
                for key in keys:
                    client.send(chat(key))
                    await client.read_until(b"\r\n0\r\n\r\n")
            await recorder.stop(grace_s=0.2)
        async with replaying(tmp_path, MAX_SPEED) as (server, client):
            for key in ("sk-ant-api03-" + "Xy7" * 15, *keys):
                client.send(chat(key))
                await client.read_until(b"\r\n0\r\n\r\n")
            assert (server.served, server.missed) == (3, 0)
            client.send(chat(keys[0], content="*Hi*"))
            assert b" 404 " in await client.read_until(b"\r\n")

    run(main())
    with Store.open(tmp_path) as store:
        first, second = store.exchanges()
    assert first.request_key == second.request_key
    assert len(first.request_body) < len(second.request_body)
    assert b"Ab3" not in first.request_body + second.request_body


def test_the_status_of_a_miss_can_be_chosen(run: Run, tmp_path: Path) -> None:
    """SDKs treat a 404 and a 503 apart, and so may a test want."""
    path = saved(tmp_path / "a.sse.jsonl", exchange())

    async def main() -> None:
        for status, line in ((503, b"503 Service Unavailable"), (529, b"529 ")):
            async with replaying(path, on_miss=status) as (_, client):
                client.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
                head = await client.read_until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 " + line + b"\r\n")

    run(main())


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "eof"])
def test_a_break_is_a_break_at_the_same_byte(
    run: Run, tmp_path: Path, *, reset: bool
) -> None:
    """A reset is read as a reset, and an end without a terminator as that."""
    error = "reset: x" if reset else "eof: x"
    broken = exchange(outcome=Outcome.UPSTREAM_ABORT, error=error)

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", broken)
        async with replaying(path) as (_, client):
            client.send(request())
            await client.expect(WHOLE.removesuffix(b"0\r\n\r\n"))
            if reset:
                with pytest.raises(ConnectionResetError):
                    await client.read_all()
            else:
                await client.expect_end()

    run(main())


def test_a_slow_reader_loses_nothing(run: Run, tmp_path: Path) -> None:
    """A replay waits for its client, and then goes on where it was."""
    big = [Chunk(30 * MS, bytes([65 + n % 26]) * (1 << 20)) for n in range(24)]
    path = tmp_path / "a.sse.jsonl"
    path.write_text(cassette.dumps(exchange(), big))

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (_, client):
            client.send(request())
            await asyncio.sleep(0.2)  # the server can send no more by now
            data = answer(*(chunk.data for chunk in big)) + b"0\r\n\r\n"
            assert await client.reader.readexactly(len(data)) == data

    run(main())


def test_a_client_that_waits_to_be_told_to_go_on_is_told(
    run: Run, tmp_path: Path
) -> None:
    """A curl sends a large body only after `100 Continue`, or after a second."""

    async def main() -> None:
        path = saved(tmp_path / "a.sse.jsonl", exchange())
        async with replaying(path, MAX_SPEED) as (_, client):
            head, body = request().split(b"\r\n\r\n")
            client.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
            client.send(body)
            await client.expect(WHOLE)

    run(main())


def test_a_break_at_the_highest_speed_loses_no_byte(run: Run, tmp_path: Path) -> None:
    """A reset throws away what was not taken yet, so it waits until all is."""
    big = [Chunk(30 * MS, b"x" * 1_000_000), Chunk(31 * MS, b"y" * 1_000_000)]
    broken = exchange(outcome=Outcome.UPSTREAM_ABORT, error="reset: x")
    path = tmp_path / "a.sse.jsonl"
    path.write_text(cassette.dumps(broken, big))

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (_, client):
            client.send(request())
            await asyncio.sleep(0.3)  # the server is through with it by now
            await client.expect(answer(*(chunk.data for chunk in big)))
            with pytest.raises(ConnectionResetError):
                await client.read_all()

    run(main())


def test_a_client_that_does_not_read_costs_little(run: Run, tmp_path: Path) -> None:
    """Its steps wait, one by one, and are told apart from those that left late."""
    big = [Chunk(n * MS, b"x" * 100_000) for n in range(30, 330)]
    path = tmp_path / "a.sse.jsonl"
    path.write_text(cassette.dumps(exchange(), big))

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (server, client):
            client.send(request())
            await asyncio.sleep(0.3)
            assert 0 < server.lateness.count < 200
            data = answer(*(chunk.data for chunk in big)) + b"0\r\n\r\n"
            assert await client.reader.readexactly(len(data)) == data
            assert server.held + server.lateness.count == len(big) + 2
            assert server.held > 100

    run(main())


def test_headers_of_a_connection_are_not_replayed(run: Run, tmp_path: Path) -> None:
    """The live client did not see them either."""
    headers = (("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "9"))
    path = saved(
        tmp_path / "a.sse.jsonl",
        exchange(response_headers=(*headers, *exchange().response_headers)),
    )

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (_, client):
            client.send(request())
            head = await client.read_until(b"\r\n\r\n")
            assert b"Hop" not in head
            assert b"Keep-Alive" not in head

    run(main())


def test_a_head_that_cannot_be_sent_is_refused_when_it_is_loaded(
    tmp_path: Path,
) -> None:
    """A cassette that somebody edited fails before a client waits for it."""
    path = saved(
        tmp_path / "a.sse.jsonl", exchange(response_headers=(("X", "\u6f22"),))
    )
    with pytest.raises(StoreError, match="cannot be served"):
        ReplayServer(path)


def test_incomplete_and_open_exchanges_are_not_served(tmp_path: Path) -> None:
    """What the recorder itself did not get whole is no fixture."""
    path = saved(
        tmp_path / "a.sse.jsonl", exchange(outcome=Outcome.INCOMPLETE), exchange()
    )
    server = ReplayServer(path)
    assert (server.loaded, server.skipped) == (1, 1)
    with pytest.raises(StoreError, match="no exchange that can be served"):
        ReplayServer(
            saved(tmp_path / "b.sse.jsonl", exchange(outcome=Outcome.INCOMPLETE))
        )


ONE, PING = b"data: one\n\n", b": ping\n\n"
TWO, THREE = "event: e\ndata: né\n\n".encode(), b"data: three\n\n"
EVENTS = ONE + PING + TWO + THREE


def between_line_ends(data: bytes) -> list[bytes]:
    """Cut data inside of each blank line."""
    return data.replace(b"\n\n", b"\n|\n").split(b"|")


BREAKS = {
    "cut@event:1": (ONE, False),
    "reset@event:1": (ONE, True),
    "cut@bytes:7": (EVENTS[:7], False),
    "reset@bytes:13": (EVENTS[:13], True),
    "reset@ms:15": (ONE + PING, True),
}
CHANGES = {
    "drop@event:2": (ONE + PING, THREE),
    "duplicate@event:2": (ONE + PING, TWO, TWO, THREE),
    "delay=10ms@event:1": (ONE, PING, TWO + THREE),
    "stall=20ms@event:1": (ONE, PING, TWO + THREE),
    "first-byte=20ms": (ONE + PING, TWO + THREE),
    "reslice=merge": (EVENTS,),
    "reslice=1": tuple(bytes([byte]) for byte in EVENTS),
    "reslice=crlf": tuple(
        piece for data in (ONE + PING, TWO + THREE) for piece in between_line_ends(data)
    ),
    "reslice=utf8": (ONE + PING, TWO[:17], TWO[17:] + THREE),
    "error=late@event:1": (
        ONE,
        b'event: error\ndata: {"error":{"type":"injected_fault","message":"late"}}\n\n',
    ),
}


def two_chunks(path: Path) -> Path:
    """Save an exchange with events in two chunks, 10 ms apart."""
    chunks = [Chunk(20 * MS, ONE + PING), Chunk(30 * MS, TWO + THREE)]
    path.write_text(
        cassette.dumps(exchange(headers_ns=15 * MS, ended_ns=40 * MS), chunks)
    )
    return path


@pytest.mark.parametrize("fault", BREAKS)
def test_a_fault_breaks_the_connection_where_it_says(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """The socket has all that is before the place, and then the break."""
    body, is_reset = BREAKS[fault]
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, faults=[fault]) as (server, client):
            client.send(request())
            received = await client.read_until(b"\r\n\r\n")
            more, was_reset = await to_the_end(client)
            received += more
            assert was_reset == is_reset
            assert unchunked(received.partition(b"\r\n\r\n")[2]) == body
            (line,) = server.fault_report
            assert line.startswith(f"POST /chat: {fault}: ")

    run(main())


async def to_the_end(client: Peer) -> tuple[bytes, bool]:
    """Return what comes, and whether a reset ends it."""
    received = b""
    try:
        while data := await client.reader.read(1):
            received += data
    except ConnectionResetError:
        return received, True
    return received, False


def unchunked(data: bytes) -> bytes:
    """Return the payload of whole chunks."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return body


@pytest.mark.parametrize("fault", CHANGES)
def test_a_fault_changes_the_stream_as_it_says(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """The socket has these chunks and no others, and then the end."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, faults=[fault]) as (_, client):
            client.send(request())
            await client.expect(answer(*CHANGES[fault]) + b"0\r\n\r\n")

    run(main())


def test_random_chunks_have_the_same_bytes_and_come_again(
    run: Run, tmp_path: Path
) -> None:
    """A seed says where the cuts are."""
    path = two_chunks(tmp_path / "a.sse.jsonl")
    wires = []

    async def main() -> None:
        for seed in (1, 1, 2):
            faults = ["reslice=random"]
            async with replaying(path, faults=faults, seed=seed) as (_, client):
                client.send(request())
                received = await client.read_until(b"\r\n0\r\n\r\n")
                wires.append(received.partition(b"\r\n\r\n")[2])

    run(main())
    assert wires[0] == wires[1] != wires[2]
    assert {unchunked(wire) for wire in wires} == {EVENTS}
    assert wires[0].count(b"\r\n") > 2 * 3


def test_one_byte_is_corrupt_and_the_same_one_again(run: Run, tmp_path: Path) -> None:
    """The same seed gives the same bytes; another seed gives others."""
    path = two_chunks(tmp_path / "a.sse.jsonl")
    bodies = []

    async def main() -> None:
        for seed in (1, 1, 2):
            faults = ["corrupt@event:2"]
            async with replaying(path, faults=faults, seed=seed) as (_, client):
                client.send(request())
                received = await client.read_until(b"\r\n0\r\n\r\n")
                bodies.append(received.partition(b"\r\n\r\n")[2])

    run(main())
    assert bodies[0] == bodies[1] != bodies[2]
    clean = answer(ONE + PING, TWO + THREE).partition(b"\r\n\r\n")[2] + b"0\r\n\r\n"
    assert sum(a != b for a, b in zip(bodies[0], clean, strict=True)) == 1


def test_a_stall_ends_with_its_client(run: Run, tmp_path: Path) -> None:
    """Nothing more comes, and the connection stays."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, faults=["stall@event:1"]) as (server, client):
            client.send(request())
            await client.expect(answer(ONE))
            await expect_silence(client)
            assert len(server.playing) == 1

    run(main())


async def expect_silence(client: Peer) -> None:
    """Read nothing for a while, and no end either."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.15)


def test_several_faults_act_one_behind_the_other(run: Run, tmp_path: Path) -> None:
    """The second counts what the first one gave."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        faults = ["duplicate@event:1", "cut@event:3"]
        async with replaying(path, faults=faults) as (_, client):
            client.send(request())
            await client.expect_end(answer(ONE, ONE, PING, TWO))

    run(main())


DELAYS = {
    "delay=300ms@event:2": (ONE + PING, TWO, 20 + 300),
    "stall=300ms@event:1": (ONE, PING, 10 + 300),
    "stall=300ms@ms:15": (ONE + PING, TWO, 20 + 300),
    "first-byte=300ms": (b"", ONE, 10 + 300),
}


@pytest.mark.parametrize("fault", DELAYS)
def test_a_fault_that_takes_time_takes_it_where_it_says(
    run: Run, tmp_path: Path, fault: str
) -> None:
    """What is before the place is not late, and what is behind it is not early."""
    before, behind, after_ms = DELAYS[fault]
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, faults=[fault]) as (_, client):
            began_ns = MONOTONIC_NS()
            client.send(request())
            if before:
                await client.read_until(before)
                assert MONOTONIC_NS() - began_ns < after_ms * MS
            await client.read_until(behind)
            assert MONOTONIC_NS() - began_ns >= after_ms * MS

    run(main())


LEFT = "not done: the client left"


def test_what_a_client_did_not_see_is_not_told_as_done(
    run: Run, tmp_path: Path
) -> None:
    """The report is of what was played: not of what would have been."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        for fault, says in (
            ("cut@ms:3600000", f"{LEFT} before it was due, at 3,600,000.0 ms"),
            ("stall@event:1", "stalled at 10.0 ms"),
        ):
            stall = ["stall@event:1"] if fault.startswith("cut") else []
            async with replaying(path, faults=[*stall, fault]) as (server, client):
                client.send(request())
                await client.read_until(ONE)
                await asyncio.sleep(0.1)
                assert server.fault_report == []
                await client.close()
                await until_over(server)
                assert server.fault_report[-1].startswith(
                    f"POST /chat: {fault}: {says}"
                )

    run(main())


async def until_over(server: ReplayServer) -> None:
    """Wait until nothing is being played."""
    async with asyncio.timeout(5):
        while server.playing:  # noqa: ASYNC110 - there is nobody who would tell
            await asyncio.sleep(0.01)


def test_at_any_pace_only_what_was_sent_is_told(run: Run, tmp_path: Path) -> None:
    """At the highest speed all is due at once, and a client may take none of it."""
    big = [Chunk(n * MS, b"data: %0100000d\n\n" % n) for n in range(30, 330)]
    path = tmp_path / "a.sse.jsonl"
    path.write_text(cassette.dumps(exchange(), big))

    async def main() -> None:
        faults = ["duplicate@event:1", "drop@event:290", "reset@event:300"]
        options = {"faults": faults}
        async with replaying(path, MAX_SPEED, **options) as (server, client):
            client.send(request())
            await client.read_until(b"\r\n\r\n")
            await asyncio.sleep(0.3)
            client.writer.transport.abort()
            await until_over(server)
            done, *others = server.fault_report
            assert done.endswith("duplicated event 1 at 0.0 ms")
            assert [line.partition(";")[0] for line in others] == [
                f"POST /chat: {fault}: {LEFT}" for fault in faults[1:]
            ]

    run(main())


def test_what_is_not_released_is_not_told_as_done(run: Run, tmp_path: Path) -> None:
    """In step mode it is the events that were let go which say what happened."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        for events, says in ((1, LEFT), (2, "cut at ")):
            faults = ["cut@event:2"]
            async with replaying(path, faults=faults, step=True) as (server, client):
                client.send(request())
                await client.read_until(b"\r\n\r\n")
                server.release(events)
                await client.read_until(ONE if events == 1 else TWO)
                await client.close()
                await until_over(server)
                (line,) = server.fault_report
                assert line.startswith(f"POST /chat: cut@event:2: {says}")

    run(main())


def test_one_request_asks_for_its_own_pace_fault_and_scope(
    run: Run, tmp_path: Path
) -> None:
    """Headers ask for them, take no part in matching, and hold for that request."""
    path = saved(
        tmp_path / "a.sse.jsonl", *(exchange(reason=f"Take {n}") for n in (1, 2))
    )

    async def main() -> None:
        async with replaying(path, 0.01, faults=["drop@event:1"]) as (server, client):

            async def ask(headers: str) -> tuple[bytes, bytes]:
                fast = f"\r\nX-SSE-Recorder-Speed: max{headers}\r\n\r\n"
                client.send(request().replace(b"\r\n\r\n", fast.encode()))
                head = await client.read_until(b"\r\n\r\n")
                body = await client.read_until(b"0\r\n\r\n")
                return head.partition(b"\r\n")[0][-6:], unchunked(body)

            everything = b"".join(chunk.data for chunk in CHUNKS)
            fault = "\r\nX-SSE-Recorder-Fault: "
            assert await ask("") == (b"Take 1", b"data")
            assert await ask(f"{fault}none") == (b"Take 2", everything)
            scope = "\r\nx-sse-recorder-scope: b"
            assert await ask(f"{fault}none{scope}") == (b"Take 1", everything)
            twice = "duplicate@event:1"
            for both in (
                f"{fault}{twice};{twice}",
                f"{fault}{twice} ; {twice}",
                f"{fault}{twice}, {twice}",
                f"{fault}{twice}{fault}{twice}",
            ):
                three = CHUNKS[0].data * 3 + b"data"
                assert await ask(both) == (b"Take 2", three)
            assert server.served == 7
            assert len(server.fault_report) == 1 + 4 * 2

    run(main())


def test_a_comma_may_be_part_of_a_fault(run: Run, tmp_path: Path) -> None:
    """Only where another fault begins behind it is it between two."""
    path = saved(tmp_path / "a.sse.jsonl", exchange())

    async def main() -> None:
        async with replaying(path) as (_, client):
            faults = b"status=429,retry-after=2, reslice=merge3"
            header = b"X-SSE-Recorder-Fault: " + faults + b"\r\nHost"
            client.send(request().replace(b"Host", header))
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429 ")
            assert b"\r\nRetry-After: 2\r\n" in head

    run(main())


def test_what_is_asked_of_a_replay_goes_to_nobody_else(
    run: Run, tmp_path: Path
) -> None:
    """An upstream that answers a miss gets the request without headers of ours."""
    path, app = saved(tmp_path / "a.sse.jsonl", exchange()), App()

    async def main() -> None:
        async with replaying(path, fallback=app) as (_, client):
            wishes = b"x-sse-recorder-fault: none\r\nX-SSE-Recorder-Scope: s\r\n"
            client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n" + wishes + b"A: 1\r\n\r\n")
            await client.expect(ok(b"/b "))
            assert app.received[0].head.headers == (("Host", "a"), ("A", "1"))

    run(main())


def left_by_its_client(path: Path, **changes: Any) -> Path:
    """Save an exchange that the client left 10 ms after the last chunk."""
    return saved(path, exchange(outcome=Outcome.CLIENT_ABORT, **changes))


BODY = WHOLE.removesuffix(b"0\r\n\r\n")


@pytest.mark.parametrize("speed", [1, MAX_SPEED])
def test_what_a_client_left_is_open_until_the_next_one_leaves(
    run: Run, tmp_path: Path, speed: float
) -> None:
    """It was the client that decided, so whoever has a timeout sees it again."""
    path = left_by_its_client(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, speed) as (server, client):
            client.send(request())
            await client.expect(BODY)
            await expect_silence(client)
            await client.close()
            await until_over(server)
            assert server.outstayed == []
            assert server.lateness.count == 4

    run(main())


def test_who_does_not_leave_is_left_in_the_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the grace is over, the connection ends in order, and that is told."""
    monkeypatch.setattr(playback, "GRACE_NS", 300 * MS)
    path = left_by_its_client(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (server, client):
            client.send(request())
            await client.expect(BODY)
            began_ns = MONOTONIC_NS()
            await client.expect_end()
            assert 250 * MS < MONOTONIC_NS() - began_ns < 5_000 * MS
            (one,) = server.outstayed
            assert server.report()["outstayed"] == [one.exchange_id]

    run(main())


def test_who_left_before_the_head_is_waited_for_as_well(
    run: Run, tmp_path: Path
) -> None:
    """A client that gave up on a slow model gives up again, and sees no error."""
    path = left_by_its_client(tmp_path / "a.sse.jsonl", status=None)
    text = path.read_text().splitlines()
    path.write_text("\n".join((text[0], text[-1], "")))

    async def main() -> None:
        async with replaying(path, MAX_SPEED) as (_, client):
            client.send(request())
            await expect_silence(client)

    run(main())


async def answered(url: str, *requests: bytes) -> tuple[bytes, bool]:
    """Return all that a client gets for some requests, and whether by a reset."""
    async with connected(url) as client:
        *first, last = requests
        for one in first:
            client.send(one)
            await client.read_until(b"\r\n0\r\n\r\n")
        client.send(last)
        async with asyncio.timeout(10):
            return await to_the_end(client)


CLOSE = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
AGAIN = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("how", ["silent", "closed", "kept", "kept-reset"])
def test_an_answer_that_never_came_is_replayed_to_the_byte(
    run: Run, tmp_path: Path, how: str
) -> None:
    """What the recorder said in place of the upstream, and what it did not say."""

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        if how.startswith("kept"):
            peer.send(answer(b"data: 1\n\n") + b"0\r\n\r\n")
            await peer.read_until(b"\r\n\r\n")
        if how == "kept-reset":
            reset_connection(cast("asyncio.Transport", peer.writer.transport))
        elif how == "silent":
            await peer.read_all()

    requests = (AGAIN, AGAIN) if how.startswith("kept") else (CLOSE,)

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=tmp_path, upstream_timeout_s=0.3
            )
            await recorder.start()
            live = await answered(recorder.url, *requests)
            await recorder.stop(grace_s=0.2)
        async with replaying(tmp_path, MAX_SPEED) as (server, _):
            assert await answered(server.url, *requests) == live
        expected = {"silent": b'"upstream_timeout"', "closed": b'"upstream_error"'}
        assert expected.get(how, b"") in live[0]
        assert live[1] == (how == "kept-reset")

    run(main())


def test_what_was_recorded_without_its_client_has_its_end(
    run: Run, tmp_path: Path
) -> None:
    """The upstream sent all of it, so the next client can have it all."""
    gone = asyncio.Event()
    first, rest = answer(ONE), b"5\r\n: hi\n\r\n0\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.read_until(b"\r\n\r\n")
        peer.send(first)
        await gone.wait()
        peer.send(rest)
        await peer.read_all()

    async def main() -> None:
        async with upstream(script) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=tmp_path, on_client_abort="finish"
            )
            await recorder.start()
            async with connected(recorder.url) as client:
                client.send(CLOSE)
                await client.expect(first)
                await client.close()
            gone.set()
            await recorder.stop(grace_s=5)
        async with replaying(tmp_path, MAX_SPEED) as (server, _):
            assert await answered(server.url, CLOSE) == (first + rest, False)

    run(main())


def test_a_replay_that_was_left_is_let_go(run: Run, tmp_path: Path) -> None:
    """Its timer is set for an hour later, and keeps nothing of it until then."""
    path = saved(tmp_path / "a.sse.jsonl", exchange(ended_ns=3_600_000 * MS))

    async def main() -> None:
        async with replaying(path) as (server, client):
            client.send(request())
            await client.expect(BODY)
            left = weakref.ref(next(iter(server.playing)))
            await client.close()
            await until_over(server)
            gc.collect()
            assert left() is None

    run(main())


@pytest.mark.parametrize(
    "header", ["Speed: fast", "Speed: 1e-300", "Fault: explode", "Fault: none;explode"]
)
def test_what_cannot_be_asked_for_is_told(
    run: Run, tmp_path: Path, header: str
) -> None:
    """A request that asks for what there is not is answered 400, with what there is."""
    path = saved(tmp_path / "a.sse.jsonl", exchange())

    async def main() -> None:
        async with replaying(path) as (server, client):
            head = f"\r\nX-SSE-Recorder-{header}\r\n\r\n".encode()
            client.send(request().replace(b"\r\n\r\n", head))
            received = await client.read_until(b"\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            client.writer.write_eof()
            error = json.loads(await client.read_all())["error"]
            assert error["type"] == "bad_control_header"
            assert "give" in error["message"]
            assert server.served == 0

    run(main())


def test_events_go_when_they_are_released(run: Run, tmp_path: Path) -> None:
    """In step mode a test says when the next events come."""
    path = two_chunks(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, step=True) as (server, client):
            client.send(request())
            await client.expect(answer())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.1)
            server.release(1)
            await client.expect(b"b\r\n" + ONE + b"\r\n")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.1)
            server.release(5)
            assert (
                unchunked(await client.read_until(b"0\r\n\r\n")) == PING + TWO + THREE
            )
            assert server.lateness.count == 0

    run(main())


def test_a_response_that_is_held_open_takes_no_release(
    run: Run, tmp_path: Path
) -> None:
    """It has nothing left to release: what is let go is for the next request."""
    path = left_by_its_client(tmp_path / "a.sse.jsonl")

    async def main() -> None:
        async with replaying(path, step=True) as (server, client):
            client.send(request())
            await client.expect(answer())
            assert len(server.awaiting_release()) == 1
            server.release(99)
            await client.expect(BODY.removeprefix(answer()))
            assert server.awaiting_release() == []
            server.release(99)
            async with connected(server.url) as another:
                another.send(request())
                await another.expect(BODY)
                assert len(server.playing) == 2

    run(main())


def test_a_replay_can_be_held_to_its_times(run: Run, tmp_path: Path) -> None:
    """A test says how late is too late, and is told how late it was."""
    path = saved(tmp_path / "a.sse.jsonl", exchange())

    async def main() -> None:
        async with replaying(path) as (server, client):
            with pytest.raises(AssertionError, match="nothing was played"):
                server.assert_punctual(max_ms=1e9)
            client.send(request())
            await client.expect(WHOLE)
            server.assert_punctual(p50_ms=1e6, p99_ms=1e6, max_ms=1e6)
            with pytest.raises(AssertionError, match="not punctual: n=5 p50="):
                server.assert_punctual(max_ms=0)
            report = json.loads(json.dumps(server.report()))
            assert (report["served"], report["missed"]) == (1, 0)
            assert report["lateness_by_streams"]["1"]["count"] == 5

    run(main())


def test_the_pace_is_for_every_response(run: Run, tmp_path: Path) -> None:
    """A cap on gaps is kept by the clock of the client."""
    path = saved(tmp_path / "a.sse.jsonl", exchange(ended_ns=5_000 * MS))

    async def main() -> None:
        pace = Pace(max_gap_ns=10 * MS)
        async with replaying(path, pace=pace) as (_, client):
            began = asyncio.get_running_loop().time()
            client.send(request())
            await client.expect(WHOLE)
            assert asyncio.get_running_loop().time() - began < 2
        slow_head = Pace(ttfb_ns=200 * MS, speed=MAX_SPEED)
        async with replaying(path, pace=slow_head) as (_, client):
            began_ns = MONOTONIC_NS()
            client.send(request())
            await client.expect(WHOLE)
            assert MONOTONIC_NS() - began_ns >= 200 * MS

    run(main())


@pytest.mark.slow
def test_two_thousand_clients_are_served_at_once(run: Run, tmp_path: Path) -> None:
    """All of them have begun before any has its end, and each gets every byte."""
    chunks = [Chunk(n * 100 * MS, b"data: %d\n\n" % n) for n in range(1, 51)]
    source = tmp_path / "long.sse.jsonl"
    long = exchange(sent_ns=0, headers_ns=0, ended_ns=5_000 * MS)
    source.write_text(cassette.dumps(long, chunks))
    whole = answer(*(chunk.data for chunk in chunks)) + b"0\r\n\r\n"

    async def main() -> None:
        server = ReplayServer(source)
        await server.start()

        async def one() -> bytes:
            async with connected(server.url) as client:
                client.send(request())
                return await client.read_until(b"0\r\n\r\n")

        clients = asyncio.gather(*(one() for _ in range(2_000)))
        most = 0
        while not clients.done():
            most = max(most, len(server.playing))
            await asyncio.sleep(0.05)
        await server.stop()
        assert set(clients.result()) == {whole}
        assert most == server.served == 2_000

    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files()
    try:
        run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, given)
