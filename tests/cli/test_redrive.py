"""`redrive`, as a command between recordings and a live server.

Most runs are in this process, through what `main` runs, because to start one takes
longer than what is tested.  Real processes show the exit codes, the signals, and what
a terminal sees.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cli.commands import recorded
from live import JSON, live, request
from redrive.again import redrive_of
from samples import exchange_id, store_with
from support import PATIENCE_S, command, environment, eventually, run_command

from sse_recorder import cli, config
from sse_recorder.background import run
from sse_recorder.cli.files import files_as_given
from sse_recorder.cli.redrive import (
    KEYS,
    _say_what_was,
    _selected,
    _Source,
    _variables,
)
from sse_recorder.exchange import Outcome, Record
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

LATENESS = re.compile(r"Lateness: n=\d+ p50=\S+ ms p99=\S+ ms max=\S+ ms")
WHERE = "events[0].data.message"
AUTHORIZED = (("Authorization", "Bearer " + "s3cret" * 5), *JSON)

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def arguments(to: str, *args: str, source: str = "recordings") -> list[str]:
    """Return those that send what is in a folder, and record into `after`."""
    return ["redrive", source, "--to", to, "--store", "after", *args]


def process(folder: Path, to: str, *args: str, code: int) -> Done:
    """Run the command as a process of its own, and see with what it exits."""
    done = run_command(*arguments(to, *args), cwd=folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@contextmanager
def signals_as_they_are() -> Iterator[None]:
    """Take signals back from whoever handles them, when the block is left."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


@pytest.fixture
def redrive(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command here as `main` would, and sees what it returns."""
    for name in set(config.environment()) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")  # as where nothing is a terminal

    def run(
        folder: Path, to: str, *args: str, code: int, source: str = "recordings"
    ) -> Done:
        argv = arguments(to, *args, source=source)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [cli.PROGRAM, *argv])
        capsys.readouterr()
        # Whoever is at it for too long is interrupted, and returns another code.
        patience = Timer(PATIENCE_S, os.kill, (os.getpid(), signal.SIGINT))
        patience.start()
        # What a process of its own would have taken along in the end.
        with files_as_given(), signals_as_they_are():
            returned = cli._run()
            patience.cancel()
        said = capsys.readouterr()
        assert returned == code, said.err
        return subprocess.CompletedProcess(argv, returned, said.out, said.err)

    return run


def made(folder: Path, *requests: Sequence[Record]) -> Path:
    """Record requests into `recordings`."""
    return store_with(folder, requests)


def nowhere() -> str:
    """Return the URL of a port at which nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{nobody.getsockname()[1]}"


def test_the_same_answers_are_no_difference(tmp_path: Path, redrive: Run) -> None:
    """Exit 0, nothing on stdout, and for people what was done and how late.

    That the recorded one took a minute is none either, where no tolerance is given.
    """
    made(tmp_path, request(1, path="/1", took_ms=60_000), request(2, 120, path="/2"))
    with live() as server:
        done = redrive(tmp_path, server.url, code=0)
    assert done.stdout == ""
    begin, sent, lateness, compared = done.stderr.splitlines()
    to = f"to {server.url} over 120 ms (Ctrl-C ends it)."
    assert begin == f"Sending 2 requests {to}"
    assert sent == "Sent 2 requests. The answers are in after, tagged redrive_of."
    assert LATENESS.fullmatch(lateness)
    assert compared == "Compared 2 exchanges: no divergences."
    assert server.targets == ["/1", "/2"]
    tags = [exchange.tags["redrive_of"] for exchange, _ in recorded(tmp_path / "after")]
    assert tags == [exchange_id(1), exchange_id(2)]


def test_another_answer_is_a_difference(tmp_path: Path, redrive: Run) -> None:
    """It is shown as diff shows it, also where all requests are the same."""
    same: dict[str, Any] = {"path": "/x?else"}
    made(
        tmp_path,
        request(1, 0, **same, text="Bye"),
        request(2, 50, **same),
        request(3, 100, **same, text="Bye"),
    )
    reports = ("--junit", "report.xml", "--summary", "summary.md")
    with live() as server:
        done = process(tmp_path, server.url, *reports, code=1)
        args = ("--format", "json", "--speed", "max")
        rows = redrive(tmp_path, server.url, *args, code=1)
    title, head, row = done.stdout.split("\n\n")[0].splitlines()
    assert title.startswith("exchange[1]  00000002 ↔ ")
    assert title.endswith("  POST /x?else")
    assert head.split() == ["where", "kind", "left", "right"]
    assert row.split() == [WHERE, "changed", '"Hi"', '"Bye"']
    assert done.stderr.endswith("Compared 3 exchanges: 1 divergence.\n")
    (divergence,) = json.loads(rows.stdout)
    assert divergence["left_id"] == exchange_id(2)
    assert divergence["where"] == f"exchange[1].{WHERE}"
    assert "Lateness" not in rows.stderr
    suites = ET.fromstring((tmp_path / "report.xml").read_text())  # noqa: S314 - ours
    assert (suites.get("tests"), suites.get("failures")) == ("3", "1")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### ❌ Of 3 answers 1 differs\n\n| request |")
    assert f"| `POST /x?else` | 1 | `exchange[1].{WHERE}` changed |" in summary


def test_times_are_compared_where_a_tolerance_is_given(
    tmp_path: Path, redrive: Run
) -> None:
    """A stream that took a minute and is there at once is a difference then."""
    made(tmp_path, request(1, took_ms=60_000))
    with live() as server:
        args = ("--timing", "50%", "--format", "jsonl")
        done = redrive(tmp_path, server.url, *args, code=1)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kind"] for row in rows} == {"timing"}
    assert "exchange[0].e2e_ns" in {row["where"] for row in rows}


def test_what_is_ignored_is_no_difference(tmp_path: Path, redrive: Run) -> None:
    """As with diff."""
    made(tmp_path, request(1, path="/x?else"))
    with live() as server:
        done = redrive(tmp_path, server.url, "--ignore", "message", code=0)
    assert done.stdout == ""


def test_what_is_skipped_is_told_and_makes_it_no_success(
    tmp_path: Path, redrive: Run
) -> None:
    """In the messages, in the test report and in the summary, with the reason."""
    made(
        tmp_path,
        request(1, body=b'{"password":"hunter2"}'),
        request(2, 1, path="/2"),
    )
    reports = ("--junit", "report.xml", "--summary", "summary.md")
    with live() as server:
        done = redrive(tmp_path, server.url, *reports, code=1)
    reason = "its body holds a secret that was masked"
    assert f"Skipped 1, {reason}: {exchange_id(1)}" in done.stderr.splitlines()
    assert server.targets == ["/2"]
    suites = ET.fromstring((tmp_path / "report.xml").read_text())  # noqa: S314 - ours
    assert [suites.get(n) for n in ("tests", "failures", "skipped")] == ["2", "0", "1"]
    (skipped,) = suites.iter("skipped")
    assert skipped.get("message") == reason
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### ❌ Of 1 answer 0 differ\n")
    assert f"Skipped 1, {reason}" in summary


def test_where_nothing_can_be_sent_the_environment_is_to_blame(
    tmp_path: Path, redrive: Run
) -> None:
    """A server that is not there is not one that answers else."""
    made(tmp_path, request(1), request(2, 1))
    done = redrive(tmp_path, nowhere(), code=3)
    assert re.search(
        r"^Sent 2 requests, 2 unanswered \(ConnectError: [^)]+\)\. The answers are in",
        done.stderr,
        re.MULTILINE,
    )
    assert "The server answered none: start it, or mend --to." in done.stderr
    outcomes = {exchange.outcome for exchange, _ in recorded(tmp_path / "after")}
    assert outcomes == {Outcome.UPSTREAM_ERROR}


def test_where_all_is_skipped_nothing_was_sent(tmp_path: Path, redrive: Run) -> None:
    """It says so with the code of an environment that does not do, too."""
    made(tmp_path, request(1, body=b'{"password":"hunter2"}'))
    done = redrive(tmp_path, nowhere(), code=3)
    assert done.stderr.splitlines()[0] == "Sent 0 requests."
    assert not (tmp_path / "after").exists()


def test_a_credential_is_given_and_not_kept(tmp_path: Path, redrive: Run) -> None:
    """Without it, the header is left out, and one line says so."""
    made(tmp_path, *(request(n, n, headers=AUTHORIZED) for n in (1, 2)))
    with live() as server:
        without = redrive(tmp_path, server.url, code=0)
        header = ("-H", "Authorization: Bearer my-own-credential")
        with_it = redrive(tmp_path, server.url, *header, code=0)
    line = (
        "Masked, so left out: Authorization (in 2 requests); give it with -H"
        " 'NAME: VALUE'."
    )
    assert without.stderr.splitlines().count(line) == 1
    assert "Masked" not in with_it.stderr
    sent = [dict(asked.headers).get("Authorization") for asked in server.asked]
    assert sent == [None, None, *["Bearer my-own-credential"] * 2]
    assert "my-own-credential" not in with_it.stderr
    with Store.open(tmp_path / "after") as store:
        kept = [dict(x.request_headers).get("Authorization") for x in store.exchanges()]
    assert kept == [None, None, "Bearer [redacted]", "Bearer [redacted]"]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three recordings, and a cassette of the second."""
    folder = tmp_path_factory.mktemp("three")
    store = made(folder, *(request(n, n, path=f"/{n}") for n in (1, 2, 3)))
    with Store.open(store) as opened:
        copied = opened.exchange(exchange_id(2))
        text = cassette.dumps(copied, opened.chunks(copied.exchange_id))
    (folder / "one.sse.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("sources", "ids", "where", "targets"),
    [
        (["recordings"], [], "path >= '/2' -- a comment", ["/2", "/3"]),
        (["recordings"], [exchange_id(3)[-5:], exchange_id(1)], None, ["/1", "/3"]),
        (["recordings"], [exchange_id(3)], "path > '/1'", ["/3"]),
        (["recordings", "one.sse.jsonl"], [], None, ["/1", "/2", "/3"]),
        (["one.sse.jsonl"], [], None, ["/2"]),
    ],
)
def test_exchanges_can_be_chosen(
    three: Path,
    sources: list[str],
    ids: list[str],
    where: str | None,
    targets: list[str],
) -> None:
    """By a condition, by their ids, or both; and none twice from two sources."""
    with ExitStack() as stack:
        opened = [stack.enter_context(Store.open(three / name)) for name in sources]
        chosen = _selected(list(map(_Source, opened)), ids, where)
        assert sorted(exchange.target for exchange in chosen) == targets


def test_what_is_chosen_is_sent(three: Path, redrive: Run) -> None:
    """From all sources, by all options together; and nothing else is."""
    args = ("one.sse.jsonl", "--exchange", exchange_id(3)[-5:], "--exchange")
    where = ("--where", "path > '/1' -- a comment")
    with live() as server:
        redrive(three, server.url, *args, exchange_id(2), *where, code=0)
    # Close requests may overtake one another.
    assert sorted(server.targets) == ["/2", "/3"]


def test_what_was_sent_again_is_not_sent_again(tmp_path: Path, redrive: Run) -> None:
    """Recording beside the originals does not double what the next run sends."""
    store = made(tmp_path, request(1))
    with live() as server:
        for _ in range(2):
            args = ("--store", "recordings", "--speed", "max")
            redrive(tmp_path, server.url, *args, code=0)
    assert len(server.asked) == 2
    again = [x.exchange_id for x, _ in recorded(store) if x.tags]
    assert len(again) == 2
    with Store.open(store) as opened:
        named = _selected([_Source(opened)], again[:1], None)
        assert [exchange.exchange_id for exchange in named] == again[:1]


def test_that_answers_go_into_a_source_is_told(tmp_path: Path, redrive: Run) -> None:
    """It is the default, and what replays that folder would answer by today's."""
    made(tmp_path, request(1))
    with live() as server:
        beside = redrive(tmp_path, server.url, "--store", "./recordings", code=0)
        apart = redrive(tmp_path, server.url, code=0)
    line = (
        "The answers go into recordings, which is a source; replays of it will find"
        " today's answers, too: give --store another folder."
    )
    assert beside.stderr.splitlines().count(line) == 1
    assert "another folder" not in apart.stderr


@pytest.mark.parametrize(
    ("name", "where", "why"),
    [
        (exchange_id(2)[:-1], "", "recordings: 3 exchanges with an id like"),
        ("nonsense", "", "one.sse.jsonl: no exchange with an id like 'nonsense'"),
        (exchange_id(3), "path < '/3'", f"--where leaves out '{exchange_id(3)}'"),
    ],
)
def test_what_is_wrong_with_an_id_is_told_of_the_source_that_knows_it(
    three: Path, redrive: Run, name: str, where: str, why: str
) -> None:
    """Whichever of the sources that is."""
    args = ("recordings", "--exchange", name, *(("--where", where) if where else ()))
    done = redrive(three, nowhere(), *args, source="one.sse.jsonl", code=2)
    assert why in done.stderr.splitlines()[-1]


def test_what_a_client_did_is_no_difference(tmp_path: Path, redrive: Run) -> None:
    """Of a recording that was left, what is there is compared."""
    left: dict[str, Any] = {"outcome": Outcome.CLIENT_ABORT, "text": "H"}
    path = "/v2/sessions/one/chat/stream"
    made(
        tmp_path,
        request(1, path=path, **left),
        request(2, 1, path=path + "?else", **left),
    )
    with live() as server:
        done = redrive(tmp_path, server.url, "--format", "jsonl", code=1)
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["left_id"], row["where"]) == (exchange_id(2), "exchange[1].text")


def test_who_stops_before_anything_is_sent_is_not_told_of_a_silent_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None was asked, so none is silent."""
    redriven = redrive_of(tmp_path, [request(1)], nowhere())
    redriven.stop()
    with closing(redriven):
        run(redriven.run())
    _say_what_was(redriven)
    assert capsys.readouterr().err == "Sent 0 requests, 1 not sent.\n"


def open_and_due(folder: Path) -> None:
    """Record a request that will be open, and one that is due in an hour."""
    made(folder, request(1, path="/1?slow"), request(2, 3_600_000, path="/2"))


def test_a_signal_stops_sending_and_lets_streams_end(tmp_path: Path) -> None:
    """What was recorded till then is sealed, and compared."""
    open_and_due(tmp_path)
    with (
        live() as server,
        command(*arguments(server.url, "--grace", "600"), cwd=tmp_path) as r,
    ):
        eventually(lambda: server.asked)
        r.send(signal.SIGINT)
        r.stderr.until("Stopping")
        server.release.set()
        assert r.wait() == 130
    assert "Sent 1 request, 1 not sent." in r.stderr.text
    assert r.stderr.text.endswith("Compared 1 exchange: no divergences.\n")
    ((exchange, _),) = recorded(tmp_path / "after")
    assert exchange.outcome is Outcome.COMPLETE


@pytest.mark.parametrize(
    ("numbers", "grace"),
    [([signal.SIGTERM, signal.SIGINT], "600"), ([signal.SIGINT], "0.1")],
)
def test_streams_that_do_not_end_are_cut(
    tmp_path: Path, redrive: Run, numbers: list[signal.Signals], grace: str
) -> None:
    """By a second signal, or when the grace is over."""
    open_and_due(tmp_path)
    with live() as server, ThreadPoolExecutor(1) as pool:

        def interrupt() -> None:
            eventually(lambda: server.asked)  # who sends is ready for signals, too
            for number in numbers:
                os.kill(os.getpid(), number)

        interrupting = pool.submit(interrupt)
        done = redrive(tmp_path, server.url, "--grace", grace, code=130)
        interrupting.result()
    assert "Stopping" in done.stderr
    ((exchange, _),) = recorded(tmp_path / "after")
    assert exchange.outcome is Outcome.CLIENT_ABORT
    assert "outcome" in done.stdout
    assert "client_abort" in done.stdout


def test_who_looks_on_sees_how_far_it_is(tmp_path: Path) -> None:
    """Progress goes to the terminal of stderr, and stdout has data only."""
    made(tmp_path, request(1), request(2, 300))
    with live() as server:
        args = ("redrive", "recordings", "--to", server.url, "--store", "after")
        env = environment(FORCE_COLOR="1", COLUMNS="120")
        done = run_command(*args, "--format", "json", cwd=tmp_path, env=env)
    assert done.returncode == 0
    assert json.loads(done.stdout) == []
    assert "Sending · " in done.stderr
    assert "/2" in done.stderr


def test_all_of_many_are_sent_and_compared(tmp_path: Path, redrive: Run) -> None:
    """Dozens of sessions with several requests each, as fast as it goes."""
    path = "/v2/sessions/{}/chat/stream"
    made(tmp_path, *(request(n, n, path=path.format(n // 3)) for n in range(90)))
    with live() as server:
        args = ("--speed", "max", "--concurrency", "25", "--repeat", "2")
        done = redrive(tmp_path, server.url, *args, code=0)
    assert done.stderr.endswith("Compared 180 exchanges: no divergences.\n")
    assert len(server.asked) == 180
    assert server.open_most <= 25


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--to", "example.com"), "'example.com' is not an http or https URL"),
        (("--to", "http://a/?b=c"), "cannot be an upstream"),
        (("--max-gap", "soon"), "'soon' is not a duration"),
        (("-H", "Secret"), "is not a header: give one as 'Name: value'"),
        (("--where", "nonsense"), "nonsense"),
        (("--exchange", "nonsense"), "no exchange with an id like 'nonsense'"),
        (("--exchange", exchange_id(1), "--where", "false"), "--where leaves out"),
        (("--timing", "soon"), "'soon' is no tolerance"),
        (("--ignore", "*"), "is neither a name nor a path"),
        (("--concurrency", "0"), "0 is not in the range"),
        (("--repeat", "0"), "0 is not in the range"),
    ],
)
def test_what_redrive_cannot_do_is_told(
    tmp_path: Path, redrive: Run, args: tuple[str, ...], why: str
) -> None:
    """It ends with 2 before anything is sent or made."""
    made(tmp_path, request(1))
    done = redrive(tmp_path, nowhere(), *args, code=2)
    assert why in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (("--speed", "0"), 2, "'0' is not a speed: give a number above 0"),
        (("--where", "false"), 3, "there is no exchange to send again"),
    ],
)
def test_errors_are_exit_codes_of_the_process(
    tmp_path: Path, args: tuple[str, ...], code: int, why: str
) -> None:
    """2 where it was asked for something wrong, 3 where something is not there."""
    made(tmp_path, request(1))
    done = process(tmp_path, nowhere(), *args, code=code)
    assert why in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (tmp_path / "after").exists()


def test_a_source_that_is_not_there_is_told(tmp_path: Path, redrive: Run) -> None:
    """It ends with 3, as diff does."""
    made(tmp_path, request(1))
    done = redrive(tmp_path, nowhere(), "nothing", code=3)
    assert "nothing: no such store or cassette" in done.stderr


def test_keys_from_the_environment_are_for_their_vendor_alone() -> None:
    """Over TLS, on its own hosts; a server on this machine gets none."""
    environ = {
        variable: f"key of {variable}"
        for headers in KEYS.values()
        for variables in headers.values()
        for variable in variables
    }
    assert _variables("https://api.openai.com/v1", environ) == {
        "authorization": "OPENAI_API_KEY"
    }
    assert _variables("https://api.anthropic.com", environ) == {
        "x-api-key": "ANTHROPIC_API_KEY",
        "authorization": "ANTHROPIC_AUTH_TOKEN",
    }
    assert _variables("https://generativelanguage.googleapis.com", environ) == {
        "x-goog-api-key": "GOOGLE_API_KEY"
    }
    del environ["GOOGLE_API_KEY"]
    assert _variables("https://generativelanguage.googleapis.com", environ) == {
        "x-goog-api-key": "GEMINI_API_KEY"
    }
    assert _variables("https://res.openai.azure.com", environ) == {
        "api-key": "AZURE_OPENAI_API_KEY"
    }
    for url in (
        "http://api.openai.com",
        "https://openai.com.example.org",
        "https://notopenai.com",
        "http://127.0.0.1:8000",
        "https://api.meibel.ai",
    ):
        assert _variables(url, environ) == {}
    assert _variables("https://api.openai.com", {"OPENAI_API_KEY": ""}) == {}
