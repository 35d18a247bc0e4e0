"""The rules of reading anew: frames that are stored say what the bytes said."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace

import pytest
from making import in_memory, pieces, records_of
from samples import called, meibel_exchange, rows_of, said

from sse_recorder.exchange import Ending, Exchange, Op, Outcome, Record, RequestHead
from sse_recorder.match import PARSED_BYTES_MAX
from sse_recorder.store.rebuild.reading import DERIVED, Reading, StoredFrame, call_rows
from sse_recorder.tables import FrameRow
from sse_recorder.transcript import BODY_FRAME_MAX

MESSAGE = b'{"model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":5}}'
JSON = (("Content-Type", "application/json"),)


def read(records: Sequence[Record]) -> tuple[Exchange, Reading, list[str], list[str]]:
    """Record an exchange and read it anew; return its kinds by both."""
    transcript, _ = rows_of(records)
    assert transcript.ended is not None
    frames = in_memory(records)["frames"]
    reading = Reading(transcript.ended)
    names = StoredFrame._fields
    again = [
        reading.read(StoredFrame(**{name: frame[name] for name in names}))
        for frame in frames
    ]
    return transcript.ended, reading, [f["kind"] for f in frames], [*map(str, again)]


@pytest.mark.parametrize(
    "records",
    [
        meibel_exchange([called(20, "a", "search"), said(30, "x")]),
        meibel_exchange([called(20, "a", "search")], outcome=Outcome.UPSTREAM_ABORT),
        records_of(
            pieces(b"id: 1\n\n: ping\n\ndata: [DONE]\n\ndata: x", [3, 20]), path="/"
        ),
        records_of([MESSAGE], headers=JSON, path="/v1/messages"),
        records_of([b"x" * BODY_FRAME_MAX, b"y"], headers=JSON, path="/v1/messages"),
        records_of([b"x" * BODY_FRAME_MAX, MESSAGE], headers=JSON, path="/v1/messages"),
        records_of([], path="/v1/messages"),
        records_of([MESSAGE], path="/", headers=()),
        records_of(
            [gzip.compress(b'event: error\ndata: {"message":"no"}\n\n')],
            headers=(
                ("Content-Type", "text/event-stream"),
                ("Content-Encoding", "gzip"),
            ),
        ),
        records_of(
            [gzip.compress(b"data: x\n\n")[:-4]],
            headers=(
                ("Content-Type", "text/event-stream"),
                ("Content-Encoding", "gzip"),
            ),
        ),
    ],
    ids=[
        *("events", "cut", "comments", "body", "long body", "bodies", "nothing"),
        *("unknown", "coded", "coded and cut"),
    ],
)
def test_what_was_just_recorded_reads_the_same(records: list[Record]) -> None:
    """Kinds, columns and tool calls, whatever the body was."""
    exchange, reading, kinds, again = read(records)
    assert again == kinds
    assert reading.close() == {name: getattr(exchange, name) for name in DERIVED}
    _, rows = rows_of(records)
    assert reading.calls() == call_rows(rows)


def test_text_is_compared_as_a_file_keeps_it() -> None:
    """Half a surrogate pair has no encoding, and is not another one each time."""
    records = meibel_exchange(path="/v2/sessions/\ud800/chat/stream")
    transcript, _ = rows_of(records)
    assert transcript.ended is not None
    assert Reading(transcript.ended).close()["session_id"] == "\\ud800"


def test_a_request_body_that_is_too_long_is_not_read() -> None:
    """As it was not when it was recorded."""
    body = b'{"model":"m","x":"' + b"x" * PARSED_BYTES_MAX + b'"}'
    records = records_of([], headers=JSON, path="/v1/messages")
    records[1:2] = [Record(records[0].exchange_id, Op.REQUEST_DATA, 0, body)]
    transcript, _ = rows_of(records)
    assert transcript.ended is not None
    bare = replace(transcript.ended, request_body=b"")
    assert Reading(bare).close()["model"] is transcript.ended.model is None


def test_a_call_that_a_request_makes_is_read_from_it() -> None:
    """A tool runs from the request on."""
    records = records_of(
        [b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'], headers=JSON, path="/mcp"
    )
    opening = records[0].payload
    request = RequestHead("POST", "/mcp", (("Mcp-Session-Id", "s"),))
    records[0] = records[0]._replace(payload=replace(opening, request=request))  # type: ignore[type-var]
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"add"}}'
    records[1] = records[1]._replace(payload=call)
    exchange, reading, kinds, again = read(records)
    assert exchange.tool_call_count == 1
    assert again == kinds == ["tool_result"]
    reading.close()
    ((_, seq, _, name, *_),) = reading.calls()
    assert (seq, name) == (0, "add")


def test_frames_have_what_reading_needs() -> None:
    """Their fields are columns of the table, in its order."""
    places = [FrameRow._fields.index(name) for name in StoredFrame._fields]
    assert places == sorted(places)


def test_a_client_that_left_after_the_last_word_left_no_error() -> None:
    """It has had everything, which was told when it left."""
    records = records_of(
        [b"data: [DONE]\n\n"], ending=Ending(outcome=Outcome.CLIENT_ABORT, error="left")
    )
    exchange, reading, kinds, again = read(records)
    assert exchange.outcome is Outcome.COMPLETE
    assert (kinds, again) == (["finish"], ["finish"])
    assert reading.close()["error"] is None
