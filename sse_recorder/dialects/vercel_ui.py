"""The UI message stream of Vercel's AI SDK.

    {type: start, messageId}          {type: text-delta, delta}
    {type: tool-input-start, toolCallId, toolName}
    {type: tool-input-delta, inputTextDelta}
    {type: tool-input-available, toolCallId, toolName, input}
    {type: tool-output-available, toolCallId, output}     or -error, or -denied
    {type: finish, finishReason}      [DONE]

A tool runs from its input being available to its output; an output that is
`preliminary` is none yet.  Tools of the client have their output in its next request.
Usage is not part of the protocol.

Source: ui-message-chunks.ts of the ai package.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    DONE,
    Dialect,
    Kind,
    Reading,
    ToolArguments,
    ToolCalled,
    ToolReturned,
    ToolStarted,
    compact,
    objects_of,
    parse_object,
    text_of,
)
from sse_recorder.dialects.turns import (
    ClientResult,
    Repeated,
    Step,
    Turn,
    turn_of,
)
from sse_recorder.exchange import ResponseHead, header

_HEADER: Final = "x-vercel-ai-ui-message-stream"
# A tuple, because what is looked for may be anything, which a set would have to hash.
_FIRST: Final = ("start", "start-step")
_KINDS: Final = {
    "start": Kind.CONNECTED,
    "text-delta": Kind.TEXT,
    "reasoning-delta": Kind.REASONING,
    "tool-input-start": Kind.TOOL_CALL,
    "tool-input-delta": Kind.TOOL_CALL_DELTA,
    "tool-input-available": Kind.TOOL_CALL,
    "tool-input-error": Kind.TOOL_RESULT,
    "tool-output-available": Kind.TOOL_RESULT,
    "tool-output-error": Kind.TOOL_RESULT,
    "tool-output-denied": Kind.TOOL_RESULT,
    "finish": Kind.FINISH,
    "abort": Kind.FINISH,
    "error": Kind.ERROR,
}
_STATUS: Final = (
    "start-step",
    "finish-step",
    "reset-step",
    "text-",
    "reasoning-",
    "tool-approval-",
    "message-metadata",
    "source-",
    "data-",
    "file",
)


class VercelUi(Dialect):
    """Reads one message of the assistant."""

    name: ClassVar[str] = "vercel_ui"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset({"id", "messageId", "toolCallId"})
    result_marks: ClassVar[tuple[bytes, ...]] = (b'"output-',)

    @classmethod
    def recognises_response(cls, response: ResponseHead) -> bool:
        """By the header that the protocol asks for."""
        return header(response.headers, _HEADER) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By its first event, where a server leaves the header out."""
        return event is None and parse_object(data).get("type") in _FIRST

    def read_request(self, body: bytes) -> Reading:
        """Read which chat it is."""
        return Reading(session_id=text_of(parse_object(body).get("id")))

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, or the sentinel."""
        if data == DONE:
            return Reading(Kind.FINISH, terminal=True)
        payload = parse_object(data)
        type_ = text_of(payload.get("type")) or ""
        kind = _KINDS.get(type_)
        match kind:
            case None:
                return Reading(Kind.STATUS if type_.startswith(_STATUS) else Kind.OTHER)
            case Kind.TEXT:
                return Reading(kind, text_of(payload.get("delta")) or "")
            case Kind.ERROR:
                error = text_of(payload.get("errorText")) or compact(payload)
                return Reading(kind, error=error, terminal=True)
            case Kind.FINISH:
                reason = text_of(payload.get("finishReason"))
                if type_ == "abort":
                    return Reading(kind, finish_reason=reason or type_, terminal=True)
                return Reading(kind, finish_reason=reason)
            case Kind.CONNECTED | Kind.REASONING:
                return Reading(kind)
            case _:
                return _tool(kind, type_, payload)

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the last message, if it is of the assistant: it has the outputs."""
        payload = parse_object(body)
        messages = objects_of(payload.get("messages")) or [{}]
        last = messages[-1]
        parts = objects_of(last.get("parts"))
        steps = _steps(parts) if last.get("role") == "assistant" else []
        return turn_of(steps, text_of(payload.get("id")))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event of type `error`."""
        return f"data: {compact({'type': 'error', 'errorText': message})}\n\n"


def _steps(parts: list[dict[str, Any]]) -> list[Step]:
    """Return the calls of the last step, and after them the outputs of the client."""
    calls, results = list[Step](), list[Step]()
    for part in parts:
        type_, key = text_of(part.get("type")) or "", text_of(part.get("toolCallId"))
        if type_ == "step-start":
            calls, results = [], []
        if key is None or part.get("providerExecuted"):
            continue
        name = text_of(part.get("toolName")) or type_.removeprefix("tool-")
        calls.append(Repeated(key, name, compact(part.get("input"))))
        if part.get("state") == "output-available":
            results.append(ClientResult(key, compact(part.get("output"))))
        elif part.get("state") == "output-error":
            error = text_of(part.get("errorText"))
            results.append(ClientResult(key, error, failed=True))
    return calls + results


def _tool(kind: Kind, type_: str, payload: dict[str, Any]) -> Reading:
    key, name = text_of(payload.get("toolCallId")), text_of(payload.get("toolName"))
    is_hosted = payload.get("providerExecuted") is True
    match type_:
        case "tool-input-start":
            return Reading(kind, tools=(ToolStarted(key, key, name, is_hosted),))
        case "tool-input-delta":
            delta = text_of(payload.get("inputTextDelta")) or ""
            return Reading(kind, tools=(ToolArguments(key, delta),))
        case "tool-input-available":
            given = compact(payload.get("input"))
            called = ToolCalled(key, key, name, given, is_hosted)
            return Reading(kind, tools=(called,))
        case "tool-output-available":
            if payload.get("preliminary"):
                return Reading(Kind.STATUS)
            result = compact(payload.get("output"))
            return Reading(kind, tools=(ToolReturned(key, result, failed=False),))
        case "tool-input-error":  # it was never called: its input does not fit
            called = ToolCalled(key, key, name, compact(payload.get("input")))
            failed = ToolReturned(key, text_of(payload.get("errorText")), failed=True)
            return Reading(kind, tools=(called, failed))
        case _:
            error = text_of(payload.get("errorText")) or type_.removeprefix(
                "tool-output-"
            )
            return Reading(kind, tools=(ToolReturned(key, error, failed=True),))


DIALECT = VercelUi
