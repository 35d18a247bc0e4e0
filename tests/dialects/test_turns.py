"""What is new in a request that repeats its whole conversation."""

from __future__ import annotations

from sse_recorder.dialects.turns import (
    ClientResult,
    Repeated,
    Said,
    Step,
    turn_of,
)

USER = Said(by_assistant=False, text="What is the capital of France?")
ASSISTANT = Said(by_assistant=True)


def call(tool_id: str | None, name: str = "search", given: str = "{}") -> Repeated:
    """Return a call that is repeated."""
    return Repeated(tool_id, name, given)


def new(*steps: Step) -> list[tuple[str | None, ...]]:
    """Return id, result, name and arguments of what is new."""
    results = [result for result in turn_of(steps).results if not result.may_be_old]
    return [(r.tool_id, r.result, r.name, r.arguments) for r in results]


def maybe(*steps: Step) -> list[tuple[str | None, ...]]:
    """Return id, result and arguments of what may be of the same turn."""
    results = [result for result in turn_of(steps).results if result.may_be_old]
    return [(r.tool_id, r.result, r.arguments) for r in results]


def test_only_results_after_the_last_turn_of_the_assistant_are_new() -> None:
    """Those before it were new in an earlier request."""
    one, two = ClientResult("1", "old"), ClientResult("2", "new")
    steps = (USER, call("1"), one, call("2", "fetch", '{"a":1}'), two)
    assert new(*steps) == [("2", "new", "fetch", '{"a":1}')]
    assert new(*steps, USER) == [("2", "new", "fetch", '{"a":1}')]
    assert new(*steps, ASSISTANT, USER) == []


def test_a_turn_of_the_assistant_is_all_that_it_said_in_a_row() -> None:
    """Text before and between calls does not begin another turn."""
    results = (ClientResult("1", "one"), ClientResult("2", "two"))
    assert new(USER, ASSISTANT, call("1"), ASSISTANT, call("2"), *results) == [
        ("1", "one", "search", "{}"),
        ("2", "two", "search", "{}"),
    ]


def test_the_beginning_of_an_answer_that_is_to_be_gone_on_with_ends_no_turn() -> None:
    """A client may put the first words into the assistant's mouth."""
    result = ClientResult("1", "one")
    assert new(USER, call("1"), result, ASSISTANT) == [("1", "one", "search", "{}")]


def test_without_ids_calls_of_one_name_are_answered_in_their_order() -> None:
    """A result then has the arguments of the call that has its place."""
    steps = (
        call(None, "search", "1"),
        call(None, "fetch", "2"),
        call(None, "search", "3"),
        ClientResult(None, "a", name="search"),
        ClientResult(None, "b", name="search"),
        ClientResult(None, "c", name="fetch"),
        ClientResult(None, "d", name="nobody"),
    )
    assert new(*steps) == [
        (None, "a", "search", "1"),
        (None, "b", "search", "3"),
        (None, "c", "fetch", "2"),
        (None, "d", "nobody", None),
    ]


def test_what_the_user_said_first_names_the_thread() -> None:
    """It is the same in all requests of a conversation, unless they name it."""
    first = turn_of([USER]).thread
    assert first is not None
    assert (
        turn_of([USER, ASSISTANT, Said(by_assistant=False, text="x")]).thread == first
    )
    assert turn_of([Said(by_assistant=False, text="x")]).thread != first
    assert turn_of([USER], "thread 7").thread == "thread 7"
    assert turn_of([Said(by_assistant=False), ASSISTANT]).thread is None


def test_calls_in_a_row_may_have_been_made_at_once() -> None:
    """Some clients put each result behind its call, whichever turn it was of."""
    steps: list[Step] = [
        *(USER, call("0"), ClientResult("0", "0"), ASSISTANT),
        *(call("1", given="1"), ClientResult("1", "one")),
        *(call("1", given="2"), ClientResult("1", "two")),
        *(call("3"), ClientResult("3", "three")),
    ]
    assert new(*steps) == [("3", "three", "search", "{}")]
    assert maybe(*steps) == [("1", "one", "1"), ("1", "two", "2")]
    assert turn_of(steps).results[0].tool_id == "3"
    assert maybe(*steps, ASSISTANT) == maybe(*steps)
    assert maybe(*steps, ASSISTANT, USER) == []
    assert maybe(*steps[:6], USER, *steps[6:8]) == []
