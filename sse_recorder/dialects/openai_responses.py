"""OpenAI's Responses: every payload names its type, which is the event's name as well.

    response.created                          {response}
    response.output_item.added                {item}      text, reasoning or a call
    response.output_text.delta                {delta}
    response.function_call_arguments.delta    {item_id, delta}  and `.done`
    response.output_item.done                 {item}
    response.completed | incomplete | failed  {response: {usage, …}}

A call goes by the id of its item, as it was first told, or by its place where later
events have another id (as some gateways make it) or none; `call_id` is what the client
answers to in its next request.  A stream that is taken up in its middle
(`starting_after`) may lack the beginning of a call; its end has all of it.

What the provider runs itself (web and file search, code, images, MCP) is a call as
well: it begins when its arguments are complete, or where it has none when it is in
progress, and has returned when its item is done.  A `…_call` that is answered by a
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
# A tuple, because what is looked for may be anything, which a set would have to hash.
_HOSTED: Final = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
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
    "response.audio.transcript.delta": Kind.TEXT,
    "response.reasoning.delta": Kind.REASONING,
    "response.reasoning_text.delta": Kind.REASONING,
    "response.reasoning_summary.delta": Kind.REASONING,
    "response.reasoning_summary_text.delta": Kind.REASONING,
    "response.completed": Kind.FINISH,
    "response.incomplete": Kind.FINISH,
    "response.failed": Kind.ERROR,
    "error": Kind.ERROR,
    "keepalive": Kind.KEEPALIVE,
}
_UNDER_WAY: Final = ("queued", "in_progress")
"""The statuses of a response that goes on in the background."""


class OpenAIResponses(Dialect):
    """Reads one response, streamed or whole."""

    name: ClassVar[str] = "openai_responses"
    says_end = True
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
        self._started: set[str] = set()
        self._called: set[str] = set()
        self._places: dict[str, str] = {}  # of the calls that are not done
        self._answered: dict[str, str] = {}  # call_id, or type, → the call's key

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
        if not type_ and payload.get("error"):
            type_ = "error"
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
        text, tools = "", list[ToolEvent]()
        for place, item in enumerate(objects_of(payload.get("output"))):
            tools += self._item(item, str(place), is_done=True)
            for part in objects_of(item.get("content")):
                said = text_of(part.get("text")) or text_of(part.get("refusal")) or ""
                text += said if item.get("type") == "message" else ""
        kind = Kind.ERROR if payload.get("error") else body_kind(text, tools)
        said_last = _ended(kind, {"response": payload})
        return said_last._replace(text=text, tools=tuple(tools))

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
        place = label_of(payload.get("output_index"))
        key = self._key(id_of(payload.get("item_id")), place)
        if arguments := _ARGUMENTS.fullmatch(type_):
            if arguments[1] == "delta":
                # Code and free text are no JSON until they are whole.
                piece = text_of(payload.get("delta")) if "arguments" in type_ else ""
                delta = ToolArguments(key, piece or "")
                return Reading(Kind.TOOL_CALL_DELTA, tools=(delta,))
            return Reading(Kind.TOOL_CALL, tools=self._go_on(key, _arguments(payload)))
        if _BEGUN.fullmatch(type_):
            return Reading(Kind.TOOL_CALL, tools=self._go_on(key, None))
        if type_ not in ("response.output_item.added", "response.output_item.done"):
            return Reading(Kind.STATUS if type_.startswith("response.") else Kind.OTHER)
        item = payload.get("item")
        tools = (
            self._item(item, place, is_done=type_.endswith("done"))
            if isinstance(item, dict)
            else ()
        )
        if not tools:
            return Reading(Kind.STATUS)
        is_result = any(isinstance(tool, ToolReturned) for tool in tools)
        return Reading(
            Kind.TOOL_RESULT if is_result else Kind.TOOL_CALL, tools=tuple(tools)
        )

    def _item(
        self, item: dict[str, Any], place: str, *, is_done: bool
    ) -> tuple[ToolEvent, ...]:
        type_ = text_of(item.get("type")) or ""
        call_id, short = id_of(item.get("call_id")), type_.removesuffix("_call")
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
        own = id_of(item.get("id")) or call_id
        key = (self._key(own, place) if is_done else own) or f"#{place}"
        name, is_hosted = text_of(item.get("name")) or short, _is_hosted(item)
        tool_id = call_id or id_of(item.get("id"))
        self._answered[call_id or short] = key
        if not is_done:
            self._started.add(key)
            self._places[place] = key
            return (ToolStarted(key, tool_id, name, is_hosted),)
        self._places.pop(place, None)
        given = _arguments(item)
        called = self._call(ToolCalled(key, tool_id, name, given, is_hosted))
        if type_ in _HOSTED:
            return (*called, ToolReturned(key, compact(item), failed, given))
        return called

    def _key(self, item_id: str | None, place: str) -> str | None:
        """Return what an item goes by that may have been told before."""
        if item_id in self._started:
            return item_id
        return self._places.get(place, item_id)

    def _go_on(self, key: str | None, given: str | None) -> tuple[ToolCalled, ...]:
        """Return that a call whose beginning was told has its arguments."""
        if key is None or key not in self._started:
            return ()
        return self._call(ToolCalled(key, None, None, given))

    def _call(self, call: ToolCalled) -> tuple[ToolCalled, ...]:
        """Return that a call has its arguments, unless it was told before."""
        if call.key is None or call.key in self._called:
            return ()
        self._called.add(call.key)
        return (call,)


def _is_hosted(item: dict[str, Any]) -> bool:
    return item.get("type") in _HOSTED or item.get("execution") == "server"


def _arguments(item: dict[str, Any]) -> str | None:
    """Return the arguments of a whole call as JSON, whatever the API calls them."""
    if (given := item.get("arguments")) is not None:
        return text_or_json(given)
    for name in ("input", "code", "action", "queries", "operation"):
        if (value := item.get(name)) is not None:
            return compact(value if isinstance(value, dict) else {name: value})
    return None


def _steps(items: Any) -> Iterator[Step]:
    if isinstance(items, str):
        yield Said(by_assistant=False, text=items)
    for item in objects_of(items):
        type_ = text_of(item.get("type")) or "message"
        call_id = id_of(item.get("call_id")) or id_of(item.get("id"))
        if type_.endswith("_output"):
            result = text_or_json(item.get("output"))
            yield ClientResult(call_id, result, item.get("status") == "failed")
        elif type_.endswith("_call"):
            name = text_of(item.get("name")) or type_.removesuffix("_call")
            yield Repeated(call_id, name, _arguments(item))
        elif item.get("role") == "user":
            yield Said(by_assistant=False, text=text_in(item.get("content")))
        elif item.get("role") == "assistant" or not (
            "role" in item or type_.endswith("_response")
        ):  # reasoning has no role; an approval is the user's
            yield Said(by_assistant=True)


def _ended(kind: Kind, payload: dict[str, Any]) -> Reading:
    response = payload.get("response") or {}
    usage = member(response, "usage")
    error = member(response, "error") or (payload if kind is Kind.ERROR else None)
    status = member(response, "status")
    reason = member(response, "incomplete_details", "reason") or status
    is_over = status not in _UNDER_WAY
    return Reading(
        kind,
        model=text_of(member(response, "model")),
        session_id=text_of(member(response, "conversation", "id")),
        finish_reason=text_of(reason) if is_over else None,
        input_tokens=count_of(member(usage, "input_tokens")),
        output_tokens=count_of(member(usage, "output_tokens")),
        error=message_of(error) if error else None,
        terminal=is_over,
    )


DIALECT = OpenAIResponses
