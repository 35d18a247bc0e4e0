"""The gate: how it decides, and how often it is wrong."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.analytics.compare import Answer, Verdict, check
from sse_recorder.analytics.limits import Limit, limit
from sse_recorder.analytics.sample import Row
from sse_recorder.errors import UsageError

SIGMA = 0.2
ENOUGH = 800
"""Exchanges for which the error rates of `SIGMA` are stated."""
RUNS = 100


def row(**known: Any) -> Row:
    """Return the numbers of an exchange of which only some are known."""
    names = ("ttfb", "ttfe", "ttfc", "e2e", "input_tokens", "output_tokens")
    unknown: dict[str, Any] = dict.fromkeys(names)
    more = {"dialect": "d", "model": "m", "path": "/", "is_error": False}
    return {**unknown, **more, "gaps": [], "tools": [], **known}


def times(count: int, factor: float, chance: random.Random) -> list[Row]:
    """Return exchanges with lognormal times to first content."""
    draw = chance.lognormvariate
    return [row(ttfc=300 * factor * draw(0, SIGMA)) for _ in range(count)]


def answer(baseline: Sequence[Row], candidate: Sequence[Row], text: str) -> Answer:
    """Return what is answered to one limit."""
    (found,) = check(baseline, candidate, [limit(text)])
    return found


def chance(seed: object = "a test") -> random.Random:
    """Return draws that are the same every time."""
    return random.Random(str(seed))  # noqa: S311 - no secret


# --- the decision ---------------------------------------------------------------------


def outcomes(factor: float, text: str) -> Counter[Verdict]:
    """Return what is answered to pairs of stores that are drawn anew each time."""
    found: Counter[Verdict] = Counter()
    for seed in range(RUNS):
        chances = chance(f"{seed} {factor}")
        stores = times(ENOUGH, 1, chances), times(ENOUGH, factor, chances)
        found[answer(*stores, text).verdict] += 1
    return found


def test_what_has_not_changed_passes() -> None:
    """At least 95 of 100 pairs that are drawn from one distribution."""
    assert outcomes(1.0, "ttfc_p95=+10%")[Verdict.PASS] >= 95


def test_fifteen_percent_more_fail_a_limit_of_ten() -> None:
    """At least 95 of 100 pairs, at the number of exchanges that the module states."""
    assert outcomes(1.15, "ttfc_p95=+10%")[Verdict.FAIL] >= 95


def test_too_few_exchanges_are_not_judged() -> None:
    """It says how many of each it takes, and nothing of a difference."""
    one, other = times(40, 1, chance()), times(60, 1.0, chance())
    found = answer(one, other, "ttfc_p95=+10%")
    assert found.verdict is Verdict.NOT_ENOUGH
    assert (found.n_baseline, found.n_candidate, found.needed) == (40, 60, 100)
    assert (found.low, found.high) == (None, None)


def test_a_wide_interval_is_not_judged() -> None:
    """Where 10 % could hide in the noise, it says how many it takes."""
    found = answer(times(150, 1, chance()), times(150, 1, chance()), "ttfc_p95=+10%")
    assert found.verdict is Verdict.NOT_ENOUGH
    assert 300 < found.needed < 3000  # 570, were the noise known
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0
    assert found.high > 0.1


def test_a_change_that_is_beyond_doubt_needs_few() -> None:
    """Twice as long fails long before ten percent could be told."""
    one, other = times(100, 1, chance(1)), times(100, 2, chance(2))
    found = answer(one, other, "ttfc_p95=+10%")
    assert found.needed > 100
    assert found.verdict is Verdict.FAIL


def test_what_became_better_passes() -> None:
    """A candidate that is faster needs no more exchanges to be so."""
    one, other = times(100, 1, chance(1)), times(100, 0.5, chance(2))
    assert answer(one, other, "ttfc_p95=+10%").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("ttfc_p50=350ms", Verdict.PASS),
        ("ttfc_p50=250ms", Verdict.FAIL),
        ("ttfc_p50=303ms", Verdict.NOT_ENOUGH),  # exceeded, but perhaps by chance
        ("ttfc_mean=350ms", Verdict.PASS),
        ("ttfc_mean=250ms", Verdict.FAIL),
        ("ttfc_mean=+10%", Verdict.PASS),
    ],
)
def test_a_limit_can_stand_by_itself(text: str, verdict: Verdict) -> None:
    """It fails where all of the interval exceeds it."""
    one, other = times(400, 1, chance(1)), times(400, 1, chance(2))
    assert answer(one, other, text).verdict is verdict


def test_what_exceeds_a_limit_perhaps_by_chance_does_not_pass() -> None:
    """It says how many it takes, which is more than there are."""
    rows = [row(e2e=2000 + 300 * chance(n).gauss(0.06, 1)) for n in range(2000)]
    found = answer([], rows, "e2e_p50=2s")
    assert found.candidate is not None
    assert found.low is not None
    assert found.low < 2000 < found.candidate < 2020  # a tenth would be found for sure
    assert found.verdict is Verdict.NOT_ENOUGH
    assert found.needed > found.n_candidate == 2000
    again = answer([], rows * (found.needed // 2000 + 1), "e2e_p50=2s")
    assert again.verdict is Verdict.FAIL


def test_a_limit_by_itself_needs_no_baseline() -> None:
    """Only the candidate has to have values."""
    found = answer([], times(400, 1, chance()), "ttfc_p50=350ms")
    assert (found.baseline, found.change, found.n_baseline) == (None, None, 0)
    assert found.verdict is Verdict.PASS


def broken(count: int, errors: int) -> list[Row]:
    """Return exchanges of which some are errors."""
    return [row(is_error=n < errors) for n in range(count)]


@pytest.mark.parametrize(
    ("text", "errors", "verdict"),
    [
        ("errors=1%", 0, Verdict.PASS),
        ("errors=1%", 4, Verdict.NOT_ENOUGH),
        ("errors=1%", 20, Verdict.FAIL),
        ("errors=+5%", 10, Verdict.PASS),
        ("errors=+5%", 60, Verdict.FAIL),
        ("errors=0%", 0, Verdict.PASS),
        ("errors=0%", 1, Verdict.FAIL),
    ],
)
def test_shares_are_compared_in_points(
    text: str, errors: int, verdict: Verdict
) -> None:
    """Of 400 exchanges, against a baseline with four errors in 400."""
    assert answer(broken(400, 4), broken(400, errors), text).verdict is verdict


def test_from_nothing_to_something_is_no_ratio() -> None:
    """A median of no calls has no percentage, but more than none exceeds it."""
    none = [row()] * 50
    some = [row(tools=[{"name": "t", "ms": 1.0, "failed": False}])] * 50
    assert answer(none, none, "calls_p50=+10%").verdict is Verdict.PASS
    assert answer(none, some, "calls_p50=+10%").verdict is Verdict.FAIL
    assert answer(some, none, "calls_p50=+10%").verdict is Verdict.PASS


CALL = {"name": "t", "ms": 1.0, "failed": False}


def calling(count: int, calls: int) -> list[Row]:
    """Return exchanges of which some call a tool."""
    return [row(tools=[CALL] * (n < calls)) for n in range(count)]


@pytest.mark.parametrize(
    ("rate", "sizes"),
    [
        (0.01, (100, 100)),
        (0.01, (60, 600)),
        (0.01, (600, 60)),
        (0.02, (200, 2000)),
        (0.05, (100, 100)),
    ],
)
def test_what_is_rare_does_not_fail_by_chance(
    rate: float, sizes: tuple[int, int]
) -> None:
    """A sample without a single call is no proof that there are none."""
    failed = 0
    for seed in range(RUNS):
        chances = chance(f"{seed} {rate} {sizes}")
        one, other = (
            [row(tools=[CALL] * (chances.random() < rate)) for _ in range(size)]
            for size in sizes
        )
        failed += answer(one, other, "calls_mean=+10%").verdict is Verdict.FAIL
    assert failed <= 5  # one in forty, and luck


@pytest.mark.parametrize(
    ("baseline", "candidate", "verdict", "needed"),
    [
        (0, 40, Verdict.FAIL, None),
        (40, 0, Verdict.PASS, None),
        (0, 0, Verdict.NOT_ENOUGH, 400),
        (5, 4, Verdict.NOT_ENOUGH, 50),
        (4, 10, Verdict.NOT_ENOUGH, 50),
    ],
)
def test_a_mean_of_nothing_is_compared_by_what_it_could_be(
    baseline: int, candidate: int, verdict: Verdict, needed: int | None
) -> None:
    """Of 40 exchanges each: what all do, or none, is told; else it takes five."""
    found = answer(calling(40, baseline), calling(40, candidate), "calls_mean=+10%")
    assert found.verdict is verdict
    assert needed is None or found.needed == needed


def test_a_mean_made_by_a_few_is_not_exceeded() -> None:
    """Four exchanges of 400 do not fail an absolute limit, ten do."""
    few = answer([], calling(400, 4), "calls_mean=0.001")
    assert (few.verdict, few.needed) == (Verdict.NOT_ENOUGH, 500)
    assert answer([], calling(400, 10), "calls_mean=0.001").verdict is Verdict.FAIL


def failing(count: int, errors: int, factor: float = 1) -> list[Row]:
    """Return exchanges of 100 ms or so, of which some fail at once."""
    return [
        row(e2e=1.0, is_error=True)
        if n < errors
        else row(e2e=factor * chance(n).uniform(95, 105), ttfc=50 + n / count)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("text", "errors", "verdict"),
    [
        ("e2e_p50=+10%", 0, Verdict.PASS),
        ("e2e_p50=+10%", 4, Verdict.PASS),
        ("e2e_p50=+10%", 200, Verdict.FAIL),
        ("e2e_p50=1s", 60, Verdict.FAIL),
        ("e2e_mean=+10%", 60, Verdict.FAIL),
        ("e2e_p99=1s", 16, Verdict.FAIL),  # more than there is behind a p99
        ("e2e_p95=1s", 16, Verdict.PASS),
        ("errors=+50%", 60, Verdict.PASS),  # which has a limit of its own
    ],
)
def test_exchanges_that_fail_are_not_fast(
    text: str, errors: int, verdict: Verdict
) -> None:
    """Of 400 exchanges; without times of their own, they do not go unnoticed."""
    if text.startswith("e2e_p99"):
        one, other = failing(1200, 0), failing(1200, errors * 3)
        errors *= 3
    else:
        one, other = failing(400, 0), failing(400, errors)
    found = answer(one, other, text)
    assert found.verdict is verdict
    if not text.startswith("errors"):
        assert (found.without_candidate, found.failed_candidate) == (errors, errors)
        assert found.is_lacking is (verdict is Verdict.FAIL)


def test_no_time_is_that_of_an_error() -> None:
    """What fails at once makes nothing faster."""
    one, other = failing(400, 0), failing(400, 19, factor=1.2)
    found = answer(one, other, "e2e_p50=+10%")
    assert (found.verdict, found.is_lacking) == (Verdict.FAIL, False)
    assert found.change == pytest.approx(0.2, abs=0.01)


def test_exchanges_without_content_are_not_left_out_in_silence() -> None:
    """Where half of them never get to it, when the others do is half of the truth."""
    some = [row(ttfc=100.0 + n) for n in range(200)]
    found = answer(some, some + [row()] * 200, "ttfc_p50=+10%")
    assert (found.verdict, found.is_lacking) == (Verdict.FAIL, True)
    assert (found.n_candidate, found.without_candidate) == (200, 200)
    assert found.failed_candidate == found.without_baseline == 0
    # As many as ever are no change.
    usual = some + [row()] * 200
    assert answer(usual, usual, "ttfc_p50=+50%").verdict is Verdict.PASS


def test_no_exchange_has_to_call_a_tool() -> None:
    """One that calls none lacks nothing, so a limit on tools is of those that do."""
    found = answer(calling(400, 400), calling(400, 100), "tool_p50=+10%")
    assert (found.verdict, found.without_candidate) == (Verdict.PASS, 300)


def test_few_without_a_value_may_be_chance() -> None:
    """Two more of thirty are no proof."""
    one, other = failing(30, 0), failing(33, 3)
    assert answer(one, other, "e2e_p50=+10%").verdict is Verdict.PASS


def test_a_metric_that_nobody_has_is_not_judged() -> None:
    """A gate that saw nothing does not open."""
    found = answer([], [], "tool_p50=+10%")
    assert (found.verdict, found.needed) == (Verdict.NOT_ENOUGH, 30)


# --- groups ---------------------------------------------------------------------------


def test_each_group_is_judged_for_itself() -> None:
    """One model cannot make up for another, and a new one is not judged."""

    def store(seed: int, **factors: float) -> list[Row]:
        chances = chance(seed)
        return [
            {**item, "model": name}
            for name, factor in factors.items()
            for item in times(ENOUGH, factor, chances)
        ]

    baseline, candidate = store(1, slow=4, fast=1), store(2, slow=3.9, fast=1.5, new=1)
    limits = [limit("ttfc_p95=+10%")]
    found = check(baseline, candidate, limits, by="model")
    assert {item.group: item.verdict for item in found} == {
        "fast": Verdict.FAIL,
        "new": Verdict.NOT_ENOUGH,
        "slow": Verdict.PASS,
    }


def test_groups_of_tools_have_the_calls_of_one_tool_each() -> None:
    """Their durations, errors and numbers of calls; an exchange may be in several."""

    def used(name: str, ms: float, *, failed: bool = False) -> dict[str, Any]:
        return {"name": name, "ms": ms, "failed": failed}

    one = [row(tools=[used("a", 10), used("a", 10), used("b", 50)])] * 40
    other = [row(tools=[used("a", 10), used("a", 30), used("b", 50, failed=True)])] * 40
    limits = [limit(t) for t in ("tool_mean=+50%", "calls_p50=2", "tool_errors=10%")]
    found = check(one, other, limits, by="tool")
    assert [(x.limit.metric, x.group, x.candidate) for x in found] == [
        ("tool", "a", 20),
        ("tool", "b", 50),
        ("calls", "a", 2),
        ("calls", "b", 1),
        ("tool_errors", "a", 0),
        ("tool_errors", "b", 1),
    ]
    assert [x.verdict for x in found][:2] == [Verdict.FAIL, Verdict.PASS]
    assert found[5].verdict is Verdict.FAIL


def test_what_is_not_of_tools_has_no_groups_by_tool() -> None:
    """A grouping that makes no sense is wrong usage."""
    with pytest.raises(UsageError, match="is not of tools"):
        check([], [], [limit("ttfc_p95=+10%")], by="tool")


def test_no_exchange_is_an_answer_too() -> None:
    """A check of nothing never passes, grouped or not."""
    for by in (None, "model"):
        (found,) = check([], [], [limit("errors=1%")], by=by)
        assert found.verdict is Verdict.NOT_ENOUGH


def test_many_answers_have_draws_for_their_intervals() -> None:
    """Thirty groups of the same exchanges have intervals that are nearly the same.

    With two thousand draws for each, less than two are beyond its ends.
    """

    def groups(rows: list[Row]) -> list[Row]:
        return [{**row, "path": f"/{n}"} for n in range(30) for row in rows]

    one, other = times(40, 1, chance(1)), times(40, 1, chance(2))
    limits = [limit("ttfc_mean=+10%")]
    widths = [
        found.high - found.low
        for found in check(groups(one), groups(other), limits, by="path")
        if found.high is not None and found.low is not None
    ]
    assert len(widths) == 30
    assert statistics.stdev(widths) < 0.032 * statistics.mean(widths)


# --- sameness -------------------------------------------------------------------------


def test_an_answer_does_not_depend_on_what_else_is_asked() -> None:
    """Nor on when: its seed is its own.  Only its interval is wider in company."""
    one, other = times(200, 1, chance(1)), times(200, 1.1, chance(2))
    limits: list[Limit] = [limit(t) for t in ("ttfc_p50=1s", "ttfc_p95=+10%")]
    alone, together = check(one, other, limits[1:])[0], check(one, other, limits)[1]
    assert alone == check(one, other, limits[1:])[0]
    assert (alone.change, alone.needed) == (together.change, together.needed)
    assert alone.low is not None
    assert together.low is not None
    assert together.low < alone.low


@given(
    st.lists(st.floats(0, 1e9), max_size=60), st.sampled_from(["p50", "p95", "mean"])
)
def test_a_store_never_fails_against_itself(values: list[float], name: str) -> None:
    """Whatever is in it."""
    rows = [row(e2e=value) for value in values]
    found = answer(rows, rows, f"e2e_{name}=+10%")
    assert found.verdict is not Verdict.FAIL
