"""Spans: what one exchange looks like in a tracing system.

An exchange is one CLIENT span; each of its tool calls is an INTERNAL span under it,
made after the fact with the times that the wire showed.

`spans()` is a pure function from the rows of an exchange to `SpanData`.  The ids are
those of the rows, or derived from the exchange id as `sse_recorder.trace` says, so
spans that are rebuilt from a store are equal to those that were sent live.

Rules
-----
1. A tool span brackets the execution as the wire showed it, from the call's arguments
   being complete to the result being read.  It does not measure the tool.
2. Content stays out: no arguments, results, bodies or error texts, since an error
   often quotes a prompt.  What a peer controls (names, ids) is cleaned and cut.
3. A fault of the recorder (`incomplete`) is not an error of the call that it recorded:
   `sse_recorder.outcome` says it, `error.type` does not.

The span of an exchange ends with the last byte of the body or what took its place,
not with the response head.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from sse_recorder import semconv
from sse_recorder.exchange import END_OF_FILE, RESET, Exchange, Outcome, ToolCall
from sse_recorder.otel.data import SpanData, Value, clean, present
from sse_recorder.trace import (
    TraceContext,
    derive_span_id,
    exchange_context,
    parse_traceparent,
)

TOOL_SPANS_MAX: Final = 1_024
"""Tool spans of one exchange.  The SDK's queue holds 2,048 and drops the oldest: one
runaway stream must not push the spans of all others out of it."""

URL_BYTES_MAX: Final = 8_192
"""Of `url.full`: what common servers accept as a request line."""

NAME_BYTES_MAX: Final = 128
"""Of a tool's name within the name of its span.  A longer one stays out of it."""

# Span names are what backends group by, so a name with an id in it does more harm than
# none.  Eight digits are still a date, as in `web_search_20250305`.
_HIGH_CARDINALITY = re.compile(
    r"\s|\d{10}|[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE
)

# The methods of RFC 9110 and PATCH; the conventions call any other `_OTHER`, and the
# span `HTTP`.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)

# A class, with or without its modules: `ConnectionRefusedError`, `ssl.SSLError`.
_CLASS_NAME = re.compile(r"(?:[A-Za-z_]\w{0,63}\.){0,8}[A-Z]\w{0,63}", re.ASCII)

# Dialects whose answers come from an agent, and what their provider is called.
_AGENT_PROVIDERS: Mapping[str, str] = {"meibel": "meibel"}

_TOOL_ERRORS: Mapping[str, str] = {
    "error": semconv.TOOL_ERROR,
    "unanswered": semconv.UNANSWERED,
    "superseded": semconv.SUPERSEDED,
}


def spans(exchange: Exchange, tool_calls: Sequence[ToolCall]) -> list[SpanData]:
    """Return the spans of an exchange: its own, then one for each tool call.

    Args:
        exchange: the row of the exchange.
        tool_calls: its tool calls, in the order of their numbers.

    Returns:
        None at all for an exchange that is still open: what has no end is no span yet.
    """
    if exchange.outcome is None:
        return []
    parent = inbound(exchange)
    own = exchange_context(exchange.exchange_id, parent)
    # The ids that were sent upstream stand, however they came about.
    trace_id = exchange.trace_id or own.trace_id
    span_id = exchange.span_id or own.span_id
    end_ns = _end_ns(exchange)
    is_agent = exchange.dialect in _AGENT_PROVIDERS
    root = SpanData(
        name=semconv.INVOKE_AGENT if is_agent else _method(exchange, unknown="HTTP"),
        kind="client",
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=None if parent is None else parent.span_id,
        start_ns=exchange.started_at,
        end_ns=exchange.started_at + end_ns,
        attributes=_exchange_attributes(exchange, len(tool_calls)),
    )
    return [
        root,
        *(_tool_span(root, exchange, call) for call in tool_calls[:TOOL_SPANS_MAX]),
    ]


def inbound(exchange: Exchange) -> TraceContext | None:
    """Return the client's position in the trace; None if it was in none."""
    if not exchange.parent_span_id:
        return None
    # The flags are those of the header that went upstream, which are the client's own.
    carried = parse_traceparent(exchange.request_headers)
    is_sampled = carried is None or carried.sampled
    return TraceContext(exchange.trace_id, exchange.parent_span_id, is_sampled)


def _end_ns(exchange: Exchange) -> int:
    """Return when the exchange ended, or when it was last heard of."""
    if exchange.ended_ns is not None:
        return max(exchange.ended_ns, 0)
    known = (
        exchange.sent_ns,
        exchange.headers_ns,
        exchange.first_chunk_ns,
        exchange.first_event_ns,
        exchange.last_content_ns,
    )
    return max((at_ns for at_ns in known if at_ns is not None), default=0)


def _exchange_attributes(exchange: Exchange, tool_calls: int) -> dict[str, Value]:
    assert exchange.outcome is not None
    first_ns = exchange.first_content_ns
    found: dict[str, Value | None] = {
        **_agent_attributes(exchange),
        **_server_attributes(exchange.url),
        semconv.HTTP_REQUEST_METHOD: _method(exchange, unknown=semconv.OTHER),
        semconv.HTTP_RESPONSE_STATUS_CODE: exchange.status,
        semconv.GEN_AI_RESPONSE_MODEL: clean(exchange.model),
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: _finish_reasons(exchange),
        semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: (
            None if first_ns is None else first_ns / 1e9
        ),
        semconv.GEN_AI_USAGE_INPUT_TOKENS: exchange.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: exchange.output_tokens,
        semconv.EXCHANGE_ID: exchange.exchange_id,
        semconv.MODE: semconv.PROXY,
        semconv.OUTCOME: exchange.outcome.value,
        semconv.STREAM_FRAMES: exchange.frame_count,
        semconv.STREAM_BYTES: exchange.response_size,
        semconv.STREAM_CANCELLED: exchange.outcome is Outcome.CLIENT_ABORT or None,
        semconv.TOOL_CALLS: tool_calls,
        semconv.TOOL_SPANS_DROPPED: max(tool_calls - TOOL_SPANS_MAX, 0) or None,
        semconv.ERROR_TYPE: _error_type(exchange),
    }
    return present(found)


def _agent_attributes(exchange: Exchange) -> dict[str, Value | None]:
    provider = _AGENT_PROVIDERS.get(exchange.dialect or "")
    if provider is None:
        return {}
    return {
        semconv.GEN_AI_OPERATION_NAME: semconv.INVOKE_AGENT,
        semconv.GEN_AI_PROVIDER_NAME: provider,
        semconv.GEN_AI_CONVERSATION_ID: clean(exchange.session_id),
    }


def _server_attributes(url: str) -> dict[str, Value | None]:
    """Return where the request went: the server behind the recorder."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not a URL, or no port of this world
        return {}
    return {
        semconv.URL_FULL: clean(_without_userinfo(parts), URL_BYTES_MAX),
        semconv.SERVER_ADDRESS: clean(parts.hostname),
        semconv.SERVER_PORT: port if parts.hostname else None,
    }


def _without_userinfo(parts: SplitResult) -> str:
    # "url.full MUST NOT contain credentials passed via URL": HTTP spans, url.full.
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _method(exchange: Exchange, *, unknown: str) -> str:
    return exchange.method if exchange.method in _METHODS else unknown


def _finish_reasons(exchange: Exchange) -> tuple[str, ...] | None:
    reason = clean(exchange.finish_reason)
    if reason is not None:
        return (reason,)
    is_agent = exchange.dialect in _AGENT_PROVIDERS
    is_cut = exchange.outcome is Outcome.UPSTREAM_ABORT
    return ("error",) if is_agent and is_cut else None


def _error_type(exchange: Exchange) -> str | None:
    # The status comes first: it is the server's own word on what went wrong.
    if exchange.status is not None and exchange.status >= HTTPStatus.BAD_REQUEST:
        return str(exchange.status)
    match exchange.outcome:
        case Outcome.UPSTREAM_ABORT:
            return semconv.STREAM_TRUNCATED
        case Outcome.TIMEOUT:
            return semconv.TIMEOUT
        case Outcome.UPSTREAM_ERROR:
            word = (exchange.error or "").partition(":")[0].strip()
            known = word in {END_OF_FILE, RESET} or _CLASS_NAME.fullmatch(word)
            return word if known else semconv.OTHER
        case _:
            # "cancelled by the caller … SHOULD NOT be treated as an error".
            return None


def _tool_span(root: SpanData, exchange: Exchange, call: ToolCall) -> SpanData:
    start_ns, end_ns = _bracket(call, root.end_ns - root.start_ns)
    is_call = call.status != "unmatched"
    is_remote = call.timing != "cross_request"
    found: dict[str, Value | None] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: clean(call.tool_name),
        semconv.GEN_AI_TOOL_CALL_ID: clean(call.tool_id),
        semconv.GEN_AI_TOOL_TYPE: semconv.EXTENSION if is_remote else semconv.FUNCTION,
        semconv.TOOL_TIMING: call.timing,
        semconv.TOOL_PARALLELISM: call.parallelism if is_call else None,
        semconv.TOOL_CALL_FRAME: call.call_frame,
        semconv.TOOL_RESULT_FRAME: call.result_frame,
        semconv.TOOL_UNMATCHED: None if is_call else True,
        semconv.ERROR_TYPE: _TOOL_ERRORS.get(call.status),
    }
    return SpanData(
        name=_tool_span_name(call.tool_name),
        kind="internal",
        trace_id=root.trace_id,
        span_id=call.span_id or derive_span_id(exchange.exchange_id, call.seq),
        parent_span_id=root.span_id,
        start_ns=root.start_ns + start_ns,
        end_ns=root.start_ns + end_ns,
        attributes=present(found),
    )


def _bracket(call: ToolCall, ended_ns: int) -> tuple[int, int]:
    """Return when a tool call began and ended, as offsets from t0."""
    end_ns = ended_ns if call.result_ns is None else call.result_ns
    if call.status == "unmatched":
        return end_ns, end_ns
    # A call whose arguments never became whole has only its first sign to begin with.
    starts = (call.called_ns, call.first_ns, end_ns)
    start_ns = next(at_ns for at_ns in starts if at_ns is not None)
    return start_ns, max(start_ns, end_ns)


def _tool_span_name(tool_name: str | None) -> str:
    name = clean(tool_name)
    if (
        name is None
        or len(name.encode()) > NAME_BYTES_MAX
        or _HIGH_CARDINALITY.search(name)
    ):
        return semconv.EXECUTE_TOOL
    return f"{semconv.EXECUTE_TOOL} {name}"
