"""The replay transport: recorded chunks at their times, and what is no recording."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from transport.clients import FRAMES, MS, Client, Upstream, Way, done, only

from recordings import CHUNKS, exchange
from sse_recorder import MAX_SPEED, RecordingTransport, ReplayMissError, ReplayTransport
from sse_recorder.store import cassette


@pytest.fixture(scope="module")
def chat(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a chat of five chunks, 30 ms apart."""
    root = tmp_path_factory.mktemp("chat")
    with httpx.Client(transport=RecordingTransport(root)) as client:
        client.post(f"{upstream.url}/chat", json={"q": "hi"})
    return root


URL: Final = "http://nobody.invalid/chat"


def test_a_replay_has_the_recorded_chunks_at_their_times(way: Way, chat: Path) -> None:
    """With nobody there to answer, and with its lateness told."""
    one, chunks = only(chat)

    async def main() -> None:
        transport = ReplayTransport(chat)
        async with Client(way, transport) as client:
            read = await client.read("POST", URL, json={"q": "hi"})
        response = read.response
        assert read.data == FRAMES
        head = (response.status_code, response.reason_phrase, response.http_version)
        assert head == (200, "Fine", "HTTP/1.1")
        raw = [(k.decode(), v.decode()) for k, v in response.headers.raw]
        assert raw == list(one.response_headers)
        sent_ns = one.sent_ns or 0
        for mine, its in zip(read.chunks, chunks, strict=True):
            assert 0 <= mine.at_ns - (its.at_ns - sent_ns) < 50 * MS
        assert transport.lateness.count == 7  # the head and the end are steps, too
        assert transport.lateness.p50_ns < 10 * MS
        assert (transport.held, transport.served, len(transport.playing)) == (0, 1, 0)

    done(main())


def test_a_client_that_is_slow_makes_nothing_late(way: Way, chat: Path) -> None:
    """Steps that were due before anybody wanted them are counted apart."""

    async def main() -> None:
        transport = ReplayTransport(chat, speed=MAX_SPEED)
        async with Client(way, transport) as client:
            read = await client.read("POST", URL, json={"q": "hi"})
        assert read.data == FRAMES
        assert (transport.held, transport.lateness.count) == (6, 1)

    done(main())


def test_many_async_replays_share_a_timer(chat: Path) -> None:
    """Streams at once need no descriptor each, and loops that are gone are let go."""
    transport = ReplayTransport(chat)

    async def main(count: int) -> None:
        # Not closed, as the clients of SDKs are not.
        client = httpx.AsyncClient(transport=transport)

        async def ask() -> list[bytes]:
            async with client.stream("POST", URL, json={"q": "hi"}) as response:
                return [chunk async for chunk in response.aiter_raw()]

        found = await asyncio.gather(*(ask() for _ in range(count)))
        assert found == [FRAMES] * count
        assert len(transport._timers) == 1

    done(main(1))
    done(main(300))
    assert next(iter(transport.lateness_by_streams())) == "1"


def test_a_miss_says_what_differs(way: Way, chat: Path) -> None:
    """By a status that SDKs neither retry nor hide, with the nearest recording."""
    one, _ = only(chat)

    async def main() -> None:
        transport = ReplayTransport(chat)
        async with Client(way, transport) as client:
            response = await client.request("POST", URL, json={"q": "ho"})
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["nearest"]["exchange_id"] == one.exchange_id
        told = (error["differs_in"], error["recorded"], error["received"])
        assert told == ("body.q", "hi", "ho")
        assert (transport.served, transport.missed) == (0, 1)

    done(main())


def test_a_miss_can_be_raised(way: Way, chat: Path) -> None:
    """It is an error of the library and of ours, and tells the same."""
    one, _ = only(chat)

    async def main() -> None:
        async with Client(way, ReplayTransport(chat, on_miss="raise")) as client:
            with pytest.raises(ReplayMissError) as raised:
                await client.request("POST", URL, json={"q": "ho"})
        assert isinstance(raised.value, way.library.TransportError)
        assert str(raised.value) == (
            "No recording matches POST /chat: the nearest recording differs in body.q;"
            " send a request that was recorded, or record this one with `sse-recorder"
            f" record`. The nearest is {one.exchange_id}: body.q was hi there, and is"
            " ho here."
        )

    done(main())


def test_what_is_ignored_never_misses(way: Way, chat: Path) -> None:
    """And a header that takes part does, where it is another."""

    async def main() -> None:
        strict = ReplayTransport(chat, speed=MAX_SPEED, on_miss="raise")
        lenient = ReplayTransport(
            chat, speed=MAX_SPEED, ignore="query.ts", match_headers=["X-Tenant"]
        )
        ask: dict[str, Any] = {
            "method": "POST",
            "url": f"{URL}?ts=1795428930",
            "json": {"q": "hi"},
        }
        async with Client(way, strict) as client:
            with pytest.raises(ReplayMissError, match=r"differs in query\.ts"):
                await client.request(**ask)
        async with Client(way, lenient) as client:
            assert (await client.read(**ask)).data == FRAMES
            miss = await client.request(**ask, headers={"x-tenant": "b"})
        assert miss.json()["error"]["differs_in"] == "headers.x-tenant"

    done(main())


def test_a_stall_ends_by_the_clients_own_patience(way: Way, chat: Path) -> None:
    """The read timeout holds as on a socket, and counts from the last chunk."""

    async def main() -> None:
        transport = ReplayTransport(chat, faults=["stall@event:2"])
        async with Client(way, transport, timeout=0.2) as client:
            read = await client.read("POST", URL, json={"q": "hi"})
        assert b"".join(read.data) == b"".join(FRAMES[:3])
        assert type(read.error) is way.library.ReadTimeout
        assert 150 * MS < read.ended_ns - read.chunks[-1].at_ns < 1_000 * MS

    done(main())


@pytest.mark.parametrize(
    ("fault", "name"), [("reset@bytes:20", "ReadError"), ("cut@bytes:20", "RemoteP")]
)
def test_faults_break_a_replay_at_their_byte(
    way: Way, chat: Path, fault: str, name: str
) -> None:
    """They are asked for of all requests, or by a header of one."""

    async def main() -> None:
        for faults in ([fault], []):
            transport = ReplayTransport(chat, speed=MAX_SPEED, faults=faults)
            headers = {} if faults else {"X-SSE-Recorder-Fault": fault}
            async with Client(way, transport) as client:
                read = await client.read("POST", URL, json={"q": "hi"}, headers=headers)
            assert b"".join(read.data) == b"".join(FRAMES)[:20]
            assert type(read.error).__name__.startswith(name)
            assert transport.fault_report[0].startswith(f"POST /chat: {fault}: ")

    done(main())


def test_a_cut_is_the_end_of_a_body_that_has_no_other(way: Way, tmp_path: Path) -> None:
    """As on a socket: nothing tells it from one that is whole."""
    source = tmp_path / "close.sse.jsonl"
    framed = exchange(response_headers=(("Content-Type", "text/event-stream"),))
    source.write_text(cassette.dumps(framed, CHUNKS), encoding="utf-8")

    async def main() -> None:
        transport = ReplayTransport(source, speed=MAX_SPEED, faults=["cut@bytes:10"])
        async with Client(way, transport) as client:
            read = await client.read(
                "POST", "http://host/chat?x=1", json={"a": 1, "b": 2}
            )
        assert (b"".join(read.data), read.error) == (b"data: a\n\nd", None)

    done(main())


def test_a_header_of_ours_that_makes_no_sense_is_answered_so(
    way: Way, chat: Path
) -> None:
    """As the server answers it: 400, with what to give instead."""

    async def main() -> None:
        async with Client(way, ReplayTransport(chat)) as client:
            headers = {"X-SSE-Recorder-Speed": "fast"}
            response = await client.request("POST", URL, json=1, headers=headers)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "bad_control_header"

    done(main())


def test_closing_a_response_wakes_who_waits_for_it(way: Way, chat: Path) -> None:
    """Nobody waits for ever in a replay that is over."""

    async def main() -> None:
        transport = ReplayTransport(chat, faults=["stall@event:1"])
        async with Client(way, transport, timeout=None) as client:
            response = await client.open("POST", URL, json={"q": "hi"})
            if way.is_async:
                loop = asyncio.get_running_loop()
                loop.call_later(0.2, lambda: loop.create_task(response.aclose()))
            else:
                threading.Timer(0.2, response.close).start()
            got = []
            with pytest.raises(way.library.ReadError, match="response was closed"):
                got.extend([chunk async for chunk in client.chunks(response)])
        assert len(transport.playing) == 0

    done(main())


def test_closing_a_client_leaves_the_replays_of_others_alone(
    way: Way, chat: Path
) -> None:
    """Code that makes a client for each call can be given one transport for all."""

    async def main() -> None:
        transport = ReplayTransport(chat)
        async with (
            Client(way, transport) as client,
            client.stream("POST", URL, json={"q": "hi"}) as response,
        ):
            async with Client(way, transport) as other:
                assert (await other.read("POST", URL, json={"q": "hi"})).data == FRAMES
            assert [chunk async for chunk in client.chunks(response)] == FRAMES
        assert transport._timers == {}

    done(main())


def test_each_scope_is_answered_from_the_first_recording_on(
    way: Way, tmp_path: Path
) -> None:
    """A test does not depend on how many requests another one has sent."""
    takes = [
        exchange(exchange_id=f"take-{number}", reason=f"Take {number}")
        for number in (1, 2)
    ]
    file = tmp_path / "a.sse.jsonl"
    file.write_text("".join(cassette.dumps(one, CHUNKS) for one in takes))

    async def main() -> None:
        transport = ReplayTransport(file, scope="mine")
        reasons = []
        async with Client(way, transport) as client:
            for scope in ("mine", "mine", "another"):
                response = await client.request(
                    "POST",
                    "http://a/chat?x=1",
                    json={"a": 1, "b": 2},
                    headers={"X-SSE-Recorder-Scope": scope},
                )
                reasons.append(response.reason_phrase)
        assert reasons == ["Take 1", "Take 2", "Take 1"]

    done(main())


@pytest.mark.parametrize(
    ("error", "name"),
    [
        ("refused", "ConnectError"),
        ("KeyError: x", "ConnectError"),
        ("Client: x", "ConnectError"),
        ("WriteError: x", "WriteError"),
    ],
)
def test_only_errors_of_transports_are_raised_by_name(
    way: Way, tmp_path: Path, error: str, name: str
) -> None:
    """A recording of the proxy names none, and a cassette cannot name anything else."""
    file = tmp_path / "a.sse.jsonl"
    one = exchange(status=None, outcome="upstream_error", error=error)
    file.write_text(cassette.dumps(one, []))

    async def main() -> None:
        async with Client(way, ReplayTransport(file)) as client:
            with pytest.raises(way.library.TransportError) as raised:
                await client.request("POST", "http://a/chat?x=1", json={"a": 1, "b": 2})
        assert type(raised.value).__name__ == name

    done(main())


def test_what_its_client_left_waits_for_this_one_to_leave(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """It has its own read timeout, as on a socket; and its faults are told."""

    async def main() -> None:
        for make in (RecordingTransport, partial(ReplayTransport, speed="max")):
            async with (
                Client(way, make(tmp_path), timeout=0.3) as client,
                client.stream("GET", f"{upstream.url}/stall") as response,
            ):
                assert await anext(client.chunks(response)) == FRAMES[0]
        assert only(tmp_path)[0].outcome == "client_abort"
        replay = ReplayTransport(tmp_path, speed="max", faults=["reslice=1"])
        async with Client(way, replay, timeout=0.3) as client:
            read = await client.read("GET", f"{upstream.url}/stall")
        assert len(read.data) == len(FRAMES[0])
        assert type(read.error) is way.library.ReadTimeout
        assert len(replay.fault_report) == 1

    done(main())
