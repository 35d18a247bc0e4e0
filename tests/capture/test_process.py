"""A scribe in a process of its own: what it writes, and what its death costs."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from capture.hearing import COMPLETE, NEVER, STREAM, hold, opening, until, writing
from support import eventually

from sse_recorder.capture import Limits, Writer, process
from sse_recorder.capture.process import (
    _BEAT_S,
    ENDINGS,
    ScribeProcess,
    _Link,
    _receive,
    signals_blocked,
)
from sse_recorder.capture.tap import FLUSH_INTERVAL_S
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Op, RawRecord, RequestHead
from sse_recorder.otel import Recipe, View
from sse_recorder.stats import Usage
from sse_recorder.store.recovery import recover
from sse_recorder.store.store import Store
from sse_recorder.store.verify import Tally, verify


def pid_of(writer: Writer) -> int:
    """Return the process that writes."""
    assert isinstance(writer._backend, ScribeProcess)
    return writer._backend.pid


def outcomes(root: Path) -> dict[str, tuple[str | None, str | None]]:
    """Return how the exchanges of a store ended, and why."""
    with Store.open(root) as store:
        return {e.exchange_id: (e.outcome, e.error) for e in store.exchanges()}


def test_what_it_uses_counts(tmp_path: Path) -> None:
    """A recorder's memory and time are those of both processes."""
    with writing(tmp_path, own_process=True) as writer:
        assert Usage.of(pid_of(writer)).resident_bytes > 1 << 20
        both, here = writer.usage(), Usage.of()
        assert both.resident_bytes > here.resident_bytes + (1 << 20)
        assert both.open_files > here.open_files


def test_it_writes_what_a_scribe_here_would(tmp_path: Path) -> None:
    """Where the scribe works makes no difference to the store."""
    bodies = []
    for name in ("there", "here"):
        root = tmp_path / name
        with writing(root, own_process=name == "there") as writer:
            hold(writer.tap("e", 0), 0)
        with Store.open(root) as store:
            rows = store.sql("SELECT * EXCLUDE recorder_id FROM exchanges").to_pylist()
            bodies.append((rows, list(store.frames("e")), store.body("e")))
    assert bodies[0] == bodies[1]


def test_it_seals_when_nothing_happens(tmp_path: Path) -> None:
    """It keeps its own time: nobody has to wake it."""
    limits = Limits(idle_s=0.1)
    with writing(tmp_path, limits=limits, own_process=True) as writer:
        hold(writer.tap("e", 0), 0)
        eventually(lambda: list(tmp_path.glob("exchanges/*/*.parquet")))
        eventually(lambda: writer.health().seals == 1)


def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """It is told here, in the words that are used without another process."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        Writer(tmp_path / "file" / "below", own_process=True)


def test_a_writer_that_is_killed_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was open ends as incomplete, and what comes later is recorded."""
    nowhere = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_SAMPLER": "always_off",
    }
    recipe = Recipe(environ=nowhere, view=View())
    with writing(tmp_path, limits=NEVER, own_process=True, recipe=recipe) as writer:
        journaled = writer.tap("journaled", 0)
        hold(journaled, 0, end=False)
        until(tmp_path, "exchange_id = 'journaled' AND chunk_count = 1")
        os.kill(pid_of(writer), signal.SIGKILL)
        eventually(lambda: "the writing process is gone" in writer.health().problems)
        journaled.data(5, b"ta: after\n\n")
        journaled.ended(6, COMPLETE)
        hold(writer.tap("later", 0), 0)
        eventually(lambda: not writer.health().problems)
        assert writer.health().writer_restarts == 1
    found = outcomes(tmp_path)
    assert found.pop("later") == ("complete", None)
    ((name, (outcome, error)),) = found.items()
    assert (name, outcome) == ("journaled", "incomplete")
    assert error is not None
    assert "killed" in error
    (told,) = (line for line in caplog.messages if "the writing process died" in line)
    assert "spans that it had not sent are left to `otel export`" in told


def test_what_a_killed_writer_had_not_answered_is_known_as_lost(tmp_path: Path) -> None:
    """Each exchange has a row, also one that only the dead process had heard of."""
    with writing(tmp_path, limits=NEVER, own_process=True) as writer:
        os.kill(pid_of(writer), signal.SIGSTOP)
        hold(writer.tap("over", 0), 0)
        still = writer.tap("still open", 0)
        hold(still, 0, end=False)
        backend = writer._backend
        assert isinstance(backend, ScribeProcess)
        eventually(lambda: sum(len(ends) for _, ends in backend._unanswered) == 3)
        os.kill(backend.pid, signal.SIGKILL)
        eventually(lambda: backend._is_gone)
        hold(writer.tap("later", 0), 0)
        still.data(5, b"ta: after the gap\n\n")
        still.ended(6, COMPLETE)
    assert outcomes(tmp_path) == {
        "over": ("incomplete", "the writing process died"),
        "still open": ("incomplete", "the writing process died"),
        "later": ("complete", None),
    }
    with Store.open(tmp_path) as store:
        assert store.body("still open") == b""


def test_what_a_killed_writer_wrote_unanswered_is_there_once(tmp_path: Path) -> None:
    """Recovery has it whole, so that nobody has to say that it was lost."""
    with writing(tmp_path, limits=NEVER, own_process=True) as writer:
        hold(writer.tap("over", 0), 0)
        hold(writer.tap("open", 0), 0, end=False)
        until(tmp_path, "exchange_id = 'open' AND chunk_count = 1")
        backend = writer._backend
        assert isinstance(backend, ScribeProcess)
        eventually(lambda: not backend._unanswered)
        os.kill(backend.pid, signal.SIGKILL)
        eventually(lambda: backend._is_gone)
        # As if it had died before it could answer.
        begun: list[RawRecord] = [(e, Op.OPEN, 0, opening()) for e in ("over", "open")]
        backend._unanswered.append((0, [*begun, ("over", Op.END, 6, COMPLETE)]))
        hold(writer.tap("later", 0), 0)
    with Store.open(tmp_path) as store:
        found = sorted((e.exchange_id, str(e.outcome)) for e in store.exchanges())
    assert found == [
        ("later", "complete"),
        ("open", "incomplete"),
        ("over", "complete"),
    ]
    assert not list(verify(tmp_path, Tally()))


def test_a_wedged_writer_cannot_eat_memory_without_bound(tmp_path: Path) -> None:
    """Exchanges that only begin and end are kept bare, and none of them is lost."""
    request = RequestHead("GET", "/", (("X-Large", "x" * 30_000),))
    limits = Limits(queue_bytes=1_000_000)
    with writing(tmp_path, limits=limits, own_process=True) as writer:
        os.kill(pid_of(writer), signal.SIGSTOP)
        for number in range(1_500):
            tap = writer.tap(f"e{number}", 0)
            tap.opened(opening(request=request))
            tap.ended(9, COMPLETE)
            if number % 100 == 0:
                threading.Event().wait(2 * FLUSH_INTERVAL_S)
        assert writer.health().queued_bytes < 3_000_000
        os.kill(pid_of(writer), signal.SIGCONT)
    found = outcomes(tmp_path)
    assert len(found) == 1_500
    assert found["e1499"][0] == "incomplete"
    assert writer.recorded.sealed == 1_500


def test_a_writer_that_cannot_be_replaced_at_once_is_so_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a file descriptor to spare recording pauses, and does not end."""
    with writing(tmp_path, limits=NEVER, own_process=True) as writer:
        os.kill(pid_of(writer), signal.SIGKILL)
        eventually(lambda: "the writing process is gone" in writer.health().problems)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            hold(writer.tap("meanwhile", 0), 0)
            eventually(lambda: "cannot be started: Too many open files" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        def is_back() -> bool:
            writer.queue.put(("unknown", Op.SENT, 0, None))
            return not writer.health().problems

        eventually(is_back)
        hold(writer.tap("later", 0), 0)
    assert outcomes(tmp_path) == {
        "meanwhile": ("incomplete", "the writing process died"),
        "later": ("complete", None),
    }


def test_a_process_at_work_says_so() -> None:
    """What is silent can be told from what has much to do."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = _Link(theirs)
        with link.busy():
            assert _receive(ours) is None
            assert _receive(ours) is None
        link.send("idle")
        assert _receive(ours) == "idle"
        ours.settimeout(3 * _BEAT_S)
        with pytest.raises(TimeoutError):
            _receive(ours)


def test_stopping_under_load_ends_no_writer_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take longer than one may be silent."""
    monkeypatch.setattr(process, "PATIENCE_S", 1.5)
    event = b'data: {"delta": "%s"}\n\n' % (b"word " * 10)
    with writing(tmp_path, own_process=True) as writer:
        os.kill(pid_of(writer), signal.SIGSTOP)
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, STREAM)
        for number in range(200_000):
            tap.data(4 + number, event)
        tap.ended(10**6, COMPLETE)
        eventually(lambda: writer.queue.waiting_bytes == 0 or writer.health().problems)
        os.kill(pid_of(writer), signal.SIGCONT)
    assert writer.health().writer_restarts == 0
    assert outcomes(tmp_path) == {"e": ("complete", None)}


def test_a_file_of_the_current_folder_stands_in_for_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People keep files with all kinds of names where they record."""
    (tmp_path / "json.py").write_text("raise SystemExit('not Python's')")
    monkeypatch.chdir(tmp_path)
    with writing(tmp_path / "store", own_process=True) as writer:
        hold(writer.tap("e", 0), 0)
    assert outcomes(tmp_path / "store") == {"e": ("complete", None)}


def test_a_writer_that_is_stopped_costs_its_recordings_alone(tmp_path: Path) -> None:
    """Taps never wait, memory is bounded, health says so, and closing does not hang."""
    limits = Limits(queue_bytes=100_000)
    with writing(tmp_path, limits=limits, own_process=True) as writer:
        pid = pid_of(writer)
        os.kill(pid, signal.SIGSTOP)
        tap = writer.tap("e", 0)
        tap.opened(opening())
        tap.head(3, STREAM)

        def is_full() -> bool:
            for _ in range(100):
                tap.data(4, b"data: %b\n\n" % (b"x" * 1_000))
            return writer.health().refused > 0

        eventually(is_full)
        assert writer.health().queued_bytes <= limits.queue_bytes + 1_000
        problems = " ".join(writer.health().problems)
        assert "records were dropped" in problems
        eventually(lambda: "not answered" in " ".join(writer.health().problems))
        tap.ended(5, COMPLETE)
    assert outcomes(tmp_path)["e"][0] == "incomplete"
    assert not list(tmp_path.glob(".journal/*"))


def test_a_process_that_was_stopped_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """What it had not taken waits for it."""
    with writing(tmp_path, own_process=True) as writer:
        os.kill(pid_of(writer), signal.SIGSTOP)
        hold(writer.tap("e", 0), 0)
        eventually(lambda: "not answered" in " ".join(writer.health().problems))
        os.kill(pid_of(writer), signal.SIGCONT)
        eventually(lambda: not writer.health().problems)
    assert outcomes(tmp_path) == {"e": ("complete", None)}


def test_it_leaves_when_the_recorder_is_killed(tmp_path: Path) -> None:
    """What was on its way is in the journal, which a recovery then finds abandoned."""
    program = textwrap.dedent(
        """
        import os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from capture.hearing import NEVER, hold
        from sse_recorder.capture import Writer

        writer = Writer(Path(sys.argv[1]), limits=NEVER, own_process=True)
        hold(writer.tap("over", 0), 0)
        hold(writer.tap("open", 0), 0, end=False)
        while writer.queue.waiting_bytes or not writer._backend._unanswered:
            pass
        time.sleep(0.1)  # they are noted before they are sent
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    tests = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", program, str(tmp_path), tests]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    eventually(lambda: recover(tmp_path) and not list(tmp_path.glob(".journal/*")))
    found = outcomes(tmp_path)
    assert found["over"] == ("complete", None)
    assert found["open"][0] == "incomplete"


def test_interrupting_everything_at_once_loses_nothing(tmp_path: Path) -> None:
    """A Ctrl-C goes to all processes of the terminal; only the recorder's counts."""
    with writing(tmp_path, own_process=True) as writer:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid_of(writer), number)
        hold(writer.tap("e", 0), 0)
    assert outcomes(tmp_path) == {"e": ("complete", None)}


@pytest.mark.parametrize("number", ENDINGS)
def test_interrupting_everything_as_it_begins_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It hears no signal from its first instruction on, before it reads modules."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'capture.process' in ' '.join(sys.orig_argv):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        f"    open({str(tmp_path / 'sent')!r}, 'w').close()\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with writing(tmp_path / "store", own_process=True) as writer:
        hold(writer.tap("e", 0), 0)
    assert (tmp_path / "sent").exists()
    assert outcomes(tmp_path / "store") == {"e": ("complete", None)}


def test_signals_are_blocked_for_as_long_as_a_process_is_started() -> None:
    """Here a Ctrl-C comes a little later, and is not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    during = before

    def interrupted() -> None:
        nonlocal during
        with signals_blocked():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            during = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert during == before | set(ENDINGS)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_recorder_that_is_gone_before_it_said_anything_is_no_fault() -> None:
    """The process that it has just started leaves without a word."""
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [process._PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
        ours.close()
        done = subprocess.run(
            [sys.executable, "-P", "-c", *arguments],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")
