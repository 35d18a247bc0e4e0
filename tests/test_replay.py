"""Replays: what is sent when, and how a request finds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from http1.wire import Peer, Run, upstream
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Chunk, Exchange, Outcome
from sse_recorder.proxy import Recorder
from sse_recorder.replay import (
    MAX_SPEED,
    Break,
    Data,
    End,
    Fail,
    Head,
    Lateness,
    Player,
    Recording,
    ReplayServer,
)
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

MS = 1_000_000
CHUNKS = [Chunk(30 * MS, b"data: a\n\n"), Chunk(50 * MS, b"da"), Chunk(50 * MS, b"ta")]


def exchange(**changes: object) -> Exchange:
    """Return an exchange that went well, changed as a test needs it."""
    values: dict[str, object] = {
        "exchange_id": "01936a3e-8c00-7abc-9def-0123456789ab",
        "recorder_id": "r",
        "started_at": 1_700_000_000_000_000_000,
        "method": "POST",
        "url": "http://host/chat?x=1",
        "path": "/chat",
        "request_headers": (("Content-Type", "application/json"),),
        "request_body": b'{"a": 1, "b": 2}',
        "status": 200,
        "reason": "OK",
        "http_version": "1.1",
        "response_headers": (
            ("Content-Type", "text/event-stream"),
            ("Transfer-Encoding", "chunked"),
        ),
        "outcome": Outcome.COMPLETE,
        "sent_ns": 10 * MS,
        "headers_ns": 20 * MS,
        "ended_ns": 60 * MS,
    }
    return Exchange(**(values | changes))  # type: ignore[arg-type]


def saved(path: Path, *exchanges: Exchange) -> Path:
    """Save exchanges with the chunks above as a cassette."""
    path.write_text("".join(cassette.dumps(one, CHUNKS) for one in exchanges))
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


def played(player: Player, now_ns: int) -> list[tuple[int, object]]:
    """Take all that is due by a moment."""
    return list(iter(lambda: player.take(now_ns), None))


def test_due_times_count_from_the_end_of_the_request() -> None:
    """What the server took is kept; what the request took is the client's affair."""
    player = Player(Recording(exchange(), CHUNKS), anchor_ns=1_000 * MS)
    steps = played(player, 10_000 * MS)
    assert [due // MS for due, _ in steps] == [1_010, 1_020, 1_040, 1_040, 1_050]
    assert [type(step) for _, step in steps] == [Head, Data, Data, Data, End]
    assert player.due_ns is None


def test_a_step_is_given_when_it_is_due_and_not_before() -> None:
    """The machine has no clock: it is told what time it is."""
    player = Player(Recording(exchange(), CHUNKS), anchor_ns=0)
    assert player.due_ns == 10 * MS
    assert player.take(10 * MS - 1) is None
    assert [due for due, _ in played(player, 20 * MS)] == [10 * MS, 20 * MS]
    assert player.take(40 * MS - 1) is None
    assert [step for _, step in played(player, 40 * MS)] == [Data(b"da"), Data(b"ta")]


@given(st.floats(0.01, 1000), st.integers(0, 10**15))
def test_speed_divides_every_offset(speed: float, anchor_ns: int) -> None:
    """Twice as fast is half the time, from the same anchor, for every step."""
    recording = Recording(exchange(), CHUNKS)
    plain = played(Player(recording, 0), 10**18)
    fast = played(Player(recording, anchor_ns, speed=speed), 10**18)
    for (due_ns, step), (fast_ns, same) in zip(plain, fast, strict=True):
        assert fast_ns - anchor_ns == round(due_ns / speed)
        assert step == same


def test_the_highest_speed_waits_for_nothing() -> None:
    """With `max` everything is due when the request is complete."""
    player = Player(Recording(exchange(), CHUNKS), 77, speed=MAX_SPEED)
    assert {due for due, _ in played(player, 77)} == {77}


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"outcome": Outcome.UPSTREAM_ABORT, "error": "reset: …"}, Break(reset=True)),
        ({"outcome": Outcome.UPSTREAM_ABORT, "error": "eof: …"}, Break(reset=False)),
        ({"outcome": Outcome.CLIENT_ABORT}, Break(reset=False)),
        ({"response_trailers": (("X", "1"),)}, End((("X", "1"),))),
        (
            {"status": None, "outcome": Outcome.UPSTREAM_ERROR, "error": "refused"},
            Fail(HTTPStatus.BAD_GATEWAY, "refused"),
        ),
        ({"status": None, "outcome": Outcome.CLIENT_ABORT}, Break(reset=False)),
        (
            {"status": None, "outcome": Outcome.TIMEOUT, "error": None},
            Fail(HTTPStatus.GATEWAY_TIMEOUT, "the upstream gave no answer"),
        ),
    ],
)
def test_an_exchange_ends_as_it_ended(changes: dict[str, object], last: object) -> None:
    """Clients treat an end, a reset and an error apart, so a replay does, too."""
    steps = played(Player(Recording(exchange(**changes), CHUNKS), 0), 10**12)
    assert steps[-1] == (50 * MS, last)


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
            assert min(server.lateness_ns) >= 0

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
            assert error["nearest"]["exchange_id"] == exchange().exchange_id
            assert error["differs_in"] == "body.b"
            assert (error["recorded"], error["received"]) == ("2", "3")
            assert (server.served, server.missed) == (0, 1)

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
        miss = HTTPStatus.SERVICE_UNAVAILABLE
        async with replaying(path, on_miss=miss) as (_, client):
            client.send(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")

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


def test_lateness_says_the_nearest_rank() -> None:
    """Percentiles of few values are values that occurred."""
    assert Lateness.of([]) == Lateness(0, 0, 0, 0)
    assert Lateness.of([5]) == Lateness(1, 5, 5, 5)
    assert Lateness.of(range(101)) == Lateness(101, 50, 99, 100)
    text = str(Lateness(2, 1_500_000, 2_000_000, 2_000_001))
    assert text == "n=2 p50=1.500 ms p99=2.000 ms max=2.000 ms"
