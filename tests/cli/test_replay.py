"""`replay`, as a process between real sockets."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest
from cli.commands import client, until_it_stops_listening
from samples import CHAT, meibel_exchange, said, store_with
from support import command, environment, run_command

from sse_recorder import config
from sse_recorder.exchange import Outcome
from sse_recorder.store.store import Store

STOPS = [signal.SIGINT, signal.SIGTERM]
URL = re.compile(r"http://127\.0\.0\.1:\d+\n")


def slow_store(folder: Path, at_ms: float) -> Path:
    """Make a store with one exchange that takes its time."""
    return store_with(folder, [meibel_exchange([said(at_ms, "Hi")], ended_ms=at_ms)])


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
    said_first, counts, missed, lateness = run.stderr.text.splitlines()
    assert said_first == "Replaying 1 exchange (Ctrl-C ends it)."
    assert counts == "Served 2 requests, missed 1."
    assert re.fullmatch(
        rf"Missed POST /else: path is /else, and {CHAT} in the nearest recording,"
        rf" [0-9a-f]{{8}} POST {CHAT}",
        missed,
    )
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


RULES = [
    (("--ignore", "body.run", "--ignore", "query.ts"), None, "", 200),
    ((), "body.run query.ts", "", 200),
    ((), None, '[replay]\nignore = ["body.run", "query.ts"]\n', 200),
    (("--ignore", "body.run"), "query.ts", "", 404),
    ((), None, "", 404),
]


@pytest.mark.parametrize(("flags", "variable", "setting", "status"), RULES)
def test_what_is_ignored_is_what_flags_or_environment_or_file_say(
    tmp_path: Path,
    flags: tuple[str, ...],
    variable: str | None,
    setting: str,
    status: int,
) -> None:
    """The strongest of them alone, as of every option."""
    two_events(tmp_path)
    (tmp_path / config.FILE).write_text(setting, encoding="utf-8")
    env = environment(**({"SSE_RECORDER_REPLAY_IGNORE": variable} if variable else {}))
    args = ("--speed", "max", *flags)
    with command("replay", *args, cwd=tmp_path, env=env) as run, client(run) as http:
        live = {"run": 7, "message": "Hello"}
        answer = http.post(CHAT, params={"ts": 1}, json=live)
        assert answer.status_code == status
        other = http.post(CHAT, params={"ts": 1}, json={**live, "message": "Bye"})
        assert other.status_code == 404
        assert run.stop() == 0


def test_a_header_takes_part_when_it_is_named(tmp_path: Path) -> None:
    """The recording has none, so that a request that has one misses it."""
    two_events(tmp_path)
    args = ("--speed", "max", "--match-header", "X-Tenant", "--ignore", "request_id")
    with command("replay", *args, cwd=tmp_path) as run, client(run) as http:
        body = {"message": "Hello", "request_id": "7"}
        assert http.post(CHAT, json=body).status_code == 200
        miss = http.post(CHAT, json=body, headers={"x-tenant": "a"})
        assert run.stop() == 0
    assert miss.status_code == 404
    error = miss.json()["error"]
    told = (error["differs_in"], error["recorded"], error["received"])
    assert told == ("headers.x-tenant", "(absent)", "a")


def two_events(folder: Path) -> Path:
    """Make a store with one exchange of two events."""
    return store_with(folder, [meibel_exchange([said(1, "Hi"), said(2, "Hi there")])])


def test_faults_are_done_told_and_reported(tmp_path: Path) -> None:
    """The stream breaks behind its first event; stderr and the report say so."""
    two_events(tmp_path)
    args = ("--speed", "max", "--fault", "reset@event:1", "--report", "report.json")
    with command("replay", *args, cwd=tmp_path) as run, client(run) as http:
        with (
            http.stream("POST", CHAT, json={"message": "Hello"}) as answer,
            pytest.raises(httpx.TransportError),
        ):
            answer.read()
        assert run.stop() == 0
    line = f"POST {CHAT}: reset@event:1: reset at 0.0 ms"
    assert line in run.stderr.text.splitlines()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["faults"] == [line]
    assert (report["served"], report["missed"], report["unused"]) == (1, 0, [])


def test_a_person_lets_events_go_one_by_one(tmp_path: Path) -> None:
    """What is released on the control port comes, and nothing else does."""
    two_events(tmp_path)
    args = ("--step", "--control", "127.0.0.1:0")
    with command("replay", *args, cwd=tmp_path) as run, client(run) as http:
        control = run.stderr.until("controlled at").strip().rstrip(".").split()[-1]
        with http.stream("POST", CHAT, json={"message": "Hello"}) as answer:
            parts = answer.iter_raw()
            for text in (b'"Hi"', b'"Hi there"'):
                sent = http.post(f"{control}/release", params={"events": 1})
                assert sent.json() == {"responses": 1}
                assert text in next(parts)
        assert http.get(f"{control}/report").json()["served"] == 1
        assert run.stop() == 0


def test_a_commands_clients_are_answered_by_the_recordings(tmp_path: Path) -> None:
    """CMD finds the replay by the variables of its SDKs; its exit code is ours."""
    store = two_events(tmp_path)
    code = (
        "import os, sys, urllib.request as u;"
        f"r = u.Request(os.environ['SSE_RECORDER_URL'] + {CHAT!r},"
        """ b'{"message":"Hello"}', {'Content-Type': 'application/json'});"""
        "u.urlopen(os.environ['SSE_RECORDER_CONTROL_URL'] + '/report').read();"
        "print(len(u.urlopen(r).read()), os.environ['OPENAI_BASE_URL']); sys.exit(7)"
    )
    options = ("--speed", "max", "--control", "127.0.0.1:0")
    args = ("replay", str(store), *options, "--", sys.executable, "-c", code)
    done = run_command(*args, cwd=tmp_path)
    assert done.returncode == 7
    size, url = done.stdout.split()
    assert int(size) > 100
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
    told = done.stderr.splitlines()
    assert told[0].startswith("It is controlled at http://127.0.0.1:")
    assert told[1] == "Served 1 request, missed 0."


def test_one_recording_can_be_served_and_the_unused_are_named(tmp_path: Path) -> None:
    """By SOURCE#ID, as `diff` takes it; who asks for nothing is told what was there."""
    store = two_events(tmp_path)
    (exchange_id,) = (e.exchange_id for e in Store.open(store).exchanges())
    name = f"{store}#{exchange_id[-8:]}"
    done = run_command("replay", name, "--", "true", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.splitlines()[:3] == [
        "Served 0 requests, missed 0.",
        "Nobody asked for 1 recording:",
        f"  {exchange_id[-8:]} POST {CHAT}",
    ]


def test_a_report_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    """It would be lost when everything that it tells of is over."""
    two_events(tmp_path)
    path = tmp_path / "nowhere" / "report.json"
    done = run_command("replay", "--report", str(path), "--", "true", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such file or directory; name a file that can be" in done.stderr
    assert "Served" not in done.stderr


def test_a_miss_can_have_any_status_of_an_error(tmp_path: Path) -> None:
    """Also one that has no name in the standard."""
    two_events(tmp_path)
    args = ("replay", "--on-miss", "529")
    with command(*args, cwd=tmp_path) as run, client(run) as http:
        assert http.get("/else").status_code == 529
        assert run.stop() == 0


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("--fault", "explode"), "is not a fault: give one of"),
        (("--max-gap", "soon"), "'soon' is not a duration: give one such as"),
        (("--jitter", "much"), "'much' is not a share: give one such as 10%"),
        (("--speed", "0"), "'0' is not a speed: give a number above 0, or max"),
        (("--speed", "1e-300"), "the least is a millionth"),
        (("--max-gap", "9" * 400 + "s"), "is not a duration: give one such as"),
        (("--jitter", "9e300%"), "is not a share: give one such as 10%, up to 1000%"),
        (("--on-miss", "200"), "'200' is not the status of an error, such as 404"),
        (("--on-miss", "x"), "'x' is not the status of an error, such as 404"),
        (("--ignore", "a..b"), "'a..b' is neither a name nor a path; write one"),
        (("--match-header", "a: b"), "'a: b' is not the name of a header"),
        (("--step",), "give --control HOST:PORT"),
        (("--",), "there is no command behind --"),
    ],
)
def test_what_replay_cannot_do_is_told(
    tmp_path: Path, args: tuple[str, ...], why: str
) -> None:
    """It ends with 2, and the last line says what to give instead."""
    two_events(tmp_path)
    done = run_command("replay", *args, cwd=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr.splitlines()[-1]
    assert done.stdout == ""
