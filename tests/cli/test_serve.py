"""`record` and `replay`, as processes between real sockets."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from cli.held import FIRST, LAST, held_upstream
from samples import CHAT, meibel_exchange, said, store_with
from support import (
    PATIENCE_S,
    Running,
    command,
    environment,
    eventually,
    run_command,
    until_on_disk,
)

from sse_recorder import config
from sse_recorder.background import running
from sse_recorder.cli import serve
from sse_recorder.demo import AgentServer
from sse_recorder.exchange import Exchange, Outcome
from sse_recorder.store.store import Store

STOPS = [signal.SIGINT, signal.SIGTERM]
URL = re.compile(r"http://127\.0\.0\.1:\d+\n")


@contextmanager
def client(run: Running) -> Iterator[httpx.Client]:
    """Talk to a command."""
    with httpx.Client(base_url=run.url, trust_env=False, timeout=PATIENCE_S) as made:
        yield made


def until_it_stops_listening(run: Running) -> None:
    """Wait until a command that was sent a signal accepts nobody any more."""
    address = urlsplit(run.url)

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address.hostname, address.port)) != 0

    eventually(refuses)


def recorded(store: Path) -> list[tuple[Exchange, bytes]]:
    """Return the exchanges of a store with their bodies; all of them are sealed."""
    assert not list(store.rglob("*.arrows"))
    with Store.open(store) as opened:
        return [(x, opened.body(x.exchange_id)) for x in opened.exchanges()]


def slow_store(folder: Path, at_ms: float) -> Path:
    """Make a store with one exchange that takes its time."""
    return store_with(folder, [meibel_exchange([said(at_ms, "Hi")], ended_ms=at_ms)])


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


@pytest.mark.parametrize("number", STOPS)
def test_replay_prints_its_url_serves_and_says_how_late_it_was(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Counts of requests and the lateness come when it ends."""
    slow_store(tmp_path, 100)
    with command("replay", cwd=tmp_path) as run, client(run) as http:
        answers = [http.post(CHAT, json={"message": "Hello"}) for _ in range(2)]
        miss = http.post("/else", json={"message": "Hello"})
        assert run.stop(number) == 0
    assert [answer.content for answer in answers] == [answers[0].content] * 2
    assert answers[0].elapsed.total_seconds() >= 0.09
    assert miss.status_code == 404
    assert URL.fullmatch(run.stdout.text)
    said_first, counts, lateness = run.stderr.text.splitlines()
    assert said_first == "Replaying 1 exchange (Ctrl-C ends it)."
    assert counts == "Served 2 requests, missed 1."
    # A head, a chunk and an end, twice.
    assert re.fullmatch(
        r"Lateness: n=6 p50=\d+\.\d+ ms p99=\d+\.\d+ ms max=\d+\.\d+ ms", lateness
    )


def test_replay_of_several_sources_says_what_it_leaves_out(tmp_path: Path) -> None:
    """What the recorder itself did not get whole is not served, but counted."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = slow_store(tmp_path / "one", 1)
    chat = [said(1, "Hi")]
    two = store_with(
        tmp_path / "two",
        [
            meibel_exchange(chat, number=2, outcome=Outcome.INCOMPLETE, error="x"),
            meibel_exchange(chat, number=3, path="/v2/sessions/b/chat/stream"),
        ],
    )
    with command("replay", str(one), str(two), cwd=tmp_path) as run:
        line = run.stderr.until("Replaying")
        assert (
            line == "Replaying 2 exchanges; 1 incomplete left out (Ctrl-C ends it).\n"
        )
        assert run.stop() == 0


def test_a_replay_that_does_not_end_in_time_is_cut(tmp_path: Path) -> None:
    """A second signal does not wait for an hour of silence to be replayed."""
    slow_store(tmp_path, 3_600_000)
    with (
        command("replay", "--grace", "600", cwd=tmp_path) as run,
        client(run) as http,
        http.stream("POST", CHAT, json={"message": "Hello"}) as answer,
    ):
        assert answer.status_code == 200
        run.send(signal.SIGINT)
        until_it_stops_listening(run)
        run.send(signal.SIGINT)
        # The recorded body has no length, so that a plain end would make it look whole.
        with pytest.raises(httpx.ReadError):
            answer.read()
        assert run.wait() == 0
    assert "Lateness: n=1 " in run.stderr.text


SPEEDS = [
    (("--speed", "max"), "1", "1"),
    (("--speed", "1e6"), "1", "1"),
    ((), "max", "1"),
    ((), None, '"max"'),
    ((), None, "1_000_000"),
]


@pytest.mark.parametrize(("flag", "variable", "setting"), SPEEDS)
def test_speed_is_what_flag_or_environment_or_file_say(
    tmp_path: Path, flag: tuple[str, ...], variable: str | None, setting: str
) -> None:
    """An hour of silence is over at once where the strongest of them says so."""
    slow_store(tmp_path, 3_600_000)
    text = f"[replay]\nspeed = {setting}\n"
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    env = environment(**({"SSE_RECORDER_SPEED": variable} if variable else {}))
    with command("replay", *flag, cwd=tmp_path, env=env) as run, client(run) as http:
        answer = http.post(CHAT, json={"message": "Hello"})
        assert answer.content.endswith(b"\n\n")
        assert run.stop() == 0


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("0.0.0.0:8787", ("0.0.0.0", 8787)),  # noqa: S104 - read, not listened on
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:80", ("::1", 80)),
        (":8787", ("127.0.0.1", 8787)),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    """Without a host it is this machine, and no other can reach it."""
    assert serve._Address()(text) == expected
    assert serve._Address()(expected) == expected


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
