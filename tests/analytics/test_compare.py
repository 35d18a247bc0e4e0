"""The gate: what it estimates, how it decides, and how often it is wrong."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    called,
    event,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder.analytics.compare import (
    Answer,
    Limit,
    Row,
    Verdict,
    check,
    limit,
    mean,
    numbers,
    quantile,
    share,
)
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Outcome, ResponseHead
from sse_recorder.store.store import Store

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


# --- limits ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttfc_p95=+10%", ("ttfc", "p95", 0.1, True)),
        ("e2e_p50=2s", ("e2e", "p50", 2000.0, False)),
        ("gap_mean = 1.5ms", ("gap", "mean", 1.5, False)),
        ("tool_p99=0", ("tool", "p99", 0.0, False)),
        ("errors=1%", ("errors", None, 0.01, False)),
        ("tool_errors=+0.5%", ("tool_errors", None, 0.005, True)),
        ("output_tokens_p50=+25%", ("output_tokens", "p50", 0.25, True)),
        ("calls_mean=3.5", ("calls", "mean", 3.5, False)),
    ],
)
def test_a_limit_is_what_a_metric_may_be(text: str, expected: tuple[Any, ...]) -> None:
    """With a sign it is relative; times have a unit, shares are in percent."""
    found = limit(text)
    assert (found.metric, found.statistic, found.value, found.is_relative) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ttfc_p95", "is no limit"),
        ("speed_p50=+10%", "there is no metric 'speed'"),
        ("ttfc=+10%", "ttfc needs a statistic"),
        ("errors_p50=1%", "errors takes no statistic"),
        ("ttfc_p75=+10%", "there is no metric 'ttfc_p75'"),
        ("ttfc_p95=10", "10 is no limit of ttfc"),
        ("ttfc_p95=10%", "10% is no limit of ttfc"),
        ("ttfc_p95=+50ms", r"\+50ms is no limit of ttfc"),
        ("ttfc_p95=+0%", r"\+0% is no limit of ttfc"),
        ("ttfc_p95=-5%", "-5% is no limit of ttfc"),
        ("errors=0.01", "0.01 is no limit of errors"),
        ("calls_mean=2s", "2s is no limit of calls"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, problem: str) -> None:
    """With what is wrong, and what to write."""
    with pytest.raises(UsageError, match=rf"{problem}.*write METRIC_STATISTIC=LIMIT"):
        limit(text)


# --- numbers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exchanges: one with tools, one that broke, one that is open."""
    return store_with(
        tmp_path_factory.mktemp("compare"),
        [
            meibel_exchange(
                [
                    event(20, "connected", {"signal_id": "s"}),
                    called(100, "a", "search"),
                    called(150, "b", "fetch"),
                    returned(300, "a"),
                    returned(400, "b", {"error": "no"}),
                    called(500, "c", "search"),
                    said(600, "Hi"),
                    finished(900),
                ],
                headers_ms=11,
            ),
            meibel_exchange(
                number=2, path="/b/chat", ended_ms=70, outcome=Outcome.TIMEOUT
            ),
            meibel_exchange([said(5000, "?")], number=3, ended_ms=None),
        ],
    )


def test_numbers_are_those_of_the_reports(root: Path) -> None:
    """In milliseconds; an exchange that is still open does not count."""
    with Store.open(root) as store:
        first, second = map(dict, numbers(store))
    tools = sorted(first.pop("tools"), key=lambda tool: (tool["name"], tool["ms"] or 0))
    assert tools == [
        {"name": "fetch", "ms": 250, "failed": True},
        {"name": "search", "ms": None, "failed": None},
        {"name": "search", "ms": 200, "failed": False},
    ]
    assert sorted(first["gaps"]) == [50, 100, 350]
    assert {k: v for k, v in first.items() if k not in {"gaps", "path"}} == {
        "dialect": "meibel",
        "model": "(none)",
        "is_error": False,
        "ttfb": 10,
        "ttfe": 20,
        "ttfc": 100,
        "e2e": 1000,
        "input_tokens": None,
        "output_tokens": None,
    }
    assert second["path"] == "/b/chat"
    assert second["is_error"]
    assert (second["gaps"], second["tools"], second["ttfc"]) == ([], [], None)


def test_numbers_can_be_of_some_exchanges_and_without_gaps(root: Path) -> None:
    """A condition chooses, and frames are read only where they are needed."""
    with Store.open(root) as store:
        found = numbers(store, where="outcome = 'complete'", with_gaps=False)
    assert [(item["e2e"], item["gaps"]) for item in found] == [(1000, [])]


@pytest.mark.parametrize(
    ("status", "is_error"), [(200, False), (304, False), (429, True)]
)
def test_a_refusal_is_an_error(tmp_path: Path, status: int, is_error: bool) -> None:  # noqa: FBT001 - expected
    """What was answered whole, but with a status from 400 on, did not go well."""
    records = [
        record._replace(payload=replace(record.payload, status=status))
        if isinstance(record.payload, ResponseHead)
        else record
        for record in meibel_exchange()
    ]
    with Store.open(store_with(tmp_path, [records])) as store:
        assert [item["is_error"] for item in numbers(store)] == [is_error]


# --- estimates ------------------------------------------------------------------------


def test_a_quantile_is_interpolated_as_the_reports_do() -> None:
    """Between neighbours, at (n - 1) q."""
    clusters = [[float(n)] for n in (40, 10, 20, 30)]
    assert quantile(clusters, 0.5, chance())[0] == 25
    assert quantile(clusters, 0.95, chance())[0] == pytest.approx(38.5)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95])
def test_draws_vary_as_resamples_do(q: float) -> None:
    """One draw of a rank is what sorting a resample gives."""
    chances = chance()
    values = [chances.lognormvariate(0, 0.3) for _ in range(300)]
    place = round((len(values) - 1) * q)
    sorted_ones = [
        sorted(chances.choices(values, k=len(values)))[place] for _ in range(1000)
    ]
    _, draws = quantile([[v] for v in values], q, chances)
    assert statistics.stdev(draws) == pytest.approx(
        statistics.stdev(sorted_ones), rel=0.12
    )
    assert statistics.mean(draws) == pytest.approx(
        statistics.mean(sorted_ones), rel=0.01
    )


def spread(of: Callable[[list[list[float]]], list[float]], *sizes: int) -> float:
    """Return how much draws vary, for exchanges that repeat one value of their own."""
    chances = chance()
    draws = of([[chances.gauss(100, 10)] * size for size in sizes])
    return statistics.stdev(draws)


@pytest.mark.parametrize(
    "of",
    [
        lambda clusters: quantile(clusters, 0.5, chance())[1],
        lambda clusters: mean(clusters, chance())[1],
    ],
)
def test_values_of_one_exchange_are_no_evidence_of_their_own(
    of: Callable[[list[list[float]]], list[float]],
) -> None:
    """A hundred exchanges with ten equal gaps each tell as much as with one."""
    assert spread(of, *[10] * 100) == pytest.approx(spread(of, *[1] * 100), rel=0.1)


def test_a_mean_varies_by_its_standard_error() -> None:
    """As the mean of resamples does."""
    values = [float(n) for n in range(100)]
    point, draws = mean([[v] for v in values], chance())
    assert point == 49.5
    expected = statistics.pstdev(values) / 10
    assert statistics.stdev(draws) == pytest.approx(expected, rel=0.05)


def test_a_share_of_nothing_may_be_more() -> None:
    """None in a hundred is no proof that there are none."""
    point, draws = share([[0.0]] * 100, chance())
    assert point == 0
    assert 0.02 < sorted(draws)[int(len(draws) * 0.975)] < 0.03


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
        ("ttfc_p50=303ms", Verdict.PASS),  # not exceeded beyond doubt
        ("ttfc_mean=350ms", Verdict.PASS),
        ("ttfc_mean=250ms", Verdict.FAIL),
        ("ttfc_mean=+10%", Verdict.PASS),
    ],
)
def test_a_limit_can_stand_by_itself(text: str, verdict: Verdict) -> None:
    """It fails where all of the interval exceeds it."""
    one, other = times(400, 1, chance(1)), times(400, 1, chance(2))
    assert answer(one, other, text).verdict is verdict


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
