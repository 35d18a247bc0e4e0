"""Tool spans: what the wire showed of a tool's work.

A span brackets the execution, from the call's arguments being complete to the result
being read.  It does not measure the tool.

    wire_bracket    call and result are in one stream: a child of the exchange's span
    cross_request   the client ran the tool, and its next request has the result: a span
                    of its own beside the two exchanges, which it links to.  It lasts
                    as long as the client took, with all that it did round the tool

A call that the client is to answer has no span until it has: that a model's answer ends
with open calls is how its API works, and no error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sse_recorder import dialects, semconv
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange, Opening, ToolCall
from sse_recorder.otel.compat import compatible
from sse_recorder.otel.content import content_attributes, parsed
from sse_recorder.otel.data import Link, SpanData, Value, clean, mode_of, present
from sse_recorder.otel.view import View
from sse_recorder.trace import derive_span_id, exchange_context, trace_state

TOOL_SPANS_MAX: Final = 1_024
"""Tool spans of one exchange.  The SDK's queue holds 2,048 and drops the oldest: one
runaway stream must not push the spans of all others out of it."""

NAME_BYTES_MAX: Final = 128
"""Of a tool's name within the name of its span.  A longer one stays out of it."""

# Span names are what backends group by, so a name with an id in it does more harm than
# none.  Eight digits are still a date, as in `web_search_20250305`.
_HIGH_CARDINALITY = re.compile(
    r"\s|\d{10}|[0-9a-f]{16}|[0-9a-f]{8}-[0-9a-f]{4}-", re.IGNORECASE
)
_ERRORS: Final = {
    "error": semconv.TOOL_ERROR,
    "unanswered": semconv.UNANSWERED,
    "superseded": semconv.SUPERSEDED,
}


class Origin(NamedTuple):
    """Where an exchange is in its trace: what spans that come later must know of it."""

    exchange_id: str
    started_at: int
    trace_id: str
    span_id: str
    parent_span_id: str | None
    trace_flags: int | None = None
    mode: str = semconv.PROXY
    trace_state: str = ""

    @classmethod
    def of(cls, exchange_id: str, known: Opening | Exchange) -> Origin:
        """Return that of an exchange; the ids that were sent upstream stand."""
        found = cls.at(
            exchange_id,
            known.started_at,
            known.trace_id,
            known.span_id,
            known.parent_span_id,
            known.trace_flags,
        )
        if isinstance(known, Opening):
            headers = known.request.headers
        else:
            headers = known.request_headers
        state = trace_state(headers) if known.parent_span_id else ""
        return found._replace(mode=mode_of(known.tags), trace_state=state)

    @classmethod
    def at(
        cls,
        exchange_id: str,
        started_at: int,
        trace_id: str,
        span_id: str,
        parent_span_id: str,
        trace_flags: int | None,
    ) -> Origin:
        """Return that of such a row; ids that were not recorded are derived."""
        own = exchange_context(exchange_id, None)
        return cls(
            exchange_id,
            started_at,
            trace_id or own.trace_id,
            span_id or own.span_id,
            parent_span_id or None,
            trace_flags,
        )

    def link(self, kind: str) -> Link:
        """Return a link to its span."""
        return Link(self.trace_id, self.span_id, kind)


def bracketed(exchange: Exchange, tool_calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Return the calls of an exchange that have spans below its own."""
    is_clients = bool(dialects.load(exchange.dialect or "").result_marks)
    return [
        call
        for call in tool_calls
        if call.timing != CROSS_REQUEST
        # Without an id no result can be told to be its own, and none is missing.
        and not (call.status == "unanswered" and (is_clients or call.tool_id is None))
    ]


def tool_span(root: SpanData, call: ToolCall, view: View) -> SpanData:
    """Return the span of a call whose result is in the stream, or nowhere."""
    start_ns, end_ns = _bracket(call, root.end_ns - root.start_ns)
    agent = root.attributes.get(semconv.GEN_AI_AGENT_NAME)
    attributes = _attributes(call, view) | {semconv.GEN_AI_AGENT_NAME: agent}
    return SpanData(
        name=tool_span_name(call.tool_name),
        kind="internal",
        trace_id=root.trace_id,
        span_id=call.span_id or derive_span_id(call.exchange_id, call.seq),
        parent_span_id=root.span_id,
        start_ns=root.start_ns + start_ns,
        end_ns=root.start_ns + end_ns,
        attributes=present(attributes),
        trace_state=root.trace_state,
    )


def answered_span(
    call: ToolCall, origin: Origin, answering: Origin | None, view: View
) -> SpanData:
    """Return the span of a call that another exchange answered.

    Args:
        call: with its result.
        origin: the exchange whose answer called the tool; for a result without a call,
            the one whose request has it.
        answering: the exchange whose request has the result, if it is known.
        view: how it is told.
    """
    start_ns, end_ns = _bracket(call, call.called_ns or 0)
    is_call = call.status != "unmatched"
    is_in = origin.parent_span_id is not None
    links = [origin.link(semconv.CALLED if is_call else semconv.ANSWERED)]
    if answering is not None and is_call:
        links.append(answering.link(semconv.ANSWERED))
    attributes = _attributes(call, view) | {
        semconv.TOOL_RESULT_EXCHANGE_ID: call.result_exchange_id
    }
    span = SpanData(
        name=tool_span_name(call.tool_name),
        kind="internal",
        trace_id=origin.trace_id,
        span_id=call.span_id or derive_span_id(call.exchange_id, call.seq),
        parent_span_id=origin.parent_span_id,
        start_ns=origin.started_at + start_ns,
        end_ns=origin.started_at + end_ns,
        attributes=present(attributes),
        links=tuple(links),
        trace_state=origin.trace_state,
        has_remote_parent=is_in and origin.mode == semconv.PROXY,
    )
    return compatible(span, view.compat)


def carried_span(span: SpanData, root: SpanData, parent: tuple[str, str]) -> SpanData:
    """Return a tool's span below the one that its message names as its parent.

    Args:
        span: below the exchange's own.
        root: that of the exchange, which becomes a link.
        parent: trace and span, from `params._meta.traceparent`.
    """
    trace_id, span_id = parent
    link = Link(root.trace_id, root.span_id, semconv.CARRIED)
    return replace(
        span,
        trace_id=trace_id,
        parent_span_id=span_id,
        trace_state="",  # of the other trace
        links=(link,),
        has_remote_parent=True,
    )


def _attributes(call: ToolCall, view: View) -> dict[str, Value | None]:
    is_call = call.status != "unmatched"
    is_remote = call.timing != CROSS_REQUEST
    streamed_ns = None
    if call.first_ns is not None and call.called_ns is not None:
        streamed_ns = call.called_ns - call.first_ns
    found: dict[str, Value | None] = {
        semconv.GEN_AI_OPERATION_NAME: semconv.EXECUTE_TOOL,
        semconv.GEN_AI_TOOL_NAME: clean(call.tool_name),
        semconv.GEN_AI_TOOL_CALL_ID: clean(call.tool_id),
        semconv.GEN_AI_TOOL_TYPE: semconv.EXTENSION if is_remote else semconv.FUNCTION,
        semconv.TOOL_TIMING: call.timing,
        semconv.TOOL_PARALLELISM: call.parallelism if is_call else None,
        semconv.TOOL_ARGUMENTS_STREAM_TIME: streamed_ns / 1e9 if streamed_ns else None,
        semconv.TOOL_CALL_FRAME: call.call_frame,
        semconv.TOOL_RESULT_FRAME: call.result_frame,
        semconv.TOOL_UNMATCHED: None if is_call else True,
        semconv.EXCHANGE_ID: call.exchange_id,
        semconv.ERROR_TYPE: _ERRORS.get(call.status),
    }
    if view.content_on_spans:
        found |= tool_content(call)
    return found


def tool_content(call: ToolCall) -> dict[str, Value | None]:
    """Return what a tool was given and what it gave: that only if it went well."""
    result = call.result if call.status == "ok" else None
    contents = {
        semconv.GEN_AI_TOOL_CALL_ARGUMENTS: parsed(call.arguments),
        semconv.GEN_AI_TOOL_CALL_RESULT: parsed(result),
    }
    return content_attributes(contents)


def _bracket(call: ToolCall, ended_ns: int) -> tuple[int, int]:
    """Return when a tool call began and ended, as offsets from t0."""
    end_ns = ended_ns if call.result_ns is None else call.result_ns
    if call.status == "unmatched":
        return end_ns, end_ns
    # A call whose arguments never became whole has only its first sign to begin with.
    starts = (call.called_ns, call.first_ns, end_ns)
    start_ns = next(at_ns for at_ns in starts if at_ns is not None)
    return start_ns, max(start_ns, end_ns)


def tool_span_name(tool_name: str | None, operation: str = semconv.EXECUTE_TOOL) -> str:
    """Return what a span of a tool is called; without a name that is none."""
    name = clean(tool_name)
    if (
        name is None
        or len(name.encode()) > NAME_BYTES_MAX
        or _HIGH_CARDINALITY.search(name)
    ):
        return operation
    return f"{operation} {name}"
