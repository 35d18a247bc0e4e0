"""Recordings made by hand, with times that a test can reason about.

    records = meibel_exchange(
        [called(100, "t1", "search"), returned(250, "t1"), said(300, "Hi")]
    )
    store = store_with(tmp_path, [records])

The records go through the same code that a recorder runs, into a sealed segment; those
of an exchange without an end go into a journal that is still being written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.store import cassette
from sse_recorder.store.segment import Layout, OpenSegment
from sse_recorder.tables import Rows
from sse_recorder.transcript import Transcript

MS: Final = 1_000_000
STARTED_AT: Final = 1_795_428_930_123_000_000
"""2026-11-23T10:15:30.123Z."""
RECORDER: Final = "test"
CHAT: Final = "/v2/sessions/0193a0c4/chat/stream"


class Event(NamedTuple):
    """An event of a stream, and when its blank line was read."""

    at_ms: float
    name: str | None
    data: str


def event(at_ms: float, name: str, payload: dict[str, Any]) -> Event:
    """Return any of Meibel's events."""
    return Event(at_ms, name, json.dumps(payload))


def said(at_ms: float, text: str) -> Event:
    """Return new text of the answer."""
    return event(at_ms, "partial_response", {"data": {"message": text}})


def called(at_ms: float, tool_id: str, name: str, **arguments: object) -> Event:
    """Return a tool call."""
    payload = {"tool_id": tool_id, "tool_name": name, "arguments": arguments}
    return event(at_ms, "tool_call", payload)


def returned(at_ms: float, tool_id: str, result: object = "done") -> Event:
    """Return the result of a call; `{"error": …}` says that the tool failed."""
    return event(at_ms, "tool_result", {"tool_id": tool_id, "result": result})


def finished(at_ms: float) -> Event:
    """Return the completion."""
    return event(at_ms, "completion", {"data": {"message": ""}, "disposition": "stop"})


def exchange_id(number: int) -> str:
    """Return the id of the exchange with a number."""
    return f"01936a3e-8c00-7abc-9def-{number:012x}"


def meibel_exchange(
    events: Iterable[Event] = (),
    *,
    number: int = 1,
    started_at: int = STARTED_AT,
    path: str = CHAT,
    sent_ms: float = 1,
    headers_ms: float = 10,
    ended_ms: float | None = 1000,
    outcome: Outcome = Outcome.COMPLETE,
    error: str | None = None,
) -> list[Record]:
    """Return the records of an exchange whose every event is a read of its own.

    Args:
        events: what its stream says, in the order of time.
        number: tells it from others; see `exchange_id`.
        started_at: the wall time of t0.
        path: where the request goes.
        sent_ms: when the request was sent whole; as all times, since t0.
        headers_ms: when the response head came.
        ended_ms: when it was over; None leaves it open.
        outcome: how it ended.
        error: what went wrong.
    """
    eid, body = exchange_id(number), b'{"message":"Hello"}'
    headers = (("Host", "api.meibel.ai"), ("Content-Type", "application/json"))
    opening = Opening(
        recorder_id=RECORDER,
        started_at=started_at,
        url=f"https://api.meibel.ai{path}",
        request=RequestHead("POST", path, headers),
    )
    head = ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),))
    records = [
        Record(eid, Op.OPEN, 0, opening),
        Record(eid, Op.REQUEST_DATA, 0, body),
        Record(eid, Op.SENT, _ns(sent_ms)),
        Record(eid, Op.HEAD, _ns(headers_ms), head),
    ]
    for at_ms, name, data in events:
        field = "" if name is None else f"event: {name}\n"
        frame = f"{field}data: {data}\n\n".encode()
        records.append(Record(eid, Op.DATA, _ns(at_ms), frame))
    if ended_ms is not None:
        ending = Ending(outcome=outcome, error=error)
        records.append(Record(eid, Op.END, _ns(ended_ms), ending))
    return records


def plain_exchange(
    at_ms: float, body: str, *, status: int = 200, number: int = 1, path: str = CHAT
) -> list[Record]:
    """Return the records of an exchange whose answer is JSON, read at once."""
    head = ResponseHead(status, "OK", (("Content-Type", "application/json"),))
    records = [
        record._replace(payload=head) if record.op is Op.HEAD else record
        for record in meibel_exchange(number=number, path=path, ended_ms=at_ms + 10)
    ]
    data = Record(records[0].exchange_id, Op.DATA, _ns(at_ms), body.encode())
    return [*records[:-1], data, records[-1]]


def chat_exchange(
    number: int,
    *,
    calls: Iterable[str] = (),
    results: Iterable[str] = (),
    at_ms: float = 0,
    ended_ms: float = 100,
) -> list[Record]:
    """Return a chat of which the client runs the tools.

    Args:
        number: tells it from others; see `exchange_id`.
        calls: the ids of what it calls, `search` with the id as the query.  The
            arguments are complete after 50 ms.
        results: the ids of calls of earlier chats that its request answers.
        at_ms: when it began.
        ended_ms: how long it took.
    """
    eid = exchange_id(number)
    opening = Opening(
        recorder_id=RECORDER,
        started_at=STARTED_AT + _ns(at_ms),
        url="https://api.example/v1/chat/completions",
        request=RequestHead("POST", "/v1/chat/completions"),
    )
    head = ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),))
    answers = [
        {"role": "tool", "tool_call_id": i, "content": f"of {i}"} for i in results
    ]
    body = {"messages": [{"role": "user", "content": "Hi"}, *answers]}
    found = [
        {
            "index": index,
            "id": tool_id,
            "function": {"name": "search", "arguments": json.dumps({"q": tool_id})},
        }
        for index, tool_id in enumerate(calls)
    ]
    choice = {"delta": {"tool_calls": found}, "finish_reason": "tool_calls"}
    frame = f"data: {json.dumps({'choices': [choice]})}\n\n".encode()
    ending = Ending(outcome=Outcome.COMPLETE)
    return [
        Record(eid, Op.OPEN, 0, opening),
        Record(eid, Op.REQUEST_DATA, 0, json.dumps(body).encode()),
        Record(eid, Op.SENT, _ns(1)),
        Record(eid, Op.HEAD, _ns(10), head),
        Record(eid, Op.DATA, _ns(50), frame),
        Record(eid, Op.END, _ns(ended_ms), ending),
    ]


def conversation() -> list[list[Record]]:
    """Return chats of which the second answers one of two calls, 250 ms later."""
    return [
        chat_exchange(11, calls=["c1", "c2"]),
        chat_exchange(12, results=["c1", "c9"], calls=["c3"], at_ms=300),
        chat_exchange(13, results=["c3"], at_ms=400),
    ]


def cassette_with(path: Path, exchanges: Iterable[Sequence[Record]]) -> Path:
    """Write a cassette of exchanges, and return where it is."""
    path.write_text(
        cassette.canonical(cassette.transcribe(one, Rows()) for one in exchanges)
    )
    return path


def rows_of(records: Sequence[Record]) -> tuple[Transcript, Rows]:
    """Return what the records of one exchange amount to."""
    transcript, rows = Transcript(records[0].exchange_id), Rows()
    for record in records:
        transcript.add(record, rows)
    return transcript, rows


def store_with(folder: Path, exchanges: Iterable[Sequence[Record]]) -> Path:
    """Write a store into a folder, and return where it is.

    Args:
        folder: it becomes the folder `recordings` in here.
        exchanges: the records of each exchange; open ones stay in a journal.
    """
    root = folder / "recordings"
    layout = Layout(root)
    sealed = OpenSegment(layout, f"{RECORDER}-{uuid7(STARTED_AT)}", 0)
    growing = OpenSegment(layout, f"{RECORDER}-{uuid7(STARTED_AT + MS)}", 0)
    for records in exchanges:
        segment = sealed if records[-1].op is Op.END else growing
        segment.journal.append(records)
        segment.keep(rows_of(records)[1])
    sealed.seal()
    if growing.is_empty:
        growing.journal.remove()
    growing.journal.close()
    return root


def _ns(milliseconds: float) -> int:
    return round(milliseconds * MS)
