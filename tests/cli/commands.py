"""Talking to commands that are running, and looking at what they leave."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from support import PATIENCE_S, Running, eventually

from sse_recorder.exchange import Exchange
from sse_recorder.store.store import Store


@contextmanager
def client(run: Running) -> Iterator[httpx.Client]:
    """Talk to a command."""
    with httpx.Client(base_url=run.url, trust_env=False, timeout=PATIENCE_S) as made:
        yield made


def until_it_stops_listening(run: Running) -> None:
    """Wait until a command that was sent a signal accepts nobody any more."""
    address = urlsplit(run.url)

    def refuses() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address.hostname, address.port)) != 0

    eventually(refuses)


def recorded(store: Path) -> list[tuple[Exchange, bytes]]:
    """Return the exchanges of a store with their bodies; all of them are sealed."""
    assert not list(store.rglob("*.arrows"))
    with Store.open(store) as opened:
        return [(x, opened.body(x.exchange_id)) for x in opened.exchanges()]
