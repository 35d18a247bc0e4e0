"""Saying what went wrong in the log, each kind of thing at most once a minute."""

from __future__ import annotations

import logging
from typing import Final

from sse_recorder.clock import Clock

INTERVAL_NS: Final = 60_000_000_000

log = logging.getLogger("sse_recorder.capture")


class Complaints:
    """What has been said, and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_ns: dict[str, int] = {}

    def say(self, kind: str, message: str) -> None:
        """Log a message, unless that was done within the last minute.

        Args:
            kind: what it is about: a fixed word, as the messages of a kind may differ.
            message: all of it.
        """
        now_ns = self._clock.monotonic_ns()
        last_ns = self._said_ns.get(kind)
        if last_ns is None or now_ns - last_ns > INTERVAL_NS:
            self._said_ns[kind] = now_ns
            log.error("%s", message)
