"""Bytes that are kept for later: in memory while they are few, else in a file.

The request body of an exchange is one cell of one row, which is written when the
exchange is over and its segment is sealed.  Until then a long one waits in a file that
has no name, so that no crash leaves it behind, and is mapped into memory for the moment
in which its cell is written.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Final

MEMORY_MAX: Final = 1 << 20
"""The bytes that are kept in memory."""

SPOOL_MAX: Final = 256 << 20
"""The bytes that are kept at all: writing a cell takes five times its memory."""

PIECE_MAX: Final = 1 << 20
"""The longest of the `pieces`."""

OpenFile = Callable[[], int]
"""Opens a file that has no name, for reading and writing; returns its descriptor."""


class SpoolError(Exception):
    """Bytes could not be kept; those before them are."""


class Spool:
    """Bytes that are only added to.

    Args:
        open_file: opens the file for what is more than `MEMORY_MAX`; without it, all is
            kept in memory.
    """

    __slots__ = ("_digest", "_fd", "_memory", "_open_file", "size")

    def __init__(self, open_file: OpenFile | None = None) -> None:
        self.size = 0
        """The bytes that are kept."""
        self._open_file = open_file
        self._memory = bytearray()
        self._digest = hashlib.sha256()
        self._fd = -1

    @property
    def sha256(self) -> str:
        """The hexadecimal sha256 of the bytes that are kept."""
        return self._digest.hexdigest()

    @property
    def is_in_file(self) -> bool:
        """Whether they are too many to stay in memory."""
        return self._fd >= 0

    def add(self, data: bytes) -> None:
        """Keep some more.

        Raises:
            SpoolError: they are too many.
            OSError: the file cannot be made or written; nothing of the data is kept.
        """
        size = self.size + len(data)
        if size > SPOOL_MAX:
            raise SpoolError(f"it is longer than {SPOOL_MAX:,} bytes")
        if self._fd >= 0:
            self._write(data, self.size)
        else:
            self._memory += data
            if size > MEMORY_MAX and self._open_file is not None:
                self._move_to_file(self._open_file)
        self._digest.update(data)
        self.size = size

    def pieces(self) -> Iterator[bytes]:
        """Give the bytes, at most `PIECE_MAX` at a time."""
        for start in range(0, self.size, PIECE_MAX):
            end = min(start + PIECE_MAX, self.size)
            if self._fd < 0:
                yield bytes(self._memory[start:end])
            else:
                yield os.pread(self._fd, end - start, start)

    def read(self) -> bytes:
        """Return all of them."""
        return b"".join(self.pieces())

    def mapped(self) -> mmap.mmap:
        """Return those that are in a file as memory that need not be held."""
        return mmap.mmap(self._fd, self.size, access=mmap.ACCESS_READ)

    def close(self) -> None:
        """Let go of the file, and with it of what it has."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def _move_to_file(self, open_file: OpenFile) -> None:
        try:
            self._fd = open_file()
            self._write(self._memory, 0)
        except OSError:
            self.close()
            del self._memory[self.size :]
            raise
        self._memory = bytearray()

    def _write(self, data: bytes | bytearray, offset: int) -> None:
        # At a place, because a full disk may have taken half of what failed before.
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)
