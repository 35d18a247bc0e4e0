"""The gate: is the candidate worse than the baseline, or is it noise?

    ttfc_p95=+10%   e2e_p50=2s   errors=1%   gap_p99=+25%   tool_mean=500ms

A limit is on a metric of one store, the candidate.  With a sign it is relative to the
other, the baseline; without one it stands by itself.  Every limit is answered `pass`,
`fail` or, where the recordings cannot tell, `not enough data`: never by a guess.

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
neighbours, as the reports do) or _mean.  An exchange counts once it has ended.

How sure an estimate is
-----------------------
By a bootstrap, without its work.  The r-th of n values drawn with replacement from n
values is the one at rank ceil(n·B) with B drawn from Beta(r, n + 1 - r): that is what
sorting each of 2,000 resamples would give, for one draw instead of n.  Gaps and tools
of one exchange are not independent, so exchanges are what is resampled, and n is the
*effective* number of values: that of independent ones whose share below the quantile
would vary as much as it does from exchange to exchange (the design effect).  A share is
drawn from Beta(k + ½, n - k + ½), which unlike a resample also doubts a share of 0.
Means are drawn from the normal distribution that resampled means tend to.  Draws of the
candidate over draws of the baseline are the ratio's; its interval holds 95 % of them.
With several limits or groups each interval is wider, so that all of them together hold
with 95 % (Bonferroni).  The seed is fixed: the same stores give the same answer.

The decision
------------
Relative limit of L, ratio R with the interval (low, high), standard error S:

    fail   R > 1 + L and low > 1: the limit is exceeded, and it is not by chance that
           there is a change at all
    pass   high ≤ 1 + L, or there is enough data to have found what exceeds it
    else   not enough data

*Enough* is when a change of one and a half times the limit would be found: S, which
falls with the root of the number of exchanges, is at most a quarter of L, so that R
exceeds 1 + L by two standard errors there.  Without a change at most one check in forty
fails, however little data there is.  To fail only where low > 1 + L, as a test of the
limit itself would, takes four times as many exchanges to find the same change; a change
that is exactly the limit fails or passes by the toss of a coin instead.

A limit that stands by itself has no change to exclude: it fails when all of the
interval exceeds it, and there is enough data when the interval could find what exceeds
it by a tenth; of shares, by as much again.  A share that is relative is compared in
points: `errors=+1%` is one point more than the baseline's share.  A limit of 0 allows
none, which needs no statistics.

Error rates
-----------
Simulated: `ttfc_p95=+10%` on lognormal times to first content; in 100 checks, how many
pass where nothing has changed, and how many fail where 15 % were added:

    sigma 0.1    150 exchanges of each    97 pass    96 fail
    sigma 0.2    600                      97         96
    sigma 0.3  1,300                      97         96
    sigma 0.2    800                      99         98

Of the others none fails where nothing has changed, and one or two in 100 miss the 15 %;
the rest is told that there is not enough data.  A median takes about a third of the
exchanges.  Fewer than 30 exchanges, or than 5 values behind the quantile, are never
enough.
"""

from __future__ import annotations

import math
import random
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any, Final, NamedTuple

from sse_recorder.diff import duration_ns
from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store

RESAMPLES: Final = 2000
GROUPINGS: Final = ("dialect", "model", "path", "tool")
ALL: Final = "all"

_ALPHA: Final = 0.05
_LEAST: Final = 30
_LEAST_BEHIND: Final = 5
_NEEDED_MAX: Final = 1_000_000_000
# A relative limit is exceeded by half of itself: that is found by so many standard
# errors in 95 of 100 cases, and some for their own error.
_ERRORS_BETWEEN: Final = 2.0
# One that stands by itself: 1.96 to exclude it, 1.645 to do so in 95 of 100 cases.
_ERRORS_BEYOND: Final = 3.605
_RESOLUTION: Final = 0.1
_STATISTICS: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "mean": None}
_TIMES: Final = ("ttfb", "ttfe", "ttfc", "e2e", "gap", "tool")
_COUNTS: Final = ("input_tokens", "output_tokens", "calls")
_SHARES: Final = ("errors", "tool_errors")
_OF_TOOLS: Final = ("tool", "calls", "tool_errors")
_LIMIT: Final = re.compile(r"([a-z0-9_]+?)(?:_(p50|p90|p95|p99|mean))?=(\+?)(.+)")
_NUMBER: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(%?)")
_HELP: Final = (
    "write METRIC_STATISTIC=LIMIT, such as ttfc_p95=+10%, e2e_p50=2s, calls_mean=3,"
    f" errors=1%; metrics are {', '.join(_TIMES + _COUNTS)} with _p50, _p90, _p95, _p99"
    f" or _mean, and {' and '.join(_SHARES)} without"
)

_GAPS: Final = """
    SELECT exchange_id, list(ms) AS gaps FROM (
        SELECT
            exchange_id,
            (last_ns - lag(last_ns) OVER (PARTITION BY exchange_id ORDER BY seq)) / 1e6
                AS ms
        FROM frames
        WHERE kind IN ('text', 'reasoning', 'tool_call', 'tool_call_delta')
    ) WHERE ms IS NOT NULL GROUP BY exchange_id
"""
_NO_GAPS: Final = "SELECT NULL::VARCHAR AS exchange_id, NULL::DOUBLE[] AS gaps"
_NUMBERS: Final = """
WITH gap AS ({gaps}),
tool AS (
    SELECT exchange_id, list({{
        'name': coalesce(tool_name, '(no name)'),
        'ms': CASE
            WHEN timing = 'wire_bracket' AND status IN ('ok', 'error')
            THEN duration_ns / 1e6
        END,
        'failed': CASE WHEN status IN ('ok', 'error') THEN status = 'error' END
    }}) AS tools
    FROM tool_calls
    WHERE status <> 'unmatched'
    GROUP BY exchange_id
)
SELECT
    coalesce(dialect, '(none)') AS dialect,
    coalesce(model, '(none)') AS model,
    path,
    (headers_ns - sent_ns) / 1e6 AS ttfb,
    first_event_ns / 1e6 AS ttfe,
    first_content_ns / 1e6 AS ttfc,
    ended_ns / 1e6 AS e2e,
    input_tokens,
    output_tokens,
    outcome <> 'complete' OR coalesce(status >= 400, false) AS is_error,
    coalesce(gaps, []) AS gaps,
    coalesce(tools, []) AS tools
FROM exchanges
LEFT JOIN gap USING (exchange_id)
LEFT JOIN tool USING (exchange_id)
WHERE outcome IS NOT NULL AND ({where})
ORDER BY started_at, exchange_id
"""

Row = Mapping[str, Any]


class Verdict(StrEnum):
    """What is answered to a limit."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH = "not enough data"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one limit in one group."""

    limit: Limit
    group: str
    baseline: float | None
    """In the unit of the limit; None without a value."""
    candidate: float | None
    change: float | None
    """Candidate over baseline, less 1; of shares candidate less baseline."""
    low: float | None
    """The interval: of the change, or of the candidate where the limit stands alone."""
    high: float | None
    n_baseline: int
    """Exchanges with a value."""
    n_candidate: int
    needed: int
    """So many of each it takes to tell."""
    verdict: Verdict


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
    ns = duration_ns(text)
    return ns / 1e6 if ns is not None and metric in _TIMES and not is_relative else None


def numbers(store: Store, *, where: str = "true", with_gaps: bool = True) -> list[Row]:
    """Return what is compared of each exchange of a store, by one query.

    Args:
        store: what to look at.
        where: an SQL condition on `exchanges`; see `analytics.condition`.
        with_gaps: whether to read the frames, of which there are many.
    """
    gaps = _GAPS if with_gaps else _NO_GAPS
    rows: list[Row] = store.sql(_NUMBERS.format(gaps=gaps, where=where)).to_pylist()
    return rows


def check(
    baseline: Sequence[Row],
    candidate: Sequence[Row],
    limits: Sequence[Limit],
    *,
    by: str | None = None,
    seed: int = 0,
) -> list[Answer]:
    """Hold a candidate against a baseline.

    Args:
        baseline: the `numbers` of the one store.
        candidate: those of the other.
        limits: what the candidate may be at most.
        by: one of `GROUPINGS`: each group is judged for itself, so that one model
            cannot make up for another.
        seed: of the resamples.

    Raises:
        UsageError: a limit has no meaning for the groups.
    """
    for item in limits:
        if by == "tool" and item.metric not in _OF_TOOLS:
            raise UsageError(
                f"{item.text!r} is not of tools; by tool there are limits of"
                f" {', '.join(_OF_TOOLS)}"
            )
    groups = _grouped(baseline, by), _grouped(candidate, by)
    # Where there is no exchange at all there is still an answer: not enough data.
    names = sorted({*groups[0], *groups[1]}) or [by or ALL]
    cases = [(item, name) for item in limits for name in names]
    answers = []
    for item, name in cases:
        # Drawn for itself, so that an answer does not depend on what else is asked.
        chance = random.Random(f"{seed} {item.text} {name}")  # noqa: S311 - no secret
        one, other = (_sample(item, g.get(name, ()), chance) for g in groups)
        answers.append(_answer(item, name, one, other, _ALPHA / len(cases)))
    return answers


def _grouped(rows: Iterable[Row], by: str | None) -> dict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if by == "tool":
            for name in {tool["name"] for tool in row["tools"]}:
                own = [tool for tool in row["tools"] if tool["name"] == name]
                groups[name].append({**row, "tools": own})
        else:
            groups[ALL if by is None else row[by]].append(row)
    return groups


def _values(row: Row, metric: str) -> list[float]:
    """Return the values that an exchange has of a metric; 0 and 1 of a share."""
    match metric:
        case "gap":
            return list(row["gaps"])
        case "tool":
            return [tool["ms"] for tool in row["tools"] if tool["ms"] is not None]
        case "tool_errors":
            told = (tool["failed"] for tool in row["tools"])
            return [float(failed) for failed in told if failed is not None]
        case "errors":
            return [float(row["is_error"])]
        case "calls":
            return [len(row["tools"])]
        case _:
            return [] if row[metric] is None else [row[metric]]


# --- estimates ------------------------------------------------------------------------


class Sample(NamedTuple):
    """What is known of a metric in one store."""

    exchanges: int
    """Those that have a value."""
    values: int
    point: float
    draws: list[float]
    """What it might as well have been."""


def _sample(limit: Limit, rows: Iterable[Row], chance: random.Random) -> Sample:
    clusters = [found for row in rows if (found := _values(row, limit.metric))]
    if not clusters:
        return Sample(0, 0, math.nan, [])
    if limit.is_share:
        estimate = share(clusters, chance)
    elif (q := _STATISTICS[limit.statistic or ""]) is None:
        estimate = mean(clusters, chance)
    else:
        estimate = quantile(clusters, q, chance)
    return Sample(len(clusters), sum(map(len, clusters)), *estimate)


Clusters = Sequence[Sequence[float]]
Estimate = tuple[float, list[float]]


def quantile(clusters: Clusters, q: float, chance: random.Random) -> Estimate:
    """Return a quantile of the values of exchanges, and draws of it.

    Args:
        clusters: the values of each exchange.
        q: which quantile.
        chance: where the draws come from.
    """
    values = sorted(chain.from_iterable(clusters))
    count = len(values)
    place = (count - 1) * q
    point = _at(values, place)
    size = _effective_size([bisect_right(sorted(c), point) for c in clusters], clusters)
    rank, weight = (place + 0.5) / count, size + 1
    beta, a, b = chance.betavariate, weight * rank, weight * (1 - rank)
    return point, [_at(values, beta(a, b) * count - 0.5) for _ in range(RESAMPLES)]


def share(clusters: Clusters, chance: random.Random) -> Estimate:
    """Return the share of ones among zeros and ones, and draws of it."""
    hits = [int(sum(cluster)) for cluster in clusters]
    point = sum(hits) / sum(map(len, clusters))
    size = _effective_size(hits, clusters)
    a, b = size * point + 0.5, size * (1 - point) + 0.5
    return point, [chance.betavariate(a, b) for _ in range(RESAMPLES)]


def mean(clusters: Clusters, chance: random.Random) -> Estimate:
    """Return the mean of the values of exchanges, and draws of it."""
    count = sum(map(len, clusters))
    point = math.fsum(chain.from_iterable(clusters)) / count
    residuals = (math.fsum(c) - point * len(c) for c in clusters)
    error = math.sqrt(math.fsum(r * r for r in residuals)) / count
    return point, [chance.gauss(point, error) for _ in range(RESAMPLES)]


def _effective_size(hits: Sequence[int], clusters: Clusters) -> float:
    """Return how many independent values would have a share that varies as much.

    Args:
        hits: of each exchange, how many of its values count.
        clusters: of each exchange, its values.
    """
    count = sum(map(len, clusters))
    rate = sum(hits) / count
    variance = math.fsum(
        (hit - rate * len(c)) ** 2 for hit, c in zip(hits, clusters, strict=True)
    )
    if not variance:
        # All of them, or none: nothing is known but how many exchanges said so.
        return len(clusters)
    return max(1.0, min(count, rate * (1 - rate) * count**2 / variance))


def _at(values: Sequence[float], place: float) -> float:
    """Return what stands at a place of sorted values, or between two of them."""
    last = len(values) - 1
    place = min(max(place, 0.0), last)
    below = int(place)
    one, other = values[below], values[min(below + 1, last)]
    if one == other:  # and perhaps infinite
        return one
    return one + (other - one) * (place - below)


# --- the decision ---------------------------------------------------------------------


class _Test(NamedTuple):
    """One question to two samples: is this more than allowed?"""

    point: float
    draws: list[float]
    limit: float
    neutral: float | None
    """What `point` is where nothing has changed."""
    margin: float
    """What has to be found, beyond the limit."""
    errors: float
    """In how many standard errors."""


def _test(limit: Limit, baseline: Sample, candidate: Sample) -> _Test:
    if not limit.is_relative:
        beyond = limit.value * (1 if limit.is_share else _RESOLUTION)
        point, draws = candidate.point, candidate.draws
        return _Test(point, draws, limit.value, None, beyond, _ERRORS_BEYOND)
    compare: Callable[[float, float], float] = _less if limit.is_share else _over
    point = compare(candidate.point, baseline.point)
    draws = list(map(compare, candidate.draws, baseline.draws))
    beyond, neutral = limit.value / 2, 0.0
    if not limit.is_share:
        neutral = 1.0
        if 0 < point < math.inf:
            beyond *= point  # the error of a ratio grows with it
    at_most = neutral + limit.value
    return _Test(point, draws, at_most, neutral, beyond, _ERRORS_BETWEEN)


def _less(one: float, other: float) -> float:
    return one - other


def _over(one: float, other: float) -> float:
    if other > 0:
        return max(one, 0.0) / other
    return 1.0 if one == other else math.inf


class _Judgement(NamedTuple):
    verdict: Verdict
    needed: int
    low: float | None = None
    high: float | None = None


def _answer(
    limit: Limit, group: str, baseline: Sample, candidate: Sample, alpha: float
) -> Answer:
    change = None
    if baseline.exchanges and candidate.exchanges:
        if limit.is_share:
            change = candidate.point - baseline.point
        else:
            change = _over(candidate.point, baseline.point) - 1
    judgement = _judged(limit, baseline, candidate, alpha)
    return Answer(
        limit=limit,
        group=group,
        baseline=_known(baseline.point),
        candidate=_known(candidate.point),
        change=change,
        low=judgement.low,
        high=judgement.high,
        n_baseline=baseline.exchanges,
        n_candidate=candidate.exchanges,
        needed=judgement.needed,
        verdict=judgement.verdict,
    )


def _judged(
    limit: Limit, baseline: Sample, candidate: Sample, alpha: float
) -> _Judgement:
    if not limit.value and candidate.exchanges:  # none is allowed, and there is or not
        return _Judgement(Verdict.FAIL if candidate.point > 0 else Verdict.PASS, 1)
    asked = [baseline, candidate] if limit.is_relative else [candidate]
    count = min(sample.exchanges for sample in asked)
    least = max(_least(limit, sample) for sample in asked)
    if count < least:
        return _Judgement(Verdict.NOT_ENOUGH, least)
    test = _test(limit, baseline, candidate)
    draws = sorted(test.draws)
    low, high = _at_share(draws, alpha / 2), _at_share(draws, 1 - alpha / 2)
    below, above = _at_share(draws, 0.159), _at_share(draws, 0.841)
    error = 0.0 if below == above else (above - below) / 2  # both may be infinite
    needed = max(least, _needed(count, error * test.errors, test.margin))
    verdict = _verdict(test, low, high, is_enough=count >= needed)
    if limit.is_relative and not limit.is_share:
        low, high = low - 1, high - 1
    return _Judgement(verdict, needed, low, high)


def _verdict(test: _Test, low: float, high: float, *, is_enough: bool) -> Verdict:
    # With no change to exclude, what is allowed is what has to be excluded.
    excluded = test.limit if test.neutral is None else test.neutral
    if test.point > test.limit and low > excluded:
        return Verdict.FAIL
    return Verdict.PASS if is_enough or high <= test.limit else Verdict.NOT_ENOUGH


def _least(limit: Limit, sample: Sample) -> int:
    """Return how many exchanges it takes before a bootstrap means anything."""
    q = _STATISTICS.get(limit.statistic or "")
    if q is None or not sample.exchanges:
        return _LEAST
    per_exchange = sample.values / sample.exchanges
    return max(_LEAST, math.ceil(round(_LEAST_BEHIND / (1 - q) / per_exchange, 6)))


def _needed(exchanges: int, errors: float, margin: float) -> int:
    """Return how many exchanges make some standard errors as small as a margin."""
    return math.ceil(min(exchanges * (errors / margin) ** 2, _NEEDED_MAX))


def _at_share(values: Sequence[float], q: float) -> float:
    return _at(values, q * (len(values) - 1))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
