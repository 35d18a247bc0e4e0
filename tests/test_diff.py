"""What two recordings say differently, on streams that can be compared by eye."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import records_of
from samples import (
    Event,
    called,
    chat_exchange,
    event,
    finished,
    meibel_exchange,
    returned,
    rows_of,
    said,
)

from sse_recorder import diff
from sse_recorder.diff import (
    Change,
    Divergence,
    Recorded,
    Rules,
    Tolerance,
    align,
    compare,
    compare_lists,
    pair,
    tolerance,
)
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, Outcome, Record
from sse_recorder.paths import ignoring
from sse_recorder.tables import FrameRow

Told = tuple[str, str, Any, Any]


def recorded(records: Sequence[Record]) -> Recorded:
    """Return an exchange as a store would give it."""
    transcript, rows = rows_of(records)
    frames = [FrameRow(*row) for row in rows.frames]
    return Recorded(transcript.exchange(), frames, transcript.tool_calls)


def chat(*events: Event, **options: Any) -> Recorded:
    """Return a chat whose stream says some events."""
    return recorded(meibel_exchange(events, **options))


def plain(*datas: str, path: str = "/events") -> Recorded:
    """Return a stream of an API that nothing is known of."""
    return recorded(records_of([f"data: {d}\n\n".encode() for d in datas], path=path))


def told(left: Recorded, right: Recorded, *ignored: str) -> list[Told]:
    """Return what differs, in words."""
    found = compare(left, right, Rules(tuple(map(ignoring, ignored))))
    return [(d.where, str(d.kind), d.left, d.right) for d in found]


# --- text and structure ---------------------------------------------------------------


def test_another_tokenisation_is_no_difference() -> None:
    """A text is compared whole, however it was cut into events."""
    left = chat(said(10, "Hel"), said(20, "lo, "), said(30, "you"))
    right = chat(said(10, "Hello"), said(40, ", you"))
    assert told(left, right) == []


def test_a_text_that_grows_is_the_text_of_its_deltas() -> None:
    """The dialect reads events that repeat what came before as what they add."""
    left = chat(said(10, "Hello"), said(20, "Hello, you"))
    right = chat(said(10, "Hello"), said(20, ", you"))
    assert told(left, right) == []


def test_another_text_is_told_whole() -> None:
    """There is one divergence, with both texts."""
    left, right = chat(said(10, "Hel"), said(20, "lo")), chat(said(10, "Hallo"))
    assert told(left, right) == [("text", "changed", "Hello", "Hallo")]


def test_comments_and_times_are_no_difference() -> None:
    """What a server sends to keep a connection alive says nothing."""
    chunks = [b"data: a\n\n", b": ping\n\n", b"data: b\n\n"]
    left = recorded(records_of(chunks, path="/x"))
    right = recorded(records_of([b"data: a\n\ndata: b\n\n"], path="/x"))
    assert told(left, right) == []


def test_a_missing_event_is_found_between_equal_ones() -> None:
    """What comes after it is not shifted."""
    status = [event(n, "status", {"content": name}) for n, name in enumerate("abc")]
    left, right = chat(*status, said(9, "x")), chat(status[0], status[2], said(9, "x"))
    gone = {"status": {"content": "b"}}
    assert told(left, right) == [("events[1]", "missing", gone, None)]
    assert told(right, left) == [("events[1]", "added", None, gone)]


def test_events_of_one_kind_are_compared_in_their_place() -> None:
    """An event that is like another differs from it in what it says."""
    left = chat(event(1, "status", {"content": "a", "n": 1}))
    right = chat(event(1, "status", {"content": "b", "n": 1}))
    assert told(left, right) == [("events[0].content", "changed", "a", "b")]


def test_an_event_that_moved_is_told_once() -> None:
    """Where it was and where it went, and nothing of what it went past."""
    status = event(1, "status", {"content": "a"})
    text = said(2, "x")
    found = told(chat(status, text), chat(text, status))
    assert len(found) == 1
    where, kind, left, right = found[0]
    assert (where[:6], kind) == ("events", "reordered")
    assert (left[:5], right[:5]) in {("at 0:", "at 1:"), ("at 1:", "at 0:")}


def test_the_whole_text_said_again_is_told_once() -> None:
    """An answer that the last event repeats is no second divergence."""

    def answer(text: str) -> Recorded:
        last = {"data": {"message": text, "citations": []}, "disposition": "stop"}
        return chat(said(1, text), event(2, "completion", last))

    assert told(answer("one"), answer("two")) == [("text", "changed", "one", "two")]


def test_what_only_happens_to_be_the_text_is_compared() -> None:
    """A member that is the whole text of one side says the same on both."""

    def answer(text: str, state: str = "ok") -> Recorded:
        return chat(said(1, text), event(2, "status", {"content": state, "n": [state]}))

    changed = ("text", "changed", "ok", "no")
    assert told(answer("ok"), answer("no")) == [changed]
    assert told(answer("ok"), answer("no", "bad")) == [
        ("events[1].content", "changed", "ok", "bad"),
        ("events[1].n[0]", "changed", "ok", "bad"),
        changed,
    ]
    assert told(answer("ok", "ok"), answer("no", "no")) == [changed]  # both say theirs


def test_an_event_that_is_like_another_but_for_the_text_is_its_partner() -> None:
    """One that comes before it, of its kind, has no other."""

    def answer(text: str, *before: Event) -> Recorded:
        return chat(said(1, text), *before, event(3, "status", {"whole": text, "n": 1}))

    found = told(answer("one", event(2, "status", {"n": 0})), answer("two"))
    assert found == [
        ("events[1]", "missing", {"status": {"n": 0}}, None),
        ("text", "changed", "one", "two"),
    ]


def test_noise_of_the_dialect_is_no_difference() -> None:
    """Ids and times of events are; what else they say is not."""
    left = chat(event(1, "connected", {"signal_id": "1", "sequence": "1", "v": 1}))
    right = chat(event(1, "connected", {"signal_id": "2", "timestamp": "x", "v": 2}))
    assert told(left, right) == [("events[0].v", "changed", 1, 2)]


def test_an_unknown_stream_is_compared_by_its_payloads() -> None:
    """JSON by members, other text as it is, and names of events count."""
    left = plain('{"a": 1, "b": 2}', "x", "last")
    right = plain('{"b": 2, "a": 3}', "x", "last\nevent: bye")
    assert told(left, right) == [
        ("events[0].a", "changed", 1, 3),
        ("events[2]", "missing", {"event": "last"}, None),
        ("events[2]", "added", None, {"event bye": "last"}),
    ]


def test_a_stream_that_was_cut_ends_in_its_tail() -> None:
    """What came without its blank line is compared, too."""
    left = recorded(records_of([b"data: a\n\ndata: b"], path="/x"))
    right = recorded(records_of([b"data: a\n\n"], path="/x"))
    assert told(left, right) == [("events[1]", "missing", {"tail": "data: b"}, None)]


JSON = (("Content-Type", "application/json"),)


def test_a_body_is_compared_as_json() -> None:
    """An answer that is no stream has one payload, however it was read."""
    one = recorded(records_of([b'{"a": [1, ', b"2]}"], headers=JSON, path="/x"))
    other = recorded(records_of([b'{ "a":[1,3] }'], headers=JSON, path="/x"))
    assert told(one, other) == [("events[0].a[1]", "changed", 2, 3)]
    frames = [f._replace(raw=b'{"a": [1') for f in one.frames]
    frames += [f._replace(raw=b", 3]}") for f in one.frames]
    assert told(one._replace(frames=frames), other) == []


def test_a_body_that_is_no_text_is_compared_by_its_hash() -> None:
    """Bytes are not shown."""
    one = recorded(records_of([b"\xff\x00"], headers=JSON, path="/x"))
    other = recorded(records_of([b"\xff\x01"], headers=JSON, path="/x"))
    ((where, _, left, right),) = told(one, other)
    assert where == "events[0]"
    assert left.startswith("sha256:")
    assert right.endswith(", 2 B")
    assert told(one, one) == []


# --- tool calls -----------------------------------------------------------------------


def test_arguments_are_compared_as_json() -> None:
    """Each member that differs has its path; their order means nothing."""
    left = chat(called(1, "t1", "search", city="Lisbon", days=[1, 2]))
    right = chat(called(1, "x9", "search", days=[1, 3], city="Porto"))
    assert told(left, right) == [
        ("tool_calls[0].arguments.city", "changed", "Lisbon", "Porto"),
        ("tool_calls[0].arguments.days[1]", "changed", 2, 3),
    ]


def test_an_id_in_arguments_is_the_tools_own() -> None:
    """What is noise in events is none in what a tool is asked."""
    left = chat(called(1, "a", "get", sequence=1, q=1))
    right = chat(called(1, "b", "get", sequence=2, q=1))
    assert told(left, right) == [("tool_calls[0].arguments.sequence", "changed", 1, 2)]


def test_results_and_statuses_are_compared() -> None:
    """A tool that failed on one side did not on the other."""
    left = chat(called(1, "a", "get"), returned(2, "a", {"n": 1}))
    right = chat(called(1, "a", "get"), returned(2, "a", {"error": "no"}))
    assert told(left, right) == [
        ("tool_calls[0].result.n", "missing", 1, None),
        ("tool_calls[0].result.error", "added", None, "no"),
        ("tool_calls[0].status", "changed", "ok", "error"),
    ]


def test_a_call_that_is_not_made_is_missing() -> None:
    """The calls before and after it keep their partners."""
    calls = [called(n, f"t{n}", name) for n, name in enumerate(("a", "b", "c"))]
    left, right = chat(*calls), chat(calls[0], calls[2])
    assert told(left, right, "events") == [
        ("tool_calls[1]", "missing", {"b": {}}, None)
    ]


def test_calls_in_another_order_are_reordered() -> None:
    """A call that moved is not missing here and added there."""
    one, two = called(1, "t1", "a", x=1), called(2, "t2", "b", x=2)
    ((_, kind, left, right),) = told(chat(one, two), chat(two, one))
    assert kind == "reordered"
    assert {left, right} <= {
        *('at 0: {"a":{"x":1}}', 'at 1: {"a":{"x":1}}'),
        *('at 0: {"b":{"x":2}}', 'at 1: {"b":{"x":2}}'),
    }


# --- the head and the end -------------------------------------------------------------


def test_status_outcome_and_finish_reason_are_compared() -> None:
    """How it went is a divergence each."""
    left = chat(said(1, "x"), finished(2))
    right = chat(said(1, "x"), outcome=Outcome.UPSTREAM_ABORT, error="eof: closed")
    other = right._replace(exchange=replace(right.exchange, status=500))
    assert told(left, other) == [
        ("status", "changed", 200, 500),
        ("outcome", "changed", "complete", "upstream_abort"),
        ("finish_reason", "changed", "stop", None),
        (
            "events[1]",
            "missing",
            {"finish": {"data": {"message": ""}, "disposition": "stop"}},
            None,
        ),
    ]


def test_a_reset_is_no_end_of_file() -> None:
    """Two that broke differ where they broke in another way, in whatever words."""

    def broken(error: str) -> Recorded:
        return chat(outcome=Outcome.UPSTREAM_ABORT, error=error)

    assert told(broken("eof: after 3 B"), broken("reset: by peer")) == [
        ("end", "changed", "eof", "reset")
    ]
    assert told(broken("eof: after 3 B"), broken("eof")) == []


# --- times ----------------------------------------------------------------------------


def test_times_count_only_with_a_tolerance() -> None:
    """Each time that differs by more than it is a divergence of its own."""

    def run(factor: float) -> Recorded:
        return chat(
            called(100, "a", "get"),
            returned(100 + 100 * factor, "a"),
            said(300, "x"),
            headers_ms=11,
            ended_ms=1000 * factor,
        )

    assert told(run(1), run(1.2)) == []
    found = compare(run(1), run(1.2), Rules(timing=Tolerance(share=0.1)))
    assert found == [
        Divergence(
            ("tool_calls", 0, "duration_ns"), Change.TIMING, 100_000_000, 120_000_000
        ),
        Divergence(("e2e_ns",), Change.TIMING, 1_000_000_000, 1_200_000_000),
    ]
    assert compare(run(1), run(1.2), Rules(timing=Tolerance(share=0.2))) == []
    assert compare(run(1), run(1.2), Rules(timing=Tolerance(0.1, 200_000_000))) == []


def test_a_time_that_one_side_has_not_is_told_by_what_it_lacks() -> None:
    """A stream without content has no time to first content."""
    found = compare(chat(said(1, "x")), chat(), Rules(timing=Tolerance(ns=10**10)))
    assert [d.where for d in found] == ["events[0]", "text"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10%", Tolerance(0.1, 0)),
        ("2.5 %", Tolerance(0.025, 0)),
        ("50ms", Tolerance(0.0, 50_000_000)),
        ("10%, 1.5s", Tolerance(0.1, 1_500_000_000)),
    ],
)
def test_a_tolerance_is_a_share_or_a_time_or_both(
    text: str, expected: Tolerance
) -> None:
    """As people write it."""
    assert tolerance(text) == expected


@pytest.mark.parametrize("text", ["", "10", "-5%", "fast", "10%;5ms"])
def test_what_is_no_tolerance_is_refused(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(UsageError, match="write 10%, 50ms"):
        tolerance(text)


# --- JSON -----------------------------------------------------------------------------


def json_told(left: str, right: str) -> list[Told]:
    """Return how two JSON texts differ."""
    return told(plain(left), plain(right))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("[1,2,3]", "[1,3]", [("events[0][1]", "missing", 2, None)]),
        ("[1,3]", "[1,2,3]", [("events[0][1]", "added", None, 2)]),
        ("[1,2]", "[1,9]", [("events[0][1]", "changed", 2, 9)]),
        ('{"a":null}', "{}", [("events[0].a", "missing", None, None)]),
        ('{"a b":1}', '{"a b":2}', [('events[0]["a b"]', "changed", 1, 2)]),
        ("true", "1", [("events[0]", "changed", True, 1)]),
        ("1", '"1"', [("events[0]", "changed", 1, "1")]),
        ("1.0", "1", []),
        ("NaN", "NaN", []),
        ('{"a":1,"b":2}', '{"b":2,"a":1}', []),
        ("[1", "[1 ", [("events[0]", "changed", "[1", "[1 ")]),
    ],
)
def test_json_is_compared_by_what_it_means(
    left: str, right: str, expected: list[Told]
) -> None:
    """Members by name, items by likeness and order, values with their type."""
    assert json_told(left, right) == expected


def test_json_that_is_too_deep_is_text() -> None:
    """What could exhaust the stack is compared as it is written."""
    deep, deeper = ("[" * n + "]" * n for n in (diff.JSON_DEPTH_MAX, 100_000))
    assert json_told(deep, deep) == json_told(deeper, deeper) == []
    ((where, kind, left, _),) = json_told(deeper, deep)
    assert (where, kind, left) == ("events[0]", "changed", deeper)


# --- rules ----------------------------------------------------------------------------

LEFT = chat(called(1, "a", "get", city="Lisbon", at={"id": 1}), said(2, "x"))
RIGHT = chat(called(1, "a", "get", city="Porto", at={"id": 2}), said(2, "y"))


@pytest.mark.parametrize(
    ("rule", "left_over"),
    [
        ("city", ["text", "tool_calls[0].arguments.at.id"]),
        ("$.tool_calls[0].arguments.city", ["text", "tool_calls[0].arguments.at.id"]),
        ("tool_calls[*].arguments.*.id", ["text", "tool_calls[0].arguments.city"]),
        ("tool_calls[1]", ["text", "tool_calls[0].arguments.city", "….at.id"]),
        ('["at"].id', ["text", "tool_calls[0].arguments.city"]),
        ("arguments", ["text"]),
        ("text", ["tool_calls[0].arguments.city", "tool_calls[0].arguments.at.id"]),
    ],
)
def test_a_rule_ignores_what_its_path_is_a_piece_of(
    rule: str, left_over: list[str]
) -> None:
    """A name alone is ignored wherever it is, a path where it leads."""
    found = [where for where, *_ in told(LEFT, RIGHT, rule)]
    expected = [w.replace("…", "tool_calls[0].arguments") for w in left_over]
    assert found == expected


def test_a_name_is_ignored_before_items_are_matched() -> None:
    """Items that differ in nothing else are equal."""
    left, right = '[{"id":1,"a":1},{"id":2}]', '[{"id":7,"a":1},{"id":8},{"a":2}]'
    found = told(plain(left), plain(right), "id")
    assert found == [("events[0][2]", "added", None, {"a": 2})]


# --- lists of exchanges ---------------------------------------------------------------


def exchange(**values: Any) -> Exchange:
    """Return an exchange of which only some things matter."""
    base: dict[str, Any] = {
        "exchange_id": "x",
        "recorder_id": "r",
        "started_at": 0,
        "url": "u",
    }
    return Exchange(**({"method": "POST", "path": "/a"} | base | values))


def pairs(left: Iterable[Exchange], right: Iterable[Exchange]) -> list[diff.Pair]:
    """Pair two lists."""
    return pair(list(left), list(right))


def test_equal_requests_are_paired_in_their_order() -> None:
    """The first of a kind with the first, the second with the second."""
    a, b = exchange(request_key="a"), exchange(request_key="b")
    assert pairs([a, b, a], [a, a, b]) == [(0, 0), (1, 2), (2, 1)]


def test_what_has_no_equal_is_paired_by_likeness() -> None:
    """First the same path, then the same shape of it, then the same dialect."""
    left = [
        exchange(request_key="1", path="/x/1"),
        exchange(request_key="2", path="/y"),
        exchange(request_key="3", path="/z", dialect="meibel"),
        exchange(request_key="4", path="/q", method="GET"),
    ]
    right = [
        exchange(request_key="5", path="/w", dialect="meibel"),
        exchange(request_key="6", path="/x/2"),
        exchange(request_key="7", path="/y"),
        exchange(request_key="8", path="/q"),
    ]
    assert pairs(left, right) == [(0, 1), (1, 2), (2, 0), (3, None), (None, 3)]


def test_an_exchange_without_another_is_a_divergence() -> None:
    """It is named by its request, and the pairs are compared."""
    one, two, three = (
        chat(said(1, "x"), number=1),
        chat(said(1, "y"), number=2),
        recorded(records_of([b"data: z\n\n"], number=3, path="/z")),
    )
    known = {r.exchange.exchange_id: r for r in (one, two, three)}

    def load(item: Exchange) -> Recorded:
        return known[item.exchange_id]

    def run(left: list[Recorded], right: list[Recorded], *rules: str) -> list[Any]:
        one, other = ([r.exchange for r in side] for side in (left, right))
        ignored = Rules(tuple(map(ignoring, rules)))
        found = compare_lists(one, other, load, load, ignored)
        return [(d.where, d.kind, d.left, d.right) for x in found for d in x[2]]

    missing = ("exchange[1]", "missing", "POST /z", None)
    assert run([one, three], [two]) == [
        ("exchange[0].text", "changed", "x", "y"),
        missing,
    ]
    assert run([two], [two, three]) == [("exchange[1]", "added", None, "POST /z")]
    assert run([one, three], [two], "text") == [missing]
    assert run([one, three], [two], "exchange") == []


def test_no_two_pairs_go_by_the_same_number() -> None:
    """What only the right has is numbered behind all of the left."""
    left = [exchange(request_key="a", path="/a"), exchange(request_key="b", path="/b")]
    right = [exchange(request_key="c", method="GET"), exchange(path="/q", method="PUT")]

    def load(item: Exchange) -> Recorded:
        raise AssertionError(item)

    found = compare_lists(left, right, load, load)
    assert [(d.where, str(d.kind)) for x in found for d in x.divergences] == [
        ("exchange[0]", "missing"),
        ("exchange[1]", "missing"),
        ("exchange[2]", "added"),
        ("exchange[3]", "added"),
    ]


def test_the_same_lists_are_aligned_to_themselves() -> None:
    """Lists too long to be aligned are held against each other place by place."""
    keys = [(str(n), "") for n in range(3000)]
    assert align(keys, keys) == [(n, n) for n in range(3000)]
    shifted = align(keys, keys[1:])
    assert len(shifted) == 3000


# --- whatever is compared -------------------------------------------------------------

words = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | words | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
    ),
    max_leaves=6,
)
steps = st.one_of(
    st.builds(lambda text: ("said", text), words),
    st.builds(lambda value: ("status", value), values),
    st.builds(lambda name, value: ("called", name, value), words, values),
    st.builds(lambda value: ("returned", value), values),
)


def made(script: list[Any]) -> Recorded:
    """Return the chat of a script."""
    events: list[Event] = []
    for at_ms, (verb, *said_) in enumerate(script, start=1):
        if verb == "said":
            events.append(said(at_ms, said_[0]))
        elif verb == "status":
            events.append(event(at_ms, "status", {"content": said_[0]}))
        elif verb == "called":
            events.append(called(at_ms, "t", said_[0], value=said_[1]))
        else:
            events.append(returned(at_ms, "t", said_[0]))
    return chat(*events)


@given(st.lists(steps, max_size=8))
def test_an_exchange_equals_itself(script: list[Any]) -> None:
    """Whatever it says, and to the nanosecond."""
    assert compare(made(script), made(script), Rules(timing=Tolerance())) == []


OPPOSITE = {Change.MISSING: Change.ADDED, Change.ADDED: Change.MISSING}


def essence(found: list[Divergence]) -> Counter[str]:
    """Return divergences without the numbers in their paths, which are one side's."""
    return Counter(
        json.dumps([[p for p in d.path if isinstance(p, str)], *d[1:]]) for d in found
    )


@given(st.lists(steps, max_size=8), st.lists(steps, max_size=8))
def test_to_exchange_the_sides_is_all_that_changes(
    left: list[Any], right: list[Any]
) -> None:
    """What is missing was added, and left is right."""
    there, back = compare(made(left), made(right)), compare(made(right), made(left))
    turned = [
        Divergence(d.path, OPPOSITE.get(d.kind, d.kind), d.right, d.left) for d in back
    ]
    assert essence(there) == essence(turned)


@given(st.text(max_size=40), st.data())
def test_a_text_is_the_same_however_it_is_cut(text: str, data: st.DataObject) -> None:
    """Cutting never makes a divergence of the text, nor of the structure."""

    def cut() -> Recorded:
        places = data.draw(st.lists(st.integers(1, max(len(text), 1)), max_size=5))
        so_far = [text[:place] for place in sorted({*places, len(text)})]
        return chat(*(said(n, start) for n, start in enumerate(so_far, start=1)))

    assert told(cut(), cut()) == []


def test_a_result_of_the_next_request_is_no_difference() -> None:
    """It is that request's: a recording of one exchange alone lacks it."""
    one = recorded(chat_exchange(1, calls=["c1"]))
    (call,) = one.tool_calls
    told_of = replace(call, status="ok", timing="cross_request", result="sun")
    unmatched = replace(told_of, seq=1, status="unmatched", tool_name="other")
    other = one._replace(tool_calls=[told_of, unmatched])
    assert told(one, other) == told(other, one) == []
    called_else = one._replace(tool_calls=[replace(told_of, arguments='{"q":2}')])
    assert [where for where, *_ in told(one, called_else)] == [
        "tool_calls[0].arguments.q"
    ]
