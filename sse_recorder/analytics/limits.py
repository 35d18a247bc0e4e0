"""What may be demanded of a recording: `ttfc_p95=+10%`, `e2e_p50=2s`, `errors=1%`.

A limit is on a metric of one store, the candidate.  With a sign it is relative to the
other, the baseline; without one it stands by itself.

Metrics
-------
ttfb            headers_ns - sent_ns, from the sent request to the response head
ttfe            first_event_ns, from t0 to the first dispatched event
ttfc            first_content_ns, from t0 to the first text, reasoning or tool call
e2e             ended_ns, from t0 to the end
gap             last_ns - last_ns of the content frame before it in the exchange
tool            result_ns - called_ns of each call answered in its stream
input_tokens, output_tokens   as the stream reports them
calls           tool calls of an exchange
errors          share of exchanges that are not complete, or have a status from 400 on
tool_errors     share of the answered tool calls whose result says that they failed

All but the shares take a statistic: _p50, _p90, _p95, _p99 (interpolated between
neighbours, as the reports do) or _mean.  An exchange counts once it has ended; one that
is an error counts in the shares alone, since a refusal is soon over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sse_recorder.clock import duration_ns
from sse_recorder.errors import UsageError

_STATISTICS: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "mean": None}
_TIMES: Final = ("ttfb", "ttfe", "ttfc", "e2e", "gap", "tool")
_COUNTS: Final = ("input_tokens", "output_tokens", "calls")
_SHARES: Final = ("errors", "tool_errors")

OF_TOOLS: Final = ("tool", "calls", "tool_errors")
"""Metrics that a single tool has."""

_LIMIT: Final = re.compile(r"([a-z0-9_]+?)(?:_(p50|p90|p95|p99|mean))?=(\+?)(.+)")
_NUMBER: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(%?)")
_HELP: Final = (
    "write METRIC_STATISTIC=LIMIT, such as ttfc_p95=+10%, e2e_p50=2s, calls_mean=3,"
    f" errors=1%; metrics are {', '.join(_TIMES + _COUNTS)} with _p50, _p90, _p95, _p99"
    f" or _mean, and {' and '.join(_SHARES)} without"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """What a metric of the candidate may be at most."""

    text: str
    """As the user wrote it."""
    metric: str
    statistic: str | None
    """None of a share."""
    value: float
    """In milliseconds, as a share or as a number; of one that is relative a share."""
    is_relative: bool

    @property
    def is_share(self) -> bool:
        """Tell whether the metric is one."""
        return self.metric in _SHARES

    @property
    def is_time(self) -> bool:
        """Tell whether the metric is in milliseconds."""
        return self.metric in _TIMES

    @property
    def quantile(self) -> float | None:
        """The share of values below the statistic; None of a mean, and of a share."""
        return _STATISTICS[self.statistic or "mean"]


def limit(text: str) -> Limit:
    """Return the limit that a user wrote.

    Raises:
        UsageError: it is none.
    """
    match = _LIMIT.fullmatch(text.replace(" ", ""))
    if match is None:
        raise UsageError(f"{text!r} is no limit; {_HELP}")
    metric, statistic, sign, amount = match.groups()
    if metric not in _TIMES + _COUNTS + _SHARES:
        raise UsageError(f"{text!r}: there is no metric {metric!r}; {_HELP}")
    if (metric in _SHARES) is (statistic is not None):
        needs = "takes no statistic" if metric in _SHARES else "needs a statistic"
        raise UsageError(f"{text!r}: {metric} {needs}; {_HELP}")
    is_relative = bool(sign)
    value = _amount(amount, metric, is_relative=is_relative)
    if value is None or (value == 0 and is_relative):
        raise UsageError(f"{text!r}: {sign}{amount} is no limit of {metric}; {_HELP}")
    return Limit(text, metric, statistic, value, is_relative)


def _amount(text: str, metric: str, *, is_relative: bool) -> float | None:
    is_percentage = is_relative or metric in _SHARES
    if (match := _NUMBER.fullmatch(text)) and bool(match[2]) is is_percentage:
        number = float(match[1])
        if is_percentage:
            return number / 100
        # Bare, a time would be in some unit that one has to know.
        return number if metric in _COUNTS or not number else None
    if metric not in _TIMES or is_relative:
        return None
    try:
        return duration_ns(text) / 1e6
    except UsageError:
        return None
