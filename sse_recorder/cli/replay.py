"""`replay`: the command that serves recordings at their pace."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import click

from sse_recorder.background import run
from sse_recorder.cli.base import counted, option, say, store_option_with
from sse_recorder.cli.serve import announce, grace_option, listen_option, serve
from sse_recorder.replay import MAX_SPEED, ReplayServer

_ERRORS: Final = frozenset(s for s in HTTPStatus if s >= HTTPStatus.BAD_REQUEST)


class _Speed(click.ParamType[float]):
    """A factor, or `max`."""

    name = "speed"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        if value == "max":
            return MAX_SPEED
        try:
            speed = float(str(value))
        except ValueError:
            speed = 0.0
        if 0 < speed < MAX_SPEED:
            return speed
        message = f"{value!r} is not a speed: give a number above 0, or max"
        raise click.BadParameter(message, ctx, param)


class _ErrorStatus(click.ParamType[HTTPStatus]):
    """The status of an answer that is an error."""

    name = "status"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> HTTPStatus:
        if str(value).isdecimal() and (number := int(str(value))) in _ERRORS:
            return HTTPStatus(number)
        message = f"{value!r} is not the status of an error, such as 404 or 503"
        raise click.BadParameter(message, ctx, param)


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@store_option_with("What is replayed where no SOURCE is given.")
@listen_option
@option(
    "--speed",
    type=_Speed(),
    default="1",
    show_default=True,
    metavar="N|max",
    help="How many times as fast as recorded; max is without any waiting.",
)
@option(
    "--on-miss",
    type=_ErrorStatus(),
    default="404",
    show_default=True,
    metavar="STATUS",
    help="The status of the answer to what matches no recording.",
)
@grace_option
def replay(
    sources: tuple[str, ...],
    store: str,
    listen: tuple[str, int],
    speed: float,
    on_miss: HTTPStatus,
    grace_s: float,
) -> None:
    """Serve recordings at the pace at which they came.

    SOURCE is a folder of recordings or a cassette.  A request is answered by the
    recording with the same method, path, query and content; equal requests are
    answered in recorded order, and the last one again when they run out.  What matches
    none gets 404 with JSON that says what differs.  Ctrl-C ends it, and then it prints
    how much later than due the bytes left.

    \b
    sse-recorder replay
    sse-recorder replay recordings --listen 127.0.0.1:8788
    sse-recorder replay tests/chat.sse.jsonl --speed max
    """
    host, port = listen
    chosen = sources or (store,)
    server = ReplayServer(*chosen, speed=speed, on_miss=on_miss, host=host, port=port)
    skipped = f"; {server.skipped} incomplete left out" if server.skipped else ""
    announcement = f"Replaying {counted(server.loaded, 'exchange')}{skipped}"
    begun = announce(server, lambda: say(f"{announcement} (Ctrl-C ends it)."))
    run(serve(server, grace_s, begun))
    say(f"Served {counted(server.served, 'request')}, missed {server.missed}.")
    if unused := len(server.matcher.unused()):
        say(f"Nobody asked for {counted(unused, 'recording')}.")
    held = f", and {counted(server.held, 'step')} waited for slow clients"
    say(f"Lateness: {server.lateness}{held if server.held else ''}")


COMMANDS = (replay,)
