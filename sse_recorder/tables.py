"""The four tables: their columns, and rows on their way into them.

Every column carries a `PARQUET:field_id`, numbered in the order below, so that table
formats which go by id (Iceberg) can adopt the files as they are.  Columns are added at
the end; an id is never used again.  Nested fields count from `NESTED_IDS` upwards.

`Rows` gathers rows as tuples, in column order, and the common ones, many events that
came each in a chunk of its own, as the columns that they are parsed into (`EventRun`);
`Rows.batches` turns them into Arrow when they are flushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import chain, count
from typing import Any, Final, NamedTuple

import pyarrow as pa

from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.spool import Spool

SCHEMA_VERSION: Final = "1"
VERSION_KEY: Final = b"sse_recorder.schema_version"
FIELD_ID: Final = b"PARQUET:field_id"
NESTED_IDS: Final = 1_001

Row = tuple[Any, ...]


def _schema(columns: Sequence[tuple[str, pa.DataType | str]]) -> pa.Schema:
    """Build a schema whose fields are numbered in order, nested ones apart."""
    nested = count(NESTED_IDS)

    def numbered(name: str, kind: pa.DataType, field_id: int) -> pa.Field:
        return pa.field(name, kind, metadata={FIELD_ID: str(field_id).encode()})

    def named_values() -> pa.DataType:
        element_id, name_id, value_id = next(nested), next(nested), next(nested)
        pair = pa.struct(
            [
                numbered("name", pa.string(), name_id),
                numbered("value", pa.string(), value_id),
            ]
        )
        return pa.list_(numbered("element", pair, element_id))

    def string_map() -> pa.DataType:
        key = pa.field(
            "key",
            pa.string(),
            nullable=False,
            metadata={FIELD_ID: str(next(nested)).encode()},
        )
        return pa.map_(key, numbered("value", pa.string(), next(nested)))

    special = {"headers": named_values, "map": string_map}
    return pa.schema(
        [
            numbered(name, special[kind]() if isinstance(kind, str) else kind, number)
            for number, (name, kind) in enumerate(columns, start=1)
        ],
        metadata={VERSION_KEY: SCHEMA_VERSION.encode()},
    )


_TEXT, _BYTES = pa.string(), pa.binary()
_I16, _I32, _I64 = pa.int16(), pa.int32(), pa.int64()

EXCHANGES: Final = _schema(
    [
        ("exchange_id", _TEXT),
        ("recorder_id", _TEXT),
        ("started_at", pa.timestamp("ns", tz="UTC")),
        ("method", _TEXT),
        ("url", _TEXT),
        ("path", _TEXT),
        ("request_headers", "headers"),
        ("request_body", _BYTES),
        ("request_body_size", _I64),
        ("request_body_sha256", _TEXT),
        ("request_key", _TEXT),
        ("status", _I16),
        ("reason", _TEXT),
        ("http_version", _TEXT),
        ("response_headers", "headers"),
        ("dialect", _TEXT),
        ("session_id", _TEXT),
        ("model", _TEXT),
        ("outcome", _TEXT),
        ("error", _TEXT),
        ("sent_ns", _I64),
        ("headers_ns", _I64),
        ("first_chunk_ns", _I64),
        ("first_event_ns", _I64),
        ("first_content_ns", _I64),
        ("last_content_ns", _I64),
        ("ended_ns", _I64),
        ("chunk_count", _I32),
        ("frame_count", _I32),
        ("tool_call_count", _I32),
        ("response_size", _I64),
        ("input_tokens", _I64),
        ("output_tokens", _I64),
        ("finish_reason", _TEXT),
        ("trace_id", _TEXT),
        ("span_id", _TEXT),
        ("tags", "map"),
        ("response_trailers", "headers"),
        ("parent_span_id", _TEXT),
        ("received_path", _TEXT),
    ]
)

CHUNKS: Final = _schema(
    [
        ("exchange_id", _TEXT),
        ("seq", _I32),
        ("at_ns", _I64),
        ("size", _I32),
        ("data", _BYTES),
    ]
)

FRAMES: Final = _schema(
    [
        ("exchange_id", _TEXT),
        ("seq", _I32),
        ("first_ns", _I64),
        ("last_ns", _I64),
        ("size", _I32),
        ("type", _TEXT),
        ("event", _TEXT),
        ("id", _TEXT),
        ("retry", _I64),
        ("data", _TEXT),
        ("layout", _TEXT),
        ("raw", _BYTES),
        ("kind", _TEXT),
        ("anomaly", _TEXT),
    ]
)

TOOL_CALLS: Final = _schema(
    [
        ("exchange_id", _TEXT),
        ("seq", _I32),
        ("tool_id", _TEXT),
        ("tool_name", _TEXT),
        ("arguments", _TEXT),
        ("result", _TEXT),
        ("status", _TEXT),
        ("timing", _TEXT),
        ("first_ns", _I64),
        ("called_ns", _I64),
        ("result_ns", _I64),
        ("duration_ns", _I64),
        ("call_frame", _I32),
        ("result_frame", _I32),
        ("result_exchange_id", _TEXT),
        ("parallelism", _I32),
        ("span_id", _TEXT),
    ]
)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "chunks": CHUNKS,
    "frames": FRAMES,
    "tool_calls": TOOL_CALLS,
    # Last: its file says that the segment is whole.
    "exchanges": EXCHANGES,
}

_EXCHANGE_FIELDS = tuple(f.name for f in fields(Exchange))
_TOOL_CALL_FIELDS = tuple(f.name for f in fields(ToolCall))


class FrameRow(NamedTuple):
    """One frame: a row of the table `frames`, column for column."""

    exchange_id: str
    seq: int
    first_ns: int
    last_ns: int
    size: int
    type: str
    event: str | None
    id: str | None
    retry: int | None
    data: str | None
    layout: str | None
    raw: bytes | None
    kind: str
    anomaly: str | None


class EventRun(NamedTuple):
    """Successive chunks of an exchange, of which each is one event, by columns."""

    exchange_id: str
    chunk_seq: int
    """Of the first chunk,"""
    frame_seq: int
    """and of its frame."""
    at_ns: Sequence[int]
    size: Sequence[int]
    event: Sequence[str | None]
    id: Sequence[str | None]
    data: Sequence[str]
    layout: Sequence[str]
    kind: Sequence[str]


class Rows:
    """Rows of the four tables, gathered in the order in which they came about."""

    __slots__ = ("bodies", "chunks", "exchanges", "frames", "runs", "tool_calls")

    def __init__(self) -> None:
        self.exchanges: list[Row] = []
        self.chunks: list[Row] = []
        self.frames: list[Row] = []
        self.tool_calls: list[Row] = []
        self.runs: list[EventRun] = []
        """More rows of `chunks` and `frames`."""
        self.bodies: dict[str, Spool] = {}
        """The request bodies that are too long for memory, by the exchange's id; their
        cells are null until the row is written."""

    def add_exchange(self, exchange: Exchange, body: Spool | None = None) -> None:
        """Add the row of an exchange.

        Args:
            exchange: the values of the row.
            body: its request body, if that is in a file.
        """
        values = {name: getattr(exchange, name) for name in _EXCHANGE_FIELDS}
        values["tags"] = list(exchange.tags.items())
        if body is not None:
            values["request_body"] = None
            self.bodies[exchange.exchange_id] = body
        self.exchanges.append(tuple(values.values()))

    def add_tool_calls(self, calls: Iterable[ToolCall]) -> None:
        """Add the rows of tool calls."""
        for call in calls:
            self.tool_calls.append(
                tuple(getattr(call, name) for name in _TOOL_CALL_FIELDS)
            )

    def batches(self) -> dict[str, list[pa.RecordBatch]]:
        """Return what was gathered as Arrow, without the tables that have nothing."""
        batches = _of_runs(self.runs) if self.runs else {}
        for name, schema in SCHEMAS.items():
            if rows := getattr(self, name):
                batches.setdefault(name, []).append(_batch(schema, rows))
        return batches

    def tables(self) -> dict[str, pa.Table]:
        """Return what was gathered as four Arrow tables, empty ones among them."""
        batches = self.batches()
        return {
            name: pa.Table.from_batches(batches.get(name, []), schema=schema)
            for name, schema in SCHEMAS.items()
        }


def _batch(schema: pa.Schema, rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [
        _array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _of_runs(runs: list[EventRun]) -> dict[str, list[pa.RecordBatch]]:
    """Return the chunks and the frames of runs, two tables of as many rows."""

    def joined(name: str) -> list[Any]:
        return list(chain.from_iterable(getattr(run, name) for run in runs))

    def numbers(name: str) -> list[int]:
        starts = ((getattr(run, name), len(run.at_ns)) for run in runs)
        return list(chain.from_iterable(range(s, s + size) for s, size in starts))

    at_ns = pa.array(joined("at_ns"), _I64)
    given: dict[str, Any] = {
        "exchange_id": [run.exchange_id for run in runs for _ in run.at_ns],
        "at_ns": at_ns,
        "first_ns": at_ns,
        "last_ns": at_ns,
        "type": pa.repeat("event", len(at_ns)),
        **{name: joined(name) for name in EventRun._fields[4:]},
    }
    batches = {}
    for table, schema, seq in (
        ("chunks", CHUNKS, "chunk_seq"),
        ("frames", FRAMES, "frame_seq"),
    ):
        columns = given | {"seq": numbers(seq)}
        if table == "chunks":
            del columns["data"]  # it is in the frames
        arrays = [
            pa.array(column, type=field.type)
            if (column := columns.get(field.name)) is not None
            else pa.nulls(len(at_ns), field.type)
            for field in schema
        ]
        batches[table] = [pa.RecordBatch.from_arrays(arrays, schema=schema)]
    return batches


def _array(column: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(column, type=kind)
    except UnicodeEncodeError:
        # Text of half a surrogate pair, such as an argument of the command line that
        # is not UTF-8, has no encoding.  It is kept as it is escaped.
        return pa.array([_encodable(value) for value in column], type=kind)


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case list() | tuple():
            return [tuple(map(_encodable, pair)) for pair in value]
        case _:
            return value
