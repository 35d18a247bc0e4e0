"""Estimates: what they are, and how much they vary."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest

from sse_recorder.analytics.estimate import mean, quantile, share, unit


def chance(seed: object = "a test") -> random.Random:
    """Return draws that are the same every time."""
    return random.Random(str(seed))  # noqa: S311 - no secret


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


def test_a_mean_of_nothing_may_be_more() -> None:
    """None in a hundred is no proof either; it would be as large as others are."""
    point, draws = mean([[0.0]] * 100, chance(), unit=2.0)
    assert point == 0
    # The upper limit of the rate of what did not happen in a hundred times is 3.6 %.
    assert sorted(draws)[int(len(draws) * 0.975)] / 2 == pytest.approx(0.036, rel=0.15)


def test_a_mean_of_few_is_never_below_nothing() -> None:
    """It varies as the share of those that have anything, up to its upper limit."""
    point, draws = mean([[5.0]] * 2 + [[0.0]] * 98, chance())
    assert point == 0.1
    assert min(draws) > 0
    assert sorted(draws)[int(len(draws) * 0.975)] / 5 == pytest.approx(0.07, rel=0.1)


def test_a_mean_is_that_of_values_and_not_of_exchanges() -> None:
    """One with many zeros counts for many."""
    point, draws = mean([[2.0]] * 500 + [[0.0] * 3] * 500, chance())
    assert point == 0.5
    assert statistics.mean(draws) == pytest.approx(0.5, rel=0.01)


def test_what_an_exchange_has_is_that_of_those_which_have_any() -> None:
    """Of both samples; one where there are none at all."""
    assert unit([[1.0, 2.0], [0.0]], [[5.0]]) == 4
    assert unit([[0.0]], []) == 1
