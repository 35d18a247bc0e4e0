"""`otel`: the spans of a recording, sent again or shown; and `record` beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli.commands import client
from click.testing import CliRunner
from otel_samples import as_data
from otlp_receiver import Receiver, otlp_receiver, refusal
from samples import called, finished, meibel_exchange, returned, said, store_with
from support import command, environment

from sse_recorder import config
from sse_recorder.background import running
from sse_recorder.cli.otel import group
from sse_recorder.demo import AgentServer
from sse_recorder.errors import SSERecorderError
from sse_recorder.store.store import Store
from sse_recorder.trace import exchange_context

GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOTHING: Mapping[str, str] = {}
CHAT = "/v2/sessions/s1/chat/stream"


def exported(
    *args: str, code: int = 0, env: Mapping[str, str] = NOTHING
) -> tuple[str, str]:
    """Return what `otel export` prints, to stdout and to stderr."""
    ours = {name: None for name in config.environment() if name.startswith("OTEL_")}
    done = CliRunner().invoke(group, ["export", *args], env=ours | dict(env))
    if isinstance(done.exception, SSERecorderError):
        assert done.exception.exit_code == code
        return done.stdout, str(done.exception)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> str:
    """Return a store with an agent's stream: two tools side by side."""
    events = [
        called(100, "t1", "search"),
        called(120, "t2", "book"),
        returned(180.5, "t2", {"error": "no"}),
        returned(250, "t1"),
        said(300, "Hi"),
        finished(310),
    ]
    return str(store_with(tmp_path / "store", [meibel_exchange(events)]))


def test_a_dry_run_shows_the_spans_as_a_tree(store: str) -> None:
    """The agent, below it its tools in the order in which they began, and no more."""
    out, said_ = exported(store, "--dry-run")
    lines = [re.sub(r"[0-9a-f]{32}", "<id>", line) for line in out.splitlines()]
    assert lines == [
        "trace <id>",
        "└── invoke_agent  client  2026-11-23 10:15:30  310.000 ms",
        "    ├── execute_tool search  internal  +100.000 ms  150.000 ms",
        "    └── execute_tool book  internal  +120.000 ms  60.500 ms  tool_error",
    ]
    assert said_ == "3 spans; nothing was sent.\n"


def test_a_tree_has_each_span_below_its_parent(store: str) -> None:
    """Also where the exchange is not the uppermost: its request is around it."""
    out, _ = exported(store, "--dry-run", "--otel-http-spans")
    kind = re.compile("(  (?:server|client|internal))  .*")
    assert [kind.sub(r"\1", line) for line in out.splitlines()[1:]] == [
        "└── POST  server",
        "    └── invoke_agent  client",
        "        ├── POST  client",
        "        ├── execute_tool search  internal",
        "        └── execute_tool book  internal",
    ]


def test_a_dry_run_shows_everything_in_lines(store: str) -> None:
    """A line of JSON a span, in the vocabulary that is asked for."""
    out, _ = exported(
        store, "--dry-run", "--format", "jsonl", "--otel-compat", "langfuse"
    )
    root, *tools = map(json.loads, out.splitlines())
    assert root["attributes"]["langfuse.observation.type"] == "agent"
    assert {tool["parent_span_id"] for tool in tools} == {root["span_id"]}
    assert [tool["status"] for tool in tools] == ["unset", "error"]


def test_spans_are_sent_where_the_option_or_the_variable_says(
    store: str,
) -> None:
    """The option goes before the variables; metrics are not sent again."""
    with otlp_receiver() as receiver:
        _, said_ = exported(
            *(store, "--endpoint", f"{receiver.endpoint}/v1/traces"),
            env={
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces",
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_SDK_DISABLED": "true",
            },
        )
        assert said_ == "Sent 3 spans.\n"
        exported(store, env={GENERAL: receiver.endpoint})
        first, second = map(set, _halves(receiver))
        assert first == second
        assert receiver.metrics == {}


def _halves(receiver: Receiver) -> tuple[list[bytes], list[bytes]]:
    spans = [span.SerializeToString() for span in receiver.spans(count=6)]
    return spans[:3], spans[3:]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        ([], 2, "give --endpoint URL"),
        (["--endpoint", "localhost:4318"], 2, "--endpoint 'localhost:4318' is no"),
        (["--endpoint", "http://127.0.0.1:1"], 3, "what arrived is not doubled"),
        (["--endpoint", "http://127.0.0.1:1"], 3, "and then no more ("),
        (["--dry-run", "--semconv", "genai-2"], 2, "genai-1.41"),
        (["--dry-run", "--where", "nonsense"], 2, "nonsense"),
    ],
    ids=["nowhere", "no URL", "nobody there", "and why", "vocabulary", "where"],
)
def test_what_cannot_be_done_is_said(
    store: str, args: list[str], code: int, says: str
) -> None:
    """In one line that says what to do."""
    limits = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    _, said_ = exported(store, *args, code=code, env=limits)
    assert says in said_
    assert "Traceback" not in said_
    assert "(None)" not in said_


def test_what_a_collector_refuses_is_said(store: str) -> None:
    """A part of a batch, with its reason; and one that sends elsewhere took nothing."""
    with otlp_receiver(answer=refusal(2, "too old")) as receiver:
        _, said_ = exported(store, "--endpoint", receiver.endpoint, code=3)
    assert said_ == "the collector refused 2 of 3 spans (too old)"
    with otlp_receiver(status=302, headers=(("location", "/"),)) as receiver:
        _, said_ = exported(store, "--endpoint", receiver.endpoint, code=3)
    assert "took 0 spans" in said_
    assert "it redirects" in said_


def test_what_is_not_sampled_is_said_to_be_left_out(store: str) -> None:
    """Who sees no spans learns that there is something without any."""
    dark = {"OTEL_TRACES_SAMPLER": "always_off"}
    expected = "1 exchange left out, because the traces are not sampled.\n"
    _, said_ = exported(store, "--dry-run", env=dark)
    assert said_ == f"0 spans; nothing was sent.\n{expected}"
    with otlp_receiver() as receiver:
        _, said_ = exported(store, "--endpoint", receiver.endpoint, env=dark)
    assert said_ == f"Sent 0 spans.\n{expected}"


def test_one_exchange_can_be_chosen(store: str) -> None:
    """By its id, or by a condition."""
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
    out, _ = exported(f"{store}#{exchange.exchange_id[-8:]}", "--dry-run")
    assert "execute_tool" in out
    since = ["--where", "started_at > now() - INTERVAL 1 DAY"]
    out, said_ = exported(store, "--dry-run", *since)
    assert (out, said_) == ("", "0 spans; nothing was sent.\n")


@contextmanager
def recorded(tmp_path: Path, *args: str, **env: str) -> Iterator[Any]:
    """Record the demo's agent by a command, and talk to it."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, *args),
            cwd=tmp_path,
            env=environment(**env),
        ) as run,
        client(run) as http,
    ):
        yield http
        assert run.stop() == 0


def test_what_a_recorder_sends_is_what_an_export_makes(tmp_path: Path) -> None:
    """Live, from a process of its own that writes; and again, by another command."""
    with otlp_receiver() as receiver:
        there = {GENERAL: receiver.endpoint}
        words = ["--semconv", "genai-main", "--otel-compat", "logfire"]
        with recorded(tmp_path, *words, "--expose-ids", **there) as http:
            answer = http.post(CHAT, json={"user_message": "hi"})
        live = list(map(as_data, receiver.spans(count=4)))
        assert "gen_ai.client.operation.duration" in receiver.metrics
        assert "gen_ai.execute_tool.duration" in receiver.metrics
        assert "sse_recorder.recorder.added_latency" in receiver.metrics
        assert "sse_recorder.recorder.dropped_frames" in receiver.metrics
        exported(str(tmp_path / "recordings"), *words, env=there)
        both = list(map(as_data, receiver.spans(count=2 * len(live))))
    again = {span.span_id: span for span in both[len(live) :]}
    assert {span.span_id: span for span in live} == again
    with Store.open(tmp_path / "recordings") as store:
        (exchange,) = store.exchanges()
        calls = store.tool_calls(exchange.exchange_id)
    root = next(span for span in live if span.kind == "client")
    assert answer.headers["x-sse-recorder-trace-id"] == root.trace_id
    assert answer.headers["x-sse-recorder-exchange-id"] == exchange.exchange_id
    assert len(calls) == len(live) - 1
    for call in calls:
        span = again[call.span_id]
        assert call.duration_ns in (span.duration_ns, None)
        assert span.parent_span_id == root.span_id


def test_a_replay_is_a_servers_work_and_nobodys_call(tmp_path: Path) -> None:
    """One span in a trace of its own, linked to the recorded one; no client metrics."""
    events = [called(10, "t1", "search"), returned(20, "t1"), finished(30)]
    store = store_with(tmp_path / "store", [meibel_exchange(events)])
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
    with otlp_receiver() as receiver:
        there = environment(**{GENERAL: receiver.endpoint})
        with (
            command(
                "replay", str(store), "--speed", "2", cwd=tmp_path, env=there
            ) as run,
            client(run) as http,
        ):
            body = exchange.request_body
            assert http.post(exchange.path, content=body).status_code == 200
            assert run.stop() == 0
        (span,) = map(as_data, receiver.spans())
        metrics = receiver.metrics
    assert (span.name, span.kind) == ("POST", "server")
    (link,) = span.links
    derived = exchange.trace_id or exchange_context(exchange.exchange_id, None).trace_id
    assert (link.trace_id, link.kind) == (derived, "recorded")
    assert span.trace_id != link.trace_id
    expected = {
        "sse_recorder.mode": "replay",
        "sse_recorder.replay.speed": 2.0,
        "sse_recorder.replay.exchange.id": exchange.exchange_id,
        "http.response.status_code": 200,
    }
    assert expected.items() <= span.attributes.items()
    assert not [name for name in span.attributes if name.startswith("gen_ai.")]
    assert set(metrics) == {
        "http.server.request.duration",
        "sse_recorder.replay.requests",
        "sse_recorder.replay.schedule_error",
    }
