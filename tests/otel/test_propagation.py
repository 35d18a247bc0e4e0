"""What an upstream is told of the trace that a request is in."""

from __future__ import annotations

import pytest
from otel_samples import INBOUND, OWN_SPAN, PARENT, TRACE, UNSAMPLED

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers
from sse_recorder.otel import Propagation
from sse_recorder.trace import TraceContext

OURS = TraceContext(TRACE, OWN_SPAN)
MORE: Headers = (("Tracestate", "a=b"), ("Baggage", "user=7"), ("Accept", "*/*"))
CHILD: Headers = (
    *(("Tracestate", "a=b"), ("Accept", "*/*")),
    ("traceparent", f"00-{TRACE}-{OWN_SPAN}-01"),
)


@pytest.mark.parametrize(
    ("values", "context", "expected"),
    [
        ([], OURS, CHILD),
        (["child"], OURS, CHILD),
        ([], None, (*INBOUND, *MORE)),
        (["passthrough"], OURS, (*INBOUND, *MORE)),
        (["none"], OURS, (("Accept", "*/*"),)),
        (["none"], None, (("Accept", "*/*"),)),
    ],
    ids=["default", "child", "off", "passthrough", "none", "none and off"],
)
def test_an_upstream_is_told_what_its_mode_says(
    values: list[str], context: TraceContext | None, expected: Headers
) -> None:
    """Our span, what the client said, or nothing; baggage goes with neither of ours."""
    told = Propagation.parse(values, []).headers((*INBOUND, *MORE), "", context)
    assert told == expected


def test_a_trace_that_is_not_sampled_is_left_as_it_is() -> None:
    """The flag stays as the client set it, and so does its span; not its baggage."""
    dark = TraceContext(TRACE, OWN_SPAN, sampled=False)
    told = Propagation.parse([], []).headers((*UNSAMPLED, *MORE), "", dark)
    assert told == (*UNSAMPLED, MORE[0], MORE[2])
    told = Propagation.parse([], []).headers((), "", dark)
    assert told == (("traceparent", f"00-{TRACE}-{OWN_SPAN}-00"),)


@pytest.mark.parametrize(
    "given",
    [(), (*INBOUND, *INBOUND), (("traceparent", "00-1-2-01"),)],
    ids=["none", "two", "not one"],
)
def test_a_trace_that_begins_here_has_no_state_of_another(given: Headers) -> None:
    """Where the client's position cannot be read, its state is of no trace known."""
    told = Propagation.parse([], []).headers((*given, *MORE), "", OURS)
    assert told == (MORE[2], ("traceparent", f"00-{TRACE}-{OWN_SPAN}-01"))


def test_a_route_may_have_a_mode_of_its_own() -> None:
    """What is said of a route goes before what is said of all."""
    modes = Propagation.parse(
        ["passthrough", "/signed/=none", "/own=child"], ["/signed", "/own"]
    )
    assert modes.headers(INBOUND, "/signed", OURS) == ()
    assert modes.headers(INBOUND, "", OURS) == INBOUND
    ((_, value),) = modes.headers(INBOUND, "/own", OURS)
    assert PARENT not in value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("parent", "say child, passthrough, none"),
        ("/openai=", "say child, passthrough, none"),
        ("/elsewhere=none", "there are /openai"),
    ],
)
def test_what_is_no_mode_or_no_route_is_refused(value: str, says: str) -> None:
    """A misspelt route would be told what nobody wanted."""
    with pytest.raises(UsageError, match=says):
        Propagation.parse([value], ["/openai"])
