"""`replay`: the command that serves recordings at their pace."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from sse_recorder import config
from sse_recorder.background import run
from sse_recorder.cli import child, providers
from sse_recorder.cli.base import Read, counted, option, say, store_option_with
from sse_recorder.cli.serve import (
    Address,
    Signals,
    announce,
    grace_option,
    listen_option,
    serve,
)
from sse_recorder.cli.telemetry import telemetry_of
from sse_recorder.control import ControlServer
from sse_recorder.errors import UsageError
from sse_recorder.faults import duration_ns, parse
from sse_recorder.match import Miss
from sse_recorder.playback import Pace, Recording, speed_of
from sse_recorder.replay import ReplayServer

CONTROL_VARIABLE: Final = "SSE_RECORDER_CONTROL_URL"
# Not all that are in use have a name: 529 is one of Anthropic's, and 520 to 526 are
# Cloudflare's.
_STATUS: Final = re.compile("[45][0-9]{2}")
_SHOWN: Final = 20
_ID_SHOWN: Final = 8


def _share(text: str) -> float:
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
        Pace(jitter=share)
    except (ValueError, UsageError):
        raise UsageError(
            f"{text!r} is not a share: give one such as 10%, up to 1000%"
        ) from None
    return share


def _status(text: str) -> int:
    if _STATUS.fullmatch(text):
        return int(text)
    raise UsageError(f"{text!r} is not the status of an error, such as 404 or 503")


@click.command(cls=child.Command)
@click.argument("sources", nargs=-1, metavar="[SOURCE]... [-- CMD [ARGS]...]")
@store_option_with("What is replayed where no SOURCE is given.")
@listen_option
@option(
    "--speed",
    type=Read("speed", speed_of),
    default="1",
    show_default=True,
    metavar="N|max",
    help="How many times as fast as recorded; max is without any waiting.",
)
@option(
    "--max-gap",
    "max_gap_ns",
    type=Read("duration", duration_ns),
    metavar="TIME",
    help="The longest wait, for the head or between two chunks, such as 2s or 500ms:"
    " of real time, whatever the speed.",
)
@option(
    "--ttfb",
    "ttfb_ns",
    type=Read("duration", duration_ns),
    metavar="TIME",
    help="How long the response head takes to come, in place of the recorded time:"
    " of real time, also with --speed max.",
)
@option(
    "--jitter",
    type=Read("share", _share),
    default="0%",
    show_default=True,
    metavar="SHARE",
    help="Make each wait longer or shorter, at random, by up to this share of it.",
)
@option(
    "--fault",
    "faults",
    type=Read("fault", parse),
    multiple=True,
    metavar="KIND[=VALUE][@PLACE:N]",
    help="Disturb every response, such as reset@event:12, stall=2s@bytes:500,"
    " status=429,retry-after=2, drop@event:3 or reslice=1.  Can be given again.",
)
@option(
    "--ignore",
    metavar="PATH",
    multiple=True,
    only_in="replay",
    help="A field of requests that takes no part in matching, by its name or its path,"
    " such as request_id, messages[*].id or query.ts; may be repeated.",
)
@option(
    "--match-header",
    "match_headers",
    metavar="NAME",
    multiple=True,
    help="A header of requests that does, by its value; may be repeated.",
)
@option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="What jitter and faults are drawn from: the same one gives the same bytes.",
)
@option(
    "--step",
    is_flag=True,
    help="Hold events back until POST /release?events=N on the --control port.",
)
@option(
    "--control",
    type=Address(),
    metavar="HOST:PORT",
    help="Where to serve /release, /reset and /report; by default nowhere.",
)
@option(
    "--on-miss",
    type=Read("status", _status),
    default="404",
    show_default=True,
    metavar="STATUS",
    help="The status of the answer to what matches no recording.",
)
@option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what was served, missed, late and disturbed to a file, as JSON.",
)
@grace_option
@click.pass_context
def replay(ctx: click.Context, /, **options: Any) -> int:
    """Serve recordings at the pace at which they came.

    SOURCE is a folder of recordings, a cassette, or one exchange of either (SOURCE#ID).
    A request is answered by the recording with the same method, path, query and
    content, but for what --ignore names; equal requests are answered in recorded order,
    and the last one again when they run out.  What matches none gets 404 with JSON that
    says what differs.  What a client left while it was recorded is held open until
    yours leaves, too.  Ctrl-C ends it, and then it prints how much later than due the
    bytes left.

    \b
    sse-recorder replay
    sse-recorder replay recordings --listen 127.0.0.1:8788
    sse-recorder replay tests/chat.sse.jsonl --speed max --fault reset@event:12
    sse-recorder replay tests/chat.sse.jsonl --ignore metadata.request_id

    With a command behind -- it serves while the command runs, and exits with its code.
    The variables from which SDKs read their base URL point to it, and
    SSE_RECORDER_CONTROL_URL to --control.  A span of each request is sent, linked to
    the recorded one, if OTEL_EXPORTER_OTLP_ENDPOINT is set.

    \b
    sse-recorder replay tests/chat.sse.jsonl --speed max -- pytest tests/agent
    """
    argv = child.command_of(ctx)
    environ = config.environment()
    if argv is not None:
        child.find(argv[0], environ)  # before anything is said
    if options["step"] and options["control"] is None:
        raise UsageError(
            "--step needs a way to go on: give --control HOST:PORT, whose"
            " POST /release?events=N lets events go"
        )
    if (path := options["report"]) is not None:
        _check_writable(path)
    server = _server(options)
    control = _control(server, options["control"])

    def begun() -> None:
        skipped = f"; {server.skipped} incomplete left out" if server.skipped else ""
        if control is not None:
            say(f"It is controlled at {control.url}.")
        if argv is None:
            loaded = counted(server.loaded, "exchange")
            say(f"Replaying {loaded}{skipped} (Ctrl-C ends it).")

    async def run_command(signals: Signals) -> int:
        begun()
        variables = providers.everywhere().variables(server.url, environ)
        if control is not None:
            variables[CONTROL_VARIABLE] = control.url
        return await child.run(argv or (), {**environ, **variables}, signals)

    work = announce(server, begun) if argv is None else run_command
    code = run(serve(server, options["grace_s"], work, beside=control))
    _say_what_was(server)
    if path is not None:
        path.write_text(json.dumps(server.report(), indent=2) + "\n")
    return code


def _check_writable(path: Path) -> None:
    """Find out now, and not when everything that it would hold is over."""
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; name a file that can be written with --report"
        ) from error


def _server(options: Mapping[str, Any]) -> ReplayServer:
    host, port = options["listen"]
    pace = Pace(
        speed=options["speed"],
        max_gap_ns=options["max_gap_ns"],
        ttfb_ns=options["ttfb_ns"],
        jitter=options["jitter"],
    )
    return ReplayServer(
        *(options["sources"] or (options["store"],)),
        pace=pace,
        faults=options["faults"],
        ignore=options["ignore"],
        match_headers=options["match_headers"],
        seed=options["seed"],
        step=options["step"],
        on_miss=options["on_miss"],
        telemetry=telemetry_of(),
        host=host,
        port=port,
    )


def _control(
    server: ReplayServer, address: tuple[str, int] | None
) -> ControlServer | None:
    if address is None:
        return None
    return ControlServer(server, host=address[0], port=address[1])


def _say_what_was(server: ReplayServer) -> None:
    say(f"Served {counted(server.served, 'request')}, missed {server.missed}.")
    _say_some([f"Missed {_explained(miss)}" for miss in server.misses], server.missed)
    if unused := [_named(one) for one in server.matcher.unused()]:
        say(f"Nobody asked for {counted(len(unused), 'recording')}:")
        _say_some([f"  {name}" for name in unused], len(unused))
    _say_some(server.fault_report, server.faults_told)
    held = f", and {counted(server.held, 'step')} waited for slow clients"
    say(f"Lateness: {server.lateness}{held if server.held else ''}")
    if lost := server.spans_lost:
        say(f"{counted(lost, 'span')} could not be delivered.")


def _say_some(lines: list[str], count: int) -> None:
    """Print the first of so many lines."""
    for line in lines[:_SHOWN]:
        say(line)
    if count > _SHOWN:
        say(f"… and {count - _SHOWN:,} more; --report FILE has more of them.")


def _explained(miss: Miss[Recording]) -> str:
    if miss.nearest is None:
        return f"{miss.method} {miss.path}: there are no recordings"
    return (
        f"{miss.method} {miss.path}: {miss.field} is {miss.actual}, and {miss.expected}"
        f" in the nearest recording, {_named(miss.nearest)}"
    )


def _named(recording: Recording) -> str:
    exchange = recording.exchange
    return f"{exchange.exchange_id[-_ID_SHOWN:]} {exchange.method} {exchange.path}"


COMMANDS = (replay,)
