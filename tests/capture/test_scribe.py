"""Batches of records in; a journal, segments and spans out."""

from __future__ import annotations

import gzip
import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from capture.hearing import (
    CHAT,
    COMPLETE,
    NEVER,
    SECRET,
    STREAM,
    answers,
    ask,
    hold,
    opening,
    until,
    writing,
)
from coders import FLUSHERS
from support import eventually, fill, small_disk

from sse_recorder import coding
from sse_recorder.capture import Limits, Writer
from sse_recorder.capture.scribe import Scribe
from sse_recorder.capture.tap import FLUSH_INTERVAL_S, RecordQueue, Tap
from sse_recorder.clock import SYSTEM, FakeClock
from sse_recorder.dialects.conversations import Conversations
from sse_recorder.exchange import (
    Ending,
    Exchange,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
    ToolCall,
)
from sse_recorder.otel import Listener, StreamFacts, facts_of
from sse_recorder.redact import Redactor
from sse_recorder.store.journal import read as read_journal
from sse_recorder.store.recovery import recover
from sse_recorder.store.segment import OpenSegment
from sse_recorder.store.store import Store
from sse_recorder.store.verify import Tally, verify
from sse_recorder.tables import Rows


@pytest.mark.parametrize(
    "poison",
    [
        Record("bad", Op.DATA, 4, None),
        Record("bad", Op.CARRY, 4, {}),
        Record("bad", Op.END, 4, None),
    ],
    ids=["cannot be masked", "cannot be transcribed", "an end that is none"],
)
def test_a_fault_of_ours_leaves_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, poison: Record
) -> None:
    """An exchange that cannot be transcribed is there, and says that it failed."""
    with writing(tmp_path) as writer:
        tap = writer.tap("bad", 0)
        tap.opened(opening())
        tap.head(3, STREAM)
        writer.queue.put(poison)  # what no tap would say
        tap.data(5, b"data: 1\n\n")
        tap.ended(6, COMPLETE)
        hold(writer.tap("good", 0), 0)
    assert "please report this" in caplog.text
    with Store.open(tmp_path) as store:
        found = {e.exchange_id: (e.outcome, e.error) for e in store.exchanges()}
    assert found == {
        "bad": ("incomplete", "the recorder failed; its log says how"),
        "good": ("complete", None),
    }


def test_an_exchange_can_be_queried_before_its_segment_is_sealed(
    tmp_path: Path,
) -> None:
    """One that ended is there within a second, one that is open is followed."""
    with writing(tmp_path, limits=NEVER) as writer:
        hold(writer.tap("over", 0), 0)
        hold(writer.tap("open", 0), 0, end=False)
        (over,) = until(tmp_path, "outcome = 'complete'")
        (opened,) = until(tmp_path, "exchange_id = 'open'")
        assert not list(tmp_path.glob("exchanges/*/*"))
    assert (over.exchange_id, over.frame_count, over.request_body) == (
        "over",
        2,
        b"hello",
    )
    assert (opened.outcome, opened.frame_count, opened.chunk_count) == (None, 1, 1)


def test_no_secret_of_a_head_reaches_the_disk(tmp_path: Path) -> None:
    """Heads are masked before the journal is written."""
    with writing(tmp_path, limits=NEVER) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, ResponseHead(200, "OK", (("Set-Cookie", f"sid={SECRET}"),)))
        tap.ended(5, Ending(outcome=Outcome.COMPLETE, trailers=(("X-Key", SECRET),)))
        until(tmp_path, "outcome = 'complete'")
        journals = list(tmp_path.glob(".journal/*.arrows"))
        assert all(SECRET.encode() not in path.read_bytes() for path in journals)
        assert b"[redacted]" in journals[0].read_bytes()
    with Store.open(tmp_path) as store:
        assert SECRET not in repr(next(store.exchanges()))


@pytest.mark.parametrize(
    "limits",
    [Limits(segment_bytes=1), Limits(segment_age_s=0), Limits(idle_s=0.01)],
    ids=["size", "age", "idleness"],
)
def test_a_segment_is_sealed_for_each_reason(tmp_path: Path, limits: Limits) -> None:
    """Size, age and idleness each make Parquet of a journal while recording goes on."""
    with writing(tmp_path, limits=limits) as writer:
        hold(writer.tap("e", 0), 0)
        for _ in range(200):
            if list(tmp_path.glob("exchanges/*/*.parquet")):
                break
            threading.Event().wait(0.05)
        else:
            raise AssertionError("nothing was sealed in ten seconds")
    with Store.open(tmp_path) as store:
        assert [e.frame_count for e in store.exchanges()] == [2]


def test_an_exchange_may_span_segments(tmp_path: Path) -> None:
    """Whatever the segments, an exchange is one, with its bytes and its numbers."""
    pieces = [b"data: %d\n\nda" % n for n in range(20)]
    with writing(tmp_path, limits=Limits(segment_bytes=1)) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.sent(1)
        tap.head(2, STREAM)
        for number, piece in enumerate(pieces):
            tap.data(10 + number, piece)
            until(tmp_path, f"chunk_count = {number + 1}")
        tap.ended(99, COMPLETE)
    assert len(list(tmp_path.glob("exchanges/*/*.parquet"))) > 5
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        assert exchange.chunk_count == 20
        assert [chunk.data for chunk in store.chunks("e")] == pieces
        assert [frame.seq for frame in store.frames("e")] == list(
            range(exchange.frame_count)
        )


def test_a_seal_that_fails_keeps_the_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be made into Parquet now can be, later, by a recovery."""
    with writing(tmp_path, limits=NEVER) as writer:
        hold(writer.tap("e", 0), 0)
        (tmp_path / "exchanges").write_text("in the way")
    assert "its journal is kept" in caplog.text
    assert list(tmp_path.glob(".journal/*.arrows"))
    (tmp_path / "exchanges").unlink()
    with writing(tmp_path) as writer:
        assert [item.exchanges for item in writer.recovered] == [1]
    with Store.open(tmp_path) as store:
        assert [e.outcome for e in store.exchanges()] == ["complete"]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size while the block lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_journal_that_cannot_be_written_ends_exchanges_as_incomplete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The streams go on, one line is logged, and the outcome is honest."""
    with writing(tmp_path, limits=NEVER) as writer:
        tap = writer.tap("e", 0)
        hold(tap, 0, end=False)
        until(tmp_path, "chunk_count = 1")
        (path,) = tmp_path.glob(".journal/*.arrows")
        whole = path.read_bytes()
        with full_disk(len(whole) + 10):
            for at_ns in (5, 6):
                tap.data(at_ns, b"ta: lost\n\n")
                while "File too large" not in caplog.text:
                    threading.Event().wait(0.01)
            threading.Event().wait(2 * FLUSH_INTERVAL_S)
            assert path.read_bytes() == whole
        tap.ended(7, COMPLETE)
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
    assert exchange.outcome == "incomplete"
    assert exchange.error == "the journal could not be written: File too large"
    assert caplog.text.count("File too large") == 1


WIDE = opening(request=RequestHead("GET", "/", (("X", "x" * 60_000),)))


def test_a_disk_that_has_room_again_is_noticed_by_itself(tmp_path: Path) -> None:
    """Nothing has to be recorded for it; what was lost is told for a minute more."""
    time = FakeClock()
    with small_disk(tmp_path / "disk", "1m") as disk:
        with writing(disk / "store", clock=time.clock(), limits=NEVER) as writer:
            filler = fill(disk)
            tap = writer.tap("e", 0)
            tap.opened(WIDE)
            tap.ended(9, COMPLETE)
            eventually(lambda: writer.health().lasting)
            (problem,) = writer.health().problems
            assert problem == (
                "the journal could not be written: No space left on device"
            )
            filler.unlink()
            eventually(lambda: not writer.health().lasting)
            assert writer.health().problems == (problem,)
            time.advance(61_000_000_000)
            eventually(lambda: not writer.health().problems)
            (exchange,) = until(disk / "store", "exchange_id = 'e'")
            assert (exchange.outcome, exchange.error) == ("incomplete", problem)
            hold(writer.tap("later", 0), 0)
        with Store.open(disk / "store") as store:
            found = {e.exchange_id: e.outcome for e in store.exchanges()}
    assert found == {"e": "incomplete", "later": "complete"}


def test_what_is_still_owed_at_the_end_is_sealed(tmp_path: Path) -> None:
    """A segment may have room where its journal had none."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        with writing(disk / "store", limits=NEVER) as writer:
            filler = fill(disk)
            for number in range(10):
                tap = writer.tap(f"e{number}", 0)
                tap.opened(WIDE)
                tap.ended(9, COMPLETE)
            eventually(lambda: writer.health().lasting)
            os.truncate(filler, filler.stat().st_size - (60 << 10))
        with Store.open(disk / "store") as store:
            outcomes = [e.outcome for e in store.exchanges()]
    assert outcomes == ["incomplete"] * 10


def unsealed(root: Path) -> Iterator[Path]:
    """Give the journals that have an exchange in them."""
    for path in root.glob(".journal/*.arrows"):
        with suppress(FileNotFoundError):
            if path.stat().st_size > 999:
                yield path


def test_what_could_not_be_sealed_is_sealed_when_it_can_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No later segment is needed for it, and the log says once what is wrong."""
    (tmp_path / "exchanges").write_text("in the way")
    with writing(tmp_path, limits=Limits(segment_bytes=1)) as writer:
        for name in ("one", "two"):
            hold(writer.tap(name, 0), 0)
            eventually(lambda: writer.health().lasting)
        assert "could not be sealed" in writer.health().lasting[0]
        (tmp_path / "exchanges").unlink()
        hold(writer.tap("three", 0), 0)  # which can be sealed at once
        assert until(tmp_path, "exchange_id = 'three' AND outcome IS NOT NULL")
        eventually(lambda: not writer.health().lasting)
        eventually(lambda: not any(unsealed(tmp_path)))
    assert caplog.text.count("could not be sealed") == 1


def test_a_seal_does_not_hide_that_an_earlier_one_failed(tmp_path: Path) -> None:
    """It is tried again as long as there is something that was not sealed."""
    clock, queue = FakeClock(), RecordQueue(10**6)
    scribe = Scribe(
        tmp_path,
        recorder_id="r",
        redactor=Redactor(),
        spans=None,
        limits=Limits(segment_bytes=1),
        clock=clock.clock(),
    )

    def write(*names: str) -> None:
        for name in names:
            hold(Tap(queue, name, 0), 0)
        scribe.write((queue.take(0) or []) if names else [])
        assert scribe._sealing is not None
        wait([scribe._sealing])

    (tmp_path / "exchanges").write_text("in the way")
    write("one")
    write("two")  # and one is tried again, in vain
    (tmp_path / "exchanges").unlink()
    write("three")
    assert [path.name for path in unsealed(tmp_path)] != []
    assert len(scribe.status.problems) == 1
    clock.advance(10_000_000_000)
    write()
    assert not scribe.status.problems
    assert not any(unsealed(tmp_path))
    scribe.close()


def test_a_request_body_that_cannot_be_kept_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says what is lacking, health is red, and by itself green again."""
    time = FakeClock()
    with small_disk(tmp_path / "disk", "6m") as disk:
        with writing(disk / "store", clock=time.clock(), limits=NEVER) as writer:
            filler = disk / "filler"
            filler.write_bytes(bytes(4_200_000))
            tap = writer.tap("e", 0)
            tap.opened(opening())
            for _ in range(20):
                tap.request_data(1, bytes(1 << 16))
            eventually(lambda: "request body" in caplog.text)
            tap.ended(9, COMPLETE)
            filler.unlink()
            eventually(lambda: not writer.health().lasting)
            time.advance(61_000_000_000)
            eventually(lambda: not writer.health().problems)
        with Store.open(disk / "store") as store:
            (exchange,) = store.exchanges()
    assert exchange.outcome == "incomplete"
    line = "a request body could not be kept whole: No space left on device"
    assert caplog.text.count(line) == 1


class Deaf:
    """Somebody who is told of exchanges, and makes nothing of them."""

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Listen."""
        del exchange_id, opening
        return Listener()

    def emit(
        self, exchange: Exchange, tool_calls: list[ToolCall], facts: StreamFacts
    ) -> None:
        """Do nothing."""

    def told(self, call: ToolCall) -> None:
        """Do nothing."""


def test_every_exchange_that_ends_is_told_to_whom_it_may_concern(
    tmp_path: Path,
) -> None:
    """Spans are made of the rows that the store has."""
    heard: list[tuple[Exchange, list[ToolCall], StreamFacts]] = []

    class Ears(Deaf):
        def emit(
            self, exchange: Exchange, tool_calls: list[ToolCall], facts: StreamFacts
        ) -> None:
            heard.append((exchange, tool_calls, facts))

    with writing(tmp_path, spans=Ears()) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, STREAM)
        call = b'event: tool_call\ndata: {"tool_id": "%s", "tool_name": "t"}\n\n'
        result = b'event: tool_result\ndata: {"tool_id": "%s", "result": 1}\n\n'
        for at_ns, data in enumerate((call % b"a", call % b"b", result % b"b"), 4):
            tap.data(at_ns, data)
        tap.ended(9, COMPLETE)
    with Store.open(tmp_path) as store:
        facts = facts_of(store.frames("e"))
        assert heard == [(next(store.exchanges()), store.tool_calls("e"), facts)]
        assert facts.is_stream


def test_ears_that_fail_cost_no_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in one exchange is logged, and the next one is recorded."""

    class Broken(Deaf):
        def emit(
            self, exchange: Exchange, tool_calls: list[ToolCall], facts: StreamFacts
        ) -> None:
            raise RuntimeError(f"{exchange.exchange_id}, {tool_calls}, {facts}")

    with writing(tmp_path, spans=Broken()) as writer:
        for name in ("one", "two"):
            hold(writer.tap(name, 0), 0)
    assert caplog.text.count("please report this") == 2
    with Store.open(tmp_path) as store:
        assert {e.exchange_id for e in store.exchanges()} == {"one", "two"}


class NoBeginning(Deaf):
    """Somebody who fails as an exchange begins."""

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Fail."""
        raise RuntimeError(f"{exchange_id}, {opening}")


class NoFrames(Deaf):
    """Somebody who fails on its frames."""

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Return what fails."""
        del exchange_id, opening

        class Broken(Listener):
            def hear_rows(self, rows: Rows, frames: int, runs: int) -> None:
                raise RuntimeError(f"{rows}, {frames}, {runs}")

        return Broken()


@pytest.mark.parametrize("ears", [NoBeginning(), NoFrames()], ids=["begin", "frames"])
def test_ears_that_fail_early_cost_no_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ears: Deaf
) -> None:
    """Who does not hear how it begins, or what it says, does not end it."""
    with writing(tmp_path, spans=ears) as writer:
        for name in ("one", "two"):
            tap = writer.tap(name, 0)
            tap.opened(opening())
            tap.head(1, STREAM)
            tap.data(2, b"data: 1\n\ndata: 2\n\n")
            tap.ended(9, COMPLETE)
    assert caplog.text.count("telemetry does not hear all of exchange") == 2
    with Store.open(tmp_path) as store:
        found = {(e.exchange_id, e.outcome, e.frame_count) for e in store.exchanges()}
    assert found == {("one", "complete", 2), ("two", "complete", 2)}


def test_short_exchanges_share_a_segment(tmp_path: Path) -> None:
    """One that begins and ends within a batch is no sign of idleness."""
    with writing(tmp_path, limits=Limits(idle_s=5)) as writer:
        for number in range(5):
            hold(writer.tap(f"e{number}", 0), 0)
            until(tmp_path, f"exchange_id = 'e{number}' AND outcome IS NOT NULL")
    assert len(list(tmp_path.glob("exchanges/*/*.parquet"))) == 1


def test_an_opening_that_cannot_be_masked_leaves_a_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of it reaches the disk but that there was an exchange."""
    broken = RequestHead("POST", "/secret", (("X", None),))  # type: ignore[arg-type]
    with writing(tmp_path) as writer:
        tap = writer.tap("bad", 0)
        tap.opened(opening(request=RequestHead("POST", "/secret", ())))
        tap.ended(6, COMPLETE)
        queued = Record("worse", Op.OPEN, 0, opening(url="http://h/secret"))
        assert isinstance(queued.payload, Opening)
        writer.queue.put(
            queued._replace(payload=replace(queued.payload, request=broken))
        )
        writer.queue.put(Record("worse", Op.END, 6, COMPLETE))
    assert "cannot be masked" in caplog.text
    with Store.open(tmp_path) as store:
        (worse,) = store.exchanges("exchange_id = 'worse'")
    assert (worse.outcome, worse.method, worse.url) == ("incomplete", "POST", "")


KEY = "sk-ant-api03-Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"
PARTS = [KEY[at : at + 8].encode() for at in range(len("sk-ant-"), len(KEY) - 7)]
UNCODED = "ask for it uncoded (Accept-Encoding: identity)"


def coded(name: str) -> ResponseHead:
    """Return the head of an event stream in a content coding."""
    return ResponseHead(200, "OK", (*STREAM.headers, ("Content-Encoding", name)))


def told(name: str, wire: bytes) -> bytes:
    """Return the bytes of a coded body, and what they decode to."""
    decoder = coding.decoder(name)
    assert decoder is not None
    return wire + decoder.decode(wire)


@pytest.mark.parametrize("name", FLUSHERS)
def test_a_secret_in_a_coded_body_never_reaches_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The body is kept up to it, the exchange says why, and the log says it once."""
    flusher = FLUSHERS[name]()
    events = [b"data: a\n\n", f"data: {KEY}\n\n".encode(), b"data: b\n\n"]
    first, *rest = map(flusher, events)
    with writing(tmp_path, limits=NEVER) as writer:
        for eid in ("one", "two"):
            tap = writer.tap(eid, 0)
            tap.opened(opening())
            tap.head(3, coded(name))
            for at_ns, data in enumerate((first, *rest), 4):
                tap.data(at_ns, data)
            tap.ended(9, COMPLETE)
        until(tmp_path, "exchange_id = 'two' AND outcome IS NOT NULL")
        (journal,) = tmp_path.glob(".journal/*.arrows")
        written = journal.read_bytes()
        assert first in written
        assert not [part for part in (*PARTS, *rest) if part in written]
    with Store.open(tmp_path) as store:
        for exchange in store.exchanges():
            assert exchange.outcome == "incomplete"
            assert exchange.error == (
                f"a secret (anthropic-key) is inside of a {name}-coded body, which is"
                f" not kept from there on; {UNCODED}"
            )
            eid = exchange.exchange_id
            assert [tuple(chunk) for chunk in store.chunks(eid)] == [(4, first)]
            assert [frame.data for frame in store.frames(eid)] == ["a"]
    found = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert not [part for part in PARTS if part in found]
    assert caplog.text.count("a coded body is not kept to its end") == 1
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", FLUSHERS)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_no_part_of_a_secret_that_a_coded_body_ends_in_is_kept(
    tmp_path: Path, name: str, size: int
) -> None:
    """What is held back of it goes when no more comes, as does the rest."""
    flusher = FLUSHERS[name]()
    text = f'data: {{"delta": "{KEY}'.encode()
    with writing(tmp_path) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, coded(name))
        for at in range(0, len(text), size):
            tap.data(4 + at, flusher(text[at : at + size]))
        tap.ended(99, Ending(outcome=Outcome.UPSTREAM_ABORT, error="reset"))
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        kept = told(name, store.body("e"))
    assert exchange.outcome == "incomplete"
    assert "anthropic-key" in (exchange.error or "")
    assert not [part for part in PARTS if part in kept]
    assert text[: text.index(b"sk-ant-")] in kept


def test_a_coded_request_with_a_secret_in_it_is_not_kept(tmp_path: Path) -> None:
    """Requests obey the same rule, and nothing that follows is kept either."""
    sent = gzip.compress(b'{"api_key": "correct-horse", "message": "Hi"}')
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    with writing(tmp_path) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening(request=RequestHead("POST", "/", headers)))
        tap.request_data(1, sent[:20])
        tap.request_data(1, sent[20:])
        tap.sent(2)
        tap.head(3, STREAM)
        tap.data(4, b"data: 1\n\n")
        tap.ended(5, COMPLETE)
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
    assert exchange.outcome == "incomplete"
    assert exchange.error == (
        "a secret (field api_key) is inside of a gzip-coded body, which is not kept"
        " from there on; send it uncoded, or keep the name with --redact-keep api_key"
    )
    assert b"correct" not in told("gzip", exchange.request_body)


@pytest.mark.parametrize("name", FLUSHERS)
def test_a_coded_body_without_a_secret_is_kept_whole(tmp_path: Path, name: str) -> None:
    """It is recorded read by read, whatever it had to wait for."""
    flusher = FLUSHERS[name]()
    pieces = [b"data: sk-", b"Zq8X", b" no\n", b"\ndata: 2\n\n", b'data: "Bearer ']
    chunks = [flusher(piece) for piece in pieces]
    with writing(tmp_path) as writer:
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, coded(name))
        for at_ns, data in enumerate(chunks, 4):
            tap.data(at_ns, data)
        tap.ended(99, COMPLETE)
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        assert [tuple(c) for c in store.chunks("e")] == list(enumerate(chunks, 4))
    assert (exchange.outcome, exchange.error) == ("complete", None)


# --- calls that the client's next request answers -------------------------------------


def answered(root: Path) -> list[tuple[object, ...]]:
    """Return the tool calls of a store: exchange, status, result and duration."""
    query = (
        "SELECT exchange_id, seq, status, result, duration_ns FROM tool_calls"
        " ORDER BY exchange_id, seq"
    )
    with Store.open(root) as store:
        return [tuple(row.values()) for row in store.sql(query).to_pylist()]


def is_answered(root: Path) -> bool:
    """Tell whether a store knows of any answered call by now."""
    return any(row[2] == "ok" for row in answered(root))


PAIRED = [
    ("a", 0, "ok", "of c1", 19_999_996),
    ("a", 1, "unanswered", None, None),
    ("b", 0, "unmatched", "of c9", None),
]


def converse(writer: Writer) -> None:
    """Let two requests be heard, of which the second answers a call of the first."""
    ask(writer.tap("a", 0), {"messages": []}, calls=["c1", "c2"])
    ask(writer.tap("b", 0), answers("c1", "c9"), at_ms=20)


def test_a_call_has_the_result_of_the_next_request(tmp_path: Path) -> None:
    """While both are in a journal, and when they are sealed."""
    with writing(tmp_path, limits=NEVER) as writer:
        converse(writer)
        eventually(lambda: len(answered(tmp_path)) == 3)
        assert answered(tmp_path) == PAIRED
        assert not list(tmp_path.glob("tool_calls/*/*"))
    assert answered(tmp_path) == PAIRED


def test_a_call_in_a_sealed_segment_is_answered_in_a_later_one(tmp_path: Path) -> None:
    """No sealed file is written again; a reader sees one row, the later."""
    with writing(tmp_path, limits=Limits(segment_bytes=1)) as writer:
        ask(writer.tap("a", 0), {"messages": []}, calls=["c1", "c2"])
        eventually(lambda: list(tmp_path.glob("exchanges/*/*")))
        (path,) = tmp_path.glob("tool_calls/*/*.parquet")
        before = path.read_bytes()
        ask(writer.tap("b", 0), answers("c1", "c9"), at_ms=20)
        eventually(lambda: is_answered(tmp_path))
        assert path.read_bytes() == before
    assert len(list(tmp_path.glob("tool_calls/*/*.parquet"))) > 1
    assert answered(tmp_path) == PAIRED
    assert list(verify(tmp_path, Tally())) == []


def test_a_result_may_come_while_the_call_is_still_streamed(tmp_path: Path) -> None:
    """The client read what it needed, and went on before the end."""
    with writing(tmp_path, limits=NEVER) as writer:
        tap = writer.tap("a", 0)
        ask(tap, {"messages": []}, calls=["c1", "c2"], end=False)
        ask(writer.tap("b", 0), answers("c1", "c9"), at_ms=20)
        until(tmp_path, "exchange_id = 'b' AND outcome IS NOT NULL")
        assert answered(tmp_path) == []
        tap.ended(30_000_000, COMPLETE)
    assert answered(tmp_path) == PAIRED


def conversing(
    root: Path, *earlier: str, at_once: bool = False, path: str = CHAT
) -> Scribe:
    """Return a scribe that has written two requests, each a batch unless at once.

    The first may have results of calls that nobody heard of.
    """
    scribe = Scribe(
        root,
        recorder_id="r",
        redactor=Redactor(),
        spans=None,
        limits=NEVER,
        clock=SYSTEM,
    )
    queue = RecordQueue(10**6)
    ask(Tap(queue, "a", 0), answers(*earlier), calls=["c1", "c2"], path=path)
    if not at_once:
        scribe.write(queue.take(0) or [])
    ask(Tap(queue, "b", 0), answers("c1", "c9"), at_ms=20, path=path)
    scribe.write(queue.take(0) or [])
    return scribe


@pytest.mark.parametrize(
    ("owner", "name"),
    [(OpenSegment, "keep"), (Conversations, "asked"), (Conversations, "ended")],
    ids=["rows", "asked", "ended"],
)
def test_a_fault_of_ours_costs_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    """The journal has what the rows lack, and is what they are made of then."""
    real, faults = getattr(owner, name), [RuntimeError("ours")]

    def once(*args: object) -> object:
        if faults:
            raise faults.pop()
        return real(*args)

    monkeypatch.setattr(owner, name, once)
    scribe = conversing(tmp_path, at_once=True)
    assert not faults
    scribe._roll()
    queue = RecordQueue(10**6)
    ask(Tap(queue, "c", 0), {"messages": []}, at_ms=40)
    scribe.write(queue.take(0) or [])
    scribe.close()
    recover(tmp_path)
    with Store.open(tmp_path) as store:
        found = [(e.exchange_id, e.outcome, e.frame_count) for e in store.exchanges()]
    assert sorted(found) == [(eid, "complete", 1) for eid in "abc"]


def batch_ends(path: Path) -> list[int]:
    """Return where the batches of a journal end, the whole of it last."""
    file = pa.OSFile(str(path))
    return [file.tell() for _ in pa.ipc.open_stream(file)]


@pytest.mark.parametrize("at_once", [False, True], ids=["two batches", "one batch"])
@pytest.mark.parametrize("path", [CHAT, "/of/no/api"], ids=["known", "told by events"])
@pytest.mark.parametrize("earlier", [(), ("c0",)], ids=["", "both with results"])
def test_who_reads_that_a_request_is_over_finds_what_it_answered(
    tmp_path: Path, path: str, earlier: tuple[str, ...], *, at_once: bool
) -> None:
    """Wherever the journal ends by then, for a reader or because of a crash."""
    scribe = conversing(tmp_path, *earlier, at_once=at_once, path=path)
    scribe.leave()
    (journal,) = tmp_path.glob(".journal/*.arrows")
    whole = journal.read_bytes()
    seen = list[tuple[bool, bool]]()
    for end in batch_ends(journal):
        journal.write_bytes(whole[:end])
        with Store.open(tmp_path) as store:
            over = store.exchanges("exchange_id = 'b' AND outcome IS NOT NULL")
            answered = (call.status == "ok" for call in store.tool_calls("a"))
            seen.append((any(over), any(answered)))
    assert sorted(set(seen)) == [(False, False), (False, True), (True, True)]


def test_an_answer_outlives_the_process(tmp_path: Path) -> None:
    """A journal that nobody sealed has it; so has what a recovery makes of it."""
    scribe = conversing(tmp_path)
    scribe._segment.journal.close()  # as the kernel does
    assert answered(tmp_path) == PAIRED
    assert [item.exchanges for item in recover(tmp_path)] == [2]
    assert answered(tmp_path) == PAIRED
    assert list(verify(tmp_path, Tally())) == []


@pytest.mark.parametrize("is_close", [False, True], ids=["no room", "too little"])
def test_an_answer_waits_while_it_cannot_be_written(
    tmp_path: Path, *, is_close: bool
) -> None:
    """Until then the call has none, and the request that answers it is not over."""
    whole = conversing(tmp_path / "whole")
    (path,) = (tmp_path / "whole").glob(".journal/*.arrows")
    *_, asked, answer, _end, _unmatched = batch_ends(path)
    with full_disk(answer - 1 if is_close else asked + 1):
        scribe = conversing(tmp_path / "cut")
    assert answered(tmp_path / "cut") == [
        ("a", 0, "unanswered", None, None),
        ("a", 1, "unanswered", None, None),
    ]
    until(tmp_path / "cut", "exchange_id = 'b' AND outcome IS NULL")
    assert scribe.status.journal_errors == len(scribe.status.problems) == 1
    scribe.write([])
    assert answered(tmp_path / "cut") == PAIRED
    until(tmp_path / "cut", "exchange_id = 'b' AND outcome = 'complete'")
    (path,) = (tmp_path / "cut").glob(".journal/*.arrows")
    ops = [(r.exchange_id, r.op) for r in read_journal(path)]
    assert ops.index(("a", Op.TOOL_CALL)) < ops.index(("b", Op.END))
    for one in (scribe, whole):
        one.close()
    assert answered(tmp_path / "cut") == PAIRED
