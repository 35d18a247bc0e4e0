"""The thread that takes records to whoever writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from capture.hearing import hold, writing

from sse_recorder.capture import Limits, Writer
from sse_recorder.clock import FakeClock
from sse_recorder.errors import StoreError
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
