"""The stalls report, on exchanges whose silences can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import (
    Event,
    called,
    event,
    exchange_id,
    finished,
    meibel_exchange,
    plain_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.exchange import Opening, Outcome, RequestHead
from sse_recorder.store.store import Store

# 3 s to the first content, 2.5 s within the text, 4 s of a tool, 6 s after it.
BUSY = meibel_exchange(
    [
        event(100, "connected", {"signal_id": "s"}),
        event(1500, "status", {"content": "thinking"}),
        said(3000, "a"),
        said(4000, "ab"),
        said(6500, "abc"),
        called(7000, "t", "search"),
        event(9000, "status", {"content": "searching"}),
        returned(11_000, "t"),
        said(17_000, "abcd"),
        finished(17_500),
    ],
    number=1,
    ended_ms=30_000,  # it said that it was over 12.5 s before
)
# 1 s to the first content, then 40 s of comments until the client gave up.
HUNG = meibel_exchange(
    [
        said(1000, "a"),
        *(event(1000 + n, "keepalive", {}) for n in range(1, 30_000, 9999)),
    ],
    number=2,
    ended_ms=41_000,
    outcome=Outcome.CLIENT_ABORT,
    path="/v2/sessions/other/chat/stream",
)
STILL_OPEN = meibel_exchange([said(9000, "a")], number=3, ended_ms=None)


def stalls(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of the report."""
    with Store.open(path) as store:
        rows: list[dict[str, Any]] = analytics.run(
            store, "stalls", **options
        ).table.to_pylist()
    return rows


def silences(path: Path) -> list[tuple[float, float, str]]:
    """Return the silences of a store: their begins and ends in ms, and their states."""
    with Store.open(path) as store:
        table = store.sql(
            "SELECT begin_ns / 1e6 AS a, end_ns / 1e6 AS b, state FROM stalls"
            " ORDER BY ALL"
        )
    return [(row["a"], row["b"], row["state"]) for row in table.to_pylist()]


def test_each_state_has_its_silences(tmp_path: Path) -> None:
    """A row a state: how many, how long, and in what share of the exchanges."""
    found = stalls(store_with(tmp_path, [BUSY, HUNG, STILL_OPEN]))
    names = ("state", "n", "major", "exchanges", "share_pct", "total_ms")
    assert [tuple(row[name] for name in names) for row in found] == [
        ("awaiting_first", 1, 0, 1, 50, 3000),
        ("generating", 2, 1, 2, 100, 42_500),  # 2.5 s, 40 s
        ("after_tool", 1, 0, 1, 50, 6000),
        ("tool_running", 1, 0, 1, 50, 4000),
    ]
    generating = found[1]
    assert [
        generating[f"{name}_ms"] for name in ("p50", "p90", "p95", "p99", "max")
    ] == pytest.approx([21_250, 36_250, 38_125, 39_625, 40_000])
    assert generating["worst"] == exchange_id(2)


def test_by_path_a_share_is_of_the_group(tmp_path: Path) -> None:
    """Groups have their own exchanges, and their own states alone."""
    found = stalls(store_with(tmp_path, [BUSY, HUNG]), by="path")
    assert [(row["group"][13:18], row["state"], row["share_pct"]) for row in found] == [
        *(
            ("0193a", state, 100)
            for state in ("awaiting_first", "generating", "after_tool", "tool_running")
        ),
        ("other", "generating", 100),
    ]


def test_how_long_a_stall_is_can_be_said(tmp_path: Path) -> None:
    """What is exactly as long is none yet."""
    root = store_with(tmp_path, [BUSY])
    found = stalls(root, over_ns=2_500_000_000)
    assert [row["state"] for row in found] == [
        *("awaiting_first", "after_tool", "tool_running")
    ]
    found = stalls(root, over_ns=900_000_000)
    assert found[1]["n"] == 2  # 3000 → 4000 and 4000 → 6500


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([], [(0, 9000, "awaiting_first")], id="nothing ever came"),
        pytest.param(
            [event(10, "connected", {}), event(5000, "status", {})],
            [(0, 9000, "awaiting_first")],
            id="status is no progress",
        ),
        pytest.param(
            [said(10, "a"), called(20, "t", "f")],
            [(20, 9000, "tool_running")],
            id="a tool that never answered",
        ),
        pytest.param(
            [called(10, "a", "f"), called(20, "b", "f"), returned(3000, "a")],
            [(20, 3000, "tool_running"), (3000, 9000, "tool_running")],
            id="the other tool is open still",
        ),
        pytest.param(
            [called(10, "a", "f"), returned(20, "a"), said(8000, "x"), finished(8001)],
            [(20, 8000, "after_tool")],
            id="after a tool",
        ),
        pytest.param(
            [said(10, "x"), event(20, "error", {"message": "boom"})],
            [],
            id="an error says that it is over",
        ),
    ],
)
def test_the_state_is_what_was_waited_for(
    tmp_path: Path, events: list[Event], expected: list[tuple[float, float, str]]
) -> None:
    """The state follows from what was open and what came last."""
    records = meibel_exchange(events, ended_ms=9000, outcome=Outcome.TIMEOUT)
    assert silences(store_with(tmp_path, [records])) == expected


def test_a_plain_answer_has_no_silences(tmp_path: Path) -> None:
    """What is not a stream was not silent: it was not ready."""
    root = store_with(tmp_path, [plain_exchange(5000, "{}")])
    with Store.open(root) as store:
        assert store.sql("SELECT type FROM frames").column(0).to_pylist() == ["body"]
    assert silences(root) == []


def test_a_client_that_runs_the_tool_is_no_stall_of_it(tmp_path: Path) -> None:
    """A stream that ended as it should leaves its calls to the client."""
    call = '{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}'
    events = [
        Event(
            10, None, f'{{"choices":[{{"index":0,"delta":{{"tool_calls":[{call}]}}}}]}}'
        ),
        Event(
            5000,
            None,
            '{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
        ),
        Event(5001, None, "[DONE]"),
    ]
    records = meibel_exchange(events, path="/v1/chat/completions", ended_ms=9000)
    assert silences(store_with(tmp_path, [records])) == [(10, 5000, "generating")]


def test_a_stream_that_only_listens_is_not_silent(tmp_path: Path) -> None:
    """MCP's GET has what the server may want to say, if ever."""
    notice = '{"jsonrpc":"2.0","method":"notifications/message"}'
    records = meibel_exchange(
        [Event(10, "message", notice)], path="/mcp", ended_ms=9000
    )
    opening = records[0].payload
    assert isinstance(opening, Opening)
    heard = replace(opening, request=RequestHead("GET", "/mcp"))
    root = store_with(tmp_path, [[records[0]._replace(payload=heard), *records[2:]]])
    with Store.open(root) as store:
        assert store.sql("SELECT dialect FROM exchanges").column(0).to_pylist() == [
            "mcp"
        ]
    assert silences(root) == []
    posted = meibel_exchange([Event(10, "message", notice)], path="/mcp", ended_ms=9000)
    assert silences(store_with(tmp_path / "post", [posted])) == [
        (0, 9000, "awaiting_first")
    ]
