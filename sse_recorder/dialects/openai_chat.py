"""OpenAI's Chat Completions, and the many servers that are compatible with them.

    data: {choices: [{delta: {content}}]}                      text, in pieces
    data: {choices: [{delta: {tool_calls: [{index, id, function: {name, arguments}}]}}]}
    data: {choices: [{delta: {}, finish_reason}]}
    data: {choices: [], usage}                                 if it was asked for
    data: [DONE]

A call's first piece has its id and name, later ones only `index` and more of its
arguments; these are complete when the next call begins or the choice is finished.  Its
result comes in the client's next request.

What compatible servers do otherwise is read as well:

- whole calls in one piece, all of them with index 0: another id is another call;
- reasoning, as `reasoning`, `reasoning_content` or `reasoning_details`, and within
  `content` as parts of type `thinking` (Mistral);
- `delta.executed_tools` (Groq): tools that the provider ran;
- an error with `failed_generation` (Groq): a call that does not fit the tool's schema,
  which clients answer all the same, with what is wrong with it;
- an `error` beside `choices` (OpenRouter), or alone in an event named `error` (Groq);
- usage in the last chunk, or in `x_groq`.

Source: the types of the openai package, and recorded streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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

_PATH = re.compile(r"/chat/completions/?$")
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


class OpenAIChat(Dialect):
    """Reads one chat completion, streamed or whole."""

    name: ClassVar[str] = "openai_chat"
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
        # The calls whose arguments may go on, by their choice and index.
        self._open: dict[tuple[Any, Any], str] = {}
        self._ids: dict[str, str | None] = {}
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
            return Reading(Kind.ERROR, error=message_of(payload or data))
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
        is_reasoning = is_role = False
        finish_reason = None
        for number, choice in enumerate(objects_of(payload.get("choices"))):
            index = choice.get("index", number)
            said = member(choice, part) or {}
            text += (
                _text(member(said, "content")) or text_of(member(said, "refusal")) or ""
            )
            is_reasoning |= any(member(said, name) for name in _REASONING)
            is_reasoning |= bool(_thinking(member(said, "content")))
            is_role |= member(said, "role") is not None
            tools += self._calls(index, said)
            if reason := text_of(choice.get("finish_reason")):
                finish_reason = reason
                tools += self._complete(index)
        usage = payload.get("usage") or member(payload, "x_groq", "usage")
        error = payload.get("error")
        tools += _refused(error)
        kinds = (
            (error, Kind.ERROR),
            (
                any(not isinstance(t, ToolArguments | ToolReturned) for t in tools)
                and not finish_reason,
                Kind.TOOL_CALL,
            ),
            (any(isinstance(t, ToolReturned) for t in tools), Kind.TOOL_RESULT),
            (any(isinstance(t, ToolArguments) for t in tools), Kind.TOOL_CALL_DELTA),
            (text, Kind.TEXT),
            (is_reasoning, Kind.REASONING),
            (finish_reason, Kind.FINISH),
            (usage, Kind.USAGE),
            (is_role, Kind.CONNECTED),
        )
        return Reading(
            next((kind for holds, kind in kinds if holds), Kind.OTHER),
            text=text,
            tools=tuple(tools),
            model=text_of(payload.get("model")),
            finish_reason=finish_reason,
            input_tokens=count_of(member(usage, "prompt_tokens")),
            output_tokens=count_of(member(usage, "completion_tokens")),
            error=message_of(error) if error else None,
        )

    def _calls(self, choice: Any, said: Any) -> list[ToolEvent]:
        calls = objects_of(member(said, "tool_calls"))
        if isinstance(old := member(said, "function_call"), dict):
            calls = [{"index": "function_call", "function": old}]
        events = list[ToolEvent]()
        for number, call in enumerate(calls):
            events += self._call(choice, call.get("index", number), call)
        for number, tool in enumerate(objects_of(member(said, "executed_tools"))):
            events += self._executed(f"{choice}/ran {tool.get('index', number)}", tool)
        return events

    def _call(self, choice: Any, index: Any, call: dict[str, Any]) -> list[ToolEvent]:
        function = call.get("function") or call.get("custom")
        tool_id, name = text_of(call.get("id")), text_of(member(function, "name"))
        pieces = member(function, "arguments") or member(function, "input")
        slot = (str(choice), str(index))
        key = self._open.get(slot)
        events = list[ToolEvent]()
        if key is None or (tool_id and tool_id != self._ids[key]):
            events += self._complete(choice)
            key = f"{choice}/{len(self._ids)}"
            self._open[slot], self._ids[key] = key, tool_id
            events.append(ToolStarted(key, tool_id, name))
        if isinstance(pieces, dict):  # some servers do not make text of it
            pieces = compact(pieces)
        if isinstance(pieces, str) and pieces:
            events.append(ToolArguments(key, pieces))
        return events

    def _complete(self, choice: Any) -> list[ToolEvent]:
        """Return that the open calls of a choice have their arguments."""
        slots = [slot for slot in self._open if slot[0] == str(choice)]
        return [ToolCalled(self._open.pop(slot), None, None, None) for slot in slots]

    def _executed(self, key: str, tool: dict[str, Any]) -> list[ToolEvent]:
        events = list[ToolEvent]()
        if key not in self._run:
            self._run.add(key)
            name = text_of(tool.get("name")) or text_of(tool.get("type"))
            given = text_of(tool.get("arguments"))
            events.append(ToolCalled(key, None, name, given, is_hosted=True))
        if (output := tool.get("output")) is not None:
            events.append(
                ToolReturned(key, text_of(output) or compact(output), failed=False)
            )
        return events


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
                    yield _repeated(call.get("id"), call)
                if isinstance(old := message.get("function_call"), dict):
                    yield _repeated(None, {"function": old})
            case "tool" | "function":
                tool_id, name = message.get("tool_call_id"), message.get("name")
                result = None if content is None else _text(content) or compact(content)
                yield ClientResult(text_of(tool_id), result, name=text_of(name))
            case "user":
                yield Said(by_assistant=False, text=_text(content))


def _repeated(tool_id: Any, call: dict[str, Any]) -> Repeated:
    function = call.get("function") or call.get("custom")
    given = member(function, "arguments") or member(function, "input")
    arguments = compact(given) if isinstance(given, dict) else text_of(given)
    return Repeated(text_of(tool_id), text_of(member(function, "name")), arguments)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return text_of(content) or ""
    return "".join(text_of(part.get("text")) or "" for part in objects_of(content))


def _thinking(content: Any) -> bool:
    return any(part.get("type") == "thinking" for part in objects_of(content))


DIALECT = OpenAIChat
