"""Trace context: what is read from a request, and ids that can be told again."""

from __future__ import annotations

import re

import pytest

from sse_recorder.trace import (
    TraceContext,
    derive_span_id,
    exchange_context,
    parse_traceparent,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
EXCHANGE = "01936a3e-8c00-7abc-9def-0123456789ab"


def test_a_valid_header_gives_its_context() -> None:
    """A `traceparent` of version 00 is read into its three parts."""
    headers = (("Host", "a"), ("TraceParent", f" 00-{TRACE}-{SPAN}-01 "))
    assert parse_traceparent(headers) == TraceContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("ff", True)]
)
def test_only_the_lowest_flag_says_sampled(flags: str, *, sampled: bool) -> None:
    """Flags other than the lowest bit have no say in sampling."""
    context = parse_traceparent((("traceparent", f"00-{TRACE}-{SPAN}-{flags}"),))
    assert context is not None
    assert context.sampled is sampled


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """A version above 00 may say more after the flags; what comes before counts."""
    headers = (("traceparent", f"cc-{TRACE}-{SPAN}-01-what-the-future-brings"),)
    assert parse_traceparent(headers) == TraceContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01x",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_an_invalid_header_is_none(value: str) -> None:
    """What the specification calls invalid counts as not sent."""
    assert parse_traceparent((("traceparent", value),)) is None
    assert parse_traceparent(()) is None


@pytest.mark.parametrize("sampled", [True, False])
def test_a_written_header_reads_back(*, sampled: bool) -> None:
    """What is sent upstream means the same there."""
    context = TraceContext(TRACE, SPAN, sampled=sampled)
    assert parse_traceparent((("traceparent", context.traceparent()),)) == context


def test_an_exchange_without_a_parent_is_a_trace_of_its_own() -> None:
    """Without a parent the trace begins as the exchange id does, and is sampled."""
    context = exchange_context(EXCHANGE, None)
    assert context == exchange_context(EXCHANGE, None)
    assert re.fullmatch(r"[0-9a-f]{32}", context.trace_id)
    assert context.trace_id[:16] == EXCHANGE.replace("-", "")[:16]
    assert context.span_id == derive_span_id(EXCHANGE)
    assert context.sampled


@pytest.mark.parametrize("sampled", [True, False])
def test_an_exchange_joins_its_parents_trace(*, sampled: bool) -> None:
    """With a parent the trace and its sampling are the parent's, the span is not."""
    parent = TraceContext(TRACE, SPAN, sampled=sampled)
    context = exchange_context(EXCHANGE, parent)
    assert context == TraceContext(TRACE, derive_span_id(EXCHANGE), sampled=sampled)
    assert context.span_id != SPAN


def test_ids_are_told_again_and_are_apart() -> None:
    """The same names give the same id in every process, and other names another."""
    assert derive_span_id(EXCHANGE) == "a35b37bed27a9f4d"
    assert derive_span_id(EXCHANGE, 0) == "7033d66f337f73cb"
    ids = {derive_span_id(EXCHANGE), *(derive_span_id(EXCHANGE, n) for n in range(99))}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{16}", span_id) for span_id in ids)
