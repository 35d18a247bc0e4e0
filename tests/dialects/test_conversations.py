"""Calls that the client answers in its next request."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.dialects.conversations import (
    BYTES_MAX,
    Conversations,
    Part,
    rebuilt,
)
from sse_recorder.dialects.turns import ClientResult
from sse_recorder.exchange import ToolCall

MS = 1_000_000
CHAT = "What is the capital of France?"


def call(
    exchange_id: str,
    seq: int = 0,
    tool_id: str | None = None,
    name: str = "search",
    arguments: str | None = '{"q": 1}',
    *,
    called_ns: int | None = 5 * MS,
) -> ToolCall:
    """Return a call without a result."""
    return ToolCall(
        exchange_id=exchange_id,
        seq=seq,
        tool_id=tool_id,
        tool_name=name,
        arguments=arguments,
        status="unanswered",
        timing="wire_bracket",
        first_ns=4 * MS,
        called_ns=called_ns,
        call_frame=3,
        parallelism=1,
        span_id=f"{seq:016x}",
    )


def part(
    exchange_id: str,
    at_ms: int = 0,
    *,
    calls: Iterable[ToolCall] = (),
    results: Iterable[ClientResult] = (),
    keys: Sequence[str] = (),
    thread: str | None = CHAT,
    **more: Any,
) -> Part:
    """Return an exchange, as its conversation sees it."""
    keyed = enumerate(calls)
    found: dict[str, Any] = {"host": "api", "dialect": "openai_chat", "length_ns": MS}
    return Part(
        exchange_id,
        started_at=at_ms * MS,
        thread=thread,
        calls=tuple((keys[n] if keys else f"key {n}", one) for n, one in keyed),
        results=tuple(results),
        **found | more,
    )


def hear(machine: Conversations, one: Part) -> list[ToolCall]:
    """Let an exchange begin, ask and end."""
    machine.began(one.exchange_id, one.host)
    return machine.asked(one) + machine.ended(one)


def told(*parts: Part) -> list[tuple[Any, ...]]:
    """Return what is told of exchanges one after another: call, status, result."""
    machine = Conversations()
    rows = [row for one in parts for row in hear(machine, one)] + machine.close()
    return [(row.exchange_id, row.seq, row.status, row.result) for row in rows]


def result(tool_id: str | None, text: str = "Paris", **more: Any) -> ClientResult:
    """Return the result of a call."""
    return ClientResult(tool_id, text, **more)


# --- what is told ---------------------------------------------------------------------


def test_a_call_is_told_again_with_its_result() -> None:
    """All of its own stays; times are those of its exchange's clock."""
    machine, open_ = Conversations(), call("A", 2, "c1")
    assert hear(machine, part("A", 100, calls=[open_])) == []
    (row,) = hear(machine, part("B", 130, results=[result("c1")]))
    assert row.exchange_id == "A"
    assert (row.seq, row.tool_id, row.tool_name, row.arguments, row.span_id) == (
        *(open_.seq, open_.tool_id, open_.tool_name, open_.arguments, open_.span_id),
    )
    assert (row.first_ns, row.called_ns, row.call_frame) == (4 * MS, 5 * MS, 3)
    assert (row.status, row.timing, row.result) == ("ok", "cross_request", "Paris")
    assert (row.result_ns, row.duration_ns) == (30 * MS, 25 * MS)
    assert (row.result_frame, row.result_exchange_id) == (None, "B")
    assert machine.found == {"exact id": 1}


def test_a_failed_tool_is_an_error() -> None:
    """As the client says."""
    rows = told(
        part("A", calls=[call("A", 0, "c1")]),
        part("B", 9, results=[result("c1", failed=True)]),
    )
    assert rows == [("A", 0, "error", "Paris")]


def test_a_call_that_was_never_complete_has_no_duration() -> None:
    """Its result is known all the same."""
    machine = Conversations()
    hear(machine, part("A", calls=[call("A", 0, "c1", called_ns=None)]))
    (row,) = hear(machine, part("B", 9, results=[result("c1")]))
    assert (row.status, row.result_ns, row.duration_ns) == ("ok", 9 * MS, None)


def test_a_wall_clock_that_was_set_back_costs_the_times_alone() -> None:
    """What is heard in order is believed; what would be negative is not said."""
    machine = Conversations()
    hear(machine, part("A", 3_600_000, calls=[call("A", 0, "c1")]))
    (row,) = hear(machine, part("B", 9, results=[result("c1")]))
    assert (row.status, row.result_ns, row.duration_ns) == ("ok", None, None)


def test_calls_side_by_side_have_one_end() -> None:
    """Each has its own result, in whatever order they are sent."""
    machine = Conversations()
    calls = [call("A", 0, "c1"), call("A", 1, "c2", called_ns=8 * MS)]
    hear(machine, part("A", calls=calls))
    rows = hear(machine, part("B", 20, results=[result("c2", "two"), result("c1")]))
    assert [(row.seq, row.result, row.duration_ns) for row in rows] == [
        (1, "two", 12 * MS),
        (0, "Paris", 15 * MS),
    ]


def test_what_is_not_answered_by_one_request_may_be_by_the_next() -> None:
    """A client may send results one by one."""
    assert told(
        part("A", calls=[call("A", 0, "c1"), call("A", 1, "c2")]),
        part("B", 10, results=[result("c2", "two")]),
        part("C", 20, results=[result("c1", "one")]),
    ) == [("A", 1, "ok", "two"), ("A", 0, "ok", "one")]


# --- the traps ------------------------------------------------------------------------


def test_a_client_may_send_the_items_id() -> None:
    """OpenAI's Responses give an item one id and the call another."""
    item = part("A", calls=[call("A", 0, "call_1")], keys=["fc_1"])
    assert told(item, part("B", 9, results=[result("fc_1")])) == [
        ("A", 0, "ok", "Paris")
    ]


@pytest.mark.parametrize(
    ("own", "sent"),
    [("call_0", "resp_abc:call_0"), ("resp_abc:call_0", "call_0")],
    ids=["put in front", "taken off"],
)
def test_a_client_may_put_the_responses_id_in_front(own: str, sent: str) -> None:
    """The ids are then equal after the colon."""
    assert told(
        part("A", calls=[call("A", 0, own)]), part("B", 9, results=[result(sent)])
    ) == [("A", 0, "ok", "Paris")]


def test_ids_that_come_again_in_each_response_mean_the_latest() -> None:
    """Also where an earlier call of the id was never answered."""
    two = [call("C", 0, "call_1", "fetch"), call("C", 1, "call_0")]
    assert told(
        part("A", calls=[call("A", 0, "call_0")]),
        part("B", 10, results=[result("call_0", "1")], calls=[call("B", 0, "call_0")]),
        part("C", 20, calls=two),
        part("D", 30, results=[result("call_0", "3")]),
    ) == [("A", 0, "ok", "1"), ("C", 1, "ok", "3")]


def test_a_call_without_an_id_is_known_by_what_the_request_repeats() -> None:
    """The client has made an id up; name and arguments are those of the call."""
    sent = result("pyd_ai_1", name="capital", arguments='{"of":"France", "x": [1]}')
    calls = [
        call("A", 0, None, "capital", '{"x":[1],"of":"Spain"}'),
        call("A", 1, None, "capital", '{"x":[1],"of":"France"}'),
    ]
    machine = Conversations()
    hear(machine, part("A", calls=calls))
    (row,) = hear(machine, part("B", 9, results=[sent]))
    assert (row.seq, machine.found) == (1, {"echo": 1})


def test_calls_without_ids_and_echo_go_by_name_and_order() -> None:
    """The first call of a name has the first result of the name."""
    calls = [
        call("A", 0, None, "capital", "{}"),
        call("A", 1, None, "weather", "{}"),
        call("A", 2, None, "capital", "{}"),
    ]
    results = [result(None, text, name="capital") for text in ("one", "two")]
    assert told(
        part("A", calls=calls),
        part("B", 9, results=[*results, result(None, "sun", name="weather")]),
    ) == [("A", 0, "ok", "one"), ("A", 2, "ok", "two"), ("A", 1, "ok", "sun")]


def test_an_exact_id_goes_before_a_guess() -> None:
    """No result takes the call of another by its name, whatever their order."""
    calls = [call("A", 0, "c1", "search", "{}"), call("A", 1, None, "search", "{}")]
    results = [
        result("made up", "guess", name="search", arguments="{}"),
        result("c1", "exact", name="search", arguments="{}"),
    ]
    assert told(part("A", calls=calls), part("B", 9, results=results)) == [
        ("A", 0, "ok", "exact"),
        ("A", 1, "ok", "guess"),
    ]


# --- more than one conversation -------------------------------------------------------


def test_conversations_side_by_side_keep_their_calls() -> None:
    """With the same ids, and without any, and with the same tools."""
    for ids, name in ((("call_0", "call_0"), "search"), ((None, None), "search")):
        tool_id, sent = ids
        told_rows = told(
            part("A1", 0, thread="one", calls=[call("A1", 0, tool_id, name)]),
            part("B1", 1, thread="two", calls=[call("B1", 0, tool_id, name)]),
            part("A2", 9, thread="one", results=[result(sent, "one", name=name)]),
            part("B2", 9, thread="two", results=[result(sent, "two", name=name)]),
        )
        assert told_rows == [("A1", 0, "ok", "one"), ("B1", 0, "ok", "two")]


def test_arguments_tell_conversations_apart_that_begin_alike() -> None:
    """Two users may ask the same first."""
    asked = ['{"city":"Rome"}', '{"city":"Oslo"}']
    told_rows = told(
        part("A1", 0, calls=[call("A1", 0, "call_0", arguments=asked[0])]),
        part("B1", 1, calls=[call("B1", 0, "call_0", arguments=asked[1])]),
        part("A2", 9, results=[result("call_0", "sun", arguments=asked[0])]),
        part("B2", 9, results=[result("call_0", "rain", arguments=asked[1])]),
    )
    assert told_rows == [("A1", 0, "ok", "sun"), ("B1", 0, "ok", "rain")]


@pytest.mark.parametrize(
    "other",
    [{"host": "other"}, {"dialect": "anthropic"}, {"session_id": "s2"}],
    ids=["host", "dialect", "session"],
)
def test_a_result_is_of_a_call_of_the_same_host_dialect_and_session(
    other: dict[str, Any],
) -> None:
    """Whatever its id."""
    rows = told(
        part("A", session_id="s1", calls=[call("A", 0, "call_0")]),
        part("B", 9, results=[result("call_0")], session_id="s1")._replace(**other),
    )
    assert rows == [("B", 0, "unmatched", "Paris")]


@pytest.mark.parametrize(
    "sent",
    [
        result("c1", name="fetch"),
        result("c1", name="search", arguments='{"q": 2}'),
        result(None, name="search", arguments='{"q": 1}'),
        result(None, name="search"),
        result("c2", name="search"),
    ],
    ids=["name", "conversation and arguments", "echo", "order", "id"],
)
def test_what_speaks_against_a_match_is_heard(sent: ClientResult) -> None:
    """An id alone does not outweigh it, and guesses stay in their conversation."""
    rows = told(
        part("A", thread="one", calls=[call("A", 0, "c1")]),
        part("B", 9, thread="two", results=[sent]),
    )
    assert rows == [("B", 0, "unmatched", "Paris")]


def test_an_id_is_believed_where_the_history_was_shortened() -> None:
    """Its arguments are those of the call, or are not repeated any more."""
    for arguments in (None, '{"q":1}'):
        rows = told(
            part("A", thread="one", calls=[call("A", 0, "c1")]),
            part("B", 9, thread="two", results=[result("c1", arguments=arguments)]),
        )
        assert rows == [("A", 0, "ok", "Paris")]


def test_ids_that_differ_are_not_overruled_by_a_name() -> None:
    """Where both sides have an id, the order of names says nothing."""
    rows = told(
        part("A", calls=[call("A", 0, "c1", arguments="{}")]),
        part("B", 9, results=[result("c2", name="search", arguments='{"q":9}')]),
    )
    assert rows == [("B", 0, "unmatched", "Paris")]


# --- results that may be old ----------------------------------------------------------

OLD: dict[str, Any] = {"name": "search", "arguments": '{"q":1}', "may_be_old": True}


def test_a_result_that_may_be_old_answers_a_call_that_is_open() -> None:
    """As where calls that were made at once stand each before its result."""
    first = call("A", 0, "c1")
    second = call("A", 1, "c2", arguments='{"q": 2}')
    sent = [result("c2", "two", name="search"), result("c1", "one", **OLD)]
    assert told(part("A", calls=[first, second]), part("B", 9, results=sent)) == [
        ("A", 1, "ok", "two"),
        ("A", 0, "ok", "one"),
    ]


def test_a_result_that_may_be_old_is_mostly_a_repetition() -> None:
    """It is never `unmatched`, and does not answer twice."""
    machine = Conversations()
    old = result("c1", "one", **OLD)
    hear(machine, part("A", calls=[call("A", 0, "c1")]))
    rows = hear(machine, part("B", 9, results=[result("c1", "one")]))
    rows += hear(machine, part("C", 19, results=[old]))
    rows += hear(machine, part("D", 29, results=[result("c9", "nine", **OLD)]))
    assert [(row.exchange_id, row.result_exchange_id) for row in rows] == [("A", "B")]
    assert machine.found == {"exact id": 1, "repeated": 2}


@pytest.mark.parametrize(
    "open_",
    [
        call("A", 0, "c1", arguments='{"q": 2}'),
        call("A", 0, "r:c1"),
        call("A", 0, None),
    ],
    ids=["other arguments", "other id", "no id"],
)
def test_a_result_that_may_be_old_is_no_guess(open_: ToolCall) -> None:
    """Its id and its arguments are those of the call, since ids come again."""
    sent = result("c1", "one", **OLD)
    assert told(part("A", calls=[open_]), part("B", 9, results=[sent])) == []


# --- repetitions, and what fits nothing -----------------------------------------------


def test_a_request_that_is_tried_again_answers_nothing_twice() -> None:
    """The first one has answered; with ids, made-up ids and none at all."""
    for tool_id, sent in (("c1", "c1"), (None, "made up"), (None, None)):
        again = [result(sent, name="search", arguments='{"q":1}')]
        machine = Conversations()
        hear(machine, part("A", calls=[call("A", 0, tool_id)]))
        rows = hear(machine, part("B", 9, results=again))
        rows += hear(machine, part("C", 19, results=again)) + machine.close()
        assert [(row.exchange_id, row.result_exchange_id) for row in rows] == [
            ("A", "B")
        ]
        assert machine.found["repeated"] == 1


def test_a_result_that_came_in_the_stream_is_only_repeated() -> None:
    """Where a client sends its whole message back, with what the server ran."""
    machine = Conversations()
    hear(machine, part("A", answered=("c1",)))
    assert hear(machine, part("B", 9, results=[result("c1")])) == []
    assert machine.found == {"repeated": 1}


def test_a_result_without_a_call_is_said_where_it_came() -> None:
    """It is a row of its own exchange, behind those that its own stream has."""
    machine = Conversations()
    sent = [result("c8", name="search", arguments="{}"), result("c9", "two")]
    rows = hear(machine, part("B", 9, results=sent, rows=3))
    assert [(row.exchange_id, row.seq, row.tool_id, row.result) for row in rows] == [
        ("B", 3, "c8", "Paris"),
        ("B", 4, "c9", "two"),
    ]
    (first, _) = rows
    assert (first.status, first.timing) == ("unmatched", "cross_request")
    assert (first.tool_name, first.arguments) == ("search", "{}")
    assert (first.first_ns, first.called_ns, first.duration_ns) == (None, None, None)
    assert (first.result_ns, first.result_exchange_id) == (0, "B")
    assert machine.found == {"unmatched": 2}


def test_an_unmatched_result_that_is_repeated_is_said_once() -> None:
    """As where a recorder began in the middle, and a request is tried again."""
    rows = told(
        part("B", 9, results=[result("c9")]), part("C", 19, results=[result("c9")])
    )
    assert rows == [("B", 0, "unmatched", "Paris")]


# --- results before their calls -------------------------------------------------------


def test_a_result_may_come_before_the_response_has_ended() -> None:
    """The client had read what it needed; the call is heard of later."""
    machine = Conversations()
    machine.began("A", "api")
    two = part("B", 20, results=[result("c1")])
    assert hear(machine, two) == []
    (row,) = machine.ended(part("A", 0, calls=[call("A", 0, "c1")]))
    assert (row.exchange_id, row.duration_ns) == ("A", 15 * MS)
    assert machine.close() == []


def test_a_result_does_not_wait_for_exchanges_that_began_after_it() -> None:
    """Nor for those with other hosts: none of them can have made the call."""
    machine = Conversations()
    machine.began("elsewhere", "other")
    machine.began("A", "api")
    hear(machine, part("B", 20, results=[result("c1")]))
    machine.began("C", "api")
    assert hear(machine, part("D", 20, host="third")) == []
    rows = machine.ended(part("A", 0))
    assert [(row.exchange_id, row.status) for row in rows] == [("B", "unmatched")]


def test_an_exchange_of_no_conversation_is_not_waited_for_any_longer() -> None:
    """Its end is heard of as well."""
    machine = Conversations()
    machine.began("A", "api")
    hear(machine, part("B", 20, results=[result("c1")]))
    assert [row.status for row in machine.left("A", "api")] == ["unmatched"]


def test_a_result_does_not_answer_a_call_that_was_made_after_it() -> None:
    """Where ids come again, one that waits must not take a later call's place."""
    machine = Conversations()
    machine.began("A", "api")
    machine.began("B", "api")
    machine.asked(part("B", 20, results=[result("call_0")]))
    late = call("A", 0, "call_0", called_ns=30 * MS)
    assert machine.ended(part("A", 0, calls=[late])) == []
    (row,) = machine.ended(part("B", 20, results=[result("call_0")]))
    assert (row.exchange_id, row.status) == ("B", "unmatched")


def test_a_result_whose_exchange_was_not_recorded_whole_is_let_go() -> None:
    """Its number among the exchange's rows is not known."""
    machine = Conversations()
    machine.began("B", "api")
    machine.asked(part("B", 20, results=[result("c1")]))
    assert machine.left("B", "api") == machine.close() == []
    assert not machine.found


# --- bounds ---------------------------------------------------------------------------


def test_the_oldest_calls_are_forgotten() -> None:
    """Beyond a number of them, or so many bytes."""
    machine = Conversations(calls_max=2)
    for number in range(3):
        hear(machine, part(f"A{number}", calls=[call(f"A{number}", 0, f"c{number}")]))
    results = [result(f"c{number}") for number in range(3)]
    rows = hear(machine, part("B", 9, results=results))
    assert [(row.exchange_id, row.status) for row in rows] == [
        ("A1", "ok"),
        ("A2", "ok"),
        ("B", "unmatched"),
    ]
    machine = Conversations()
    long = "x" * (BYTES_MAX // 2 - 100)
    for number in range(3):
        one = call(f"A{number}", 0, f"c{number}", arguments=long)
        hear(machine, part(f"A{number}", calls=[one]))
    rows = hear(machine, part("B", 9, results=results))
    assert [row.status for row in rows] == ["ok", "ok", "unmatched"]


def test_the_results_that_waited_longest_are_given_up() -> None:
    """Beside an exchange that never ends they would wait forever."""
    machine = Conversations(waiting_max=2)
    machine.began("A", "api")
    rows = [
        row
        for number in range(4)
        for row in hear(machine, part(f"B{number}", results=[result(f"c{number}")]))
    ]
    assert [(row.exchange_id, row.status) for row in rows] == [
        ("B0", "unmatched"),
        ("B1", "unmatched"),
    ]


def test_a_call_that_waits_keeps_nothing_else_of_its_exchange() -> None:
    """Neither what the request had brought, nor what the client did not ask for."""
    machine = Conversations()
    tracemalloc.start()
    try:
        for number in range(20):
            brought = [result(f"x{number}", f"{number}" * (1 << 20))]
            one = call(f"A{number}", 0, f"c{number}")
            hear(machine, part(f"A{number}", number, calls=[one], results=brought))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 8 << 20


def test_nothing_is_left_of_what_is_over() -> None:
    """Memory does not grow with the exchanges but for what has its bound."""
    machine = Conversations(calls_max=10)
    for number in range(1_000):
        hear(machine, part(f"A{number}", calls=[call(f"A{number}", 0, f"c{number}")]))
        hear(machine, part(f"B{number}", results=[result(f"c{number}")]))
    sizes = {
        name: len(held)
        for name, held in vars(machine).items()
        if hasattr(held, "__len__")
    }
    assert sizes.pop("_answered") <= 20
    assert sizes.pop("found") == 1
    assert set(sizes.values()) == {0}


# --- any order ------------------------------------------------------------------------


def test_rebuilding_goes_by_the_times() -> None:
    """However the exchanges are listed, the same is told."""
    parts = [
        part("A", 0, calls=[call("A", 0, "call_0")], length_ns=10 * MS),
        part("B", 20, results=[result("call_0", "1")], calls=[call("B", 0, "call_0")]),
        part("C", 40, results=[result("call_0", "2"), result("c9")]),
    ]
    for order in itertools.permutations(parts):
        rows = {
            (row.exchange_id, row.status, row.result) for row in rebuilt([*order, None])
        }
        assert rows == {
            ("A", "ok", "1"),
            ("B", "ok", "2"),
            ("C", "unmatched", "Paris"),
        }


IDS = st.sampled_from([None, "", ":", "c", "call_0", "r:call_0", "fc_1"])
NAMES = st.sampled_from([None, "", "search", "fetch"])
ARGUMENTS = st.sampled_from([None, "", "{", "{}", '{"q": 1}', '{"q":1}', "[" * 9_999])
RESULTS = st.lists(
    st.builds(
        *(ClientResult, IDS, ARGUMENTS, st.booleans()),
        *(NAMES, ARGUMENTS, st.booleans()),
    ),
    max_size=4,
)
CALLS = st.lists(st.tuples(IDS, NAMES, ARGUMENTS, IDS), max_size=4)
FACTS = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["api", "other"]),
    st.sampled_from([None, "s1", "s2"]),
    st.sampled_from([None, "one", "two"]),
    RESULTS,
    CALLS,
)


@given(
    st.lists(FACTS, max_size=8),
    st.lists(
        st.tuples(st.integers(0, 7), st.sampled_from(["began", "asked", "left"])),
        max_size=20,
    ),
    st.permutations(range(8)),
    st.sampled_from([(), (2, 1)]),
)
def test_whatever_comes_each_call_is_answered_once(
    facts: list[Any],
    story: list[tuple[int, str]],
    ends: list[int],
    limits: tuple[int, ...],
) -> None:
    """Nothing is raised, no call has two results, no result two calls."""
    parts = []
    for number, (at, host, session, thread, results, calls) in enumerate(facts):
        eid = f"E{number}"
        found = [call(eid, n, *c[:3]) for n, c in enumerate(calls)]
        parts.append(
            Part(
                *(eid, host, "d", at, session, thread, tuple(results)),
                tuple(
                    (c[3] or "key", one) for c, one in zip(calls, found, strict=True)
                ),
                rows=len(found),
            )
        )
    machine = Conversations(*limits)
    rows: list[ToolCall] = []
    for number, what in story:
        if number < len(parts):
            one = parts[number]
            if what == "began":
                machine.began(one.exchange_id, one.host)
            elif what == "asked":
                rows += machine.asked(one._replace(calls=()))
                parts[number] = one._replace(results=())
            else:
                rows += machine.left(one.exchange_id, one.host)
    for number in ends:
        if number < len(parts):
            rows += machine.ended(parts[number])
    rows += machine.close()
    twice = Counter((row.exchange_id, row.seq) for row in rows)
    assert set(twice.values()) <= {1}
    sent = sum(len(results) for *_, results, _ in facts)
    assert len(rows) <= sent
    for row in rows:
        assert row.timing == "cross_request"
        assert row.result_ns is None or 0 <= row.result_ns < 2**63
        assert (row.duration_ns or 0) >= 0
