"""Spans in a backend that nobody here wrote: Phoenix, in an environment of its own.

`make test-all` installs it; without it the test is skipped.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli.commands import client
from support import command, environment, eventually, run_command

from sse_recorder.background import running
from sse_recorder.demo import AgentServer
from sse_recorder.store.store import Store

PHOENIX = Path(__file__).parent.parent.parent / ".venv-peers" / "phoenix" / "bin"
CHAT = "/v2/sessions/s1/chat/stream"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def phoenix(folder: Path) -> Iterator[httpx.Client]:
    """Run Phoenix, and talk to it."""
    port = free_port()
    env = {
        **environment(),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [PHOENIX / "phoenix", "serve"], env=env, stdout=log, stderr=log
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):

        def is_up() -> bool:
            try:
                return http.get("/healthz").is_success
            except httpx.TransportError:
                return False

        try:
            for _ in range(6):  # it has a database to make
                with suppress(AssertionError):
                    eventually(is_up)
                    break
            yield http
        finally:
            process.terminate()


def spans_of(http: httpx.Client, count: int) -> dict[str, Any]:
    """Return what Phoenix has, by the ids of spans, once it has so many."""
    found: dict[str, Any] = {}

    def are_there() -> bool:
        answer = http.get("/v1/projects/default/spans", params={"limit": 100})
        if answer.is_success:
            for span in answer.json()["data"]:
                found[span["context"]["span_id"]] = span
        return len(found) >= count

    eventually(are_there)
    return found


def is_at(text: str, ns: int) -> bool:
    """Tell whether Phoenix has a time, of which it keeps microseconds."""
    difference = (
        datetime.fromisoformat(text) - EPOCH - timedelta(microseconds=ns // 1_000)
    )
    return abs(difference) <= timedelta(microseconds=1)


@pytest.mark.slow
@pytest.mark.skipif(
    not (PHOENIX / "phoenix").is_file(), reason="`make test-all` installs Phoenix"
)
def test_an_agent_with_tools_side_by_side_is_a_tree_in_phoenix(tmp_path: Path) -> None:
    """Agent, tools, kinds and times are those of the tables; sent twice, there once."""
    (tmp_path / "phoenix").mkdir()
    with phoenix(tmp_path / "phoenix") as http:
        there = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{http.base_url}/v1/traces"}
        env = environment(**there, SSE_RECORDER_OTEL_COMPAT="openinference")
        with (
            running(AgentServer()) as agent,
            command("record", "--upstream", agent.url, cwd=tmp_path, env=env) as run,
            client(run) as recorder,
        ):
            recorder.post(CHAT, json={"user_message": "hi"})
            assert run.stop() == 0
        with Store.open(tmp_path / "recordings") as store:
            (exchange,) = store.exchanges()
            calls = store.tool_calls(exchange.exchange_id)
        found = spans_of(http, 1 + len(calls))
        again = run_command("otel", "export", "recordings", cwd=tmp_path, env=env)
        assert again.returncode == 0, again.stderr
        assert spans_of(http, 1 + len(calls)).keys() == found.keys()
    root = found.pop(exchange.span_id)
    assert (root["name"], root["span_kind"]) == ("invoke_agent", "AGENT")
    assert root["parent_id"] is None
    assert is_at(root["start_time"], exchange.started_at)
    assert len(calls) > 1
    for call in calls:
        span = found.pop(call.span_id)
        assert (span["name"], span["span_kind"]) == (
            f"execute_tool {call.tool_name}",
            "TOOL",
        )
        assert span["parent_id"] == exchange.span_id
        assert call.called_ns is not None
        assert call.result_ns is not None
        began, ended = (
            exchange.started_at + ns for ns in (call.called_ns, call.result_ns)
        )
        assert is_at(span["start_time"], began)
        assert is_at(span["end_time"], ended)
        assert span["status_code"] == ("ERROR" if call.status == "error" else "UNSET")
    assert found == {}
