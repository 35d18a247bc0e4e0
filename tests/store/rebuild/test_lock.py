"""The rules of the lock: one rebuild at a time, and its files are left to it."""

from __future__ import annotations

from pathlib import Path

from store.rebuild.rebuilding import problems

from sse_recorder.store.rebuild.lock import (
    leftovers,
    only_one,
    remove_leftovers,
    unfinished,
)
from sse_recorder.store.recovery import recover
from sse_recorder.store.segment import Layout


def test_the_second_is_told_and_the_next_may(tmp_path: Path) -> None:
    """The lock ends with the block."""
    layout = Layout(tmp_path)
    with only_one(layout) as first, only_one(layout) as second:
        assert (first, second) == (True, False)
    with only_one(layout) as third:
        assert third


def test_files_of_a_living_rebuild_are_its_own(tmp_path: Path) -> None:
    """Those of one that was killed are found, told by `verify`, and removed."""
    layout = Layout(tmp_path)
    layout.make(layout.journals)
    path = unfinished(layout, "r-01936a3e-8c00-7abc-9def-0123456789ab", "frames")
    path.touch(mode=0o600)
    with only_one(layout):
        assert leftovers(layout) == []
        remove_leftovers(layout)
        recover(tmp_path)
        assert path.exists()
        assert problems(tmp_path) == []
    assert leftovers(layout) == [path]
    assert problems(tmp_path) == ["leftover: the rebuild that wrote it was killed"]
    remove_leftovers(layout)
    assert not path.exists()


def test_a_recovery_removes_what_a_killed_rebuild_left(tmp_path: Path) -> None:
    """As the next recorder does when it starts."""
    layout = Layout(tmp_path)
    layout.make(layout.journals)
    path = unfinished(layout, "r-01936a3e-8c00-7abc-9def-0123456789ab", "frames")
    path.touch(mode=0o600)
    assert recover(tmp_path) == []
    assert not path.exists()
