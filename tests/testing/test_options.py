"""What a test may ask for: read before anything is recorded or served."""

from __future__ import annotations

from typing import Any

import pytest

from sse_recorder.errors import UsageError
from sse_recorder.playback import MAX_SPEED, Pace
from sse_recorder.testing import Options

MS = 1_000_000


@pytest.mark.parametrize(
    ("options", "pace"),
    [
        ({}, Pace(speed=MAX_SPEED)),
        ({"speed": "max"}, Pace(speed=MAX_SPEED)),
        ({"speed": MAX_SPEED}, Pace(speed=MAX_SPEED)),
        ({"speed": "2"}, Pace(speed=2)),
        ({"ttfb": "300ms"}, Pace(speed=1, ttfb_ns=300 * MS)),
        ({"max_gap": "2s", "speed": 3}, Pace(speed=3, max_gap_ns=2_000 * MS)),
        ({"jitter": 0.5}, Pace(speed=1, jitter=0.5)),
    ],
)
def test_nothing_waits_unless_a_pace_is_asked_for(
    options: dict[str, Any], pace: Pace
) -> None:
    """And where one is, but no speed, it is the recorded one."""
    assert Options(**options).pace() == pace


@pytest.mark.parametrize(
    "options",
    [{"speed": 0}, {"speed": -1}, {"ttfb": "soon"}, {"max_gap": "1"}, {"jitter": -0.1}],
)
def test_a_pace_that_is_none_is_refused(options: dict[str, Any]) -> None:
    """With what to give instead."""
    with pytest.raises(UsageError, match="give"):
        Options(**options).pace()


def test_one_alone_is_not_taken_for_its_letters() -> None:
    """A fault, a field, a header."""
    options = Options(faults="reset@event:1", ignore="id", match_headers="X-A")
    assert [str(spec) for spec in options.specs()] == ["reset@event:1"]
    assert options.rules().headers == ("x-a",)
    assert options.rules() == Options(ignore=["id"], match_headers=["x-a"]).rules()
