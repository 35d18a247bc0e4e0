"""The rules of segments: where files are, what is in them, how journals are read."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from making import RECORDER, SEALED, Recorder, files, in_memory, on_disk, records_of
from samples import MS, STARTED_AT, exchange_id, rows_of

from sse_recorder.errors import StoreError
from sse_recorder.exchange import uuid7
from sse_recorder.store.segment import (
    JournalReader,
    Layout,
    OpenSegment,
    earlier_frames,
    new_segment_name,
    segment_date,
    segment_recorder,
)
from sse_recorder.tables import FIELD_ID, SCHEMA_VERSION, SCHEMAS, VERSION_KEY, Rows
from sse_recorder.transcript import no_earlier_frames

RECORDS = records_of([b"event: a\ndata: 1\n\n", b"data: 2\n", b"\n"])


@pytest.mark.parametrize("recorder", ["a", "a-b", "4f-", "x" * 80])
def test_a_name_tells_its_recorder_and_its_day(recorder: str) -> None:
    """A segment's name says who wrote it and when it began, by the UTC day."""
    name = new_segment_name(recorder, STARTED_AT)
    assert segment_recorder(name) == recorder
    assert segment_date(name) == "2026-11-23"


def test_where_the_files_are() -> None:
    """Journals and parts lie apart from the tables, which are split by day."""
    layout, name = Layout(Path("r")), f"a-{uuid7(STARTED_AT)}"
    assert layout.journal(name) == Path(f"r/.journal/{name}.arrows")
    assert layout.part(name, "frames") == Path(f"r/.journal/{name}.frames.parquet")
    assert layout.table(name, "frames") == Path(
        f"r/frames/date=2026-11-23/{name}.parquet"
    )


def test_names_come_in_the_order_of_time_and_foreign_ones_do_not(
    tmp_path: Path,
) -> None:
    """Segments are listed by when they began; other files are not listed."""
    layout = Layout(tmp_path)
    assert not layout.exists()
    assert layout.journal_names() == layout.sealed_names() == []
    names = [f"{r}-{uuid7(STARTED_AT + n * MS)}" for n, r in enumerate("cab")]
    too_late = "x-f0000000-0000-7000-8000-000000000000"
    version_4 = "x-01936a3e-8c00-4abc-9def-000000000001"
    layout.journals.mkdir()
    assert layout.exists()
    (tmp_path / "exchanges" / "date=2026-11-23").mkdir(parents=True)
    for name in (*reversed(names), too_late, version_4, "notes"):
        layout.journal(name).touch()
        (tmp_path / "exchanges" / "date=2026-11-23" / f"{name}.parquet").touch()
    assert layout.journal_names() == names
    assert layout.sealed_names() == layout.table_names("exchanges") == names
    assert layout.table_names("chunks") == []


def test_a_sealed_segment_is_four_files_and_no_journal(tmp_path: Path) -> None:
    """Sealing leaves the tables, and nothing of what was needed to make them."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:5])
    recorder.write(RECORDS[5:])
    recorder.segment.seal()
    assert files(tmp_path) == SEALED
    assert on_disk(tmp_path) == in_memory(RECORDS)


def test_a_segment_without_records_leaves_nothing(tmp_path: Path) -> None:
    """An idle recorder makes no files."""
    segment = OpenSegment(Layout(tmp_path), new_segment_name("a", STARTED_AT), 7)
    assert segment.is_empty
    assert segment.began_ns == 7
    segment.seal()
    assert files(tmp_path) == {}


def test_files_name_their_columns_by_number_and_their_version(tmp_path: Path) -> None:
    """Every column of a file has its field id, and every file the schema version."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS)
    recorder.segment.seal()
    for table, schema in SCHEMAS.items():
        (path,) = tmp_path.glob(f"{table}/date=2026-11-23/*.parquet")
        written = pq.read_schema(path)
        assert written.metadata[VERSION_KEY] == SCHEMA_VERSION.encode()
        assert [int(field.metadata[FIELD_ID]) for field in written] == list(
            range(1, len(schema) + 1)
        )
        assert written.remove_metadata().equals(schema.remove_metadata())
        assert (
            pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
        )


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """What was recorded is nobody else's to read, whatever the umask."""
    before = os.umask(0)
    try:
        recorder = Recorder(tmp_path)
        recorder.write(RECORDS)
        recorder.roll()
        recorder.die()
    finally:
        os.umask(before)
    modes = {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()}
    assert modes == {0o600}
    assert (tmp_path / ".journal").stat().st_mode & 0o777 == 0o700


def test_rows_are_sorted_by_exchange(tmp_path: Path) -> None:
    """Rows of exchanges that ran at once lie together, for readers of one of them."""
    recorder = Recorder(tmp_path)
    both = zip(RECORDS, records_of([b"data: 3\n\n"] * 3, number=0), strict=True)
    recorder.write([record for pair in both for record in pair])
    recorder.segment.seal()
    (path,) = tmp_path.glob("frames/*/*.parquet")
    frames = pq.read_table(path, partitioning=None).to_pylist()
    assert [(f["exchange_id"][-1], f["seq"]) for f in frames] == [
        *[("0", 0), ("0", 1), ("0", 2)],
        *[("1", 0), ("1", 1)],
    ]


def read_all(recorder: Recorder) -> tuple[JournalReader, Rows]:
    """Read all the journals of a recorder."""
    reader, rows = JournalReader(no_earlier_frames), Rows()
    for name in recorder.layout.journal_names():
        found = reader.read(recorder.layout.journal(name))
        for table in SCHEMAS:
            getattr(rows, table).extend(getattr(found, table))
    return reader, rows


def test_an_exchange_goes_on_in_the_next_journal(tmp_path: Path) -> None:
    """What a journal carried over is not read twice."""
    recorder = Recorder(tmp_path)
    for record in RECORDS:
        recorder.write([record])
        recorder.roll(seal=False)
    recorder.die()
    reader, rows = read_all(recorder)
    assert reader.open == {}
    assert rows.tables() == rows_of(RECORDS)[1].tables()


def test_an_open_exchange_is_known_with_its_last_time(tmp_path: Path) -> None:
    """A reader of a growing journal has what is open, and when it last spoke."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:-1])
    reader, _ = read_all(recorder)
    assert list(reader.open) == [exchange_id(1)]
    assert reader.last_ns == {exchange_id(1): RECORDS[-2].at_ns}
    recorder.die()


def test_what_ended_in_a_segment_between_two_journals_is_not_open(
    tmp_path: Path,
) -> None:
    """A later journal that does not carry an exchange over says that it has ended."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:-1])
    recorder.roll(seal=False)
    recorder.write(RECORDS[-1:])
    recorder.roll()
    recorder.write(records_of([], number=2)[:1])
    recorder.die()
    reader, rows = read_all(recorder)
    assert list(reader.open) == [exchange_id(2)]
    assert rows.exchanges == []


def test_an_exchange_without_its_opening_is_passed_over(tmp_path: Path) -> None:
    """A full queue may drop the record that says what the others belong to."""
    recorder = Recorder(tmp_path)
    recorder.segment.journal.append(RECORDS[1:])
    reader, rows = read_all(recorder)
    assert reader.open == {}
    assert rows.batches() == {}
    recorder.die()


def test_earlier_frames_are_those_of_the_same_recorder(tmp_path: Path) -> None:
    """Frames before a roll are read from what the same recorder sealed, in order."""
    ours, theirs = Recorder(tmp_path), Recorder(tmp_path, "other")
    for recorder in (ours, theirs):
        recorder.write(RECORDS)
        recorder.roll()
        recorder.die()
    frames = list(earlier_frames(Layout(tmp_path), RECORDER)(exchange_id(1)))
    assert [(f.seq, f.type, f.event, f.data) for f in frames] == [
        (0, "event", "a", "1"),
        (1, "event", None, "2"),
    ]
    assert [f.last_ns for f in frames] == [15 * MS, 35 * MS]
    assert list(earlier_frames(Layout(tmp_path), RECORDER)("another")) == []


def test_earlier_frames_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    """A damaged file is one clear error, with its name."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS)
    recorder.roll()
    recorder.die()
    (path,) = tmp_path.glob("frames/*/*.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="move it away or restore it") as caught:
        list(earlier_frames(Layout(tmp_path), RECORDER)(exchange_id(1)))
    assert str(path) in str(caught.value)


def test_a_seal_that_fails_keeps_the_journal(tmp_path: Path) -> None:
    """Where the tables cannot be written, everything is still in the journal."""
    (tmp_path / "frames").write_bytes(b"in the way")
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS)
    with pytest.raises(OSError, match="frames"):
        recorder.segment.seal()
    assert recorder.layout.sealed_names() == []
    assert recorder.segment.journal.path.exists()
    recorder.die()
