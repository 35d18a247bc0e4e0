"""Meibel's chat stream: `POST /v2/sessions/{session_id}/chat/stream`.

Six events, then `data: [DONE]`:

    connected         {signal_id}
    status            {content, …}
    tool_call         {tool_id, tool_name, arguments, …}        whole, never in pieces
    tool_result       {tool_id, result, …}                      in the same stream
    partial_response  {data: {message, clean_message, …}, …}
    completion        {data: {message, …}, …}                   once, the whole answer

Source: the operation `sendChatMessageStream` of Meibel's OpenAPI document, and the
published SDKs.  Three things they leave open are read as follows.

- The guides name the events in `data.type` and know further names (`content`, `done`).
  An event is therefore named by `event:`, or else by `data.type`; a name that neither
  list has is `other`.
- `message` may hold the text so far or only the new text.  The first message that
  settles it (one that extends what came before, or one that does not begin with it)
  decides for the stream; until then a repetition is taken for the text so far.
- How a result says that its tool failed is not specified.  It counts as failed when
  its `disposition`, or the `status` in its result, says error or failed, or when the
  result has a true `error`, `is_error` or `isError`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

from sse_recorder.dialects.base import (
    DONE,
    Dialect,
    Kind,
    Reading,
    ToolCalled,
    ToolReturned,
    compact,
    count_of,
    parse_object,
    text_of,
)
from sse_recorder.exchange import RequestHead, header

_CHAT_PATH = re.compile(r"/sessions/([^/]+)/chat(?:/stream)?/?$")
_FAILED = frozenset({"error", "failed", "failure"})
_KINDS = {
    "connected": Kind.CONNECTED,
    "status": Kind.STATUS,
    "progress": Kind.STATUS,
    "thinking": Kind.REASONING,
    "reasoning": Kind.REASONING,
    "tool_call": Kind.TOOL_CALL,
    "tool_result": Kind.TOOL_RESULT,
    "partial_response": Kind.TEXT,
    "content": Kind.TEXT,
    "completion": Kind.FINISH,
    "stream_complete": Kind.FINISH,
    "done": Kind.FINISH,
    "error": Kind.ERROR,
    "keepalive": Kind.KEEPALIVE,
}


class Meibel(Dialect):
    """Reads one chat stream, or one chat answer in plain JSON."""

    name: ClassVar[str] = "meibel"
    says_end = True
    text_events: ClassVar[frozenset[str | None]] = frozenset(
        {"partial_response", "content"}
    )
    noise: ClassVar[frozenset[str]] = frozenset(
        {"signal_id", "sequence", "timestamp", "tool_id"}
    )

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._is_cumulative: bool | None = None
        self._text = ""
        # Of a stream of deltas its text is not kept, only what recognises it.
        self._length = 0
        self._digest = hashlib.sha256()

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the path of the chat operations, or by the vendor's own header."""
        return (
            _CHAT_PATH.search(request.path) is not None
            or header(request.headers, "meibel-api-key") is not None
        )

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By `connected`, which alone carries a `signal_id`."""
        return event == "connected" and "signal_id" in parse_object(data)

    def session_id(self) -> str | None:
        """Return the session in the path."""
        match = _CHAT_PATH.search(self.request.path)
        return match and match[1]

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one of the six events, the sentinel, or something unknown."""
        if data == DONE and event not in self.text_events:
            return Reading(Kind.FINISH, terminal=True)
        payload = parse_object(data)
        kind = _KINDS.get(event or "") or _KINDS.get(str(payload.get("type")))
        match kind:
            case Kind.TEXT:
                return Reading(kind, self._news(_message(payload)))
            case None:
                return Reading()
            case Kind.TOOL_CALL:
                return Reading(kind, tools=(_called(payload),))
            case Kind.TOOL_RESULT:
                return Reading(kind, tools=(_returned(payload),))
            case Kind.REASONING:
                return Reading(kind)
            case Kind.FINISH:
                return self._finish(payload)
            case Kind.ERROR:
                return Reading(kind, error=_message(payload) or compact(payload))
            case _:
                return Reading(kind)

    def read_body(self, body: bytes) -> Reading:
        """Read the answer of the operation that does not stream."""
        payload = parse_object(body)
        if not payload:
            return Reading()
        input_tokens, output_tokens = _usage(payload)
        return Reading(input_tokens=input_tokens, output_tokens=output_tokens)

    def _finish(self, payload: dict[str, Any]) -> Reading:
        message = _message(payload)
        # The whole answer again: news only where no part of it was streamed before.
        is_news = self._begins_with_text(message)
        input_tokens, output_tokens = _usage(payload)
        return Reading(
            Kind.FINISH,
            text=message[self._length :] if is_news else "",
            finish_reason=text_of(payload.get("disposition")),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            terminal=True,
        )

    def _begins_with_text(self, message: str) -> bool:
        if self._is_cumulative is not False:
            return message.startswith(self._text)
        start = message[: self._length].encode()
        return hashlib.sha256(start).digest() == self._digest.digest()

    def _news(self, message: str) -> str:
        """Return what a message adds to the text so far, and keep that text."""
        text = self._text
        extends = message.startswith(text)
        if self._is_cumulative is None and text:
            if not extends:
                self._is_cumulative = False
                self._text, self._length = "", 0
                self._add_delta(text)
            elif len(message) > len(text):
                self._is_cumulative = True
        if self._is_cumulative is False:
            self._add_delta(message)
            return message
        self._text = message
        self._length = len(message)
        # Where the text so far was revised, what follows the first change is new.
        return message[len(text) if extends else _common(message, text) :]

    def _add_delta(self, message: str) -> None:
        self._length += len(message)
        self._digest.update(message.encode())


def _common(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _called(payload: dict[str, Any]) -> ToolCalled:
    tool_id = text_of(payload.get("tool_id"))
    return ToolCalled(
        key=tool_id,
        tool_id=tool_id,
        name=text_of(payload.get("tool_name")),
        arguments=compact(payload.get("arguments", {})),
    )


def _returned(payload: dict[str, Any]) -> ToolReturned:
    result = payload.get("result")
    says = [payload.get("disposition")]
    failed = False
    if isinstance(result, dict):
        says.append(result.get("status"))
        failed = any(result.get(name) for name in ("error", "is_error", "isError"))
    failed = failed or any(text in _FAILED for text in says if isinstance(text, str))
    return ToolReturned(text_of(payload.get("tool_id")), compact(result), failed=failed)


def _message(payload: dict[str, Any]) -> str:
    """Return the text of an event, wherever the schema or the guides put it."""
    inner = payload.get("data")
    for place in (inner if isinstance(inner, dict) else {}, payload):
        for name in ("message", "content", "text", "delta"):
            if (text := text_of(place.get(name))) is not None:
                return text
    return ""


def _usage(payload: dict[str, Any]) -> tuple[int | None, int | None]:
    usage = payload.get("usage")
    if not isinstance(usage, dict):
        return None, None
    return count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))


DIALECT = Meibel
