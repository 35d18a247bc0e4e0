"""The rebuild of a store, recorder after recorder."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pyarrow as pa

from sse_recorder import dialects
from sse_recorder.errors import StoreError
from sse_recorder.store.rebuild.files import rewrite
from sse_recorder.store.rebuild.lock import only_one, remove_leftovers
from sse_recorder.store.rebuild.plan import Plan, Tally, refusal
from sse_recorder.store.rebuild.shelf import Shelf
from sse_recorder.store.segment import Layout, segment_recorder
from sse_recorder.tables import SCHEMAS


def rebuild(root: Path, *, is_dry: bool) -> Tally:
    """Tell anew what dialects tell of a store's sealed segments.

    Args:
        root: the store.
        is_dry: only find out what would change.

    Raises:
        StoreError: nothing was recorded there, another rebuild is running, a file
            cannot be written, or a dialect of another package failed; what was rebuilt
            so far stays.
    """
    layout = Layout(root)
    if not layout.exists():
        raise StoreError(
            f"{root}: nothing was recorded here; name a store with --store"
        )
    try:
        if is_dry:
            return _rebuild(layout, is_dry=True)
        remove_leftovers(layout)
        with only_one(layout) as is_ours:
            if not is_ours:
                raise StoreError(
                    f"{root}: it is being rebuilt already; wait until that has ended"
                )
            return _rebuild(layout, is_dry=False)
    except OSError as error:
        raise StoreError(
            f"{error.filename or root}: {error.strerror or error}; mend that and run"
            " `sse-recorder rebuild` again, which goes on where this ended"
        ) from error


def _rebuild(layout: Layout, *, is_dry: bool) -> Tally:
    tally = Tally()
    # Journals first: one that is sealed meanwhile is then not missed.
    journals = set(layout.journal_names())
    names = sorted(layout.sealed_names(), key=lambda n: (segment_recorder(n), n[-36:]))
    for recorder_id, group in groupby(names, key=segment_recorder):
        # One that has its journal still is being sealed or recovered.
        sealed = [name for name in group if name not in journals]
        is_living = recorder_id in map(segment_recorder, journals)
        sound = [name for name in sealed if _is_sound(layout, name, tally)]
        is_whole = not is_living and sound == sealed
        shelf = Shelf(layout.root)
        try:
            plan = Plan(layout, shelf, tally, is_whole=is_whole)
            if _is_planned(plan, sound, tally) and not is_dry:
                for name, changes in plan.changes.items():
                    rewrite(layout, name, changes, shelf)
        finally:
            shelf.close()
    return tally


def _is_planned(plan: Plan, names: list[str], tally: Tally) -> bool:
    """Find out what changes; False where a segment's file is damaged."""
    for name in names:
        try:
            plan.add(name)
        except (OSError, pa.ArrowException, ValueError) as error:
            tally.problems.append(
                f"{name}: a file of it is damaged ({str(error).partition(chr(10))[0]})"
            )
            return False
    plan.pair()
    if failed := dialects.failed():
        raise StoreError(
            f"the dialect {failed[0]!r} of another package failed, so nothing more is"
            " rebuilt; the message above says why: mend or uninstall it"
        )
    tally.changed_segments += len(plan.changes)
    return True


def _is_sound(layout: Layout, name: str, tally: Tally) -> bool:
    """Tell whether a segment can be read and written again."""
    problems = [refusal(layout.table(name, table), table) for table in SCHEMAS]
    tally.problems += filter(None, problems)
    return not any(problems)
