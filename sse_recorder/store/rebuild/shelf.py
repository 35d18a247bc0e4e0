"""A shelf: values that are many, put away on disk and fetched again by their place.

What a rebuild finds out of a large store is more than fits into memory, and is wanted
once more, in another order.  The file has no name, so that no crash leaves it behind;
a little of it stays in memory.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

from sse_recorder.errors import StoreError

MEMORY_MAX: Final = 16 << 20


class Shelf:
    """Values as JSON has them, in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Closed by hand: it outlives this call.
        self._file = tempfile.SpooledTemporaryFile(MEMORY_MAX, dir=str(folder))  # noqa: SIM115
        self._size = 0

    def put(self, value: object) -> int:
        """Put a value away, and return its place.

        Raises:
            StoreError: the disk has no room for it.
        """
        place = self._size
        # In ASCII, so that a line is one value and half a surrogate pair is kept too.
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.seek(place)
            self._file.write(line)
        except OSError as error:
            raise StoreError(
                f"{self._folder}: what a rebuild finds out does not fit"
                f" ({error.strerror}); nothing was changed: make room there"
            ) from error
        self._size += len(line)
        return place

    def get(self, place: int) -> Any:
        """Return the value that was put in a place; tuples come back as lists."""
        self._file.seek(place)
        return json.loads(self._file.readline())

    def close(self) -> None:
        """Let go of all of it."""
        self._file.close()
