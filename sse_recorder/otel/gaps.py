"""Gaps: histograms of what there is most of, made here and exported with the rest.

A stream has as many gaps as chunks.  To record one through the SDK takes several
microseconds, a fifth of what it costs to record the chunk itself; to sort those of a
whole stream and count them into buckets takes a fiftieth of that.  So these histograms
are kept here, and added to what the SDK has collected on its way to the exporter: to a
collector they are as all others.  Views of the SDK do not see them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sse_recorder import semconv
from sse_recorder.clock import SYSTEM, Clock

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram as Instrument
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics.export import (
        HistogramDataPoint,
        Metric,
        MetricsData,
        ResourceMetrics,
    )

SERIES_MAX: Final = 2_000
"""Distinct sets of attributes of one histogram, as in the SDK; more are left out."""


def _has_ours(owner: ResourceMetrics) -> bool:
    return any(scope.scope.name == semconv.SCOPE for scope in owner.scope_metrics)


class _Series:
    """One histogram, for one set of attributes; all in nanoseconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._bounds_ns = [round(bound * 1e9) for bound in bounds]
        self.counts = [0] * (len(bounds) + 1)
        self.sum_ns = 0
        self.min_ns: int | None = None
        self.max_ns = 0

    def add(self, gaps_ns: Sequence[int], rounded: Mapping[int, int]) -> None:
        for gap_ns, count in rounded.items():
            self.counts[bisect_left(self._bounds_ns, gap_ns)] += count
            self.sum_ns += gap_ns * count
            self._note_ends(gap_ns, gap_ns)
        ordered = sorted(gaps_ns)
        places = [bisect_right(ordered, bound) for bound in self._bounds_ns]
        for number, (start, end) in enumerate(pairwise([0, *places, len(ordered)])):
            self.counts[number] += end - start
        self.sum_ns += sum(ordered)
        if ordered:
            self._note_ends(ordered[0], ordered[-1])

    def _note_ends(self, lowest_ns: int, highest_ns: int) -> None:
        known_ns = lowest_ns if self.min_ns is None else self.min_ns
        self.min_ns = min(known_ns, lowest_ns)
        self.max_ns = max(self.max_ns, highest_ns)

    def point(
        self, about: Mapping[str, Any], start_at: int, at: int
    ) -> HistogramDataPoint:
        from opentelemetry.sdk.metrics.export import HistogramDataPoint

        return HistogramDataPoint(
            attributes=dict(about),
            start_time_unix_nano=start_at,
            time_unix_nano=at,
            count=sum(self.counts),
            sum=self.sum_ns / 1e9,
            bucket_counts=list(self.counts),
            explicit_bounds=list(self._bounds),
            min=(self.min_ns or 0) / 1e9,
            max=self.max_ns / 1e9,
        )


class Gaps:
    """Histograms of gaps, by their names and attributes.

    Args:
        is_delta: whether a collector is told what is new, and not the sums so far.
        clock: says when that was.
    """

    def __init__(self, *, is_delta: bool = False, clock: Clock = SYSTEM) -> None:
        self._is_delta = is_delta
        self._clock = clock
        self._lock = Lock()  # what adds and what exports are two threads
        self._since = clock.wall_ns()
        self._series: dict[str, dict[tuple[Any, ...], _Series]] = {}

    def add(
        self,
        name: str,
        bounds: Sequence[float],
        about: Mapping[str, Any],
        gaps_ns: Sequence[int],
        rounded: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Add the gaps of a stream.

        Args:
            name: of the histogram.
            bounds: of its buckets, in seconds.
            about: the attributes.
            gaps_ns: the gaps.
            rounded: and how often each of these came.
        """
        if not gaps_ns and not rounded:
            return
        with self._lock:
            known = self._series.setdefault(name, {})
            key = tuple(about.items())
            if key not in known and len(known) < SERIES_MAX:
                known[key] = _Series(bounds)
            if series := known.get(key):
                series.add(gaps_ns, rounded)

    def joined(self, data: MetricsData) -> MetricsData:
        """Return what was collected with these among what is ours.

        Where nothing else of ours is, they wait for the next time.
        """
        if not any(map(_has_ours, data.resource_metrics)):
            return data
        if not (found := self._metrics()):
            return data
        owners = [
            replace(
                owner,
                scope_metrics=[
                    replace(scope, metrics=[*scope.metrics, *found])
                    if scope.scope.name == semconv.SCOPE
                    else scope
                    for scope in owner.scope_metrics
                ],
            )
            for owner in data.resource_metrics
        ]
        return replace(data, resource_metrics=owners)

    def _metrics(self) -> list[Metric]:
        from opentelemetry.sdk.metrics.export import (
            AggregationTemporality,
            Histogram,
            Metric,
        )

        temporality = AggregationTemporality.CUMULATIVE
        if self._is_delta:
            temporality = AggregationTemporality.DELTA
        with self._lock:
            since, now = self._since, max(self._clock.wall_ns(), self._since)
            found = [
                Metric(
                    name,
                    "",
                    "s",
                    Histogram(
                        [
                            one.point(dict(key), since, now)
                            for key, one in known.items()
                        ],
                        temporality,
                    ),
                )
                for name, known in self._series.items()
            ]
            if self._is_delta:
                self._series.clear()
                self._since = now
        return found


class PlainGaps:
    """The same through the SDK, where what it exports is not ours to add to.

    Args:
        meter: makes the histograms.
    """

    def __init__(self, meter: Meter) -> None:
        from opentelemetry.context import Context

        self._meter = meter
        self._no_context = Context()
        self._histograms: dict[str, Instrument] = {}

    def add(
        self,
        name: str,
        bounds: Sequence[float],
        about: Mapping[str, Any],
        gaps_ns: Sequence[int],
        rounded: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """Add the gaps of a stream; for the arguments see `Gaps`."""
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, "s", explicit_bucket_boundaries_advisory=bounds
            )
        record = self._histograms[name].record
        for ns in chain(gaps_ns, Counter(rounded).elements()):
            record(ns / 1e9, about, context=self._no_context)
