"""What SDKs put together from a replay is what they put together from the live stream.

Each stream is read twice by the SDK's own accumulators: live, over the recorder, and
from the real command that replays it, with the server gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import anthropic
import openai
import pytest
from end_to_end.test_corpus import Recorded, recorded, serving
from end_to_end.test_sdks import anthropic_block, named, openai_chunk, unnamed
from openai.lib.streaming.chat import ChatCompletionStreamState
from support import command

from sse_recorder import Recorder, running

ARGUMENTS: Final = {"city": "Lisbon", "says": 'it "rains", \u00e7a va'}
NAMED: Final = ("model", "messages", "input", "max_tokens")
"""The members of requests that SDKs have as arguments of their own."""
REFUSED: Final = {
    "28-0": "the model's call does not fit its tool, which the stream says",
    "40-0": "the stream ends with an error",
    "42-0": "its citations have no index, by which the accumulator merges them",
}
"""The streams of the corpus that an SDK gives an error for, live as well."""


def pieces(text: str) -> Iterator[str]:
    """Cut a text as models do."""
    yield ""
    yield from (text[place : place + 7] for place in range(0, len(text), 7))


def chat() -> list[bytes]:
    """Return a completion of two calls at the same time."""

    def call(index: int, function: dict[str, str], **more: str) -> dict[str, Any]:
        piece = {"index": index, "function": function} | more
        return openai_chunk({"tool_calls": [piece]})

    chunks = [openai_chunk({"role": "assistant", "content": "Let me look."})]
    for index in (0, 1):
        start = {"name": "weather", "arguments": ""}
        chunks.append(call(index, start, id=f"call_{index}", type="function"))
        text = json.dumps(ARGUMENTS | {"day": index})
        chunks += [call(index, {"arguments": piece}) for piece in pieces(text)]
    chunks.append(openai_chunk({}, "tool_calls"))
    usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    chunks.append(openai_chunk({}) | {"choices": [], "usage": usage})
    return [*unnamed(*chunks), b"data: [DONE]\n\n"]


def responses() -> list[bytes]:
    """Return a response of one call."""
    whole = json.dumps(ARGUMENTS)
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    call = {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "weather",
        "arguments": "",
    }
    place = {"item_id": "fc_1", "output_index": 0}
    prefix = "response.function_call_arguments"
    done = call | {"arguments": whole}
    return named(
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": call},
        *[{"type": f"{prefix}.delta", "delta": p} | place for p in pieces(whole)],
        {"type": f"{prefix}.done", "arguments": whole, "name": "weather"} | place,
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": response | {"output": [done]}},
    )


def messages() -> list[bytes]:
    """Return a message of one call."""
    return anthropic_block(
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        *[
            {"type": "input_json_delta", "partial_json": piece}
            for piece in pieces(json.dumps(ARGUMENTS))
        ],
    )


def made(path: str, frames: Iterable[bytes]) -> Recorded:
    """Return a stream of this file, under the name of its path."""
    said = {"role": "user", "content": "hello"}
    body = {"model": "m", "stream": True, "messages": [said], "max_tokens": 9}
    if path.endswith("/responses"):
        body = {"model": "m", "stream": True, "input": [said]}
    request = json.dumps(body).encode()
    type_ = "text/event-stream"
    return Recorded(path, "POST", path, request, 200, type_, b"".join(frames))


MADE: Final = (
    made("/v1/chat/completions", chat()),
    made("/v1/responses", responses()),
    made("/v1/messages", messages()),
)


def asked(stream: Recorded) -> dict[str, Any]:
    """Return the arguments of the SDK's method that sends this request."""
    body = json.loads(stream.request)
    given = {name: body.pop(name) for name in NAMED if name in body}
    del body["stream"]
    return given | {"extra_body": body, "extra_headers": {"X-Name": stream.name}}


class Sdks(NamedTuple):
    """Clients of one server."""

    url: str
    gpt: openai.OpenAI
    claude: anthropic.Anthropic

    def gpt_at(self, stream: Recorded, end: str) -> openai.OpenAI:
        """Return the client for the base URL that a stream's path goes on from."""
        prefix = stream.target.removesuffix(end)
        return self.gpt.with_options(base_url=self.url + prefix)


def read_chat(sdks: Sdks, stream: Recorded) -> dict[str, Any]:
    """Put a chat completion together."""
    client = sdks.gpt_at(stream, "/chat/completions")
    state = ChatCompletionStreamState()
    for chunk in client.chat.completions.create(**asked(stream), stream=True):
        state.handle_chunk(chunk)
    return state.get_final_completion().model_dump()


def read_responses(sdks: Sdks, stream: Recorded) -> dict[str, Any]:
    """Put a response together."""
    client = sdks.gpt_at(stream, "/responses")
    with client.responses.stream(**asked(stream)) as events:
        return events.get_final_response().model_dump()


def read_messages(sdks: Sdks, stream: Recorded) -> dict[str, Any]:
    """Put a message together."""
    with sdks.claude.beta.messages.stream(**asked(stream)) as events:
        return events.get_final_message().model_dump()


READERS: Final[dict[str | None, Callable[[Sdks, Recorded], dict[str, Any]]]] = {
    "openai_chat": read_chat,
    "openai_responses": read_responses,
    "anthropic": read_messages,
}


def read(url: str, streams: Iterable[Recorded]) -> dict[str, dict[str, Any] | str]:
    """Return what the SDKs put together of streams, or the error that they give."""
    found: dict[str, dict[str, Any] | str] = {}
    with (
        openai.OpenAI(base_url=url, api_key="k", max_retries=0) as gpt,
        anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as claude,
    ):
        sdks = Sdks(url, gpt, claude)
        for stream in streams:
            try:
                found[stream.name] = READERS[stream.dialect](sdks, stream)
            except (openai.APIError, RuntimeError) as problem:
                found[stream.name] = f"{type(problem).__name__}: {problem}"
    return found


def read_twice(
    streams: Iterable[Recorded], folder: Path
) -> dict[str, dict[str, Any] | str]:
    """Read streams live and replayed, which has to be the same, and return it."""
    by_name = {stream.name: stream for stream in streams}
    with (
        serving(by_name) as upstream,
        running(Recorder(upstream, store=folder / "recordings")) as recorder,
    ):
        live = read(recorder.url, by_name.values())
    with command("replay", "recordings", "--speed", "max", cwd=folder) as replay:
        assert read(replay.url, by_name.values()) == live
        assert replay.stop() == 0
    return live


def arguments_in(value: Any) -> list[Any]:
    """Return the arguments of all calls of a message, parsed."""
    if isinstance(value, list):
        return [found for item in value for found in arguments_in(item)]
    if not isinstance(value, dict):
        return []
    if value.get("type") == "tool_use":
        return [value["input"]]
    if value.get("type") == "function_call":
        return [json.loads(value["arguments"])]
    if isinstance(function := value.get("function"), dict):
        return [json.loads(function["arguments"])]
    return arguments_in(list(value.values()))


def test_sdks_put_a_replay_together_as_they_did_the_stream(tmp_path: Path) -> None:
    """Texts, usage, and calls whose arguments came in pieces."""
    found = read_twice(MADE, tmp_path)
    assert {name: arguments_in(message) for name, message in found.items()} == {
        "/v1/chat/completions": [ARGUMENTS | {"day": 0}, ARGUMENTS | {"day": 1}],
        "/v1/responses": [ARGUMENTS],
        "/v1/messages": [ARGUMENTS],
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_sdks_put_replays_of_real_streams_together(tmp_path: Path) -> None:
    """The same message, or the same error."""
    streams = [
        stream
        for stream in recorded()
        if stream.dialect in READERS
        and stream.content_type.startswith("text/event-stream")
    ]
    if not streams:
        pytest.skip("the corpus is not part of the project")
    found = read_twice(streams, tmp_path)
    assert len(found) == len(streams) > 50
    assert {name for name, got in found.items() if isinstance(got, str)} == set(REFUSED)
    arguments = arguments_in(list(found.values()))
    assert len(arguments) > 15
    assert all(isinstance(given, dict) for given in arguments)
