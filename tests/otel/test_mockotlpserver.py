"""Spans, metrics and events at a receiver that nobody here wrote, over HTTP and gRPC.

It is the npm package `@elastic/mockotlpserver`, whose protocol buffers are others, too.
`make test-all` installs it where there is npm; without it the tests are skipped.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import IO, Any

import pytest
from cli.commands import client
from support import command, environment

from sse_recorder import semconv
from sse_recorder.background import running
from sse_recorder.demo import AgentServer
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.store.store import Store

HERE = Path(__file__).parent.parent.parent / ".venv-peers" / "mockotlpserver"
CHAT = "/v2/sessions/s1/chat/stream"
SERVER = """
const {MockOtlpServer} = require('@elastic/mockotlpserver');
const {JSONPrinter} = require('@elastic/mockotlpserver/lib/printers');
const log = {level() {}};
for (const name of ['trace', 'debug', 'info', 'warn', 'error']) {
  log[name] = (...told) => console.error(...told);
}
new JSONPrinter(log, 0).subscribe();
const host = '127.0.0.1';
const server = new MockOtlpServer({
  log, services: ['http', 'grpc'],
  httpHostname: host, httpPort: 0, grpcHostname: host, grpcPort: 0,
});
server.start().then(() => console.log(
  JSON.stringify({'http/protobuf': server.httpUrl, 'grpc': server.grpcUrl})
));
process.stdin.resume().on('end', () => process.exit(0));
"""


@dataclass
class Came:
    """What the receiver printed."""

    endpoints: dict[str, str] = field(default_factory=dict)
    spans: dict[str, Any] = field(default_factory=dict)
    """By their ids,"""
    metrics: dict[str, Any] = field(default_factory=dict)
    """by their names."""
    logs: list[Any] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def take_all_in(self, lines: Iterable[str]) -> None:
        """Take in what is printed, to its end."""
        for line in lines:
            self.take_in(line)

    def take_in(self, line: str) -> None:
        """Take in one request, as the receiver understood it."""
        told = json.loads(line)
        for signal, scopes, items in (
            ("resourceSpans", "scopeSpans", "spans"),
            ("resourceMetrics", "scopeMetrics", "metrics"),
            ("resourceLogs", "scopeLogs", "logRecords"),
        ):
            for owner in told.get(signal, ()):
                self.services.add(owner["resource"]["attributes"]["service.name"])
                found = [item for scope in owner[scopes] for item in scope[items]]
                if items == "spans":
                    self.spans |= {span["spanId"]: span for span in found}
                elif items == "metrics":
                    self.metrics |= {metric["name"]: metric for metric in found}
                else:
                    self.logs += found


@contextmanager
def receiver() -> Iterator[Came]:
    """Run the receiver; when the block is left, all that it was sent is there."""
    came = Came()
    with subprocess.Popen(
        ["node", "-e", SERVER],
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        lines: IO[str] = process.stdout
        reader = Thread(target=came.take_all_in, args=(lines,))
        try:
            came.endpoints = json.loads(lines.readline())
            reader.start()
            yield came
        finally:
            process.stdin.close()
            if reader.ident is not None:
                reader.join()


@pytest.mark.slow
@pytest.mark.skipif(
    not (HERE / "node_modules").is_dir(),
    reason="`make test-all` installs @elastic/mockotlpserver where there is npm",
)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_all_signals_are_understood_by_another_implementation(
    protocol: str, tmp_path: Path
) -> None:
    """Names, ids, parents, times and durations there are those of the tables."""
    with receiver() as came, running(AgentServer()) as agent:
        env = environment(
            OTEL_EXPORTER_OTLP_ENDPOINT=came.endpoints[protocol],
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="EVENT_ONLY",
        )
        with (
            command("record", "--upstream", agent.url, cwd=tmp_path, env=env) as run,
            client(run) as recorder,
        ):
            recorder.post(CHAT, json={"user_message": "hi"})
            assert run.stop() == 0
    with Store.open(tmp_path / "recordings") as store:
        (exchange,) = store.exchanges()
        calls = store.tool_calls(exchange.exchange_id)
    assert len(calls) > 1
    assert came.services == {"sse-recorder"}
    assert came.spans.keys() == {exchange.span_id, *(call.span_id for call in calls)}
    root = came.spans[exchange.span_id]
    check_root(root, exchange)
    for call in calls:
        check_tool(came.spans[call.span_id], call, exchange)
    check_metrics(came.metrics, root, calls)
    check_details(came.logs, exchange, root)


def check_root(root: dict[str, Any], exchange: Exchange) -> None:
    """Compare the span of the exchange with its row."""
    assert (root["name"], root["kind"]) == ("invoke_agent", "SPAN_KIND_CLIENT")
    assert (root["traceId"], root.get("parentSpanId", "")) == (exchange.trace_id, "")
    assert int(root["startTimeUnixNano"]) == exchange.started_at
    about = root["attributes"]
    assert about[semconv.EXCHANGE_ID] == exchange.exchange_id
    assert int(about[semconv.STREAM_FRAMES]) == exchange.frame_count
    assert exchange.first_content_ns is not None
    first_s = about[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    assert first_s == exchange.first_content_ns / 1e9


def check_tool(span: dict[str, Any], call: ToolCall, exchange: Exchange) -> None:
    """Compare the span of a tool with the call's row."""
    assert span["name"] == f"execute_tool {call.tool_name}"
    assert span["kind"] == "SPAN_KIND_INTERNAL"
    assert (span["traceId"], span["parentSpanId"]) == (
        exchange.trace_id,
        exchange.span_id,
    )
    assert call.called_ns is not None
    assert int(span["startTimeUnixNano"]) == exchange.started_at + call.called_ns
    assert duration_ns(span) == call.duration_ns
    assert span["attributes"][semconv.GEN_AI_TOOL_CALL_ID] == call.tool_id
    is_error = span["status"].get("code") == "STATUS_CODE_ERROR"
    assert is_error == (call.status == "error")


def check_metrics(
    metrics: dict[str, Any], root: dict[str, Any], calls: list[ToolCall]
) -> None:
    """Compare the sums of histograms with the spans'."""
    duration = metrics[semconv.M_OPERATION_DURATION]
    assert duration["unit"] == "s"
    (point,) = duration["histogram"]["dataPoints"]
    assert point["sum"] == pytest.approx(duration_ns(root) / 1e9)
    assert point["attributes"][semconv.GEN_AI_OPERATION_NAME] == "invoke_agent"
    tools = metrics[semconv.GENAI_1_41.m_tool_duration]["histogram"]["dataPoints"]
    took_s = sum(call.duration_ns or 0 for call in calls) / 1e9
    assert sum(point["sum"] for point in tools) == pytest.approx(took_s)


def check_details(logs: list[Any], exchange: Exchange, root: dict[str, Any]) -> None:
    """See whether the one event is there, in its trace, with content as a structure.

    The receiver's definitions are from before records had the name of an event.
    """
    (details,) = logs
    assert (details["severityText"], details["body"]) == ("DEBUG", None)
    assert (details["traceId"], details["spanId"]) == (
        exchange.trace_id,
        exchange.span_id,
    )
    assert details["timeUnixNano"] == root["endTimeUnixNano"]
    said = {"role": "user", "parts": [{"type": "text", "content": "hi"}]}
    assert details["attributes"][semconv.GEN_AI_INPUT_MESSAGES] == [said]


def duration_ns(span: dict[str, Any]) -> int:
    """Return how long a span lasted."""
    return int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
