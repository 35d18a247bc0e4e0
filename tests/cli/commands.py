"""Talking to commands that are running, and looking at what they leave."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from click.testing import CliRunner
from support import PATIENCE_S, Running, eventually

from sse_recorder.cli import every_command
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


def run(root: Path, name: str, *arguments: str) -> str:
    """Run a command in this process, and return what it prints."""
    command = every_command()[name]
    result = CliRunner().invoke(
        command, ["--store", str(root), *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def objects(root: Path, name: str, *arguments: str) -> Any:
    """Run a command that prints JSON, and return it."""
    return json.loads(run(root, name, *arguments, "--format", "json"))
