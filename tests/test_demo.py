"""The made-up agent: what it says, when, and what it knows of its tools."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import httpx
import pytest
from http1.wire import Run
from timed import TOLERANCE_NS, least

from sse_recorder.background import running
from sse_recorder.demo import THEN, TOGETHER, AgentServer, script
from sse_recorder.sse import parse

TOOLS = {tool.name: tool for tool in (*TOGETHER, THEN)}
MS = 1_000_000


def chat(url: str, session: str) -> httpx.Response:
    """Ask the agent something."""
    path = f"/v2/sessions/{session}/chat/stream"
    data = {"user_message": "What now?"}
    return httpx.post(url + path, data=data, timeout=30, trust_env=False)


def errors_ns(agent: AgentServer) -> dict[str, int]:
    """Return by how much each tool took longer or shorter, in its best chat.

    Shorter, because what is late for one beat is not for the next.
    """
    errors: dict[str, int] = {}
    for (_, name), run in agent.tools.items():
        error = abs(run.duration_ns - int(TOOLS[name].took_ms * MS))
        errors[name] = min(error, errors.get(name, error))
    return errors


def another_round() -> dict[str, int]:
    """Return the same of one chat."""
    with running(AgentServer()) as agent:
        chat(agent.url, "one")
    return errors_ns(agent)


def test_a_chat_is_the_script_of_its_session_and_its_tools_take_their_time() -> None:
    """Two sessions at once differ in pace alone, and each says what its script says."""
    with running(AgentServer()) as agent, ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda name: chat(agent.url, name), ["one", "two"])
    assert one.headers["content-type"] == "text/event-stream"
    assert one.content == two.content.replace(b"signal-two", b"signal-one")
    frames = parse(one.content)
    assert [frame.anomaly for frame in frames] == [None] * len(frames)
    said = [(frame.event, frame.data) for frame in frames if frame.type == "event"]
    beats = [beat for beat in script("one") if beat.event is not None]
    assert said == [(b.event, json.dumps(b.data)) for b in beats] + [(None, "[DONE]")]
    assert [frame.type for frame in frames].count("comment") == 1
    assert set(agent.tools) == {(s, name) for s in ("one", "two") for name in TOOLS}
    assert all(run.name == name for (_, name), run in agent.tools.items())
    assert least(errors_ns(agent), another_round) < TOLERANCE_NS


def test_a_session_has_one_script() -> None:
    """The same session has the same pace each time; another has another."""
    assert list(script("one")) == list(script("one"))
    paces = [[beat.after_ms for beat in script(name)] for name in ("one", "two")]
    assert paces[0] != paces[1]
    assert all(1 <= sum(pace) / 1000 <= 2.5 for pace in paces)


def test_the_script_gives_each_tool_exactly_its_time() -> None:
    """The tools that run together overlap, the last one runs alone and fails."""
    beats = list(script("one"))
    times = list(accumulate(beat.after_ms for beat in beats))
    began, ended = (
        {
            beat.data["tool_id"]: at
            for beat, at in zip(beats, times, strict=True)
            if beat.event == event and isinstance(beat.data, dict)
        }
        for event in ("tool_call", "tool_result")
    )
    for name, tool in TOOLS.items():
        assert ended[name] - began[name] == pytest.approx(tool.took_ms)
    assert max(began[t.name] for t in TOGETHER) < min(ended[t.name] for t in TOGETHER)
    assert began[THEN.name] > max(ended[t.name] for t in TOGETHER)
    assert "error" in THEN.result


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v2/sessions/s/chat/stream"), ("POST", "/v2/chat")]
)
def test_what_is_no_chat_is_told_what_would_be(method: str, path: str) -> None:
    """The answer is 404 with the one path that there is."""
    with running(AgentServer()) as agent:
        answer = httpx.request(method, agent.url + path, trust_env=False)
    assert answer.status_code == 404
    assert "/v2/sessions/{session_id}/chat/stream" in answer.json()["error"]["message"]


def test_a_client_that_leaves_ends_its_chat_alone(run: Run) -> None:
    """Nothing is said to nobody: the loop sees no error, and others go on."""

    async def main() -> None:
        agent = AgentServer()
        await agent.start()
        url = f"{agent.url}/v2/sessions/{{}}/chat/stream"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            async with client.stream("POST", url.format("left")) as answer:
                lines = answer.aiter_lines()
                assert await anext(lines) == "event: connected"
            stayed = await client.post(url.format("stayed"))
        assert stayed.content.endswith(b"data: [DONE]\n\n")
        await agent.stop()
        assert {session for session, _ in agent.tools} == {"stayed"}

    run(main())


def test_stopping_can_wait_for_the_chats_under_way() -> None:
    """With a grace they end by themselves; without one they are cut."""

    async def main() -> None:
        for grace_s in (30.0, 0.0):
            agent = AgentServer()
            await agent.start()
            url = f"{agent.url}/v2/sessions/s/chat/stream"
            async with (
                httpx.AsyncClient(trust_env=False, timeout=30) as client,
                client.stream("POST", url) as answer,
            ):
                stopping = asyncio.create_task(agent.stop(grace_s))
                if grace_s:
                    assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
                else:
                    with pytest.raises(httpx.RemoteProtocolError):
                        await answer.aread()
                await stopping

    asyncio.run(main())
