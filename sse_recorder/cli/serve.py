"""What the commands that listen have in common.

They print the URL that they listen on as their only line on stdout, and run until they
are told to stop; with a command to run, stdout is the command's, and they run for as
long as it does.  SIGINT or SIGTERM let open exchanges end for a while; a second signal
cuts them.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final

import click

from sse_recorder.background import Service
from sse_recorder.cli.base import option

Signals = asyncio.Queue[float]
"""What has come to say that it is time to end, and was not acted upon: the numbers of
signals, to begin with."""

Work = Callable[[Signals], Coroutine[Any, Any, int]]
"""What is done while a service is there; it gives the exit code."""

_PORT_MAX: Final = 65535


class Address(click.ParamType[tuple[str, int]]):
    """A host and a port."""

    name = "address"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Read `HOST:PORT`."""
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        if colon and port.isdecimal() and int(port) <= _PORT_MAX:
            return host.strip("[]") or "127.0.0.1", int(port)
        message = f"{value!r} is not HOST:PORT, such as 127.0.0.1:8787"
        raise click.BadParameter(message, ctx, param)


listen_option = option(
    "--listen",
    type=Address(),
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


async def serve(
    service: Service,
    grace_s: float,
    work: Work,
    *,
    beside: Service | None = None,
    unbegun: int = 0,
) -> int:
    """Run a service while some work lasts, and return the exit code that it gives.

    Args:
        service: what is stopped in order, with its grace.
        grace_s: how long what is open may take to end; a signal ends it at once.
        work: begins when the service listens, and is given the signals that come.
        beside: a service that is there for as long as the other one is.
        unbegun: the exit code when a signal comes before the service listens.
    """
    loop = asyncio.get_running_loop()
    signals: Signals = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    async with AsyncExitStack() as stack:
        if beside is not None:
            stack.push_async_callback(beside.stop)
            await beside.start()
        try:
            if not await _start(service, signals):
                await service.stop(0)
                return unbegun
            with spared_collections():
                code = await work(signals)
        except BaseException:
            await service.stop(0)
            raise
        await stop_in_order(service, grace_s, signals)
    return code


async def _start(service: Service, signals: Signals) -> bool:
    """Start a service; return whether that was done before a signal came."""
    loop = asyncio.get_running_loop()
    starting = loop.create_task(service.start())
    told = loop.create_task(signals.get())
    await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return False
    if not told.cancel():
        signals.put_nowait(told.result())
    await starting
    return True


@contextmanager
def spared_collections() -> Iterator[None]:
    """Keep the garbage collector from what is there before the block begins.

    To look at all modules again takes it 20 ms, and no stream is read meanwhile.
    """
    gc.freeze()
    thresholds = gc.get_threshold()
    gc.set_threshold(10_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def announce(service: Service, message: Callable[[], None]) -> Work:
    """Return the work of a command that has no other: to be there until a signal."""

    async def work(signals: Signals) -> int:
        click.echo(service.url)
        message()
        await signals.get()
        return 0

    return work


async def stop_in_order(service: Service, grace_s: float, signals: Signals) -> None:
    """Stop a service in order, or at once when another signal comes."""
    loop = asyncio.get_running_loop()
    stopping = loop.create_task(service.stop(grace_s))
    again = loop.create_task(signals.get())
    await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not stopping.done():
        stopping.cancel()
        await service.stop(0)
    else:
        await stopping
