"""Real agents behind the real command: over AG-UI, and over Vercel's UI stream.

The tools of `agents` take known times; what the recorder makes of the stream is held
against those, and against the script of the model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from uuid import uuid4

import httpx
import pytest
from ag_ui.core import (
    AssistantMessage,
    Event,
    FunctionCall,
    Message,
    RunAgentInput,
    TextMessageContentEvent,
    Tool,
    ToolMessage,
    UserMessage,
)
from ag_ui.core import ToolCall as AssistantCall
from pydantic import TypeAdapter
from serving import Place, recorded
from timed import TOLERANCE_NS, errors_ns, least, took_ns

from sse_recorder import Exchange, Store, ToolCall
from sse_recorder.tables import FrameRow

WAIT_NS: Final = 50_000_000
"""What a user needs for an answer."""
PAUSE_NS: Final = 40_000_000
"""What the model needs for the second of the calls that it says slowly."""
CONFIRM: Final = ("call_7", "confirm", {"price": 120})
"""The call that the frontend answers."""

SAID: Final = (
    ("plan a trip", None),
    ("speak slowly", None),
    ("ask for what cannot be", None),
    ("break", None),
    ("ask me", None),
    ("ask me", "yes"),
)
"""What the user says, and what the frontend's own tool has answered."""

EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Event)


def ag_ui(session: str, words: str, answer: str | None) -> str:
    """Return what a frontend posts, with the result of its own tool if it has one."""
    messages: list[Message] = [UserMessage(id="1", role="user", content=words)]
    if answer is not None:
        tool_id, name, arguments = CONFIRM
        function = FunctionCall(name=name, arguments=json.dumps(arguments))
        call = AssistantCall(id=tool_id, type="function", function=function)
        messages += [
            AssistantMessage(id="2", role="assistant", tool_calls=[call]),
            ToolMessage(id="3", role="tool", tool_call_id=tool_id, content=answer),
        ]
    schema = {"type": "object", "properties": {"price": {"type": "integer"}}}
    return RunAgentInput(
        thread_id=session,
        run_id="run",
        state={},
        messages=messages,
        tools=[Tool(name=CONFIRM[1], description="Ask.", parameters=schema)],
        context=[],
        forwarded_props={},
    ).model_dump_json(by_alias=True, exclude_none=True)


def vercel(session: str, words: str, answer: str | None) -> str:
    """Return the same as the AI SDK posts it."""
    messages: list[dict[str, object]] = [
        {"id": "1", "role": "user", "parts": [{"type": "text", "text": words}]}
    ]
    if answer is not None:
        tool_id, name, arguments = CONFIRM
        output = {
            "type": f"tool-{name}",
            "toolCallId": tool_id,
            "state": "output-available",
            "input": arguments,
            "output": answer,
        }
        parts = [{"type": "step-start"}, output]
        messages.append({"id": "2", "role": "assistant", "parts": parts})
    return json.dumps(
        {"trigger": "submit-message", "id": session, "messages": messages}
    )


def text_of_ag_ui(body: str) -> str:
    """Return the text as a client reads it, which checks each event."""
    payloads = [line.removeprefix("data: ") for line in body.splitlines() if line]
    events = map(EVENT.validate_json, payloads)
    return "".join(e.delta for e in events if isinstance(e, TextMessageContentEvent))


def text_of_vercel(body: str) -> str:
    """Return the text as a client reads it, up to the sentinel."""
    payloads = [line.removeprefix("data: ") for line in body.splitlines() if line]
    assert payloads.pop() == "[DONE]"
    events = map(json.loads, payloads)
    return "".join(e["delta"] for e in events if e["type"] == "text-delta")


class Surface(NamedTuple):
    """One of the ways in which a frontend and an agent speak."""

    dialect: str
    path: str
    request: Callable[[str, str, str | None], str]
    text: Callable[[str], str]
    failed: str
    """What becomes of a tool that fails: a result of AG-UI has no mark for that."""
    quoted: bool
    """Whether a result that is text is JSON nevertheless."""

    def said(self, text: str) -> str:
        """Return a result that is text, as it is on the wire."""
        return json.dumps(text) if self.quoted else text


AG_UI: Final = Surface("ag_ui", "/ag-ui", ag_ui, text_of_ag_ui, "ok", quoted=False)
VERCEL: Final = Surface(
    "vercel_ui", "/vercel", vercel, text_of_vercel, "error", quoted=True
)
on_both = pytest.mark.parametrize("surface", [AG_UI, VERCEL], ids=lambda s: s.dialect)


class Reply(NamedTuple):
    """What the client got, and how long the tools really took."""

    surface: Surface
    words: str
    mark: str
    """What tells the request from others."""
    body: bytes
    took_ns: dict[str, int]

    @property
    def text(self) -> str:
        """What the client shows."""
        return self.surface.text(self.body.decode())


class Spoken(NamedTuple):
    """A run of an agent, and its recording."""

    reply: Reply
    exchange: Exchange
    frames: list[FrameRow]
    calls: list[ToolCall]

    @property
    def told(self) -> list[tuple[object, ...]]:
        """What is known of each call, but for its times."""
        return [
            (c.tool_id, c.tool_name, json.loads(c.arguments or ""), c.result, c.status)
            for c in self.calls
        ]

    @property
    def errors_ns(self) -> dict[str, int]:
        """By how much each call seems longer or shorter than it was."""
        return errors_ns(self.calls, self.reply.took_ns, "tool_id")


def say(place: Place, surface: Surface, words: str, answer: str | None) -> Reply:
    """Have an agent run."""
    mark = uuid4().hex
    reply = httpx.post(
        f"{place.recorder}{surface.path}?{mark}",
        content=surface.request(words, words, answer),
        headers={"Content-Type": "application/json"},
    ).raise_for_status()
    return Reply(surface, words, mark, reply.content, took_ns(place.server))


def recordings_of(place: Place, replies: list[Reply]) -> list[Spoken]:
    """Wait for the recordings of runs that came one after the other."""
    where = " OR ".join(f"ends_with(url, '{reply.mark}')" for reply in replies)
    exchanges = place.wait(where, len(replies))
    with Store.open(place.path) as store:
        for reply, exchange in zip(replies, exchanges, strict=True):
            assert store.body(exchange.exchange_id) == reply.body
        names = [exchange.exchange_id for exchange in exchanges]
        frames = [list(store.frames(name)) for name in names]
        calls = [store.tool_calls(name) for name in names]
    return list(map(Spoken, replies, exchanges, frames, calls))


def run_again(place: Place, surface: Surface, words: str) -> Spoken:
    """Have one more run, and return its recording."""
    (run,) = recordings_of(place, [say(place, surface, words, None)])
    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run the agents and the recorder."""
    with recorded("agents:app", tmp_path_factory.mktemp("agents")) as place:
        yield place


Spoke = dict[tuple[str, str], list[Spoken]]
"""All runs, by the dialect and by what the user said."""


@pytest.fixture(scope="module")
def spoke(place: Place) -> Spoke:
    """Have all conversations."""
    replies = []
    for surface in (AG_UI, VERCEL):
        for words, answer in SAID:
            if answer is not None:
                time.sleep(WAIT_NS / 1e9)
            replies.append(say(place, surface, words, answer))
    runs: Spoke = {}
    for run in recordings_of(place, replies):
        runs.setdefault((run.reply.surface.dialect, run.reply.words), []).append(run)
    return runs


@on_both
def test_tools_are_named_and_have_their_arguments_and_results(
    spoke: Spoke, surface: Surface
) -> None:
    """One alone, two at the same time, and one that has the model try again."""
    (run,) = spoke[surface.dialect, "plan a trip"]
    stay = surface.said("2 nights near the old town: the Sol")
    town = {"nights": 2, "near": "the old town"}
    rain = '{"city":"Lisbon","sky":"rain"}'
    planes = '["TP 543 LIS","LH 1168 LIS"]'
    assert run.told == [
        ("call_1", "weather", {"city": "Lisbon"}, rain, "ok"),
        ("call_2", "flights", {"to": "LIS"}, planes, "ok"),
        ("call_3", "hotels", town, stay, "ok"),
        ("call_4", "book", {"hotel": "Sol"}, "The Sol is full.", surface.failed),
    ]
    assert {call.timing for call in run.calls} == {"wire_bracket"}
    assert [call.parallelism for call in run.calls] == [1, 1, 2, 1]
    times = [(call.called_ns or 0, call.result_ns or 0) for call in run.calls]
    weather, flights, hotels, book = times
    assert weather[1] <= min(flights[0], hotels[0])
    assert max(flights[0], hotels[0]) <= min(flights[1], hotels[1])
    assert max(flights[1], hotels[1]) <= book[0]


@on_both
def test_the_exchange_says_what_it_was(spoke: Spoke, surface: Surface) -> None:
    """Nothing that a real server sends is unknown; only AG-UI has usage and model."""
    (run,) = spoke[surface.dialect, "plan a trip"]
    assert run.reply.text == "Let me look.It rains, and the hotel is full."
    assert {frame.kind for frame in run.frames} == {
        *("connected", "status", "reasoning", "text", "finish"),
        *("tool_call", "tool_call_delta", "tool_result"),
    }
    kept = run.exchange
    assert (kept.dialect, kept.session_id) == (surface.dialect, "plan a trip")
    assert (kept.outcome, kept.error) == ("complete", None)
    assert kept.first_content_ns == next(
        frame.last_ns for frame in run.frames if frame.kind == "reasoning"
    )
    assert (
        (kept.model, kept.finish_reason, kept.input_tokens, kept.output_tokens)
    ) == (
        ("function::speak", "success", 200, 41)
        if surface is AG_UI
        else (None, None, None, None)
    )


@on_both
@pytest.mark.parametrize(("words", "count"), [("plan a trip", 4), ("speak slowly", 2)])
def test_a_call_is_as_long_as_its_tool_took(
    place: Place, spoke: Spoke, surface: Surface, words: str, count: int
) -> None:
    """Within 5 ms, also where the model pauses before it has said the next call."""
    (run,) = spoke[surface.dialect, words]
    assert len(run.errors_ns) == count
    worst = least(run.errors_ns, lambda: run_again(place, surface, words).errors_ns)
    assert worst < TOLERANCE_NS


@on_both
def test_a_pause_of_the_model_belongs_to_no_tool(
    place: Place, spoke: Spoke, surface: Surface
) -> None:
    """It lies between the first sign of the second call and the start of both."""

    def error_ns(run: Spoken) -> dict[str, int]:
        weather, flights = run.calls
        assert weather.called_ns is not None
        assert flights.first_ns is not None
        return {"pause": abs(weather.called_ns - flights.first_ns - PAUSE_NS)}

    words = "speak slowly"
    (run,) = spoke[surface.dialect, words]
    worst = least(error_ns(run), lambda: error_ns(run_again(place, surface, words)))
    assert worst < TOLERANCE_NS


@on_both
def test_arguments_that_do_not_fit_never_reach_the_tool(
    spoke: Spoke, surface: Surface
) -> None:
    """There is a call and an answer, but the tool has not run."""
    (run,) = spoke[surface.dialect, "ask for what cannot be"]
    ((tool_id, name, arguments, result, status),) = run.told
    assert (tool_id, name) == ("call_5", "hotels")
    assert arguments == {"nights": "many", "near": "you"}
    assert json.loads(str(result))[0]["type"] == "int_parsing"
    assert status == surface.failed
    assert "call_5" not in run.reply.took_ns


@on_both
def test_a_tool_that_raises_ends_the_run(spoke: Spoke, surface: Surface) -> None:
    """The adapters answer the call before they report the error."""
    (run,) = spoke[surface.dialect, "break"]
    assert run.exchange.outcome == "complete"
    assert run.exchange.error == "the stream reported: the tool is broken"
    result = "Tool execution was interrupted by an error."
    assert run.told == [("call_6", "explode", {}, result, surface.failed)]


@on_both
def test_a_tool_of_the_frontend_is_answered_by_the_next_request(
    spoke: Spoke, surface: Surface
) -> None:
    """Its time is that between the end of the one and the other."""
    asking, answered = spoke[surface.dialect, "ask me"]
    assert (answered.reply.text, answered.calls) == ("Booked.", [])
    assert asking.told == [(*CONFIRM, surface.said("yes"), "ok")]
    (call,) = asking.calls
    assert call.timing == "cross_request"
    assert call.result_exchange_id == answered.exchange.exchange_id
    assert call.duration_ns is not None
    assert call.duration_ns >= WAIT_NS
