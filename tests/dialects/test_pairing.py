"""The rules of the ledger: each call with its result, or with the reason why not."""

from __future__ import annotations

from sse_recorder.dialects.base import (
    ToolArguments,
    ToolCalled,
    ToolEvent,
    ToolReturned,
    ToolStarted,
)
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import ToolCall
from sse_recorder.trace import derive_span_id


def called(
    key: str | None, name: str | None = "n", arguments: str | None = "{}"
) -> ToolCalled:
    """Return a whole call."""
    return ToolCalled(key, key, name, arguments)


def returned(key: str | None, *, failed: bool = False) -> ToolReturned:
    """Return a result."""
    return ToolReturned(key, '"r"', failed)


def run(*events: ToolEvent) -> list[ToolCall]:
    """Return the calls that events amount to: frame n comes at n times 10."""
    ledger = ToolLedger("x")
    calls = [
        call
        for frame, event in enumerate(events)
        for call in ledger.add(event, frame, frame * 10)
    ]
    calls += ledger.close()
    assert ledger.count == len(calls)
    assert ledger.close() == []
    return calls


def statuses(*events: ToolEvent) -> list[tuple[int, str]]:
    """Return the numbers and statuses of the calls, in the order of their closing."""
    return [(call.seq, call.status) for call in run(*events)]


def test_a_call_and_its_result_are_one_row() -> None:
    """It has the times and the frames of both, and its own span."""
    assert run(called("a"), returned("a")) == [
        ToolCall(
            exchange_id="x",
            seq=0,
            tool_id="a",
            tool_name="n",
            arguments="{}",
            result='"r"',
            status="ok",
            timing="wire_bracket",
            first_ns=0,
            called_ns=0,
            result_ns=10,
            duration_ns=10,
            call_frame=0,
            result_frame=1,
            result_exchange_id="x",
            parallelism=1,
            span_id=derive_span_id("x", 0),
        )
    ]


def test_a_result_that_says_so_is_an_error() -> None:
    """A tool that failed has still answered."""
    (call,) = run(called("a"), returned("a", failed=True))
    assert (call.status, call.duration_ns) == ("error", 10)


def test_a_call_without_a_result_is_unanswered() -> None:
    """The exchange ended first."""
    (call,) = run(called("a"))
    assert (call.status, call.result_ns, call.duration_ns) == ("unanswered", None, None)
    assert (call.result_frame, call.result_exchange_id) == (None, None)


def test_a_second_call_of_the_same_id_supersedes_the_first() -> None:
    """Ids are reused; the result belongs to the call that is open."""
    first, second = run(called("a"), called("a"), returned("a"))
    assert (first.seq, first.status, first.result_ns) == (0, "superseded", 10)
    assert (second.seq, second.status, second.called_ns) == (1, "ok", 10)
    assert second.parallelism == 1


def test_a_result_without_a_call_is_unmatched() -> None:
    """It takes the next number, and has no time of a call."""
    (call,) = run(returned("a"))
    assert (call.status, call.tool_id, call.seq) == ("unmatched", "a", 0)
    assert (call.first_ns, call.called_ns, call.duration_ns) == (None, None, None)
    assert (call.call_frame, call.result_frame, call.parallelism) == (None, 0, 0)
    assert statuses(called("a"), returned("a"), returned("a"), called("b")) == [
        *[(0, "ok"), (1, "unmatched"), (2, "unanswered")]
    ]


def test_what_has_no_id_is_seen_but_never_paired() -> None:
    """No result can be told to be that of a call without an id."""
    assert statuses(called(None), called(None), returned(None)) == [
        *[(2, "unmatched"), (0, "unanswered"), (1, "unanswered")]
    ]


def test_calls_may_overlap() -> None:
    """Results come in any order; parallelism counts what was open at the beginning."""
    calls = run(
        called("a"),
        called("b"),
        returned("a"),
        called("c"),
        returned("c"),
        returned("b"),
    )
    assert [(c.tool_id, c.parallelism) for c in calls] == [("a", 1), ("c", 2), ("b", 2)]
    assert [c.seq for c in calls] == [0, 2, 1]


def test_a_call_may_come_in_pieces() -> None:
    """The first sign and the complete arguments are two times; pieces are joined."""
    (call,) = run(
        ToolStarted("k", None, None),
        ToolArguments("k", '{"a"'),
        ToolArguments("k", ":1}"),
        ToolArguments("other", "lost"),
        ToolArguments(None, "lost"),
        ToolCalled("k", "id", "name", None),
        returned("k"),
    )
    assert (call.tool_id, call.tool_name, call.arguments) == ("id", "name", '{"a":1}')
    assert (call.first_ns, call.called_ns, call.result_ns) == (0, 50, 60)
    assert (call.call_frame, call.duration_ns) == (5, 10)


def test_whole_arguments_replace_the_pieces() -> None:
    """Some APIs send the arguments whole once more; names that came first stay."""
    (call,) = run(
        ToolStarted("k", "id", "name"),
        ToolArguments("k", "{"),
        ToolCalled("k", None, None, "{}"),
    )
    assert (call.tool_id, call.tool_name, call.arguments) == ("id", "name", "{}")


def test_a_call_that_was_only_begun_has_no_duration() -> None:
    """Its arguments never were complete, so no tool ran."""
    begun, ended = (
        run(ToolStarted("k", "i", "n")),
        run(ToolStarted("k", "i", "n"), returned("k")),
    )
    assert [(c.status, c.called_ns, c.arguments) for c in begun] == [
        ("unanswered", None, None)
    ]
    assert [(c.status, c.result_ns, c.duration_ns) for c in ended] == [("ok", 10, None)]


def test_a_second_start_supersedes_too() -> None:
    """Whether a call comes whole or in pieces makes no difference."""
    assert statuses(ToolStarted("k", "i", "n"), ToolStarted("k", "i", "n")) == [
        *[(0, "superseded"), (1, "unanswered")]
    ]


def test_what_is_left_to_the_client_is_known() -> None:
    """Not what the provider runs, and not what has its result in the stream."""
    ledger = ToolLedger("x")
    for event in (
        called("a"),
        ToolStarted("b", "id b", "n"),
        ToolCalled("c", "c", "n", "{}", is_hosted=True),
        ToolStarted("d", "d", "n", is_hosted=True),
        ToolCalled("d", None, None, None),
        called("e"),
        returned("e"),
        called(None),
    ):
        ledger.add(event, 0, 0)
    assert ledger.left == []
    ledger.close()
    assert [(key, call.tool_id) for key, call in ledger.left] == [
        ("a", "a"),
        ("b", "id b"),
        ("", None),
    ]
