"""A stream as a dialect reads it: what each event is, and what became of the tools."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sse_recorder import dialects
from sse_recorder.dialects.base import Reading
from sse_recorder.dialects.pairing import ToolLedger
from sse_recorder.exchange import RequestHead, ToolCall

MS = 1_000_000


@dataclass
class Story:
    """What a stream came to."""

    readings: list[Reading] = field(default_factory=list)
    tools: list[ToolCall] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What each event is."""
        return [str(reading.kind) for reading in self.readings]

    @property
    def text(self) -> str:
        """The text of all events."""
        return "".join(reading.text for reading in self.readings)

    @property
    def calls(self) -> list[tuple[str | None, ...]]:
        """Each call's id, name, arguments, result and status, in their order."""
        return [
            (t.tool_id, t.tool_name, t.arguments, t.result, t.status)
            for t in sorted(self.tools, key=lambda tool: tool.seq)
        ]

    @property
    def spans(self) -> list[tuple[int | None, ...]]:
        """When each call began, was complete and had its result, in events."""
        return [
            tuple(
                ns and ns // MS
                for ns in (tool.first_ns, tool.called_ns, tool.result_ns)
            )
            for tool in sorted(self.tools, key=lambda tool: tool.seq)
        ]

    def last(self, name: str) -> Any:
        """Return the last thing that was said of the exchange by a name."""
        said = [getattr(reading, name) for reading in self.readings]
        return next((value for value in reversed(said) if value is not None), None)


def read(
    name: str,
    events: Iterable[tuple[str | None, object] | object],
    *,
    path: str = "/",
    body: bytes = b"",
) -> Story:
    """Read a stream, whose events are a millisecond apart.

    Args:
        name: of the dialect.
        events: payloads, or pairs of the event's name and payload; what is no text
            becomes JSON.
        path: of the request.
        body: of the request.
    """
    dialect = dialects.load(name)(RequestHead("POST", path))
    story, ledger = Story(), ToolLedger("01936a3e-8c00-7abc-9def-0123456789ab")
    for tool in dialect.read_request(body).tools:
        story.tools += ledger.add(tool, None, 0)
    for number, said in enumerate(events, 1):
        event, payload = said if isinstance(said, tuple) else (None, said)
        data = payload if isinstance(payload, str) else json.dumps(payload)
        reading = dialect.read_event(event, data)
        story.readings.append(reading)
        for tool in reading.tools:
            story.tools += ledger.add(tool, number, number * MS)
    story.tools += ledger.close()
    return story


def read_body(name: str, value: object, *, request: bytes = b"") -> Story:
    """Read an answer that is no event stream."""
    dialect = dialects.load(name)(RequestHead("POST", "/"))
    story, ledger = Story(), ToolLedger("01936a3e-8c00-7abc-9def-0123456789ab")
    readings = (
        dialect.read_request(request),
        dialect.read_body(json.dumps(value).encode()),
    )
    story.readings = [readings[1]]
    for number, reading in enumerate(readings):
        for tool in reading.tools:
            story.tools += ledger.add(tool, number, number * MS)
    story.tools += ledger.close()
    return story


def new_results(name: str, request: object) -> list[tuple[Any, ...]]:
    """Return the results that are new in a request: id, result, failed, and its call.

    The recorder parses only bodies that have a mark of a result in them, so one must be
    there.
    """
    dialect, body = dialects.load(name), json.dumps(request).encode()
    results = dialect.read_turn(body).results
    assert not results or any(mark in body for mark in dialect.result_marks)
    return [tuple(result)[:5] for result in results if not result.may_be_old]
