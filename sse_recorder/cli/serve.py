"""`record` and `replay`: the commands that listen.

Both print the URL that they listen on as their only line on stdout, and run until they
are told to stop.  SIGINT or SIGTERM let open exchanges end for a while; a second signal
cuts them.
"""

from __future__ import annotations

import asyncio
import signal
from http import HTTPStatus
from typing import Final

import click

from sse_recorder import config
from sse_recorder.background import Service, run
from sse_recorder.cli.base import counted, option, say, store_option_with
from sse_recorder.http1.client import default_ssl_context
from sse_recorder.otel import Telemetry
from sse_recorder.proxy import Recorder
from sse_recorder.replay import MAX_SPEED, ReplayServer

_PORT_MAX: Final = 65535
_ERRORS: Final = frozenset(s for s in HTTPStatus if s >= HTTPStatus.BAD_REQUEST)


class _Address(click.ParamType[tuple[str, int]]):
    """A host and a port."""

    name = "address"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if colon and port.isdecimal() and int(port) <= _PORT_MAX:
            return host.strip("[]") or "127.0.0.1", int(port)
        message = f"{value!r} is not HOST:PORT, such as 127.0.0.1:8787"
        raise click.BadParameter(message, ctx, param)


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


listen_option = option(
    "--listen",
    type=_Address(),
    metavar="HOST:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Where to listen; port 0 picks a free one.",
)
grace_option = option(
    "--grace",
    "grace_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="How long open exchanges may take to end when told to stop.",
)


@click.command()
@option(
    "--upstream",
    metavar="URL",
    required=True,
    help="The API to record.  A path in it goes in front of that of every request.",
)
@listen_option
@store_option_with("The folder to record into; it is made if it is not there.")
@grace_option
@option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate authorities to trust in place of the system's, as PEM.",
)
def record(
    upstream: str,
    listen: tuple[str, int],
    store: str,
    grace_s: float,
    ca_file: str | None,
) -> None:
    """Record what goes through a proxy.

    Give your client the address that is printed in place of the API's.  Streams pass
    through unchanged while they are recorded.  Ctrl-C ends it.  Spans are sent too if
    OTEL_EXPORTER_OTLP_ENDPOINT is set.

    \b
    sse-recorder record --upstream https://api.meibel.ai
    sse-recorder record --upstream https://api.meibel.ai --listen 127.0.0.1:8787
    """
    host, port = listen
    recorder = Recorder(
        upstream,
        store=store,
        host=host,
        port=port,
        telemetry=Telemetry.from_environment(config.environment()),
        tls=default_ssl_context(ca_file) if ca_file else None,
    )
    if recovered := len(recorder.writer.recovered):
        say(f"Recovered {counted(recovered, 'segment')} that an earlier recorder left.")
    announcement = f"Recording {upstream} into {store} (Ctrl-C ends it)."
    run(_serve(recorder, announcement, grace_s))
    say(f"Recorded {counted(recorder.count, 'exchange')} into {store}.")
    if recorder.spans_lost:
        say(f"{counted(recorder.spans_lost, 'span')} could not be delivered.")


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
    run(_serve(server, f"{announcement} (Ctrl-C ends it).", grace_s))
    say(f"Served {counted(server.served, 'request')}, missed {server.missed}.")
    if unused := len(server.matcher.unused()):
        say(f"Nobody asked for {counted(unused, 'recording')}.")
    held = f", and {counted(server.held, 'step')} waited for slow clients"
    say(f"Lateness: {server.lateness}{held if server.held else ''}")


async def _serve(service: Service, announcement: str, grace_s: float) -> None:
    """Run a service until a signal comes."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        await service.start()
    except BaseException:
        await service.stop(0)
        raise
    click.echo(service.url)
    say(announcement)
    await signals.get()
    stopping = loop.create_task(service.stop(grace_s))
    again = loop.create_task(signals.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not stopping.done():
        stopping.cancel()
        await service.stop(0)
    else:
        await stopping


COMMANDS = (record, replay)
