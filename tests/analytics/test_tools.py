"""The tools report, on exchanges whose numbers can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import (
    CHAT,
    called,
    cassette_with,
    conversation,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.store.store import Store

COUNTS = ["calls", "ok", "error", "unanswered", "superseded", "unmatched"]
TURNAROUNDS = [
    "client_n",
    *(f"client_{name}_ms" for name in ("p50", "p90", "p95", "p99", "max")),
]
TIMES = ["p50_ms", "p90_ms", "p95_ms", "p99_ms", "max_ms", "total_ms"]

BUSY = meibel_exchange(
    [
        called(100, "a", "search"),
        called(150, "b", "fetch"),
        returned(300, "a"),  # search, 200 ms
        returned(450, "b"),  # fetch, 300 ms
        called(500, "c", "search"),
        returned(600, "c", {"error": "no such page"}),  # search, 100 ms, failed
        called(610, "d", "fetch"),
        called(620, "d", "fetch"),  # supersedes
        returned(630, "d"),  # fetch, 10 ms
        called(700, "e", "slow"),
        returned(800, "nobody"),
        said(900, "Hello"),
    ],
    number=1,
)
SECOND = meibel_exchange(
    [called(100, "a", "search"), returned(400, "a")],  # search, 300 ms
    number=2,
    path="/v2/sessions/other/chat/stream",
)
STILL_OPEN = meibel_exchange(
    [called(100, "a", "search"), returned(9000, "a")], number=3, ended_ms=None
)


def tools(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of the report."""
    with Store.open(path) as store:
        rows: list[dict[str, Any]] = analytics.run(
            store, "tools", **options
        ).table.to_pylist()
    return rows


def counts(row: dict[str, Any]) -> list[Any]:
    """Return a row without its times."""
    return [row["group"], row["tool_name"], *(row[name] for name in COUNTS)]


def test_calls_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    """A call counts once under its status; a result without a call is not a call."""
    found = tools(store_with(tmp_path, [BUSY, SECOND, STILL_OPEN]))
    assert [counts(row) for row in found] == [
        ["all", "search", 3, 2, 1, 0, 0, 0],
        ["all", "fetch", 3, 2, 0, 0, 1, 0],
        ["all", "(no name)", 0, 0, 0, 0, 0, 1],
        ["all", "slow", 1, 0, 0, 1, 0, 0],
    ]


def test_times_are_those_of_answered_calls(tmp_path: Path) -> None:
    """Failed calls took their time as well; calls without a result have none."""
    found = tools(store_with(tmp_path, [BUSY, SECOND, STILL_OPEN]))
    times = {row["tool_name"]: [row[name] for name in TIMES] for row in found}
    assert times == {
        "search": pytest.approx([200, 280, 290, 298, 300, 600]),  # 100, 200, 300
        "fetch": pytest.approx([155, 271, 285.5, 297.1, 300, 310]),  # 10, 300
        "slow": [None] * 6,
        "(no name)": [None] * 6,
    }


def test_by_path_keeps_exchanges_apart(tmp_path: Path) -> None:
    """Each group lists its own tools, the one that took most time first."""
    found = tools(store_with(tmp_path, [BUSY, SECOND]), by="path")
    first, second = CHAT, "/v2/sessions/other/chat/stream"
    assert [(row["group"], row["tool_name"], row["total_ms"]) for row in found] == [
        (first, "fetch", 310),
        (first, "search", 300),
        (first, "(no name)", None),
        (first, "slow", None),
        (second, "search", 300),
    ]


def test_by_tool_groups_by_name(tmp_path: Path) -> None:
    """Grouped by tool, group and tool are the same."""
    found = tools(store_with(tmp_path, [BUSY, SECOND]), by="tool")
    assert [row["group"] for row in found] == ["(no name)", "fetch", "search", "slow"]
    assert all(row["group"] == row["tool_name"] for row in found)


def test_client_turnarounds_are_kept_apart(tmp_path: Path) -> None:
    """They have the client's time in them, and never mix with wire brackets."""
    store = cassette_with(tmp_path / "c.sse.jsonl", [*conversation(), BUSY])
    rows = {row["tool_name"]: row for row in tools(store)}
    assert list(rows)[:2] == ["search", "fetch"]  # 300 + 300, 310
    assert counts(rows["search"]) == ["all", "search", 5, 3, 1, 1, 0, 0]
    assert [rows["search"][name] for name in TIMES] == pytest.approx(
        [150, 190, 195, 199, 200, 300]  # 100, 200
    )
    assert [rows["search"][name] for name in TURNAROUNDS] == pytest.approx(
        [2, 150, 230, 240, 248, 250]  # 50, 250
    )
    assert [rows["fetch"][name] for name in TURNAROUNDS] == [None] * 6
    assert rows["(no name)"]["unmatched"] == 2
