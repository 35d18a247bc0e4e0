"""Gemini: `POST …/models/MODEL:streamGenerateContent?alt=sse`.

Each payload is a whole response of its own, of which the last has a `finishReason`;
there is no sentinel, the stream just ends:

    {candidates: [{content: {parts}, finishReason}], usageMetadata, modelVersion}

A part is text (of thinking, where it says `thought`), a `functionCall` of the client's
tools, or a tool that the provider runs, with its answer in a later part: `toolCall` and
`toolResponse`, `executableCode` and `codeExecutionResult`.  A `functionCall` is mostly
whole and often has no id.  Where its arguments are streamed (Vertex), its first part
has a name and `willContinue`, later ones have `partialArgs`, and an empty one ends it,
or else the next call or the end of the answer.  A prompt that is refused has no
candidates, but a `blockReason`.

Without `alt=sse` the answer is a JSON list of the same payloads.  The gateway for code
assistants puts each payload into a `response`, and each request into a `request`.

Source: the types of the google-genai package, and recorded streams.
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
    body_kind,
    compact,
    count_of,
    id_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_of,
    text_or_json,
    total_of,
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

_PATH = re.compile(r"/[^/:]+:(?:streamGenerateContent|generateContent)$")
_STEP = re.compile(r"\.([^.\[\]]+)|\['([^']+)'\]|\[([0-9]{1,9})\]")
_STEPS = re.compile(rf"\$(?:{_STEP.pattern})+")
_RUN: Final = {"toolCall": "toolType", "executableCode": ""}
_ANSWERS: Final = ("toolResponse", "codeExecutionResult")
_FAILED: Final = ("OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED")
_PARTIAL_VALUES: Final = ("stringValue", "numberValue", "boolValue")
_MEDIA: Final = ("inlineData", "fileData")


class _Text:
    """A text that comes in pieces."""

    def __init__(self) -> None:
        self.pieces = list[str]()

    def __str__(self) -> str:
        return "".join(self.pieces)


class Gemini(Dialect):
    """Reads one answer, streamed or whole."""

    name: ClassVar[str] = "gemini"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "responseId", "createTime", "thoughtSignature"}
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (
        b'"functionResponse"',
        b'"function_response"',
    )

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._count = 0
        self._streamed: str | None = None  # the call whose arguments come in pieces
        self._arguments: dict[str, Any] = {}
        self._code: str | None = None

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the operation in its path."""
        return _PATH.search(request.path) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By the candidates, and what only this API has beside them."""
        payload = parse_object(data)
        return "candidates" in payload and bool(
            {"usageMetadata", "modelVersion", "responseId"} & set(payload)
        )

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one payload."""
        return self._read(parse_object(data))

    def read_body(self, body: bytes) -> Reading:
        """Read an answer that is one payload, or a list of them."""
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return Reading()
        payloads = objects_of(value if isinstance(value, list) else [value])
        readings = [self._read(payload) for payload in payloads]
        text = "".join(reading.text for reading in readings)
        tools = tuple(tool for reading in readings for tool in reading.tools)
        said = Reading()
        for reading in readings:
            # What a payload does not say is what the ones before it said.
            news = {n: v for n, v in reading._asdict().items() if v is not None}
            said = said._replace(**news)
        kind = Kind.ERROR if said.error else body_kind(text, tools)
        return said._replace(kind=kind, text=text, tools=tools)

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the parts of the contents."""
        return turn_of(_steps(parse_object(body)))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event that holds a status of Google's APIs."""
        error = {"code": 503, "message": message, "status": "UNAVAILABLE"}
        return f"data: {compact({'error': error})}\r\n\r\n"

    def _read(self, payload: dict[str, Any]) -> Reading:
        if isinstance(inner := payload.get("response"), dict):
            payload = inner
        if error := payload.get("error"):
            return Reading(Kind.ERROR, error=message_of(error), terminal=True)
        text, tools = "", list[ToolEvent]()
        is_reasoning = is_media = False
        finish_reason = text_of(member(payload, "promptFeedback", "blockReason"))
        for candidate in objects_of(payload.get("candidates")):
            finish_reason = text_of(candidate.get("finishReason")) or finish_reason
            for part in objects_of(member(candidate, "content", "parts")):
                if part.get("thought"):
                    is_reasoning = True
                else:
                    text += text_of(part.get("text")) or ""
                is_media |= any(name in part for name in _MEDIA)
                tools += self._tools(part)
        if finish_reason is not None:
            tools += self._complete()
        usage = payload.get("usageMetadata")
        kinds = (
            (any(isinstance(t, ToolReturned) for t in tools), Kind.TOOL_RESULT),
            (
                any(isinstance(t, ToolCalled | ToolStarted) for t in tools),
                Kind.TOOL_CALL,
            ),
            (tools, Kind.TOOL_CALL_DELTA),
            (text or is_media, Kind.TEXT),
            (is_reasoning, Kind.REASONING),
            (finish_reason, Kind.FINISH),
            (usage, Kind.USAGE),
        )
        return Reading(
            next((kind for holds, kind in kinds if holds), Kind.OTHER),
            text=text,
            tools=tuple(tools),
            model=text_of(payload.get("modelVersion")),
            finish_reason=finish_reason,
            input_tokens=count_of(member(usage, "promptTokenCount")),
            output_tokens=total_of(usage, "candidatesTokenCount", "thoughtsTokenCount"),
            terminal=finish_reason is not None,
        )

    def _tools(self, part: dict[str, Any]) -> list[ToolEvent]:
        if isinstance(call := part.get("functionCall"), dict):
            return self._function(call)
        for kind, name in _RUN.items():
            if isinstance(call := part.get(kind), dict):
                key = id_of(call.get("id")) or self._new_key()
                self._code = key
                given = compact(call.get("args", {}) if name else call)
                called = text_of(call.get(name)) if name else "code_execution"
                tool_id = id_of(call.get("id"))
                return [ToolCalled(key, tool_id, called, given, is_hosted=True)]
        for kind in _ANSWERS:
            if isinstance(answer := part.get(kind), dict):
                answered = id_of(answer.get("id")) or self._code
                failed = answer.get("outcome") in _FAILED
                return [ToolReturned(answered, compact(answer), failed=failed)]
        return []

    def _function(self, call: dict[str, Any]) -> list[ToolEvent]:
        tool_id, name = id_of(call.get("id")), text_of(call.get("name"))
        if self._streamed is not None and not name:
            return self._go_on(self._streamed, call)
        earlier = self._complete()
        key = tool_id or self._new_key()
        if call.get("willContinue"):
            self._streamed, self._arguments = key, {}
            begun = ToolStarted(key, tool_id, name)
            return [*earlier, begun, *self._pieces(key, call)]
        given = compact(call.get("args", {}))
        return [*earlier, ToolCalled(key, tool_id, name, given)]

    def _go_on(self, key: str, call: dict[str, Any]) -> list[ToolEvent]:
        events = self._pieces(key, call)
        if not call.get("willContinue") and not call.get("partialArgs"):
            events += self._complete()
        return events

    def _complete(self) -> list[ToolEvent]:
        """Return that the call in pieces has its arguments, if there is one."""
        key, self._streamed = self._streamed, None
        if key is None:
            return []
        return [ToolCalled(key, None, None, compact(self._arguments))]

    def _pieces(self, key: str, call: dict[str, Any]) -> list[ToolEvent]:
        pieces = objects_of(call.get("partialArgs"))
        for piece in pieces:
            value = next((piece[n] for n in _PARTIAL_VALUES if n in piece), None)
            _put(self._arguments, text_of(piece.get("jsonPath")) or "", value)
        return [ToolArguments(key, "")] if pieces else []

    def _new_key(self) -> str:
        self._count += 1
        return f"#{self._count}"


def _steps(payload: dict[str, Any]) -> Iterator[Step]:
    if isinstance(inner := payload.get("request"), dict):
        payload = inner
    contents = payload.get("contents")
    for content in objects_of(contents if isinstance(contents, list) else [contents]):
        by_assistant = content.get("role") == "model"
        if by_assistant:
            yield Said(by_assistant)
        for part in objects_of(content.get("parts")):
            # The API takes both spellings.
            call = part.get("functionCall") or part.get("function_call")
            answer = part.get("functionResponse") or part.get("function_response")
            if isinstance(call, dict):
                given = compact(call.get("args", {}))
                yield Repeated(id_of(call.get("id")), text_of(call.get("name")), given)
            elif isinstance(answer, dict):
                result = answer.get("response")
                yield ClientResult(
                    id_of(answer.get("id")),
                    text_or_json(result),
                    failed=bool(member(result, "error")),
                    name=text_of(answer.get("name")),
                )
            else:
                yield Said(by_assistant, text_of(part.get("text")) or "")


def _put(root: Any, path: str, value: Any) -> None:
    """Put a value at a path such as `$.a[0].b`; text goes on where it stood."""
    if _STEPS.fullmatch(path) is None:
        return
    steps = [
        name or quoted or int(index) for name, quoted, index in _STEP.findall(path)
    ]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            if not isinstance(root, list) or step > len(root):
                return
            if step == len(root):
                root.append(None)
        elif not isinstance(root, dict):
            return
        held = root.get(step) if isinstance(step, str) else root[step]
        if following is None:
            root[step] = _grown(held, value)
        elif not isinstance(held, dict | list):
            root[step] = held = [] if isinstance(following, int) else {}
        root = held


def _grown(held: Any, value: Any) -> Any:
    """Return a value with what was there before it, if both are text."""
    if not isinstance(value, str):
        return value
    text = held if isinstance(held, _Text) else _Text()
    text.pieces.append(value)
    return text


DIALECT = Gemini
