"""Faults of a replay, as its client reads them from the socket, and when."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.reading import END, SLACK_MS, Received, chunks_of, received, unchunked
from http1.wire import Run

from recordings import MS, exchange
from sse_recorder.exchange import Chunk, Outcome
from sse_recorder.replay import ReplayServer
from sse_recorder.store import cassette

ONE, TWO, THREE = b"data: one\n\n", "data: né\n\n".encode(), b"data: three\n\n"
ALL = ONE + TWO + THREE
# They are recorded 10, 20, 120 and 220 ms after the request, and the end at 230 ms.
CHUNKS = [Chunk(30 * MS, ONE), Chunk(130 * MS, TWO), Chunk(230 * MS, THREE)]
SSE = ("Content-Type", "text/event-stream")
CHUNKED = ("Transfer-Encoding", "chunked")
BODY = b'{"b":2,"a":1}'
POST = (
    b"POST /chat?x=1 HTTP/%b\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Content-Length: 13\r\n\r\n" + BODY
)


def replayed(
    run: Run,
    folder: Path,
    faults: str,
    *,
    version: bytes = b"1.1",
    seed: int = 0,
    **changes: object,
) -> Received:
    """Return what a client reads of a replay with faults."""
    path, got = folder / "a.sse.jsonl", list[Received]()
    recorded = exchange(ended_ns=240 * MS, **changes)
    chunks = CHUNKS if recorded.status else []
    path.write_text(cassette.dumps(recorded, chunks))

    async def main() -> None:
        server = ReplayServer(path, faults=faults.split(), seed=seed)
        await server.start()
        got.append(await received(server.url, POST % version))
        await server.stop()

    run(main())
    return got[0]


@pytest.mark.parametrize(
    ("faults", "head_ms", "events_ms"),
    [
        ("first-byte=100ms", 110, (120, 220, 320)),
        ("stall=150ms@event:1", 10, (20, 270, 370)),
        ("delay=50ms@event:2", 10, (20, 170, 220)),
        ("delay=150ms@event:2", 10, (20, 270, 270)),
        ("stall=50ms@ms:60 stall=50ms@event:2", 10, (20, 170, 320)),
    ],
)
def test_what_is_late_is_so_late(
    run: Run, tmp_path: Path, faults: str, head_ms: int, events_ms: tuple[int, ...]
) -> None:
    """The head and each event come when the faults say, by the client's clock."""
    got = replayed(run, tmp_path, faults)
    assert unchunked(got.body) == ALL
    due = {b"\r\n\r\n": head_ms, **dict(zip((ONE, TWO, THREE), events_ms, strict=True))}
    for mark, due_ms in due.items():
        assert due_ms <= got.came_ms(mark) < due_ms + SLACK_MS


@pytest.mark.parametrize(
    ("way", "chunks"),
    [
        ("1", [bytes([byte]) for byte in ALL]),
        ("merge", [ONE + TWO, THREE]),
        ("merge3", [ALL]),
        ("utf8", [ONE, TWO[:8], TWO[8:], THREE]),
        ("crlf", [part for one in (ONE, TWO, THREE) for part in (one[:-1], one[-1:])]),
    ],
)
def test_the_bytes_come_in_other_chunks(
    run: Run, tmp_path: Path, way: str, chunks: list[bytes]
) -> None:
    """In these, and no others."""
    assert chunks_of(replayed(run, tmp_path, f"reslice={way}").body) == chunks


def test_random_chunks_come_again_with_their_seed(run: Run, tmp_path: Path) -> None:
    """Another seed cuts at other places, and the bytes are the same."""
    first, again, other = (
        chunks_of(replayed(run, tmp_path, "reslice=random", seed=seed).body)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert b"".join(first) == b"".join(other) == ALL


@pytest.mark.parametrize(
    ("faults", "body", "ended_ms"),
    [
        ("stall@event:1 cut@ms:150", ONE, 150),
        ("cut@event:2", ONE + TWO, 120),
        ("cut@bytes:13", ONE + TWO[:2], 120),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("headers", [(SSE,), (SSE, CHUNKED)], ids=["close", "chunked"])
def test_a_cut_ends_the_connection_in_order(
    run: Run,
    tmp_path: Path,
    faults: str,
    body: bytes,
    ended_ms: int,
    version: bytes,
    headers: tuple[tuple[str, str], ...],
) -> None:
    """At its time, and by no reset, whatever else would end the body."""
    changes = {"version": version, "response_headers": headers}
    got = replayed(run, tmp_path, faults, **changes)  # type: ignore[arg-type]
    is_chunked = version == b"1.1" and CHUNKED in headers
    assert (unchunked(got.body) if is_chunked else got.body) == body
    assert not got.was_reset
    assert ended_ms <= got.ended_ms < ended_ms + SLACK_MS


def test_a_recorded_break_of_such_a_body_is_still_seen(
    run: Run, tmp_path: Path
) -> None:
    """What did not look whole when it was recorded does not when it is replayed."""
    got = replayed(
        run,
        tmp_path,
        "",
        response_headers=(SSE,),
        outcome=Outcome.UPSTREAM_ABORT,
        error="timeout: x",
    )
    assert (got.body, got.was_reset) == (ALL, True)


ERROR = b'event: error\ndata: {"error":{"type":"injected_fault","message":"late"}}\n\n'


@pytest.mark.parametrize("status", [200, None])
def test_an_error_may_be_all_of_an_answer(
    run: Run, tmp_path: Path, status: int | None
) -> None:
    """Before the head of a recording, or where it has none, it brings one."""
    headless = {"outcome": Outcome.UPSTREAM_ERROR, "response_headers": ()}
    changes = {"status": status, **({} if status else headless)}
    got = replayed(run, tmp_path, "error=late@ms:5", **changes)  # type: ignore[arg-type]
    assert got.head.startswith(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    )
    assert unchunked(got.body) == ERROR
    assert got.body.endswith(END)
    assert 5 <= got.ended_ms < 5 + SLACK_MS


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize(
    ("fault", "body"),
    [
        ("drop@event:2", ONE + THREE),
        ("duplicate@event:2", ONE + TWO + TWO + THREE),
        ("error=late@event:3", ALL + ERROR),
    ],
)
def test_a_length_that_becomes_wrong_is_not_announced(
    run: Run, tmp_path: Path, version: bytes, fault: str, body: bytes
) -> None:
    """A client reads all of what is longer, and waits for nothing that is missing."""
    headers = (SSE, ("Content-Length", str(len(ALL))))
    got = replayed(run, tmp_path, fault, version=version, response_headers=headers)
    assert b"Content-Length" not in got.head
    is_chunked = version == b"1.1"
    assert (unchunked(got.body) if is_chunked else got.body) == body
    assert got.body.endswith(END) == is_chunked
