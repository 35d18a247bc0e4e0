"""Saying what went wrong in the log, each kind of thing at most once a minute."""

from __future__ import annotations

import pytest

from sse_recorder.capture.complaints import INTERVAL_NS, Complaints
from sse_recorder.clock import FakeClock


def test_each_kind_of_thing_is_said_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A log that says much the same all the time hides what else it says."""
    time = FakeClock()
    complaints = Complaints(time.clock())
    for kind, said in (("seal", "1 failed"), ("seal", "2 failed"), ("queue", "full")):
        complaints.say(kind, said)
    assert caplog.messages == ["1 failed", "full"]
    time.advance(INTERVAL_NS + 1)
    complaints.say("seal", "3 failed")
    assert caplog.messages[2:] == ["3 failed"]
