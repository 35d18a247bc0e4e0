"""What a message of JSON-RPC is to the conventions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from otel_samples import OWN_SPAN, TRACE, exchange, tool_call

from sse_recorder.exchange import Exchange
from sse_recorder.otel import Link, SpanData, View, spans
from sse_recorder.otel.stream import StreamFacts

META_TRACE, META_SPAN = "c" * 32, "d" * 16


def call(
    number: object = 1, name: str = "get-weather", **params: Any
) -> dict[str, Any]:
    """Return a message that calls a tool."""
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": name, "arguments": {"city": "SECRET"}, **params},
    }


def posted(message: object, **changes: Any) -> Exchange:
    """Return the exchange that posts a message."""
    return exchange(
        dialect="mcp",
        url="http://tools.example.com/mcp",
        path="/mcp",
        session_id="m-1",
        request_body=json.dumps(message).encode(),
        request_headers=(("MCP-Protocol-Version", "2025-06-18"),),
        **changes,
    )


def told(
    message: object, *calls: Any, facts: StreamFacts | None = None
) -> list[SpanData]:
    """Return the spans of it."""
    return spans(posted(message), list(calls), facts or StreamFacts())


def test_the_call_of_a_tool_is_one_span() -> None:
    """The exchange is the call: there is no second span for the tool."""
    (span,) = told(call(), tool_call(tool_id="1", tool_name="get-weather"))
    assert (span.name, span.kind) == ("tools/call get-weather", "client")
    expected = {
        "mcp.method.name": "tools/call",
        "mcp.session.id": "m-1",
        "mcp.protocol.version": "2025-06-18",
        "jsonrpc.request.id": "1",
        "network.transport": "tcp",
        "network.protocol.name": "http",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get-weather",
        "server.address": "tools.example.com",
    }
    assert expected.items() <= span.attributes.items()
    assert "gen_ai.provider.name" not in span.attributes
    assert "gen_ai.conversation.id" not in span.attributes
    assert span.status == "unset"


def test_what_the_tool_was_given_and_gave_is_told_where_content_is() -> None:
    """On the span of the method, where there is no other."""
    shown = View(content_on_spans=True)
    work = tool_call(arguments='{"q":1}', result='"r"')
    (span,) = spans(posted(call()), [work], view=shown)
    assert span.attributes["gen_ai.tool.call.arguments"] == '{"q":1}'
    assert span.attributes["gen_ai.tool.call.result"] == '"r"'
    (span,) = spans(posted(call()), [work])
    assert not [name for name in span.attributes if "tool.call." in name]


def test_a_result_that_is_an_error_is_an_error_of_the_tool() -> None:
    """`isError` is said of the tool, an error of JSON-RPC has its code."""
    (span,) = told(call(), tool_call(status="error"))
    assert span.error_type == "tool_error"
    facts = StreamFacts(has_failed=True, rpc_code="-32602")
    (span,) = told(call(), tool_call(status="error"), facts=facts)
    assert span.error_type == "-32602"
    assert span.attributes["rpc.response.status_code"] == "-32602"


def test_other_methods_are_named_with_their_prompt_and_never_a_uri() -> None:
    """A resource's URI is an attribute, and not in the name of the span."""
    message = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "prompts/get",
        "params": {"name": "p"},
    }
    (span,) = told(message)
    assert span.name == "prompts/get p"
    assert span.attributes["gen_ai.prompt.name"] == "p"
    assert "gen_ai.operation.name" not in span.attributes
    message = {
        "jsonrpc": "2.0",
        "id": "x",
        "method": "resources/read",
        "params": {"uri": "f:/a"},
    }
    (span,) = told(message)
    assert span.name == "resources/read"
    assert span.attributes["mcp.resource.uri"] == "f:/a"
    assert span.attributes["jsonrpc.request.id"] == "x"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgres://user:pw@db/x?sig=s&q=1", "postgres://db/x?sig=[redacted]&q=1"),
        ("file:///a/b", "file:///a/b"),
        ("http://[::1", None),
    ],
)
def test_the_uri_of_a_resource_carries_no_credentials(
    uri: str, shown: str | None
) -> None:
    """As little as that of the request."""
    method = {"jsonrpc": "2.0", "id": 1, "method": "resources/read"}
    (span,) = told(method | {"params": {"uri": uri}})
    assert span.attributes.get("mcp.resource.uri") == shown


def test_several_messages_have_a_span_for_each_tool() -> None:
    """One request of two calls is one span of the method, with two below it."""
    root, *tools = told(
        [call(1), call(2, "book")],
        tool_call(0, tool_id="1", tool_name="get-weather"),
        tool_call(1, tool_id="2", tool_name="book"),
    )
    assert root.name == "tools/call"
    assert [span.name for span in tools] == [
        "execute_tool get-weather",
        "execute_tool book",
    ]
    mixed = [call(1), {"jsonrpc": "2.0", "method": "notifications/initialized"}]
    assert told(mixed)[0].name == "POST"


def test_a_tool_whose_message_names_a_parent_goes_below_that() -> None:
    """Its span is in the message's trace, and links to the request that carried it."""
    meta = {"traceparent": f"00-{META_TRACE}-{META_SPAN}-01"}
    root, tool = told(call(7, _meta=meta), tool_call(tool_id="7", status="error"))
    assert root.error_type == tool.error_type == "tool_error"
    assert (root.trace_id, root.span_id) == (TRACE, OWN_SPAN)
    assert (tool.trace_id, tool.parent_span_id) == (META_TRACE, META_SPAN)
    assert tool.links == (Link(TRACE, OWN_SPAN, "carried"),)
    (root,) = told(call(7, _meta={"traceparent": "nonsense"}), tool_call(tool_id="7"))
    assert root.name == "tools/call get-weather"


def test_what_is_no_message_is_an_http_request() -> None:
    """A body that cannot be read, and a stream that is only opened, have no method."""
    bodies: tuple[object, ...] = ("text", [], {"jsonrpc": "2.0"})
    for body in bodies:
        (span,) = told(body)
        assert span.name == "POST"
    (span,) = spans(posted({}, method="GET"), [])
    assert span.name == "GET"
