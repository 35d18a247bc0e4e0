"""Mutated requests through a real recorder to a server that counts what it is asked.

Each input is a few valid requests, broken at random, cut at random and sent on one
connection.  Three parsers that are not ours count the requests which come out behind: a
strict one (h11), and two sloppy ones that read line by line, take what they get, and
differ in which framing they believe.  None may ever count more requests than our own
parser finds in the client's bytes; and the client gets exactly as many answers as that
parser says, so that nothing hangs and no cut matters.

The counts are compared after every input, for in a sum one request too many could hide
behind another that never came out: inputs go through a few recorders at the same time,
and through each of them one after the other.  Every other recorder has an upstream that
now and then closes a connection in place of an answer.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from pathlib import Path
from typing import Final

import h11
import pytest
import uvloop
from http1.wire import App, MemoryTransport, Peer, Received, upstream

from sse_recorder.exchange import ResponseHead
from sse_recorder.http1.connection import Connection
from sse_recorder.http1.server import Server
from sse_recorder.proxy import Recorder
from sse_recorder.store.store import Store

LANES: Final = 8
DROPPED: Final = 0.2  # of the answers of an upstream that drops some
ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 \d\d\d ")
HEAD_END: Final = re.compile(rb"\r?\n\r?\n")

REQUESTS: Final = (
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
    b"POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
    (
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"
    ),
    (
        b"PUT /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    ),
    b"GET /k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    (
        b"POST /u HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    ),
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
    # A body that is a request to whoever misses where it begins.
    (
        b"POST /n HTTP/1.1\r\nHost: a\r\nContent-Length: 29\r\n\r\n"
        b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n"
    ),
)
PIECES: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b"\xff",
    b":",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b" Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length, transfer-encoding, host\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: b\r\n",
    b"GET /s HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HTTP/1.0",
)


class Mutator:
    """Makes inputs, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def make(self) -> list[bytes]:
        """Return some broken requests, cut into what is sent at a time."""
        rng = self._random
        data = b"".join(rng.choices(REQUESTS, k=rng.randint(1, 3)))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            change = rng.choice(
                (self._flip, self._delete, self._double, self._insert, self._swap)
            )
            data = change(data)
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randint(0, 4)))
        ends = [*cuts, len(data)]
        return [data[a:b] for a, b in zip([0, *cuts], ends, strict=True) if a < b]

    def _range(self, data: bytes) -> tuple[int, int]:
        start = self._random.randint(0, len(data))
        return start, min(len(data), start + self._random.choice((1, 1, 2, 5, 40)))

    def _flip(self, data: bytes) -> bytes:
        start, end = self._range(data)
        flipped = bytes(b ^ 1 << self._random.randrange(8) for b in data[start:end])
        return data[:start] + flipped + data[end:]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return data[:start] + data[end:]

    def _double(self, data: bytes) -> bytes:
        start, end = self._range(data)
        return data[:end] + data[start:end] + data[end:]

    def _insert(self, data: bytes) -> bytes:
        piece, at = self._random.choice(PIECES), self._random.randint(0, len(data))
        if self._random.random() < 0.7 and piece.endswith(b"\n"):  # between two lines
            at = data.find(b"\n", at) + 1
        return data[:at] + piece + data[at:]

    def _swap(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        if not lines:
            return data
        one, two = self._random.choices(range(len(lines)), k=2)
        lines[one], lines[two] = lines[two], lines[one]
        return b"".join(lines)


def expected(data: bytes) -> tuple[int, int]:
    """Return how many requests and how many answers our own parser finds in bytes."""

    def answer(received: Received) -> None:
        received.stream.send_head(ResponseHead(204, "No Content"))
        received.stream.end()

    app, transport = App(answer), MemoryTransport()
    connection = Connection(Server(app))
    connection.connection_made(transport)
    connection.data_received(data)
    return len(app.received), len(STATUS_LINE.findall(transport.written))


class CountingUpstream:
    """Answers what h11 finds, and keeps what came for the others to count.

    Args:
        drops: whether it closes now and then without an answer.
        seed: says when.
    """

    def __init__(self, *, drops: bool = False, seed: int = 0) -> None:
        self.strict = 0
        self.read: list[bytes] = []
        self.violations: list[str] = []
        self.dropped = 0
        self.open = 0
        self._drops = drops
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret

    def take(self) -> tuple[int, int, int]:
        """Return what the three have counted since the last call."""
        strict, read = self.strict, self.read
        self.strict, self.read = 0, []
        by_length, by_chunks = (
            sum(sloppy(data, believes_length=believes) for data in read)
            for believes in (True, False)
        )
        return strict, by_length, by_chunks

    async def __call__(self, peer: Peer) -> None:
        """Serve one connection."""
        self.open += 1
        try:
            await self._serve(peer)
        finally:
            self.open -= 1

    async def _serve(self, peer: Peer) -> None:
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        at = len(self.read)
        self.read.append(b"")
        while True:
            try:
                data = await peer.reader.read(1 << 16)
            except ConnectionResetError:
                return
            self.read[at] += data
            if not data:
                return
            try:
                if not self._answer(parser, data, peer):
                    return
            except h11.RemoteProtocolError as error:
                self.violations.append(f"{error}: {self.read[at]!r}")
                return

    def _answer(self, parser: h11.Connection, data: bytes, peer: Peer) -> bool:
        """Answer what a read completes; return whether there may be more."""
        parser.receive_data(data)
        while (event := parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                self.strict += 1
            elif isinstance(event, h11.EndOfMessage):
                if self._drops and self._random.random() < DROPPED:
                    self.dropped += 1
                    return False
                peer.send(ANSWER)
                parser.send(h11.Response(status_code=204, headers=[]))
                parser.send(h11.EndOfMessage())
                if parser.our_state is not h11.DONE:  # it was the last
                    break
                parser.start_next_cycle()
        return True


def sloppy(data: bytes, *, believes_length: bool) -> int:
    """Count requests as a server does that takes what it gets."""
    count = 0
    while (end := HEAD_END.search(data)) is not None:
        head, data = data[: end.start()], data[end.end() :]
        if not head.strip():
            continue
        count += 1
        lines = [line.partition(b":") for line in re.split(rb"[\r\n]+", head)]
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        length = re.match(rb"\d+", headers.get(b"content-length", b""))
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"").lower()
        if length and (believes_length or not chunked):
            data = data[int(length[0]) :]
        elif chunked:
            data = _after_chunks(data)
    return count


def _after_chunks(data: bytes) -> bytes:
    while (line := re.match(rb"\s*([0-9a-fA-F]+)[^\n]*\n", data)) is not None:
        size = int(line[1], 16)
        data = data[line.end() + size :]
        if not size:
            end = re.search(rb"(\A|\n)\r?\n", data)  # of the trailers
            return data[end.end() :] if end else b""
    return b""


async def send(port: int, pieces: list[bytes], answers: int) -> bytes:
    """Send an input, and return what came once all its answers should have."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        async with asyncio.timeout(20):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            while len(STATUS_LINE.findall(got)) < answers:
                data = await reader.read(1 << 16)
                if not data:
                    break
                got += data
    finally:
        writer.transport.abort()
    return got


class Lane:
    """A recorder and its upstream, through which one input goes after the other."""

    def __init__(self, recorder: Recorder, behind: CountingUpstream) -> None:
        self._recorder = recorder
        self._behind = behind
        self._port = int(recorder.url.rpartition(":")[2])
        self.requests = self.came_out = 0

    async def check(self, pieces: list[bytes]) -> None:
        """Send an input, and compare what came out with what went in."""
        behind, data = self._behind, b"".join(pieces)
        asked, answers = expected(data)
        dropped = behind.dropped
        got = len(STATUS_LINE.findall(await send(self._port, pieces, answers)))
        await self._until_quiet()
        if behind.dropped == dropped:
            assert got == answers, (pieces, got)
        else:
            assert got <= answers, (pieces, got)
        assert behind.violations == []
        counts = behind.take()
        assert max(counts) <= asked, (pieces, counts)
        self.requests += asked
        self.came_out += min(counts)

    async def _until_quiet(self) -> None:
        """Wait until nothing can come out any more; the client has left."""
        async with asyncio.timeout(20):
            quiet = 0
            while quiet < 5:  # a connection may be made, and not be served yet
                is_open = self._recorder.stats().connections or self._behind.open
                quiet = 0 if is_open else quiet + 1
                await asyncio.sleep(0)


async def fuzz(
    store: Path, mutator: Mutator, count: int, *, drops: bool, seed: int
) -> None:
    """Send so many inputs through one recorder."""
    behind = CountingUpstream(drops=drops, seed=seed)
    async with upstream(behind) as port:
        recorder = Recorder(f"http://127.0.0.1:{port}", store=store)
        await recorder.start()
        try:
            lane = Lane(recorder, behind)
            for _ in range(count):
                await lane.check(mutator.make())
        finally:
            await recorder.stop(grace_s=1)
    # The inputs are neither all refused nor all dropped.
    assert lane.requests > count // 2
    assert lane.came_out > count // 3
    assert bool(behind.dropped) is drops


# All ten are ten thousand inputs, and take half a minute of a core.
SEEDS = [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 10))]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_request_comes_out_that_did_not_go_in(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Broken requests are refused, or forwarded once, and never raise."""
    problems: list[dict[str, object]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        mutator = Mutator(seed)
        async with asyncio.TaskGroup() as group:
            for lane in range(LANES):
                store, drops = tmp_path / str(lane), bool(lane % 2)
                work = fuzz(
                    store, mutator, 1000 // LANES, drops=drops, seed=seed + lane
                )
                group.create_task(work)

    factory = uvloop.new_event_loop if seed % 2 else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert problems == []
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
    for lane in range(LANES):
        with Store.open(tmp_path / str(lane)) as store:
            assert list(store.exchanges("outcome IS NULL")) == []


@pytest.mark.parametrize(
    ("data", "by_length", "by_chunks"),
    [
        (REQUESTS[0] * 3, 3, 3),
        (REQUESTS[2] + REQUESTS[3], 2, 2),
        (REQUESTS[9], 1, 1),
        (
            (
                b"POST / HTTP/1.1\nContent-Length: 4\nTransfer-Encoding: chunked\n\n"
                b"0\r\n\r\nGET /s HTTP/1.1\r\n\r\n"
            ),
            2,
            2,
        ),
        (
            (
                b"POST / HTTP/1.1\r\nContent-Length: 26\r\nTransfer-Encoding: chunked"
                b"\r\n\r\n0\r\n\r\nGET /s HTTP/1.1\r\n\r\nabc"
            ),
            1,
            2,
        ),
    ],
)
def test_the_sloppy_counters_can_be_deceived(
    data: bytes, by_length: int, by_chunks: int
) -> None:
    """What was forwarded as it came would give itself away."""
    assert sloppy(data, believes_length=True) == by_length
    assert sloppy(data, believes_length=False) == by_chunks
