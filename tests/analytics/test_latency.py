"""The latency report, on exchanges whose numbers can be worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest
from samples import (
    called,
    event,
    finished,
    meibel_exchange,
    returned,
    rows_of,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.exchange import Record
from sse_recorder.store.store import Store

MEASURES = ["ttfb", "ttfe", "ttfc", "gap", "tool", "tool_union", "non_tool", "e2e"]

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
        # 100 → 150 → 600 → 800 → 850 in the one, 140 → 200 in the other
        ("all", "gap"): pytest.approx([5, 60, 350, 400, 440, 450]),
        ("all", "tool"): pytest.approx([3, 200, 240, 245, 249, 250]),
        # 100 to 400 and 600 to 700
        ("all", "tool_union"): pytest.approx([1, 400, 400, 400, 400, 400]),
        ("all", "non_tool"): pytest.approx([2, 450, 570, 585, 597, 600]),  # 300, 600
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
    assert [found["all", measure][0] for measure in MEASURES] == [0] * 6 + [1, 1]
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


def test_the_file_runs_in_plain_duckdb() -> None:
    """Anyone with the tables can run the file as it is, and group with a variable."""
    connection = duckdb.connect()
    for table, rows in _tables(WITH_TOOLS).items():
        connection.register(f"{table}_ns", rows)
        star = "* REPLACE (started_at::TIMESTAMPTZ AS started_at)"
        columns = star if table == "exchanges" else "*"
        connection.view(f"{table}_ns").project(columns).create_view(table)
    text = Path(str(analytics.__file__)).with_name("latency.sql").read_text("utf-8")
    groups = []
    for setting in ("", *re.findall(r'SET VARIABLE "by" = .*?;', text)):
        rows = connection.sql(setting + text).fetchall()
        assert [row[1] for row in rows] == MEASURES
        groups.append(rows[0][0])
    connection.close()
    assert groups == ["all", "(none)"]


def _tables(records: list[Record]) -> dict[str, Any]:
    return rows_of(records)[1].tables()
