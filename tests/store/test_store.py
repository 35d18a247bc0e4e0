"""The rules of stores: each row exactly once, and bytes back as they came."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import brotli  # type: ignore[import-untyped]  # has no types
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from making import SEALED, STREAM, Recorder, as_tables, files, pieces, records_of
from samples import MS, STARTED_AT, exchange_id, rows_of, store_with

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Exchange, Headers, Op, Outcome, Record
from sse_recorder.store import cassette
from sse_recorder.store.segment import Layout, seal
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS
from sse_recorder.transcript import BODY_FRAME_MAX

BODY = (
    b'event: tool_call\ndata: {"tool_id":"t1","tool_name":"x","arguments":{"q":1}}\n\n'
    b'event: tool_result\ndata: {"tool_id":"t1","result":"r"}\n\n'
    b"data: " + "é😀".encode() + b"\r\n\r\n: ping\n\ndata: [DONE]\n\n"
)
RECORDS = records_of(pieces(BODY, range(0, 400, 9)))
FIRST = exchange_id(1)


def chunks_of(records: list[Record]) -> list[Chunk]:
    """Return the chunks that records have."""
    return [
        Chunk(r.at_ns, r.payload)
        for r in records
        if r.op is Op.DATA and isinstance(r.payload, bytes)
    ]


@contextmanager
def opened(
    folder: Path, *exchanges: list[Record]
) -> Iterator[tuple[Store, list[Record]]]:
    """Open a store of some exchanges."""
    with Store.open(store_with(folder, exchanges)) as store:
        yield store, exchanges[0]


def counts(store: Store) -> dict[str, int]:
    """Count the rows of each table."""
    return {table: store.sql(f"FROM {table}").num_rows for table in SCHEMAS}


def as_cassette(path: Path, *exchanges: list[Record]) -> Path:
    """Write a cassette of some exchanges."""
    lines = []
    for records in exchanges:
        ended = rows_of(records)[0].ended
        assert ended is not None
        lines.append(cassette.dumps(ended, chunks_of(records)))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_store_and_its_cassette_are_the_same(tmp_path: Path) -> None:
    """Both ways of keeping exchanges give the same tables."""
    second = records_of([b"data: x\n\n"], number=2)
    root = store_with(tmp_path, [RECORDS, second])
    tape = as_cassette(tmp_path / "both.sse.jsonl", RECORDS, second)
    with Store.open(root) as one, Store.open(str(tape)) as other:
        for table in SCHEMAS:
            query = f"FROM {table} ORDER BY ALL"
            assert one.sql(query).to_pylist() == other.sql(query).to_pylist()
        assert list(one.exchanges()) == list(other.exchanges())
        assert list(one.all_chunks()) == list(other.all_chunks())


def test_what_was_recorded_comes_back_as_values(tmp_path: Path) -> None:
    """An exchange, its frames, tool calls and chunks are what the transcript made."""
    with opened(tmp_path, RECORDS) as (store, records):
        transcript, rows = rows_of(records)
        assert store.exchange(FIRST) == transcript.ended
        assert [tuple(frame) for frame in store.frames(FIRST)] == rows.frames
        assert store.tool_calls(FIRST) == transcript.tool_calls
        assert store.chunks(FIRST) == chunks_of(records)
        assert store.body(FIRST) == BODY
        assert store.chunks("nobody") == []


def test_exchanges_come_in_the_order_of_their_beginning(tmp_path: Path) -> None:
    """Also where a condition picks some, and with all nine digits of their time."""
    with opened(tmp_path, *(records_of([], number=n) for n in (3, 1, 2))) as (store, _):
        found = list(store.exchanges())
        assert [e.exchange_id[-1] for e in found] == ["1", "2", "3"]
        assert {e.started_at for e in found} == {STARTED_AT}
        (only,) = store.exchanges(f"exchange_id = '{exchange_id(2)}'")
        assert only.exchange_id == exchange_id(2)
        with pytest.raises(UsageError, match="nonsense"):
            next(store.exchanges("nonsense"))


def gzipped(data: bytes) -> list[bytes]:
    """Compress whole, and cut anywhere."""
    return pieces(gzip.compress(data), range(0, 400, 7))


def brotlied(data: bytes) -> list[bytes]:
    """Compress with a flush after each piece."""
    stream = brotli.Compressor()
    parts = [
        stream.process(piece) + stream.flush()
        for piece in pieces(data, range(0, len(data), 40))
    ]
    return [*parts, stream.finish()]


def zstandarded(data: bytes) -> list[bytes]:
    """Compress with a flush after each piece."""
    stream = zstandard.ZstdCompressor().compressobj()
    parts = [
        stream.compress(piece) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for piece in pieces(data, range(0, len(data), 40))
    ]
    return [*parts, stream.flush()]


CODERS = {"gzip": gzipped, "br": brotlied, "zstd": zstandarded}


@pytest.mark.parametrize("coding", CODERS)
def test_coded_streams_keep_the_wire_and_show_the_frames(
    tmp_path: Path, coding: str
) -> None:
    """Chunks have the bytes of the wire, frames the decoded stream."""
    headers = (*STREAM, ("Content-Encoding", coding))
    parts = CODERS[coding](BODY)
    with opened(tmp_path, records_of(parts, headers=headers)) as (store, records):
        assert store.chunks(FIRST) == chunks_of(records)
        assert store.body(FIRST) == b"".join(parts)
        _, plain = rows_of(records_of([BODY]))
        seen = [(f.size, f.type, f.event, f.data, f.kind) for f in store.frames(FIRST)]
        assert seen == [(f[4], f[5], f[6], f[9], f[12]) for f in plain.frames]
        (call,) = store.tool_calls(FIRST)
        assert call.status == "ok"
        assert store.exchange(FIRST).response_size == len(store.body(FIRST))


JSON: Headers = (("Content-Type", "application/json"),)


@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        (JSON, [b'{"a":', b'"\xc3', b'\xa9"}']),
        (JSON, []),
        (JSON, [b""]),
        (STREAM, [b"", b"data: x", b"", b"\n\n", b""]),
        (STREAM, [b"\xef\xbb", b"\xbfdata: \xff\xfe\n", b"\r\ndata: cut"]),
        (JSON, [bytes(1000), bytes(range(256)) * 8000, b"x" * BODY_FRAME_MAX, b"end"]),
        ((*JSON, ("content-encoding", "gzip")), [b"not", b" gzip"]),
        ((*STREAM, ("content-encoding", "rot13")), [b"qngn", b": k\n\n"]),
        ((), [b"\0", b"\xff"]),
    ],
    ids=["json", "empty", "nothing", "gaps", "utf8", "long", "damaged", "unknown", "-"],
)
def test_any_body_comes_back_chunk_by_chunk(
    tmp_path: Path, headers: Headers, parts: list[bytes]
) -> None:
    """Whatever a body is, its chunks are those that were read."""
    records = records_of(parts, headers=headers)
    with opened(tmp_path, records, records_of([b"other"], number=2)) as (store, _):
        assert store.chunks(FIRST) == chunks_of(records)
        assert dict(store.all_chunks()).get(FIRST, []) == chunks_of(records)
        sizes = store.sql("SELECT size FROM chunks WHERE exchange_id = ?", [FIRST])
        assert sum(sizes.column(0).to_pylist()) == len(b"".join(parts))


def test_ordinary_frames_have_no_raw_bytes(tmp_path: Path) -> None:
    """`raw` is null exactly where layout and fields rebuild the bytes."""
    odd = b"data: \xff\n\n"
    with opened(tmp_path, records_of([BODY, odd, b"data: x"])) as (store, _):
        raws = [(frame.type, frame.raw) for frame in store.frames(FIRST) if frame.raw]
        assert raws == [("event", odd), ("tail", b"data: x")]


def test_an_open_exchange_is_seen_and_followed(tmp_path: Path) -> None:
    """While it runs its outcome is null; `refresh` sees what came since."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:6])
    with Store.open(tmp_path) as store:
        assert store.exchange(FIRST).outcome is None
        assert counts(store) == {
            **dict.fromkeys(SCHEMAS, 0),
            "exchanges": 1,
            "chunks": 2,
        }
        recorder.write(RECORDS[6:-1])
        recorder.roll()
        assert counts(store)["chunks"] == 2
        store.refresh()
        assert store.exchange(FIRST).outcome is None
        assert store.exchange(FIRST).chunk_count == len(RECORDS) - 5
        recorder.write(RECORDS[-1:])
        store.refresh()
        assert store.exchange(FIRST).outcome is Outcome.COMPLETE
        assert store.body(FIRST) == BODY
        recorder.roll()
        store.refresh()
        assert [e.outcome for e in store.exchanges()] == [Outcome.COMPLETE]
    recorder.die()


def test_each_row_is_seen_once_at_every_step_of_a_seal(tmp_path: Path) -> None:
    """Parts, some tables, all of them beside the journal: the rows are the same."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:9])
    recorder.roll(seal=False)
    recorder.write(RECORDS[9:])
    expected = as_tables(rows_of(RECORDS)[1])
    sealing = recorder.unsealed[0]
    layout, name = recorder.layout, sealing.name

    def check() -> None:
        with Store.open(tmp_path) as store:
            for table, rows in expected.items():
                order = "ORDER BY exchange_id, seq" if table != "exchanges" else ""
                assert store.sql(f"FROM {table}_ns {order}").to_pylist() == rows

    check()
    seal(layout, name, sealing.batches)
    check()  # sealed, and the journal not yet deleted
    order = list(SCHEMAS)
    for table in reversed(order):
        layout.table(name, table).rename(layout.part(name, table))
        check()  # some in place, the others still parts
    seal(layout, name, sealing.batches)
    sealing.journal.remove()
    check()
    recorder.die()


def test_a_roll_while_a_store_is_read_hides_nothing(tmp_path: Path) -> None:
    """A journal that is sealed after it was listed is not missing, nor what is open."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:9])
    segment = recorder.segment

    class Rolling(Layout):
        """A folder where a roll happens between a listing and the reading."""

        __slots__ = ()

        def journal_names(self) -> list[str]:
            names = super().journal_names()
            if recorder.segment is segment:
                recorder.roll()
                recorder.write(RECORDS[9:12])
            return names

    with pytest.MonkeyPatch.context() as patch, Store.open(tmp_path) as store:
        patch.setattr("sse_recorder.store.store.Layout", Rolling)
        store.refresh()
        assert store.exchange(FIRST).chunk_count == 8
        assert counts(store)["chunks"] == 8
    recorder.die()


def test_recorders_share_a_store(tmp_path: Path) -> None:
    """Journals and segments of several recorders are one set of tables."""
    one, two = Recorder(tmp_path, "one"), Recorder(tmp_path, "two")
    for number, recorder in enumerate((one, two), start=1):
        recorder.write(records_of([BODY], number=number))
        recorder.roll()
        recorder.write(records_of([BODY], number=number + 10)[:-1])
    with Store.open(tmp_path) as store:
        assert counts(store) == {
            "exchanges": 4,
            "chunks": 4,
            "tool_calls": 4,
            "frames": 4 * 5,
        }
    one.die()
    two.die()


def test_older_files_lack_columns_without_harm(tmp_path: Path) -> None:
    """A segment from before a column was added has null in it."""
    root = store_with(tmp_path, [RECORDS])
    (path,) = root.glob("exchanges/*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.drop_columns(["response_trailers", "tags"]), path)
    with Store.open(root) as store:
        assert store.exchange(FIRST).response_trailers == ()
        assert store.exchange(FIRST).tags == {}


def test_an_exchange_is_found_by_a_part_of_its_id(tmp_path: Path) -> None:
    """The whole id, its beginning or its end names an exchange, if only one."""
    second = records_of([], number=0x1F)
    with opened(tmp_path, RECORDS, second) as (store, _):
        assert store.exchange(exchange_id(0x1F)).exchange_id == exchange_id(0x1F)
        assert store.exchange("01f").exchange_id == exchange_id(0x1F)
        assert store.exchange("001").exchange_id == FIRST
        for name, told in (
            ("01936a3e", "2 exchanges with an id like '01936a3e'"),
            ("nobody", "no exchange with an id like 'nobody'"),
            ("", "'' is like every id"),
            ("%", "no exchange"),
            ("' OR '1'='1", "no exchange"),
        ):
            with pytest.raises(UsageError, match=told) as caught:
                store.exchange(name)
            assert "\n" not in str(caught.value)


def test_an_id_may_be_any_text(tmp_path: Path) -> None:
    """A cassette that was written by hand may have quotes in its ids."""
    names = ["it's", "it", "'; DROP VIEW frames; --"]
    exchanges = [
        [record._replace(exchange_id=name) for record in RECORDS] for name in names
    ]
    with Store.open(as_cassette(tmp_path / "x.sse.jsonl", *exchanges)) as store:
        for name in names:
            assert store.exchange(name).exchange_id == name
            assert store.body(name) == BODY


@pytest.mark.parametrize(
    "query",
    [
        *["SELEC", "SELECT * FROM nobody", "SELECT nothing FROM frames", "SELECT $1"],
        *["SELECT error('mine')", "SELECT 'a'::INT", "SELECT regexp_matches('a', '(')"],
        *["SELECT * FROM read_csv('/nowhere/x.csv')", "SELECT strptime('a', '%Y')"],
    ],
)
def test_a_wrong_query_is_told_in_the_words_of_duckdb(
    tmp_path: Path, query: str
) -> None:
    """Whatever is wrong with a query is its writer's to correct, not the store's."""
    with (
        opened(tmp_path, RECORDS) as (store, _),
        pytest.raises(UsageError, match=r"\w+ Error: ") as caught,
    ):
        store.sql(query)
    assert caught.value.exit_code == 2


def test_a_query_may_have_values_and_may_return_nothing(tmp_path: Path) -> None:
    """Placeholders take values; a statement that is no query gives no rows."""
    with opened(tmp_path, RECORDS) as (store, _):
        found = store.sql("SELECT ? AS a, seq FROM frames LIMIT ?", ["x", 1])
        assert found.to_pylist() == [{"a": "x", "seq": 0}]
        assert store.sql("CREATE TABLE mine (a INT)").num_rows == 0
        with pytest.raises(UsageError, match="there is no query in ''"):
            store.sql("")


def test_times_of_day_are_what_sql_has_functions_for(tmp_path: Path) -> None:
    """In the view they have six digits and a zone."""
    with opened(tmp_path, RECORDS) as (store, _):
        found = store.sql(
            "SELECT strftime(started_at, '%Y') AS y, epoch_us(started_at) AS us,"
            " typeof(started_at) AS t FROM exchanges"
        )
        assert found.to_pylist() == [
            {"y": "2026", "us": STARTED_AT // 1000, "t": "TIMESTAMP WITH TIME ZONE"}
        ]


def one_line(error: StoreError) -> str:
    """Return the message of an error of the environment, which is one line."""
    assert type(error) is StoreError
    assert error.exit_code == 3
    text = str(error)
    assert "\n" not in text
    return text


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    """A path that is missing, or a folder without recordings, names the way out."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for name in ("missing", "empty", "other"):
        with pytest.raises(StoreError, match="sse-recorder record") as caught:
            Store.open(tmp_path / name)
        assert name in one_line(caught.value)


def test_a_file_that_is_no_cassette_says_so(tmp_path: Path) -> None:
    """A damaged cassette, or any other file, is told with the number of the line."""
    tape = as_cassette(tmp_path / "x.sse.jsonl", RECORDS)
    lines = tape.read_bytes().splitlines(keepends=True)
    for number, line in ((1, b"PAR1\n"), (3, lines[2][:-9] + b"\n")):
        tape.write_bytes(b"".join([*lines[: number - 1], line, *lines[number:]]))
        with pytest.raises(StoreError, match=f"x.sse.jsonl, line {number}:") as caught:
            Store.open(tape)
        one_line(caught.value)


# Without its file of exchanges a segment does not count, so that is never missing.
@pytest.mark.parametrize(
    ("table", "damage"),
    [
        (table, damage)
        for table in SCHEMAS
        for damage in ("empty", "cut", "foreign", "missing")
        if (table, damage) != ("exchanges", "missing")
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, table: str, damage: str) -> None:
    """A Parquet file that cannot be read is told, on opening or on the query."""
    root = store_with(tmp_path, [RECORDS])
    (path,) = root.glob(f"{table}/*/*.parquet")
    if damage == "missing":
        path.unlink()
    else:
        data = {"empty": b"", "cut": path.read_bytes()[:-50], "foreign": b"x" * 5000}
        path.write_bytes(data[damage])
    with pytest.raises(StoreError, match="move that file away or restore it") as caught:
        Store.open(root)
    assert str(path) in one_line(caught.value)


def test_a_file_that_is_damaged_later_is_not_the_fault_of_the_query(
    tmp_path: Path,
) -> None:
    """Damage that only a query meets is the store's error too."""
    with opened(tmp_path, RECORDS) as (store, _):
        (path,) = store.path.glob("frames/*/*.parquet")
        data = path.read_bytes()
        path.write_bytes(data[:4] + b"\xff" * 60 + data[64:])
        with pytest.raises(StoreError, match="cannot be read") as caught:
            store.sql("SELECT * FROM frames")
        one_line(caught.value)


def test_frames_that_were_altered_are_not_passed_off_as_bytes(tmp_path: Path) -> None:
    """Where a layout does not fit its fields, no wrong bytes are given."""
    root = store_with(tmp_path, [RECORDS])
    (path,) = root.glob("frames/*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    nothing = pa.nulls(table.num_rows, pa.string())
    column = table.schema.get_field_index("data")
    pq.write_table(table.set_column(column, "data", nothing), path)
    with Store.open(root) as store, pytest.raises(StoreError, match="layout") as caught:
        store.chunks(FIRST)
    one_line(caught.value)


def test_foreign_files_in_the_folder_are_not_read(tmp_path: Path) -> None:
    """Only files that are named as segments are taken for some."""
    root = store_with(tmp_path, [RECORDS])
    for name in ("exchanges/date=2026-11-23/notes.parquet", ".journal/notes.arrows"):
        (root / name).write_bytes(b"mine")
    with Store.open(root) as store:
        assert counts(store)["exchanges"] == 1


def test_a_journal_that_cannot_be_read_is_named_and_the_rest_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is named as a journal, but is none, is told, once."""
    foreign, sound = Recorder(tmp_path, "a"), Recorder(tmp_path, "b")
    foreign.die()
    path = foreign.segment.journal.path
    path.write_bytes(b"foreign")
    sound.write(RECORDS)
    with Store.open(tmp_path) as store:
        assert counts(store)["exchanges"] == 1
        store.refresh()
    sound.die()
    assert caplog.text.count(f"{path}: not a journal") == 1


def test_a_path_may_have_quotes(tmp_path: Path) -> None:
    """The names of folders are data, in SQL too."""
    folder = tmp_path / "it's [a] *store*"
    folder.mkdir()
    with opened(folder, RECORDS) as (store, _):
        assert store.body(FIRST) == BODY


def test_looking_changes_nothing(tmp_path: Path) -> None:
    """A reader locks nothing and writes nothing."""
    recorder = Recorder(tmp_path)
    recorder.write(RECORDS[:9])
    with Store.open(tmp_path) as store:
        assert files(tmp_path) == {".journal.arrows": 1}
        recorder.write(RECORDS[9:])
        recorder.segment.seal()
        assert counts(store)["exchanges"] == 1
    assert files(tmp_path) == SEALED


def test_an_exchange_row_is_an_exchange(tmp_path: Path) -> None:
    """Nothing of a row is lost on the way: outcome, headers, tags, times."""
    with opened(tmp_path, RECORDS) as (store, _):
        exchange = store.exchange(FIRST)
        assert isinstance(exchange, Exchange)
        assert isinstance(exchange.outcome, Outcome)
        assert exchange.response_headers == STREAM
        assert exchange.sent_ns == 1 * MS


def test_any_thread_may_ask(tmp_path: Path) -> None:
    """Queries of several threads run one after another, and each gets its answer."""
    with opened(tmp_path, RECORDS) as (store, _), ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda n: store.sql("SELECT ? AS n", [n]), range(100))
        assert [table.column(0)[0].as_py() for table in answers] == list(range(100))


def test_any_thread_may_look_again(tmp_path: Path) -> None:
    """A query finds the views whole, whoever has them made anew meanwhile."""
    with opened(tmp_path, RECORDS) as (store, _), ThreadPoolExecutor(4) as pool:
        asked = pool.map(lambda _: store.sql("FROM stalls"), range(40))
        for _ in range(10):
            store.refresh()
        assert len(list(asked)) == 40


def test_request_bodies_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    """Each exchange has its own, in the order of the exchanges, however large."""
    recorder = Recorder(tmp_path)
    sizes = (9 << 20, 10, 8 << 20, 17 << 20, 0)
    for number, size in enumerate(sizes, start=1):
        begin, _, *rest = records_of([], number=number)
        body = Record(begin.exchange_id, Op.REQUEST_DATA, 0, bytes([number]) * size)
        recorder.write([begin, body, *rest])
    recorder.segment.seal()
    with Store.open(tmp_path) as store:
        found = [exchange.request_body for exchange in store.exchanges()]
    assert [len(body) for body in found] == list(sizes)
    assert [set(body) for body in found] == [{1}, {2}, {3}, {4}, set()]
