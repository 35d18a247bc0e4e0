"""Telemetry through a real proxy: what a collector gets, however an exchange ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from http1.wire import Peer, upstream
from otel_samples import as_data, telemetry
from otlp_receiver import Receiver, otlp_receiver, points

from sse_recorder.clock import MONOTONIC_NS, SYSTEM, Clock
from sse_recorder.otel import SpanData
from sse_recorder.proxy import Recorder
from sse_recorder.store.store import Store

CHAT = "/v2/sessions/s1/chat/stream"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
SECRET = "SENTINEL"  # noqa: S105 - what must not be found


def chunk(name: str, **payload: object) -> bytes:
    """Return an event of Meibel's as a chunk of a body."""
    data = f"event: {name}\ndata: {json.dumps(payload)}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def called(tool_id: str, name: str = "search") -> bytes:
    """Return a tool call."""
    given = {"query": SECRET}
    return chunk("tool_call", tool_id=tool_id, tool_name=name, arguments=given)


def returned(tool_id: str) -> bytes:
    """Return its result."""
    return chunk("tool_result", tool_id=tool_id, result=SECRET)


def said(text: str = SECRET) -> bytes:
    """Return new text."""
    return chunk("partial_response", data={"message": text})


DONE = chunk("completion", data={"message": ""}, disposition="stop")


@dataclass
class Talk:
    """A recorder between a scripted client and a scripted upstream."""

    store: Path
    receiver: Receiver
    options: dict[str, Any] = field(default_factory=dict)

    def run(
        self,
        answer: Callable[[Peer], Awaitable[None]],
        ask: Callable[[Peer, Recorder], Awaitable[None]],
    ) -> list[SpanData]:
        """Let them talk, and return what the collector got."""

        async def main() -> None:
            sender = telemetry(self.receiver.endpoint)
            async with upstream(answer) as port:
                recorder = Recorder(
                    f"http://127.0.0.1:{port}",
                    store=self.store,
                    telemetry=sender,
                    **self.options,
                )
                await recorder.start()
                place = recorder.url.rpartition("//")[2].split(":")
                reader, writer = await asyncio.open_connection(place[0], int(place[1]))
                try:
                    await ask(Peer(reader, writer), recorder)
                finally:
                    await recorder.stop(grace_s=0.2)
                    writer.transport.abort()
                assert recorder.spans_lost == 0

        asyncio.run(main())
        return list(map(as_data, self.receiver.spans(count=0)))


REQUEST = (
    f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    f"Content-Length: %d\r\n\r\n%s"
)


async def asked(peer: Peer) -> None:
    """Read a request whole."""
    await peer.read_until(b"}")


def send(client: Peer) -> None:
    """Send a request."""
    body = json.dumps({"user_message": SECRET})
    client.send((REQUEST % (len(body), body)).encode())


async def complete(peer: Peer) -> None:
    """Answer with a tool, some text and the end."""
    await asked(peer)
    peer.send(CHUNKED + called("t") + returned("t") + said() + DONE + LAST)


async def cut(peer: Peer) -> None:
    """Break off in the middle."""
    await asked(peer)
    peer.send(CHUNKED + called("t") + said())
    await peer.writer.drain()
    peer.writer.transport.abort()


async def refuse(peer: Peer) -> None:
    """Answer that it is too much."""
    await asked(peer)
    error = json.dumps({"error": SECRET}).encode()
    head = (
        b"HTTP/1.1 429 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    )
    peer.send(head % len(error) + b"\r\n" + error)


async def reported(peer: Peer) -> None:
    """Report an error within the stream."""
    await asked(peer)
    peer.send(CHUNKED + chunk("error", message=SECRET) + LAST)


async def vanish(peer: Peer) -> None:
    """Hang up without an answer."""
    await asked(peer)
    peer.writer.transport.abort()


async def no_http(peer: Peer) -> None:
    """Answer in another language."""
    await asked(peer)
    peer.send(b"SSH-2.0-" + SECRET.encode() + b"\r\n")


async def linger(peer: Peer) -> None:
    """Begin, and stay silent."""
    await asked(peer)
    peer.send(CHUNKED + said())
    await peer.reader.read()  # until the recorder hangs up


async def say_nothing(peer: Peer) -> None:
    """Take a request, and do not answer."""
    await peer.reader.read()  # until the recorder hangs up


async def read_head(client: Peer, recorder: Recorder) -> None:
    """Ask, and wait for the head of the answer; the recorder's end ends the rest."""
    del recorder
    send(client)
    await client.read_until(b"\r\n\r\n")


async def read_some(client: Peer, recorder: Recorder) -> None:
    """Ask, and read half of the answer."""
    del recorder
    send(client)
    await client.read_until(b"partial_response")


async def read_to_the_end(client: Peer, recorder: Recorder) -> None:
    """Ask, and read until the connection ends."""
    del recorder
    send(client)
    await client.read_all()


async def leave(client: Peer, recorder: Recorder) -> None:
    """Ask, read half of the answer, and hang up."""
    await read_some(client, recorder)
    client.writer.transport.abort()
    await asyncio.sleep(0.05)  # until that is noticed


@pytest.mark.parametrize(
    ("answer", "ask", "options", "error", "outcome"),
    [
        (complete, read_head, {}, None, "complete"),
        (cut, read_head, {}, "stream_truncated", "upstream_abort"),
        (refuse, read_head, {}, "429", "complete"),
        (reported, read_head, {}, "_OTHER", "complete"),
        (vanish, read_head, {}, "reset|eof", "upstream_error"),
        (no_http, read_head, {}, "invalid_http", "upstream_error"),
        (linger, leave, {}, None, "client_abort"),
        (linger, leave, {"on_client_abort": "finish"}, None, "client_abort"),
        (linger, read_some, {}, None, "incomplete"),
        (
            linger,
            read_to_the_end,
            {"upstream_timeout_s": 0.1},
            "stream_stalled",
            "timeout",
        ),
        (
            say_nothing,
            read_head,
            {"upstream_timeout_s": 0.1},
            "timeout",
            "timeout",
        ),
    ],
    ids=[
        *("complete", "cut", "refused", "reported", "vanished", "no HTTP"),
        *("left", "finished", "stopped", "silent", "silent from the start"),
    ],
)
def test_every_way_out_gives_one_span_and_no_content(
    tmp_path: Path,
    answer: Callable[[Peer], Awaitable[None]],
    ask: Callable[[Peer, Recorder], Awaitable[None]],
    options: dict[str, Any],
    error: str | None,
    outcome: str,
) -> None:
    """One client span, whatever happens; nothing that was said is in any byte sent."""
    with otlp_receiver() as receiver:
        found = Talk(tmp_path, receiver, options).run(answer, ask)
        sent = b"".join(receiver.all_bodies)
    (root,) = (span for span in found if span.kind == "client")
    assert root.name == "invoke_agent"
    assert root.attributes["sse_recorder.outcome"] == outcome
    assert root.error_type in (error.split("|") if error else [None])
    assert sent
    assert SECRET.encode() not in sent


def test_a_wall_clock_that_steps_back_turns_no_span_round(tmp_path: Path) -> None:
    """Times are those of one clock that never steps; the wall is read once, at t0."""
    step = [0]
    clock = Clock(MONOTONIC_NS, lambda: SYSTEM.wall_ns() + step[0])

    async def answer(peer: Peer) -> None:
        await asked(peer)
        peer.send(CHUNKED + called("t"))
        await peer.writer.drain()
        await asyncio.sleep(0.05)
        step[0] = -3_600_000_000_000
        peer.send(returned("t") + DONE + LAST)

    async def ask(client: Peer, recorder: Recorder) -> None:
        del recorder
        send(client)
        await client.read_until(b"0\r\n\r\n")

    with otlp_receiver() as receiver:
        talk = Talk(tmp_path, receiver, {"clock": clock})
        root, tool = sorted(talk.run(answer, ask), key=lambda span: span.start_ns)
    assert 0 < tool.duration_ns < root.duration_ns < 10_000_000_000
    assert root.start_ns < tool.start_ns < tool.end_ns <= root.end_ns


def test_tools_side_by_side_are_as_long_as_their_rows_and_metrics_say(
    tmp_path: Path,
) -> None:
    """Row, span and metric of a tool are one number, to the nanosecond."""

    async def answer(peer: Peer) -> None:
        await asked(peer)
        peer.send(CHUNKED + called("a", "search") + called("b", "book"))
        for piece in (returned("b"), said(), returned("a"), DONE, LAST):
            await peer.writer.drain()
            await asyncio.sleep(0.02)
            peer.send(piece)

    async def ask(client: Peer, recorder: Recorder) -> None:
        del recorder
        send(client)
        await client.read_until(b"0\r\n\r\n")

    with otlp_receiver() as receiver:
        root, *tools = sorted(
            Talk(tmp_path, receiver).run(answer, ask), key=lambda span: span.start_ns
        )
        metric = receiver.metrics["sse_recorder.execute_tool.duration"]
        sums = {
            pair.value.string_value: point.sum
            for point in points(metric)
            for pair in point.attributes
            if pair.key == "gen_ai.tool.name"
        }
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        rows = {c.span_id: c for c in store.tool_calls(exchange.exchange_id)}
    assert {span.parent_span_id for span in tools} == {root.span_id}
    assert len(tools) == 2
    for span in tools:
        row = rows[span.span_id]
        assert span.duration_ns == row.duration_ns
        assert span.start_ns == exchange.started_at + (row.called_ns or 0)
        assert sums[str(row.tool_name)] == span.duration_ns / 1e9


def test_a_collector_that_hangs_does_not_slow_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames pass at their pace, the recording is whole, and stopping has a bound."""

    async def answer(peer: Peer) -> None:
        await asked(peer)
        peer.send(CHUNKED)
        for _ in range(50):
            peer.send(said("x"))
            await peer.writer.drain()
            await asyncio.sleep(0.002)
        peer.send(DONE + LAST)

    async def main(receiver: Receiver) -> tuple[float, int]:
        sender = telemetry(receiver.endpoint)
        async with upstream(answer) as port:
            recorder = Recorder(
                f"http://127.0.0.1:{port}", store=tmp_path, telemetry=sender
            )
            await recorder.start()
            host, port_ = recorder.url.rpartition("//")[2].split(":")
            for _ in range(3):
                reader, writer = await asyncio.open_connection(host, int(port_))
                client = Peer(reader, writer)
                send(client)
                await client.read_until(b"0\r\n\r\n")
                writer.close()
            assert receiver.bodies  # it has hung since the first of them
            began = SYSTEM.monotonic_ns()
            sender_close = sender.close
            sender.close = lambda timeout_s=0.3: sender_close(timeout_s)  # type: ignore[method-assign]
            await recorder.stop(grace_s=0.1)
            return (SYSTEM.monotonic_ns() - began) / 1e9, recorder.spans_lost

    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with otlp_receiver(hang=True) as receiver:
        took_s, lost = asyncio.run(main(receiver))
    assert lost == 3
    assert took_s < 3
    with Store.open(tmp_path) as store:
        assert [e.outcome for e in store.exchanges()] == ["complete"] * 3
        assert {e.frame_count for e in store.exchanges()} == {51}
