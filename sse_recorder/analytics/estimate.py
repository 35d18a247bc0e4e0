"""Estimates of a quantile, a share or a mean, and how sure they are.

By a bootstrap, without its work.  The r-th of n values drawn with replacement from n
values is the one at rank ceil(n·B) with B drawn from Beta(r, n + 1 - r): that is what
sorting each of many resamples would give, for one draw instead of n.  Gaps and tools of
one exchange are not independent, so exchanges are what is resampled, and n is the
*effective* number of values: that of independent ones whose share below the quantile
would vary as much as it does from exchange to exchange (the design effect).

What is rare is what a resample knows nothing of: a sample without a single call gives
none for ever, as if that proved that there are none.  So a share of k in n is drawn
from Beta(k + ½, n - k + ½).  A mean is that of the exchanges that have anything, drawn
from the gamma distribution with its mean and variance, which is never below 0 and of
many values the normal distribution to which resampled means tend; times the share of
those exchanges, drawn from Beta(k + 1, n - k), which is the upper limit of it.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain
from typing import Final, NamedTuple

DRAWS: Final = 2000

Clusters = Sequence[Sequence[float]]
"""The values of each exchange."""


class Estimate(NamedTuple):
    """What is known of a number."""

    point: float
    draws: list[float]
    """What it might as well have been."""


def quantile(
    clusters: Clusters, q: float, chance: random.Random, draws: int = DRAWS
) -> Estimate:
    """Return a quantile of the values of exchanges.

    Args:
        clusters: the values of each exchange.
        q: which quantile.
        chance: where the draws come from.
        draws: how many.
    """
    values = sorted(chain.from_iterable(clusters))
    count = len(values)
    place = (count - 1) * q
    point = _at(values, place)
    size = _effective_size([bisect_right(sorted(c), point) for c in clusters], clusters)
    rank, weight = (place + 0.5) / count, size + 1
    beta, a, b = chance.betavariate, weight * rank, weight * (1 - rank)
    return Estimate(
        point, [_at(values, beta(a, b) * count - 0.5) for _ in range(draws)]
    )


def share(clusters: Clusters, chance: random.Random, draws: int = DRAWS) -> Estimate:
    """Return the share of ones among zeros and ones."""
    hits = [int(sum(cluster)) for cluster in clusters]
    point = sum(hits) / sum(map(len, clusters))
    size = _effective_size(hits, clusters)
    a, b = size * point + 0.5, size * (1 - point) + 0.5
    return Estimate(point, [chance.betavariate(a, b) for _ in range(draws)])


def mean(
    clusters: Clusters,
    chance: random.Random,
    draws: int = DRAWS,
    *,
    unit: float = 1.0,
) -> Estimate:
    """Return the mean of the values of exchanges, none of which is below 0.

    Args:
        clusters: the values of each exchange.
        chance: where the draws come from.
        draws: how many.
        unit: what an exchange would have where none has any; see `unit`.
    """
    some, every = [c for c in clusters if any(c)], len(clusters)
    if not some:
        return Estimate(
            0.0, [unit * chance.betavariate(1, every) for _ in range(draws)]
        )
    own, variance = _mean_of(some)
    point, _ = _mean_of(clusters)
    drawn = [own] * draws
    if variance:
        shape, scale = own**2 / variance, variance / own
        drawn = [chance.gammavariate(shape, scale) for _ in range(draws)]
    if zeros := every - len(some):
        # Exchanges, of which the share is known, may have several values each.
        each = point / own * every / len(some)
        a = len(some) + 1
        drawn = [x * each * chance.betavariate(a, zeros) for x in drawn]
    return Estimate(point, drawn)


def _mean_of(clusters: Clusters) -> tuple[float, float]:
    """Return the mean of the values of exchanges, and its variance."""
    count = sum(map(len, clusters))
    point = math.fsum(chain.from_iterable(clusters)) / count
    residuals = (math.fsum(c) - point * len(c) for c in clusters)
    return point, math.fsum(r * r for r in residuals) / count**2


def unit(*samples: Clusters) -> float:
    """Return what an exchange has, of those that have any; 1 where none has."""
    sums = [total for c in chain(*samples) if (total := math.fsum(c)) > 0]
    return math.fsum(sums) / len(sums) if sums else 1.0


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


def at_share(values: Sequence[float], q: float) -> float:
    """Return a quantile of sorted values."""
    return _at(values, q * (len(values) - 1))


def _at(values: Sequence[float], place: float) -> float:
    """Return what stands at a place of sorted values, or between two of them."""
    last = len(values) - 1
    place = min(max(place, 0.0), last)
    below = int(place)
    one, other = values[below], values[min(below + 1, last)]
    if one == other:  # and perhaps infinite
        return one
    return one + (other - one) * (place - below)
