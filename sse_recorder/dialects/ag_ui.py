"""AG-UI: events of an agent's run, each with a `type` in upper case.

    RUN_STARTED {threadId, runId}
    TEXT_MESSAGE_START | CONTENT {delta} | END,  or TEXT_MESSAGE_CHUNK
    TOOL_CALL_START {toolCallId, toolCallName} | ARGS {delta} | END,  or TOOL_CALL_CHUNK
    TOOL_CALL_RESULT {toolCallId, content}
    RUN_FINISHED {outcome, usage} | RUN_ERROR {message, code}

A tool of the agent's own runs from the END of its call to its RESULT.  Agents run the
tools of a message when the model has said all of it, so where calls name the same
`parentMessageId`, the END of the last of them begins those that have no RESULT yet.  A
tool of the frontend has no result here: the run ends, and the next request brings it.
A chunk is the short form of start and contents; any event but another chunk of its call
ends it.

The protocol has no mark for the RESULT of a tool that failed, so it is `ok` here, but
where a server adds an `error`.

Source: the ag-ui-protocol package.
"""

from __future__ import annotations

from collections import deque
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
    text_or_json,
)
from sse_recorder.dialects.turns import (
    ClientResult,
    Repeated,
    Said,
    Step,
    Turn,
    turn_of,
)
from sse_recorder.exchange import RequestHead

_KINDS: Final = {
    "RUN_STARTED": Kind.CONNECTED,
    "TEXT_MESSAGE_START": Kind.STATUS,
    "TEXT_MESSAGE_CONTENT": Kind.TEXT,
    "TEXT_MESSAGE_CHUNK": Kind.TEXT,
    "TEXT_MESSAGE_END": Kind.STATUS,
    "TOOL_CALL_START": Kind.TOOL_CALL,
    "TOOL_CALL_ARGS": Kind.TOOL_CALL_DELTA,
    "TOOL_CALL_CHUNK": Kind.TOOL_CALL_DELTA,
    "TOOL_CALL_END": Kind.TOOL_CALL,
    "TOOL_CALL_RESULT": Kind.TOOL_RESULT,
    "REASONING_START": Kind.STATUS,
    "REASONING_MESSAGE_START": Kind.STATUS,
    "REASONING_MESSAGE_CONTENT": Kind.REASONING,
    "REASONING_MESSAGE_CHUNK": Kind.REASONING,
    "REASONING_MESSAGE_END": Kind.STATUS,
    "REASONING_END": Kind.STATUS,
    "REASONING_ENCRYPTED_VALUE": Kind.STATUS,
    "THINKING_TEXT_MESSAGE_CONTENT": Kind.REASONING,
    "STATE_SNAPSHOT": Kind.STATUS,
    "STATE_DELTA": Kind.STATUS,
    "MESSAGES_SNAPSHOT": Kind.STATUS,
    "ACTIVITY_SNAPSHOT": Kind.STATUS,
    "ACTIVITY_DELTA": Kind.STATUS,
    "STEP_STARTED": Kind.STATUS,
    "STEP_FINISHED": Kind.STATUS,
    "SUBAGENT_STARTED": Kind.STATUS,
    "SUBAGENT_FINISHED": Kind.STATUS,
    "SUBAGENT_ERROR": Kind.STATUS,
    "RUN_FINISHED": Kind.FINISH,
    "RUN_ERROR": Kind.ERROR,
}

_TOGETHER_MAX: Final = 64  # each END has something to say of so many others


class AgUi(Dialect):
    """Reads one run."""

    name: ClassVar[str] = "ag_ui"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset(
        {"messageId", "parentMessageId", "runId", "timestamp", "toolCallId"}
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (b'"toolCallId"',)

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._chunked: str | None = None
        self._message: str | None = None
        # The last calls of that message that have their END.
        self._whole: deque[str] = deque(maxlen=_TOGETHER_MAX)

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By the type of its first event."""
        return text_of(parse_object(data).get("type")) in _KINDS

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event."""
        payload = parse_object(data)
        type_ = str(payload.get("type"))
        kind = _KINDS.get(type_, Kind.OTHER)
        ended = self._end_chunk(type_, payload)
        reading = self._read(kind, type_, payload)
        return reading._replace(tools=(*ended, *reading.tools)) if ended else reading

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the messages of the thread."""
        payload = parse_object(body)
        steps = _steps(objects_of(payload.get("messages")))
        return turn_of(steps, text_of(payload.get("threadId")))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return a RUN_ERROR."""
        error = {"type": "RUN_ERROR", "message": message, "code": "injected_fault"}
        return f"data: {compact(error)}\n\n"

    def _read(self, kind: Kind, type_: str, payload: dict[str, Any]) -> Reading:
        match kind:
            case Kind.TEXT:
                return Reading(kind, text_of(payload.get("delta")) or "")
            case Kind.CONNECTED:
                return Reading(kind, session_id=text_of(payload.get("threadId")))
            case Kind.FINISH:
                return _finished(payload)
            case Kind.ERROR:
                message = message_of(payload)
                return _used(payload, kind)._replace(error=message, terminal=True)
            case Kind.TOOL_CALL | Kind.TOOL_CALL_DELTA | Kind.TOOL_RESULT:
                return self._tool(kind, type_, payload)
            case _:
                return Reading(kind)

    def _tool(self, kind: Kind, type_: str, payload: dict[str, Any]) -> Reading:
        key = text_of(payload.get("toolCallId"))
        name, delta = (
            text_of(payload.get("toolCallName")),
            text_of(payload.get("delta")),
        )
        tools: list[ToolEvent]
        match type_:
            # A call without an id is told from no other, but is one.
            case "TOOL_CALL_START":
                tools = [self._start(key or "", name, payload)]
            case "TOOL_CALL_ARGS":
                tools = [ToolArguments(key or "", delta or "")]
            case "TOOL_CALL_END":
                tools = self._end(key or "")
            case "TOOL_CALL_RESULT":
                content = payload.get("content")
                failed = bool(payload.get("error"))
                result = text_or_json(content)
                tools = [ToolReturned(key or "", result, failed=failed)]
            case _:  # TOOL_CALL_CHUNK
                tools = []
                if key is not None and key != self._chunked:
                    self._chunked, kind = key, Kind.TOOL_CALL
                    tools.append(self._start(key, name, payload))
                if delta:
                    tools.append(ToolArguments(self._chunked, delta))
        return Reading(kind, tools=tuple(tools))

    def _start(self, key: str, name: str | None, payload: dict[str, Any]) -> ToolEvent:
        """Return the first sign of a call."""
        message = text_of(payload.get("parentMessageId"))
        if message is None or message != self._message:
            self._message = message
            self._whole.clear()
        return ToolStarted(key, key or None, name)

    def _end(self, key: str) -> list[ToolEvent]:
        """Return the end of a call; the others of its message were whole too soon."""
        tools: list[ToolEvent] = [ToolCalled(key, None, None, None)]
        tools += [ToolArguments(other, "") for other in self._whole]
        self._whole.append(key)
        return tools

    def _end_chunk(self, type_: str, payload: dict[str, Any]) -> list[ToolEvent]:
        """Return the end of a call in chunks, if this event is no more of it."""
        key = self._chunked
        is_more = type_ == "TOOL_CALL_CHUNK" and payload.get("toolCallId") in (
            None,
            key,
        )
        if key is None or is_more:
            return []
        self._chunked = None
        return self._end(key)


def _steps(messages: list[dict[str, Any]]) -> Iterator[Step]:
    for message in messages:
        content = message.get("content")
        match message.get("role"):
            case "assistant":
                yield Said(by_assistant=True)
                for call in objects_of(message.get("toolCalls")):
                    function = call.get("function")
                    yield Repeated(
                        text_of(call.get("id")),
                        text_of(member(function, "name")),
                        text_of(member(function, "arguments")),
                    )
            case "tool":
                key = text_of(message.get("toolCallId"))
                result = text_or_json(content)
                yield ClientResult(key, result, failed=bool(message.get("error")))
            case "user":
                yield Said(by_assistant=False, text=compact(content))


def _finished(payload: dict[str, Any]) -> Reading:
    outcome = payload.get("outcome")
    reason = text_of(outcome) or text_of(member(outcome, "type"))
    return _used(payload, Kind.FINISH)._replace(finish_reason=reason, terminal=True)


def _used(payload: dict[str, Any], kind: Kind) -> Reading:
    """Return the tokens of all models, and the model where it is one."""
    usages = objects_of(payload.get("usage"))
    models = {text_of(usage.get("model")) for usage in usages}

    def total(name: str) -> int | None:
        counts = [count_of(usage.get(name)) for usage in usages]
        known = [count for count in counts if count is not None]
        return count_of(sum(known)) if known else None

    return Reading(
        kind,
        model=models.pop() if len(models) == 1 else None,
        input_tokens=total("inputTokens"),
        output_tokens=total("outputTokens"),
    )


DIALECT = AgUi
