"""Segments that are written again: their files, and how the new ones come to be there.

    1  new files are written            .journal/<segment>.<table>.rebuilt
    2  they are held against the old    all columns but those that dialects tell
    3  they are renamed over the old    frames, tool_calls, then exchanges

A rename puts one whole file in place of another, so whoever looks finds each exchange
once, with the same bytes and times, at any moment.  A rebuild that is killed between
two renames leaves tables that were read by different versions, until the next one finds
what still differs; one that is killed before leaves files that the next one deletes, as
does a recovery.  No recorder writes to a segment that is sealed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sse_recorder.errors import StoreError
from sse_recorder.store.rebuild.lock import unfinished
from sse_recorder.store.rebuild.plan import Changes, kinds_of, open_file
from sse_recorder.store.rebuild.reading import DERIVED, PLACES, tuples
from sse_recorder.store.rebuild.shelf import Shelf
from sse_recorder.store.segment import ROW_GROUP_ROWS, Layout, write_table
from sse_recorder.tables import SCHEMAS, Row

_TOLD: Final = {
    "frames": frozenset({"kind"}),
    "tool_calls": frozenset(SCHEMAS["tool_calls"].names),
    "exchanges": frozenset(DERIVED),
}
"""The columns that dialects tell, by table, in the order in which files are renamed."""


def rewrite(layout: Layout, name: str, changes: Changes, shelf: Shelf) -> None:
    """Make the changes of a segment.

    Raises:
        OSError: a file cannot be written; what was there is as it was.
        StoreError: what was written is not what was there.
    """
    new: dict[str, Path] = {}
    try:
        for table in _TOLD:
            if places := getattr(changes, table):
                new[table] = unfinished(layout, name, table)
                _write(layout.table(name, table), new[table], table, places, shelf)
        for table, path in new.items():
            path.chmod(layout.table(name, table).stat().st_mode & 0o777)
            path.rename(layout.table(name, table))
    finally:
        for path in new.values():
            path.unlink(missing_ok=True)


def _write(old: Path, new: Path, table: str, places: array[int], shelf: Shelf) -> None:
    """Write a table's file anew beside its place."""
    changed = _CHANGED[table]([shelf.get(place) for place in places], _groups(old))
    write_table(new, table, (_with_all_columns(group, table) for group in changed))
    kept = [name for name in SCHEMAS[table].names if name not in _TOLD[table]]
    if kept and not _are_same(old, new, kept):
        raise StoreError(
            f"{old}: what was to take its place is not the same recording, so nothing"
            " of it was changed; please report this"
        )


def _groups(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Give the rows of a file as tables that are a row group each when written."""
    with open_file(path) as file:
        there = file.schema_arrow.names
        for number in range(file.num_row_groups):
            group = file.read_row_group(
                number, columns=columns and [name for name in columns if name in there]
            )
            for start in range(0, group.num_rows, ROW_GROUP_ROWS):
                yield group.slice(start, ROW_GROUP_ROWS)


def _with_all_columns(group: pa.Table, table: str) -> pa.Table:
    """Return rows as this version writes them; an earlier one had fewer columns."""
    schema = SCHEMAS[table]
    for field in list(schema)[group.num_columns :]:
        group = group.append_column(field, pa.nulls(group.num_rows, field.type))
    return group.cast(schema)


def _are_same(old: Path, new: Path, columns: list[str]) -> bool:
    """Tell whether two files say the same in some columns."""
    before, after = _groups(old, columns), _groups(new, columns)
    for one in before:
        other = next(after, None)
        if other is None or not one.equals(other.select(one.column_names)):
            return False
    return next(after, None) is None


def _with_kinds(edits: list[Any], groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
    kinds = {eid: iter(kinds_of(letters)) for eid, letters in edits}
    place = SCHEMAS["frames"].get_field_index("kind")
    for group in groups:
        pairs = zip(
            group.column("exchange_id").to_pylist(),
            group.column("kind").to_pylist(),
            strict=True,
        )
        new = [next(kinds[eid]) if eid in kinds else kind for eid, kind in pairs]
        column = pa.array(new, pa.string())
        yield group.set_column(place, group.schema.field(place), column)


def _with_columns(edits: list[Any], groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
    changed = dict(edits)
    for group in groups:
        ids = group.column("exchange_id").to_pylist()
        for name in DERIVED:
            place = group.schema.get_field_index(name)
            values = group.column(place).to_pylist()
            new = [
                changed.get(eid, {}).get(name, value)
                for eid, value in zip(ids, values, strict=True)
            ]
            if new != values:
                field = group.schema.field(place)
                group = group.set_column(place, field, pa.array(new, field.type))  # noqa: PLW2901
        yield group


def _with_calls(edits: list[Any], groups: Iterator[pa.Table]) -> Iterator[pa.Table]:
    schema = SCHEMAS["tool_calls"]
    changed = {(eid, seq, told): row for eid, seq, told, row in edits}
    rows: list[Row] = [tuple(row) for row in changed.values() if row is not None]
    for group in groups:
        width = len(schema) - group.num_columns
        rows += [
            (*row, *[None] * width) for row in tuples(group) if _key(row) not in changed
        ]
    rows.sort(key=lambda row: row[:2])
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [
        pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    yield pa.Table.from_arrays(arrays, schema=schema)


def _key(row: Row) -> tuple[str, int, bool]:
    return row[0], row[1], row[PLACES["timing"]] == "cross_request"


_CHANGED: Final = {
    "frames": _with_kinds,
    "exchanges": _with_columns,
    "tool_calls": _with_calls,
}
