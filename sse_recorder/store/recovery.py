"""Recovery: what a restart finds of a segment, and what is done about it.

The writer takes these steps, and may be killed between any two of them or within one:

    1  the journal is made           .journal/<segment>.arrows
       (if exchanges are open, as .journal/<segment>.carry until it has them)
    2  batches are appended to it
    3  four parts are written        .journal/<segment>.<table>.parquet
    4  they are moved into place     chunks, frames, tool_calls, then exchanges
    5  the journal is deleted

Each combination that this can leave behind has exactly one row in `CASES`.

Exchanges that were open at the end of their recorder's last journal get the outcome
`incomplete`: the recorder was killed, and what it had is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Final

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Ending, Op, Outcome, Record
from sse_recorder.store import journal
from sse_recorder.store.census import known
from sse_recorder.store.rebuild.lock import remove_leftovers
from sse_recorder.store.segment import (
    CARRY_SUFFIX,
    JournalReader,
    Layout,
    earlier_frames,
    remove_parts,
    seal,
    segment_recorder,
)
from sse_recorder.tables import SCHEMAS

log = logging.getLogger("sse_recorder.store")


class Found(Enum):
    """What is there in place of a journal."""

    ABSENT = "absent"
    PARTS = "parts"
    """Nothing, but there are parts, which never outlive it."""
    HELD = "held"
    """A living process is writing it."""
    EMPTY = "empty"
    """Cut before its first batch was whole: nothing was recorded."""
    BATCHES = "batches"
    """It has whole batches; a torn one may follow them."""
    DAMAGED = "damaged"
    """The same, and what follows them cannot be understood."""
    FOREIGN = "foreign"
    """It does not begin as our journals do."""


class Decision(Enum):
    """What is done about a segment."""

    LEAVE = "is being written"
    KEEP = "is whole"
    DISCARD = "had nothing in it"
    FINISH = "was sealed; its journal is deleted"
    SEAL = "is sealed from its journal"
    SALVAGE = "is sealed up to where its journal is damaged; that is kept as .damaged"
    CLEAR = "is whole; what else was written of it is deleted"
    REPORT = "cannot be recovered; it is left as it is"


_KILLED: Final = "the recorder was killed; what came after this was not recorded"
_DAMAGED: Final = "its journal is damaged; what came after this cannot be read"
_CLEARED: Final = frozenset(
    {Decision.SEAL, Decision.FINISH, Decision.DISCARD, Decision.CLEAR}
    | {Decision.SALVAGE}
)


class Tables(Enum):
    """How far the files of a segment had come into place."""

    NONE = "none"
    SOME = "some"
    WHOLE = "whole"


# Exactly one row matches any combination of a journal and tables.
CASES: Final[dict[tuple[Found, Tables], Decision]] = {
    # Its writer lives, whatever else there is.
    (Found.HELD, Tables.NONE): Decision.LEAVE,
    (Found.HELD, Tables.SOME): Decision.LEAVE,
    (Found.HELD, Tables.WHOLE): Decision.LEAVE,
    # Killed between 4 and 5.
    (Found.BATCHES, Tables.WHOLE): Decision.FINISH,
    (Found.EMPTY, Tables.WHOLE): Decision.FINISH,
    # Killed in 2, 3 or 4.  The journal has everything, so the tables are made anew.
    (Found.BATCHES, Tables.NONE): Decision.SEAL,
    (Found.BATCHES, Tables.SOME): Decision.SEAL,
    # The same, and then the disk or somebody changed it.  The tables were made of what
    # was in memory, where they are whole.
    (Found.DAMAGED, Tables.NONE): Decision.SALVAGE,
    (Found.DAMAGED, Tables.SOME): Decision.SALVAGE,
    (Found.DAMAGED, Tables.WHOLE): Decision.FINISH,
    # Killed in 1, or before the first batch of 2.
    (Found.EMPTY, Tables.NONE): Decision.DISCARD,
    # The usual case.
    (Found.ABSENT, Tables.WHOLE): Decision.KEEP,
    (Found.ABSENT, Tables.NONE): Decision.KEEP,
    # None of our steps leaves these.  Nothing is deleted that might be somebody's.
    (Found.EMPTY, Tables.SOME): Decision.REPORT,
    (Found.ABSENT, Tables.SOME): Decision.REPORT,
    (Found.PARTS, Tables.NONE): Decision.REPORT,
    (Found.PARTS, Tables.SOME): Decision.REPORT,
    (Found.PARTS, Tables.WHOLE): Decision.CLEAR,
    (Found.FOREIGN, Tables.NONE): Decision.REPORT,
    (Found.FOREIGN, Tables.SOME): Decision.REPORT,
    (Found.FOREIGN, Tables.WHOLE): Decision.REPORT,
}


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was done about one segment."""

    segment: str
    decision: Decision
    exchanges: int = 0
    """How many ended in it."""
    cut: int = 0
    """How many of them were open when the recorder died."""


def recover(root: Path) -> list[Recovered]:
    """Seal what crashes left in a store, and say what was done.

    Segments that are whole are not mentioned.  It can be run at any time, beside living
    recorders and beside itself.  What cannot be read is logged, and stops nothing else.

    Raises:
        StoreError: a file cannot be written.
    """
    layout = Layout(root)
    names = sorted(_unfinished(layout), key=lambda n: (segment_recorder(n), n[-36:]))
    done: list[Recovered] = []
    try:
        _remove_begun(layout)
        remove_leftovers(layout)
        for recorder_id, group in groupby(names, key=segment_recorder):
            done += _recover_recorder(layout, recorder_id, list(group))
    except OSError as error:
        raise StoreError(
            f"{error.filename or root}: {error.strerror or error}; make the store"
            " writable and run `sse-recorder recover` again"
        ) from error
    return done


def _unfinished(layout: Layout) -> set[str]:
    """Name the segments that have a journal, a part, or some but not all files."""
    sealed = set(layout.sealed_names())
    there = {name for table in SCHEMAS for name in layout.table_names(table)}
    parts = set(layout.part_names())
    return set(layout.journal_names()) | parts | (there - sealed)


def _remove_begun(layout: Layout) -> None:
    """Delete journals whose writers died before all was carried over into them."""
    for path in layout.journals.glob("*" + CARRY_SUFFIX):
        with suppress(FileNotFoundError), journal.claim(path) as is_ours:
            if is_ours:
                path.unlink(missing_ok=True)


def _recover_recorder(
    layout: Layout, recorder_id: str, names: list[str]
) -> Iterator[Recovered]:
    reader = JournalReader(earlier_frames(layout, recorder_id), layout.scratch)
    for number, name in enumerate(names):
        try:
            done = _recover_segment(layout, name, reader)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - damage can make anything of a record
            log.error("segment %s cannot be recovered: %s", name, error)  # noqa: TRY400 - the file's fault, not ours
            # Nor can what follows be read without it.
            yield from (Recovered(left, Decision.REPORT) for left in names[number:])
            return
        if done.decision is Decision.LEAVE:
            # What follows cannot be read without it, and is for whoever holds it: the
            # recorder, or another recovery.
            yield from (Recovered(left, done.decision) for left in names[number:])
            return
        if done.decision is not Decision.KEEP:
            yield done


def _recover_segment(layout: Layout, name: str, reader: JournalReader) -> Recovered:
    path = layout.journal(name)
    exchanges = cut = 0
    with _claim(path) as found:
        tables = _look_at_tables(layout, name)
        is_left = found is Found.ABSENT and layout.has_parts(name)
        decision = CASES[Found.PARTS if is_left else found, tables]
        if decision is Decision.SEAL:
            exchanges, cut = _seal(layout, name, reader)
            if reader.damage is not None:
                log.error("%s", reader.damage)
                decision = CASES[Found.DAMAGED, tables]
                path.rename(layout.damaged(name))
        if decision in _CLEARED:
            path.unlink(missing_ok=True)
            remove_parts(layout, name)
    return Recovered(name, decision, exchanges, cut)


def _has_successor(layout: Layout, name: str) -> bool:
    """Tell whether what was open at the end of a segment went on in another one."""
    sealed = set(layout.sealed_names())
    for later in sealed | set(layout.journal_names()):
        is_same = segment_recorder(later) == segment_recorder(name)
        if is_same and later[-36:] > name[-36:]:
            if later in sealed:
                return True
            # Its writer may have died before it wrote what it carried over.
            with _claim(layout.journal(later)) as found:
                if found in {Found.HELD, Found.BATCHES}:
                    return True
    return False


@contextmanager
def _claim(path: Path) -> Iterator[Found]:
    """Look at a journal, and keep others from it while it is dealt with."""
    try:
        with journal.claim(path) as is_ours:
            yield _look_at_journal(path) if is_ours else Found.HELD
    except FileNotFoundError:
        yield Found.ABSENT


def _look_at_journal(path: Path) -> Found:
    try:
        first = next(journal.read(path), None)
    except FileNotFoundError:
        return Found.ABSENT  # another recovery has dealt with it since
    except StoreError:
        return Found.FOREIGN
    return Found.EMPTY if first is None else Found.BATCHES


def _look_at_tables(layout: Layout, name: str) -> Tables:
    if layout.table(name, "exchanges").exists():
        return Tables.WHOLE
    there = any(layout.table(name, table).exists() for table in SCHEMAS)
    return Tables.SOME if there else Tables.NONE


def _seal(layout: Layout, name: str, reader: JournalReader) -> tuple[int, int]:
    """Seal a journal; return how many exchanges it has, and how many were cut."""
    rows = reader.read(layout.journal(name))
    cut, error = _cut(layout, name, reader)
    for exchange_id in cut:
        ending = Ending(outcome=Outcome.INCOMPLETE, error=error)
        transcript = reader.open.pop(exchange_id)
        at_ns = reader.last_ns.pop(exchange_id)
        transcript.add(Record(exchange_id, Op.END, at_ns, ending), rows)
    batches = rows.batches()
    seal(layout, name, batches, rows.bodies)
    return len(rows.exchanges), len(cut)


def _cut(layout: Layout, name: str, reader: JournalReader) -> tuple[list[str], str]:
    """Tell which open exchanges end with a journal, and why."""
    if not _has_successor(layout, name):
        return list(reader.open), _KILLED
    if reader.damage is None:
        return [], ""
    # What does not go on elsewhere ended in what cannot be read.
    elsewhere = known(layout, {segment_recorder(name)}, reader.open, after=name)
    return [eid for eid in reader.open if eid not in elsewhere], _DAMAGED
