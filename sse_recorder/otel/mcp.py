"""MCP: what a message of JSON-RPC is to the conventions.

The exchange's own span is that of the method: `tools/call get-weather`.  A call of a
tool has no second span below it, but where one request carries several messages, or
where its message names a parent of its own (`params._meta.traceparent`): the tool's
span then goes below that, and links to the HTTP request that carried it.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from sse_recorder import semconv
from sse_recorder.dialects.base import compact, member, objects_of, text_of
from sse_recorder.exchange import Exchange, ToolCall, header
from sse_recorder.otel.data import Value, clean
from sse_recorder.otel.operation import BODY_BYTES_MAX, without_credentials
from sse_recorder.otel.stream import StreamFacts
from sse_recorder.otel.tools import tool_span_name
from sse_recorder.trace import parse_traceparent

TOOLS_CALL: Final = "tools/call"


class Message(NamedTuple):
    """What one exchange carried."""

    method: str | None
    """Of JSON-RPC, where all its messages are of one."""
    target: str | None = None
    """The tool, the prompt or the resource."""
    id: str | None = None
    size: int = 0
    """How many messages it carried."""
    parents: dict[str, tuple[str, str]] = {}  # noqa: RUF012 - never written to
    """Trace and span that messages name as their parents, by their ids."""

    @property
    def is_tool_itself(self) -> bool:
        """Whether the exchange's own span is that of a tool."""
        return self.method == TOOLS_CALL and self.size == 1 and not self.parents

    @property
    def span_name(self) -> str | None:
        """What the span is called; None where there is no one method."""
        if self.method is None:
            return None
        # A resource's URI is not for the name of a span.
        is_named = self.method in (TOOLS_CALL, "prompts/get")
        return tool_span_name(self.target if is_named else None, self.method)


def message_of(exchange: Exchange) -> Message:
    """Return what a request carries."""
    messages = _messages(exchange.request_body)
    methods = {text_of(message.get("method")) for message in messages}
    method = clean(methods.pop()) if len(methods) == 1 else None
    parents = {}
    for message in messages:
        carried = text_of(member(message, "params", "_meta", "traceparent"))
        parent = parse_traceparent((("traceparent", carried),)) if carried else None
        if parent is not None:
            parents[_id(message) or ""] = (parent.trace_id, parent.span_id)
    if len(messages) != 1:
        return Message(method, size=len(messages), parents=parents)
    (message,) = messages
    params = message.get("params")
    target = text_of(member(params, "name")) or text_of(member(params, "uri"))
    return Message(method, target, _id(message), 1, parents)


def mcp_attributes(
    exchange: Exchange,
    message: Message,
    facts: StreamFacts,
    tool_calls: list[ToolCall],
) -> dict[str, Value | None]:
    """Return the attributes of the exchange's own span."""
    session = exchange.session_id or header(exchange.response_headers, "mcp-session-id")
    version = header(exchange.request_headers, "mcp-protocol-version")
    found: dict[str, Value | None] = {
        semconv.MCP_METHOD_NAME: message.method,
        semconv.MCP_SESSION_ID: clean(session),
        semconv.MCP_PROTOCOL_VERSION: clean(version),
        semconv.JSONRPC_REQUEST_ID: clean(message.id),
        semconv.NETWORK_TRANSPORT: "tcp",
        semconv.NETWORK_PROTOCOL_NAME: "http",
        semconv.RPC_RESPONSE_STATUS_CODE: facts.rpc_code,
    }
    match message.method:
        case "tools/call":
            found[semconv.GEN_AI_OPERATION_NAME] = semconv.EXECUTE_TOOL
            found[semconv.GEN_AI_TOOL_NAME] = clean(message.target)
        case "prompts/get":
            found[semconv.GEN_AI_PROMPT_NAME] = clean(message.target)
        case str() as method if method.startswith("resources/"):
            found[semconv.MCP_RESOURCE_URI] = clean(_harmless(message.target))
    if message.method == TOOLS_CALL and message.size == 1 and tool_calls:
        (call, *_) = tool_calls
        is_error = call.status == "error" and facts.rpc_code is None
        found[semconv.ERROR_TYPE] = semconv.TOOL_ERROR if is_error else None
    return found


def _harmless(uri: str | None) -> str | None:
    try:
        return uri and without_credentials(uri)
    except ValueError:
        return None


def _messages(body: bytes) -> list[dict[str, Any]]:
    if len(body) > BODY_BYTES_MAX:
        return []
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return objects_of(value if isinstance(value, list) else [value])


def _id(message: dict[str, Any]) -> str | None:
    """Return the id of a message, as the dialect has it of a tool's call."""
    given = message.get("id")
    return None if given is None else compact(given).strip('"')
