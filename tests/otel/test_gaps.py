"""Histograms of gaps, made here and exported with the rest."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from otel_samples import exchange, telemetry
from otlp_receiver import otlp_receiver, points

from sse_recorder.clock import FakeClock
from sse_recorder.otel import StreamFacts
from sse_recorder.otel.gaps import SERIES_MAX, Gaps, PlainGaps
from sse_recorder.semconv import GAP_BUCKETS

NAME = "sse_recorder.client.time_per_output_chunk"


def collected(gaps_ns: list[int]) -> tuple[MetricsData, Any]:
    """Return what the SDK collects, and its own histogram of the same gaps."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("sse_recorder")
    histogram = meter.create_histogram(
        "theirs", explicit_bucket_boundaries_advisory=GAP_BUCKETS
    )
    for ns in gaps_ns:
        histogram.record(ns / 1e9, {"a": 1})
    data = reader.get_metrics_data()
    assert data is not None
    return data, point(data, "theirs")


def point(data: MetricsData, name: str) -> Any:
    """Return the one data point of a metric."""
    (found,) = (
        metric.data.data_points
        for owner in data.resource_metrics
        for scope in owner.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    )
    (one,) = found
    return one


def test_they_are_what_the_sdk_makes_of_the_same_gaps() -> None:
    """Every bucket, the count, the sum and the ends; values on a bound, too."""
    rng = random.Random(1)  # noqa: S311 - it has to come again
    gaps_ns = [round(10 ** rng.uniform(5, 11)) for _ in range(5_000)]
    gaps_ns += [round(bound * 1e9) for bound in GAP_BUCKETS] + [0]
    data, theirs = collected(gaps_ns)
    gaps = Gaps()
    for start in range(0, len(gaps_ns), 700):
        part = gaps_ns[start : start + 700]
        if start % 1_400:  # what comes as numbers of times is counted alike
            gaps.add("ours", GAP_BUCKETS, {"a": 1}, [], Counter(part))
        else:
            gaps.add("ours", GAP_BUCKETS, {"a": 1}, part)
    ours = point(gaps.joined(data), "ours")
    assert list(ours.bucket_counts) == list(theirs.bucket_counts)
    assert ours.sum == pytest.approx(theirs.sum)
    assert (ours.count, ours.min, ours.max) == (theirs.count, theirs.min, theirs.max)
    assert ours.attributes == theirs.attributes == {"a": 1}


def test_sums_grow_and_differences_begin_again() -> None:
    """A collector is told the sums so far, or what is new, as it prefers."""
    data, _ = collected([1])
    for is_delta, counts in ((False, [2, 3]), (True, [2, 1])):
        clock = FakeClock()
        gaps = Gaps(is_delta=is_delta, clock=clock.clock())
        found = []
        for more in ([1, 2], [3]):
            gaps.add("ours", GAP_BUCKETS, {}, more)
            clock.advance(10)
            found.append(point(gaps.joined(data), "ours"))
        assert [one.count for one in found] == counts
        since = [one.start_time_unix_nano - clock.started_at_ns for one in found]
        assert since == ([0, 10] if is_delta else [0, 0])
        assert [one.time_unix_nano for one in found] == [
            clock.started_at_ns + 10,
            clock.started_at_ns + 20,
        ]


def test_without_gaps_nothing_is_added() -> None:
    """An empty histogram is none."""
    data, _ = collected([1])
    gaps = Gaps()
    gaps.add("ours", GAP_BUCKETS, {}, [])
    assert gaps.joined(data) is data
    gaps.add("ours", GAP_BUCKETS, {}, [1])
    assert gaps.joined(MetricsData([])).resource_metrics == []


def test_they_are_among_what_is_ours() -> None:
    """Not among what the SDK says of itself; and they wait where nothing is ours."""
    data, _ = collected([1])
    (owner,) = data.resource_metrics
    (ours,) = owner.scope_metrics
    sdks = replace(ours, scope=InstrumentationScope("opentelemetry-sdk"))

    def with_scopes(*scopes: ScopeMetrics) -> MetricsData:
        return MetricsData([replace(owner, scope_metrics=list(scopes))])

    gaps = Gaps(is_delta=True)
    gaps.add("ours", GAP_BUCKETS, {}, [1])
    for nothing in (with_scopes(sdks), MetricsData([])):
        assert gaps.joined(nothing) is nothing
    (found,) = gaps.joined(with_scopes(sdks, ours)).resource_metrics
    names = [[metric.name for metric in one.metrics] for one in found.scope_metrics]
    assert names == [["theirs"], ["theirs", "ours"]]


def test_series_are_bounded() -> None:
    """As in the SDK, so many sets of attributes are kept."""
    data, _ = collected([1])
    gaps = Gaps()
    for number in range(SERIES_MAX + 5):
        gaps.add("ours", GAP_BUCKETS, {"n": number}, [1])
    scope = gaps.joined(data).resource_metrics[0].scope_metrics[0]
    assert len(scope.metrics[-1].data.data_points) == SERIES_MAX


@pytest.mark.parametrize("preferred", ["cumulative", "delta"])
def test_they_arrive_as_the_collector_prefers(
    preferred: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard variable for that is followed."""
    name = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
    monkeypatch.setenv(name, preferred)
    facts = StreamFacts(is_stream=True, content_chunks=3, chunk_gaps=[1, 2])
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(), [], facts)
        assert sender.close() == 0
        metric = receiver.metrics[NAME]
    assert [one.count for one in points(metric)] == [2]
    expected = AggregationTemporality[preferred.upper()].value
    assert metric.histogram.aggregation_temporality == expected


def test_plain_ones_are_the_sdks_own() -> None:
    """They have the same buckets and the same sums, and views see them."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    ours, plain = Gaps(), PlainGaps(meter)
    for gaps in (ours, plain):
        gaps.add(NAME, GAP_BUCKETS, {"a": 1}, [1_000_000, 3_000_000])
        gaps.add(NAME, GAP_BUCKETS, {"a": 1}, [2_000_000_000])
        gaps.add("none", GAP_BUCKETS, {}, [])
    data = reader.get_metrics_data()
    assert data is not None
    theirs, mine = point(data, NAME), ours._metrics()[0].data.data_points[0]
    assert list(theirs.bucket_counts) == mine.bucket_counts  # type: ignore[union-attr]
    assert theirs.sum == pytest.approx(mine.sum)  # type: ignore[union-attr]
    assert list(theirs.explicit_bounds) == list(GAP_BUCKETS)
