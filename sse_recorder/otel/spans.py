"""Spans: what one exchange looks like in a tracing system.

An exchange is one CLIENT span; each of its tool calls is an INTERNAL span under it,
made after the fact with the times that the wire showed (see `tools`).

`spans()` is a pure function from the rows of an exchange to `SpanData`.  The ids are
those of the rows, or derived from the exchange id as `sse_recorder.trace` says, so
spans that are rebuilt from a store are equal to those that were sent live.

Rules
-----
1. One span of the GenAI conventions an exchange: what a model did within an agent's run
   cannot be seen, and is not made up.
2. Content stays out unless it is asked for: no arguments, results, bodies or error
   texts, since an error often quotes a prompt.  What a peer controls (names, ids) is
   cleaned and cut.
3. A fault of the recorder (`incomplete`) is not an error of the call that it recorded:
   `sse_recorder.outcome` says it, `error.type` does not.

The span of a model's answer or an agent's run ends with the frame that completes it,
where one does; any other with the last byte of the body or what took its place, not
with the response head.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from sse_recorder import dialects, semconv
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import END_OF_FILE, RESET, Exchange, Outcome, ToolCall
from sse_recorder.otel.compat import compatible
from sse_recorder.otel.content import content_attributes, messages_of
from sse_recorder.otel.data import SpanData, Value, clean, mode_of, present
from sse_recorder.otel.http import with_http_spans
from sse_recorder.otel.mcp import Message, mcp_attributes, message_of
from sse_recorder.otel.operation import Operation, operation_of, without_credentials
from sse_recorder.otel.request import request_attributes
from sse_recorder.otel.stream import NOTHING_HEARD, STALL_NS, StreamFacts
from sse_recorder.otel.tools import (
    TOOL_SPANS_MAX,
    bracketed,
    carried_span,
    tool_content,
    tool_span,
    tool_span_name,
)
from sse_recorder.otel.view import PLAIN, View
from sse_recorder.trace import (
    TraceContext,
    exchange_context,
    parse_traceparent,
    trace_state,
)

URL_BYTES_MAX: Final = 8_192
"""Of `url.full`: what common servers accept as a request line."""

# The methods of RFC 9110 and PATCH; the conventions call any other `_OTHER`, and the
# span `HTTP`.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)

# A class, with or without its modules: `ConnectionRefusedError`, `ssl.SSLError`.
_CLASS_NAME = re.compile(r"(?:[A-Za-z_]\w{0,63}\.){0,8}[A-Z]\w{0,63}", re.ASCII)

_CUT: Final = (Outcome.UPSTREAM_ABORT, Outcome.TIMEOUT)

# What our own client says of an upstream that gave no answer, and what that is called:
# the sentences name hosts, and are for people.
_NO_ANSWER: Final = (
    ("the connection was refused", "ConnectionRefusedError"),
    ("no connection within", "TimeoutError"),
    ("is not known. Check its spelling", "socket.gaierror"),
    ("its certificate is not accepted", "ssl.SSLCertVerificationError"),
    ("the upstream does not speak TLS", "ssl.SSLError"),
    ("TLS failed", "ssl.SSLError"),
    ("it ended the TLS handshake", "ssl.SSLError"),
    ("Cannot connect to", "ConnectionError"),
    ("the upstream closed the connection before", END_OF_FILE),
    ("the upstream reset the connection before", RESET),
    ("the upstream stopped answering", semconv.TIMEOUT),
    ("is not HTTP/1.1", semconv.INVALID_HTTP),
)


def spans(
    exchange: Exchange,
    tool_calls: Sequence[ToolCall],
    facts: StreamFacts = NOTHING_HEARD,
    view: View = PLAIN,
) -> list[SpanData]:
    """Return the spans of an exchange: its own, then one for each tool call.

    Calls that another exchange answers are not among them (see `answered_span`).

    Args:
        exchange: the row of the exchange.
        tool_calls: its tool calls, in the order of their numbers.
        facts: what its frames say.
        view: how it is told.

    Returns:
        None at all for an exchange that is still open: what has no end is no span yet.
    """
    if exchange.outcome is None:
        return []
    operation = operation_of(exchange, facts, view.words)
    message = message_of(exchange) if operation.kind == "mcp" else None
    root = _root(exchange, tool_calls, facts, view, operation, message)
    below = bracketed(exchange, tool_calls)[:TOOL_SPANS_MAX]
    if message is not None and message.is_tool_itself:
        below = []
    found = [root, *(tool_span(root, call, view) for call in below)]
    if message is not None and message.parents:
        found[1:] = [_carried(span, root, message) for span in found[1:]]
    if view.http_spans:
        name = method_of(exchange.method, unknown="HTTP")
        end_ns = _last_heard_ns(exchange)
        found = with_http_spans(exchange, found, name, end_ns)
    return [compatible(span, view.compat) for span in found]


def _carried(span: SpanData, root: SpanData, message: Message) -> SpanData:
    tool_id = str(span.attributes.get(semconv.GEN_AI_TOOL_CALL_ID))
    parent = message.parents.get(tool_id)
    return carried_span(span, root, parent) if parent else span


def inbound(exchange: Exchange) -> TraceContext | None:
    """Return the client's position in the trace; None if it was in none."""
    if not exchange.parent_span_id:
        return None
    # The flags are those of the header that went upstream, which are the client's own.
    carried = parse_traceparent(exchange.request_headers)
    is_sampled = carried is None or carried.sampled
    return TraceContext(exchange.trace_id, exchange.parent_span_id, is_sampled)


def _root(
    exchange: Exchange,
    tool_calls: Sequence[ToolCall],
    facts: StreamFacts,
    view: View,
    operation: Operation,
    message: Message | None,
) -> SpanData:
    parent = inbound(exchange)
    own = exchange_context(exchange.exchange_id, parent)
    attributes: dict[str, Value | None] = {
        **_genai_attributes(exchange, facts, view, operation),
        **_http_attributes(exchange),
        **_stream_attributes(exchange, tool_calls, facts),
        semconv.ERROR_TYPE: _error_type(exchange, facts, operation),
    }
    if message is not None:
        found = mcp_attributes(exchange, message, facts, list(tool_calls))
        attributes = {**found, **present(attributes)}
    if view.content_on_spans and operation.is_genai:
        contents = messages_of(exchange, operation, facts, tool_calls)
        attributes |= content_attributes(contents, facts.unheard_bytes)
    if view.content_on_spans and message is not None and message.is_tool_itself:
        for call in tool_calls[:1]:
            attributes |= tool_content(call)
    kept = present(attributes)
    return SpanData(
        name=_name(exchange, operation, message, kept),
        kind="client",
        # The ids that were sent upstream stand, however they came about.
        trace_id=exchange.trace_id or own.trace_id,
        span_id=exchange.span_id or own.span_id,
        parent_span_id=None if parent is None else parent.span_id,
        start_ns=exchange.started_at,
        end_ns=exchange.started_at + _end_ns(exchange, facts, operation),
        attributes=kept,
        trace_state=trace_state(exchange.request_headers) if parent else "",
        has_remote_parent=parent is not None
        and mode_of(exchange.tags) == semconv.PROXY,
    )


def _name(
    exchange: Exchange,
    operation: Operation,
    message: Message | None,
    attributes: dict[str, Value],
) -> str:
    if message is not None and (name := message.span_name):
        return name
    if operation.name is None:
        return method_of(exchange.method, unknown="HTTP")
    about = operation.model
    if operation.kind == "agent":
        known = attributes.get(semconv.GEN_AI_AGENT_NAME)
        about = None if known is None else str(known)
    return tool_span_name(about, operation.name)


def _end_ns(exchange: Exchange, facts: StreamFacts, operation: Operation) -> int:
    """Return when the exchange ended, or when it was last heard of."""
    is_whole = exchange.outcome is Outcome.COMPLETE and operation.is_genai
    if is_whole and facts.completion_ns is not None:
        return facts.completion_ns
    return _last_heard_ns(exchange)


def _last_heard_ns(exchange: Exchange) -> int:
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


def _genai_attributes(
    exchange: Exchange, facts: StreamFacts, view: View, operation: Operation
) -> dict[str, Value | None]:
    if not operation.is_genai:
        return {}
    found: dict[str, Value | None] = {
        semconv.GEN_AI_OPERATION_NAME: operation.name,
        semconv.GEN_AI_PROVIDER_NAME: clean(operation.provider),
        semconv.GEN_AI_CONVERSATION_ID: clean(exchange.session_id),
        **request_attributes(exchange, operation, facts, view.words),
        semconv.GEN_AI_RESPONSE_MODEL: clean(exchange.model),
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: _finish_reasons(
            exchange, facts, operation, view
        ),
    }
    if exchange.first_event_ns is not None:  # what comes in one piece has no first one
        first_ns, output_ns = exchange.first_content_ns, facts.first_output_ns
        found[semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = _seconds(first_ns)
        found[semconv.RESPONSE_TIME_TO_FIRST_OUTPUT] = _seconds(output_ns)
    if operation.is_inference:
        found[semconv.GEN_AI_RESPONSE_ID] = clean(facts.response_id)
    if operation.name == semconv.FETCH_RESPONSE:
        return found  # it "SHOULD NOT report token usage"
    return found | {
        semconv.GEN_AI_USAGE_INPUT_TOKENS: exchange.input_tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: exchange.output_tokens,
        semconv.GEN_AI_USAGE_CACHE_READ: facts.cache_read_tokens,
        view.words.usage_cache_write: facts.cache_write_tokens,
        semconv.GEN_AI_USAGE_REASONING: facts.reasoning_tokens,
    }


def _http_attributes(exchange: Exchange) -> dict[str, Value | None]:
    return {
        **server_attributes(exchange.url),
        semconv.HTTP_REQUEST_METHOD: method_of(exchange.method, unknown=semconv.OTHER),
        semconv.HTTP_RESPONSE_STATUS_CODE: exchange.status,
        semconv.NETWORK_PROTOCOL_VERSION: clean(exchange.http_version),
    }


def _stream_attributes(
    exchange: Exchange, tool_calls: Sequence[ToolCall], facts: StreamFacts
) -> dict[str, Value | None]:
    assert exchange.outcome is not None
    # What a later request brought that no call fits is a row of this exchange, too.
    tool_calls = [c for c in tool_calls if c.timing != CROSS_REQUEST or c.parallelism]
    gaps = facts.gaps(exchange) if facts.is_stream else []
    longest = max(gaps, key=lambda gap: gap.length_ns, default=None)
    stalls = facts.stalls(exchange, tool_calls) if facts.is_stream else []
    beyond_ns = sum(gap.length_ns - STALL_NS for gap in stalls)
    unidentified = sum(call.tool_id is None for call in tool_calls)
    spans_wanted = len(bracketed(exchange, tool_calls))
    return {
        semconv.EXCHANGE_ID: exchange.exchange_id,
        semconv.RECORDING_ID: clean(exchange.recorder_id),
        semconv.MODE: mode_of(exchange.tags),
        semconv.OUTCOME: exchange.outcome.value,
        semconv.STREAM_FRAMES: exchange.frame_count,
        semconv.STREAM_BYTES: exchange.response_size,
        semconv.STREAM_SETUP_TIME: _seconds(exchange.headers_ns),
        semconv.STREAM_TIME_TO_FIRST_EVENT: _seconds(exchange.first_event_ns),
        semconv.STREAM_CONTENT_CHUNKS: facts.content_chunks or None,
        semconv.STREAM_KEEPALIVES: facts.keepalives or None,
        semconv.STREAM_STATUSES: facts.statuses or None,
        semconv.STREAM_MAX_GAP: _seconds(longest and longest.length_ns),
        semconv.STREAM_MAX_GAP_STATE: longest and longest.state(exchange, tool_calls),
        semconv.STREAM_STALL_COUNT: len(stalls) if facts.is_stream else None,
        semconv.STREAM_STALL_TIME: _seconds(beyond_ns or None),
        semconv.STREAM_CANCELLED: exchange.outcome is Outcome.CLIENT_ABORT or None,
        semconv.TOOL_CALLS: len(tool_calls),
        semconv.TOOL_UNIDENTIFIED: unidentified or None,
        semconv.TOOL_SPANS_DROPPED: max(spans_wanted - TOOL_SPANS_MAX, 0) or None,
    }


def server_attributes(url: str) -> dict[str, Value | None]:
    """Return where a request went: the server behind the recorder."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not a URL, or no port of this world
        return {}
    return {
        semconv.URL_FULL: clean(without_credentials(url), URL_BYTES_MAX),
        semconv.SERVER_ADDRESS: clean(parts.hostname),
        semconv.SERVER_PORT: port if parts.hostname else None,
    }


def method_of(method: str, *, unknown: str) -> str:
    """Return a method that the conventions know, or what they say for any other."""
    return method if method in _METHODS else unknown


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _no_answer(error: str) -> str:
    """Return what kept a request from its answer."""
    word = error.partition(":")[0].strip()
    if word in {END_OF_FILE, RESET} or _CLASS_NAME.fullmatch(word):
        return word
    told = (name for phrase, name in _NO_ANSWER if phrase in error)
    return next(told, semconv.OTHER)


def _finish_reasons(
    exchange: Exchange, facts: StreamFacts, operation: Operation, view: View
) -> tuple[str, ...] | None:
    reason = clean(exchange.finish_reason)
    if reason is not None:
        return (reason,)
    is_cut = exchange.outcome in _CUT or facts.has_failed
    is_left = view.words.is_main and exchange.outcome is Outcome.CLIENT_ABORT
    if is_cut or is_left or _is_unfinished(exchange, facts, operation):
        return ("error",)
    return None


def _is_unfinished(
    exchange: Exchange, facts: StreamFacts, operation: Operation
) -> bool:
    """Tell whether a stream ended as HTTP has it, and not as its API has it."""
    return (
        exchange.outcome is Outcome.COMPLETE
        and operation.is_genai
        and facts.is_stream
        and not facts.has_finished
        and exchange.finish_reason is None
        and dialects.load(exchange.dialect or "").says_end
    )


def _error_type(
    exchange: Exchange, facts: StreamFacts, operation: Operation
) -> str | None:
    # The status comes first: it is the server's own word on what went wrong.
    if exchange.status is not None and exchange.status >= HTTPStatus.BAD_REQUEST:
        return str(exchange.status)
    match exchange.outcome:
        case Outcome.UPSTREAM_ABORT:
            return semconv.STREAM_TRUNCATED
        case Outcome.TIMEOUT if exchange.headers_ns is not None:
            return semconv.STREAM_STALLED
        case Outcome.TIMEOUT:
            return semconv.TIMEOUT
        case Outcome.UPSTREAM_ERROR:
            return _no_answer(exchange.error or "")
        case Outcome.COMPLETE if facts.has_failed:
            return facts.error_code or facts.rpc_code or semconv.OTHER
        case Outcome.COMPLETE if facts.is_garbled and operation.is_genai:
            return semconv.INVALID_SSE
        case Outcome.COMPLETE if _is_unfinished(exchange, facts, operation):
            return semconv.STREAM_TRUNCATED
        case _:
            # "cancelled by the caller … SHOULD NOT be treated as an error".
            return None
