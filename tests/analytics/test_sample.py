"""What is compared of exchanges, on a small store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import (
    called,
    event,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder.analytics.limits import limit
from sse_recorder.analytics.sample import Row, Sample, grouped, numbers, sample
from sse_recorder.exchange import Outcome, ResponseHead
from sse_recorder.store.store import Store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exchanges: one with tools, one that broke, one that is open."""
    return store_with(
        tmp_path_factory.mktemp("compare"),
        [
            meibel_exchange(
                [
                    event(20, "connected", {"signal_id": "s"}),
                    called(100, "a", "search"),
                    called(150, "b", "fetch"),
                    returned(300, "a"),
                    returned(400, "b", {"error": "no"}),
                    called(500, "c", "search"),
                    said(600, "Hi"),
                    finished(900),
                ],
                headers_ms=11,
            ),
            meibel_exchange(
                number=2, path="/b/chat", ended_ms=70, outcome=Outcome.TIMEOUT
            ),
            meibel_exchange([said(5000, "?")], number=3, ended_ms=None),
        ],
    )


def test_numbers_are_those_of_the_reports(root: Path) -> None:
    """In milliseconds; an exchange that is still open does not count."""
    with Store.open(root) as store:
        first, second = map(dict, numbers(store))
    tools = sorted(first.pop("tools"), key=lambda tool: (tool["name"], tool["ms"] or 0))
    assert tools == [
        {"name": "fetch", "ms": 250, "failed": True},
        {"name": "search", "ms": None, "failed": None},
        {"name": "search", "ms": 200, "failed": False},
    ]
    assert sorted(first["gaps"]) == [50, 100, 350]
    assert {k: v for k, v in first.items() if k not in {"gaps", "path"}} == {
        "dialect": "meibel",
        "model": "(none)",
        "is_error": False,
        "ttfb": 10,
        "ttfe": 20,
        "ttfc": 100,
        "e2e": 1000,
        "input_tokens": None,
        "output_tokens": None,
    }
    assert second["path"] == "/b/chat"
    assert second["is_error"]
    assert (second["gaps"], second["tools"], second["ttfc"]) == ([], [], None)


def test_numbers_can_be_of_some_exchanges_and_without_gaps(root: Path) -> None:
    """A condition chooses, and frames are read only where they are needed."""
    with Store.open(root) as store:
        found = numbers(store, where="outcome = 'complete'", with_gaps=False)
    assert [(item["e2e"], item["gaps"]) for item in found] == [(1000, [])]


@pytest.mark.parametrize(
    ("status", "is_error"), [(200, False), (304, False), (429, True)]
)
def test_a_refusal_is_an_error(tmp_path: Path, status: int, is_error: bool) -> None:  # noqa: FBT001 - expected
    """What was answered whole, but with a status from 400 on, did not go well."""
    records = [
        record._replace(payload=replace(record.payload, status=status))
        if isinstance(record.payload, ResponseHead)
        else record
        for record in meibel_exchange()
    ]
    with Store.open(store_with(tmp_path, [records])) as store:
        assert [item["is_error"] for item in numbers(store)] == [is_error]


TOOLS = [
    {"name": "a", "ms": 10.0, "failed": False},
    {"name": "b", "ms": None, "failed": None},
]


def row(**known: Any) -> Row:
    """Return the numbers of an exchange that went well."""
    times = dict.fromkeys(("ttfb", "ttfc", "e2e", "input_tokens"))
    return {**times, "is_error": False, "gaps": [], "tools": [], "model": "m", **known}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e2e_p50=1s", Sample([[9.0]], exchanges=3, failed=1, lacking=2)),
        ("ttfb_p50=1s", Sample([[0]], exchanges=3, failed=1, lacking=2)),
        ("calls_p50=1", Sample([[2], [0]], exchanges=3, failed=1, lacking=1)),
        ("tool_p50=1s", Sample([[10.0]], exchanges=3, failed=1, lacking=1)),
        ("gap_p50=1s", Sample([[1, 2]], exchanges=3, failed=1, lacking=1)),
        ("errors=1%", Sample([[0], [0], [1]], exchanges=3, failed=0, lacking=0)),
        ("tool_errors=1%", Sample([[0]], exchanges=3, failed=0, lacking=0)),
    ],
)
def test_what_has_no_value_is_counted(text: str, expected: Sample) -> None:
    """Errors have values of the shares alone; gaps and tools are what one may have."""
    rows = [
        row(e2e=9.0, ttfb=-0.5, gaps=[1, 2], tools=TOOLS),
        row(),
        row(e2e=1.0, ttfb=1.0, is_error=True, gaps=[3]),
    ]
    assert sample(limit(text), rows) == expected


def test_an_exchange_is_in_the_group_of_each_of_its_tools() -> None:
    """With the calls of that tool; otherwise in one alone."""
    rows = [row(tools=TOOLS), row(model="n")]
    assert {k: [r["tools"] for r in v] for k, v in grouped(rows, "tool").items()} == {
        "a": [TOOLS[:1]],
        "b": [TOOLS[1:]],
    }
    assert list(grouped(rows, "model")) == ["m", "n"]
    assert grouped(rows, None) == {"all": rows}
