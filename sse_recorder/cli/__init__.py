"""The command line: parses, calls the library, prints.

One file per group of commands, which is imported when one of them is asked for: nobody
who replays a cassette waits for a database to be loaded.

Whatever fails is told in one line on stderr that says what to do; the exit code is the
error's.  A traceback is a bug of ours.

Ctrl-C means what the command makes of it.  Before one begins, and after it has ended,
it ends the program at once, by `_leave`: an exception would come out of whatever module
is being read, as a traceback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from sse_recorder import __version__, config
from sse_recorder.errors import SSERecorderError

PROGRAM: Final = "sse-recorder"
INTERRUPTED: Final = 130
_COMPLETE: Final = "_SSE_RECORDER_COMPLETE"
"""The variable by which click is asked what may be typed next."""
_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

_HOMES: Final = {
    "cassette": "cassettes",
    "check": "compare",
    "demo": "demo",
    "diff": "compare",
    "errors": "reports",
    "export": "keep",
    "import": "importing",
    "latency": "reports",
    "ls": "look",
    "otel": "otel",
    "query": "query",
    "rebuild": "rebuild",
    "record": "record",
    "recover": "keep",
    "redact": "redact",
    "redrive": "redrive",
    "replay": "replay",
    "show": "look",
    "slow": "reports",
    "stalls": "reports",
    "tools": "reports",
    "usage": "reports",
    "verify": "keep",
}
"""The commands, and the module of each."""


class _Commands(click.Group):
    """The commands, each of which may be cut off by whoever reads its output."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(_HOMES)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        return _command(cmd_name) if cmd_name in _HOMES else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, whose business it is from now on what Ctrl-C means."""
        found = super().resolve_command(ctx, args)
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            return _give_up_stdout(0)
        except SystemExit as error:
            # What rich makes of it.
            if isinstance(error.__context__, BrokenPipeError):
                return _give_up_stdout(0)
            raise
        return result


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name=PROGRAM)
def commands() -> None:
    """Record live event streams, replay them at their true pace, see where time went.

    \b
    sse-recorder demo
    sse-recorder record --upstream https://api.meibel.ai
    sse-recorder latency

    Every option can be set in the environment too (--store as SSE_RECORDER_STORE), and
    in sse-recorder.toml, or [tool.sse-recorder] in pyproject.toml, of this folder.

    Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 the environment failed, 130
    interrupted.
    """


def every_command() -> dict[str, click.Command]:
    """Import all the commands, and return them by their names."""
    return {name: _command(name) for name in _HOMES}


def _command(name: str) -> click.Command:
    module = import_module(f"{__name__}.{_HOMES[name]}")
    command: click.Command = next(c for c in module.COMMANDS if c.name == name)
    # click keeps the first names that a command was asked with, and it may be asked
    # without the group.
    command.context_settings.update(_CONTEXT)
    return command


def every_setting() -> dict[str, list[config.Setting]]:
    """Return what can be set of each command, in the environment or in a file."""
    from sse_recorder.cli.base import Option  # noqa: PLC0415 - it loads libraries

    return {
        name: [p.setting for p in _parameters(command) if isinstance(p, Option)]
        for name, command in every_command().items()
    }


def _parameters(command: click.Command) -> Iterator[click.Parameter]:
    """Give the parameters of a command, or of all that are in a group."""
    yield from command.params
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        yield from inner.params


def main() -> NoReturn:
    """Run the command line, and exit with the code that tells how it ended."""
    _leave_at_ctrl_c()
    if _COMPLETE in config.environment():
        from sse_recorder.cli import completing  # noqa: PLC0415 - only a shell asks

        completing.install()
    logging.basicConfig(
        level=logging.WARNING, format=f"{PROGRAM}: %(levelname)s: %(message)s"
    )
    code = _run()
    _leave_at_ctrl_c()
    sys.exit(code)


def _leave_at_ctrl_c() -> None:
    # Who starts a program in the background has it ignore that.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> NoReturn:
    os._exit(INTERRUPTED)


def _run() -> int:
    try:
        defaults = config.default_map(Path.cwd(), every_setting)
        code = commands.main(
            prog_name=PROGRAM, standalone_mode=False, default_map=defaults
        )
    except SSERecorderError as error:
        _complain(str(error))
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _complain(f"{name}{error.strerror or error}; mend that and run it again")
        return _give_up_stdout(SSERecorderError.exit_code)
    return code if isinstance(code, int) else 0


def _complain(message: str) -> None:
    """Say what went wrong, in one line: that of a database has several."""
    lines = (line.strip() for line in message.splitlines())
    text = "; ".join(line for line in lines if line.strip("^ "))
    click.echo(f"{PROGRAM}: {text}", err=True)


def _give_up_stdout(code: int) -> int:
    """Write nothing more: its reader has had enough, or there is no room for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
