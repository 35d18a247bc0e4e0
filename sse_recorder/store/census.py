"""A census: which exchanges a store has of some recorders, and how many.

Only ids and outcomes are read.  What cannot be read is passed over: others report it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Op, Outcome
from sse_recorder.store import journal
from sse_recorder.store.segment import Layout, segment_recorder


class Census(NamedTuple):
    """How many exchanges there are."""

    sealed: int = 0
    """In segments; they are over."""
    incomplete: int = 0
    """Those of them that say so."""
    unsealed: int = 0
    """In journals, and in no segment."""


def known(
    layout: Layout, recorders: Collection[str], ids: Collection[str], after: str = ""
) -> set[str]:
    """Return those of some exchanges that recorders have in a journal or a segment.

    Args:
        layout: of the store.
        recorders: their ids.
        ids: those of the exchanges.
        after: a segment; only those that began later count.
    """
    # In this order: what is sealed in between is seen twice, and not missed.
    in_journals = _in_journals(layout, recorders, after)
    return in_journals.intersection(ids) | _in_segments(layout, recorders, ids, after)


def count(layout: Layout, recorders: Collection[str]) -> Census:
    """Count what some recorders, which have ended, recorded."""
    in_journals = _in_journals(layout, recorders)
    sealed = incomplete = 0
    for table in _read(layout, recorders, "outcome"):
        sealed += table.num_rows
        is_lacking = pc.equal(table.column("outcome"), Outcome.INCOMPLETE.value)
        incomplete += pc.sum(is_lacking).as_py() or 0
    unsealed = in_journals - _in_segments(layout, recorders, in_journals)
    return Census(sealed, incomplete, len(unsealed))


def _in_journals(
    layout: Layout, recorders: Collection[str], after: str = ""
) -> set[str]:
    found: set[str] = set()
    for name in layout.journal_names():
        if segment_recorder(name) in recorders and name[-36:] > after[-36:]:
            with suppress(FileNotFoundError, StoreError):
                for record in journal.read(layout.journal(name)):
                    if record.op is Op.OPEN:
                        found.add(record.exchange_id)
    return found


def _in_segments(
    layout: Layout, recorders: Collection[str], ids: Collection[str], after: str = ""
) -> set[str]:
    if not ids:
        return set()
    wanted = [("exchange_id", "in", list(ids))]
    tables = _read(layout, recorders, "exchange_id", wanted, after)
    return {eid for table in tables for eid in table.column(0).to_pylist()}


def _read(
    layout: Layout,
    recorders: Collection[str],
    column: str,
    filters: list[tuple[str, str, list[str]]] | None = None,
    after: str = "",
) -> Iterator[pa.Table]:
    for name in layout.sealed_names():
        if segment_recorder(name) in recorders and name[-36:] > after[-36:]:
            path = layout.table(name, "exchanges")
            with suppress(OSError, pa.ArrowException):
                yield pq.read_table(
                    path, columns=[column], filters=filters, partitioning=None
                )
