"""`record -- CMD`: running a command beside the recorder.

CMD has our stdin, stdout and stderr, and as many open files as we were given.  Its exit
code becomes ours; 128 + n when signal n ended it, 127 when there is no such command and
126 when it cannot be run, as shells have it.

Signals that we get are sent on to CMD, and it is CMD that decides when to end.  A
Ctrl-C is not: the terminal sends it to CMD as well, and many programs take a second one
as the wish to be killed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

import click

from sse_recorder.cli.files import files_as_given
from sse_recorder.cli.serve import Signals
from sse_recorder.errors import UsageError

_SEPARATOR: Final = "--"
_SIGNALLED: Final = 128


class Command(click.Command):
    """A command of ours that may have one of the user's behind `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put what stands behind `--` aside."""
        at = args.index(_SEPARATOR) if _SEPARATOR in args else len(args)
        ctx.meta[_SEPARATOR] = tuple(args[at + 1 :]) if at < len(args) else None
        return super().parse_args(ctx, args[:at])


def command_of(ctx: click.Context) -> tuple[str, ...] | None:
    """Return the user's command; None where there is no `--`.

    Raises:
        UsageError: there is nothing behind it.
    """
    argv: tuple[str, ...] | None = ctx.meta[_SEPARATOR]
    if argv == ():
        raise UsageError("there is no command behind --: give one, or leave -- away")
    return argv


class NoSuchCommandError(UsageError):
    """There is nothing to run."""

    exit_code = 127


class NotRunnableError(UsageError):
    """It is there, and cannot be run."""

    exit_code = 126


def find(program: str, environ: Mapping[str, str]) -> str:
    """Return the file of a command, as a shell would find it.

    Raises:
        NoSuchCommandError: there is none.
        NotRunnableError: there is a file of that name, which is not a program.
    """
    found = shutil.which(program, path=environ.get("PATH"))
    if found is not None:
        return found
    if os.sep in program and os.path.exists(program):  # noqa: PTH110 - no path of ours
        raise NotRunnableError(f"{program}: it is not a program; make it executable")
    raise NoSuchCommandError(
        f"{program or repr(program)}: no such command; install it or correct it"
    )


async def run(argv: Sequence[str], environ: Mapping[str, str], signals: Signals) -> int:
    """Run a command until it ends, and return its exit code.

    Args:
        argv: the program and its arguments.
        environ: its whole environment.
        signals: those that come while it runs.

    Raises:
        NoSuchCommandError: there is no such program.
        NotRunnableError: it cannot be run.
    """
    program = find(argv[0], environ)
    try:
        with files_as_given():
            process = subprocess.Popen(argv, executable=program, env=environ)  # noqa: ASYNC220, S603 - it is short, and what the user asked for
    except OSError as error:
        raise NotRunnableError(f"{argv[0]}: {error.strerror}; correct it") from error
    forwarding = asyncio.create_task(_forward(process, signals))
    code = await asyncio.get_running_loop().run_in_executor(None, process.wait)
    forwarding.cancel()
    return code if code >= 0 else _SIGNALLED - code


async def _forward(process: subprocess.Popen[bytes], signals: Signals) -> None:
    while True:
        number = await signals.get()
        if number != signal.SIGINT or not _is_in_foreground():
            process.send_signal(int(number))


def _is_in_foreground() -> bool:
    """Tell whether a terminal sends its Ctrl-C to us, and so to CMD."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
