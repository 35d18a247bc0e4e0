"""LangGraph's platform: events named by the stream's modes.

    metadata            {run_id, attempt}               first
    messages            [chunk, metadata]               a piece of a message
    messages/partial    [message]                       a message so far
    updates, values     messages in the graph's state
    tools               {event: tool-started | tool-finished | tool-error, tool_call_id}
    events              {event: on_chat_model_stream | …, data}    of the graph's parts
    custom, debug, …    whatever the graph says
    error               {error, message}
    end                 null

A subgraph's events have its namespace behind the name: `updates|child:0193`.  Modes can
be had together, and then each call and each result comes several times: the first is
the one that counts, and what a state says is content only if no event was text.  The
first `values` of each graph is the state that it begins with: the calls that have a
result there, and the tokens, are those of earlier runs.  The tokens of a run are those
of all its messages.

The second protocol has all of this in an envelope, `{type: event, method, params:
{namespace, data}}`, and pieces of messages as blocks.

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
    id_of,
    label_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_in,
    text_of,
    text_or_json,
)
from sse_recorder.exchange import RequestHead

_PATH = re.compile(
    r"(?:/threads/([^/]+))?/runs(?:/[^/]+)?/(?:stream|join)$"
    r"|/threads/([^/]+)/stream(?:/events)?$"
)
# Tuples, because what is looked for may be anything, which a set would have to hash.
_AI: Final = ("ai", "AIMessage", "AIMessageChunk", "assistant")
_TOOL: Final = ("tool", "ToolMessage", "ToolMessageChunk")
_COUNTS: Final = ("input_tokens", "output_tokens")
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
        # The calls that come in pieces: the latest one at each message and index, the
        # one of each message that is not complete, and where each is.
        self._pieces: dict[tuple[str, str], str] = {}
        self._open: dict[str, str] = {}
        self._slots: dict[str, tuple[str, str]] = {}
        self._length: dict[str, int] = {}  # of each message's text so far
        self._begun: set[str] = set()  # the namespaces whose state was told
        self._old: set[str] = set()  # the messages of earlier runs
        self._usage: dict[tuple[str, str], int] = {}  # by message and count
        self._total: dict[str, int] = {}

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
        return match and (match[1] or match[2])

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, by the mode that its name begins with."""
        mode, _, namespace = (event or "").partition("|")
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        method = id_of(member(value, "method"))
        if method is not None and member(value, "type") == "event":
            params = member(value, "params")
            namespace = compact(member(params, "namespace"))
            mode, value = method, member(params, "data")
        match mode:
            case "metadata":
                return Reading(Kind.CONNECTED)
            case "end":
                return Reading(Kind.FINISH, terminal=True)
            case "error":
                error = message_of(data if value is None else value)
                return Reading(Kind.ERROR, error=error, terminal=True)
            case "tools":
                return self._tool(value)
            case "events":
                return self._event(value)
            case _:
                return self._read_messages(mode, namespace, value)

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an `error` event."""
        error = {"error": "InjectedFault", "message": message}
        return f"event: error\ndata: {compact(error)}\n\n"

    def _read_messages(self, mode: str, namespace: str, value: Any) -> Reading:
        match mode:
            case "messages" if isinstance(value, dict):
                return _block(value)
            case "messages":
                return self._piece(member(value, 0))
            case "messages/partial" | "messages/complete":
                return self._read(objects_of(value), is_whole=mode.endswith("complete"))
            case "updates" | "values":
                found = list(_messages(value, 0))
                if mode == "values" and namespace not in self._begun:
                    self._begun.add(namespace)
                    self._pass_over(found)
                return self._state(found)
            case _:
                return Reading(Kind.STATUS)

    def _piece(self, chunk: Any) -> Reading:
        """Read a piece of a message."""
        type_ = member(chunk, "type")
        if type_ in _TOOL:
            return _reading("", tuple(self._results([chunk])))
        tools = list[ToolEvent]()
        message = label_of(member(chunk, "id"))
        for call in objects_of(member(chunk, "tool_call_chunks")):
            tools += self._call_piece((message, label_of(call.get("index"))), call)
        if not tools:
            tools += self._calls(chunk)
        text = text_in(member(chunk, "content")) if type_ in _AI else ""
        if message:
            self._length[message] = self._length.get(message, 0) + len(text)
        usage = member(chunk, "usage_metadata")
        is_piece = type_ == "AIMessageChunk"
        total = self._count(message, usage, is_piece=is_piece)
        said = _reading(text, tuple(tools), total)
        if said.kind in (Kind.STATUS, Kind.USAGE) and _is_reasoning(chunk):
            said = said._replace(kind=Kind.REASONING)
        model = text_of(member(chunk, "response_metadata", "model_name"))
        return said._replace(model=model)

    def _call_piece(
        self, slot: tuple[str, str], call: dict[str, Any]
    ) -> list[ToolEvent]:
        tool_id, name = id_of(call.get("id")), text_of(call.get("name"))
        events = list[ToolEvent]()
        if tool_id in self._called:
            return events
        if tool_id and tool_id != self._pieces.get(slot):
            events += self._complete(slot[0])
            self._pieces[slot] = self._open[slot[0]] = tool_id
            self._slots[tool_id] = slot
            events.append(ToolStarted(tool_id, tool_id, name))
        if (key := self._pieces.get(slot)) and (text := text_of(call.get("args"))):
            events.append(ToolArguments(key, text))
        return events

    def _complete(self, message: str | None = None) -> list[ToolEvent]:
        """Return that calls in pieces have their arguments: a message's, or all."""
        messages = list(self._open) if message is None else [message]
        keys = [self._open.pop(one) for one in messages if one in self._open]
        self._called.update(keys)
        return [ToolCalled(key, None, None, None) for key in keys]

    def _whole(self, key: str) -> None:
        """Note that all of a call was told, so that no piece is wanted any more."""
        self._called.add(key)
        if (slot := self._slots.pop(key, None)) is not None:
            self._pieces.pop(slot, None)
            if self._open.get(slot[0]) == key:
                del self._open[slot[0]]

    def _read(self, messages: list[dict[str, Any]], *, is_whole: bool) -> Reading:
        """Read messages, whole or as far as they have come."""
        text, tools, usage = "", list[ToolEvent](), None
        for message in messages:
            if message.get("type") not in _AI:
                continue
            key, so_far = label_of(message.get("id")), text_in(message.get("content"))
            text += so_far[self._length.get(key, 0) :]
            if key:
                self._length[key] = len(so_far)
            usage = self._count(key, message.get("usage_metadata")) or usage
            if is_whole:
                tools += self._calls(message)
        tools += self._results(messages)
        return _reading(text, tuple(tools), usage)

    def _state(self, messages: list[dict[str, Any]]) -> Reading:
        """Read messages of a state, whose text other modes may have told."""
        said = self._read(messages, is_whole=True)
        return said if said.tools else said._replace(kind=Kind.STATUS)

    def _pass_over(self, messages: list[dict[str, Any]]) -> None:
        """Note what is there when a run begins.

        The calls of the last message may be what it goes on with.
        """
        said = [message for message in messages if message.get("type") in _AI]
        for message in said[:-1]:
            calls = objects_of(message.get("tool_calls"))
            self._called.update(label_of(call.get("id")) for call in calls)
        for message in messages:
            if (key := id_of(message.get("tool_call_id"))) is not None:
                self._called.add(key)
                self._returned.add(key)
            if key := label_of(message.get("id")):
                self._old.add(key)
                self._length[key] = len(text_in(message.get("content")))

    def _event(self, value: Any) -> Reading:
        """Read an event of a part of the graph."""
        data = member(value, "data")
        match member(value, "event"):
            case "on_chat_model_stream":
                return self._piece(member(data, "chunk"))
            case "on_chat_model_end" | "on_tool_end":
                return self._state(list(_messages(member(data, "output"), 0)))
            case _:
                return Reading(Kind.STATUS)

    def _count(
        self, message: str, usage: Any, *, is_piece: bool = False
    ) -> dict[str, int] | None:
        """Return the tokens of all messages, if one has something to add."""
        if not isinstance(usage, dict) or message in self._old:
            return None
        for name in _COUNTS:
            if (count := count_of(usage.get(name))) is not None:
                known = self._usage.get((message, name), 0)
                more = count if is_piece else count - known
                self._usage[message, name] = known + more
                self._total[name] = self._total.get(name, 0) + more
        return self._total

    def _calls(self, message: Any) -> Iterator[ToolEvent]:
        for call in objects_of(member(message, "tool_calls")):
            key = id_of(call.get("id"))
            if key is None or key in self._called:
                continue
            self._whole(key)
            given = compact(call.get("args", {}))
            yield ToolCalled(key, key, text_of(call.get("name")), given)

    def _results(self, messages: list[dict[str, Any]]) -> Iterator[ToolEvent]:
        for message in messages:
            key = id_of(message.get("tool_call_id"))
            if message.get("type") not in _TOOL or key is None or key in self._returned:
                continue
            self._returned.add(key)
            yield from self._complete()
            failed = message.get("status") == "error"
            result = text_or_json(message.get("content"))
            yield ToolReturned(key, result, failed=failed)

    def _tool(self, value: Any) -> Reading:
        key = id_of(member(value, "tool_call_id"))
        match member(value, "event"):
            case "tool-started" if key is not None and key not in self._called:
                self._whole(key)
                name = text_of(member(value, "tool_name"))
                given = text_or_json(member(value, "input"))
                return _reading("", (ToolCalled(key, key, name, given),))
            case "tool-finished" | "tool-error" as event if (
                key is not None and key not in self._returned
            ):
                self._returned.add(key)
                failed = event == "tool-error"
                result = text_or_json(member(value, "message" if failed else "output"))
                return _reading("", (ToolReturned(key, result, failed=failed),))
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


def _is_reasoning(message: Any) -> bool:
    parts = objects_of(member(message, "content"))
    return any(part.get("type") in ("thinking", "reasoning") for part in parts) or bool(
        member(message, "additional_kwargs", "reasoning_content")
    )


def _block(value: dict[str, Any]) -> Reading:
    """Read a piece of a block of a message, in the second protocol."""
    if text := text_of(member(value, "delta", "text")):
        return Reading(Kind.TEXT, text)
    is_reasoning = member(value, "delta", "reasoning")
    return Reading(Kind.REASONING if is_reasoning else Kind.STATUS)


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
