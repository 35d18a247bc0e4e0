"""Files that are there when whole, on a real disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sse_recorder.store.atomic import replacing


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_all_is_written(tmp_path: Path) -> None:
    """Until then there is what was there; its owner alone may read it."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o644)
    with replacing(path) as file:
        file.write(b"ne")
        file.flush()
        assert path.read_bytes() == b"old"
        file.write(b"w")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["x"]


def test_it_has_the_permissions_that_are_asked_for(tmp_path: Path) -> None:
    """Those of the file that it replaces, for one."""
    with replacing(tmp_path / "x", 0o640) as file:
        file.write(b"")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    """And the file is as it was, or is not there."""
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new"):
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / name) as file:
            file.write(b"%d" % (1 // 0))
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "none" / "x"):
        pass


def test_a_link_stays_one(tmp_path: Path) -> None:
    """The file is where it points."""
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_one_file_may_have_several_writers_at_once(tmp_path: Path) -> None:
    """In the end it is all that one of them wrote."""
    texts = [b"%d" % n * 100_000 for n in range(8)]

    def write(text: bytes) -> None:
        with replacing(tmp_path / "x") as file:
            file.write(text)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, texts * 5))
    assert (tmp_path / "x").read_bytes() in texts
    assert names(tmp_path) == ["x"]
