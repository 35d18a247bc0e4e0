"""The gate: is the candidate worse than the baseline, or is it noise?

Every limit is answered `pass`, `fail` or, where the recordings cannot tell, `not enough
data`: never by a guess.  What there may be limits on is in `limits`, what they are held
against in `sample`, and how sure an estimate is in `estimate`.  Draws of the candidate
over draws of the baseline are the ratio's; its interval holds 95 % of them.  With
several limits or groups each interval is wider, so that all of them together hold with
95 % (Bonferroni), and there are more draws, because it ends farther out.  Their number
is bounded: beyond `TOGETHER_MAX` answers not all of them hold together.  The seed is
fixed: the same stores give the same answer.

The decision
------------
Relative limit of L, ratio R with the interval (low, high), standard error S:

    fail   R > 1 + L and low > 1: the limit is exceeded, and it is not by chance that
           there is a change at all
    pass   high ≤ 1 + L; or R ≤ 1 + L, and there is enough data to have found what
           exceeds it
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

Exchanges without a value
-------------------------
Where half of the exchanges never get to their first content, how soon the others do is
half of the truth.  Whatever the limit, it fails as well where more of the candidate's
exchanges than of the baseline's lack a value, beyond doubt, and by more than one in
twenty; or by more than there are behind the quantile: of p99, one in a hundred.

Error rates
-----------
Simulated: `ttfc_p95=+10%` on lognormal times to first content; of 1,000 checks, how
many pass where nothing has changed, and how many fail where 15 % were added:

    sigma 0.1    150 exchanges of each    975 pass    969 fail
    sigma 0.2    600                      965         978
    sigma 0.3  1,300                      974         970
    sigma 0.2    800                      997         987

Of the others none fails where nothing has changed, and one or two in 100 miss the 15 %;
the rest is told that there is not enough data.  A median takes about a third of the
exchanges.  Fewer than 30 exchanges, or than 5 values behind the quantile, are never
enough; and what fewer than 5 exchanges have makes no mean that fails: `calls_mean=+10%`
where one in 20 to 100 has a call fails in at most 2 of 100 checks.  A mean of values
that vary by more than themselves may fail in 4 of 100 where nothing has changed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sse_recorder.analytics.estimate import (
    DRAWS,
    Estimate,
    at_share,
    mean,
    quantile,
    share,
    unit,
)
from sse_recorder.analytics.limits import OF_TOOLS, Limit
from sse_recorder.analytics.sample import ALL, Row, Sample, grouped, sample
from sse_recorder.errors import UsageError

_ALPHA: Final = 0.05
_DRAWS_MAX: Final = 10_000
# An interval ends ten draws from the last one, or nearer where there are too many.
_DRAWS_EACH: Final = round(10 / (_ALPHA / 2))
TOGETHER_MAX: Final = round(_DRAWS_MAX * _ALPHA / 2)
"""So many intervals hold together: each then ends at the last draw but one."""

_LEAST: Final = 30
_LEAST_BEHIND: Final = 5
_NEEDED_MAX: Final = 1_000_000_000
# A relative limit is exceeded by half of itself: that is found by so many standard
# errors in 95 of 100 cases, and some for their own error.
_ERRORS_BETWEEN: Final = 2.0
# One that stands by itself: 1.96 to exclude it, 1.645 to do so in 95 of 100 cases.
_ERRORS_BEYOND: Final = 3.605
_RESOLUTION: Final = 0.1
_LACKING_MAX: Final = 0.05
# The doubt about values that are lacking is a fifth of that about those that are there:
# a candidate that has not changed hardly fails more often for being asked twice.
_LACKING_DOUBT: Final = 0.2


class Verdict(StrEnum):
    """What is answered to a limit."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NOT_ENOUGH = "not enough data"


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
    without_baseline: int
    """Those without one."""
    without_candidate: int
    failed_baseline: int
    """Of those, the ones that have none because they are errors."""
    failed_candidate: int
    needed: int
    """So many of each it takes to tell."""
    is_lacking: bool
    """Whether it fails because more of the candidate's exchanges lack a value."""
    verdict: Verdict


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
        baseline: the `sample.numbers` of the one store.
        candidate: those of the other.
        limits: what the candidate may be at most.
        by: one of `sample.GROUPINGS`: each group is judged for itself, so that one
            model cannot make up for another.
        seed: of the draws.

    Raises:
        UsageError: a limit has no meaning for the groups.
    """
    for item in limits:
        if by == "tool" and item.metric not in OF_TOOLS:
            raise UsageError(
                f"{item.text!r} is not of tools; by tool there are limits of"
                f" {', '.join(OF_TOOLS)}"
            )
    groups = grouped(baseline, by), grouped(candidate, by)
    # Where there is no exchange at all there is still an answer: not enough data.
    names = sorted({*groups[0], *groups[1]}) or [by or ALL]
    cases = [(item, name) for item in limits for name in names]
    draws = min(max(DRAWS, _DRAWS_EACH * len(cases)), _DRAWS_MAX)
    answers = []
    for item, name in cases:
        one, other = (sample(item, group.get(name, ())) for group in groups)
        # Drawn for itself, so that an answer does not depend on what else is asked.
        case = _Case(item, one, other, f"{seed} {item.text} {name}", draws)
        answers.append(_answer(case, name, _ALPHA / len(cases)))
    return answers


class _Case:
    """A limit, and the two samples that it is about."""

    def __init__(
        self, limit: Limit, baseline: Sample, candidate: Sample, seed: str, draws: int
    ) -> None:
        self.limit = limit
        self.baseline, self.candidate = baseline, candidate
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.asked = [baseline, candidate] if limit.is_relative else [candidate]
        self.count = min(len(sample.values) for sample in self.asked)
        self.least = max(_least(limit, sample) for sample in self.asked)
        # What is too little to be judged is not drawn.
        self._draws = draws if self.count >= self.least else 0
        self.one, self.other = self._estimate(baseline), self._estimate(candidate)

    def _estimate(self, sample: Sample) -> Estimate | None:
        if not sample.values:
            return None
        if self.limit.is_share:
            return share(sample.values, self.chance, self._draws)
        if (q := self.limit.quantile) is not None:
            return quantile(sample.values, q, self.chance, self._draws)
        each = unit(self.baseline.values, self.candidate.values)
        return mean(sample.values, self.chance, self._draws, unit=each)

    @property
    def compare(self) -> Callable[[float, float], float]:
        """How the candidate is held against the baseline."""
        return _less if self.limit.is_share else _over

    @property
    def change(self) -> float | None:
        """What has changed, 0 for nothing; None where one side has no value."""
        if self.one is None or self.other is None:
            return None
        neutral = 0.0 if self.limit.is_share else 1.0
        return self.compare(self.other.point, self.one.point) - neutral


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

    @property
    def excluded(self) -> float:
        """What must not be in the interval where the limit is exceeded."""
        # With no change to exclude, what is allowed is what has to be excluded.
        return self.limit if self.neutral is None else self.neutral


def _test(case: _Case) -> _Test:
    limit, other = case.limit, case.other
    assert other is not None
    if not limit.is_relative:
        beyond = limit.value * (1 if limit.is_share else _RESOLUTION)
        return _Test(
            other.point, other.draws, limit.value, None, beyond, _ERRORS_BEYOND
        )
    one = case.one
    assert one is not None
    point = case.compare(other.point, one.point)
    draws = list(map(case.compare, other.draws, one.draws))
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
    if other:
        return one / other
    return math.inf if one else 1.0


class _Judgement(NamedTuple):
    verdict: Verdict
    needed: int
    low: float | None = None
    high: float | None = None


def _answer(case: _Case, group: str, alpha: float) -> Answer:
    judgement = _judged(case, alpha)
    is_lacking = _is_lacking(case, alpha)
    one, other = case.baseline, case.candidate
    return Answer(
        limit=case.limit,
        group=group,
        baseline=case.one and case.one.point,
        candidate=case.other and case.other.point,
        change=case.change,
        low=judgement.low,
        high=judgement.high,
        n_baseline=len(one.values),
        n_candidate=len(other.values),
        without_baseline=one.exchanges - len(one.values),
        without_candidate=other.exchanges - len(other.values),
        failed_baseline=one.failed,
        failed_candidate=other.failed,
        needed=judgement.needed,
        is_lacking=is_lacking,
        verdict=Verdict.FAIL if is_lacking else judgement.verdict,
    )


def _judged(case: _Case, alpha: float) -> _Judgement:
    limit, count, least = case.limit, case.count, case.least
    if not limit.value and case.other:  # none is allowed, and there is or not
        return _Judgement(Verdict.FAIL if case.other.point > 0 else Verdict.PASS, 1)
    if count < least:
        return _Judgement(Verdict.NOT_ENOUGH, least)
    test = _test(case)
    draws = sorted(test.draws)
    low, high = at_share(draws, alpha / 2), at_share(draws, 1 - alpha / 2)
    below, above = at_share(draws, 0.159), at_share(draws, 0.841)
    error = 0.0 if below == above else (above - below) / 2  # both may be infinite
    needed = max(least, _needed(count, error * test.errors, test.margin))
    is_exceeded = test.point > test.limit
    if is_exceeded:
        is_told = low > test.excluded and not _until_some(limit, case.candidate)
    else:
        is_told = count >= needed or high <= test.limit
    if is_told:
        verdict = Verdict.FAIL if is_exceeded else Verdict.PASS
    else:
        verdict = Verdict.NOT_ENOUGH
        if some := max(_until_some(limit, sample) for sample in case.asked):
            needed = some
        elif is_exceeded:
            # So many let the interval end where it has to, if the estimate is right.
            beyond = (test.excluded - low) / (test.point - test.excluded)
            needed = max(needed, count + 1, _needed(count, 1 + beyond, 1))
    if limit.is_relative and not limit.is_share:
        low, high = low - 1, high - 1
    return _Judgement(verdict, needed, low, high)


def _is_lacking(case: _Case, alpha: float) -> bool:
    """Tell whether more of the candidate's exchanges lack a value, and by no chance."""
    one, other = case.baseline, case.candidate
    if min(one.exchanges, other.exchanges) < _LEAST:
        return False
    most = min(_LACKING_MAX, 1 - (case.limit.quantile or 0))
    if other.lacking / other.exchanges - one.lacking / one.exchanges <= most:
        return False
    before, after = (
        share([[float(n < s.lacking)] for n in range(s.exchanges)], case.chance)
        for s in (one, other)
    )
    draws = sorted(map(_less, after.draws, before.draws))
    return at_share(draws, alpha / 2 * _LACKING_DOUBT) > 0


def _least(limit: Limit, sample: Sample) -> int:
    """Return how many exchanges it takes before a bootstrap means anything."""
    if limit.quantile is None or not sample.values:
        return _LEAST
    per_exchange = sum(map(len, sample.values)) / len(sample.values)
    behind = _LEAST_BEHIND / (1 - limit.quantile)
    return max(_LEAST, math.ceil(round(behind / per_exchange, 6)))


def _until_some(limit: Limit, sample: Sample) -> int:
    """Return how many exchanges it takes until enough make a mean; 0 if they do."""
    some = sum(map(any, sample.values))
    if limit.is_share or limit.quantile is not None or some >= _LEAST_BEHIND:
        return 0
    # Where none has anything, half of one may.
    return math.ceil(_LEAST_BEHIND * len(sample.values) / max(some, 0.5))


def _needed(exchanges: int, errors: float, margin: float) -> int:
    """Return how many exchanges make some standard errors as small as a margin."""
    return math.ceil(min(exchanges * (errors / margin) ** 2, _NEEDED_MAX))
