"""The thread that takes records to whoever writes them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from capture.hearing import hold, writing
from support import eventually

from sse_recorder.capture import Limits, Writer
from sse_recorder.capture.process import ScribeProcess
from sse_recorder.capture.writer import PIECE_BYTES
from sse_recorder.clock import FakeClock
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Op, RawRecord
from sse_recorder.store.store import Store


def test_no_exchange_is_lost_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However full the queue is, each exchange has its row, and the log says why."""
    with writing(tmp_path, limits=Limits(queue_bytes=3_000)) as writer:
        for number in range(200):
            hold(writer.tap(f"e{number}", 0), 0)
    with Store.open(tmp_path) as store:
        outcomes = [e.outcome for e in store.exchanges()]
    assert len(outcomes) == 200
    assert "incomplete" in outcomes
    assert caplog.text.count("the writer fell behind and records were dropped") == 1


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """It is told before anything is listened to, and says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        Writer(tmp_path / "file" / "below")


def test_recorders_share_a_store(tmp_path: Path) -> None:
    """Any number of them write at the same time, and share nothing."""
    clock = FakeClock().clock()
    with writing(tmp_path, clock=clock) as one, writing(tmp_path, clock=clock) as two:
        hold(one.tap("one", 0), 0)
        hold(two.tap("two", 0), 0)
    with Store.open(tmp_path) as store:
        found = {e.exchange_id: e.outcome for e in store.exchanges()}
    assert found == {"one": "complete", "two": "complete"}


def test_a_record_that_never_fits_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when nothing else happens."""
    with writing(tmp_path, limits=Limits(queue_bytes=100)) as writer:
        assert not writer.queue.put(("e", Op.DATA, 0, bytes(200)), 200)
        eventually(lambda: "the writer fell behind" in caplog.text)


def test_a_large_batch_is_handed_over_in_pieces(tmp_path: Path) -> None:
    """Each of them is answered, and none is much larger than it has to be."""
    with writing(tmp_path) as writer:
        record: RawRecord = ("e", Op.DATA, 0, bytes(PIECE_BYTES // 3))
        large: RawRecord = ("e", Op.DATA, 0, bytes(2 * PIECE_BYTES))
        records = [record] * 4 + [large] + [record]
        writer.queue.taken_bytes = 4 * PIECE_BYTES
        pieces = list(writer._pieces(records))
        writer.queue.taken_bytes = 1
        assert list(writer._pieces(records)) == [records]
    assert [len(piece) for piece in pieces] == [3, 1, 1, 1]
    assert [record for piece in pieces for record in piece] == records


def test_the_thread_survives_whatever_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault is logged once and makes health red, until a batch is written."""
    with writing(tmp_path) as writer:
        backend = writer._backend
        writer._backend = cast("ScribeProcess", None)  # a fault of any kind
        writer._hand_over([])
        writer._hand_over([])
        writer._backend = backend
        assert "the recorder failed" in writer.health().lasting[0]
        hold(writer.tap("e", 0), 0)
        eventually(lambda: not writer.health().problems)
    assert caplog.text.count("a batch was not written; please report this") == 1
    assert writer.recorded == (1, 0, 0)
