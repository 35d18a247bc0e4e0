"""`record`, as a process between real sockets."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import httpx
import pytest
from cli.commands import client, recorded, until_it_stops_listening
from cli.held import FIRST, LAST, held_upstream
from support import command, environment, eventually, run_command, until_on_disk

from sse_recorder import config
from sse_recorder.background import running
from sse_recorder.demo import AgentServer
from sse_recorder.exchange import Outcome

STOPS = [signal.SIGINT, signal.SIGTERM]


URL = re.compile(r"http://127\.0\.0\.1:\d+\n")


@pytest.mark.parametrize("number", STOPS)
def test_record_prints_its_url_records_and_seals(
    tmp_path: Path, number: signal.Signals
) -> None:
    """The URL is its only output; what is recorded is what the client got."""
    with (
        held_upstream() as held,
        command("record", "--upstream", held.url, cwd=tmp_path) as run,
        client(run) as http,
    ):
        held.release.set()
        assert http.get("/").content == FIRST + LAST
        assert run.stop(number) == 0
    assert URL.fullmatch(run.stdout.text)
    assert run.stderr.text.splitlines() == [
        f"Recording {held.url} into recordings (Ctrl-C ends it).",
        "Recorded 1 exchange into recordings.",
    ]
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert exchange.outcome is Outcome.COMPLETE
    assert body == FIRST + LAST


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_lets_an_open_exchange_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Nobody new is let in, the client gets the rest, and then it is all sealed."""
    with (
        held_upstream() as held,
        command("record", "--upstream", held.url, cwd=tmp_path) as run,
        client(run) as http,
        http.stream("GET", "/") as answer,
    ):
        chunks = answer.iter_raw()
        assert next(chunks) == FIRST
        run.send(number)
        until_it_stops_listening(run)
        held.release.set()
        assert b"".join(chunks) == LAST
        assert run.wait() == 0
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert (exchange.outcome, exchange.error) == (Outcome.COMPLETE, None)
    assert body == FIRST + LAST


@pytest.mark.parametrize(
    ("grace", "numbers"),
    [
        ("0", [signal.SIGTERM]),
        ("0.1", [signal.SIGINT]),
        ("600", [signal.SIGINT, signal.SIGINT]),
        ("600", [signal.SIGTERM, signal.SIGINT]),
    ],
)
def test_an_exchange_that_does_not_end_in_time_is_cut(
    tmp_path: Path, grace: str, numbers: list[signal.Signals]
) -> None:
    """When the grace is over, or at a second signal; the recording says who cut it."""
    with (
        held_upstream() as held,
        command(
            "record", "--upstream", held.url, "--grace", grace, cwd=tmp_path
        ) as run,
        client(run) as http,
        http.stream("GET", "/") as answer,
    ):
        chunks = answer.iter_raw()
        assert next(chunks) == FIRST
        for number in numbers:
            run.send(number)
            until_it_stops_listening(run)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
        assert run.wait() == 0
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert exchange.outcome is Outcome.INCOMPLETE
    assert exchange.error == "the recorder was stopped"
    assert body == FIRST


def test_record_goes_on_without_its_upstream(tmp_path: Path) -> None:
    """The client is told in JSON, each attempt is recorded, and nothing stops."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with command("record", "--upstream", url, cwd=tmp_path) as run, client(run) as http:
        answers = [http.get("/one"), http.post("/two", json={})]
        assert run.stop() == 0
    for answer in answers:
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "upstream_error"
    exchanges = [exchange for exchange, _ in recorded(tmp_path / "recordings")]
    assert [x.path for x in exchanges] == ["/one", "/two"]
    for exchange, answer in zip(exchanges, answers, strict=True):
        assert exchange.outcome is Outcome.UPSTREAM_ERROR
        assert exchange.status is None
        assert exchange.error == answer.json()["error"]["message"]
    assert "Recorded 2 exchanges" in run.stderr.text


def test_tls_to_an_upstream_without_it_is_told(tmp_path: Path) -> None:
    """A wrong scheme is the first mistake that people make."""
    with running(AgentServer()) as agent:
        url = agent.url.replace("http://", "https://")
        with (
            command("record", "--upstream", url, cwd=tmp_path) as run,
            client(run) as http,
        ):
            answers = [http.get("/"), http.get("/")]
            assert run.stop() == 0
    assert [answer.status_code for answer in answers] == [502, 502]
    assert "TLS" in answers[0].json()["error"]["message"]
    outcomes = [x.outcome for x, _ in recorded(tmp_path / "recordings")]
    assert outcomes == [Outcome.UPSTREAM_ERROR] * 2


def test_record_says_what_an_earlier_recorder_left(tmp_path: Path) -> None:
    """It is recovered before the URL is printed, and counted."""
    with (
        held_upstream() as held,
        command("record", "--upstream", held.url, cwd=tmp_path) as run,
        client(run) as http,
        http.stream("GET", "/"),
    ):
        until_on_disk(tmp_path / "recordings", "headers_ns > 0")
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
    with command("record", "--upstream", held.url, cwd=tmp_path) as run:
        assert URL.fullmatch(run.url + "\n")
        assert run.stop() == 0
    assert run.stderr.lines[0] == (
        "Recovered 1 segment that an earlier recorder left.\n"
    )


@pytest.mark.parametrize(
    ("flag", "variable", "setting", "expected"),
    [
        (("--store", "flag"), "variable", "file", "flag"),
        ((), "variable", "file", "variable"),
        ((), None, "file", "file"),
        ((), None, None, "recordings"),
    ],
)
def test_record_and_replay_have_one_store(
    tmp_path: Path,
    flag: tuple[str, ...],
    variable: str | None,
    setting: str | None,
    expected: str,
) -> None:
    """What one of them records by a setting the other finds by it."""
    if setting is not None:
        text = f'[tool.sse-recorder]\nstore = "{setting}"\n'
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    env = environment(**({"SSE_RECORDER_STORE": variable} if variable else {}))
    upstream = ("--upstream", "http://127.0.0.1:1")
    with (
        command("record", *upstream, *flag, cwd=tmp_path, env=env) as run,
        client(run) as http,
    ):
        assert http.get("/").status_code == 502
        assert run.stop() == 0
    assert len(recorded(tmp_path / expected)) == 1
    with command("replay", *flag, cwd=tmp_path, env=env) as run, client(run) as http:
        assert http.get("/").status_code == 502
        assert run.stop() == 0
    assert "Served 1 request," in run.stderr.text


def test_spans_that_cannot_be_delivered_are_counted(tmp_path: Path) -> None:
    """A collector that is not there costs spans, and the user is told how many."""
    env = environment(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    upstream = ("--upstream", "http://127.0.0.1:1")
    with (
        command("record", *upstream, cwd=tmp_path, env=env) as run,
        client(run) as http,
    ):
        http.get("/")
        assert run.stop() == 0
    assert run.stderr.lines[-1] == "1 span could not be delivered.\n"


def test_authorities_of_our_own_are_read_before_anything_is_recorded(
    tmp_path: Path,
) -> None:
    """A file that is not there is wrong usage, and no store is made."""
    upstream = ("--upstream", "https://127.0.0.1:1")
    done = run_command("record", *upstream, "--ca-file", "none", cwd=tmp_path)
    assert done.returncode == 2
    assert "File 'none' does not exist" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_client_of_a_route_finds_its_recording_again(tmp_path: Path) -> None:
    """Replayed, the client's base URL is what it was, prefix and all."""
    with (
        held_upstream() as held,
        command(
            *("record", "--route", f"/openai={held.url}/v1", "--tag", "run=42"),
            *("--tag", "by=me"),
            cwd=tmp_path,
        ) as run,
        client(run) as http,
    ):
        held.release.set()
        assert http.get("/openai/chat?x").content == FIRST + LAST
        missing = http.get("/openaix")
        assert run.stop() == 0
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "no_route")
    assert run.stderr.lines[0] == (
        f"Recording {held.url}/v1 at /openai into recordings (Ctrl-C ends it).\n"
    )
    ((exchange, _),) = recorded(tmp_path / "recordings")
    assert (exchange.path, exchange.received_path) == ("/v1/chat", "/openai/chat")
    with command("replay", cwd=tmp_path) as run, client(run) as http:
        assert http.get("/openai/chat?x").content == FIRST + LAST
        assert http.get("/v1/chat?x").content == FIRST + LAST
        assert http.get("/openai/else").status_code == 404
        assert run.stop() == 0
    for run_, count in (("42", 1), ("43", 0)):
        where = ("--where", f"tags['run'] = '{run_}'")
        done = run_command("ls", *where, "--format", "jsonl", cwd=tmp_path)
        assert len(done.stdout.splitlines()) == count
    shown = run_command("show", exchange.exchange_id, cwd=tmp_path)
    assert "run=42 · by=me\n" in shown.stdout


def test_health_and_metrics_have_a_port_of_their_own(tmp_path: Path) -> None:
    """The recorder's own port is the API's, also where it has such paths."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--admin", "127.0.0.1:0"), cwd=tmp_path
        ) as run,
        client(run) as http,
    ):
        assert http.get("/healthz").status_code == 404
        line = run.stderr.until("Health is at")
        health, metrics = re.findall(r"http://127\.0\.0\.1:\d+/[a-z]+", line)
        answer = httpx.get(health, trust_env=False)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        total = 'sse_recorder_exchanges_total{outcome="complete"} 1\n'
        assert total in httpx.get(metrics, trust_env=False).text
        assert run.stop() == 0
    assert URL.fullmatch(run.stdout.text)


@pytest.mark.parametrize(
    ("option", "status"), [("fail", 503), ("continue", 404)], ids=["fail", "continue"]
)
def test_what_cannot_be_written_is_refused_where_that_is_asked_for(
    tmp_path: Path, option: str, status: int
) -> None:
    """And passes otherwise; health is red either way."""
    settings = ("--on-write-error", option, "--admin", "127.0.0.1:0")
    with (
        running(AgentServer()) as agent,
        # No file may grow beyond a few kilobytes: the journal is as on a full disk.
        command(
            *("record", "--upstream", agent.url, *settings),
            cwd=tmp_path,
            before=("prlimit", "--fsize=4096"),
        ) as run,
        client(run) as http,
    ):
        line = run.stderr.until("Health is at")
        (health, _) = re.findall(r"http://127\.0\.0\.1:\d+/[a-z]+", line)
        big = {"X-Big": "x" * 8192}
        assert http.get("/", headers=big).status_code == 404

        def is_red() -> bool:
            return httpx.get(health, trust_env=False).status_code == 503

        eventually(is_red)
        answer = http.get("/", headers=big)
        assert answer.status_code == status
        if option == "fail":
            assert answer.headers["retry-after"] == "1"
            error = answer.json()["error"]
            assert error["type"] == "recorder_unhealthy"
            assert "could not be written" in error["message"]
        assert run.stop() == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "give --upstream URL, --route"),
        (("--",), "there is no command behind --"),
        (("http://h/", "--", "true"), "give a URL, or -- and a command: not both"),
        (("python", "agent.py"), "unexpected extra argument"),
        (("python",), "'python' is not a URL; put -- in front of a command"),
        (("http://h/", "--upstream", "http://a"), "--upstream is for a proxy"),
        (("http://h/", "--workers", "2"), "--workers is for a proxy"),
        (("--upstream", "http://a", "-d", "x"), "--data is for a single request"),
        (("--upstream", "http://a", "--fail"), "--fail is for a single request"),
        (("http://h/", "-d", "a", "--json", "b"), "a request has one body"),
        (("http://u:p@h/",), "holds a user name or a password"),
        (("--route", "/a"), "'/a' is not like /openai=https://"),
        (("--route", "a=http://b"), "'a' is not the prefix of a path"),
        (("--route", "/a=http://b", "--route", "/a=http://c"), "/a is given twice"),
        (("--upstream", "http://a", "--tag", "x"), "'x' is not like run=42"),
        (("--upstream", "http://a", "--admin", "1"), "not HOST:PORT"),
        (("--upstream", "http://a", "--workers", "0"), "0 is not in the range"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, args: tuple[str, ...], says: str
) -> None:
    """Before anything is recorded, with what to write instead."""
    done = run_command("record", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_upstream_of_the_environment_is_no_obstacle_to_one_request(
    tmp_path: Path,
) -> None:
    """A setting for all recorders is not a contradiction on the command line."""
    env = environment(SSE_RECORDER_UPSTREAM="http://127.0.0.1:1")
    with held_upstream() as held:
        held.release.set()
        done = run_command("record", held.url, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout.encode()) == (0, FIRST + LAST)


def test_routes_can_be_settings(tmp_path: Path) -> None:
    """In the environment with spaces between them, in a file as a list."""
    env = environment(SSE_RECORDER_ROUTE="/a=http://127.0.0.1:1 /b=http://127.0.0.1:1")
    with command("record", cwd=tmp_path, env=env) as run, client(run) as http:
        codes = [http.get(path).status_code for path in ("/a", "/b/c", "/d")]
        assert run.stop() == 0
    assert codes == [502, 502, 404]
    text = '[record]\nroute = ["/d=http://127.0.0.1:1"]\ntag = ["a=b"]\n'
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    with command("record", cwd=tmp_path) as run, client(run) as http:
        assert [http.get(path).status_code for path in ("/a", "/d")] == [404, 502]
        assert run.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_faults_did_is_told_at_the_end(tmp_path: Path, workers: str) -> None:
    """A line for each of them and of the responses, with the id of its recording."""
    faults = ("--fault", "first-byte=1ms", "--fault", "cut@event:3")
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", workers, *faults),
            cwd=tmp_path,
        ) as run,
        client(run) as http,
    ):
        for _ in range(11):
            with pytest.raises(httpx.RemoteProtocolError):
                http.post("/v2/sessions/s/chat/stream", json={"message": "hi"})
        assert run.stop(signal.SIGINT) == 0
    _, first, *told, last = run.stderr.text.splitlines()
    assert first == "Recorded 11 exchanges into recordings."
    ids = {exchange.exchange_id for exchange, _ in recorded(tmp_path / "recordings")}
    assert {line.partition(": ")[0] for line in told} <= ids
    assert len(told) == 20
    for early, late in zip(told[::2], told[1::2], strict=True):
        assert re.search(r": first-byte=1ms: 1 ms late at [\d.]+ ms$", early)
        assert re.search(r": cut@event:3: cut at [\d.]+ ms$", late)
    assert last == "… and 2 more."
