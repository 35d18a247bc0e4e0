"""Sending recordings that are made here, and looking at what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from samples import store_with
from support import PATIENCE_S

from sse_recorder.background import run
from sse_recorder.exchange import Exchange, Record
from sse_recorder.redrive import Plan, Redrive
from sse_recorder.store.store import Store


def redrive_of(
    folder: Path, requests: Iterable[Sequence[Record]], to: str, **options: Any
) -> Redrive:
    """Return a redrive of recordings that are made here, into the folder `after`."""
    names = [name for name in options if name in Plan.__slots__]
    plan = Plan(**{name: options.pop(name) for name in names})
    with Store.open(store_with(folder, requests)) as store:
        return Redrive(
            store.exchanges(), to, store=folder / "after", plan=plan, **options
        )


def sent(
    folder: Path, requests: Iterable[Sequence[Record]], to: str, **options: Any
) -> Redrive:
    """Send recordings again, all of them."""
    with closing(redrive_of(folder, requests, to, **options)) as redrive:
        run(redrive.run())
    return redrive


def meanwhile(redrive: Redrive, *steps: Callable[[], object]) -> None:
    """Send recordings again; wait for each step to return something, in their order."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            sending = asyncio.ensure_future(redrive.run())
            for step in steps:
                while not step():  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.01)
            await sending

    run(main())


def answers(folder: Path, redrive: Redrive) -> dict[int, list[Exchange]]:
    """Return what came back, by the number of what was sent again."""
    with Store.open(folder / "after") as store:
        found = redrive.recorded(store)
    return {int(eid[-12:], 16): exchanges for eid, exchanges in found.items()}
