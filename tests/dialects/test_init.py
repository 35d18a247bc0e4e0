"""The rules by which a dialect is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder import dialects
from sse_recorder.dialects.base import DONE, Dialect, Kind, Reading
from sse_recorder.dialects.meibel import Meibel
from sse_recorder.exchange import RequestHead


def test_each_name_is_that_of_its_dialect() -> None:
    """The names in the tables are those that load the dialects."""
    for name in dialects.NAMES:
        assert dialects.load(name).name == name
    assert len(set(dialects.NAMES)) == len(dialects.NAMES)


def test_a_name_of_a_later_version_is_read_as_generic() -> None:
    """A store may name what this version does not know."""
    assert dialects.load("of-2030") is Dialect
    assert dialects.load("generic") is Dialect
    assert dialects.load("base") is Dialect


def test_a_request_is_claimed_by_its_head() -> None:
    """Or by nobody."""
    assert dialects.recognise(RequestHead("POST", "/sessions/x/chat")) is Meibel
    assert dialects.recognise(RequestHead("POST", "/")) is None


def test_a_stream_is_claimed_by_its_first_event() -> None:
    """Where the request said nothing."""
    assert dialects.recognise_event("connected", '{"signal_id":"s"}') is Meibel
    assert dialects.recognise_event("connected", "{}") is None
    assert dialects.recognise_event(None, "[DONE]") is None


TEXT_EVENTS = [
    (name, event)
    for name in dialects.NAMES
    for event in sorted(map(str, dialects.load(name).text_events))
]


@pytest.mark.parametrize(("name", "event"), TEXT_EVENTS)
@given(st.text() | st.just(DONE) | st.builds('{{"text":"{}"}}'.format, st.text()))
def test_events_that_need_no_reading_say_nothing_but_text(
    name: str, event: str, data: str
) -> None:
    """Whatever such an event holds, to pass over it loses nothing but its text."""
    reading = dialects.load(name)(RequestHead("POST", "/")).read_event(event, data)
    assert reading._replace(text="") == Reading(Kind.TEXT)
