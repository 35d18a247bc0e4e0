"""The rules of MCP over streamable HTTP."""

from __future__ import annotations

import json
from typing import Any

from reading import read, read_body

from sse_recorder.dialects.mcp import Mcp
from sse_recorder.exchange import RequestHead, ResponseHead

SESSION = (("Mcp-Session-Id", "s"),)


def call(number: object, name: str = "f", **arguments: Any) -> dict[str, Any]:
    """Return the request that calls a tool."""
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


def result(number: object, **values: Any) -> dict[str, Any]:
    """Return the answer to a request."""
    return {"jsonrpc": "2.0", "id": number, "result": values}


def body(*messages: object) -> bytes:
    """Return the body of a request."""
    return json.dumps(messages[0] if len(messages) == 1 else messages).encode()


def test_it_is_known_by_its_headers_or_by_its_messages() -> None:
    """The session is the one that the request goes on with."""
    head = RequestHead("POST", "/mcp", SESSION)
    assert Mcp.recognises(head)
    assert Mcp(head).session_id() == "s"
    assert Mcp.recognises(RequestHead("POST", "/", (("MCP-Protocol-Version", "x"),)))
    assert not Mcp.recognises(RequestHead("POST", "/mcp"))
    assert Mcp.recognises_response(ResponseHead(200, "OK", SESSION))
    assert Mcp.recognises_event("message", '{"jsonrpc":"2.0","id":1,"result":{}}')
    assert not Mcp.recognises_event(None, '{"jsonrpc":"2.0"}')


def test_a_session_begins_in_the_head_of_an_answer() -> None:
    """The first request cannot name it yet."""
    dialect = Mcp(RequestHead("POST", "/mcp"))
    assert dialect.session_id() is None
    assert dialect.read_head(ResponseHead(200, "OK", SESSION)).session_id == "s"


def test_a_tool_runs_from_the_request_to_the_message_that_answers_it() -> None:
    """What comes before is the server's own business."""
    notice = {"jsonrpc": "2.0", "method": "notifications/progress"}
    story = read(
        "mcp",
        [("message", ""), ("message", notice), ("message", result(7, content=[]))],
        body=body(call(7, "search", q=1)),
    )
    assert story.calls == [("7", "search", '{"q":1}', '{"content":[]}', "ok")]
    assert story.spans == [(0, 0, 3)]
    assert story.kinds == ["connected", "status", "tool_result"]
    assert [reading.terminal for reading in story.readings] == [False, False, True]


def test_a_result_may_be_an_error_in_two_ways() -> None:
    """Of the tool, or of the protocol; and several calls may be one request."""
    refusal = {"jsonrpc": "2.0", "id": "b", "error": {"code": -1, "message": "no"}}
    story = read(
        "mcp",
        [("message", result("a", isError=True)), ("message", refusal)],
        body=body(call("a"), call("b")),
    )
    assert [tool[4] for tool in story.calls] == ["error", "error"]
    assert story.last("error") == "no"
    assert [reading.terminal for reading in story.readings] == [False, True]


def test_other_requests_are_answered_but_call_no_tool() -> None:
    """Such as the list of tools."""
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    story = read("mcp", [("message", result(1, tools=[]))], body=body(asked))
    assert (story.calls, story.kinds) == ([], ["finish"])


def test_an_answer_may_be_a_body() -> None:
    """Where the server does not care to stream."""
    story = read_body("mcp", result(1, content=[]), request=body(call(1)))
    assert story.calls == [("1", "f", "{}", '{"content":[]}', "ok")]
