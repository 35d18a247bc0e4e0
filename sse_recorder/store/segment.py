"""Segments: where the files of a store are, and how they come to be there.

    recordings/
      exchanges/date=2026-11-23/<segment>.parquet
      chunks/…  frames/…  tool_calls/…
      .journal/<segment>.arrows             being written
      .journal/<segment>.<table>.parquet    being sealed

A segment is named `<recorder_id>-<uuid7>`, so recorders share nothing and its name
says when it began.  Sealing writes the four Parquet files beside the journal and moves
them into their folders, `exchanges` last; only then is the journal deleted.  A segment
counts as sealed exactly when its file in `exchanges` is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Op, Record, uuid7
from sse_recorder.store import journal
from sse_recorder.tables import SCHEMAS, Rows
from sse_recorder.transcript import EarlierFrame, Transcript

# A UUIDv7 that begins with `e` or `f` is of a year that has no date.
_NAME = re.compile(
    r"(?P<recorder>.+)-(?P<id>[0-9a-d][0-9a-f]{7}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
)
_SORT_KEYS: Final = {"exchanges": ["started_at", "exchange_id"]}
# Times and counters grow in small steps, and an event's data often begins as the one
# before it did: a templated stream takes three quarters of the space.
_DELTA_COLUMNS: Final = {
    "exchanges": (),
    "chunks": ("seq", "at_ns", "size"),
    "frames": ("seq", "first_ns", "last_ns", "size", "data"),
    "tool_calls": (),
}
_ENCODINGS: Final = {
    pa.int32(): "DELTA_BINARY_PACKED",
    pa.int64(): "DELTA_BINARY_PACKED",
    pa.string(): "DELTA_BYTE_ARRAY",
}
ROW_GROUP_ROWS: Final = 50_000

Batches = dict[str, list[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of one store are."""

    root: Path

    @property
    def journals(self) -> Path:
        """The folder of what is being written; readers of the tables never see it."""
        return self.root / ".journal"

    def journal(self, name: str) -> Path:
        """Where the journal of a segment is while it is being written."""
        return self.journals / (name + journal.SUFFIX)

    def part(self, name: str, table: str) -> Path:
        """Where a table's file is written before it is moved."""
        return self.journals / f"{name}.{table}.parquet"

    def table(self, name: str, table: str) -> Path:
        """Where a table's file of a sealed segment is."""
        return self.root / table / f"date={segment_date(name)}" / f"{name}.parquet"

    def journal_names(self) -> list[str]:
        """The segments that have a journal, in the order in which they began."""
        found = (path.stem for path in self.journals.glob("*" + journal.SUFFIX))
        return sorted(filter(_NAME.fullmatch, found), key=lambda name: name[-36:])

    def sealed_names(self) -> list[str]:
        """The segments that are sealed, in the order in which they began."""
        return self.table_names("exchanges")

    def table_names(self, table: str) -> list[str]:
        """The segments that have a table's file, in the order in which they began."""
        found = (path.stem for path in self.root.glob(f"{table}/date=*/*.parquet"))
        return sorted(filter(_NAME.fullmatch, found), key=lambda name: name[-36:])

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return self.journals.is_dir() or (self.root / "exchanges").is_dir()


def new_segment_name(recorder_id: str, wall_ns: int) -> str:
    """Name a segment that begins now."""
    return f"{recorder_id}-{uuid7(wall_ns)}"


def segment_date(name: str) -> str:
    """Return the UTC day on which a segment began."""
    milliseconds = int(name[-36:].replace("-", "")[:12], 16)
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()


def segment_recorder(name: str) -> str:
    """Return the id of the recorder that wrote a segment."""
    return name[:-37]


class OpenSegment:
    """A segment that is being written: its journal, and its rows so far."""

    def __init__(self, layout: Layout, name: str, began_ns: int) -> None:
        """Begin one, at a moment of the monotonic clock.

        Raises:
            OSError: the folder or the journal cannot be made.
        """
        layout.journals.mkdir(journal.DIRECTORY_MODE, parents=True, exist_ok=True)
        self.layout = layout
        self.name = name
        self.began_ns = began_ns
        self.journal = journal.Journal(layout.journal(name))
        self.batches: Batches = {table: [] for table in SCHEMAS}
        self.is_suspect = False
        """Whether the journal may have records whose rows are not here."""

    @property
    def size(self) -> int:
        """Bytes in the journal."""
        return self.journal.size

    @property
    def is_empty(self) -> bool:
        """Whether the journal has no record."""
        return self.size == len(journal.HEADER)

    def keep(self, rows: Rows) -> None:
        """Keep the rows that records of the journal completed, until it is sealed."""
        for table, batch in rows.batches().items():
            self.batches[table].append(batch)

    def seal(self) -> None:
        """Make the Parquet files, and delete the journal.

        Raises:
            OSError: a file cannot be written; the journal is still there.
        """
        if not self.is_empty:
            seal(self.layout, self.name, self.batches)
        self.journal.remove()


def seal(
    layout: Layout, name: str, batches: Mapping[str, list[pa.RecordBatch]]
) -> None:
    """Write the four files of a segment, and let them appear."""
    for table, schema in SCHEMAS.items():
        rows = pa.Table.from_batches(batches[table], schema=schema)
        keys = _SORT_KEYS.get(table, ["exchange_id", "seq"])
        _write_parquet(
            layout.part(name, table),
            rows.sort_by([(key, "ascending") for key in keys]),
            _DELTA_COLUMNS[table],
        )
    for table in SCHEMAS:
        target = layout.table(name, table)
        target.parent.mkdir(journal.DIRECTORY_MODE, parents=True, exist_ok=True)
        layout.part(name, table).rename(target)


def _write_parquet(path: Path, table: pa.Table, delta_columns: Iterable[str]) -> None:
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, journal.FILE_MODE), "wb") as file:
        writer = pq.ParquetWriter(
            file,
            table.schema,
            compression="zstd",
            use_dictionary=[
                field.name
                for field in table.schema
                if pa.types.is_string(field.type) and field.name != "data"
            ],
            column_encoding={
                name: _ENCODINGS[table.schema.field(name).type]
                for name in delta_columns
            },
            store_schema=False,  # it only repeats, at length, what Parquet says
            write_page_index=True,
        )
        with writer:
            writer.write_table(table, ROW_GROUP_ROWS)
            # It would go with the Arrow schema.
            writer.add_key_value_metadata(table.schema.metadata)
        file.flush()
        # The journal goes next; from then on this is the only copy.
        os.fsync(file.fileno())


class JournalReader:
    """Makes rows of the journals of one recorder, read in the order of their names.

    An exchange that was open when a journal ended goes on in the next one.
    """

    def __init__(self, earlier: Callable[[str], Iterable[EarlierFrame]]) -> None:
        self.open: dict[str, Transcript] = {}
        """The exchanges that have not ended."""
        self.last_ns: dict[str, int] = {}
        """When each of them last said something."""
        self._earlier = earlier

    def read(self, path: Path) -> Rows:
        """Return the rows that a journal completes.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it is not a journal, or is damaged.
        """
        rows = Rows()
        for record in self._without_carried(journal.read(path)):
            transcript = self.open.get(record.exchange_id)
            if transcript is None:
                if record.op is not Op.OPEN:
                    continue  # its opening was lost
                transcript = Transcript(record.exchange_id, self._earlier)
                self.open[record.exchange_id] = transcript
            transcript.add(record, rows)
            self.last_ns[record.exchange_id] = record.at_ns
            if record.op is Op.END:
                del self.open[record.exchange_id], self.last_ns[record.exchange_id]
        return rows

    def _without_carried(self, records: Iterator[Record]) -> Iterator[Record]:
        """Leave out what a journal carried over of exchanges that are known already."""
        carried: dict[str, list[Record]] = {}
        unmentioned = set(self.open)
        is_empty = True
        for record in records:
            is_empty = False
            exchange_id = record.exchange_id
            if record.op is Op.OPEN and exchange_id in self.open:
                carried[exchange_id] = []
                unmentioned.discard(exchange_id)
            if exchange_id not in carried:
                yield record
                continue
            carried[exchange_id].append(record)
            if record.op is Op.CARRY:
                again = carried.pop(exchange_id)
                if self.open[exchange_id].carry() != again:
                    # A journal between the two is a sealed segment by now.
                    del self.open[exchange_id]
                    yield from again
        if not is_empty:
            # What it did not carry over has ended in such a journal.
            for exchange_id in unmentioned & self.open.keys():
                del self.open[exchange_id], self.last_ns[exchange_id]


def earlier_frames(
    layout: Layout, recorder_id: str
) -> Callable[[str], Iterator[EarlierFrame]]:
    """Return what reads an exchange's frames out of the segments sealed before."""

    def read(exchange_id: str) -> Iterator[EarlierFrame]:
        paths = [
            layout.table(name, "frames")
            for name in layout.sealed_names()
            if segment_recorder(name) == recorder_id
        ]
        for path in paths:
            try:
                table = pq.read_table(
                    path,
                    columns=list(EarlierFrame._fields),
                    filters=[("exchange_id", "=", exchange_id)],
                )
            except (OSError, pa.ArrowException) as error:
                raise StoreError(
                    f"{path}: cannot be read ({error}); move it away or restore it"
                ) from error
            for row in table.sort_by("seq").to_pylist():
                yield EarlierFrame(**row)

    return read
