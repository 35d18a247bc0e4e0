"""One rebuild at a time, and what one that was killed leaves behind.

A rebuild locks the store's folder of journals, which the kernel unlocks when a process
dies in any way.  So a file that a rebuild was writing, while nobody holds the lock, is
one that no rebuild will put into its place.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sse_recorder.store.segment import Layout

SUFFIX: Final = ".rebuilt"
"""What the names of files end with that are not in their place yet."""


@contextmanager
def only_one(layout: Layout) -> Iterator[bool]:
    """Keep other rebuilds of a store away; gives False where one is running.

    Raises:
        OSError: the folder of journals cannot be made.
    """
    layout.make(layout.journals)
    descriptor = os.open(layout.journals, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def unfinished(layout: Layout, name: str, table: str) -> Path:
    """Where a table's file of a segment is until it is put into its place."""
    return layout.journals / f"{name}.{table}{SUFFIX}"


def leftovers(layout: Layout) -> list[Path]:
    """Return the files of rebuilds that were killed."""
    found = sorted(layout.journals.glob("*" + SUFFIX))
    if not found:
        return []
    with only_one(layout) as is_ours:
        return found if is_ours else []


def remove_leftovers(layout: Layout) -> None:
    """Delete the files of rebuilds that were killed."""
    if any(layout.journals.glob("*" + SUFFIX)):
        with only_one(layout) as is_ours:
            # Looked for once more, as they may have been of one that has just ended.
            for path in layout.journals.glob("*" + SUFFIX) if is_ours else ():
                path.unlink(missing_ok=True)
