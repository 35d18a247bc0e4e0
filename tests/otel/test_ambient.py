"""Telemetry through the providers of the application."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from otel_samples import MS
from transport.clients import program

from sse_recorder import semconv
from sse_recorder.errors import UsageError
from sse_recorder.otel import GlobalTelemetry
from sse_recorder.store.store import Store

# In a process of its own, because a global provider is set once.
APPLICATION = """
import json, sys
import httpx
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    InMemoryLogRecordExporter, SimpleLogRecordProcessor)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON
from sse_recorder import RecordingTransport, running
from sse_recorder.demo import AgentServer
from sse_recorder.otel import GlobalTelemetry, View

class Broken(SpanProcessor):
    def on_end(self, span):
        if span.instrumentation_scope.name == "sse_recorder":
            raise LookupError

store, sampler, breaks = sys.argv[1:]
provider = TracerProvider(
    resource=Resource.create({"service.name": "application"}),
    sampler=ALWAYS_OFF if sampler == "off" else DEFAULT_ON)
kept, events, reader = (
    InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader())
provider.add_span_processor(SimpleSpanProcessor(kept))
if breaks == "broken":
    provider.add_span_processor(Broken())
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
logs = LoggerProvider()
logs.add_log_record_processor(SimpleLogRecordProcessor(events))
_logs.set_logger_provider(logs)
telemetry = GlobalTelemetry(view=View(content_on_events=True))
with running(AgentServer()) as agent:
    with httpx.Client(transport=RecordingTransport(store, telemetry=telemetry)) as it:
        with trace.get_tracer("application").start_as_current_span("work"):
            it.post(agent.url + "/v2/sessions/s1/chat/stream",
                    json={"user_message": "hi"})
assert telemetry.close() == 0
data = json.loads(reader.get_metrics_data().to_json())
print(json.dumps({
    "spans": [json.loads(span.to_json()) for span in kept.get_finished_spans()],
    "events": [one.log_record.event_name for one in events.get_finished_logs()],
    "metrics": {m["name"]: m["data"]["data_points"]
                for r in data["resource_metrics"] for s in r["scope_metrics"]
                for m in s["metrics"]},
}))
"""


def ran(
    store: Path, sampler: str = "on", processors: str = "sound", log: str = ""
) -> dict[str, Any]:
    """Run the application; return what its providers were given."""
    done = program(APPLICATION, store, sampler, processors)
    assert done.returncode == 0, done.stderr
    assert done.stderr == log
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_spans_come_to_the_processors_with_the_ids_of_the_recording(
    tmp_path: Path,
) -> None:
    """Below the application's own span, under its resource, as from a collector."""
    told = ran(tmp_path)
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        chunk_gaps = store.sql(
            "SELECT count(*) - 1 AS n FROM frames WHERE kind IN ('text', 'tool_call')"
        ).to_pylist()[0]["n"]
    spans = {span["name"]: span for span in told["spans"]}
    root, work = spans["invoke_agent"], spans["work"]
    assert root["context"]["span_id"] == f"0x{exchange.span_id}"
    assert root["parent_id"] == work["context"]["span_id"]
    assert root["resource"]["attributes"]["service.name"] == "application"
    assert root["attributes"][semconv.MODE] == "client"
    assert len(spans) == 2 + exchange.tool_call_count
    metrics = told["metrics"]
    (duration,) = metrics[semconv.M_OPERATION_DURATION]
    assert exchange.ended_ns is not None
    assert 0 < duration["sum"] <= exchange.ended_ns / 1e9
    (gaps,) = metrics[semconv.M_CLIENT_PER_CHUNK]
    assert gaps["count"] == chunk_gaps
    assert gaps["explicit_bounds"] == list(semconv.GAP_BUCKETS)
    assert told["events"] == ["gen_ai.client.inference.operation.details"]


def test_the_applications_sampler_decides(tmp_path: Path) -> None:
    """Of spans, now and when they are made again; metrics are of all."""
    told = ran(tmp_path, sampler="off")
    assert told["spans"] == []
    assert semconv.M_OPERATION_DURATION in told["metrics"]
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
        assert exchange.trace_flags == 0


def test_a_processor_that_raises_costs_no_recording(tmp_path: Path) -> None:
    """Others before it have had their spans, and the exchange is whole."""
    log = (
        "Spans do not reach the collector (LookupError); 4 are lost so far; nothing"
        " else waits for them. Check the span processors of the application.\n"
    )
    told = ran(tmp_path, processors="broken", log=log)
    assert "invoke_agent" in {span["name"] for span in told["spans"]}
    with Store.open(tmp_path) as store:
        (exchange,) = store.exchanges()
    assert exchange.outcome == "complete"
    assert (exchange.ended_ns or 0) > 100 * MS


# One queue that is full at once, one limit, and one SDK that may be switched off.
SMALL = """
import json, sys, threading
import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from sse_recorder import RecordingTransport
from sse_recorder.otel import GlobalTelemetry
from sse_recorder.otel.data import SpanData

gone, kept = threading.Event(), []

class Slow(SpanExporter):
    def export(self, spans):
        gone.wait(10)
        kept.extend(dict(span.attributes) for span in spans)

seen = []
def answer(request):
    seen.append("traceparent" in request.headers)
    return httpx.Response(204)

provider = TracerProvider(span_limits=SpanLimits(max_span_attributes=3))
processor = BatchSpanProcessor(
    Slow(), max_queue_size=2, max_export_batch_size=1, schedule_delay_millis=1)
provider.add_span_processor(processor)
trace.set_tracer_provider(provider)
transport = RecordingTransport(
    sys.argv[1], telemetry=GlobalTelemetry(), inner=httpx.MockTransport(answer))
with httpx.Client(transport=transport) as client:
    for _ in range(6):
        client.get("http://host/")
gone.set()
provider.shutdown()
print(json.dumps({"told": seen, "sizes": [len(one) for one in kept]}))
"""


def test_what_the_sdk_says_of_its_queue_is_the_applications_to_hear(
    tmp_path: Path,
) -> None:
    """Its spans may be among those that are displaced; its limits hold for ours."""
    done = program(SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Queue full" in done.stderr
    told = json.loads(done.stdout)
    assert told["told"] == [True] * 6
    assert 0 < len(told["sizes"]) < 6
    assert set(told["sizes"]) == {3}


def test_an_sdk_that_is_switched_off_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the upstream told of a span that nobody will see."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    done = program(SMALL, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"told": [False] * 6, "sizes": []}
    with Store.open(tmp_path) as store:
        assert len(list(store.exchanges())) == 6


def test_without_a_provider_there_is_no_telemetry_to_be_had() -> None:
    """Silence would be mistaken for nothing to tell."""
    with pytest.raises(UsageError, match="set_tracer_provider before"):
        GlobalTelemetry()
