"""How late a replay's steps leave, beside the same schedule played by asyncio.sleep.

A recording of 50 chunks a second is replayed by the replay server to 1, 100 and 500
clients at the same time; then again by the same server on the same loop, with nothing
changed but its timer, whose place coroutines take that sleep until each step is due.
Both have the garbage collector as `sse-recorder replay` has it.

The clients are another process, pinned to another core where there is one, so that what
is measured is the server.  Repeat with `make bench`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from sse_recorder.background import run
from sse_recorder.cli.serve import spared_collections
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.exchange import Chunk, Exchange, Outcome
from sse_recorder.playback import Lateness
from sse_recorder.replay import ReplayServer
from sse_recorder.store import cassette
from sse_recorder.timer import Call, Timer

STREAMS = (1, 100, 500)
CHUNKS_PER_S = 50
SECONDS = 4
GOLDEN = (5**0.5 - 1) / 2  # multiples of it fall evenly between whole numbers
NS = 1_000_000_000
BODY = b'event: partial_response\ndata: {"message": "' + b"x" * 120 + b'"}\n\n'


def cassette_text() -> str:
    """Return a cassette of a stream of equal steps."""
    count = CHUNKS_PER_S * SECONDS
    chunks = [Chunk(n * NS // CHUNKS_PER_S, BODY) for n in range(1, count + 1)]
    exchange = Exchange(
        exchange_id="01936a3e-8c00-7abc-9def-0123456789ab",
        recorder_id="bench",
        started_at=0,
        method="GET",
        url="http://host/stream",
        path="/stream",
        status=200,
        reason="OK",
        http_version="1.1",
        response_headers=(
            ("Content-Type", "text/event-stream"),
            ("Transfer-Encoding", "chunked"),
        ),
        outcome=Outcome.COMPLETE,
        sent_ns=0,
        headers_ns=0,
        ended_ns=count * NS // CHUNKS_PER_S,
    )
    return cassette.dumps(exchange, chunks)


def read_all(port: int, streams: int) -> None:
    """Be so many clients, whose begins are spread over the first second."""
    pin(1)

    async def one(number: int) -> None:
        await asyncio.sleep(number * GOLDEN % 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while await reader.read(1 << 16):
            pass
        writer.close()

    async def main() -> None:
        await asyncio.gather(*map(one, range(streams)))

    run(main())


def pin(core: int) -> None:
    """Stay on one core, so that server and clients do not take turns on one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


class SleepTimer(Timer):
    """The plain way: a coroutine sleeps until each deadline."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

    def call_at(self, due_ns: int, callback: Callable[[], None]) -> Call:
        """Sleep, then call back."""
        call = Call(callback)
        task = asyncio.get_running_loop().create_task(self._wait(due_ns, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def _wait(self, due_ns: int, call: Call) -> None:
        # uvloop may wake before the time is up: a step must not be played early.
        while (left_ns := due_ns - MONOTONIC_NS()) > 0:  # noqa: ASYNC110 - the point
            await asyncio.sleep(left_ns / NS)
        call.callback()


async def replay(source: Path, streams: int, timer: Timer | None) -> Lateness:
    """Serve the recording to so many clients."""
    server = ReplayServer(source)
    await server.start()
    if timer is not None:
        server.timer.close()
        server._timer = timer  # noqa: SLF001 - all else is to be the same
    port = int(server.url.rpartition(":")[2])
    context = multiprocessing.get_context("spawn")
    clients = context.Process(target=read_all, args=(port, streams))
    clients.start()
    await asyncio.to_thread(clients.join)
    await server.stop()
    assert server.served == streams
    return server.lateness


async def main() -> None:
    """Print one line for each number of streams and each way to wait."""
    pin(0)
    print(
        f"{'streams':>7}  {'played by':<16} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "bench.sse.jsonl"
        source.write_text(cassette_text())
        for streams in map(int, sys.argv[1:]) if sys.argv[1:] else STREAMS:
            for name, result in (
                ("sse-recorder", await replay(source, streams, None)),
                ("asyncio.sleep", await replay(source, streams, SleepTimer())),
            ):
                values = (result.p50_ns, result.p99_ns, result.max_ns)
                figures = " ".join(f"{ns / 1e6:8.3f}" for ns in values)
                print(f"{streams:>7}  {name:<16} {figures}", flush=True)


if __name__ == "__main__":
    with spared_collections():
        run(main())
