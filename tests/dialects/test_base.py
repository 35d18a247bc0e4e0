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
    id_of,
    label_of,
    message_of,
    parse_object,
    text_in,
    text_of,
    text_or_json,
    total_of,
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
    values: list[object] = ["", "a", {}, 0, None]
    parts = [{"text": "H"}, "x", {"text": 1}, {}, {"text": "i"}]
    assert [text_in(v) for v in ("Hi", parts, None, {"text": "x"})] == [
        "Hi",
        "Hi",
        "",
        "",
    ]
    assert [text_or_json(v) for v in values] == ["", "a", "{}", "0", None]
    assert [id_of(v) for v in values] == [None, "a", None, None, None]
    assert [label_of(v) for v in values] == ["", "a", "", "0", ""]
    counts = [0, 7, 2**63 - 1, 2**63, -1, True, 1.0, "1", None]
    assert [count_of(v) for v in counts] == [0, 7, 2**63 - 1, *[None] * 6]


def test_what_could_only_just_be_read_can_be_written() -> None:
    """A peer may nest values exactly as deeply as the interpreter can follow."""

    def written_from_deeper_down(value: object) -> str:
        return compact(value)

    for depth in range(800, 1_100):
        value = parse_object('{"a":' + "[" * depth + "]" * depth + "}")
        assert written_from_deeper_down(value)[:1] in ("{", "n")


def test_a_total_is_of_what_is_known_and_fits() -> None:
    """It is a count itself, which a column must hold."""
    assert total_of({"a": 1, "b": 2, "c": "x"}, "a", "b", "c", "d") == 3
    assert total_of({"a": 0}, "a") == 0
    for nothing in ({}, {"a": "x"}, None, {"a": 2**63 - 1, "b": 1}):
        assert total_of(nothing, "a", "b") is None


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no", "type": "t"},
        {"error": "no"},
        {"type": "error", "error": {"type": "t", "message": "no"}},
        {"error": {"code": "no"}, "type": ""},
        {"detail": "no", "code": 7},
        "no",
    ],
)
def test_an_error_says_what_is_wrong_in_one_of_many_places(error: object) -> None:
    """Whatever is nearest to a sentence is taken."""
    assert message_of(error) == "no"
