"""The rules of writing a segment again: the same recording, or nothing at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from samples import exchange_id, meibel_exchange, said, store_with
from store.rebuild.rebuilding import inodes, stored

from sse_recorder.store.rebuild.files import _are_same, rewrite
from sse_recorder.store.rebuild.plan import KINDS, Changes
from sse_recorder.store.rebuild.shelf import Shelf
from sse_recorder.store.segment import Layout, write_table
from sse_recorder.tables import SCHEMAS

COUNT = 5


def root_with(folder: Path) -> tuple[Path, Layout, str]:
    """Return a store with one segment, and its name."""
    events = [said(20 + n, f"{n}") for n in range(COUNT)]
    root = store_with(
        folder, [meibel_exchange(events), meibel_exchange(events, number=2)]
    )
    layout = Layout(root)
    (name,) = layout.sealed_names()
    return root, layout, name


def test_what_is_not_in_the_changes_stays(tmp_path: Path) -> None:
    """The rows of others, and the files of other tables."""
    root, layout, name = root_with(tmp_path)
    before, there = stored(root), inodes(root)
    shelf = Shelf(tmp_path)
    changes = Changes()
    letters = KINDS["status"] * (COUNT - 1) + KINDS["text"]
    changes.frames.append(shelf.put((exchange_id(2), letters)))
    changes.exchanges.append(shelf.put((exchange_id(2), {"model": "m"})))
    rewrite(layout, name, changes, shelf)
    shelf.close()
    after = stored(root)
    assert [row["kind"] for row in after["frames"]] == (
        ["text"] * COUNT + ["status"] * (COUNT - 1) + ["text"]
    )
    assert [row["model"] for row in after["exchanges"]] == [None, "m"]
    for table in ("frames", "exchanges"):
        for one, other in zip(before[table], after[table], strict=True):
            told = {"kind", "model"}
            assert {k: v for k, v in one.items() if k not in told} == {
                k: v for k, v in other.items() if k not in told
            }
    changed = {path for path, inode in inodes(root).items() if there[path] != inode}
    assert {path.partition("/")[0] for path in changed} == {"frames", "exchanges"}


def test_tool_calls_are_changed_dropped_and_added(tmp_path: Path) -> None:
    """They stay in the order of their exchanges and numbers."""
    root, layout, name = root_with(tmp_path)
    row: dict[str, object] = dict.fromkeys(SCHEMAS["tool_calls"].names)
    row |= {"status": "ok", "timing": "wire_bracket"}
    rows = [
        row | {"exchange_id": exchange_id(n), "seq": s} for n, s in [(1, 0), (2, 3)]
    ]
    table = pa.Table.from_pylist(rows, SCHEMAS["tool_calls"])
    write_table(layout.table(name, "tool_calls"), "tool_calls", [table])
    shelf, changes = Shelf(tmp_path), Changes()
    told = row | {"exchange_id": exchange_id(2), "seq": 3, "timing": "cross_request"}
    for edit in (
        (exchange_id(1), 0, False, None),
        (exchange_id(2), 3, True, tuple(told.values())),
        (exchange_id(2), 1, False, tuple((rows[1] | {"seq": 1}).values())),
    ):
        changes.tool_calls.append(shelf.put(edit))
    rewrite(layout, name, changes, shelf)
    shelf.close()
    assert [(r["seq"], r["timing"]) for r in stored(root)["tool_calls"]] == [
        (1, "wire_bracket"),
        (3, "cross_request"),
        (3, "wire_bracket"),
    ]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither in place of the old files nor beside them."""
    root, layout, name = root_with(tmp_path)
    there = inodes(root)
    shelf, changes = Shelf(tmp_path), Changes()
    changes.frames.append(shelf.put((exchange_id(1), KINDS["text"])))  # too few of them
    with pytest.raises(RuntimeError):
        rewrite(layout, name, changes, shelf)
    shelf.close()
    assert inodes(root) == there


def table_of(size: int, *, data: str = "x") -> pa.Table:
    """Return frames, the last of which says something else."""
    rows = [{"seq": n, "data": "x", "kind": "text"} for n in range(size)]
    rows[-1]["data"] = data
    return pa.Table.from_pylist(rows, SCHEMAS["frames"])


@pytest.mark.parametrize(
    ("new", "is_same"),
    [
        ([table_of(60_000)], True),
        ([table_of(60_000, data="y")], False),
        ([table_of(60_001)], False),
        ([table_of(59_999)], False),
        ([table_of(60_000).slice(0, 0)], False),
    ],
    ids=["same", "other", "more", "less", "none"],
)
def test_files_are_held_against_each_other_to_their_ends(
    tmp_path: Path, new: list[pa.Table], *, is_same: bool
) -> None:
    """However the old one is cut into row groups."""
    paths = tmp_path / "old.parquet", tmp_path / "new.parquet"
    pq.write_table(table_of(60_000), paths[0], row_group_size=10**6)
    write_table(paths[1], "frames", new)
    assert _are_same(*paths, ["seq", "data"]) is is_same
    assert _are_same(*paths, ["exchange_id"]) is (new[0].num_rows == 60_000)
