"""What a recorder counts while it runs, and whether all is well with it.

    recorder.stats().problems       # () while what goes through is being recorded
    one.stats() + other.stats()     # that of two workers

A value, made when somebody asks for it: nothing here is touched by the data path.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

_STATM_RESIDENT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process uses of its machine; zeros where no `/proc` tells it."""

    cpu_seconds: float = 0.0
    """In user and system mode, since it began."""
    resident_bytes: int = 0
    open_files: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Return what two processes use."""
        return Usage(**_sums(self, other))

    @classmethod
    def of(cls, pid: int | str = "self") -> Self:
        """Look at a process."""
        proc = Path("/proc", str(pid))
        try:
            # The name, in brackets, may hold anything; user and system time are the
            # 12th and 13th field after it (proc_pid_stat(5)).
            after = (proc / "stat").read_text(encoding="latin-1").rpartition(")")[2]
            ticks = sum(map(int, after.split()[11:13]))
            pages = int((proc / "statm").read_text().split()[_STATM_RESIDENT])
            open_files = sum(1 for _ in (proc / "fd").iterdir())
        except OSError:
            return cls()
        return cls(
            cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
            resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            open_files=open_files,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The counts of a recorder since it began, and its state now."""

    problems: tuple[str, ...] = ()
    """What keeps it from recording everything, in words; empty while all is well."""
    recorders: int = 1
    """How many these are the counts of."""
    exchanges: Mapping[str, int] = field(default_factory=dict)
    """Those that are over, by outcome as the proxy saw it."""
    open_exchanges: int = 0
    connections: int = 0
    """Clients that are connected."""
    request_bytes: int = 0
    """Of bodies, from clients."""
    response_bytes: int = 0
    """Of bodies, from upstreams."""
    refused_requests: Mapping[str, int] = field(default_factory=dict)
    """Those that were answered here and not recorded, by the type of the error."""
    refused_records: int = 0
    """Pieces of exchanges for which there was no room in the queue."""
    queued_bytes: int = 0
    """Waiting to be written."""
    journal_errors: int = 0
    seals: int = 0
    seal_failures: int = 0
    writer_restarts: int = 0
    """Times that what writes had to be begun again."""
    usage: Usage = field(default_factory=Usage)
    """Of its process, and of the one that writes."""

    def __add__(self, other: Stats) -> Stats:
        """Return the counts of two recorders; problems that both have come once."""
        return Stats(
            problems=tuple(dict.fromkeys(self.problems + other.problems)),
            exchanges=_sum(self.exchanges, other.exchanges),
            refused_requests=_sum(self.refused_requests, other.refused_requests),
            usage=self.usage + other.usage,
            **_sums(self, other),
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Stats:
        """Return what `to_json` was asked of."""
        usage, problems = Usage(**value["usage"]), tuple(value["problems"])
        return cls(**(value | {"usage": usage, "problems": problems}))


NONE: Final = Stats(recorders=0)
"""The counts of no recorder at all, to begin a sum with."""


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _sums(one: Any, other: Any) -> dict[str, Any]:
    """Add the fields of two values that are numbers."""
    values = {
        f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(one)
    }
    return {
        name: a + b for name, (a, b) in values.items() if isinstance(a, int | float)
    }
