"""When requests go: the times of a plan, and what a gate keeps back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import MS

from recordings import exchange
from sse_recorder.errors import UsageError
from sse_recorder.playback import MAX_SPEED
from sse_recorder.redrive.order import (
    CONCURRENCY,
    CONCURRENCY_AT_MAX_SPEED,
    Gate,
    Order,
    Plan,
)


@pytest.mark.parametrize(
    ("options", "due_ms"),
    [
        ({}, [0, 10, 5_010]),
        ({"speed": 2}, [0, 5, 2_505]),
        ({"max_gap_ns": 1_000 * MS}, [0, 10, 1_010]),
        ({"max_gap_ns": 1_000 * MS, "speed": 10}, [0, 1, 501]),
        ({"max_gap_ns": 100 * MS, "speed": 10}, [0, 1, 101]),
        ({"speed": MAX_SPEED}, [0, 0, 0]),
        ({"max_gap_ns": 100 * MS, "speed": MAX_SPEED}, [0, 0, 0]),
    ],
)
def test_gaps_are_scaled_and_then_capped(
    options: dict[str, Any], due_ms: list[int]
) -> None:
    """As those of a replay are; the first request is due at once."""
    began = [at_ms * MS for at_ms in (7, 17, 5_017)]
    assert Plan(**options).due_ns(began) == [ms * MS for ms in due_ms]


def test_how_many_may_be_open_depends_on_what_else_limits_them() -> None:
    """Arrival times limit the load, and at the highest speed nothing else would."""
    assert Plan().open_max == CONCURRENCY
    assert Plan(speed=MAX_SPEED).open_max == CONCURRENCY_AT_MAX_SPEED
    assert Plan(speed=MAX_SPEED, concurrency=3).open_max == 3


@pytest.mark.parametrize("wrong", [{"speed": 0}, {"repeat": 0}, {"concurrency": 0}])
def test_a_plan_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError, match="cannot be kept"):
        Plan(**wrong)


SPANS = [("one", 0, 10), ("one", 5, 10), ("two", 20, 10), ("one", 30, 10)]
"""Of sessions: the second while the first was open, the last when both had ended."""


@pytest.mark.parametrize(
    ("order", "waiting"),
    [(Order.SESSION, {3}), (Order.ALL, {2, 3}), (Order.NONE, set())],
)
def test_what_had_ended_before_is_waited_for(order: Order, waiting: set[int]) -> None:
    """In its session, everywhere or nowhere; what was open then is never waited for."""
    gate = Gate(
        [exchange(session_id=s, started_at=at, ended_ns=took) for s, at, took in SPANS],
        order,
    )
    early = [number for number in range(4) if gate.due(number)]
    assert early == sorted({0, 1, 2, 3} - waiting)
    assert [gate.take() for _ in early] == early
    freed = [other for number in early for other in gate.over(number)]
    while (number := gate.take()) is not None:
        freed += gate.over(number)
    assert freed == sorted(waiting)
    assert gate.take() is None


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["a", "b"])),
        max_size=12,
    ),
    st.sampled_from(Order),
    st.randoms(use_true_random=False),
)
def test_a_gate_lets_everything_go_and_nothing_too_early(
    spans: list[tuple[int, int, str]], order: Order, rng: Any
) -> None:
    """Whatever the recorded times, and in whatever order requests end now."""
    exchanges = [
        exchange(started_at=began, ended_ns=took, session_id=session)
        for began, took, session in sorted(spans)
    ]
    gate = Gate(exchanges, order)
    for number in range(len(exchanges)):
        gate.due(number)
    over: set[int] = set()
    open_: list[int] = []
    while len(over) < len(exchanges):
        while (free := gate.take()) is not None:
            mine = exchanges[free]
            for other, it in enumerate(exchanges):
                is_near = order is Order.ALL or it.session_id == mine.session_id
                assert it.ended_ns is not None
                had_ended = it.started_at + it.ended_ns < mine.started_at
                if order is not Order.NONE and is_near and had_ended:
                    assert other in over
            open_.append(free)
        assert open_, "nothing may go, and nothing will end"
        done = open_.pop(rng.randrange(len(open_)))
        over.add(done)
        gate.over(done)
