"""The rules of the tables: columns, their numbers, and rows that fit them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pyarrow as pa
import pytest
from making import opening, records_of
from samples import rows_of

from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.tables import (
    EXCHANGES,
    FIELD_ID,
    MEANINGS,
    NESTED_IDS,
    ROWS,
    SCHEMA_VERSION,
    SCHEMAS,
    VERSION_KEY,
    FrameRow,
    Rows,
)

COLUMNS = {
    "exchanges": (
        "exchange_id recorder_id started_at method url path request_headers"
        " request_body request_body_size request_body_sha256 request_key status reason"
        " http_version response_headers dialect session_id model outcome error sent_ns"
        " headers_ns first_chunk_ns first_event_ns first_content_ns last_content_ns"
        " ended_ns chunk_count frame_count tool_call_count response_size input_tokens"
        " output_tokens finish_reason trace_id span_id tags response_trailers"
        " parent_span_id received_path trace_flags"
    ),
    "chunks": "exchange_id seq at_ns size data",
    "frames": (
        "exchange_id seq first_ns last_ns size type event id retry data layout raw kind"
        " anomaly"
    ),
    "tool_calls": (
        "exchange_id seq tool_id tool_name arguments result status timing first_ns"
        " called_ns result_ns duration_ns call_frame result_frame result_exchange_id"
        " parallelism span_id"
    ),
}
RECORDS = records_of(
    [
        b'event: tool_call\ndata: {"tool_id":"t","tool_name":"n","arguments":{}}\n\n',
        b'event: tool_result\ndata: {"tool_id":"t","result":1}\n\n',
    ]
)


@pytest.mark.parametrize("table", SCHEMAS)
def test_columns_keep_their_place(table: str) -> None:
    """A column's number is in files that exist: new ones come at the end."""
    assert COLUMNS[table].split() == SCHEMAS[table].names
    numbers = [int(field.metadata[FIELD_ID]) for field in SCHEMAS[table]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert SCHEMAS[table].metadata == {VERSION_KEY: SCHEMA_VERSION.encode()}


def test_every_column_has_a_meaning_that_no_file_has() -> None:
    """In a line, for every column that there is; what is written is numbers alone."""
    assert {table: list(columns) for table, columns in MEANINGS.items()} == {
        table: columns.split() for table, columns in COLUMNS.items()
    }
    assert list(ROWS) == list(MEANINGS)
    for text in [*ROWS.values(), *(m for c in MEANINGS.values() for m in c.values())]:
        assert text.isprintable()
        assert text == text.strip(" .")
        assert 4 < len(text) < 80
    for schema in SCHEMAS.values():
        assert {key for field in schema for key in field.metadata} == {FIELD_ID}


def test_exchanges_are_written_last() -> None:
    """A segment is whole when its file of exchanges is there."""
    assert list(SCHEMAS)[-1] == "exchanges"


def test_nested_columns_have_numbers_of_their_own() -> None:
    """Names and values inside of headers and tags have ids that nothing else has."""

    def inner(kind: pa.DataType) -> list[pa.Field]:
        if pa.types.is_list(kind):
            return [kind.value_field, *inner(kind.value_type)]
        if pa.types.is_map(kind):
            return [kind.key_field, kind.item_field]
        return list(kind) if pa.types.is_struct(kind) else []

    found = [
        int(field.metadata[FIELD_ID])
        for column in EXCHANGES
        for field in inner(column.type)
    ]
    assert sorted(found) == list(range(NESTED_IDS, NESTED_IDS + 11))


def test_values_are_rows_field_for_field() -> None:
    """The dataclasses and the tables have the same fields in the same order."""
    assert [f.name for f in fields(Exchange)] == SCHEMAS["exchanges"].names
    assert [f.name for f in fields(ToolCall)] == SCHEMAS["tool_calls"].names
    assert list(FrameRow._fields) == SCHEMAS["frames"].names


def test_rows_become_four_tables() -> None:
    """Every table is there, with its schema, whether it has rows or not."""
    _, rows = rows_of(RECORDS)
    tables = rows.tables()
    assert {name: table.num_rows for name, table in tables.items()} == {
        "chunks": 2,
        "frames": 2,
        "tool_calls": 1,
        "exchanges": 1,
    }
    for name, table in {**tables, **Rows().tables()}.items():
        assert table.schema.equals(SCHEMAS[name], check_metadata=True)
    assert all(table.num_rows == 0 for table in Rows().tables().values())


def test_only_what_has_rows_is_a_batch() -> None:
    """The writer flushes twenty times a second; most of the time few tables grow."""
    _, rows = rows_of(RECORDS[:5])
    assert list(rows.batches()) == ["chunks", "frames"]
    assert Rows().batches() == {}


def test_an_exchange_is_its_row() -> None:
    """Headers keep their order and their case, tags their order."""
    begin = opening(
        headers=(("B", "1"), ("a", "\xff"), ("B", "2")), tags={"z": "", "a": "1"}
    )
    transcript, rows = rows_of([RECORDS[0]._replace(payload=begin), *RECORDS[1:]])
    (row,) = rows.tables()["exchanges"].to_pylist()
    assert transcript.ended is not None
    assert row["request_headers"] == [
        {"name": "B", "value": "1"},
        {"name": "a", "value": "\xff"},
        {"name": "B", "value": "2"},
    ]
    assert row["tags"] == [("z", ""), ("a", "1")]
    assert row["outcome"] == "complete"
    assert row["exchange_id"] == transcript.ended.exchange_id


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": {"file": "a\udcff.txt"}},
        {"url": "http://h/\udcff"},
        {"headers": (("X", "\ud800"), ("Y", "kept"))},
    ],
)
def test_text_that_has_no_encoding_is_kept_as_it_is_escaped(
    changes: dict[str, Any],
) -> None:
    """A file name that is not UTF-8 must not cost the recording."""
    begin = opening(headers=changes.pop("headers", ()))
    values = {
        name: getattr(begin, name) for name in ("recorder_id", "started_at", "url")
    }
    changed = type(begin)(**(values | {"request": begin.request} | changes))
    _, rows = rows_of([RECORDS[0]._replace(payload=changed), *RECORDS[1:]])
    (row,) = rows.tables()["exchanges"].to_pylist()
    kept = repr([row["tags"], row["url"], row["request_headers"]])
    assert "\\\\udcff" in kept or "\\\\ud800" in kept
    assert row["outcome"] == "complete"
