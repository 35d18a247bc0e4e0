"""The recording transport: everything is told, once, and the client notices nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import trio
from transport.clients import (
    FRAMES,
    MS,
    Client,
    Upstream,
    Way,
    done,
    only,
    program,
    recorded,
)

from sse_recorder import RecordingTransport, ReplayTransport
from sse_recorder.capture import Tap, Writer
from sse_recorder.errors import UsageError
from sse_recorder.otel import Telemetry
from sse_recorder.redact import Redactor
from sse_recorder.trace import exchange_context

# --- recording ------------------------------------------------------------------------

# Of clients that nobody closes, which is what is tested.
UNCLOSED = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
UNRAISABLE = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def test_what_is_recorded_is_what_the_client_got(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Bytes, boundaries, heads and the request; and the times are the client's."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path, tags={"a": "b"})) as client:
            read = await client.read(
                "POST", f"{upstream.url}/chat?x=1", json={"q": "hi"}
            )
        one, chunks = only(tmp_path)
        assert [chunk.data for chunk in chunks] == read.data == FRAMES
        assert (one.outcome, one.error) == ("complete", None)
        headers, body = upstream.requests[-1]
        assert one.request_headers == tuple(headers)
        assert one.request_body == body
        assert (one.method, one.target) == ("POST", "/chat?x=1")
        assert one.url == f"{upstream.url}/chat?x=1"
        assert (one.status, one.reason, one.http_version) == (200, "Fine", "1.1")
        raw = [(k.decode(), v.decode()) for k, v in read.response.headers.raw]
        assert one.response_headers == tuple(raw)
        assert one.tags == {"a": "b", "sse_recorder.mode": "client"}
        assert one.trace_id == exchange_context(one.exchange_id, None).trace_id
        times = [one.sent_ns, one.headers_ns, *[c.at_ns for c in chunks], one.ended_ns]
        assert times == sorted(filter(None, times))
        origin_ns = read.head_ns - (one.headers_ns or 0)
        for mine, its in zip(read.chunks, chunks, strict=True):
            assert abs(mine.at_ns - origin_ns - its.at_ns) < 20 * MS
        assert chunks[4].at_ns - chunks[0].at_ns > 110 * MS

    done(main())


def test_a_client_sees_no_difference(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Heads, extensions and bodies are those of the transport within."""

    async def main() -> None:
        seen = []
        for transport in (None, RecordingTransport(tmp_path)):
            async with Client(way, transport) as client:
                response = await client.request("POST", f"{upstream.url}/gzip")
                names = sorted(response.extensions)
                head = (response.status_code, response.reason_phrase, names)
                seen.append((*head, response.headers.raw, response.text))
        assert seen[0] == seen[1]

    done(main())


async def trip_over(method: str, url: str, client: Client) -> None:
    """Raise while a response is being read."""
    async with client.stream(method, url) as response:
        async for _ in client.chunks(response):
            raise LookupError


def test_who_leaves_early_is_a_client_that_aborted(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """A break, and an exception that passes unchanged, end the exchange."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            async with client.stream("GET", f"{upstream.url}/chat") as response:
                async for _ in client.chunks(response):
                    break
            with pytest.raises(LookupError):
                await trip_over("GET", f"{upstream.url}/chat", client)
            async with client.stream("GET", f"{upstream.url}/chat"):
                pass
        for (one, chunks), count in zip(recorded(tmp_path), (1, 1, 0), strict=True):
            assert (one.outcome, len(chunks)) == ("client_abort", count)
            assert one.error == "the client closed the response"

    done(main())


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize(("path", "count"), [("/stall", 2), ("/mute", 0)])
def test_who_is_cancelled_is_a_client_that_aborted(
    library: Any, path: str, count: int, upstream: Upstream, tmp_path: Path
) -> None:
    """Cancelling passes through, before the head and after it."""

    async def main() -> None:
        async with Client(
            Way(library, is_async=True), RecordingTransport(tmp_path)
        ) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.read("GET", upstream.url + path)
        one, chunks = only(tmp_path)
        assert (one.outcome, len(chunks)) == ("client_abort", count)
        assert (one.error or "").startswith("the client left: CancelledError")

    done(main())


def test_a_forgotten_response_is_a_client_that_aborted(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Who loses a response, read in part or not at all, has left when it is garbage."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            for path in ("/stall", "/fast"):
                response = await client.open("GET", upstream.url + path)
                if path == "/stall":
                    chunks = client.chunks(response)
                    await anext(chunks)
                    del chunks
                del response
                gc.collect()
                await asyncio.sleep(0.05)  # async generators are closed by the loop
            lost_ns = time.time_ns()  # noqa: TID251 - the recording has wall time
            await asyncio.sleep(0.1)
            await client.request("GET", f"{upstream.url}/plain")
        *lost, (last, _) = recorded(tmp_path)
        assert last.outcome == "complete"
        for one, _ in lost:
            assert one.outcome == "client_abort"
            # httpx2 closes it as it goes.
            assert one.error in {
                "the client forgot the response",
                "the client closed the response",
            }
            assert one.started_at + (one.ended_ns or 0) < lost_ns

    done(main())


def test_a_client_that_is_closed_ends_what_it_was_reading(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Closing ends open exchanges before it seals."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            response = await client.open("GET", f"{upstream.url}/stall")
        one, _ = only(tmp_path)
        assert (one.outcome, one.error) == ("client_abort", "the client was closed")
        await client.close(response)

    done(main())


def test_a_body_of_a_known_length_is_complete_without_its_end(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Many clients stop at the last byte, and do not wait to hear that it was one."""

    async def main() -> None:
        async with (
            Client(way, RecordingTransport(tmp_path)) as client,
            client.stream("GET", f"{upstream.url}/plain") as response,
        ):
            async for chunk in client.chunks(response):
                assert chunk == b"plain"
                break
        assert only(tmp_path)[0].outcome == "complete"

    done(main())


def slowly(way: Way, *parts: bytes | Exception) -> Any:
    """Return content that a client sends bit by bit, or fails to."""

    async def asynchronous() -> AsyncIterator[bytes]:
        for part in synchronous():
            yield part

    def synchronous() -> Iterator[bytes]:
        for part in parts:
            if isinstance(part, Exception):
                raise part
            yield part
            time.sleep(0.02)

    return asynchronous() if way.is_async else synchronous()


def test_a_streamed_request_is_recorded_as_it_goes(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """It is complete when its last byte went, and t0 is when it began."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            content = slowly(way, b"one", b"", b"two", b"three")
            await client.request("POST", f"{upstream.url}/plain", content=content)
        one, _ = only(tmp_path)
        assert one.request_body == upstream.requests[-1][1] == b"onetwothree"
        assert (one.sent_ns or 0) > 75 * MS
        assert ("Transfer-Encoding", "chunked") in one.request_headers

    done(main())


def test_a_request_that_fails_in_the_client_is_the_clients_affair(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """What the client's own content raises passes through, and is no upstream error."""

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path)) as client:
            content = slowly(way, b"one", LookupError("no more"))
            with pytest.raises(LookupError, match="no more"):
                await client.request("POST", f"{upstream.url}/plain", content=content)
        one, _ = only(tmp_path)
        assert (one.outcome, one.request_body) == ("client_abort", b"one")
        assert one.error == "the request's body failed: LookupError: no more"

    done(main())


def test_transports_share_a_writer(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """Who made the writer closes it, and gets one segment for all."""

    async def main() -> None:
        writer = Writer(tmp_path)
        for number in range(2):
            async with Client(way, RecordingTransport(writer)) as client:
                await client.request("GET", f"{upstream.url}/plain?{number}")
        assert not list((tmp_path / "exchanges").rglob("*.parquet"))
        writer.close()
        assert [one.outcome for one, _ in recorded(tmp_path)] == ["complete"] * 2
        with pytest.raises(UsageError, match="give this one to the Writer"):
            RecordingTransport(writer, redactor=Redactor())

    done(main())


def test_what_fails_in_recording_costs_the_stream_nothing(
    way: Way,
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the bytes flow."""

    def fail(*_: object) -> None:
        raise ValueError("out of ink")

    async def main() -> None:
        for name in ("opened", "data"):
            monkeypatch.setattr(Tap, name, fail)
            async with Client(way, RecordingTransport(tmp_path)) as client:
                read = await client.read("POST", f"{upstream.url}/fast", json=1)
            assert b"".join(read.data) == b"".join(FRAMES)
            monkeypatch.undo()

    with caplog.at_level(logging.ERROR):
        done(main())
    assert {r.getMessage() for r in caplog.records if r.name.endswith("transport")} == {
        "something was not recorded; please report this"
    }


# --- transports within ----------------------------------------------------------------


def inner(way: Way, answer: Callable[[Any], Any]) -> Any:
    """Return a transport that somebody wrote, which answers without a network."""
    library = way.library

    class Inner(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            request.read()
            return answer(request)

        async def handle_async_request(self, request: Any) -> Any:
            await request.aread()
            return answer(request)

    return Inner()


def test_a_transport_within_may_make_its_answers(way: Way, tmp_path: Path) -> None:
    """A response that was made of bytes is recorded as one that came."""

    async def main() -> None:
        within = inner(way, lambda r: way.library.Response(200, content=r.content * 2))
        async with Client(way, RecordingTransport(tmp_path, inner=within)) as client:
            response = await client.request("POST", "http://a/b", content=b"ab")
            assert response.content == b"abab"
        one, chunks = only(tmp_path)
        assert (one.outcome, one.request_body) == ("complete", b"ab")
        assert [chunk.data for chunk in chunks] == [b"abab"]

    done(main())


def test_a_transport_within_may_ask_again(way: Way, tmp_path: Path) -> None:
    """What it reads twice was sent by the client once."""
    library = way.library

    class Again(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            next(iter(request.stream))
            assert b"".join(request.stream) == b"ab"
            return library.Response(204)

        async def handle_async_request(self, request: Any) -> Any:
            await anext(aiter(request.stream))
            assert [data async for data in request.stream] == [b"ab"]
            return library.Response(204)

    async def main() -> None:
        async with Client(way, RecordingTransport(tmp_path, inner=Again())) as client:
            await client.request("POST", "http://a/b", content=b"ab")
        assert only(tmp_path)[0].request_body == b"ab"

    done(main())


def test_what_a_transport_within_read_itself_is_said_to_be_incomplete(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """It is passed on as it is, and never read twice."""
    library = way.library

    class Reads(library.HTTPTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            response.read()
            return response

    class AlsoReads(library.AsyncHTTPTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            await response.aread()
            return response

    async def main() -> None:
        within = AlsoReads() if way.is_async else Reads()
        async with Client(way, RecordingTransport(tmp_path, inner=within)) as client:
            response = await client.request("GET", f"{upstream.url}/fast")
            assert response.content == b"".join(FRAMES)
        one, _ = only(tmp_path)
        assert one.outcome == "incomplete"
        assert one.error == "the inner transport read the body itself"

    done(main())


@UNCLOSED
@UNRAISABLE
def test_loops_one_after_the_other_have_connections_of_their_own(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Who does not close a client leaves what belongs to a loop that is closed."""
    transport = RecordingTransport(tmp_path)

    async def main() -> None:
        client = httpx.AsyncClient(transport=transport)
        for _ in range(2):
            assert (await client.get(f"{upstream.url}/kept")).text == "kept"

    for _ in range(2):
        done(main())
        assert len(transport._own._made) == 1
        gc.collect()
    transport.close()
    assert len(recorded(tmp_path)) == 4
    transport._own._made.clear()
    gc.collect()


def test_trio_records_and_replays(upstream: Upstream, tmp_path: Path) -> None:
    """The event loop is httpx's choice, and not ours."""

    async def main() -> None:
        for make in (RecordingTransport, ReplayTransport):
            async with httpx.AsyncClient(
                transport=make(tmp_path), timeout=10
            ) as client:
                url = f"{upstream.url}/chat"
                async with client.stream("POST", url, json=1) as response:
                    chunks = [chunk async for chunk in response.aiter_raw()]
                assert chunks == FRAMES
                url = f"{upstream.url}/stall"
                with trio.move_on_after(0.3) as scope:
                    await client.get(url)
                assert scope.cancelled_caught

    trio.run(main)
    outcomes = [one.outcome for one, _ in recorded(tmp_path)]
    assert outcomes == ["complete", "client_abort"]


# --- the process ----------------------------------------------------------------------


def until_sealed(root: Path) -> None:
    """Wait for what a thread of its own does."""
    for _ in range(500):
        if not list((root / ".journal").glob("*.arrows")):
            return
        time.sleep(0.01)
    pytest.fail("the recording was not sealed")


def test_a_client_that_is_forgotten_is_sealed(
    way: Way, upstream: Upstream, tmp_path: Path
) -> None:
    """It keeps neither a thread nor a file open, and its exchanges are there."""

    async def main() -> None:
        for number in range(3):
            client = Client(way, RecordingTransport(tmp_path / str(number)))
            await client.request("GET", f"{upstream.url}/plain")
        del client
        gc.collect()

    done(main())
    gc.collect()
    for number in range(3):
        until_sealed(tmp_path / str(number))
        assert only(tmp_path / str(number))[0].outcome == "complete"
    # The last one's thread may be about to end.
    for thread in threading.enumerate():
        if thread.name == "sse-recorder-writer":
            thread.join(5)
            assert not thread.is_alive()


def test_a_response_outlives_its_client(upstream: Upstream, tmp_path: Path) -> None:
    """Nothing is sealed while it can be read; and it is when that is forgotten, too."""

    def ask() -> httpx.Response:
        client = httpx.Client(transport=RecordingTransport(tmp_path))
        request = client.build_request("GET", f"{upstream.url}/chat")
        response = client.send(request, stream=True)
        assert response.status_code == 200
        return response

    response = ask()
    gc.collect()
    assert list(response.iter_raw()) == FRAMES
    del response
    gc.collect()
    until_sealed(tmp_path)
    one, chunks = only(tmp_path)
    assert (one.outcome, len(chunks)) == ("complete", len(FRAMES))


def test_who_closes_nothing_loses_nothing(upstream: Upstream, tmp_path: Path) -> None:
    """A script ends with the clients of its SDKs open, and the recording is sealed."""
    code = (
        "import sys, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "client = httpx.Client(transport=RecordingTransport(sys.argv[1]))\n"
        "print(client.get(sys.argv[2]).status_code)\n"
    )
    run = program(code, tmp_path, f"{upstream.url}/fast")
    assert (run.stdout, run.stderr) == ("200\n", "")
    one, chunks = only(tmp_path)
    assert (one.outcome, b"".join(c.data for c in chunks)) == (
        "complete",
        b"".join(FRAMES),
    )


def test_a_fork_of_a_shared_writer_says_that_it_records_nothing(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Its requests are answered, and the other process's are all there."""
    code = (
        "import os, sys, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "from sse_recorder.capture import Writer\n"
        "store, url = sys.argv[1:]\n"
        "writer = Writer(store)\n"
        "client = httpx.Client(transport=RecordingTransport(writer))\n"
        "child = os.fork()\n"
        "client.get(url + '/plain')\n"
        "client.close()\n"
        "if child:\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "    writer.close()\n"
    )
    run = program(code, tmp_path, upstream.url)
    assert run.stdout == "0\n", run.stderr
    assert run.stderr.count("make a Writer after the fork") == 1
    assert len(recorded(tmp_path)) == 1


def test_a_thread_that_outlives_the_program_is_recorded(
    upstream: Upstream, tmp_path: Path
) -> None:
    """What is sealed at the end is sealed when the last thread has ended."""
    code = (
        "import sys, threading, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "client = httpx.Client(transport=RecordingTransport(sys.argv[1]))\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    for _ in range(2):\n"
        "        client.get(sys.argv[2])\n"
        "threading.Thread(target=work).start()\n"
    )
    run = program(code, tmp_path, f"{upstream.url}/chat")
    assert (run.stdout, run.stderr) == ("", "")
    found = [(one.outcome, len(chunks)) for one, chunks in recorded(tmp_path)]
    assert found == [("complete", len(FRAMES))] * 2


def test_a_coroutine_that_is_garbage_takes_no_lock(
    upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be collected while this very thread holds one."""

    class Stuck(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            return await super().handle_async_request(request)

    transport = RecordingTransport(tmp_path, inner=Stuck(), telemetry=Telemetry(None))
    request = httpx.Request("GET", f"{upstream.url}/plain")
    asked = transport.handle_async_request(request)

    async def begin() -> None:
        asked.send(None)  # in the context of this task

    asyncio.run(begin())
    with transport._ear.lock:
        asked.close()
    asyncio.run(transport.aclose())
    exchange, _ = only(tmp_path)
    assert exchange.outcome == "client_abort"
    assert not caplog.records


def test_garbage_that_ends_an_exchange_may_be_collected_as_another_begins(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that somebody forgot closes its response, in any thread."""
    opened = Tap.opened

    def collecting(tap: Tap, opening: Any) -> None:
        gc.collect()
        opened(tap, opening)

    def lines(client: httpx.Client) -> Iterator[str]:
        with client.stream("GET", f"{upstream.url}/chat") as response:
            yield from response.iter_lines()

    class Holder:
        me: Holder
        held: Iterator[str]

    with httpx.Client(transport=RecordingTransport(tmp_path)) as client:
        holder = Holder()
        holder.me, holder.held = holder, lines(client)
        next(holder.held)
        del holder
        monkeypatch.setattr(Tap, "opened", collecting)
        client.get(f"{upstream.url}/plain")
    found = sorted(one.outcome or "" for one, _ in recorded(tmp_path))
    assert found == ["client_abort", "complete"]


def test_a_child_of_multiprocessing_is_sealed(
    upstream: Upstream, tmp_path: Path
) -> None:
    """It ends without what other programs do at their end."""
    code = (
        "import multiprocessing, sys, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "def work(store, url):\n"
        "    client = httpx.Client(transport=RecordingTransport(store))\n"
        "    client.get(url)\n"
        "context = multiprocessing.get_context('fork')\n"
        "child = context.Process(target=work, args=sys.argv[1:])\n"
        "child.start()\n"
        "child.join()\n"
    )
    run = program(code, tmp_path, f"{upstream.url}/plain")
    assert (run.stdout, run.stderr) == ("", "")
    assert only(tmp_path)[0].outcome == "complete"


def test_a_fork_records_for_itself(upstream: Upstream, tmp_path: Path) -> None:
    """Neither process writes for the other, whoever had begun, and nothing is twice."""
    code = (
        "import os, sys, httpx\n"
        "from sse_recorder import RecordingTransport\n"
        "store, url = sys.argv[1:]\n"
        "client = httpx.Client(transport=RecordingTransport(store))\n"
        "client.get(url + '/plain?before')\n"
        "child = os.fork()\n"
        "client.get(url + ('/plain?above' if child else '/plain?below'))\n"
        "client.close()\n"
        "if child:\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    run = program(code, tmp_path, upstream.url)
    assert run.stdout == "0\n"
    found = sorted(
        (one.url.partition("?")[2], one.outcome) for one, _ in recorded(tmp_path)
    )
    assert found == [(name, "complete") for name in ("above", "before", "below")]


# --- replaying ------------------------------------------------------------------------
