"""Calls that a later request answered, against their first rows and that request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from samples import RECORDER, cassette_with, conversation, exchange_id

from sse_recorder.exchange import uuid7
from sse_recorder.store import cassette
from sse_recorder.store.segment import Layout, seal
from sse_recorder.store.store import Store
from sse_recorder.store.verify import Tally, verify
from sse_recorder.tables import SCHEMAS

Rows = list[dict[str, Any]]


def as_it_is(rows: Rows) -> Rows:
    """Change nothing."""
    return rows


def store(
    root: Path,
    told: Callable[[Rows], Rows] = as_it_is,
    own: Callable[[Rows], Rows] = as_it_is,
) -> Layout:
    """Seal each exchange in a segment of its own, with what its request tells.

    Args:
        root: where the store is to be.
        told: changes the rows that requests told of others' calls.
        own: changes the rows of exchanges' own calls.
    """
    root.mkdir()
    tables = cassette.read_rows(cassette_with(root / "c", conversation())).tables()
    calls = tables["tool_calls"].to_pylist()
    news = told([row for row in calls if row["timing"] == "cross_request"])
    calls = own([row for row in calls if row["timing"] != "cross_request"])
    layout = Layout(root)
    layout.make(layout.journals)
    for number in (11, 12, 13):
        eid = exchange_id(number)
        batches = {}
        for name, table in tables.items():
            rows = [row for row in table.to_pylist() if row["exchange_id"] == eid]
            if name == "tool_calls":
                rows = [row for row in calls if row["exchange_id"] == eid]
                rows += [row for row in news if row["result_exchange_id"] == eid]
            batches[name] = pa.Table.from_pylist(rows, SCHEMAS[name]).to_batches()
        seal(layout, f"{RECORDER}-{uuid7(number * 10**9)}", batches)
    (root / "c").unlink()
    return layout


def problems(layout: Layout) -> list[tuple[str, str]]:
    """Return what a verify finds, without who may read the files."""
    found = [f for f in verify(layout.root, Tally()) if not f.is_warning]
    return [(f.check, f.problem) for f in found]


def test_rows_that_agree_have_no_finding(tmp_path: Path) -> None:
    """Wherever they are; and readers see one row a call."""
    layout = store(tmp_path / "s")
    assert problems(layout) == []
    with Store.open(layout.root) as opened:
        rows = opened.sql("FROM tool_calls ORDER BY exchange_id, seq").to_pylist()
        calls = [c for n in (11, 12, 13) for c in opened.tool_calls(exchange_id(n))]
    assert [asdict(call) for call in calls] == rows
    assert [(r["tool_id"], r["status"], r["duration_ns"]) for r in rows] == [
        ("c1", "ok", 250_000_000),
        ("c2", "unanswered", None),
        ("c3", "ok", 50_000_000),
        ("c9", "unmatched", None),
    ]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("tool_name", "fetch", "call 0 is another one where it is answered"),
        ("arguments", "{}", "call 0 is another one where it is answered"),
        ("called_ns", 7, "call 0 is another one where it is answered"),
        ("span_id", "0", "call 0 is another one where it is answered"),
        ("seq", 1, "call 1 is another one where it is answered"),
        ("seq", 5, "call 5 is another one where it is answered"),
        ("result", "of c7", f"call 0 has a result that is not in {exchange_id(12)}"),
    ],
)
def test_a_row_that_tells_of_another_call_is_found(
    tmp_path: Path, name: str, value: object, problem: str
) -> None:
    """What a call was is what it was; its result is what the request brought."""

    def change(rows: Rows) -> Rows:
        return [row | {name: value} if row["tool_id"] == "c1" else row for row in rows]

    assert problems(store(tmp_path / "s", change)) == [("tool_calls", problem)]


def test_a_call_that_is_answered_twice_is_found(tmp_path: Path) -> None:
    """One request has answered it."""
    layout = store(tmp_path / "s", lambda rows: [*rows, rows[0]])
    assert ("tool_calls", "call 0 is answered twice") in problems(layout)


def test_an_answer_without_its_call_is_found(tmp_path: Path) -> None:
    """The exchange lacks the row, and the answer has nothing to be an answer to."""
    layout = store(tmp_path / "s", own=lambda rows: rows[1:])
    found = problems(layout)
    assert ("tool_calls", "call 0 is another one where it is answered") in found


def test_an_unmatched_result_is_behind_the_exchanges_own(tmp_path: Path) -> None:
    """Its number is no other call's."""

    def change(rows: Rows) -> Rows:
        return [row | {"seq": 0} if row["tool_id"] == "c9" else row for row in rows]

    found = problems(store(tmp_path / "s", change))
    assert ("tool_calls", "call 0 has the number of another one") in found


def test_of_a_store_that_is_damaged_no_more_is_said_than_is_sure(
    tmp_path: Path,
) -> None:
    """An answer whose call cannot be read may well be right."""
    layout = store(tmp_path / "s")
    first = layout.sealed_names()[0]
    layout.table(first, "tool_calls").write_bytes(b"PAR1")
    assert {check for check, _ in problems(layout)} == {"file"}


def test_a_cassette_is_read_as_a_store_is(tmp_path: Path) -> None:
    """What its requests answer is made when it is read."""
    path = cassette_with(tmp_path / "c.sse.jsonl", conversation())
    assert list(verify(path, Tally())) == []
