"""The command line: parses, calls the library, prints.

One file per group of commands:

    serve     record, replay
    look      ls, show, query, latency, tools
    keep      export, recover
    demo      demo
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from sse_recorder import __version__, config
from sse_recorder.cli import demo, keep, look, serve
from sse_recorder.errors import SSERecorderError

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sse-recorder")
def commands() -> None:
    """Record live event streams, replay them at their true pace, see where time went.

    \b
    Try:  sse-recorder demo
          sse-recorder record --upstream https://api.meibel.ai
          sse-recorder latency
    """


for module in (serve, look, keep, demo):
    for command in module.COMMANDS:
        commands.add_command(command)


def main() -> NoReturn:
    """Run the command line, and exit with what the design says of exit codes."""
    logging.basicConfig(
        level=logging.WARNING, format="sse-recorder: %(levelname)s: %(message)s"
    )
    sys.exit(_run())


def _run() -> int:
    try:
        options = {
            name: {p.name for p in command.params if p.name}
            for name, command in commands.commands.items()
        }
        defaults = config.default_map(Path.cwd(), options)
        code = commands.main(standalone_mode=False, default_map=defaults)
        sys.stdout.flush()
    except SSERecorderError as error:
        click.echo(f"sse-recorder: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0
