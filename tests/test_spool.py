"""The rules of bytes that wait: few in memory, many in a file that nobody sees."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.spool import MEMORY_MAX, PIECE_MAX, SPOOL_MAX, Spool, SpoolError


def files_in(folder: Path) -> Callable[[], int]:
    """Return what opens files without a name in a folder."""

    def open_file() -> int:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.dup(file.fileno())

    return open_file


@given(sizes=st.lists(st.integers(0, MEMORY_MAX), max_size=5), has_file=st.booleans())
def test_what_is_added_comes_back(sizes: list[int], has_file: bool) -> None:  # noqa: FBT001 - drawn
    """All of it, in order, in pieces of a bounded size, with its sha256."""
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(files_in(Path(folder)) if has_file else None)
        parts = [bytes([number]) * size for number, size in enumerate(sizes)]
        for part in parts:
            spool.add(part)
        expected = b"".join(parts)
        assert spool.read() == expected
        assert spool.size == len(expected)
        assert spool.sha256 == hashlib.sha256(expected).hexdigest()
        assert all(len(piece) <= PIECE_MAX for piece in spool.pieces())
        assert spool.is_in_file == (has_file and len(expected) > MEMORY_MAX)
        if spool.is_in_file:
            with spool.mapped() as mapped:
                assert mapped[:] == expected
        spool.close()


def test_its_file_has_no_name_and_goes_with_it(tmp_path: Path) -> None:
    """No crash leaves it behind; a descriptor is not lost with a spool."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    spool = Spool(files_in(tmp_path))
    spool.add(b"x" * (MEMORY_MAX + 1))
    assert spool.is_in_file
    assert list(tmp_path.iterdir()) == []
    del spool
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_there_is_an_end_to_what_is_kept() -> None:
    """A cell cannot hold everything; what came before the last piece is kept."""
    spool = Spool()
    spool.add(b"abc")
    spool.size = SPOOL_MAX  # as if so much had come
    with pytest.raises(SpoolError, match="268,435,456"):
        spool.add(b"d")
    spool.size = 3
    assert spool.read() == b"abc"


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_spool import files_in
from sse_recorder.spool import MEMORY_MAX, Spool
spool = Spool(files_in(Path({folder!r})))
limit = MEMORY_MAX * {share}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
kept = b""
for number in range(40):
    piece = bytes([number]) * (MEMORY_MAX // 10)
    try:
        spool.add(piece)
    except OSError as error:
        assert error.strerror == "File too large", error
        break
    kept += piece
else:
    raise AssertionError("it was never full")
assert spool.read() == kept, (len(kept), spool.size)
assert len(kept) >= MEMORY_MAX * 9 // 10
"""


@pytest.mark.parametrize("share", [0.5, 1.55], ids=["at the start", "later"])
def test_a_full_disk_keeps_what_was_before(tmp_path: Path, share: float) -> None:
    """What failed is not there by half."""
    program = FULL.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), share=share
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
