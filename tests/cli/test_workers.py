"""`record --workers N`, as processes behind one port."""

from __future__ import annotations

import os
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from cli.commands import recorded, until_it_stops_listening
from cli.held import FIRST, LAST, held_upstream
from support import (
    PATIENCE_S,
    Running,
    command,
    environment,
    eventually,
    run_command,
)

from sse_recorder.background import running
from sse_recorder.cli.workers import Summary
from sse_recorder.demo import AgentServer
from sse_recorder.exchange import Outcome

ADMIN = ("--admin", "127.0.0.1:0")
REQUESTS = 24


def get(url: str) -> httpx.Response:
    """Ask on a connection of its own, which the kernel gives to any of them."""
    return httpx.get(url, trust_env=False, timeout=PATIENCE_S)


def admin_url(run: Running) -> str:
    """Return where health and metrics are."""
    found = re.search(r"http://[0-9.:]+", run.stderr.until("Health is at"))
    assert found is not None
    return found.group()


def workers_of(run: Running) -> set[int]:
    """Return the processes that a command has started."""
    tasks = Path("/proc", str(run.process.pid), "task").iterdir()
    return {int(x) for task in tasks for x in (task / "children").read_text().split()}


def is_running(pid: int) -> bool:
    """Tell whether there is such a process."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_workers_share_a_port_and_nothing_else(tmp_path: Path) -> None:
    """Each has its own id and its own segments, and the counts are their sum."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2", *ADMIN),
            cwd=tmp_path,
        ) as run,
    ):
        for _ in range(REQUESTS):
            get(f"{run.url}/nowhere")
        admin = admin_url(run)
        metrics = get(f"{admin}/metrics").text.splitlines()
        health = get(f"{admin}/healthz")
        assert run.stop() == 0
    assert (health.status_code, health.json()["recorders"]) == (200, 2)
    assert "sse_recorder_recorders 2" in metrics
    total = f'sse_recorder_exchanges_total{{outcome="complete"}} {REQUESTS}'
    assert total in metrics
    assert run.stderr.lines[-1] == f"Recorded {REQUESTS} exchanges into recordings.\n"
    exchanges = [exchange for exchange, _ in recorded(tmp_path / "recordings")]
    assert len(exchanges) == REQUESTS
    # All of them with the same worker: one time in eight million.
    assert len({exchange.recorder_id for exchange in exchanges}) == 2


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """The port goes on, the log says so, and the new one seals what the old one had."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2", *ADMIN),
            cwd=tmp_path,
        ) as run,
    ):
        url, admin = run.url, admin_url(run)
        before = workers_of(run)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        run.stderr.until("worker 1 ended with exit code -9")
        run.stderr.until("worker 2 ended with exit code -9")
        eventually(lambda: get(f"{admin}/healthz").status_code == 200)
        assert not workers_of(run) & before
        assert get(f"{url}/nowhere").status_code == 404
        assert run.stop(signal.SIGTERM) == 0
    assert "Traceback" not in run.stderr.text
    assert len(recorded(tmp_path / "recordings")) == 1


def test_a_worker_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    """A probe learns of it while the others go on."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2", *ADMIN),
            cwd=tmp_path,
        ) as run,
    ):
        admin = admin_url(run)
        stopped = min(workers_of(run))
        os.kill(stopped, signal.SIGSTOP)
        try:
            health = get(f"{admin}/healthz")
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert run.stop() == 0
    assert health.status_code == 503
    (problem,) = health.json()["problems"]
    assert re.fullmatch("worker [12] does not answer", problem)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_worker_that_hangs_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    """It has its time to end, like the others, and no more."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2", "--grace", "0"),
            cwd=tmp_path,
        ) as run,
    ):
        assert get(f"{run.url}/nowhere").status_code == 404
        pids = workers_of(run)
        os.kill(min(pids), signal.SIGSTOP)
        assert run.stop(number) == 0
        assert not any(map(is_running, pids))
    assert "a worker did not end within 10 s: it is killed" in run.stderr.text
    assert "Traceback" not in run.stderr.text


def sitecustomize(folder: Path, text: str) -> dict[str, str]:
    """Return the environment in which each worker runs some code as it begins."""
    folder.mkdir()
    guard = "import os, sys, time\nif 'cli.workers' in ' '.join(sys.orig_argv):\n    "
    (folder / "sitecustomize.py").write_text(guard + text, encoding="utf-8")
    return {**environment(), "PYTHONPATH": str(folder)}


def test_what_a_worker_prints_is_nothing_that_it_says(tmp_path: Path) -> None:
    """A library that writes to stdout costs neither the start nor our only line."""
    env = sitecustomize(tmp_path / "site", "print('not JSON', flush=True)")
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2"),
            cwd=tmp_path,
            env=env,
        ) as run,
    ):
        assert get(f"{run.url}/nowhere").status_code == 404
        assert run.stop() == 0
    assert len(run.stdout.lines) == 1
    assert run.stderr.text.count("not JSON") == 2


def test_what_is_not_understood_fails_the_start(tmp_path: Path) -> None:
    """The start does not hang, and its message tells why."""
    argv = "sys.orig_argv[sys.orig_argv.index('-c') + 2]"
    env = sitecustomize(tmp_path / "site", f"os.write(int({argv}), b'not JSON\\n')")
    upstream = ("--upstream", "http://127.0.0.1:1")
    done = run_command("record", *upstream, "--workers", "2", cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert "a worker said what cannot be understood" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start_that_hangs(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Nothing listens yet, so there is nothing to wait for."""
    hangs = "print('hangs', file=sys.stderr, flush=True); time.sleep(3600)"
    env = sitecustomize(tmp_path / "site", hangs)
    with command(
        *("record", "--upstream", "http://127.0.0.1:1", "--workers", "2"),
        cwd=tmp_path,
        env=env,
    ) as run:
        run.stderr.until("hangs")
        pids = workers_of(run)
        assert run.stop(number) == 0
        assert pids
        assert not any(map(is_running, pids))
    assert run.stdout.lines == []
    assert "Traceback" not in run.stderr.text


def test_a_signal_to_all_processes_is_no_failure_of_a_worker(tmp_path: Path) -> None:
    """One that is beginning ends in order, when it can."""
    env = sitecustomize(tmp_path / "site", f"os.kill(os.getpid(), {signal.SIGTERM:d})")
    with command(
        *("record", "--upstream", "http://127.0.0.1:1", "--workers", "2"),
        cwd=tmp_path,
        env=env,
    ) as run:
        assert run.url.startswith("http://127.0.0.1:")
        run.stderr.until("ended with exit code 0")
        assert run.stop() == 0
    assert "Traceback" not in run.stderr.text


def test_a_command_that_was_not_begun_has_not_succeeded(tmp_path: Path) -> None:
    """Who interrupts the start does not learn that all went well."""
    hangs = "print('hangs', file=sys.stderr, flush=True); time.sleep(3600)"
    env = sitecustomize(tmp_path / "site", hangs)
    with command(
        *("record", "--upstream", "http://127.0.0.1:1", "--workers", "2"),
        *("--", "touch", "ran"),
        cwd=tmp_path,
        env=env,
    ) as run:
        run.stderr.until("hangs")
        assert run.stop() == 130
    assert not (tmp_path / "ran").exists()


def test_modules_of_the_current_folder_are_not_workers_concern(tmp_path: Path) -> None:
    """A project may have a `signal.py` of its own."""
    (tmp_path / "signal.py").write_text("raise SystemExit('ours')", encoding="utf-8")
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2"),
            cwd=tmp_path,
            # The parent is begun as an installed program is: without that folder.
            before=("sh", "-c", 'exec "$0" -P "$@"'),
        ) as run,
    ):
        assert get(f"{run.url}/nowhere").status_code == 404
        assert run.stop() == 0


def test_open_exchanges_of_workers_may_end(tmp_path: Path) -> None:
    """A signal comes to all of them, and they have the grace that was given."""
    with (
        held_upstream() as held,
        command("record", "--upstream", held.url, "--workers", "2", cwd=tmp_path) as r,
        httpx.stream("GET", r.url, trust_env=False, timeout=PATIENCE_S) as answer,
    ):
        chunks = answer.iter_raw()
        assert next(chunks) == FIRST
        r.send(signal.SIGINT)
        until_it_stops_listening(r)
        held.release.set()
        assert b"".join(chunks) == LAST
        assert r.wait() == 0
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert (exchange.outcome, body) == (Outcome.COMPLETE, FIRST + LAST)


def test_a_second_signal_cuts_the_workers(tmp_path: Path) -> None:
    """Who does not want to wait need not."""
    with (
        held_upstream() as held,
        command(
            *("record", "--upstream", held.url, "--workers", "2", "--grace", "600"),
            cwd=tmp_path,
        ) as run,
        httpx.stream("GET", run.url, trust_env=False, timeout=PATIENCE_S) as answer,
    ):
        chunks = answer.iter_raw()
        assert next(chunks) == FIRST
        run.send(signal.SIGINT)
        until_it_stops_listening(run)
        run.send(signal.SIGINT)
        with pytest.raises(httpx.RemoteProtocolError):
            next(chunks)
        assert run.wait() == 0
    ((exchange, _),) = recorded(tmp_path / "recordings")
    assert exchange.outcome is Outcome.INCOMPLETE


def test_no_worker_outlives_its_parent(tmp_path: Path) -> None:
    """Killed with the parent's pipe, they end in order and seal what they have."""
    with (
        running(AgentServer()) as agent,
        command(
            *("record", "--upstream", agent.url, "--workers", "2"), cwd=tmp_path
        ) as run,
    ):
        get(f"{run.url}/nowhere")
        pids = workers_of(run)
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
        eventually(lambda: not any(map(is_running, pids)))
    assert len(recorded(tmp_path / "recordings")) == 1


def test_a_command_can_have_workers(tmp_path: Path) -> None:
    """Its clients ask one address."""
    with running(AgentServer()) as agent:
        script = 'curl -s "$SSE_RECORDER_URL/nowhere" > /dev/null; exit 9'
        done = run_command(
            *("record", "--upstream", agent.url, "--workers", "2", "--"),
            *("sh", "-c", script),
            cwd=tmp_path,
        )
    assert done.returncode == 9
    assert done.stderr == "Recorded 1 exchange into recordings.\n"


def test_workers_that_cannot_begin_say_why(tmp_path: Path) -> None:
    """Once, with the exit code that one recorder would have had."""
    (tmp_path / "recordings").write_text("a file", encoding="utf-8")
    upstream = ("--upstream", "http://127.0.0.1:1")
    done = run_command("record", *upstream, "--workers", "2", cwd=tmp_path)
    alone = run_command("record", *upstream, cwd=tmp_path)
    assert done.returncode == alone.returncode == 3
    assert done.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_not_shared(tmp_path: Path) -> None:
    """Also where what listens there would share it."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_command(
            *("record", "--upstream", "http://127.0.0.1:1", "--workers", "2"),
            *("--listen", listen),
            cwd=tmp_path,
        )
    assert done.returncode == 3
    assert f"Cannot listen on {listen}" in done.stderr


@pytest.mark.parametrize(
    ("summary", "sentence"),
    [
        (Summary(count=1, sealed=1), "Recorded 1 exchange into s."),
        (Summary(), "Recorded 0 exchanges into s."),
        (
            Summary(count=1_000, sealed=1_000, incomplete=3),
            "Recorded 1,000 exchanges into s, 3 of them incomplete.",
        ),
        (
            Summary(count=9, sealed=5, incomplete=1, unsealed=2),
            (
                "Recorded 5 of 9 exchanges into s, 1 of them incomplete; 2 in a"
                " journal, which `sse-recorder recover` seals; 2 lost."
            ),
        ),
    ],
)
def test_the_last_line_is_about_the_store(summary: Summary, sentence: str) -> None:
    """It says what is in it, and what became of the other exchanges."""
    assert summary.sentence("s") == sentence
