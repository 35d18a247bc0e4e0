"""OpenAI's Chat Completions, and the many servers that are compatible with them.

    data: {choices: [{delta: {content}}]}                      text, in pieces
    data: {choices: [{delta: {tool_calls: [{index, id, function: {name, arguments}}]}}]}
    data: {choices: [{delta: {}, finish_reason}]}
    data: {choices: [], usage}                                 if it was asked for
    data: [DONE]

A call's first piece has its id and name, later ones only `index` and more of its
arguments; these are complete when the next call begins or the choice is finished,
unless more of them comes after that.  Its result comes in the client's next request.

What compatible servers do otherwise is read as well:

- whole calls in one piece, all of them with index 0: another id is another call, and
  where there are no ids, a name after whole arguments is;
- reasoning, as `reasoning`, `reasoning_content` or `reasoning_details`, and within
  `content` as parts of type `thinking` (Mistral);
- `delta.executed_tools` (Groq): tools that the provider ran;
- an error with `failed_generation` (Groq): a call that does not fit the tool's schema,
  which clients answer all the same, with what is wrong with it;
- an `error` beside `choices` (OpenRouter), or alone in an event named `error` (Groq),
  or all of the payload (vLLM, Mistral);
- chunks of a content filter, whose members are empty (Azure);
- usage in the last chunk, or in `x_groq`.

Source: the types of the openai package, and recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

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

_PATH = re.compile(r"/chat/completions/?$")
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


@dataclass(slots=True)
class _Call:
    """The call that a choice has at an index."""

    key: str
    tool_id: str | None
    is_whole: bool
    """Its first piece had all of its arguments."""
    is_free: bool
    """What it is given is free text, of which the API makes no JSON."""
    given: list[str] = field(default_factory=list)
    """That text."""


class OpenAIChat(Dialect):
    """Reads one chat completion, streamed or whole."""

    name: ClassVar[str] = "openai_chat"
    says_end = True
    noise: ClassVar[frozenset[str]] = frozenset(
        {"id", "created", "obfuscation", "system_fingerprint", "tool_call_id", "x_groq"}
    )
    result_marks: ClassVar[tuple[bytes, ...]] = (
        b'"tool_call_id"',
        b'"role":"function"',
        b'"role": "function"',
    )

    def __init__(self, request: RequestHead) -> None:
        super().__init__(request)
        self._count = 0
        # The latest call at each choice and index: more of it may come at any time.
        self._calls: dict[tuple[str, str], _Call] = {}
        # The calls of a choice that are not complete yet.
        self._open: dict[str, list[_Call]] = {}
        self._run: set[str] = set()

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """By the end of its path, which compatible servers share."""
        return _PATH.search(request.path) is not None

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """By the type that each chunk names."""
        return parse_object(data).get("object") == "chat.completion.chunk"

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one chunk, an error, or the sentinel."""
        if data.startswith(DONE):
            return Reading(Kind.FINISH, terminal=True)
        payload = parse_object(data)
        if event == "error" and "error" not in payload:
            payload = {"error": payload or data}
        model = text_of(payload.get("model")) or None
        if text := _only_text(payload):
            return Reading(Kind.TEXT, text=text, model=model)
        return self._read(payload, "delta")

    def read_body(self, body: bytes) -> Reading:
        """Read a completion that is not streamed, or an error."""
        return self._read(parse_object(body), "message")

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read the messages."""
        return turn_of(_steps(parse_object(body)))

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event that holds an error and nothing else."""
        error = {"message": message, "type": "server_error", "code": "injected_fault"}
        return f"data: {compact({'error': error})}\n\n"

    def _read(self, payload: dict[str, Any], part: str) -> Reading:
        text, tools = "", list[ToolEvent]()
        is_reasoning = is_role = is_media = False
        finish_reason = None
        for number, choice in enumerate(objects_of(payload.get("choices"))):
            index = label_of(choice.get("index", number))
            said = member(choice, part) or {}
            text += _said(said)
            is_media |= bool(member(said, "audio", "data") or member(said, "images"))
            is_reasoning |= any(member(said, name) for name in _REASONING)
            is_reasoning |= bool(_thinking(member(said, "content")))
            is_role |= member(said, "role") is not None
            tools += self._tools(index, said)
            if reason := text_of(choice.get("finish_reason")):
                finish_reason = reason
                tools += self._complete(index)
        usage = payload.get("usage") or member(payload, "x_groq", "usage")
        is_error = payload.get("object") == "error"
        error = payload.get("error") or (payload if is_error else None)
        if error:
            tools += _refused(error)
        kinds = (
            (error, Kind.ERROR),
            (
                any(isinstance(t, ToolStarted) for t in tools)
                or (
                    any(isinstance(t, ToolCalled) for t in tools) and not finish_reason
                ),
                Kind.TOOL_CALL,
            ),
            (any(isinstance(t, ToolReturned) for t in tools), Kind.TOOL_RESULT),
            (any(isinstance(t, ToolArguments) for t in tools), Kind.TOOL_CALL_DELTA),
            (text or is_media, Kind.TEXT),
            (is_reasoning, Kind.REASONING),
            (finish_reason, Kind.FINISH),
            (usage, Kind.USAGE),
            (is_role, Kind.CONNECTED),
        )
        return Reading(
            next((kind for holds, kind in kinds if holds), Kind.OTHER),
            text=text,
            tools=tuple(tools),
            model=text_of(payload.get("model")) or None,
            finish_reason=finish_reason,
            input_tokens=count_of(member(usage, "prompt_tokens")),
            output_tokens=count_of(member(usage, "completion_tokens")),
            error=message_of(error) if error else None,
            terminal=bool(error),
        )

    def _tools(self, choice: str, said: Any) -> list[ToolEvent]:
        calls = objects_of(member(said, "tool_calls"))
        if isinstance(old := member(said, "function_call"), dict):
            calls = [{"index": "function_call", "function": old}]
        events = list[ToolEvent]()
        for number, call in enumerate(calls):
            events += self._call((choice, label_of(call.get("index", number))), call)
        for number, tool in enumerate(objects_of(member(said, "executed_tools"))):
            place = label_of(tool.get("index", number))
            events += self._executed(f"{choice}/ran {place}", tool)
        return events

    def _call(self, slot: tuple[str, str], piece: dict[str, Any]) -> list[ToolEvent]:
        function = piece.get("function") or piece.get("custom")
        tool_id, name = id_of(piece.get("id")), text_of(member(function, "name"))
        # Some servers do not make text of the arguments.
        given = member(function, "arguments") or member(function, "input")
        text = text_or_json(given) or ""
        call, events = self._calls.get(slot), list[ToolEvent]()
        if call is None or _is_another(call, tool_id, name):
            events += self._complete(slot[0])
            key, is_free = f"{slot[0]}/{self._count}", "custom" in piece
            call = _Call(key, tool_id, tool_id is None and _is_object(text), is_free)
            self._count += 1
            self._calls[slot] = call
            self._open.setdefault(slot[0], []).append(call)
            events.append(ToolStarted(key, tool_id, name))
        if call.is_free:
            call.given.append(text)
            text = ""
        elif not text:
            return events
        return [*events, ToolArguments(call.key, text)]

    def _complete(self, choice: str) -> list[ToolEvent]:
        """Return that the open calls of a choice have their arguments."""
        return [
            ToolCalled(
                *(call.key, None, None),
                compact({"input": "".join(call.given)}) if call.is_free else None,
            )
            for call in self._open.pop(choice, ())
        ]

    def _executed(self, key: str, tool: dict[str, Any]) -> list[ToolEvent]:
        events = list[ToolEvent]()
        if key not in self._run:
            self._run.add(key)
            name = text_of(tool.get("name")) or text_of(tool.get("type"))
            given = text_of(tool.get("arguments"))
            events.append(ToolCalled(key, None, name, given, is_hosted=True))
        if (output := tool.get("output")) is not None:
            events.append(ToolReturned(key, text_or_json(output), failed=False))
        return events


def _is_another(call: _Call, tool_id: str | None, name: str | None) -> bool:
    """Tell whether a piece begins another call than the one in its place."""
    if tool_id is None:
        return call.is_whole and bool(name)
    return tool_id != call.tool_id


def _is_object(text: str) -> bool:
    return bool(parse_object(text)) or text.strip() == "{}"


def _refused(error: Any) -> list[ToolEvent]:
    """Return the call that an error is about, if there is one in it."""
    call = parse_object(text_of(member(error, "failed_generation")) or "")
    name, given = text_of(call.get("name")), call.get("arguments")
    if name is None or not isinstance(given, dict):
        return []
    return [ToolCalled(f"refused {name}", None, name, compact(given))]


def _steps(payload: dict[str, Any]) -> Iterator[Step]:
    for message in objects_of(payload.get("messages")):
        content = message.get("content")
        match message.get("role"):
            case "assistant":
                yield Said(by_assistant=True)
                for call in objects_of(message.get("tool_calls")):
                    yield _repeated(call)
                if isinstance(old := message.get("function_call"), dict):
                    yield _repeated({"function": old})
            case "tool" | "function":
                tool_id, name = message.get("tool_call_id"), message.get("name")
                result = text_in(content) or text_or_json(content)
                yield ClientResult(id_of(tool_id), result, name=text_of(name))
            case "user":
                yield Said(by_assistant=False, text=text_in(content))


def _repeated(call: dict[str, Any]) -> Repeated:
    function = call.get("function") or call.get("custom")
    if (given := member(function, "arguments")) is None and "custom" in call:
        given = {"input": text_of(member(function, "input")) or ""}
    name = text_of(member(function, "name"))
    return Repeated(id_of(call.get("id")), name, text_or_json(given))


def _only_text(payload: dict[str, Any]) -> str:
    """Return the text of a chunk that says nothing else; nothing of another.

    Nearly all chunks are such, and this takes a third of the time of a whole reading.
    """
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    delta = member(choice, "delta")
    if not isinstance(choice, dict) or not isinstance(delta, dict):
        return ""
    text = delta.get("content")
    if (
        not isinstance(text, str)
        or choice.get("finish_reason")
        or any(delta[name] for name in delta if name not in ("content", "role"))
        or any(map(payload.get, ("usage", "error", "x_groq")))
        or payload.get("object") == "error"
    ):
        return ""
    return text_of(text) or ""


def _said(message: Any) -> str:
    """Return what is said, in whatever way."""
    return (
        text_in(member(message, "content"))
        or text_of(member(message, "refusal"))
        or text_of(member(message, "audio", "transcript"))
        or ""
    )


def _thinking(content: Any) -> bool:
    return any(part.get("type") == "thinking" for part in objects_of(content))


DIALECT = OpenAIChat
