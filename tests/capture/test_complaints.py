"""Saying what went wrong in the log, the same thing at most once a minute."""

from __future__ import annotations

import pytest

from sse_recorder.capture.complaints import INTERVAL_NS, Complaints
from sse_recorder.clock import FakeClock


def test_the_same_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A log that says the same thing all the time hides what else it says."""
    time = FakeClock()
    complaints = Complaints(time.clock())
    for said in ("the disk is full", "the disk is full", "the writer fell behind"):
        complaints.say(said)
    assert caplog.messages == ["the disk is full", "the writer fell behind"]
    time.advance(INTERVAL_NS + 1)
    complaints.say("the disk is full")
    assert caplog.messages[2:] == ["the disk is full"]
