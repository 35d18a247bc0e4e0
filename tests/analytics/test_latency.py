"""The latency report, on exchanges whose numbers can be worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import (
    Event,
    called,
    event,
    finished,
    meibel_exchange,
    plain_exchange,
    returned,
    rows_of,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.store.store import Store

MEASURES = [
    *("ttfb", "ttfe", "ttfc", "ttfo", "gap", "read_gap", "per_token"),
    *("tool", "tool_union", "non_tool", "close", "e2e"),
]

WITH_TOOLS = meibel_exchange(
    [
        event(20, "connected", {"signal_id": "s"}),
        called(100, "a", "search"),
        called(150, "b", "fetch"),
        returned(300, "a"),  # 200 ms
        returned(400, "b"),  # 250 ms, of which 150 ms beside a
        called(600, "c", "search"),
        returned(700, "c", {"error": "no such page"}),  # 100 ms
        said(800, "Hello"),
        called(850, "d", "slow"),
        returned(900, "nobody"),
        finished(950),
    ],
    number=1,
    sent_ms=1,
    headers_ms=11,
    ended_ms=1000,
)
WITHOUT_TOOLS = meibel_exchange(
    [
        event(40, "connected", {"signal_id": "s"}),
        said(140, "Hello"),
        event(150, "status", {"content": "thinking"}),
        said(200, "Hello, you"),
        finished(290),
    ],
    number=2,
    sent_ms=2,
    headers_ms=32,
    ended_ms=300,
)
STILL_OPEN = meibel_exchange([said(5000, "?")], number=3, ended_ms=None)


def latency(path: Path, **options: Any) -> dict[tuple[str, str], list[float | None]]:
    """Return the report: n, p50, p90, p95, p99 and max by group and measure."""
    with Store.open(path) as store:
        rows = analytics.run(store, "latency", **options).table.to_pylist()
    return {(row["group"], row["measure"]): list(row.values())[2:] for row in rows}


def union_and_rest(path: Path) -> tuple[float | None, float | None]:
    """Return the tool union and the other time of a store's only exchange."""
    found = latency(path)
    return found["all", "tool_union"][-1], found["all", "non_tool"][-1]


def test_every_measure_has_its_percentiles(tmp_path: Path) -> None:
    """Percentiles are exact, and an exchange that is still open does not count."""
    found = latency(store_with(tmp_path, [WITH_TOOLS, WITHOUT_TOOLS, STILL_OPEN]))
    assert found == {
        ("all", "ttfb"): pytest.approx([2, 20, 28, 29, 29.8, 30]),  # 10, 30
        ("all", "ttfe"): pytest.approx([2, 30, 38, 39, 39.8, 40]),  # 20, 40
        ("all", "ttfc"): pytest.approx([2, 120, 136, 138, 139.6, 140]),  # 100, 140
        ("all", "ttfo"): pytest.approx([2, 470, 734, 767, 793.4, 800]),  # 800, 140
        # 100 → 150 → 600 → 800 → 850 in the one, 140 → 200 in the other
        ("all", "gap"): pytest.approx([5, 60, 350, 400, 440, 450]),
        ("all", "read_gap"): pytest.approx([5, 60, 350, 400, 440, 450]),
        ("all", "per_token"): [0, *[None] * 5],
        ("all", "tool"): pytest.approx([3, 200, 240, 245, 249, 250]),
        # 100 to 400 and 600 to 700
        ("all", "tool_union"): pytest.approx([1, 400, 400, 400, 400, 400]),
        ("all", "non_tool"): pytest.approx([2, 450, 570, 585, 597, 600]),  # 300, 600
        ("all", "close"): pytest.approx([2, 30, 46, 48, 49.6, 50]),  # 50, 10
        ("all", "e2e"): pytest.approx([2, 650, 930, 965, 993, 1000]),  # 300, 1000
    }


def test_measures_come_in_the_order_of_a_stream(tmp_path: Path) -> None:
    """Rows are sorted by group, and in it from the first byte to the end."""
    other = meibel_exchange(number=4, path="/a")
    root = store_with(tmp_path, [WITHOUT_TOOLS, other])
    found = latency(root, by="path")
    paths = ["/a", "/v2/sessions/0193a0c4/chat/stream"]
    assert list(found) == [(path, measure) for path in paths for measure in MEASURES]


def test_what_never_happened_counts_nothing(tmp_path: Path) -> None:
    """An exchange without head, event or tool has an end and nothing else."""
    records = [r for r in meibel_exchange(ended_ms=70) if r.op.name in {"OPEN", "END"}]
    found = latency(store_with(tmp_path, [records]))
    assert [found["all", measure][0] for measure in MEASURES] == [0] * 9 + [1, 0, 1]
    assert found["all", "ttfb"] == [0, None, None, None, None, None]
    assert found["all", "non_tool"] == found["all", "e2e"] == [1, 70, 70, 70, 70, 70]


@pytest.mark.parametrize(
    ("spans", "union"),
    [
        pytest.param([(100, 500), (200, 300)], 400, id="one inside another"),
        pytest.param([(100, 500), (200, 300), (400, 600)], 500, id="after one inside"),
        pytest.param([(100, 200), (200, 300)], 200, id="end to end"),
        pytest.param([(100, 200), (100, 200)], 100, id="the same"),
        pytest.param([(100, 200), (400, 500)], 200, id="apart"),
        pytest.param([(100, 100)], 0, id="in one read"),
    ],
)
def test_the_union_counts_a_moment_once(
    tmp_path: Path, spans: list[tuple[int, int]], union: int
) -> None:
    """Time in which several tools ran is tool time once."""
    events = []
    for number, (call_ms, result_ms) in enumerate(spans):
        events.append(called(call_ms, f"t{number}", "search"))
        events.append(returned(result_ms, f"t{number}"))
    records = meibel_exchange(sorted(events, key=lambda e: e.at_ms), ended_ms=1000)
    assert union_and_rest(store_with(tmp_path, [records])) == (union, 1000 - union)


def test_a_call_without_a_result_is_no_tool_time(tmp_path: Path) -> None:
    """Superseded and unanswered calls have no end of their own to count to."""
    records = meibel_exchange(
        [
            called(100, "a", "search"),
            called(300, "a", "search"),  # supersedes
            returned(400, "a"),
            called(500, "b", "search"),
        ]
    )
    root = store_with(tmp_path, [records])
    assert latency(root)["all", "tool"] == [1, 100, 100, 100, 100, 100]
    assert union_and_rest(root) == (100, 900)


def test_frames_between_are_no_content() -> None:
    """A gap reaches over results, status and comments to the next content."""
    kinds = [frame[12] for frame in rows_of(WITHOUT_TOOLS)[1].frames]
    assert kinds == ["connected", "text", "status", "text", "finish"]


def test_frames_of_one_read_have_a_gap_of_0_and_none_between_reads(
    tmp_path: Path,
) -> None:
    """By frame, what a read brought together came at once; by read it counts once."""
    records = meibel_exchange(
        [said(100, "a"), said(100, "ab"), said(100, "abc"), said(160, "abcd")]
    )
    found = latency(store_with(tmp_path, [records]))
    assert found["all", "gap"] == pytest.approx([3, 0, 48, 54, 58.8, 60])
    assert found["all", "read_gap"] == pytest.approx([1, *[60] * 5])


@pytest.mark.parametrize(("tokens", "per_token"), [(4, 200), (2, 600), (1, None)])
def test_time_per_token_is_of_the_tokens_after_the_first(
    tmp_path: Path, tokens: int, per_token: float | None
) -> None:
    """The first one ends the time to first content; one alone has nothing after it."""
    chunk = '{"choices": [{"index": 0, "delta": {"content": "hi"}}]}'
    usage = f'{{"choices": [], "usage": {{"completion_tokens": {tokens}}}}}'
    events = [Event(100, None, chunk), Event(700, None, chunk), Event(750, None, usage)]
    records = meibel_exchange(events, path="/v1/chat/completions")
    found = latency(store_with(tmp_path, [records]))
    assert found["all", "per_token"][-1] == per_token


def test_what_came_at_once_has_no_time_per_token(tmp_path: Path) -> None:
    """An answer that is no stream was not made in no time."""
    words = '"choices": [{"index": 0, "message": {"content": "hi"}}]'
    usage = '"usage": {"completion_tokens": 50}'
    answer = plain_exchange(700, f"{{{words}, {usage}}}", path="/v1/chat/completions")
    found = latency(store_with(tmp_path, [answer]))
    assert found["all", "ttfo"][-1] == 700
    assert found["all", "per_token"] == [0, *[None] * 5]


def test_by_tool_the_calls_are_those_of_the_tool(tmp_path: Path) -> None:
    """An exchange counts for each tool that it called, and a call for its own."""
    found = latency(store_with(tmp_path, [WITH_TOOLS, WITHOUT_TOOLS]), by="tool")
    assert {group: found[group, "e2e"][-1] for group, _ in found} == {
        "search": 1000,
        "fetch": 1000,
        "slow": 1000,
        "(no name)": 1000,  # a result without a call
        "(none)": 300,
    }
    assert found["search", "tool"] == pytest.approx([2, 150, 190, 195, 199, 200])
    assert found["fetch", "tool"] == [1, *[250] * 5]
    assert found["slow", "tool"][0] == found["(none)", "tool"][0] == 0
