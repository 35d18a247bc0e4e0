"""The rules that all dialects share."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.dialects.base import (
    DONE,
    Dialect,
    Kind,
    Reading,
    compact,
    count_of,
    parse_object,
    text_of,
)
from sse_recorder.exchange import RequestHead

REQUEST = RequestHead("POST", "/chat")


def test_of_an_unknown_stream_only_the_sentinel_is_known() -> None:
    """Without a dialect events are `other`, but `[DONE]` is the end anywhere."""
    dialect = Dialect(REQUEST)
    assert dialect.name == "generic"
    assert dialect.read_event(None, DONE) == Reading(Kind.FINISH, terminal=True)
    assert dialect.read_event("text", " [DONE]") == Reading()
    assert dialect.read_body(b"{}") == Reading()
    assert dialect.session_id() is None
    assert not Dialect.recognises(REQUEST)
    assert not Dialect.recognises_event("connected", "{}")


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "null", "{", '"{}"', "[" * 100_000, b"\xff"]
)
def test_what_is_no_object_is_an_empty_one(text: str | bytes) -> None:
    """Whatever the peer sends, reading it does not fail."""
    assert parse_object(text) == {}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())))
def test_compact_json_is_the_same_value(value: dict[str, object]) -> None:
    """The shortest text has the value, with its keys in their order."""
    text = compact(value)
    assert parse_object(text) == value
    assert list(json.loads(text)) == list(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_half_a_surrogate_pair_stays_escaped() -> None:
    """JSON may say what no encoding of text can hold."""
    assert compact({"a": "\ud83d"}) == '{"a":"\\ud83d"}'
    assert json.loads(compact("\ud83dx")) == "\ud83dx"
    assert text_of("\udc00é") == "\\udc00é"


def test_values_of_another_type_are_none() -> None:
    """A field is used only where it is what it should be."""
    assert [text_of(v) for v in ("", "a", None, 1, ["a"])] == [
        "",
        "a",
        None,
        None,
        None,
    ]
    counts = [0, 7, 2**63 - 1, 2**63, -1, True, 1.0, "1", None]
    assert [count_of(v) for v in counts] == [0, 7, 2**63 - 1, *[None] * 6]
