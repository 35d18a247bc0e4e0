"""The command line as its user meets it: a process with arguments, output and signals.

    with command("record", "--upstream", url, cwd=tmp_path) as run:
        httpx.post(run.url + "/chat")
        assert run.stop() == 0

`command` is for what listens until it is told to stop; `run_command` for what ends by
itself.  Neither sees this process's own settings.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

import pytest

from sse_recorder import config
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.store.store import Store

PROGRAM: Final = (sys.executable, "-m", "sse_recorder")
PATIENCE_S: Final = 30
"""How long anything may take that should take no time at all."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts with `&` ignores it, and so would every process started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds that nothing announces."""
    end_ns = MONOTONIC_NS() + PATIENCE_S * 1_000_000_000
    while not condition():
        assert MONOTONIC_NS() < end_ns, "it never came to hold"
        time.sleep(0.01)


def until_on_disk(root: Path, where: str) -> None:
    """Wait until a store that is being written has an exchange of some kind."""

    def is_there() -> bool:
        with Store.open(root) as store:
            return any(store.exchanges(where))

    eventually(is_there)


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a few bytes."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount; the same by a limit is in test_scribe.py")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on a small disk; return what is to be deleted to have it again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass
    return filler


class Output:
    """The lines of a pipe, as they come."""

    def __init__(self, pipe: IO[str]) -> None:
        self.lines: list[str] = []
        self._pipe = pipe
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    @property
    def text(self) -> str:
        """What has come so far."""
        return "".join(self.lines)

    def until(self, pattern: str) -> str:
        """Wait for a line in which a pattern occurs, and return it."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or self._find(pattern), PATIENCE_S
            )
            found = self._find(pattern)
        assert found is not None, f"no line with {pattern!r} in: {self.text}"
        return found

    def finish(self) -> None:
        """Read to the end; the process is over."""
        self._thread.join(PATIENCE_S)
        self._pipe.close()

    def _find(self, pattern: str) -> str | None:
        return next((line for line in self.lines if re.search(pattern, line)), None)

    def _read(self) -> None:
        for line in self._pipe:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()


class Running:
    """A command that is running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout = Output(process.stdout)
        self.stderr = Output(process.stderr)

    @property
    def url(self) -> str:
        """Where it listens, as its first line says."""
        self.stdout.until("\n")
        return self.stdout.lines[0].rstrip("\n")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, and do not wait for what it does."""
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit code with which the command ends."""
        self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until the command ends, and return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self.stdout.finish()
        self.stderr.finish()
        return code


def environment(**settings: str) -> Mapping[str, str]:
    """Return this process's environment with some settings in place of its own."""
    ours = {
        name: value
        for name, value in config.environment().items()
        if not name.startswith((config.PREFIX, "OTEL_"))
    }
    return ours | settings


@contextmanager
def command(
    *args: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Running]:
    """Run a command while the block lasts; what still runs after it is killed.

    Args:
        args: of the command.
        cwd: the folder to run it in.
        env: its environment; by default this process's, without our settings.
        before: a program that runs it, with its own arguments.
    """
    with subprocess.Popen(
        [*before, *PROGRAM, *args],
        cwd=cwd,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        running = Running(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.kill()
            running.wait()


def run_command(
    *args: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdout: IO[str] | int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself, and return its exit code and its output."""
    return subprocess.run(
        [*PROGRAM, *args],
        cwd=cwd,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
