"""Tool spans: below the exchange where its stream has the result, else beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from otel_samples import (
    ID,
    INBOUND,
    MS,
    OWN_SPAN,
    OWN_TRACE,
    PARENT,
    T0,
    TRACE,
    UNANSWERED,
    UNMATCHED,
    exchange,
    tool_call,
)

from sse_recorder.otel import Link, Origin, View, answered_span, spans
from sse_recorder.otel.tools import bracketed
from sse_recorder.trace import derive_span_id

NEXT_ID = "01936a3e-9000-7abc-9def-0123456789ab"
ORIGIN = Origin(ID, T0, TRACE, OWN_SPAN, PARENT)
NEXT = Origin(NEXT_ID, T0 + 900 * MS, TRACE, "b" * 16, PARENT)
ANSWERED = tool_call(
    timing="cross_request",
    called_ns=300 * MS,
    result_ns=900 * MS,
    duration_ns=600 * MS,
    result_frame=None,
    result_exchange_id=NEXT_ID,
)


def test_an_answered_call_is_beside_its_exchanges_and_links_to_both() -> None:
    """It lasts from the call to the next request: the client's turnaround."""
    span = answered_span(ANSWERED, ORIGIN, NEXT, View())
    assert span.name == "execute_tool search"
    assert (span.trace_id, span.parent_span_id) == (TRACE, PARENT)
    assert span.span_id == derive_span_id(ID, 0)
    assert (span.start_ns - T0, span.duration_ns) == (300 * MS, 600 * MS)
    assert span.links == (
        Link(TRACE, OWN_SPAN, "called"),
        Link(TRACE, "b" * 16, "answered"),
    )
    assert span.attributes["gen_ai.tool.type"] == "function"
    assert span.attributes["sse_recorder.tool.timing"] == "cross_request"
    assert span.attributes["sse_recorder.tool.result_exchange.id"] == NEXT_ID


def test_a_parent_within_the_same_process_is_not_remote() -> None:
    """Where the client recorded its own exchange."""
    near = Origin.of(ID, exchange(tags={"sse_recorder.mode": "client"}))
    assert answered_span(ANSWERED, ORIGIN, NEXT, View()).has_remote_parent
    span = answered_span(ANSWERED, near, NEXT, View())
    assert (span.parent_span_id, span.has_remote_parent) == (PARENT, False)


def test_a_next_request_that_is_not_known_costs_only_its_link() -> None:
    """Of exchanges that are forgotten, or in another store, one link is left."""
    span = answered_span(ANSWERED, ORIGIN, None, View())
    assert [link.kind for link in span.links] == ["called"]


def test_a_result_without_a_call_is_an_instant_of_its_request() -> None:
    """What answers no call has no length, and links to the request that brought it."""
    call = replace(tool_call(**UNMATCHED), timing="cross_request", result_ns=0)
    span = answered_span(call, ORIGIN, ORIGIN, View())
    assert (span.start_ns, span.duration_ns) == (T0, 0)
    assert span.attributes["sse_recorder.tool.unmatched"] is True
    assert [link.kind for link in span.links] == ["answered"]


def test_a_wall_clock_that_was_set_makes_no_negative_span() -> None:
    """A call whose answer has no time lasts no time at all."""
    span = answered_span(replace(ANSWERED, result_ns=None), ORIGIN, NEXT, View())
    assert span.duration_ns == 0
    assert span.start_ns == T0 + 300 * MS


def test_a_call_that_the_client_will_answer_is_no_error() -> None:
    """A model's answer ends with open calls; an agent's does not."""
    open_call = tool_call(**UNANSWERED)
    assert bracketed(exchange(dialect="openai_chat"), [open_call]) == []
    assert bracketed(exchange(dialect="meibel"), [open_call]) == [open_call]
    model = exchange(dialect="openai_chat", tool_call_count=1)
    (span,) = spans(model, [open_call])
    assert span.attributes["sse_recorder.tool.calls"] == 1


def test_a_call_without_an_id_is_counted_and_has_no_span() -> None:
    """No result can be told to be its own, so none is missing."""
    nameless = [tool_call(tool_id=None, **UNANSWERED), tool_call(1, tool_id=None)]
    assert bracketed(exchange(), nameless) == nameless[1:]
    root = spans(exchange(), nameless)[0]
    assert root.attributes["sse_recorder.tool.unidentified"] == 2
    assert root.attributes["sse_recorder.tool.calls"] == 2


def test_the_origin_of_an_exchange_is_as_it_was_sent_upstream() -> None:
    """Recorded ids stand; those that were not recorded are derived."""
    assert Origin.of(ID, exchange(request_headers=INBOUND)) == ORIGIN
    bare = exchange(trace_id="", span_id="", parent_span_id="")
    assert Origin.of(ID, bare) == Origin(ID, T0, OWN_TRACE, OWN_SPAN, None)


@pytest.mark.parametrize("status", ["ok", "error"])
def test_arguments_and_results_are_told_where_content_is(status: str) -> None:
    """They are JSON; a failed call has no result, for its text is not one."""
    call = tool_call(status=status, arguments='{"q": 1}', result='["r"]')
    view = View(content_on_spans=True)
    span = spans(exchange(), [call], view=view)[1]
    assert span.attributes["gen_ai.tool.call.arguments"] == '{"q":1}'
    result = span.attributes.get("gen_ai.tool.call.result")
    assert result == ('["r"]' if status == "ok" else None)
