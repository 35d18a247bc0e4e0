"""Metrics: what exchanges add up to, in two vocabularies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_samples import FIVE_CALLS, ID, MS, T0, exchange, telemetry, tool_call
from otlp_receiver import otlp_receiver, points

from sse_recorder import semconv
from sse_recorder.exchange import Exchange, Outcome, ToolCall
from sse_recorder.otel import (
    Origin,
    SampledTimes,
    StreamFacts,
    View,
    answered_span,
    spans,
)
from sse_recorder.otel.gaps import Gaps
from sse_recorder.otel.metrics import SAMPLED_OF, VALUES_MAX, Metrics
from sse_recorder.otel.stream import Gap

MAIN = View(vocabulary="genai-main")
HEARD = StreamFacts(
    is_stream=True,
    has_finished=True,
    content_chunks=4,
    first_output_ns=300 * MS,
    chunk_gaps=[1 * MS, 2 * MS, 40 * MS],
    longest=Gap(0, 5_000 * MS, None),
    long_gaps=(Gap(0, 5_000 * MS, None), Gap(6_000 * MS, 9_000 * MS, None)),
    cache_read_tokens=5,
)
CHAT: dict[str, Any] = {
    "dialect": "openai_chat",
    "url": "https://api.openai.com/v1/chat/completions",
    "path": "/v1/chat/completions",
    "session_id": None,
    "model": "m-1-0101",
    "request_body": b'{"model": "m-1", "stream": true}',
}
BASE = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "m-1",
    "gen_ai.response.model": "m-1-0101",
    "server.address": "api.openai.com",
    "server.port": 443,
}


class Collected:
    """Metrics that are kept in memory."""

    def __init__(self, view: View | None = None) -> None:
        self.reader = InMemoryMetricReader()
        self.view = view or View()
        provider = MeterProvider([self.reader], shutdown_on_exit=False)
        self.gaps = Gaps()
        self.metrics = Metrics(provider.get_meter("sse_recorder"), self.view, self.gaps)

    def add(
        self,
        one: Exchange,
        calls: list[ToolCall] | None = None,
        facts: StreamFacts = HEARD,
    ) -> None:
        """Add an exchange."""
        found = spans(one, calls or [], facts, self.view)
        self.metrics.add(one, facts, found)

    def points(self) -> dict[str, list[Any]]:
        """Return the data points by the names of their metrics."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: list(metric.data.data_points)
            for owner in self.gaps.joined(data).resource_metrics
            for scope in owner.scope_metrics
            for metric in scope.metrics
        }


@pytest.mark.parametrize(
    ("view", "prefix", "tokens"),
    [
        (View(), "gen_ai.client.operation", {"gen_ai.client.token.usage"}),
        (
            MAIN,
            "gen_ai.client.inference",
            {
                "gen_ai.client.inference.operation.input_tokens",
                "gen_ai.client.inference.operation.output_tokens",
                "gen_ai.client.inference.usage.cache_read.input_tokens",
                "gen_ai.client.inference.usage.cache_write.input_tokens",
                "gen_ai.client.inference.usage.input_tokens",
                "gen_ai.client.inference.usage.output_tokens",
                "gen_ai.client.inference.usage.reasoning.output_tokens",
            },
        ),
    ],
    ids=["1.41", "main"],
)
def test_a_models_answer_is_told_in_one_vocabulary(
    view: View, prefix: str, tokens: set[str]
) -> None:
    """Duration, first chunk, gaps and tokens have the names of that vocabulary only."""
    collected = Collected(view)
    collected.add(exchange(**CHAT))
    found = collected.points()
    assert set(found) == tokens | {
        f"{prefix}.duration",
        f"{prefix}.time_to_first_chunk",
        f"{prefix}.time_per_output_chunk",
        "sse_recorder.client.time_to_first_output",
        "sse_recorder.recorder.exchanges",
        "sse_recorder.recorder.frames",
        "sse_recorder.stream.max_gap",
        "sse_recorder.stream.stalls",
    }
    (duration,) = found[f"{prefix}.duration"]
    assert duration.attributes == BASE
    assert (duration.count, duration.sum) == (1, 2.0)
    assert tuple(duration.explicit_bounds) == semconv.BUCKETS
    (gaps,) = found[f"{prefix}.time_per_output_chunk"]
    assert (gaps.count, gaps.max) == (3, 0.04)
    (stalls,) = found["sse_recorder.stream.stalls"]
    assert stalls.value == 2


def test_tokens_are_told_by_their_type() -> None:
    """One histogram for both ways, with buckets of powers of four."""
    collected = Collected()
    collected.add(exchange(**CHAT))
    found = collected.points()["gen_ai.client.token.usage"]
    counts = {point.attributes["gen_ai.token.type"]: point.sum for point in found}
    assert counts == {"input": 11, "output": 7}
    assert tuple(found[0].explicit_bounds)[:4] == (1, 4, 16, 64)
    assert tuple(found[0].explicit_bounds)[-1] == 67_108_864


def test_without_usage_there_are_no_tokens_but_noughts_in_main() -> None:
    """What the provider did not report is not made up; main counts the call."""
    bare = exchange(**CHAT, input_tokens=None, output_tokens=None)
    collected = Collected()
    collected.add(bare, facts=StreamFacts())
    assert "gen_ai.client.token.usage" not in collected.points()
    main = Collected(MAIN)
    main.add(bare, facts=StreamFacts())
    (count,) = main.points()["gen_ai.client.inference.usage.input_tokens"]
    assert count.value == 0
    assert count.attributes["gen_ai.token.modality"] == "unknown"


@pytest.mark.parametrize("view", [View(), MAIN], ids=["1.41", "main"])
def test_an_agents_run_is_no_inference(view: View) -> None:
    """Its streaming metrics are our own, its duration that of an operation."""
    collected = Collected(view)
    collected.add(exchange(tags={"gen_ai.agent.name": "travel"}), FIVE_CALLS)
    found = collected.points()
    assert {name for name in found if name.startswith("gen_ai.client")} == {
        "gen_ai.client.operation.duration"
    }
    (first,) = found["sse_recorder.client.time_to_first_chunk"]
    assert first.attributes["gen_ai.agent.name"] == "travel"
    assert first.sum == 0.25
    (gaps,) = found["sse_recorder.client.time_per_output_chunk"]
    assert gaps.count == 3
    assert tuple(gaps.explicit_bounds) == semconv.GAP_BUCKETS


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (View(), "sse_recorder.execute_tool.duration"),
        (MAIN, "gen_ai.execute_tool.duration"),
    ],
    ids=["1.41", "main"],
)
def test_a_tools_duration_is_that_of_its_span(view: View, name: str) -> None:
    """To the nanosecond; a result without a call has none."""
    collected = Collected(view)
    one = exchange()
    collected.add(one, FIVE_CALLS)
    found = {
        point.attributes["gen_ai.tool.name"]: point
        for point in collected.points()[name]
    }
    expected = {
        span.attributes.get("gen_ai.tool.name"): span.duration_ns / 1e9
        for span in spans(one, FIVE_CALLS)[1:5]
    }
    assert {tool: point.sum for tool, point in found.items()} == expected
    assert found["book"].attributes["error.type"] == "tool_error"
    assert found["pay"].attributes["error.type"] == "unanswered"


def test_a_clients_turnaround_is_kept_apart_from_durations() -> None:
    """What the client took, with all that it did, is no duration of a tool."""
    collected = Collected()
    call = tool_call(timing="cross_request")
    origin = Origin(ID, T0, "a" * 32, "b" * 16, None)
    collected.metrics.add_tool(answered_span(call, origin, None, View()))
    found = collected.points()
    assert set(found) == {"sse_recorder.execute_tool.turnaround"}


def test_an_error_is_counted_as_one() -> None:
    """The duration has the error's type; the time to the first chunk never has."""
    collected = Collected()
    collected.add(exchange(**CHAT, outcome=Outcome.UPSTREAM_ABORT))
    found = collected.points()
    (duration,) = found["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "stream_truncated"
    (first,) = found["gen_ai.client.operation.time_to_first_chunk"]
    assert "error.type" not in first.attributes


def test_a_message_of_mcp_has_the_metric_of_mcp() -> None:
    """By its method and its tool, with buckets up to five minutes."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}
    collected = Collected()
    collected.add(
        exchange(dialect="mcp", request_body=json.dumps(body).encode()),
        facts=StreamFacts(),
    )
    (point,) = collected.points()["mcp.client.operation.duration"]
    assert point.attributes["mcp.method.name"] == "tools/call"
    assert point.attributes["gen_ai.tool.name"] == "t"
    assert "jsonrpc.request.id" not in point.attributes
    assert tuple(point.explicit_bounds) == semconv.MCP_BUCKETS


def test_what_peers_choose_is_kept_to_so_many_values() -> None:
    """A client that makes names up makes no series of each."""
    collected = Collected()
    calls = [tool_call(n, tool_name=f"tool-{n}") for n in range(VALUES_MAX + 50)]
    collected.add(exchange(), calls)
    found = collected.points()["sse_recorder.execute_tool.duration"]
    names = {point.attributes["gen_ai.tool.name"] for point in found}
    assert len(names) == VALUES_MAX + 1
    assert "_OTHER" in names


def test_no_attribute_identifies_an_exchange() -> None:
    """Neither ids nor URLs nor conversations are on any data point."""
    collected = Collected()
    collected.add(exchange(), FIVE_CALLS)
    collected.add(exchange(**CHAT))
    keys = {
        key
        for found in collected.points().values()
        for point in found
        for key in point.attributes
    }
    assert not {key for key in keys if key.endswith((".id", ".full", ".path"))}


def test_the_recorders_own_health_is_told() -> None:
    """What it dropped, and how long it kept a read: of one read in so many."""
    collected, times = Collected(), SampledTimes()
    dropped = [3]
    collected.metrics.watch(
        semconv.M_DROPPED_RECORDS,
        "{record}",
        lambda: dropped[0],
        semconv.M_ADDED_LATENCY,
        times,
    )
    for _ in range(SAMPLED_OF * 3):
        if times.wants():
            times.add(30_000)
    collected.points()  # what is noted is recorded when somebody asks
    found = collected.points()
    assert found["sse_recorder.recorder.dropped_frames"][0].value == 3
    (latency,) = found["sse_recorder.recorder.added_latency"]
    assert (latency.count, latency.max) == (3, 0.00003)
    assert tuple(latency.explicit_bounds) == semconv.FINE_BUCKETS


def test_ten_thousand_chunks_are_one_span_and_one_histogram() -> None:
    """On the wire: no span, no event and no series grows with a stream."""
    facts = StreamFacts(is_stream=True, content_chunks=10_000, chunk_gaps=[MS] * 9_999)
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint)
        sender.emit(exchange(**CHAT), [], facts)
        assert sender.close() == 0
        (span,) = receiver.spans()
        metric = receiver.metrics["gen_ai.client.operation.time_per_output_chunk"]
    assert not span.events
    assert [point.count for point in points(metric)] == [9_999]


def test_what_is_not_sampled_is_counted_all_the_same() -> None:
    """A sampler chooses traces; numbers are of all exchanges."""
    with otlp_receiver() as receiver:
        sender = telemetry(receiver.endpoint, OTEL_TRACES_SAMPLER="always_off")
        sender.emit(exchange(request_headers=()), [])
        assert sender.close() == 0
        assert receiver.spans(count=0) == []
        assert "gen_ai.client.operation.duration" in receiver.metrics
