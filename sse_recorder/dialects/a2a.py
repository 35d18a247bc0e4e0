"""A2A: the events of a task that another agent works at.

Over JSON-RPC each payload is `{jsonrpc, id, result}`, over REST it is the result alone.
Version 1.0 says by a member what a result is, version 0.3 by its `kind`:

    task                {id, contextId, status}
    message             {parts}
    statusUpdate        {status: {state, message}}     status-update; in 0.3 `final`
    artifactUpdate      {artifact: {parts}, append}    artifact-update

The stream ends with a state in which the agent waits or is done; what it says with that
is its answer, unless there were artifacts.  The agent's own tools are not seen.

Source: the specification, and the a2a-sdk package.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    compact,
    member,
    message_of,
    objects_of,
    parse_object,
    text_in,
    text_of,
)
from sse_recorder.exchange import RequestHead, header

_PATH = re.compile(r"/message:(?:stream|send)$|/tasks/[^/]+:subscribe$")
_HEADERS: Final = ("a2a-version", "a2a-extensions", "x-a2a-extensions")
_MEMBERS: Final = {
    "task": "task",
    "message": "message",
    "statusUpdate": "status-update",
    "artifactUpdate": "artifact-update",
}
_OVER: Final = frozenset(
    {
        "completed",
        "failed",
        "canceled",
        "cancelled",
        "rejected",
        "input_required",
        "auth_required",
    }
)
_FAILED: Final = frozenset({"failed", "rejected"})


class A2a(Dialect):
    """Reads the stream of one task."""

    name: ClassVar[str] = "a2a"
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "taskId", "contextId", "messageId", "artifactId", "timestamp"}
    )

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._has_text = False

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the operations of REST, or by the protocol's headers."""
        return _PATH.search(request.path) is not None or any(
            header(request.headers, name) is not None for name in _HEADERS
        )

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By a result of JSON-RPC that is one of this protocol."""
        payload = parse_object(data)
        return payload.get("jsonrpc") == "2.0" and _result(payload)[0] is not None

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one payload."""
        payload = parse_object(data)
        if event == "error" or payload.get("error"):
            error = message_of(payload.get("error") or payload)
            return Reading(Kind.ERROR, error=error, terminal=True)
        reading = _read(payload)
        if reading.text and self._has_text and reading.kind is not Kind.TEXT:
            return reading._replace(text="")
        self._has_text = self._has_text or bool(reading.text)
        return reading

    def read_body(self, body: bytes) -> Reading:
        """Read an answer that is not streamed."""
        return self.read_event(None, body.decode(errors="replace"))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an error of JSON-RPC."""
        error = {"code": -32603, "message": message}
        answer = {"jsonrpc": "2.0", "id": None, "error": error}
        return f"event: error\ndata: {compact(answer)}\n\n"


def _result(payload: dict[str, Any]) -> tuple[str | None, Any]:
    """Return what a payload is, and its content."""
    result = payload.get("result") if "jsonrpc" in payload else payload
    kind = member(result, "kind")
    if kind in _MEMBERS.values():
        return kind, result
    for name, known in _MEMBERS.items():
        if isinstance(value := member(result, name), dict):
            return known, value
    return None, None


def _read(payload: dict[str, Any]) -> Reading:
    kind, value = _result(payload)
    session_id = text_of(member(value, "contextId"))
    match kind:
        case "message":
            text = text_in(member(value, "parts"))
            return Reading(Kind.TEXT, text, session_id=session_id, terminal=True)
        case "artifact-update":
            text = text_in(member(value, "artifact", "parts"))
            return Reading(
                Kind.TEXT if text else Kind.STATUS, text, session_id=session_id
            )
        case "task" | "status-update":
            return _state(kind, value, session_id)
        case _:
            return Reading()


def _state(kind: str, value: Any, session_id: str | None) -> Reading:
    state = str(member(value, "status", "state") or "")
    state = state.removeprefix("TASK_STATE_").lower().replace("-", "_")
    is_over = state in _OVER or member(value, "final") is True
    first = Kind.CONNECTED if kind == "task" else Kind.STATUS
    said = text_in(member(value, "status", "message", "parts"))
    made = objects_of(member(value, "artifacts"))
    text = "".join(text_in(artifact.get("parts")) for artifact in made) or said
    return Reading(
        Kind.FINISH if is_over else first,
        text if is_over and state not in _FAILED else "",
        session_id=session_id,
        finish_reason=state if is_over else None,
        error=(said or state) if state in _FAILED else None,
        terminal=is_over,
    )


DIALECT = A2a
