"""The rules of Meibel's chat stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.dialects.base import Kind, Reading, ToolCalled, ToolReturned
from sse_recorder.dialects.meibel import Meibel
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import RequestHead
from sse_recorder.tables import Rows

REQUEST = RequestHead("POST", "/v2/sessions/0193a0c4/chat/stream?x=1")
DONE = Reading(Kind.FINISH, terminal=True)


def read(name: str | None, payload: object) -> Reading:
    """Read one event of a new stream."""
    return Meibel(REQUEST).read_event(name, json.dumps(payload))


def texts(*events: tuple[str, str]) -> list[str]:
    """Return what each of some events brings of new text."""
    dialect = Meibel(REQUEST)
    return [
        dialect.read_event(name, json.dumps({"data": {"message": message}})).text
        for name, message in events
    ]


def said(*messages: str) -> list[tuple[str, str]]:
    """Return partial responses."""
    return [("partial_response", message) for message in messages]


@pytest.mark.parametrize(
    ("target", "session"),
    [
        ("/v2/sessions/a-b/chat/stream", "a-b"),
        ("/sessions/a/chat", "a"),
        ("/prefix/sessions/a/chat/stream/?q=/sessions/b/chat", "a"),
        ("/v2/sessions/a/chat/streams", None),
        ("/v2/sessions//chat", None),
        ("/v2/chat", None),
    ],
)
def test_a_request_is_known_by_its_path(target: str, session: str | None) -> None:
    """The chat operations are Meibel's, and name the session."""
    request = RequestHead("POST", target)
    assert Meibel.recognises(request) == (session is not None)
    assert Meibel(request).session_id() == session


def test_a_request_is_known_by_its_header() -> None:
    """The vendor's own header says it for any path."""
    head = RequestHead("GET", "/x", (("MEIBEL-api-key", "[redacted]"),))
    assert Meibel.recognises(head)
    assert Meibel(head).session_id() is None


def test_a_stream_is_known_by_its_first_event() -> None:
    """`connected` with a `signal_id` is nobody else's."""
    assert Meibel.recognises_event("connected", '{"signal_id":"s"}')
    assert not Meibel.recognises_event("connected", '{"id":"s"}')
    assert not Meibel.recognises_event(None, '{"signal_id":"s"}')
    assert not Meibel.recognises_event("connected", "signal_id")


@pytest.mark.parametrize(
    ("name", "payload", "expected"),
    [
        ("connected", {"signal_id": "s"}, Reading(Kind.CONNECTED)),
        ("status", {"content": "thinking"}, Reading(Kind.STATUS)),
        (
            "tool_call",
            {"tool_id": "t", "tool_name": "search", "arguments": {"q": "é", "n": 1}},
            Reading(
                Kind.TOOL_CALL,
                tools=(ToolCalled("t", "t", "search", '{"q":"é","n":1}'),),
            ),
        ),
        (
            "tool_result",
            {"tool_id": "t", "result": {"a": [1]}},
            Reading(Kind.TOOL_RESULT, tools=(ToolReturned("t", '{"a":[1]}', False),)),  # noqa: FBT003
        ),
        (
            "partial_response",
            {"data": {"message": "Hi", "clean_message": "hi"}},
            Reading(Kind.TEXT, text="Hi"),
        ),
        (
            "completion",
            {"data": {"message": "Hi"}, "disposition": "answered"},
            Reading(Kind.FINISH, text="Hi", finish_reason="answered", terminal=True),
        ),
    ],
)
def test_the_six_events(name: str, payload: dict[str, Any], expected: Reading) -> None:
    """Each is read by its name, and as well by the type in its data."""
    assert read(name, payload) == expected
    for other in (None, "message", ""):
        assert read(other, {"type": name, **payload}) == expected


def test_the_sentinel_is_the_end() -> None:
    """`[DONE]` is no JSON, whatever the event is called."""
    assert Meibel(REQUEST).read_event(None, "[DONE]") == DONE
    assert Meibel(REQUEST).read_event("completion", "[DONE]") == DONE


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[("progress", Kind.STATUS), ("thinking", Kind.REASONING)],
        *[("content", Kind.TEXT), ("done", Kind.FINISH), ("error", Kind.ERROR)],
        *[("keepalive", Kind.KEEPALIVE), ("stream_complete", Kind.FINISH)],
        *[("Status", Kind.OTHER), ("citations", Kind.OTHER), ("", Kind.OTHER)],
    ],
)
def test_names_of_the_guides_and_unknown_ones(name: str, kind: Kind) -> None:
    """The guides have further names; what no list has is `other`."""
    assert read(name, {}).kind == read(None, {"type": name}).kind == kind


def test_the_name_of_the_event_wins_over_its_type() -> None:
    """Where both are known they may disagree."""
    assert read("status", {"type": "tool_call"}).kind is Kind.STATUS


@pytest.mark.parametrize(
    ("messages", "news"),
    [
        (["Hel", "Hello", "Hello you"], ["Hel", "lo", " you"]),
        (["Hel", "lo", " you"], ["Hel", "lo", " you"]),
        (["", "Hel", "Hel", "Hello"], ["", "Hel", "", "lo"]),
        (["a", "b", "a", "ab"], ["a", "b", "a", "ab"]),
        (["Hello", "Hello you", "Hallo you"], ["Hello", " you", "allo you"]),
        (["ab", "abc", "ab", "abcd"], ["ab", "c", "", "cd"]),
    ],
    ids=["cumulative", "deltas", "repeated", "like", "revised", "shorter"],
)
def test_messages_may_be_the_text_so_far_or_only_the_new_one(
    messages: list[str], news: list[str]
) -> None:
    """The first message that settles it decides for the stream."""
    assert texts(*said(*messages)) == news


@pytest.mark.parametrize(
    ("messages", "whole", "news"),
    [
        (["Hel", "Hello"], "Hello", ""),
        (["Hel", "Hello"], "Hello!", "!"),
        (["Hel", "lo", "!"], "Hello!", ""),
        (["Hel", "lo"], "Hello you", " you"),
        (["Hel", "lo"], "Something else", ""),
        (["Hello"], "Something else", ""),
        (["Hello"], "", ""),
        ([], "Hello", "Hello"),
        (["é😀", "x"], "é😀xy", "y"),
    ],
)
def test_the_whole_answer_is_news_only_where_it_goes_on(
    messages: list[str], whole: str, news: str
) -> None:
    """The completion repeats what was streamed."""
    assert texts(*said(*messages), ("completion", whole))[-1] == news


@given(st.lists(st.text(), max_size=8))
def test_the_news_of_a_growing_text_are_the_text(parts: list[str]) -> None:
    """Whatever the text is, what was new in each message joined is all of it."""
    messages = ["".join(parts[: n + 1]) for n in range(len(parts))]
    whole = "".join(parts)
    assert "".join(texts(*said(*messages), ("completion", whole))) == whole


def test_a_stream_of_deltas_does_not_keep_its_text() -> None:
    """Memory does not grow with the answer."""
    dialect = Meibel(REQUEST)
    for number in range(2_000):
        data = json.dumps({"data": {"message": f"{number} "}})
        dialect.read_event("partial_response", data)
    whole = "".join(f"{number} " for number in range(2_000))
    assert dialect._text == ""
    assert (
        dialect.read_event(
            "completion", json.dumps({"data": {"message": whole + "end"}})
        ).text
        == "end"
    )


@pytest.mark.parametrize(
    "payload",
    [
        {"data": {"message": "Hi"}},
        {"message": "Hi"},
        {"content": "Hi"},
        {"data": "x", "text": "Hi"},
        {"data": {"message": None, "content": "Hi"}},
        {"data": {}, "delta": "Hi"},
    ],
)
def test_the_text_is_found_where_the_schema_or_the_guides_put_it(
    payload: dict[str, Any],
) -> None:
    """Both are public, and they disagree."""
    assert read("content", payload).text == "Hi"


@pytest.mark.parametrize(
    ("payload", "failed"),
    [
        ({"result": {"error": "x"}}, True),
        ({"result": {"is_error": True}}, True),
        ({"result": {"isError": 1}}, True),
        ({"result": {"status": "failed"}}, True),
        ({"result": "x", "disposition": "error"}, True),
        ({"result": {"error": None, "status": "ok"}}, False),
        ({"result": {"error": ""}, "disposition": "done"}, False),
        ({"result": "error"}, False),
        ({"result": ["error"], "disposition": ["error"]}, False),
        ({}, False),
    ],
)
def test_what_counts_as_a_failed_tool(payload: dict[str, Any], *, failed: bool) -> None:
    """The disposition, the status, or a true error in the result says it."""
    (event,) = read("tool_result", {"tool_id": "t", **payload}).tools
    assert isinstance(event, ToolReturned)
    assert event.failed == failed


def test_every_status_of_a_call() -> None:
    """A stream with all that can become of a call."""
    events = [
        *[("tool_call", "a"), ("tool_result", "a"), ("tool_call", "b")],
        *[("tool_call", "b"), ("tool_result", "c"), ("tool_call", None)],
        *[("tool_result", None), ("tool_call", 7), ("failed", "b"), ("tool_call", "d")],
    ]
    dialect, ledger, calls = Meibel(REQUEST), ToolLedger("x"), []
    for frame, (name, tool_id) in enumerate(events):
        payload: dict[str, Any] = {"tool_id": tool_id, "tool_name": 7}
        if name == "failed":
            name, payload["result"] = "tool_result", {"error": "x"}  # noqa: PLW2901
        for event in dialect.read_event(name, json.dumps(payload)).tools:
            calls += ledger.add(event, frame, frame)
    calls += ledger.close()
    assert [(c.seq, c.tool_id, c.status) for c in calls] == [
        (0, "a", "ok"),
        (1, "b", "superseded"),
        (3, "c", "unmatched"),
        (5, None, "unmatched"),
        (2, "b", "error"),
        (4, None, "unanswered"),
        (6, None, "unanswered"),
        (7, "d", "unanswered"),
    ]
    assert {c.tool_name for c in calls} == {None}
    assert [c.arguments for c in calls if c.status == "unanswered"] == ["{}"] * 3


def test_an_error_event_says_what_went_wrong() -> None:
    """In its message, or all of it where it has none."""
    assert read("error", {"message": "overloaded"}).error == "overloaded"
    assert read("error", {"code": 7}).error == '{"code":7}'
    assert Meibel(REQUEST).read_event("error", "not json").error == "{}"


def test_a_plain_answer_has_its_usage() -> None:
    """The operation that does not stream counts tokens; the stream may."""
    usage = {"usage": {"input_tokens": 3, "output_tokens": 5}}
    body = Meibel(REQUEST).read_body(json.dumps(usage).encode())
    assert body == Reading(input_tokens=3, output_tokens=5)
    finish = read("completion", usage)
    assert (finish.input_tokens, finish.output_tokens) == (3, 5)
    for nothing in (
        b"",
        b"\xff",
        b"[]",
        b'{"usage":[1]}',
        b'{"usage":{"input_tokens":"3"}}',
    ):
        assert Meibel(REQUEST).read_body(nothing) == Reading()


NAMES = st.sampled_from(
    [
        *("connected", "status", "tool_call", "tool_result", "partial_response"),
        *("completion", "error", "done", "thinking", None),
    ]
)
FIELDS = st.sampled_from(
    [
        *("type", "data", "message", "tool_id", "tool_name", "arguments", "result"),
        *("usage", "disposition", "input_tokens", "error", "status", "content"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5)
    ),
    max_leaves=12,
)
PAYLOADS = VALUES.map(json.dumps) | st.text() | st.just('{"type":"\\ud800"}')


@given(st.lists(st.tuples(NAMES | st.text(), PAYLOADS), max_size=6))
def test_nothing_that_a_peer_sends_raises(events: list[tuple[str | None, str]]) -> None:
    """Any text, any JSON, under any name: it is read, and can be stored."""
    dialect, ledger, rows = Meibel(REQUEST), ToolLedger("x"), Rows()
    for frame, (name, data) in enumerate(events):
        reading = dialect.read_event(name, data)
        assert isinstance(reading.kind, Kind)
        for event in reading.tools:
            rows.add_tool_calls(ledger.add(event, frame, frame))
        for text in (reading.error, reading.finish_reason, reading.text):
            assert text is None or text.encode() is not None
        dialect.read_body(data.encode(errors="surrogatepass"))
    rows.add_tool_calls(ledger.close())
    rows.tables()


def test_deep_json_is_not_too_deep() -> None:
    """What can be parsed can be written again; what cannot is an empty object."""
    for depth in (10, 900, 990, 1_000, 100_000):
        deep = "[" * depth + "]" * depth
        for name in ("tool_call", "tool_result", "error", "completion"):
            data = f'{{"arguments":{deep},"result":{deep}}}'
            assert isinstance(Meibel(REQUEST).read_event(name, data), Reading)
