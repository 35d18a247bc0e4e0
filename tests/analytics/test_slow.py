"""The slow report, on exchanges whose parts can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from samples import (
    Event,
    called,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.exchange import Outcome, Record
from sse_recorder.store.store import Store


def answer(
    number: int,
    *,
    first: float = 100,
    tool: float = 200,
    text: Sequence[float] = (50, 50),
    close: float = 10,
    path: str = "/v2/sessions/a/chat/stream",
) -> list[Record]:
    """Return an answer by how many ms each of its parts takes: usually 410 in all."""
    at = first
    events: list[Event] = [called(at, "t", "search")]
    at += tool
    events.append(returned(at, "t"))
    for n, wait in enumerate(text):
        at += wait
        events.append(said(at, "x" * (n + 1)))
    events.append(finished(at))
    return meibel_exchange(events, number=number, ended_ms=at + close, path=path)


USUAL = [answer(number) for number in range(1, 40)]


def slow(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of the report."""
    with Store.open(path) as store:
        rows: list[dict[str, Any]] = analytics.run(
            store, "slow", **options
        ).table.to_pylist()
    return rows


@pytest.mark.parametrize(
    ("changed", "reason", "took", "usual"),
    [
        ({"first": 900}, "first content", 900, 100),
        ({"tool": 5000}, "tool search", 5000, 200),
        ({"text": [400] * 5}, "streaming", 2000, 100),
        ({"text": [50, 3000]}, "after_tool stall", 3050, 100),
        ({"text": [50, 50, 3000]}, "generating stall", 3100, 100),
        ({"close": 700}, "close", 700, 10),
    ],
)
def test_the_part_that_took_longer_than_usual_is_the_reason(
    tmp_path: Path, changed: dict[str, Any], reason: str, took: float, usual: float
) -> None:
    """Each part is held against its median in the group."""
    if reason == "after_tool stall":
        changed = {"text": [3000, 50]}
    odd = answer(99, **changed)
    [row] = slow(store_with(tmp_path, [*USUAL, odd]))
    found = {name: row[name] for name in ("reason", "took_ms", "usual_ms", "n")}
    assert found == {"reason": reason, "took_ms": took, "usual_ms": usual, "n": 40}
    assert row["exchange_id"] == exchange_id(99)
    assert row["over_ms"] == row["e2e_ms"] - 410 == took - usual


def test_an_exchange_that_hung_is_slow_by_its_stall(tmp_path: Path) -> None:
    """What never said that it was over has no close: the wait is a stall."""
    hung = meibel_exchange(
        [said(100, "a")], number=99, ended_ms=40_000, outcome=Outcome.TIMEOUT
    )
    [row] = slow(store_with(tmp_path, [*USUAL, hung]))
    assert (row["reason"], row["took_ms"]) == ("generating stall", 39_900)


def test_the_slowest_come_first_and_are_limited(tmp_path: Path) -> None:
    """Those that took longer than 95 in 100, at most as many as are asked for."""
    odd = [answer(100 + n, first=1000 * n) for n in range(1, 4)]
    root = store_with(
        tmp_path, [*USUAL, *odd]
    )  # 42: p95 is between the 3rd and the 4th
    assert [row["exchange_id"] for row in slow(root)] == [
        exchange_id(n) for n in (103, 102, 101)
    ]
    assert [row["over_ms"] for row in slow(root, limit=2)] == [2900, 1900]


def test_what_is_usual_is_of_the_group(tmp_path: Path) -> None:
    """An exchange that is slow among all may be usual among its like."""
    long = "/v2/sessions/b/chat/stream"
    others = [answer(100 + n, first=5000, path=long) for n in range(5)]
    odd = answer(200, first=6000, path=long)
    root = store_with(tmp_path, [*USUAL, *others, odd])
    assert len(slow(root)) == 6  # p95 of the 45 is 5,310, which all of these took
    [row] = slow(root, by="path")
    assert (row["exchange_id"], row["over_ms"]) == (exchange_id(200), 1000)


def test_equals_have_nothing_slow_among_them(tmp_path: Path) -> None:
    """No exchange is slower than usual where all are alike; nor is the only one."""
    assert slow(store_with(tmp_path, USUAL)) == []
    assert slow(store_with(tmp_path / "one", USUAL[:1])) == []
