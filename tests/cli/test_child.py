"""`record -- CMD`: a command beside the recorder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.commands import recorded
from cli.held import FIRST, LAST, held_upstream
from support import PATIENCE_S, PROGRAM, command, environment, eventually, run_command

from sse_recorder.background import running
from sse_recorder.demo import AgentServer

PYTHON = (sys.executable, "-c")
NOWHERE = ("record", "--upstream", "http://127.0.0.1:1", "--")
ASK = """
import httpx, os, sys
print(httpx.get(os.environ["OPENAI_BASE_URL"] + "/models").text, end="")
print("to stderr", file=sys.stderr)
sys.exit(3)
"""
# Counts the signals that come until it is told to end, and says so with its exit code.
COUNT = """
import signal, sys, time
count = 0
def note(number, frame):
    global count
    count += 1
signal.signal(signal.{name}, note)
print("ready", flush=True)
while not count:
    time.sleep(0.01)
time.sleep(0.3)
sys.exit(40 + count)
"""


def test_a_commands_output_and_exit_code_are_its_own(tmp_path: Path) -> None:
    """What its clients ask goes through the recorder; nothing else is different."""
    with held_upstream() as held:
        held.release.set()
        done = run_command(
            *("record", "--upstream", held.url, "--tag", "run=42", "--"),
            *(*PYTHON, ASK),
            cwd=tmp_path,
        )
    assert done.returncode == 3
    assert done.stdout.encode() == FIRST + LAST
    assert done.stderr.splitlines() == [
        "to stderr",
        "Recorded 1 exchange into recordings.",
    ]
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert (exchange.path, exchange.received_path) == ("/v1/models", None)
    assert exchange.tags == {"run": "42"}
    assert body == FIRST + LAST


def test_without_an_option_each_api_has_a_route(tmp_path: Path) -> None:
    """A client that was told of a gateway goes there still, through the recorder."""
    with held_upstream() as held:
        held.release.set()
        env = environment(OPENAI_BASE_URL=f"{held.url}/gateway")
        done = run_command("record", "--", *PYTHON, ASK, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout.encode()) == (3, FIRST + LAST)
    ((exchange, _),) = recorded(tmp_path / "recordings")
    assert exchange.path == "/gateway/models"
    assert exchange.received_path == "/openai/models"


def test_a_known_api_is_not_given_the_keys_of_others(tmp_path: Path) -> None:
    """A client of another vendor goes where it went, through the recorder."""
    script = f"import os; print(os.environ['GROQ_BASE_URL'], flush=True); {ASK}"
    with held_upstream() as held:
        held.release.set()
        done = run_command(
            *("record", "--upstream", "https://api.meibel.ai", "--", *PYTHON, script),
            cwd=tmp_path,
            env=environment(OPENAI_BASE_URL=f"{held.url}/gateway"),
        )
    assert done.returncode == 3
    assert done.stdout.partition("\n")[0].endswith("/-/groq")
    assert done.stdout.encode().endswith(FIRST + LAST)
    ((exchange, _),) = recorded(tmp_path / "recordings")
    assert exchange.url == f"{held.url}/gateway/models"


def test_a_command_may_open_as_many_files_as_without_the_recorder(
    tmp_path: Path,
) -> None:
    """The recorder raises its own limit, which is no concern of the command's."""
    script = "import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    limited = ["sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"]
    done = subprocess.run(
        [*limited, *PROGRAM, *NOWHERE, *PYTHON, script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stdout == b"256\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [("pass", 0), ("raise SystemExit(255)", 255), ("import os; os.abort()", 134)],
)
def test_the_exit_code_is_that_of_a_shell(
    tmp_path: Path, script: str, code: int
) -> None:
    """128 and the number, when a signal ended it."""
    done = run_command(*NOWHERE, *PYTHON, script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize(
    ("program", "code", "says"),
    [
        ("no-such-program", 127, "no-such-program: no such command;"),
        ("", 127, "'': no such command;"),
        ("./no/such/file", 127, "./no/such/file: no such command;"),
        ("./text", 126, "./text: it is not a program; make it executable"),
        ("./broken", 126, "./broken: Exec format error;"),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(
    tmp_path: Path, program: str, code: int, says: str
) -> None:
    """And nothing is recorded for it where that is known before."""
    (tmp_path / "text").write_text("hello\n", encoding="utf-8")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    done = run_command(*NOWHERE, program, "arg", cwd=tmp_path)
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_taken_port_is_told_before_the_command_runs(tmp_path: Path) -> None:
    """It would run without anything being recorded."""
    with running(AgentServer()) as agent:
        listen = ("--listen", agent.url.removeprefix("http://"))
        done = run_command(
            *("record", "--upstream", agent.url, *listen, "--"),
            *(*PYTHON, "open('ran', 'w')"),
            cwd=tmp_path,
        )
    assert done.returncode == 3
    assert "Cannot listen on" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_signal_goes_on_to_the_command(tmp_path: Path) -> None:
    """It decides when to end, and what its exit code is."""
    script = COUNT.format(name="SIGTERM")
    with command(*NOWHERE, *PYTHON, script, cwd=tmp_path) as run:
        run.stdout.until("ready")
        assert run.stop(signal.SIGTERM) == 41
    assert run.stderr.lines[-1] == "Recorded 0 exchanges into recordings.\n"


@contextmanager
def in_a_session(
    folder: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command that counts its SIGINTs in a session, and give its terminal."""
    ours, theirs = os.openpty()
    argv = ["setsid", *options, "--wait", *PROGRAM, *NOWHERE, *PYTHON]
    with subprocess.Popen(
        [*argv, COUNT.format(name="SIGINT")],
        cwd=folder,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        output = b""
        try:
            while b"ready" not in output:
                output += os.read(ours, 1024)
            yield process, ours
        finally:
            process.kill()
            os.close(ours)


def test_a_ctrl_c_of_the_terminal_comes_once(tmp_path: Path) -> None:
    """The terminal sends it to the command as well, which may count them."""
    with in_a_session(tmp_path, "--ctty") as (process, terminal):
        os.write(terminal, b"\x03")
        assert process.wait(PATIENCE_S) == 41


def test_without_a_terminal_an_interrupt_goes_on_to_the_command(
    tmp_path: Path,
) -> None:
    """Nobody else would send it."""
    with in_a_session(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 41


def test_the_recorder_is_there_until_the_command_has_ended(tmp_path: Path) -> None:
    """A command that cleans up after its signal may still ask the API."""
    script = """
import httpx, os, signal, sys
def end(number, frame):
    sys.exit(httpx.get(os.environ["SSE_RECORDER_URL"]).status_code // 100)
signal.signal(signal.SIGTERM, end)
open("ready", "w").close()
signal.pause()
"""
    with command(*NOWHERE, *PYTHON, script, cwd=tmp_path) as run:
        eventually((tmp_path / "ready").exists)
        assert run.stop(signal.SIGTERM) == 5
    assert len(recorded(tmp_path / "recordings")) == 1
