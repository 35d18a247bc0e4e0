"""Both transports: what one records, the other plays, with the server gone."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from meibel import AsyncMeibelClient, MeibelClient
from transport.clients import (
    END,
    FRAMES,
    MS,
    SCRIPTS,
    STREAM,
    ZIPPED,
    Client,
    Upstream,
    Way,
    done,
    only,
    paced,
    program,
    recorded,
)

from sse_recorder import MAX_SPEED, RecordingTransport, ReplayTransport, running
from sse_recorder.demo import AgentServer

BROKEN: Final = [
    ("/eof", "RemoteProtocolError", "upstream_abort", "eof: RemoteProtocolError: peer"),
    ("/reset", "ReadError", "upstream_abort", "reset: ReadError"),
    ("/stall", "ReadTimeout", "timeout", "timeout: ReadTimeout"),
]
UNANSWERED: Final = [
    ("/hang-up", "RemoteProtocolError", "upstream_error", "RemoteProtocolError: Serv"),
    ("/mute", "ReadTimeout", "timeout", "ReadTimeout"),
    ("", "ConnectError", "upstream_error", "ConnectError: "),
]


@pytest.mark.parametrize(("path", "name", "outcome", "error"), BROKEN)
def test_what_breaks_is_recorded_and_breaks_again(
    way: Way,
    upstream: Upstream,
    tmp_path: Path,
    path: str,
    name: str,
    outcome: str,
    error: str,
) -> None:
    """At the same byte, as the same error of the library, and at the same time."""

    async def main() -> None:
        transports = (RecordingTransport(tmp_path), lambda: ReplayTransport(tmp_path))
        reads = []
        for make in transports:
            transport = make() if callable(make) else make
            async with Client(way, transport, timeout=0.3) as client:
                reads.append(await client.read("GET", upstream.url + path))
        one, _ = only(tmp_path)
        assert one.outcome == outcome
        assert (one.error or "").startswith(error)
        for read in reads:
            assert read.data == FRAMES[:2]
            assert type(read.error) is getattr(way.library, name)
        recorded_ns = (one.ended_ns or 0) - (one.sent_ns or 0)
        assert abs(reads[1].ended_ns - recorded_ns) < 150 * MS

    done(main())


@pytest.mark.parametrize(("path", "name", "outcome", "error"), UNANSWERED)
def test_what_is_not_answered_is_recorded_and_is_not_answered_again(
    way: Way,
    upstream: Upstream,
    tmp_path: Path,
    path: str,
    name: str,
    outcome: str,
    error: str,
) -> None:
    """The error passes unchanged, and a replay raises the same."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        url = (
            upstream.url + path
            if path
            else "http://{}:{}/".format(*nobody.getsockname())
        )

        async def main() -> None:
            texts = []
            for make in (RecordingTransport, ReplayTransport):
                async with Client(way, make(tmp_path), timeout=0.3) as client:
                    with pytest.raises(getattr(way.library, name)) as raised:
                        await client.request("POST", url, json={"q": 1})
                    texts.append(str(raised.value))
            one, chunks = only(tmp_path)
            assert (one.outcome, one.status, chunks) == (outcome, None, [])
            # Whether it was sent or not: a replay is asked for it.
            assert one.request_body == b'{"q":1}'
            assert (one.error or "").startswith(error)
            # A timeout may be the client's own, before the recorded one is due.
            assert texts[0] == texts[1] or outcome == "timeout"

        done(main())


def test_coded_bodies_are_recorded_as_they_were_on_the_wire(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """The client decodes what comes from us as what comes from the network."""

    async def main() -> None:
        texts = []
        for make in (RecordingTransport, ReplayTransport):
            async with Client(way, make(tmp_path)) as client:
                response = await client.request("GET", f"{upstream.url}/gzip")
                texts.append(response.text.encode())
        assert texts == [b"".join(FRAMES)] * 2
        one, chunks = only(tmp_path)
        assert [chunk.data for chunk in chunks] == [ZIPPED[:20], ZIPPED[20:]]
        assert one.frame_count == 4

    done(main())


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/head"), ("GET", "/empty")])
def test_a_response_without_a_body_is_complete_unread(
    way: Way, upstream: Upstream, tmp_path: Path, method: str, path: str
) -> None:
    """Who does not read what cannot be there has had everything."""

    async def main() -> None:
        for make in (RecordingTransport, ReplayTransport):
            async with Client(way, make(tmp_path)) as client:
                await client.request(method, upstream.url + path)
                async with client.stream(method, upstream.url + path) as response:
                    assert response.status_code in {200, 204}
        assert [one.outcome for one, _ in recorded(tmp_path)] == ["complete"] * 2

    done(main())


def test_a_redirect_is_two_exchanges_with_the_same_body(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Content that can be sent twice is recorded once in each."""

    async def main() -> None:
        for make in (RecordingTransport, ReplayTransport):
            async with Client(way, make(tmp_path), follow_redirects=True) as client:
                url = f"{upstream.url}/moved"
                assert (await client.request("POST", url, json=1)).text == "plain"
        ones = [one for one, _ in recorded(tmp_path)]
        assert [(one.path, one.request_body) for one in ones] == [
            ("/moved", b"1"),
            ("/plain", b"1"),
        ]

    done(main())


def test_threads_share_a_client(upstream: Upstream, tmp_path: Path) -> None:
    """Each gets its own answer, from the network and from the recording."""
    numbers = range(60)
    for make in (RecordingTransport, ReplayTransport):
        with (
            httpx.Client(transport=make(tmp_path), timeout=20) as client,
            ThreadPoolExecutor(20) as pool,
        ):

            def ask(number: int, client: httpx.Client = client) -> list[bytes]:
                url = f"{upstream.url}/chat?n={number}"
                with client.stream("POST", url, json=number) as response:
                    return list(response.iter_raw())

            assert list(pool.map(ask, numbers)) == [FRAMES] * len(numbers)
    found = recorded(tmp_path)
    assert {one.target: one.request_body for one, _ in found} == {
        f"/chat?n={number}": b"%d" % number for number in numbers
    }
    assert {one.outcome for one, _ in found} == {"complete"}
    assert len({one.started_at for one, _ in found}) == len(numbers)


def test_a_transport_can_be_used_again(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """A fixture may be given to one client after the other."""

    async def main() -> None:
        for make in (RecordingTransport, ReplayTransport):
            transport = make(tmp_path)
            for number in range(2):
                async with Client(way, transport) as client:
                    url = f"{upstream.url}/plain?{number}"
                    assert (await client.request("GET", url)).text == "plain"
                assert len(recorded(tmp_path)) >= number + 1

    done(main())


def test_neither_library_is_needed() -> None:
    """Who has one of them does not pay for the other, or has to have it."""
    code = (
        "import sys\n"
        "sys.modules['httpx'] = sys.modules['httpx2'] = None\n"
        "from sse_recorder import RecordingTransport, ReplayTransport\n"
    )
    assert program(code).stderr == ""


TEXT: Final = [
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % word
    for word in (b"Hel", b"lo")
]
SCRIPTS["/v1/chat/completions"] = [
    STREAM,
    *paced(*TEXT, b"data: [DONE]\n\n"),
    END,
]


@pytest.mark.parametrize("is_async", [False, True])
def test_the_openai_sdk_records_and_replays(
    upstream: Upstream, tmp_path: Path, *, is_async: bool
) -> None:
    """With the server gone it gets the same, and a miss is no connection error."""

    async def ask(transport: Any, text: str) -> list[str | None]:
        options: dict[str, Any] = {
            "base_url": f"{upstream.url}/v1",
            "api_key": "secret",
        }
        messages: Any = [{"role": "user", "content": text}]
        if is_async:
            http = openai.DefaultAsyncHttpxClient(transport=transport)
            async with openai.AsyncOpenAI(**options, http_client=http) as client:
                stream = await client.chat.completions.create(
                    model="m", messages=messages, stream=True
                )
                return [c.choices[0].delta.content async for c in stream]
        with openai.OpenAI(
            **options, http_client=openai.DefaultHttpxClient(transport=transport)
        ) as blocking:
            chunks = blocking.chat.completions.create(
                model="m", messages=messages, stream=True
            )
            return [c.choices[0].delta.content for c in chunks]

    async def main() -> None:
        assert await ask(RecordingTransport(tmp_path), "hi") == ["Hel", "lo"]
        asked = len(upstream.requests)
        replay = ReplayTransport(tmp_path, speed=MAX_SPEED)
        assert await ask(replay, "hi") == ["Hel", "lo"]
        with pytest.raises(
            openai.NotFoundError, match=r"differs in body.messages\[0\]"
        ):
            await ask(replay, "ho")
        assert (replay.served, replay.missed) == (1, 1)
        assert len(upstream.requests) == asked
        one, _ = only(tmp_path)
        assert (one.outcome, one.dialect) == ("complete", one.dialect)
        assert "secret" not in repr(one)

    done(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_the_meibel_sdk_records_and_replays(tmp_path: Path, *, is_async: bool) -> None:
    """It makes its client itself, but that can be given another transport."""

    async def hold(url: str, transport: Any) -> list[str | None]:
        options: dict[str, Any] = {"base_url": f"{url}/v2", "api_key": "secret"}
        if is_async:
            async with AsyncMeibelClient(**options) as client:
                client._http._client._transport = transport
                stream = await client.agents.sessions.send_chat_message_stream(
                    "s1", user_message="hello"
                )
                return [event.data async for event in stream]
        with MeibelClient(**options) as blocking:
            blocking._http._client._transport = transport
            events = blocking.agents.sessions.send_chat_message_stream(
                "s1", user_message="hello"
            )
            return [event.data for event in events]

    with running(AgentServer()) as agent:
        url = agent.url
        live = asyncio.run(hold(url, RecordingTransport(tmp_path)))
    replay = ReplayTransport(tmp_path, speed=MAX_SPEED)
    assert asyncio.run(hold(url, replay)) == live
    assert len(live) > 20
    one, _ = only(tmp_path)
    assert (one.outcome, one.dialect, one.tool_call_count) == ("complete", "meibel", 3)
    assert "secret" not in repr(one)
