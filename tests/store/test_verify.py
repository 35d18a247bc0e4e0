"""The rules of verifying: a good store has no findings, a broken one has the right."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import Recorder, records_of
from samples import called, exchange_id, finished, meibel_exchange, returned, said

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Ending, Outcome, Record
from sse_recorder.store import cassette
from sse_recorder.store.journal import Journal
from sse_recorder.store.segment import Layout
from sse_recorder.store.store import Store
from sse_recorder.store.verify import CHECKS, Finding, Tally, verify
from sse_recorder.tables import SCHEMAS

RECORDINGS = Path(__file__).parent.parent.parent / "recordings"
GZIP = (("Content-Type", "text/event-stream"), ("Content-Encoding", "gzip"))


def chat(number: int = 1) -> list[Record]:
    """Return an exchange with text, a tool call and an end."""
    events = [
        said(20, "Let me see."),
        called(30, "t1", "search", query="hats"),
        returned(90, "t1"),
        said(120, " Blue hats."),
        finished(150),
    ]
    return meibel_exchange(events, number=number)


def good(root: Path) -> Layout:
    """Make a store of two segments; one exchange is in both of them."""
    long = records_of([b"data: 1\n\n", b"data: 2\n", b"\ndata: 3\n\n"], number=7)
    recorder = Recorder(root)
    recorder.write(chat(1))
    recorder.write(long[:6])
    recorder.roll()
    recorder.write(long[6:])
    recorder.write(chat(2))
    plain = (("Content-Type", "application/json"),)
    recorder.write(records_of([b'{"a":', b"1}"], number=8, headers=plain))
    cut = Ending(outcome=Outcome.CLIENT_ABORT, error="it left")
    recorder.write(records_of([b": hi\n\n", b"data"], number=9, ending=cut))
    recorder.segment.seal()
    return recorder.layout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a good store once, to be copied."""
    return good(tmp_path_factory.mktemp("good")).root


@pytest.fixture
def layout(made: Path, tmp_path: Path) -> Layout:
    """Copy it."""
    return Layout(shutil.copytree(made, tmp_path / "store"))


def found(root: Path) -> list[Finding]:
    """Return what is wrong."""
    return list(verify(root, Tally()))


def checks(root: Path) -> set[str]:
    """Return the names of the checks that failed."""
    return {finding.check for finding in found(root)}


def rewrite(path: Path, table: pa.Table) -> None:
    """Write a file as a recorder does, with other rows or another schema."""
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(table.schema.metadata or {})


def edit(layout: Layout, table: str, change: Callable[[dict[str, Any]], bool]) -> None:
    """Change rows of the table's files; one file, for which `change` says True."""
    for name in layout.table_names(table):
        path = layout.table(name, table)
        schema = pq.read_schema(path)
        read = pq.read_table(path, partitioning=None)
        if table == "exchanges":
            place = schema.get_field_index("started_at")
            times = read.column(place).cast(pa.int64())
            rows = read.set_column(place, "started_at", times).to_pylist()
        else:
            rows = read.to_pylist()
        changed = [change(row) for row in rows]
        if any(changed):
            rows = [row for row in rows if row]
            rewrite(path, pa.Table.from_pylist(rows, schema=schema))
            return
    raise AssertionError("nothing was changed")


def setting(
    where: Callable[[dict[str, Any]], bool], **values: object
) -> Callable[[dict[str, Any]], bool]:
    """Return what gives the rows of which something is true other values."""

    def change(row: dict[str, Any]) -> bool:
        is_wanted = where(row)
        if is_wanted:
            row.update(values)
        return is_wanted

    return change


def dropping(
    where: Callable[[dict[str, Any]], bool],
) -> Callable[[dict[str, Any]], bool]:
    """Return what takes rows out."""

    def change(row: dict[str, Any]) -> bool:
        is_wanted = where(row)
        if is_wanted:
            row.clear()
        return is_wanted

    return change


def test_a_good_store_has_no_findings(layout: Layout) -> None:
    """Exchanges in one segment and in two, coded or not, complete or aborted."""
    tally = Tally()
    assert list(verify(layout.root, tally)) == []
    assert (tally.files, tally.exchanges) == (8, 5)
    assert tally.size == sum(p.stat().st_size for p in layout.root.rglob("*.parquet"))


def test_the_recordings_of_this_project_are_good() -> None:
    """What is committed can be relied upon."""
    tally = Tally()
    for path in RECORDINGS.glob("*.sse.jsonl"):
        assert found(path) == []
        list(verify(path, tally))
    assert tally.exchanges > 0


@pytest.mark.parametrize("table", SCHEMAS)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_every_flipped_bit_of_the_data_is_found(
    layout: Layout, table: str, place: float, bit: int
) -> None:
    """Pages have checksums, and all of them are read."""
    path = layout.table(layout.sealed_names()[1], table)
    whole = path.read_bytes()
    if not (pages := data_pages(path)):
        return  # a table without rows
    offset = pages[int(place * len(pages))]
    data = bytearray(whole)
    data[offset] ^= 1 << bit
    path.write_bytes(data)
    try:
        assert checks(layout.root)
    finally:
        path.write_bytes(whole)


def data_pages(path: Path) -> list[int]:
    """Return the places of the bytes of a file's columns, headers of pages left out."""
    places: list[int] = []
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            # What is last in a column is a page's content.
            end = column.total_compressed_size
            start = column.data_page_offset
            first = column.dictionary_page_offset or start
            places += range(first + end - min(4, end), first + end)
    return places


def test_bytes_that_are_no_parquet_are_found(layout: Layout) -> None:
    """A file that was cut, emptied or replaced is named with what to do."""
    for name, table in zip(layout.sealed_names() * 2, SCHEMAS, strict=True):
        path = layout.table(name, table)
        whole = path.read_bytes()
        for broken in (b"", whole[:-1], whole[: len(whole) // 2], b"PAR1" * 20):
            path.write_bytes(broken)
            (finding,) = found(layout.root)
            assert (finding.file, finding.check) == (str(path), "file")
            assert "restore" in finding.remedy
        path.write_bytes(whole)
    assert found(layout.root) == []


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_missing_file_is_found(layout: Layout, table: str) -> None:
    """A segment has four files, even where a table has no rows."""
    path = layout.table(layout.sealed_names()[0], table)
    path.unlink()
    (finding,) = found(layout.root)
    assert (finding.file, finding.check) == (str(path), "segment")


def test_a_segment_that_was_half_moved_says_to_recover(tmp_path: Path) -> None:
    """Killed between two renames, with the journal still there."""
    recorder = Recorder(tmp_path)
    recorder.write(chat())
    path = recorder.segment.journal.path
    data = path.read_bytes()
    recorder.segment.seal()
    path.write_bytes(data)
    layout = recorder.layout
    layout.table(layout.sealed_names()[0], "exchanges").unlink()
    path.chmod(0o600)
    assert checks(tmp_path) == {"segment", "journal"}
    assert all("recover" in f"{f.problem} {f.remedy}" for f in found(tmp_path))


def is_of(number: int) -> Callable[[dict[str, Any]], bool]:
    """Return what tells the rows of an exchange."""
    eid = chat(number)[0].exchange_id
    return lambda row: row["exchange_id"] == eid


def nth(number: int, seq: int) -> Callable[[dict[str, Any]], bool]:
    """Return what tells one row of an exchange."""
    is_its = is_of(number)
    return lambda row: is_its(row) and row["seq"] == seq


BROKEN = [
    ("request", "exchanges", setting(is_of(1), request_body=b"another")),
    ("request", "exchanges", setting(is_of(1), request_body_size=1)),
    ("request", "exchanges", setting(is_of(1), request_key="0")),
    ("counts", "exchanges", setting(is_of(1), chunk_count=99)),
    ("counts", "exchanges", setting(is_of(1), frame_count=99)),
    ("counts", "exchanges", setting(is_of(1), tool_call_count=99)),
    ("bytes", "exchanges", setting(is_of(1), response_size=1)),
    ("summary", "exchanges", setting(is_of(1), first_content_ns=1)),
    ("summary", "exchanges", setting(is_of(1), session_id="other")),
    ("times", "exchanges", setting(is_of(1), headers_ns=-1)),
    ("times", "exchanges", setting(is_of(1), sent_ns=2**60)),
    ("exchange", "exchanges", dropping(is_of(1))),
    ("times", "chunks", setting(nth(1, 1), at_ns=1)),
    ("times", "chunks", setting(nth(1, 4), at_ns=2**60)),
    ("order", "chunks", setting(nth(1, 4), seq=5)),
    ("order", "chunks", dropping(nth(1, 1))),
    ("bytes", "chunks", setting(nth(1, 4), size=10_000)),
    ("frames", "chunks", setting(nth(1, 4), size=1)),
    ("frames", "frames", setting(nth(1, 0), first_ns=1)),
    ("kinds", "frames", setting(nth(1, 0), event="another_response")),
    ("bytes", "frames", setting(nth(1, 0), size=1)),
    ("frames", "frames", setting(nth(1, 0), layout="{nothing}")),
    ("kinds", "frames", setting(nth(1, 0), kind="other")),
    ("order", "frames", dropping(nth(1, 1))),
    ("bytes", "frames", dropping(nth(1, 4))),
    ("tool_calls", "tool_calls", setting(nth(1, 0), result="{}")),
    ("tool_calls", "tool_calls", setting(nth(1, 0), called_ns=1)),
    ("counts", "tool_calls", dropping(nth(1, 0))),
    ("order", "frames", dropping(nth(7, 0))),
]


@pytest.mark.parametrize(
    ("check", "table", "change"),
    BROKEN,
    ids=[
        f"{number}-{check}-{table}" for number, (check, table, _) in enumerate(BROKEN)
    ],
)
def test_every_kind_of_contradiction_is_found(
    layout: Layout, check: str, table: str, change: Callable[[dict[str, Any]], bool]
) -> None:
    """One value or row that was changed is found, as what it is."""
    edit(layout, table, change)
    findings = found(layout.root)
    assert check in {finding.check for finding in findings}
    assert {finding.exchange_id for finding in findings} <= {
        chat(number)[0].exchange_id for number in (1, 7)
    }


def test_bytes_that_make_other_frames_are_found(layout: Layout) -> None:
    """A frame that has raw bytes although a layout would do is not ours."""
    raw = b"data: 3\n\n"
    last = setting(nth(7, 2), raw=raw, layout=None)
    edit(layout, "frames", last)
    (finding,) = found(layout.root)
    assert finding.check == "frames"
    assert "layout of frame 2" in finding.problem


@pytest.mark.parametrize("version", [b"2", None])
def test_a_file_of_another_version_is_found(
    layout: Layout, version: bytes | None
) -> None:
    """What a later version wrote is not judged."""
    path = layout.table(layout.sealed_names()[0], "chunks")
    metadata = {b"sse_recorder.schema_version": version} if version else None
    table = pq.read_table(path, partitioning=None).replace_schema_metadata(metadata)
    rewrite(path, table)
    (finding,) = found(layout.root)
    assert finding.check == "schema"


def test_a_column_of_another_type_or_id_is_found(layout: Layout) -> None:
    """Who reads by ids must find them; fewer columns are an earlier form."""
    path = layout.table(layout.sealed_names()[0], "exchanges")
    table = pq.read_table(path, partitioning=None)
    fewer = table.drop_columns(table.column_names[-1:])
    rewrite(path, fewer)
    assert found(layout.root) == []
    name = table.column_names[1]
    bare = table.schema.set(1, pa.field(name, pa.string()))
    rewrite(path, table.cast(bare))
    (finding,) = found(layout.root)
    assert finding.check == "schema"
    assert "recorder_id" in finding.problem


def test_journals_are_told_apart(tmp_path: Path) -> None:
    """One that is held is fine, one that a crash left is not, nor one of somebody's."""
    recorder = Recorder(tmp_path)
    recorder.write(chat(1)[:6])
    recorder.roll()
    recorder.write(chat(2))
    assert found(tmp_path) == []
    recorder.die()
    (finding,) = found(tmp_path)
    assert finding.check == "journal"
    assert "recover" in finding.remedy
    recorder.segment.journal.path.write_bytes(b"something else, longer than a header")
    assert {(f.check, f.exchange_id) for f in found(tmp_path)} == {
        ("journal", None),
        # Nothing says any more that it is open.
        ("exchange", chat(1)[0].exchange_id),
    }


def test_files_that_others_can_read_are_warned_of(layout: Layout) -> None:
    """Recordings may hold what people wrote; that is a warning, and no damage."""
    path = layout.table(layout.sealed_names()[0], "frames")
    path.chmod(0o644)
    (finding,) = found(layout.root)
    assert (finding.check, finding.is_warning) == ("mode", True)
    assert finding.problem == "its mode is 644"


def test_incomplete_exchanges_need_not_agree(layout: Layout) -> None:
    """They say that something is lost; what they have is still looked at."""
    is_its = is_of(1)
    edit(layout, "exchanges", setting(is_its, outcome="incomplete", chunk_count=99))
    assert found(layout.root) == []
    edit(layout, "chunks", dropping(nth(1, 1)))
    assert checks(layout.root) == {"order"}


def test_cassettes_are_verified_too(layout: Layout, tmp_path: Path) -> None:
    """One by one or as a folder; what was cut or altered is found."""
    folder = tmp_path / "cassettes"
    folder.mkdir()
    path = folder / "chat.sse.jsonl"
    with Store.open(layout.root) as store:
        text = "".join(
            cassette.dumps(exchange, store.chunks(exchange.exchange_id))
            for exchange in store.exchanges()
        )
    path.write_text(text, encoding="utf-8")
    assert found(path) == found(folder) == []
    ended = re.sub(r'"ended_ms": [0-9.]+', '"ended_ms": 0.5', text, count=1)
    path.write_text(ended, encoding="utf-8")
    assert checks(path) == {"times"}
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    assert checks(path) == {"file"}


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    """Somebody mistyped a name."""
    with pytest.raises(StoreError, match="no store or cassette"):
        found(tmp_path)
    with pytest.raises(StoreError, match="no store or cassette"):
        found(tmp_path / "absent")


def test_each_check_says_what_holds_and_what_to_do() -> None:
    """The table reads as documentation."""
    assert all(check.rule and check.remedy for check in CHECKS.values())


def test_a_coded_stream_is_verified(tmp_path: Path) -> None:
    """The chunks have the wire's bytes, the frames what they decode to."""
    recorder = Recorder(tmp_path)
    data = gzip.compress(b"data: 1\n\ndata: 2\n\n")
    chunks: Sequence[bytes] = [data[:12], data[12:]]
    recorder.write(records_of(chunks, number=1, headers=GZIP))
    recorder.write(records_of([data[:20]], number=2, headers=GZIP))
    recorder.write(records_of([b"damaged", b"x"], number=3, headers=GZIP))
    recorder.segment.seal()
    assert found(tmp_path) == []
    other = bytearray(chunks[1])
    other[0] ^= 1
    edit(recorder.layout, "chunks", setting(nth(1, 1), data=bytes(other)))
    assert checks(tmp_path) == {"frames"}


def test_what_was_left_behind_is_told(layout: Layout) -> None:
    """Parts and begun journals that nobody answers for, and what could not be read."""
    name = "dead-01936a3e-8c00-7abc-9def-000000000001"
    left = [
        layout.part(name, "chunks"),
        layout.carry(name),
        layout.damaged(name),
    ]
    for path in left:
        path.touch(0o600)
    assert {(f.file, f.check) for f in found(layout.root)} == {
        (str(path), "leftover") for path in left
    }


def test_what_a_living_recorder_is_making_is_not_left_behind(tmp_path: Path) -> None:
    """Its journal says that it is at work."""
    recorder = Recorder(tmp_path)
    recorder.write(chat(1))
    recorder.layout.part(recorder.segment.name, "chunks").touch(0o600)
    begun = recorder.layout.carry(recorder.segment.name)
    other = Journal(begun)
    assert found(tmp_path) == []
    other.close()
    recorder.die()
    assert ("leftover", str(begun)) in {(f.check, f.file) for f in found(tmp_path)}


def test_an_exchange_that_is_there_twice_is_told(layout: Layout) -> None:
    """Both files are named."""
    again = Recorder(layout.root, "other")
    again.write(chat(2))
    again.segment.seal()
    told = {(f.exchange_id, f.check) for f in found(layout.root)}
    assert told == {(exchange_id(2), "unique")}
    assert len(found(layout.root)) == 2


def test_a_call_that_the_request_makes_is_found_again(tmp_path: Path) -> None:
    """A dialect that reads requests is given them, in a store and in a cassette."""
    records = records_of(
        [b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'],
        path="/mcp",
        headers=(("Content-Type", "application/json"), ("Mcp-Session-Id", "s")),
    )
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}'
    records[1] = records[1]._replace(payload=call)
    recorder = Recorder(tmp_path / "store")
    recorder.write(records)
    recorder.segment.seal()
    with Store.open(tmp_path / "store") as store:
        (exchange,) = store.exchanges()
        assert (exchange.dialect, exchange.tool_call_count) == ("mcp", 1)
        text = cassette.dumps(exchange, store.chunks(exchange.exchange_id))
    (tmp_path / "one.sse.jsonl").write_text(text, encoding="utf-8")
    assert found(tmp_path / "store") == []
    assert found(tmp_path / "one.sse.jsonl") == []


def test_a_call_may_be_closed_in_a_later_segment_than_those_after_it(
    tmp_path: Path,
) -> None:
    """Calls are numbered by when they began, and kept when they have ended."""
    records = meibel_exchange(
        [
            called(20, "a", "slow"),
            called(30, "b", "quick"),
            returned(40, "b"),
            returned(90, "a"),
        ]
    )
    recorder = Recorder(tmp_path)
    recorder.write(records[:7])
    recorder.roll()
    recorder.write(records[7:])
    recorder.segment.seal()
    assert len(recorder.layout.sealed_names()) == 2
    assert found(tmp_path) == []
