"""In which words telemetry speaks, and how much it tells."""

from __future__ import annotations

import pytest

from sse_recorder.errors import UsageError
from sse_recorder.otel.view import CONTENT_VARIABLE, View


@pytest.mark.parametrize(
    ("value", "on_spans", "on_events"),
    [
        ("", False, False),
        ("NO_CONTENT", False, False),
        ("false", False, False),
        ("SPAN_ONLY", True, False),
        ("True", True, False),
        ("event_only", False, True),
        (" SPAN_AND_EVENT ", True, True),
    ],
)
def test_the_standard_switch_says_where_content_goes(
    value: str, *, on_spans: bool, on_events: bool
) -> None:
    """Four modes, in any case, and the two values from before there were modes."""
    view = View.of({CONTENT_VARIABLE: value})
    assert (view.content_on_spans, view.content_on_events) == (on_spans, on_events)
    assert view.has_content == (on_spans or on_events)


def test_nothing_is_told_unless_it_is_asked_for() -> None:
    """Without the variable there is no content."""
    assert View.of({}) == View()
    assert not View().has_content


def test_what_there_is_not_is_refused() -> None:
    """A misspelt mode, vocabulary or backend is wrong usage, in a sentence."""
    with pytest.raises(UsageError, match="SPAN_ONLY, EVENT_ONLY"):
        View.of({CONTENT_VARIABLE: "everything"})
    with pytest.raises(UsageError, match="no vocabulary"):
        View(vocabulary="genai-2")
    with pytest.raises(UsageError, match="langfuse, logfire, openinference"):
        View(compat=("datadog",))
