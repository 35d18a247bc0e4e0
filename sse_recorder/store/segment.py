"""Segments: where the files of a store are, and how they come to be there.

    recordings/
      exchanges/date=2026-11-23/<segment>.parquet
      chunks/…  frames/…  tool_calls/…
      .journal/<segment>.carry              begun with what is open in another one
      .journal/<segment>.arrows             being written
      .journal/<segment>.<table>.parquet    being sealed
      .journal/<segment>.damaged            sealed as far as it could be read
      .journal/<segment>.<table>.rebuilt    about to be put in place of a sealed file

A segment is named `<recorder_id>-<uuid7>`, so recorders share nothing and its name
says when it began.  Sealing writes the four Parquet files beside the journal and moves
them into their folders, `exchanges` last; only then is the journal deleted.  A segment
counts as sealed exactly when its file in `exchanges` is there.

Memory is bounded by the size of a segment.  Request bodies that are too long for it
are written to their cells one by one, each in a row group of its own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Op, Record, ToolCall, uuid7
from sse_recorder.spool import OpenFile, Spool
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
CARRY_SUFFIX: Final = ".carry"
DAMAGED_SUFFIX: Final = ".damaged"
ROW_GROUP_ROWS: Final = 50_000
_CARRY_BATCH_BYTES: Final = 1 << 20
_CARRY_BATCH_RECORDS: Final = 1_000

Batches = dict[str, list[pa.RecordBatch]]
Bodies = Mapping[str, Spool]


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

    def carry(self, name: str) -> Path:
        """Where its journal is until it has what it is to begin with."""
        return self.journals / (name + CARRY_SUFFIX)

    def damaged(self, name: str) -> Path:
        """Where its journal is kept if there is more in it than can be read."""
        return self.journals / (name + DAMAGED_SUFFIX)

    def part(self, name: str, table: str) -> Path:
        """Where a table's file is written before it is moved."""
        return self.journals / f"{name}.{table}.parquet"

    def table(self, name: str, table: str) -> Path:
        """Where a table's file of a sealed segment is."""
        return self.root / table / f"date={segment_date(name)}" / f"{name}.parquet"

    def make(self, folder: Path) -> None:
        """Make one of the store's folders, and those above it, for this user alone.

        Raises:
            OSError: it cannot be made.
        """
        self.root.mkdir(journal.DIRECTORY_MODE, parents=True, exist_ok=True)
        for part in (folder.parent, folder):  # `mkdir` has a mode for the last one only
            part.mkdir(journal.DIRECTORY_MODE, exist_ok=True)

    def scratch(self) -> int:
        """Open a file without a name, for this user alone; return its descriptor.

        Raises:
            OSError: it cannot be made.
        """
        with tempfile.TemporaryFile(dir=self.journals) as file:
            return os.dup(file.fileno())

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

    def part_names(self) -> list[str]:
        """The segments that have files which are not in their place."""
        parts = self.journals.glob("*.parquet")
        found = {path.stem.rpartition(".")[0] for path in parts}
        return sorted(filter(_NAME.fullmatch, found), key=lambda name: name[-36:])

    def has_parts(self, name: str) -> bool:
        """Whether a segment has files that are not in their place."""
        return any(self.part(name, table).exists() for table in SCHEMAS)

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

    def __init__(
        self,
        layout: Layout,
        name: str,
        began_ns: int,
        carried: Collection[Transcript] = (),
    ) -> None:
        """Begin one, at a moment of the monotonic clock, with exchanges that are open.

        Raises:
            OSError: the folder or the journal cannot be made; nothing of it is left.
        """
        layout.make(layout.journals)
        self.layout = layout
        self.name = name
        self.began_ns = began_ns
        # A journal says by what it does not carry over that this has ended: so there
        # must be none with a part of it.
        path = layout.carry(name) if carried else layout.journal(name)
        self.journal = journal.Journal(path)
        self.batches: Batches = {table: [] for table in SCHEMAS}
        self.bodies: dict[str, Spool] = {}
        self._carried_size = 0
        self._rows_size = 0
        self.is_suspect = False
        """Whether the journal may have records whose rows are not here."""
        if carried:
            self._carry(carried)

    @property
    def size(self) -> int:
        """Bytes that are new in the journal, or those of the rows, if they are more.

        What was carried over does not count: it would be carried on at once.
        """
        return max(self.journal.size - self._carried_size, self._rows_size)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it, neither in the journal nor as a row."""
        return self.journal.size == len(journal.HEADER) and not self._rows_size

    def _carry(self, transcripts: Iterable[Transcript]) -> None:
        try:
            records: list[Record] = []
            size = 0
            for record in chain.from_iterable(t.carry() for t in transcripts):
                records.append(record)
                size += len(record.payload) if isinstance(record.payload, bytes) else 0
                if size >= _CARRY_BATCH_BYTES or len(records) >= _CARRY_BATCH_RECORDS:
                    self.journal.append(records)
                    records, size = [], 0
            self.journal.append(records)
            self.journal.rename(self.layout.journal(self.name))
        except OSError:
            self.journal.remove()
            raise
        self._carried_size = self.journal.size

    def keep(self, rows: Rows) -> None:
        """Keep the rows that records of the journal completed, until it is sealed."""
        for table, batches in rows.batches().items():
            self.batches[table] += batches
            self._rows_size += sum(batch.nbytes for batch in batches)
        self.bodies |= rows.bodies

    def seal(self) -> None:
        """Make the Parquet files, and delete the journal.

        Raises:
            OSError: a file cannot be written; the journal is still there.
        """
        if not self.is_empty:
            seal(self.layout, self.name, self.batches, self.bodies)
        self.journal.remove()
        for body in self.bodies.values():
            body.close()


def seal(
    layout: Layout,
    name: str,
    batches: Mapping[str, list[pa.RecordBatch]],
    bodies: Bodies | None = None,
) -> None:
    """Write the four files of a segment, and let them appear.

    Args:
        layout: where they go.
        name: the segment's.
        batches: the rows of each table.
        bodies: the request bodies that the rows of `exchanges` lack, by exchange.

    Raises:
        OSError: a file cannot be written, and what was written is deleted again.
    """
    try:
        for table, schema in SCHEMAS.items():
            rows = pa.Table.from_batches(batches.get(table, []), schema=schema)
            keys = _SORT_KEYS.get(table, ["exchange_id", "seq"])
            rows = rows.sort_by([(key, "ascending") for key in keys])
            groups = (
                _with_bodies(rows, bodies or {}) if table == "exchanges" else [rows]
            )
            write_table(layout.part(name, table), table, groups)
        for table in SCHEMAS:
            target = layout.table(name, table)
            layout.make(target.parent)
            layout.part(name, table).rename(target)
    except OSError:
        # They would only take the room that the disk lacks.
        remove_parts(layout, name)
        raise


def remove_parts(layout: Layout, name: str) -> None:
    """Delete what was written of a segment's files and not moved into place."""
    for table in SCHEMAS:
        layout.part(name, table).unlink(missing_ok=True)


def _with_bodies(exchanges: pa.Table, bodies: Bodies) -> Iterator[pa.Table]:
    """Give rows of `exchanges`, those with a body in a file one by one."""
    start = 0
    ids = exchanges.column("exchange_id").to_pylist() if bodies else []
    place = exchanges.schema.get_field_index("request_body")
    for number, exchange_id in enumerate(ids):
        body = bodies.get(exchange_id)
        if body is None:
            continue
        yield exchanges.slice(start, number - start)
        offsets = pa.array([0, body.size], type=pa.int32()).buffers()[1]
        # Unmapped when the last row that has it goes.
        buffers = [None, offsets, pa.py_buffer(body.mapped())]
        cell = pa.Array.from_buffers(pa.binary(), 1, buffers)
        field = exchanges.schema.field(place)
        yield exchanges.slice(number, 1).set_column(place, field, cell)
        start = number + 1
    yield exchanges.slice(start)


def _is_content(field: pa.Field) -> bool:
    return bool(pa.types.is_binary(field.type)) or field.name == "data"


def write_table(path: Path, table: str, groups: Iterable[pa.Table]) -> None:
    """Write a table's file of a segment, each group as row groups of its own.

    Raises:
        OSError: it cannot be written.
    """
    schema = SCHEMAS[table]
    flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, journal.FILE_MODE), "wb") as file:
        writer = pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=[
                field.name
                for field in schema
                if pa.types.is_string(field.type) and field.name != "data"
            ],
            column_encoding={
                name: _ENCODINGS[schema.field(name).type]
                for name in _DELTA_COLUMNS[table]
            },
            # The smallest and largest body say nothing, and take many times its memory.
            write_statistics=[f.name for f in schema if not _is_content(f)],
            store_schema=False,  # it only repeats, at length, what Parquet says
            write_page_index=True,
            write_page_checksum=True,
        )
        with writer:
            for group in groups:
                writer.write_table(group, ROW_GROUP_ROWS)
            # It would go with the Arrow schema.
            writer.add_key_value_metadata(schema.metadata)
        file.flush()
        # The journal goes next; from then on this is the only copy.
        os.fsync(file.fileno())


class JournalReader:
    """Makes rows of the journals of one recorder, read in the order of their names.

    An exchange that was open when a journal ended goes on in the next one.
    """

    def __init__(
        self,
        earlier: Callable[[str], Iterable[EarlierFrame]],
        open_file: OpenFile | None = None,
    ) -> None:
        """Begin to read, with long request bodies in such files, if they are given."""
        self.open: dict[str, Transcript] = {}
        """The exchanges that have not ended."""
        self.last_ns: dict[str, int] = {}
        """When each of them last said something."""
        self.damage: StoreError | None = None
        """Why the last journal could not be read to its end."""
        self._earlier = earlier
        self._open_file = open_file

    def _transcript(self, exchange_id: str) -> Transcript:
        return Transcript(exchange_id, self._earlier, self._open_file)

    def read(self, path: Path) -> Rows:
        """Return the rows that a journal completes, as far as it is sound (`damage`).

        Raises:
            FileNotFoundError: there is none.
            OSError: a long request body cannot be kept.
            StoreError: frames of an earlier segment cannot be read.
        """
        rows = Rows()
        for record in self._without_carried(self._sound(path)):
            if isinstance(record.payload, ToolCall):
                rows.add_tool_calls([record.payload])
                continue
            transcript = self.open.get(record.exchange_id)
            if transcript is None:
                if record.op is not Op.OPEN:
                    continue  # its opening was lost
                transcript = self._transcript(record.exchange_id)
                self.open[record.exchange_id] = transcript
            transcript.add(record, rows)
            if transcript.body_error is not None:
                raise transcript.body_error  # it is whole in the journal
            self.last_ns[record.exchange_id] = record.at_ns
            if record.op is Op.END:
                del self.open[record.exchange_id], self.last_ns[record.exchange_id]
        return rows

    def _sound(self, path: Path) -> Iterator[Record]:
        """Give the records of a journal that can be read."""
        self.damage = None
        try:
            yield from journal.read(path)
        except StoreError as error:
            self.damage = error

    def _without_carried(self, records: Iterator[Record]) -> Iterator[Record]:
        """Leave out what a journal carried over of exchanges that are known already."""
        carried: dict[str, _Carried] = {}
        unmentioned = set(self.open)
        is_empty = True
        for record in records:
            is_empty = False
            exchange_id = record.exchange_id
            if record.op is Op.OPEN and exchange_id in self.open:
                known = self.open[exchange_id]
                carried[exchange_id] = _Carried(known, self._transcript(exchange_id))
                unmentioned.discard(exchange_id)
            if exchange_id not in carried:
                yield record
                continue
            carried[exchange_id].add(record)
            if record.op is Op.CARRY:
                again = carried.pop(exchange_id)
                if not again.is_known:
                    # A journal between the two is a sealed segment by now.
                    self.open[exchange_id] = again.anew
                    yield record
        if not is_empty:
            # What it did not carry over has ended in such a journal.
            for exchange_id in unmentioned & self.open.keys():
                del self.open[exchange_id], self.last_ns[exchange_id]


class _Carried:
    """What a journal carries over of an exchange, against what is known of it."""

    def __init__(self, known: Transcript, anew: Transcript) -> None:
        self.anew = anew
        """The exchange by what was carried, but for the last record, its state."""
        self.is_known = True
        """Whether what is known would have been carried over so."""
        self._expected = known.carry()

    def add(self, record: Record) -> None:
        """Take the next one."""
        self.is_known = self.is_known and next(self._expected, None) == record
        if record.op is not Op.CARRY:
            self.anew.add(record, Rows())


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
