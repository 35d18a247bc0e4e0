"""Files that are there when whole: written beside their place, and put into it at once.

Whoever reads sees the file that was there, or all of the new one.  Where a link points
is the place, so the link stays one.  Nothing is left of a file that could not be
written.  This is for readers, and not for a crash of the machine: nothing waits for the
disk, as the journal does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sse_recorder.store.journal import FILE_MODE


@contextmanager
def replacing(path: Path, mode: int = FILE_MODE) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of a path when the block has ended well.

    Args:
        path: where it will be.
        mode: its permissions; by default its owner alone may read it, like everything
            recorded.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    path = path.resolve()
    # A name of its own for each writer: threads of one process may write the same file.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        new.chmod(mode)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
