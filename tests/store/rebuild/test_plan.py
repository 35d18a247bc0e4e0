"""The rules of a plan: nothing is written, and all that changes is in it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import called, exchange_id, meibel_exchange, said, store_with
from store.rebuild.rebuilding import SMALL, chance, recorded

from sse_recorder.dialects.base import Kind
from sse_recorder.store.rebuild.plan import (
    KINDS,
    Plan,
    Tally,
    kinds_of,
    refusal,
    rows_of,
)
from sse_recorder.store.rebuild.shelf import Shelf
from sse_recorder.store.segment import Layout, write_table
from sse_recorder.tables import SCHEMAS


def test_each_kind_has_a_letter_of_its_own() -> None:
    """So that the kinds of many frames are one short text."""
    letters = "".join(KINDS.values())
    assert len(set(letters)) == len(letters) == len(Kind)
    assert kinds_of(letters) == [kind.value for kind in Kind]


def test_what_an_exchange_has_in_earlier_segments_is_changed_there(
    tmp_path: Path,
) -> None:
    """The plan names each segment that has frames of it, with the kinds of those."""
    events = [said(20 + n, "x" * 500) for n in range(90)]
    root = recorded(tmp_path, [meibel_exchange(events)], chance(1), SMALL)
    layout, shelf = Layout(root), Shelf(tmp_path)
    counts = {}
    for name in layout.sealed_names():
        path = layout.table(name, "frames")
        rows = pq.read_table(path, partitioning=None).cast(SCHEMAS["frames"])
        counts[name] = rows.num_rows
        wrong = [row | {"kind": "other"} for row in rows.to_pylist()]
        write_table(path, "frames", [pa.Table.from_pylist(wrong, rows.schema)])
    assert len(counts) > 2
    plan = Plan(layout, shelf, Tally(), is_whole=True)
    for name in layout.sealed_names():
        plan.add(name)
    plan.pair()
    changes = {
        name: [shelf.get(place) for place in found.frames]
        for name, found in plan.changes.items()
    }
    letter = KINDS["text"]
    assert changes == {
        name: [[exchange_id(1), letter * count]]
        for name, count in counts.items()
        if count
    }
    shelf.close()


def test_rows_of_an_earlier_version_lack_columns_at_their_end(tmp_path: Path) -> None:
    """They are null."""
    events = [called(20, "a", "search")]
    root = store_with(tmp_path, [meibel_exchange(events)])
    (path,) = root.glob("tool_calls/*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["span_id"]), path)
    ((*_, span_id),) = rows_of(path, "tool_calls")
    assert span_id is None
    assert refusal(path, "tool_calls") is None
    assert list(rows_of(path, "tool_calls", ["nobody"])) == []


@pytest.mark.parametrize("change", ["columns", "version", "not one", "no file"])
def test_a_file_that_cannot_be_written_again_is_refused(
    tmp_path: Path, change: str
) -> None:
    """In words that name it."""
    root = store_with(tmp_path, [meibel_exchange()])
    (path,) = root.glob("frames/*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    match change:
        case "columns":
            pq.write_table(table.append_column("n", table.column("seq")), path)
        case "version":
            metadata = {b"sse_recorder.schema_version": b"9"}
            pq.write_table(table.replace_schema_metadata(metadata), path)
        case "not one":
            path.write_bytes(b"PAR1")
        case _:
            path.unlink()
    said = refusal(path, "frames")
    assert said is not None
    assert said.startswith(str(path))
    assert "\n" not in said
