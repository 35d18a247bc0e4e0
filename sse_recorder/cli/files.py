"""How many files this process may have open, and those that it starts."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

# As whoever started us had it.
_GIVEN: Final = resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow_files() -> None:
    """Let this process open as many files as it may: every stream takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # what macOS says is more than it allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def files_as_given() -> Iterator[None]:
    """Take the limit of open files back to what it was, while the block lasts.

    A program that is started in it inherits that: `select` knows no file above 1023,
    and who closes all that may be open would be at it for long.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_GIVEN, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
