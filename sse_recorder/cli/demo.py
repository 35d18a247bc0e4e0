"""`demo`: the main job from one end to the other, offline, in less than 20 seconds.

Everything in it is real: an agent that serves Meibel's wire format on a socket, the
recording proxy, httpx clients, the store, the reports, and the replay server.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import click

from sse_recorder import analytics
from sse_recorder.background import running
from sse_recorder.cli.base import messages, say, store_option_with
from sse_recorder.cli.reports import print_report
from sse_recorder.demo import AgentServer
from sse_recorder.proxy import Recorder
from sse_recorder.replay import ReplayServer
from sse_recorder.store.store import Store

CITIES = ("lisbon", "porto", "faro", "braga")
_TIMEOUT_S = 30
_QUERY = "SELECT kind, count(*) FROM frames GROUP BY kind"


@click.command()
@store_option_with("The folder to record into; it is made if it is not there.")
def demo(store: str) -> int:
    """Record, query and replay a made-up agent, offline.

    Four chats run at the same time through the recording proxy; the reports say where
    their time went; the same chats are then replayed at the pace at which they came,
    and compared.  It takes a few seconds, and adds four exchanges to the store.

    \b
    sse-recorder demo
    sse-recorder demo --store /tmp/demo
    """
    with running(AgentServer()) as agent:
        recorder = Recorder(agent.url, store=store)
        # Each run has sessions of its own, so that a store can hold many demos.
        sessions = [f"{city}-{recorder.writer.recorder_id}" for city in CITIES]
        with _progress("Recording four chats"), running(recorder):
            live = _chat(recorder.url, sessions)
    ours = f"recorder_id = '{recorder.writer.recorder_id}'"
    with Store.open(store) as opened:
        for name in ("latency", "tools"):
            click.secho(f"\n{name}", bold=True)
            print_report(analytics.run(opened, name, where=ours), "table")
        shown = next(opened.exchanges(ours)).exchange_id
    server = ReplayServer(store)
    with _progress("Replaying them at their pace"), running(server):
        replayed = _chat(server.url, sessions)
    is_same = replayed == live
    click.secho("\nreplay", bold=True)
    click.echo(
        f"bytes {'identical' if is_same else 'DIFFERENT'}; lateness {server.lateness}"
    )
    _say_what_next(shown, store)
    return int(not is_same)


def _chat(url: str, sessions: list[str]) -> list[bytes]:
    """Run chats at the same time, and return what each answered."""
    import httpx  # noqa: PLC0415 - costs every other command 150 ms

    def one(session: str) -> bytes:
        # A proxy that the environment names has no way back to this machine.
        answer = httpx.post(
            f"{url}/v2/sessions/{session}/chat/stream",
            data={"user_message": "What can I do before my flight?"},
            headers={"Meibel-API-Key": "demo"},
            timeout=_TIMEOUT_S,
            trust_env=False,
        )
        return answer.raise_for_status().content

    with ThreadPoolExecutor(len(sessions)) as pool:
        return list(pool.map(one, sessions))


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say what is going on while it is."""
    if messages.is_terminal:
        with messages.status(f"{what} …"):
            yield
    else:
        say(f"{what} …")
        yield


def _say_what_next(exchange_id: str, store: str) -> None:
    where = "" if store == "recordings" else f" --store {shlex.quote(store)}"
    click.secho("\nTry next", bold=True)
    for arguments in (
        f"show {exchange_id[-8:]}{where}",
        f"query {shlex.quote(_QUERY)}{where}",
        "record --upstream https://api.meibel.ai",
    ):
        click.echo(f"  sse-recorder {arguments}")


COMMANDS = (demo,)
