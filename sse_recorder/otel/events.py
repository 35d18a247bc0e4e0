"""Events: log records that belong to a span.

gen_ai.client.inference.operation.details   all that is known of an operation, with
                                            its messages: only where content is
                                            asked for on events
gen_ai.client.operation.exception           what kept a request from its answer, by
                                            the name of its class
sse_recorder.stream.connected               a stream greeted its client,
sse_recorder.stream.status                  or reported a status: only where they are
                                            asked for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sse_recorder import semconv
from sse_recorder.dialects.base import Kind
from sse_recorder.exchange import Exchange, Outcome, ToolCall
from sse_recorder.otel.content import fitting_attributes, messages_of
from sse_recorder.otel.data import SpanData, present
from sse_recorder.otel.operation import operation_of
from sse_recorder.otel.stream import Notice, StreamFacts
from sse_recorder.otel.view import View

DETAILS: Final = "gen_ai.client.inference.operation.details"
EXCEPTION: Final = "gen_ai.client.operation.exception"
CONNECTED: Final = "sse_recorder.stream.connected"
STATUS: Final = "sse_recorder.stream.status"

_FAILURES: Final = (Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.UPSTREAM_ABORT)


Severity = Literal["DEBUG", "WARN"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One log record, in no SDK's terms."""

    name: str
    severity: Severity
    at_ns: int
    """Wall time, in nanoseconds since 1970."""
    span: SpanData
    """What it belongs to."""
    attributes: Mapping[str, Any]


def events(
    exchange: Exchange,
    tool_calls: Sequence[ToolCall],
    facts: StreamFacts,
    root: SpanData,
    view: View,
) -> list[Event]:
    """Return the events of an exchange that is over.

    Args:
        exchange: its row.
        tool_calls: its tool calls.
        facts: what its frames say.
        root: its span.
        view: how it is told.
    """
    found = [_notice(notice, root) for notice in facts.notices if view.stream_events]
    operation = operation_of(exchange, facts, view.words)
    if not operation.is_genai:
        return found
    if exchange.outcome in _FAILURES and root.error_type is not None:
        # Its message stays out: it may quote what was sent.
        about = {semconv.EXCEPTION_TYPE: root.error_type}
        found.append(_event(EXCEPTION, "WARN", root, about))
    if view.content_on_events:
        contents = messages_of(exchange, operation, facts, tool_calls)
        structured = fitting_attributes(contents, facts.unheard_bytes)
        attributes = {**root.attributes, **structured}
        found.append(_event(DETAILS, "DEBUG", root, attributes))
    return found


def _notice(notice: Notice, root: SpanData) -> Event:
    at_ns = root.start_ns + notice.at_ns
    if notice.kind is Kind.CONNECTED:
        return _event(CONNECTED, "DEBUG", root, {}, at_ns)
    code = {semconv.STATUS_CODE: notice.code}
    return _event(STATUS, "DEBUG", root, present(code), at_ns)


def _event(
    name: str,
    severity: Severity,
    root: SpanData,
    attributes: Mapping[str, Any],
    at_ns: int | None = None,
) -> Event:
    return Event(
        name=name,
        severity=severity,
        at_ns=root.end_ns if at_ns is None else at_ns,
        span=root,
        attributes=attributes,
    )
