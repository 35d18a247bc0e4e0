"""Batches of records in; a journal, segments and spans out."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from capture.hearing import (
    COMPLETE,
    NEVER,
    SECRET,
    STREAM,
    hold,
    opening,
    until,
    writing,
)

from sse_recorder.capture import Limits
from sse_recorder.capture.tap import FLUSH_INTERVAL_S
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
from sse_recorder.store.store import Store


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


def test_every_exchange_that_ends_is_told_to_whom_it_may_concern(
    tmp_path: Path,
) -> None:
    """Spans are made of the rows that the store has."""
    heard: list[tuple[Exchange, list[ToolCall]]] = []

    class Ears:
        def emit(self, exchange: Exchange, tool_calls: list[ToolCall]) -> None:
            heard.append((exchange, tool_calls))

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
        assert heard == [(next(store.exchanges()), store.tool_calls("e"))]


def test_ears_that_fail_cost_no_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault in one exchange is logged, and the next one is recorded."""

    class Broken:
        def emit(self, exchange: Exchange, tool_calls: list[ToolCall]) -> None:
            raise RuntimeError(f"no ears for {exchange.exchange_id}, {tool_calls}")

    with writing(tmp_path, spans=Broken()) as writer:
        for name in ("one", "two"):
            hold(writer.tap(name, 0), 0)
    assert caplog.text.count("please report this") == 2
    with Store.open(tmp_path) as store:
        assert {e.exchange_id for e in store.exchanges()} == {"one", "two"}


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
