"""Who wants to hear of exchanges, and what that may cost."""

from __future__ import annotations

import pytest
from otel_samples import ID, exchange, tool_call

from sse_recorder.capture.audience import Audience
from sse_recorder.exchange import Exchange, Opening, RequestHead, ToolCall
from sse_recorder.otel.stream import NOTHING_HEARD, Listener, StreamFacts
from sse_recorder.tables import EventRun, Rows

OPENING = Opening(
    recorder_id="r", started_at=0, url="http://a/", request=RequestHead("GET", "/")
)


class Ears:
    """Somebody who keeps what is told, and fails where that is wanted."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.emitted: list[tuple[Exchange, list[ToolCall], StreamFacts]] = []
        self.calls: list[ToolCall] = []

    def _fail(self, at: str) -> None:
        if self.fails == at:
            raise LookupError(at)

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Listen."""
        del exchange_id, opening
        self._fail("began")
        return Broken() if self.fails == "hear" else Listener()

    def emit(
        self, exchange: Exchange, tool_calls: list[ToolCall], facts: StreamFacts
    ) -> None:
        """Keep it."""
        self._fail("emit")
        self.emitted.append((exchange, tool_calls, facts))

    def told(self, call: ToolCall) -> None:
        """Keep it."""
        self._fail("told")
        self.calls.append(call)


class Broken(Listener):
    """A listener that fails."""

    def hear_rows(self, rows: Rows, frames: int, runs: int) -> None:
        """Fail."""
        raise LookupError(f"{rows}, {frames}, {runs}")


def rows_of_two_events() -> Rows:
    """Return the rows of two events."""
    rows, two = Rows(), [None, None]
    texts = ["text", "text"]
    rows.runs.append(
        EventRun(ID, 0, [1, 2], [1, 2], [9, 9], two, two, ["a", "b"], ["", ""], texts)
    )
    return rows


def through(ears: Ears | None) -> None:
    """Tell of one exchange, and of a call of another."""
    audience = Audience(ears)
    audience.began(ID, OPENING)
    rows = rows_of_two_events()
    audience.hear(ID, rows, 0, 0)
    audience.hear(ID, rows, 0, 1)  # of which nothing is new
    audience.ended(exchange(), [tool_call(1), tool_call(0)])
    audience.told(tool_call(2))


def test_all_is_told_in_its_order() -> None:
    """The calls in that of their numbers, with what the frames said, once."""
    ears = Ears()
    through(ears)
    ((one, calls, facts),) = ears.emitted
    assert one == exchange()
    assert [call.seq for call in calls] == [0, 1]
    assert facts.content_chunks == 2
    assert ears.calls == [tool_call(2)]


@pytest.mark.parametrize("at", ["began", "hear", "emit", "told"])
def test_what_fails_is_logged_and_nothing_else_suffers(
    at: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever records hears of no exception, and all else is told."""
    ears = Ears(at)
    through(ears)
    (line,) = caplog.records
    assert ID in line.getMessage()
    assert len(ears.emitted) == (at != "emit")
    assert len(ears.calls) == (at != "told")
    if at in {"began", "hear"}:
        assert ears.emitted[0][2] == NOTHING_HEARD


def test_who_is_forgotten_is_not_heard() -> None:
    """An exchange that failed tells no frames any more."""
    ears = Ears()
    audience = Audience(ears)
    audience.began(ID, OPENING)
    audience.forget(ID)
    audience.hear(ID, rows_of_two_events(), 0, 0)
    audience.ended(exchange(), [])
    assert ears.emitted[0][2] == NOTHING_HEARD


def test_nobody_may_want_to_hear(caplog: pytest.LogCaptureFixture) -> None:
    """Then there is nothing to do."""
    through(None)
    assert not caplog.records
