"""What is owed to the journal: of exchanges that it did not take, that there were some.

While nothing can be written, bodies are lost.  That there was an exchange is not: its
beginning and its end wait here until they can be written.  Memory is bounded all the
same: when much waits, openings are kept bare, and when very much does, exchanges that
begin are only counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from sse_recorder.capture.tap import bare, size_of
from sse_recorder.exchange import Op, RawRecord

WHOLE_BYTES: Final = 1 << 20
"""When so much is owed, openings are kept bare,"""
BARE_BYTES: Final = 32 << 20
"""and when so much is, exchanges are counted."""

# What a record costs in memory beside its texts.
_OVERHEAD: Final = 500


class Debt:
    """Records that wait to be written, in their order; none of bodies."""

    def __init__(self) -> None:
        self.size = 0
        """About the memory that they take."""
        self.unheard = 0
        """Exchanges that are only counted."""
        self._records: deque[RawRecord] = deque()
        self._unheard: set[str] = set()
        """Those of them that have not ended."""

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._records)

    def add(self, records: Iterable[RawRecord]) -> None:
        """Owe some more."""
        for record in records:
            kept = self._kept(record)
            if kept is not None:
                self._records.append(kept)
                self.size += size_of(kept) + _OVERHEAD

    def _kept(self, record: RawRecord) -> RawRecord | None:
        """Return what there is room for of a record."""
        eid, op, _, _ = record
        if eid in self._unheard:
            if op is Op.END:
                self._unheard.remove(eid)
            return None
        if self.size <= WHOLE_BYTES or op is Op.END:
            return record
        if op is not Op.OPEN:
            return None
        if self.size <= BARE_BYTES:
            return bare(record)
        self._unheard.add(eid)
        self.unheard += 1
        return None

    def first(self, size: int) -> list[RawRecord]:
        """Return the first of them, one at least, but no more than have a size."""
        found: list[RawRecord] = []
        for record in self._records:
            size -= size_of(record)
            if found and size < 0:
                break
            found.append(record)
        return found

    def paid(self, count: int) -> None:
        """Forget the first of them: they are written."""
        for _ in range(count):
            self.size -= size_of(self._records.popleft()) + _OVERHEAD

    def all(self) -> list[RawRecord]:
        """Return all of them."""
        return list(self._records)
