"""`record` and `replay`: the commands that listen.

Both print the URL that they listen on as their only line on stdout, and run until they
are told to stop.  SIGINT or SIGTERM let open exchanges end for a while; a second signal
cuts them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import click

from sse_recorder import config
from sse_recorder.background import Service, run
from sse_recorder.cli.base import messages, option, store_option
from sse_recorder.http1.client import default_ssl_context
from sse_recorder.otel import Telemetry
from sse_recorder.proxy import Recorder
from sse_recorder.replay import MAX_SPEED, ReplayServer

listen_option = option(
    "--listen",
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


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise click.BadParameter(
            f"{text!r} is not HOST:PORT, such as 127.0.0.1:8787", param_hint="--listen"
        )
    return host.strip("[]") or "127.0.0.1", int(port)


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


@click.command()
@option("--upstream", metavar="URL", required=True, help="The API to record.")
@listen_option
@store_option
@grace_option
@option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate authorities to trust in place of the system's, as PEM.",
)
def record(
    upstream: str, listen: str, store: str, grace_s: float, ca_file: str | None
) -> None:
    """Record what goes through a proxy.

    Point your client's base URL at the address that is printed.  Streams pass through
    unchanged while they are recorded.  Spans are sent if OTEL_EXPORTER_OTLP_ENDPOINT
    is set.

    \b
    sse-recorder record --upstream https://api.meibel.ai --listen 127.0.0.1:8787
    """
    host, port = _address(listen)
    recorder = Recorder(
        upstream,
        store=store,
        host=host,
        port=port,
        telemetry=Telemetry.from_environment(config.environment()),
        tls=default_ssl_context(ca_file) if ca_file else None,
    )
    if recorder.writer.recovered:
        messages.print(
            f"Recovered {len(recorder.writer.recovered)} segments that an earlier"
            " recorder left."
        )
    run(
        _serve(
            recorder,
            lambda: f"Recording {upstream} into {store}/ (Ctrl-C ends it).",
            grace_s,
        )
    )
    messages.print(f"Recorded {recorder.count} exchanges into {store}/.")
    if recorder.spans_lost:
        messages.print(f"{recorder.spans_lost} spans were not delivered.")


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@listen_option
@option(
    "--speed",
    type=_Speed(),
    default="1",
    show_default=True,
    metavar="N|max",
    help="How many times as fast as recorded.",
)
@grace_option
def replay(sources: tuple[str, ...], listen: str, speed: float, grace_s: float) -> None:
    """Serve recordings at the pace at which they came.

    SOURCE is a store or a cassette, `recordings` by default.  A request is answered by
    the recording with the same method, path, query and content; equal requests are
    answered in recorded order, and the last one again when they run out.  What matches
    none gets 404 with JSON that says what differs.  On exit it prints how late the
    steps left.

    \b
    sse-recorder replay recordings --listen 127.0.0.1:8788
    sse-recorder replay tests/chat.sse.jsonl --speed max
    """
    host, port = _address(listen)
    server = ReplayServer(
        *(sources or ("recordings",)), speed=speed, host=host, port=port
    )
    skipped = f" ({server.skipped} incomplete ones are left out)" * bool(server.skipped)
    run(
        _serve(
            server, lambda: f"Replaying {server.loaded} exchanges{skipped}.", grace_s
        )
    )
    messages.print(f"Served {server.served} requests, missed {server.missed}.")
    messages.print(f"Lateness: {server.lateness}")


async def _serve(service: Service, announce: Callable[[], str], grace_s: float) -> None:
    """Run a service until a signal comes."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    await service.start()
    click.echo(service.url)
    messages.print(announce())
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
