"""The four tables: their columns, and rows on their way into them.

Every column carries a `PARQUET:field_id`, numbered in the order below, so that table
formats which go by id (Iceberg) can adopt the files as they are.  Columns are added at
the end; an id is never used again.  Nested fields count from `NESTED_IDS` upwards.
What a column means is said beside it, and is not written to files.

`Rows` gathers rows as tuples, in column order, and the common ones, many events that
came each in a chunk of its own, as the columns that they are parsed into (`EventRun`);
`Rows.batches` turns them into Arrow when they are flushed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import chain, count, repeat
from operator import add
from typing import Any, Final, NamedTuple

import pyarrow as pa

from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.spool import Spool

SCHEMA_VERSION: Final = "1"
VERSION_KEY: Final = b"sse_recorder.schema_version"
FIELD_ID: Final = b"PARQUET:field_id"
NESTED_IDS: Final = 1_001

Row = tuple[Any, ...]
_Columns = Sequence[tuple[str, pa.DataType | str, str]]
"""Names, types and meanings: of a time, what happened then."""


def _schema(columns: _Columns) -> pa.Schema:
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
            for number, (name, kind, _) in enumerate(columns, start=1)
        ],
        metadata={VERSION_KEY: SCHEMA_VERSION.encode()},
    )


_TEXT, _BYTES = pa.string(), pa.binary()
_I16, _I32, _I64 = pa.int16(), pa.int32(), pa.int64()

_EXCHANGES: Final[_Columns] = (
    ("exchange_id", _TEXT, "UUIDv7"),
    ("recorder_id", _TEXT, "the recorder that wrote it"),
    (
        "started_at",
        pa.timestamp("ns", tz="UTC"),
        "wall time of t0, when the request head was complete",
    ),
    ("method", _TEXT, "of the request: GET, POST, …"),
    ("url", _TEXT, "where the request went, in full"),
    ("path", _TEXT, "as sent upstream, without the query"),
    ("request_headers", "headers", "as sent upstream, in their order"),
    ("request_body", _BYTES, "its bytes, after masking"),
    ("request_body_size", _I64, "length of the request body"),
    ("request_body_sha256", _TEXT, "of the request body, after masking"),
    ("request_key", _TEXT, "digest by which replays match requests"),
    ("status", _I16, "of the response: 200, 404, …; null without a head"),
    ("reason", _TEXT, "words beside the status: OK, Not Found, …"),
    ("http_version", _TEXT, "of the response: 1.1, …"),
    ("response_headers", "headers", "as received, in their order"),
    ("dialect", _TEXT, "API that it follows: openai_chat, …; generic if none"),
    ("session_id", _TEXT, "session or conversation, where the API tells it"),
    ("model", _TEXT, "model that answered, where the API tells it"),
    ("outcome", _TEXT, "how it ended: complete, client_abort, …; null while open"),
    ("error", _TEXT, "what broke, in words; null if nothing did"),
    ("sent_ns", _I64, "the request had gone upstream whole"),
    ("headers_ns", _I64, "the response head was read"),
    ("first_chunk_ns", _I64, "the first bytes of the body were read"),
    ("first_event_ns", _I64, "the first dispatched event was read"),
    ("first_content_ns", _I64, "the first text, reasoning or tool call was read"),
    ("last_content_ns", _I64, "the last text, reasoning or tool call was read"),
    ("ended_ns", _I64, "the exchange was over; null while open"),
    ("chunk_count", _I32, "rows that it has in chunks"),
    ("frame_count", _I32, "rows that it has in frames"),
    ("tool_call_count", _I32, "tool calls of its response, unmatched results too"),
    ("response_size", _I64, "length of the response body on the wire"),
    ("input_tokens", _I64, "reported usage, tokens read from a cache included"),
    ("output_tokens", _I64, "reported usage"),
    ("finish_reason", _TEXT, "why the model stopped, in the API's words"),
    ("trace_id", _TEXT, "trace that its spans belong to"),
    ("span_id", _TEXT, "the span of the exchange"),
    ("tags", "map", "labels of `record --tag`"),
    ("response_trailers", "headers", "headers after the body"),
    ("parent_span_id", _TEXT, "the client's span; empty without one"),
    (
        "received_path",
        _TEXT,
        "path as the client sent it, if it was sent on as another",
    ),
    ("trace_flags", _I16, "of its span: 1 if sampled; null if nobody decided"),
)
EXCHANGES: Final = _schema(_EXCHANGES)

_CHUNKS: Final[_Columns] = (
    ("exchange_id", _TEXT, "the exchange"),
    ("seq", _I32, "counts from 0 in an exchange"),
    ("at_ns", _I64, "the read returned"),
    ("size", _I32, "length of what it brought, transfer coding taken off"),
    ("data", _BYTES, "bytes of the wire where the body is compressed, else null"),
)
CHUNKS: Final = _schema(_CHUNKS)

_FRAMES: Final[_Columns] = (
    ("exchange_id", _TEXT, "the exchange"),
    ("seq", _I32, "counts from 0 in an exchange"),
    ("first_ns", _I64, "its first byte was read"),
    ("last_ns", _I64, "its last byte was read: its time"),
    ("size", _I32, "length of its bytes"),
    ("type", _TEXT, "event, comment, fields, tail or body"),
    ("event", _TEXT, "its own field event, null without one"),
    ("id", _TEXT, "its own field id, null without one"),
    ("retry", _I64, "its own field retry, null without one"),
    ("data", _TEXT, "what its event dispatches: its data lines joined"),
    ("layout", _TEXT, "pattern that makes its bytes again of the fields"),
    ("raw", _BYTES, "bytes, where layout and fields cannot make them again"),
    ("kind", _TEXT, "what the dialect takes it for: text, tool_call, usage, …"),
    ("anomaly", _TEXT, "what in it breaks the rules of event streams"),
)
FRAMES: Final = _schema(_FRAMES)

_TOOL_CALLS: Final[_Columns] = (
    ("exchange_id", _TEXT, "exchange whose response has the call"),
    ("seq", _I32, "counts from 0 in an exchange"),
    ("tool_id", _TEXT, "id that the API gave the call"),
    ("tool_name", _TEXT, "tool that was called"),
    ("arguments", _TEXT, "JSON, as the stream had it"),
    ("result", _TEXT, "JSON, as the stream or the next request had it"),
    ("status", _TEXT, "ok, error, unanswered, superseded or unmatched"),
    ("timing", _TEXT, "wire_bracket (one stream) or cross_request (by the client)"),
    ("first_ns", _I64, "first sign of the call"),
    ("called_ns", _I64, "its arguments were complete"),
    ("result_ns", _I64, "its result was read, or sent in the next request"),
    ("duration_ns", _I64, "result_ns - called_ns; null without both"),
    ("call_frame", _I32, "frames.seq with which its arguments were complete"),
    ("result_frame", _I32, "frames.seq that has the result"),
    ("result_exchange_id", _TEXT, "exchange whose request has the result"),
    ("parallelism", _I32, "calls open when it began, itself included"),
    ("span_id", _TEXT, "the span of the call"),
)
TOOL_CALLS: Final = _schema(_TOOL_CALLS)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "chunks": CHUNKS,
    "frames": FRAMES,
    "tool_calls": TOOL_CALLS,
    # Last: its file says that the segment is whole.
    "exchanges": EXCHANGES,
}

MEANINGS: Final = {
    table: {name: meaning for name, _, meaning in columns}
    for table, columns in (
        ("exchanges", _EXCHANGES),
        ("chunks", _CHUNKS),
        ("frames", _FRAMES),
        ("tool_calls", _TOOL_CALLS),
    )
}
"""What each column of each table means, in a line."""

ROWS: Final = {
    "exchanges": "one request and its whole response",
    "chunks": "what one read from the upstream's socket brought",
    "frames": "one block of an event stream, or a body that is none",
    "tool_calls": "a call of a tool and its result",
}
"""What a row of each table is."""

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
    """Successive frames of an exchange that are events, by columns."""

    exchange_id: str
    seq: int
    """Of the first one."""
    first_ns: Sequence[int]
    last_ns: Sequence[int]
    size: Sequence[int]
    event: Sequence[str | None]
    id: Sequence[str | None]
    data: Sequence[str]
    layout: Sequence[str]
    kind: Sequence[str]


class Rows:
    """Rows of the four tables, gathered in the order in which they came about."""

    __slots__ = (
        "bodies",
        "chunk_runs",
        "chunks",
        "exchanges",
        "frames",
        "runs",
        "tool_calls",
    )

    def __init__(self) -> None:
        self.exchanges: list[Row] = []
        self.chunks: list[Row] = []
        self.frames: list[Row] = []
        self.tool_calls: list[Row] = []
        self.runs: list[EventRun] = []
        """More rows of `frames`,"""
        self.chunk_runs: list[tuple[str, int, Sequence[int], Sequence[int]]] = []
        """and of `chunks`: the exchange, the first one's seq, their times and sizes."""
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
        batches: dict[str, list[pa.RecordBatch]] = {}
        if self.chunk_runs:
            batches["chunks"] = [_of_chunk_runs(self.chunk_runs)]
        if self.runs:
            batches["frames"] = [_of_runs(self.runs)]
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


def _of_chunk_runs(
    runs: list[tuple[str, int, Sequence[int], Sequence[int]]],
) -> pa.RecordBatch:
    ids, seqs, at_ns, sizes = zip(*runs, strict=True)
    counts = list(map(len, sizes))
    columns = {
        "exchange_id": _repeated(ids, counts),
        "seq": _numbers(seqs, counts),
        "at_ns": list(chain.from_iterable(at_ns)),
        "size": list(chain.from_iterable(sizes)),
    }
    return _of_columns(CHUNKS, columns, sum(counts))


def _of_runs(runs: list[EventRun]) -> pa.RecordBatch:
    ids, seqs, *rest = zip(*runs, strict=True)
    counts = [len(run.size) for run in runs]
    columns: dict[str, Any] = {
        name: list(chain.from_iterable(column))
        for name, column in zip(EventRun._fields[2:], rest, strict=True)
    }
    columns["exchange_id"] = _repeated(ids, counts)
    columns["seq"] = _numbers(seqs, counts)
    columns["type"] = pa.repeat("event", sum(counts))
    return _of_columns(FRAMES, columns, sum(counts))


def _repeated(values: Sequence[str], counts: list[int]) -> list[str]:
    return list(chain.from_iterable(map(repeat, values, counts)))


def _numbers(starts: Sequence[int], counts: list[int]) -> list[int]:
    ends = map(add, starts, counts)
    return list(chain.from_iterable(map(range, starts, ends)))


def _of_columns(
    schema: pa.Schema, columns: dict[str, Any], rows: int
) -> pa.RecordBatch:
    arrays = [
        pa.array(column, type=field.type)
        if (column := columns.get(field.name)) is not None
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
