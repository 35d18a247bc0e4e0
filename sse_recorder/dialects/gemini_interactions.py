"""Gemini's Interactions: an interaction of steps, each begun, continued and stopped.

    interaction.created           {interaction: {id, model}}
    interaction.status_update     {status}
    step.start                    {index, step: {type, …}}
    step.delta                    {index, delta: {type, …}}
    step.stop                     {index}
    interaction.completed         {interaction: {status, usage}}    then `[DONE]`
    error                         {error: {code, message}}

Each payload names its type, as `event_type`.  A step is a thought, what the model says,
a call or a result.  A `function_call` is the client's: its arguments come in pieces of
JSON, and its result in the next request.  Any other `…_call` is run by the provider,
and a later `…_result` step has its `call_id`.  Tokens of thoughts count as output.

Source: the types of the google-genai package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from sse_recorder.dialects.base import (
    DONE,
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
    label_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_in,
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

_PATH = re.compile(r"/v[0-9]\w*/interactions(?:/[^/]+)?/?$")
_UNDER_WAY: Final = ("queued", "in_progress")
_MEDIA: Final = ("image", "audio", "video", "document")
_CALL, _RESULT = "_call", "_result"


class GeminiInteractions(Dialect):
    """Reads one interaction, streamed or whole."""

    name: ClassVar[str] = "gemini_interactions"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "call_id", "event_id", "interaction_id", "signature", "created"}
        | {"updated", "previous_interaction_id"}
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (b'"function_result"',)

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        # The open steps that are calls or results, by their index.
        self._open: dict[str, dict[str, Any]] = {}

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By its path, which is that of no model."""
        return _PATH.search(request.path) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By the type in each payload."""
        type_ = parse_object(data).get("event_type")
        return str(type_).startswith(("interaction.", "step."))

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, by the type in its payload or else by its name."""
        if data == DONE:
            return Reading(Kind.FINISH, terminal=True)
        payload = parse_object(data)
        index = label_of(payload.get("index"))
        match text_of(payload.get("event_type")) or event or "":
            case "step.delta":
                return self._delta(index, payload.get("delta"))
            case "step.start":
                return self._start(index, payload.get("step"))
            case "step.stop":
                return self._stop(index)
            case "error":
                error = message_of(payload.get("error") or payload)
                return Reading(Kind.ERROR, error=error, terminal=True)
            case "interaction.created":
                model = text_of(member(payload, "interaction", "model"))
                return Reading(Kind.CONNECTED, model=model)
            case "interaction.status_update":
                return Reading(Kind.STATUS)
            case type_ if type_.startswith("interaction."):
                return _ended(Kind.FINISH, payload.get("interaction"))
            case _:
                return Reading()

    def read_body(self, body: bytes) -> Reading:
        """Read an interaction that is not streamed, or an error."""
        payload = parse_object(body)
        text, tools = "", list[ToolEvent]()
        for step in objects_of(payload.get("steps")):
            tools += _whole(step)
            text += text_in(step.get("content"))
        if error := payload.get("error"):
            return Reading(Kind.ERROR, error=message_of(error), terminal=True)
        said = _ended(body_kind(text, tools), payload)
        return said._replace(text=text, tools=tuple(tools))

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the steps of the input."""
        return turn_of(_steps(parse_object(body).get("input")))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event of type `error`."""
        error = {"event_type": "error", "error": {"code": "api", "message": message}}
        return f"event: error\ndata: {compact(error)}\n\n"

    def _start(self, index: str, step: Any) -> Reading:
        type_ = text_of(member(step, "type")) or ""
        if type_.endswith((_CALL, _RESULT)):
            # Of some its parts are told at once, of some in deltas.
            self._open[index] = {"index": index, **step}
        if type_.endswith(_RESULT):
            return Reading(Kind.STATUS)
        if type_.endswith(_CALL):
            call = _called(self._open[index])
            begun = ToolStarted(call.key, call.tool_id, call.name, call.is_hosted)
            return Reading(Kind.TOOL_CALL, tools=(begun,))
        text = text_in(member(step, "content"))
        return Reading(Kind.TEXT if text else Kind.STATUS, text)

    def _delta(self, index: str, delta: Any) -> Reading:
        type_ = text_of(member(delta, "type")) or ""
        step = self._open.get(index)
        if type_ == "text":
            return Reading(Kind.TEXT, text_of(delta.get("text")) or "")
        if type_ in _MEDIA:
            return Reading(Kind.TEXT)
        if type_ == "thought_summary":
            return Reading(Kind.REASONING)
        if step is None:
            return Reading(Kind.STATUS)
        if type_ == "arguments_delta":
            step["arguments"] = None  # they are in the pieces
            piece = text_of(delta.get("arguments")) or ""
            arguments = ToolArguments(_key(step), piece)
            return Reading(Kind.TOOL_CALL_DELTA, tools=(arguments,))
        if type_.endswith((_CALL, _RESULT)):
            step |= {name: value for name, value in delta.items() if name != "type"}
        return Reading(Kind.STATUS)

    def _stop(self, index: str) -> Reading:
        step = self._open.pop(index, None)
        tools = _whole(step) if step is not None else ()
        kind = Kind.STATUS
        for tool in tools:
            is_result = isinstance(tool, ToolReturned)
            kind = Kind.TOOL_RESULT if is_result else Kind.TOOL_CALL
        return Reading(kind, tools=tools)


def _key(step: dict[str, Any]) -> str:
    """Return what a call goes by: its id, or else its place."""
    return id_of(step.get("id")) or f"step {label_of(step.get('index'))}"


def _called(step: dict[str, Any]) -> ToolCalled:
    type_ = text_of(step.get("type")) or ""
    name = text_of(step.get("name")) or type_.removesuffix(_CALL)
    given = text_or_json(step.get("arguments"))
    tool_id, is_hosted = id_of(step.get("id")), type_ != "function_call"
    return ToolCalled(_key(step), tool_id, name, given, is_hosted)


def _whole(step: dict[str, Any]) -> tuple[ToolEvent, ...]:
    """Return what a whole step says of tools."""
    type_ = text_of(step.get("type")) or ""
    if type_.endswith(_CALL):
        return (_called(step),)
    if not type_.endswith(_RESULT):
        return ()
    result, failed = text_or_json(step.get("result")), bool(step.get("is_error"))
    return (ToolReturned(id_of(step.get("call_id")), result, failed),)


def _steps(items: Any) -> Iterator[Step]:
    if isinstance(items, str):
        yield Said(by_assistant=False, text=items)
    for item in objects_of(items):
        type_, role = text_of(item.get("type")) or "", item.get("role")
        if type_ == "function_result":
            for tool in _whole(item):
                assert isinstance(tool, ToolReturned)
                name = text_of(item.get("name"))
                yield ClientResult(tool.key, tool.result, tool.failed, name)
        elif type_ == "function_call":
            call = _called(item)
            yield Repeated(call.tool_id, call.name, call.arguments)
        elif type_ in ("", "text", "user_input") and role not in ("model", "assistant"):
            yield Said(
                by_assistant=False,
                text=text_of(item.get("text")) or text_in(item.get("content")),
            )
            yield from _steps(
                [p for p in objects_of(item.get("content")) if _is_step(p)]
            )
        else:
            yield Said(by_assistant=True)
            yield from _steps(
                [p for p in objects_of(item.get("content")) if _is_step(p)]
            )


def _is_step(part: dict[str, Any]) -> bool:
    return part.get("type") in ("function_call", "function_result")


def _ended(kind: Kind, interaction: Any) -> Reading:
    status, usage = text_of(member(interaction, "status")), member(interaction, "usage")
    made = total_of(usage, "total_output_tokens", "total_thought_tokens")
    is_over = status not in _UNDER_WAY
    return Reading(
        kind,
        model=text_of(member(interaction, "model")),
        finish_reason=status if is_over else None,
        input_tokens=count_of(member(usage, "total_input_tokens")),
        output_tokens=made,
        terminal=is_over,
    )


DIALECT = GeminiInteractions
