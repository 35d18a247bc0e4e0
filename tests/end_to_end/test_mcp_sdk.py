"""The official SDK of MCP, server and client, with the real command between them.

Once as it was up to 2025: a session, and a stream of the server's own.  Once as it is
since 2026: no session, and an answer streams only if there is more to say than itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest
from mcp import Client
from mcp.types import CallToolResult, TextContent, ToolListChangedNotification
from serving import Place, recorded
from timed import TOLERANCE_NS, errors_ns, least, took_ns

from sse_recorder import Exchange, Store, ToolCall
from sse_recorder.exchange import header

OLD: Final = "legacy"
NEW: Final = "2026-07-28"
CALLS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("search", {"query": "rain"}),
    ("lend", {"title": "Pessoa"}),
    ("rearrange", {}),
)
in_both = pytest.mark.parametrize("mode", [OLD, NEW])


class Got(NamedTuple):
    """What a client got of one use of the server."""

    tools: list[str]
    alone: list[CallToolResult]
    together: list[CallToolResult]
    progress: list[float]


async def use(url: str, mode: str) -> Got:
    """Use all tools, and hear of their change in the way of the revision."""
    got = Got([], [], [], [])
    changes = asyncio.Semaphore(0)

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del total, message
        got.progress.append(progress)

    async def hear(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            changes.release()

    async with Client(url, mode=mode, message_handler=hear) as client:
        got.tools.extend(tool.name for tool in (await client.list_tools()).tools)
        for call in CALLS:
            got.alone.append(await client.call_tool(*call, progress_callback=note))
        got.together.extend(
            await asyncio.gather(*(client.call_tool(*call) for call in CALLS))
        )
        if mode == OLD:
            for _ in range(2):
                await changes.acquire()
        else:
            async with client.listen(tools_list_changed=True) as events:
                await client.call_tool("rearrange", {})
                await anext(aiter(events))
    return got


class Used(NamedTuple):
    """One use of the server: what the client got, what was true, what was recorded."""

    got: Got
    took_ns: dict[str, int]
    exchanges: list[Exchange]
    calls: dict[str, list[ToolCall]]
    kinds: dict[str, list[str]]
    """Of the frames of each exchange."""

    def asked(self, method: str) -> list[Exchange]:
        """Return the exchanges of a method of the protocol."""
        mark = f'"method":"{method}"'.encode()
        return [e for e in self.exchanges if mark in e.request_body]

    @property
    def errors_ns(self) -> dict[str, int]:
        """By how much each tool seems longer or shorter than it was."""
        found = [call for calls in self.calls.values() for call in calls]
        return errors_ns(found, self.took_ns, "tool_name")


def use_over(place: Place, mode: str) -> Used:
    """Use the server over the recorder, and wait for the recording."""
    mark = uuid4().hex
    got = asyncio.run(use(f"{place.recorder}/mcp?{mark}", mode))
    took = took_ns(place.server)
    exchanges = place.wait(f"ends_with(url, '{mark}')", 11 if mode == OLD else 9)
    ids = [exchange.exchange_id for exchange in exchanges]
    with Store.open(place.path) as store:
        calls = {name: store.tool_calls(name) for name in ids}
        kinds = {name: [f.kind for f in store.frames(name)] for name in ids}
    return Used(got, took, exchanges, calls, kinds)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run the server and the recorder."""
    with recorded("mcp_tools:app", tmp_path_factory.mktemp("mcp")) as place:
        yield place


@pytest.fixture(scope="module")
def used(place: Place) -> dict[str, Used]:
    """Use the server in both ways."""
    return {mode: use_over(place, mode) for mode in (OLD, NEW)}


@in_both
def test_the_client_gets_what_the_server_says(used: dict[str, Used], mode: str) -> None:
    """Lists, results, failures, and how far a tool is."""
    got = used[mode].got
    assert got.tools == [name for name, _ in CALLS]
    texts = [result.content[0] for result in got.alone + got.together]
    assert [text.text for text in texts if isinstance(text, TextContent)] == [
        *("a book on rain", "Error executing tool lend", "done")
    ] * 2
    failed = [result.is_error for result in got.alone + got.together]
    assert failed == [False, True, False] * 2
    assert got.progress == [1, 2, 3]


@in_both
def test_each_call_has_its_name_arguments_and_result(
    used: dict[str, Used], mode: str
) -> None:
    """Whether the answer is a stream or one body; calls alone are in their order."""
    run = used[mode]
    asked = run.asked("tools/call")
    found = [call for e in asked for call in run.calls[e.exchange_id]]
    assert len(found) == len(asked) == len(CALLS) * 2 + (mode == NEW)
    expected = [(name, arguments, name == "lend") for name, arguments in CALLS]
    told = [
        (c.tool_name, json.loads(c.arguments or ""), c.status == "error") for c in found
    ]
    alone = len(CALLS)
    assert told[:alone] == expected
    assert sorted(told[alone:][:3], key=str) == sorted(expected, key=str)
    assert {call.timing for call in found} == {"wire_bracket"}
    for call, result in zip(found, run.got.alone, strict=False):
        said = json.loads(call.result or "")
        assert CallToolResult.model_validate(said) == result
    elsewhere = [
        c for e in run.exchanges if e not in asked for c in run.calls[e.exchange_id]
    ]
    assert elsewhere == []


@in_both
def test_a_call_is_as_long_as_its_tool_took(
    place: Place, used: dict[str, Used], mode: str
) -> None:
    """Within 5 ms of the time of its body."""
    errors = used[mode].errors_ns
    assert sorted(errors) == sorted(name for name, _ in CALLS)
    assert least(errors, lambda: use_over(place, mode).errors_ns) < TOLERANCE_NS


@in_both
def test_progress_streams_before_the_result(used: dict[str, Used], mode: str) -> None:
    """The newer way streams only where there is progress to tell."""
    run = used[mode]
    for exchange in run.asked("tools/call")[: len(CALLS)]:
        (call,) = run.calls[exchange.exchange_id]
        steps = ["status"] * 3 if call.tool_name == "search" else []
        assert run.kinds[exchange.exchange_id] == [*steps, "tool_result"]
        type_ = header(exchange.response_headers, "content-type")
        streams = mode == OLD or call.tool_name == "search"
        assert (type_ == "text/event-stream") == streams
    (listed,) = run.asked("tools/list")
    assert run.kinds[listed.exchange_id] == ["finish"]


def test_all_of_a_session_is_known_as_such(used: dict[str, Used]) -> None:
    """By the id that the server gives in its first answer; a newer server has none."""
    first = used[OLD].exchanges[0]
    assert b'"method":"initialize"' in first.request_body
    session = header(first.response_headers, "mcp-session-id")
    assert session
    assert {exchange.session_id for exchange in used[OLD].exchanges} == {session}
    assert {exchange.session_id for exchange in used[NEW].exchanges} == {None}
    for run in used.values():
        assert {exchange.dialect for exchange in run.exchanges} == {"mcp"}


def test_the_servers_own_stream_is_recorded(used: dict[str, Used]) -> None:
    """It was a GET, which either side may end first; it is a subscription now."""
    (own,) = [e for e in used[OLD].exchanges if e.method == "GET"]
    assert used[OLD].kinds[own.exchange_id] == ["status"] * 2
    assert own.outcome in {"complete", "client_abort"}
    (listened,) = used[NEW].asked("subscriptions/listen")
    assert used[NEW].kinds[listened.exchange_id] == ["status"] * 2
    assert listened.outcome == "client_abort"
