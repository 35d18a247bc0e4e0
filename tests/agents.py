"""Real agents with a made-up model, served as AG-UI and as Vercel's UI stream.

    POST /ag-ui, /vercel      what a frontend sends
    GET /took                 how long tools really took

The agent, its tools, the adapters and the HTTP server are those that people use; only
the model is a script, chosen by what the user says (see `SCRIPTS`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, Final, NamedTuple

from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    UserPromptPart,
)
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from timed import ROUTE, timed


class Call(NamedTuple):
    """A tool that the model asks for."""

    tool_id: str
    name: str
    arguments: dict[str, Any]
    pause_s: float = 0.0
    """What the model needs to say it."""


class Thought(NamedTuple):
    """What the model thinks aloud."""

    text: str


SCRIPTS: Final[dict[str, list[list[Call | Thought | str]]]] = {
    "plan a trip": [
        [
            Thought("First the weather."),
            *("Let me ", "look."),
            Call("call_1", "weather", {"city": "Lisbon"}),
        ],
        [
            Call("call_2", "flights", {"to": "LIS"}),
            Call("call_3", "hotels", {"nights": 2, "near": "the old town"}),
        ],
        [Call("call_4", "book", {"hotel": "Sol"})],
        ["It rains, ", "and the hotel is full."],
    ],
    "ask for what cannot be": [
        [Call("call_5", "hotels", {"nights": "many", "near": "you"})],
        ["Which nights?"],
    ],
    "break": [[Call("call_6", "explode", {})]],
    "ask me": [[Call("call_7", "confirm", {"price": 120})], ["Booked."]],
    "speak slowly": [
        [
            Call("call_8", "weather", {"city": "Porto"}),
            Call("call_9", "flights", {"to": "OPO"}, pause_s=0.04),
        ],
        ["Done."],
    ],
}
"""What the model says, by the user's first words: one list a time that it is asked."""


async def speak(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls | DeltaThinkingCalls]:
    """Say what the script has next, arguments in pieces."""
    del info
    opening = messages[0]
    assert isinstance(opening, ModelRequest)
    words = next(p.content for p in opening.parts if isinstance(p, UserPromptPart))
    script = SCRIPTS[words if isinstance(words, str) else str(words[0])]
    answers = sum(isinstance(message, ModelResponse) for message in messages)
    for index, what in enumerate(script[answers]):
        match what:
            case str():
                yield what
            case Thought(text):
                yield {index: DeltaThinkingPart(content=text)}
            case Call():
                text = json.dumps(what.arguments)
                start = DeltaToolCall(what.name, text[:4], tool_call_id=what.tool_id)
                yield {index: start}
                await asyncio.sleep(what.pause_s)
                yield {index: DeltaToolCall(json_args=text[4:])}


agent: Agent[None, str | DeferredToolRequests] = Agent(
    FunctionModel(stream_function=speak),
    output_type=[str, DeferredToolRequests],
    deps_type=type(None),
)


@agent.tool
def weather(context: RunContext[None], city: str) -> dict[str, Any]:
    """Wait in a thread, as tools do that are no coroutines."""
    with timed(context.tool_call_id):
        time.sleep(0.02)
        return {"city": city, "sky": "rain"}


@agent.tool
async def flights(context: RunContext[None], to: str) -> list[str]:
    """Take longer than what runs beside it."""
    with timed(context.tool_call_id):
        await asyncio.sleep(0.04)
        return [f"TP 543 {to}", f"LH 1168 {to}"]


@agent.tool
async def hotels(context: RunContext[None], nights: int, near: str) -> str:
    """Answer in words."""
    with timed(context.tool_call_id):
        await asyncio.sleep(0.025)
        return f"{nights} nights near {near}: the Sol"


@agent.tool
async def book(context: RunContext[None], hotel: str) -> str:
    """Have the model try something else."""
    with timed(context.tool_call_id):
        await asyncio.sleep(0.02)
        raise ModelRetry(f"The {hotel} is full.")


@agent.tool
async def explode(context: RunContext[None]) -> str:
    """End the whole run."""
    with timed(context.tool_call_id):
        await asyncio.sleep(0.01)
        raise RuntimeError("the tool is broken")


async def ag_ui(request: Request) -> Response:
    """Serve a frontend that brings its own tools."""
    return await AGUIAdapter.dispatch_request(request, agent=agent, include_usage=True)


async def vercel(request: Request) -> Response:
    """Serve a frontend whose tools are agreed on."""
    schema = {"type": "object", "properties": {"price": {"type": "integer"}}}
    confirm = ToolDefinition(name="confirm", parameters_json_schema=schema)
    return await VercelAIAdapter.dispatch_request(
        request, agent=agent, sdk_version=6, toolsets=[ExternalToolset([confirm])]
    )


app = Starlette(
    routes=[
        Route("/ag-ui", ag_ui, methods=["POST"]),
        Route("/vercel", vercel, methods=["POST"]),
        ROUTE,
    ]
)
