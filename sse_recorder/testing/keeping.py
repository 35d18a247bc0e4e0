"""The cassette of a test: what of it is replayed, and how it is written.

Any number of tests may share a cassette, one after the other or in several processes.
So it is what this *run* of the tests has recorded that counts, and that is told by the
times of the exchanges.  With `fresh` for the exchanges that began after the run did:

    mode            replays                      records        keeps of what is there
    none            everything                   -              -
    once            everything, if none is fresh -              -
                    the fresh ones, otherwise    what misses    the fresh ones
    new_episodes    everything                   what misses    everything
    all             the fresh ones               what misses    all but what it replaces
    rewrite         the fresh ones               what misses    the fresh ones

A cassette is read, merged and replaced under a lock on its folder.  Two tests that
recorded the same request at the same time leave what one after the other would have
left: the second's is dropped, for a replay would answer both from the first.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Chunk, Exchange, Opening
from sse_recorder.match import MatchRules, canonical
from sse_recorder.store.atomic import replacing
from sse_recorder.store.cassette import SUFFIX, dumps, read
from sse_recorder.store.store import Store
from sse_recorder.testing.options import Mode

T = TypeVar("T")
Take: TypeAlias = "tuple[Exchange, list[Chunk]]"
"""One exchange, recorded."""

_RECORDING_ANEW: Final = {Mode.ONCE, Mode.ALL, Mode.REWRITE}


class Cassette:
    """The file that a test is replayed from, and recorded into.

    Args:
        path: where it is, or is to be.
        mode: what is recorded.
        rules: by which requests are the same.
        began_ns: when the run of the tests began; None if nobody else is in it.

    Raises:
        StoreError: it is damaged, and is to be kept.
    """

    def __init__(
        self, path: Path, mode: Mode, rules: MatchRules, *, began_ns: int | None
    ) -> None:
        self.path = path
        self._mode = mode
        self._rules = rules
        self._began_ns = began_ns
        is_there = path.exists()
        # Only who records has to know what others do.
        began = {} if mode is Mode.NONE else self._begun()
        self._known = set(began)
        self._fresh = {name for name, at_ns in began.items() if self._is_fresh(at_ns)}
        self.is_recorded = mode is not Mode.NONE
        """Whether what has no recording is to be recorded."""
        if mode is Mode.ONCE:
            self.is_recorded = bool(self._fresh) or not is_there

    def source(self, scratch: Callable[[], Path]) -> Path | None:
        """Return what is to be replayed, if anything is.

        Args:
            scratch: gives an empty folder, for what is not all of the cassette.
        """
        if not (self.is_recorded and self._mode in _RECORDING_ANEW):
            return self.path if self.path.exists() else None
        if not self._fresh:
            return None
        if self._fresh == self._known:
            return self.path
        part = scratch() / f"fresh{SUFFIX}"
        takes = [take for take in self._read() if take[0].exchange_id in self._fresh]
        with replacing(part) as file:
            file.write(_text(takes))
        return part

    def keep(self, new: list[Take]) -> None:
        """Put a cassette in the place of the one that is there, when all is written.

        Raises:
            OSError: it cannot be written.
            StoreError: somebody has damaged it meanwhile.
        """
        keys = {self._key(exchange) for exchange, _ in new}
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            kept = [take for take in self._read() if self._stays(take[0], keys)]
            others = Counter(
                self._key(exchange)
                for exchange, _ in kept
                if exchange.exchange_id not in self._known
            )
            mine: list[Take] = []
            for take in new:
                key = self._key(take[0])
                if others[key]:
                    others[key] -= 1
                else:
                    mine.append(take)
            with replacing(self.path) as file:
                file.write(_text(kept + mine))

    def _stays(self, exchange: Exchange, replaced: set[str]) -> bool:
        if self._is_fresh(exchange.started_at):
            return True
        match self._mode:
            case Mode.NEW_EPISODES:
                return True
            case Mode.ALL:
                return self._key(exchange) not in replaced
        return False

    def _is_fresh(self, started_at: int) -> bool:
        return self._began_ns is not None and started_at >= self._began_ns

    def _key(self, exchange: Exchange) -> str:
        """Return what two requests share that are the same to this test."""
        request = exchange.request_headers, exchange.request_body
        return canonical(exchange.method, exchange.target, *request, self._rules).key

    def _begun(self) -> dict[str, int]:
        """Return when each exchange began: a hundredth of the work of reading them."""
        return {
            opened.exchange_id: opened.payload.started_at
            for opened, *_ in self._readable(lambda: list(read(self.path)))
            if isinstance(opened.payload, Opening)
        }

    def _read(self) -> list[Take]:
        def takes() -> list[Take]:
            with Store.open(self.path) as store:
                chunks = dict(store.all_chunks())
                return [(e, chunks.get(e.exchange_id, [])) for e in store.exchanges()]

        return self._readable(takes)

    def _readable(self, get: Callable[[], list[T]]) -> list[T]:
        """Return what is in the cassette; nothing where a damaged one is not wanted."""
        if not self.path.exists():
            return []
        try:
            return get()
        except StoreError:
            if self._mode is Mode.REWRITE:
                return []
            raise


def _text(takes: list[Take]) -> bytes:
    return "".join(dumps(exchange, chunks) for exchange, chunks in takes).encode()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes, and threads, from writing into a folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # file systems without locks have one user, as a rule
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
