"""LangGraph's platform: events named by the stream's modes.

    metadata            {run_id, attempt}               first
    messages            [chunk, metadata]               a piece of a message
    messages/partial    [message]                       a message so far
    updates, values     messages in the graph's state
    tools               {event: tool-started | tool-finished | tool-error, tool_call_id}
    custom, debug, …    whatever the graph says
    error               {error, message}
    end                 null

A subgraph's events have its namespace behind the name: `updates|child:0193`.  Modes can
be had together, and then each call and each result comes several times: the first is
the one that counts.

Source: the langgraph and langgraph-sdk packages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    ToolArguments,
    ToolCalled,
    ToolEvent,
    ToolReturned,
    ToolStarted,
    compact,
    count_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_of,
)
from sse_recorder.exchange import RequestHead

_PATH = re.compile(r"(?:/threads/([^/]+))?/runs(?:/[^/]+)?/(?:stream|join)$")
# Tuples, because what is looked for may be anything, which a set would have to hash.
_AI: Final = ("ai", "AIMessage", "AIMessageChunk", "assistant")
_TOOL: Final = ("tool", "ToolMessage", "ToolMessageChunk")
_DEPTH_MAX: Final = 6
"""How deep in a state messages are looked for."""


class LangGraph(Dialect):
    """Reads one run."""

    name: ClassVar[str] = "langgraph"
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "run_id", "thread_id", "tool_call_id", "checkpoint_id", "created_at"}
    )

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._called: set[str] = set()
        self._returned: set[str] = set()
        # The calls that come in pieces, by their message and index.
        self._pieces: dict[tuple[str, str], str] = {}
        self._length: dict[str, int] = {}  # of each message's text so far

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the operations that stream a run."""
        return _PATH.search(request.path) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By its first event."""
        return event == "metadata" and "run_id" in parse_object(data)

    def session_id(self) -> str | None:
        """Return the thread in the path."""
        match = _PATH.search(self.request.path)
        return match and match[1]

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, by the mode that its name begins with."""
        mode = (event or "").partition("|")[0]
        if mode == "end":
            return Reading(Kind.FINISH, terminal=True)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        match mode:
            case "metadata":
                return Reading(Kind.CONNECTED)
            case "error":
                return Reading(Kind.ERROR, error=message_of(value), terminal=True)
            case "messages":
                return self._piece(member(value, 0))
            case "messages/partial" | "messages/complete":
                return self._read(objects_of(value), is_whole=mode.endswith("complete"))
            case "updates" | "values":
                found = list(_messages(value, 0))
                return self._read(found, is_whole=True)._replace(text="")
            case "tools":
                return self._tool(value)
            case _:
                return Reading(Kind.STATUS)

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an `error` event."""
        error = {"error": "InjectedFault", "message": message}
        return f"event: error\ndata: {compact(error)}\n\n"

    def _piece(self, chunk: Any) -> Reading:
        """Read a piece of a message."""
        type_ = member(chunk, "type")
        if type_ in _TOOL:
            return _reading("", tuple(self._results([chunk])))
        tools = list[ToolEvent]()
        message = str(member(chunk, "id"))
        for call in objects_of(member(chunk, "tool_call_chunks")):
            tools += self._call_piece((message, str(call.get("index"))), call)
        if not tools:
            tools += self._calls(chunk)
        text = _text(member(chunk, "content")) if type_ in _AI else ""
        return _reading(text, tuple(tools), member(chunk, "usage_metadata"))._replace(
            model=text_of(member(chunk, "response_metadata", "model_name"))
        )

    def _call_piece(
        self, slot: tuple[str, str], call: dict[str, Any]
    ) -> list[ToolEvent]:
        tool_id, name = text_of(call.get("id")), text_of(call.get("name"))
        events = list[ToolEvent]()
        if tool_id and tool_id != self._pieces.get(slot):
            events += self._complete(slot[0])
            self._pieces[slot] = tool_id
            events.append(ToolStarted(tool_id, tool_id, name))
        if (key := self._pieces.get(slot)) and (text := text_of(call.get("args"))):
            events.append(ToolArguments(key, text))
        return events

    def _complete(self, message: str | None = None) -> list[ToolEvent]:
        """Return that calls in pieces have their arguments: a message's, or all."""
        slots = [slot for slot in self._pieces if message in (None, slot[0])]
        keys = [self._pieces.pop(slot) for slot in slots]
        new = [key for key in keys if key not in self._called]
        self._called.update(new)
        return [ToolCalled(key, None, None, None) for key in new]

    def _read(self, messages: list[dict[str, Any]], *, is_whole: bool) -> Reading:
        """Read messages, whole or as far as they have come."""
        text, tools, usage = "", list[ToolEvent](), None
        for message in messages:
            if message.get("type") not in _AI:
                continue
            key, so_far = str(message.get("id")), _text(message.get("content"))
            text += so_far[self._length.get(key, 0) :]
            self._length[key] = len(so_far)
            usage = message.get("usage_metadata") or usage
            if is_whole:
                tools += self._calls(message)
        tools += self._results(messages)
        return _reading(text, tuple(tools), usage)

    def _calls(self, message: Any) -> Iterator[ToolEvent]:
        for call in objects_of(member(message, "tool_calls")):
            key = text_of(call.get("id"))
            if key is None or key in self._called:
                continue
            self._called.add(key)
            self._pieces = {s: k for s, k in self._pieces.items() if k != key}
            given = compact(call.get("args", {}))
            yield ToolCalled(key, key, text_of(call.get("name")), given)

    def _results(self, messages: list[dict[str, Any]]) -> Iterator[ToolEvent]:
        for message in messages:
            key = text_of(message.get("tool_call_id"))
            if message.get("type") not in _TOOL or key is None or key in self._returned:
                continue
            self._returned.add(key)
            yield from self._complete()
            failed = message.get("status") == "error"
            content = message.get("content")
            yield ToolReturned(key, text_of(content) or compact(content), failed=failed)

    def _tool(self, value: Any) -> Reading:
        key = text_of(member(value, "tool_call_id"))
        match member(value, "event"):
            case "tool-started" if key is not None and key not in self._called:
                self._called.add(key)
                self._pieces = {s: k for s, k in self._pieces.items() if k != key}
                name, given = (
                    text_of(member(value, "tool_name")),
                    member(value, "input"),
                )
                text = text_of(given) or compact(given)
                return _reading("", (ToolCalled(key, key, name, text),))
            case "tool-finished" | "tool-error" as event if (
                key is not None and key not in self._returned
            ):
                self._returned.add(key)
                result = member(
                    value, "output" if event == "tool-finished" else "message"
                )
                text = text_of(result) or compact(result)
                failed = event == "tool-error"
                return _reading("", (ToolReturned(key, text, failed=failed),))
            case _:
                return Reading(Kind.STATUS)


def _reading(text: str, tools: tuple[ToolEvent, ...], usage: Any = None) -> Reading:
    kinds = (
        (any(isinstance(t, ToolReturned) for t in tools), Kind.TOOL_RESULT),
        (any(isinstance(t, ToolCalled | ToolStarted) for t in tools), Kind.TOOL_CALL),
        (tools, Kind.TOOL_CALL_DELTA),
        (text, Kind.TEXT),
        (usage, Kind.USAGE),
    )
    return Reading(
        next((kind for holds, kind in kinds if holds), Kind.STATUS),
        text=text,
        tools=tools,
        input_tokens=count_of(member(usage, "input_tokens")),
        output_tokens=count_of(member(usage, "output_tokens")),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return text_of(content) or ""
    return "".join(text_of(part.get("text")) or "" for part in objects_of(content))


def _messages(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Give the messages in a graph's state, wherever they are."""
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, list):
        for item in value:
            yield from _messages(item, depth + 1)
    elif isinstance(value, dict):
        if value.get("type") in _AI + _TOOL:
            yield value
        else:
            for item in value.values():
                yield from _messages(item, depth + 1)


DIALECT = LangGraph
