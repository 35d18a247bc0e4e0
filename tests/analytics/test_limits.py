"""Limits, as users write them."""

from __future__ import annotations

from typing import Any

import pytest

from sse_recorder.analytics.limits import limit
from sse_recorder.errors import UsageError


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
