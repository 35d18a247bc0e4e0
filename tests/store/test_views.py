"""The derived views: what they are made of, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import called, exchange_id, meibel_exchange, returned, said, store_with

from sse_recorder.store import views
from sse_recorder.store.store import Store

NAMES = ["gaps", "tool_time", "timings", "stalls", "grouped"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one exchange."""
    events = [called(10, "t", "search"), returned(30, "t"), said(50, "Hi")]
    return store_with(tmp_path, [meibel_exchange(events)])


def test_each_view_of_the_file_is_found() -> None:
    """None is missed because its comment is not like the others."""
    assert list(views.views()) == NAMES
    assert views.script().count("CREATE OR REPLACE VIEW") == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_column_is_explained(root: Path, name: str) -> None:
    """A view says what its rows and its own columns are, and of no others."""
    view = views.views()[name]
    with Store.open(root) as store:
        columns = store.sql(f"FROM {name}").column_names
        inherited = store.sql("FROM exchanges").column_names
    own = columns if name != "grouped" else set(columns).difference(inherited)
    assert set(own) == set(view.columns)
    assert len(view.meaning) > 20


def test_views_are_made_when_a_query_names_one(root: Path) -> None:
    """And follow what is recorded since."""
    with Store.open(root) as store:
        known = "SELECT count(*) FROM duckdb_views() WHERE view_name = 'gap' || 's'"
        assert store.sql(known).column(0).to_pylist() == [0]
        assert store.sql("SELECT gap_ns FROM Gaps").column(0).to_pylist() == [
            40_000_000
        ]
        assert store.sql(known).column(0).to_pylist() == [1]
        store.refresh()
        assert store.sql("SELECT e2e_ns FROM timings").num_rows == 1


def scans(plan: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give what is said of each reading of a file in a plan."""
    for step in plan:
        if "PARQUET" in step["name"]:
            yield step["extra_info"]
        yield from scans(step["children"])


@pytest.mark.parametrize("name", NAMES)
def test_a_view_of_one_exchange_reads_no_other(tmp_path: Path, name: str) -> None:
    """The condition reaches every file that is read, however large the store."""
    events = [called(10, "t", "search"), returned(30, "t"), said(50, "Hi")]
    both = [meibel_exchange(events, number=number) for number in (1, 2)]
    eid, root = exchange_id(1), store_with(tmp_path, both)
    with Store.open(root) as store:
        query = f"EXPLAIN (FORMAT json) FROM {name} WHERE exchange_id = '{eid}'"
        [plan] = store.sql(query).column("explain_value").to_pylist()
    found = list(scans(json.loads(plan)))
    assert found
    assert [scan for scan in found if eid not in str(scan.get("Filters"))] == []
