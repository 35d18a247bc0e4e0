"""What the tests of several commands look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import (
    MS,
    STARTED_AT,
    called,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder.exchange import Outcome

HOUR = 3_600_000 * MS
EVIL = "[red]\x1b[31m"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exchanges: one with tools, one that broke a day later, one that is open."""
    return store_with(
        tmp_path_factory.mktemp("look"),
        [
            meibel_exchange(
                [
                    called(100, "a", "search"),
                    called(150, "b", EVIL),
                    returned(300, "a"),
                    returned(450, "b", {"error": "boom"}),
                    called(500, "c", "search"),
                    said(600, "Hello"),
                    finished(900),
                ],
                number=0xA1,
            ),
            meibel_exchange(
                [said(40, "a")],
                number=0xA2,
                started_at=STARTED_AT + 24 * HOUR,
                ended_ms=95,
                outcome=Outcome.UPSTREAM_ABORT,
                path="/v2/sessions/0193a0c4-77aa-7e12-9b1c-5a1f0c9d2e3f/chat/stream",
            ),
            meibel_exchange(
                [said(40, "a")],
                number=0xA3,
                started_at=STARTED_AT + 25 * HOUR,
                ended_ms=None,
            ),
        ],
    )


@pytest.fixture
def width(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Make commands believe that they print to a terminal of so many columns."""
    columns = int(getattr(request, "param", 80))

    def console(**options: Any) -> Console:
        return Console(force_terminal=True, color_system=None, width=columns, **options)

    for module in ("columns", "look"):
        monkeypatch.setattr(f"sse_recorder.cli.{module}.Console", console)
    return columns
