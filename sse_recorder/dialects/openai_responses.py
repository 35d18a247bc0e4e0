"""OpenAI's Responses: every payload names its type, which is the event's name as well.

    response.created                          {response}
    response.output_item.added                {item}      text, reasoning or a call
    response.output_text.delta                {delta}
    response.function_call_arguments.delta    {item_id, delta}  and `.done`
    response.output_item.done                 {item}
    response.completed | incomplete | failed  {response: {usage, …}}

A call goes by the id of its item; `call_id` is what the client answers to in its next
request.  What the provider runs itself (web and file search, code, images, MCP) is a
call as well: it begins when its arguments are complete, or where it has none when it is
in progress, and has returned when its item is done.  A `…_call` that is answered by a
`…_call_output` in the same stream has returned with that.

Source: the types of the openai package, and recorded streams.
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
    compact,
    count_of,
    member,
    message_of,
    objects_of,
    parse_object,
    text_of,
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

_PATH = re.compile(r"/responses(?:/[^/]+)?/?$")
_HOSTED: Final = frozenset(
    {
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "mcp_call",
    }
)
"""The types of items that the provider runs, and that are done when it has."""
_ARGUMENTS: Final = re.compile(
    r"response\.(?:function_call_arguments|mcp_call_arguments|custom_tool_call_input"
    r"|code_interpreter_call_code)\.(delta|done)"
)
_BEGUN: Final = re.compile(
    r"response\.(?:web_search|file_search|image_generation)_call\.in_progress"
)
_KINDS: Final = {
    "response.created": Kind.CONNECTED,
    "response.queued": Kind.STATUS,
    "response.in_progress": Kind.STATUS,
    "response.output_text.delta": Kind.TEXT,
    "response.refusal.delta": Kind.TEXT,
    "response.reasoning_text.delta": Kind.REASONING,
    "response.reasoning_summary_text.delta": Kind.REASONING,
    "response.completed": Kind.FINISH,
    "response.incomplete": Kind.FINISH,
    "response.failed": Kind.ERROR,
    "error": Kind.ERROR,
    "keepalive": Kind.KEEPALIVE,
}


class OpenAIResponses(Dialect):
    """Reads one response, streamed or whole."""

    name: ClassVar[str] = "openai_responses"
    noise: ClassVar[frozenset[str]] = frozenset(
        {
            "id",
            "item_id",
            "call_id",
            "created_at",
            "completed_at",
            "obfuscation",
            "sequence_number",
            "previous_response_id",
        }
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (b'_output"',)

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._called: set[str | None] = set()
        self._answered: dict[str, str | None] = {}  # call_id, or type, → the call's key

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the end of its path."""
        return _PATH.search(request.path) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By the type in each payload."""
        return str(parse_object(data).get("type")).startswith("response.")

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one event, by the type in its payload or else by its name."""
        if data.startswith(DONE):  # OpenRouter adds it
            return Reading(Kind.FINISH, terminal=True)
        payload = parse_object(data)
        type_ = text_of(payload.get("type")) or event or ""
        kind = _KINDS.get(type_)
        if kind is None:
            return self._read_tool(type_, payload)
        if kind is Kind.TEXT:
            return Reading(kind, text_of(payload.get("delta")) or "")
        if kind in (Kind.FINISH, Kind.ERROR):
            return _ended(kind, payload)
        response = payload.get("response")
        return Reading(
            kind,
            model=text_of(member(response, "model")),
            session_id=text_of(member(response, "conversation", "id")),
        )

    def read_body(self, body: bytes) -> Reading:
        """Read a response that is not streamed, or an error."""
        payload = parse_object(body)
        tools = list[ToolEvent]()
        for item in objects_of(payload.get("output")):
            tools += self._item(item, is_done=True)
        kind = Kind.ERROR if payload.get("error") else Kind.OTHER
        return _ended(kind, {"response": payload})._replace(tools=tuple(tools))

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the items of the input."""
        payload = parse_object(body)
        conversation = payload.get("conversation")
        named = text_of(conversation) or text_of(member(conversation, "id"))
        return turn_of(_steps(payload.get("input")), named)

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event of type `error`."""
        error = {"type": "error", "code": "injected_fault", "message": message}
        return f"event: error\ndata: {compact(error)}\n\n"

    def _read_tool(self, type_: str, payload: dict[str, Any]) -> Reading:
        key = text_of(payload.get("item_id"))
        if arguments := _ARGUMENTS.fullmatch(type_):
            if arguments[1] == "delta":
                # Code and free text are no JSON until they are whole.
                piece = text_of(payload.get("delta")) if "arguments" in type_ else ""
                delta = ToolArguments(key, piece or "")
                return Reading(Kind.TOOL_CALL_DELTA, tools=(delta,))
            given = _arguments(payload)
            return Reading(Kind.TOOL_CALL, tools=self._call(key, None, None, given))
        if _BEGUN.fullmatch(type_):
            return Reading(Kind.TOOL_CALL, tools=self._call(key, None, None, None))
        if type_ not in ("response.output_item.added", "response.output_item.done"):
            return Reading(Kind.STATUS if type_.startswith("response.") else Kind.OTHER)
        item = payload.get("item")
        tools = (
            self._item(item, is_done=type_.endswith("done"))
            if isinstance(item, dict)
            else ()
        )
        if not tools:
            return Reading(Kind.STATUS)
        is_result = any(isinstance(tool, ToolReturned) for tool in tools)
        return Reading(
            Kind.TOOL_RESULT if is_result else Kind.TOOL_CALL, tools=tuple(tools)
        )

    def _item(self, item: dict[str, Any], *, is_done: bool) -> tuple[ToolEvent, ...]:
        type_ = text_of(item.get("type")) or ""
        key, call_id = text_of(item.get("id")), text_of(item.get("call_id"))
        failed = item.get("status") in ("failed", "incomplete") or bool(
            item.get("error")
        )
        if type_.endswith("_output"):
            answers = self._answered.get(call_id or type_.removesuffix("_output"))
            if not is_done:
                return ()
            return (ToolReturned(answers or call_id, compact(item), failed=failed),)
        if not type_.endswith("_call"):
            return ()
        name = text_of(item.get("name")) or type_.removesuffix("_call")
        self._answered[call_id or type_.removesuffix("_call")] = key
        is_hosted = type_ in _HOSTED or item.get("execution") == "server"
        if not is_done:
            return (ToolStarted(key, call_id or key, name, is_hosted),)
        called = tuple(
            call._replace(is_hosted=is_hosted)
            for call in self._call(key, call_id or key, name, _arguments(item))
        )
        if type_ in _HOSTED:
            result = ToolReturned(key, compact(item), failed, _arguments(item))
            return (*called, result)
        return called

    def _call(
        self, key: str | None, tool_id: str | None, name: str | None, text: str | None
    ) -> tuple[ToolCalled, ...]:
        """Return that a call has its arguments, unless it was told before."""
        if key in self._called:
            return ()
        self._called.add(key)
        return (ToolCalled(key, tool_id, name, text),)


def _arguments(item: dict[str, Any]) -> str | None:
    """Return the arguments of a whole call as JSON, whatever the API calls them."""
    given = item.get("arguments")
    if given is not None:
        return text_of(given) or compact(given)
    for name in ("input", "code", "action", "queries", "operation"):
        if (value := item.get(name)) is not None:
            return compact(value if isinstance(value, dict) else {name: value})
    return None


def _steps(items: Any) -> Iterator[Step]:
    if isinstance(items, str):
        yield Said(by_assistant=False, text=items)
    for item in objects_of(items):
        type_ = text_of(item.get("type")) or "message"
        call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
        if type_.endswith("_output"):
            output = item.get("output")
            result = text_of(output) if isinstance(output, str) else compact(output)
            yield ClientResult(call_id, result, item.get("status") == "failed")
        elif type_.endswith("_call"):
            name = text_of(item.get("name")) or type_.removesuffix("_call")
            yield Repeated(call_id, name, _arguments(item))
        elif item.get("role") == "user":
            yield Said(by_assistant=False, text=compact(item.get("content")))
        elif item.get("role") in (None, "assistant"):  # reasoning has none
            yield Said(by_assistant=True)


def _ended(kind: Kind, payload: dict[str, Any]) -> Reading:
    response = payload.get("response") or {}
    usage = member(response, "usage")
    error = member(response, "error") or (payload if kind is Kind.ERROR else None)
    reason = member(response, "incomplete_details", "reason") or member(
        response, "status"
    )
    return Reading(
        kind,
        model=text_of(member(response, "model")),
        session_id=text_of(member(response, "conversation", "id")),
        finish_reason=text_of(reason),
        input_tokens=count_of(member(usage, "input_tokens")),
        output_tokens=count_of(member(usage, "output_tokens")),
        error=message_of(error) if error else None,
        terminal=True,
    )


DIALECT = OpenAIResponses
