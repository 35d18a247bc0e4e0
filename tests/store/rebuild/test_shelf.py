"""The rules of the shelf: what was put away is there, however much it is."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from sse_recorder.errors import StoreError
from sse_recorder.store.rebuild.shelf import MEMORY_MAX, Shelf


def test_values_are_fetched_by_their_places_in_any_order(tmp_path: Path) -> None:
    """Between others that are put away; half a surrogate pair and lines are kept."""
    shelf = Shelf(tmp_path)
    first = shelf.put(["a\nb", None, {"n": 2**63}])
    second = shelf.put("\ud800")
    assert shelf.get(second) == "\ud800"
    third = shelf.put((1, ()))
    assert shelf.get(third) == [1, []]
    assert shelf.get(first) == ["a\nb", None, {"n": 2**63}]
    shelf.close()


def test_what_is_more_than_memory_is_in_a_file_without_a_name(tmp_path: Path) -> None:
    """No crash leaves it behind."""
    shelf = Shelf(tmp_path)
    texts = [letter * (MEMORY_MAX // 3) for letter in "abcd"]
    places = [shelf.put(text) for text in texts]
    assert list(tmp_path.iterdir()) == []
    assert [shelf.get(place) for place in places] == texts
    shelf.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """With what to do about it."""
    shelf = Shelf(tmp_path)
    shelf.put("x" * MEMORY_MAX)  # to the file
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(StoreError, match="make room there"):
            shelf.put("x" * MEMORY_MAX)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    shelf.close()
