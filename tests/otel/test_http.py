"""HTTP spans: the request on both sides of the recorder, where they are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from otel_samples import FIVE_CALLS, MS, OWN_SPAN, PARENT, T0, exchange

from sse_recorder.exchange import Outcome
from sse_recorder.otel import SpanData, StreamFacts, View, spans
from sse_recorder.trace import derive_span_id

BOTH = View(http_spans=True)


def told(**changes: Any) -> dict[str, SpanData]:
    """Return the spans of an exchange without tools, by what they are."""
    facts = StreamFacts(is_stream=True, has_finished=True, completion_ns=1_500 * MS)
    root, *others = spans(exchange(**changes), [], facts, BOTH)
    kinds = {f"http {span.kind}": span for span in others}
    return {"own": root, **kinds}


def test_the_request_is_around_the_exchange_and_below_it() -> None:
    """The client's span is the server's parent, and that is the exchange's."""
    found = told()
    own, server, client = found["own"], found["http server"], found["http client"]
    assert server.parent_span_id == PARENT
    assert own.parent_span_id == server.span_id
    assert own.span_id == OWN_SPAN  # what went upstream
    assert client.parent_span_id == own.span_id
    remote = [span for span in found.values() if span.has_remote_parent]
    assert remote == [server]
    assert {span.trace_id for span in found.values()} == {own.trace_id}
    assert len({span.span_id for span in found.values()}) == 3
    assert (server.name, client.name) == ("POST", "POST")
    # The answer is complete before the last byte.
    assert own.end_ns == T0 + 1_500 * MS
    assert server.end_ns == client.end_ns == T0 + 2_000 * MS


def test_they_tell_of_http_and_of_nothing_else() -> None:
    """Each with the attributes that its side has; the path is as the client sent it."""
    found = told(received_path="/meibel/chat")
    assert set(found["http server"].attributes) == {
        "http.request.method",
        "http.response.status_code",
        "url.path",
        "url.scheme",
        "sse_recorder.mode",
        "sse_recorder.exchange.id",
    }
    assert found["http server"].attributes["url.path"] == "/meibel/chat"
    assert set(found["http client"].attributes) == {
        "http.request.method",
        "http.response.status_code",
        "server.address",
        "server.port",
        "url.full",
        "sse_recorder.exchange.id",
    }


@pytest.mark.parametrize(
    ("changes", "status", "server", "client"),
    [
        ({}, 200, None, None),
        ({"status": 404}, 404, None, "404"),
        ({"status": 503}, 503, "503", "503"),
        (
            {"outcome": Outcome.UPSTREAM_ERROR, "status": None, "error": "eof"},
            *(502, "502", "eof"),
        ),
        ({"outcome": Outcome.TIMEOUT, "status": None}, 504, "504", "timeout"),
        ({"outcome": Outcome.CLIENT_ABORT}, 200, "client_disconnected", None),
    ],
)
def test_an_error_is_one_to_whom_it_is(
    changes: dict[str, Any], status: int, server: str | None, client: str | None
) -> None:
    """A client's fault is none of the server's; one that leaves is told there alone."""
    found = told(**changes)
    span = found["http server"]
    assert span.attributes["http.response.status_code"] == status
    assert span.error_type == server
    assert found["http client"].error_type == client


def test_a_request_that_is_nothing_else_has_one_client_span() -> None:
    """Its own is that of HTTP already."""
    found = told(dialect=None)
    assert set(found) == {"own", "http server"}
    assert found["own"].kind == "client"


def test_ids_are_derived_and_tools_stay_where_they_are() -> None:
    """They come out the same again, and tools are below the exchange."""
    one = spans(exchange(), FIVE_CALLS, view=BOTH)
    assert one == spans(exchange(), FIVE_CALLS, view=BOTH)
    assert [span.parent_span_id for span in one[1:6]] == [OWN_SPAN] * 5
    assert one[6].span_id == derive_span_id(exchange().exchange_id, "server")


def test_within_a_client_there_is_no_server() -> None:
    """The exchange stays below the client's span, which is of the same process."""
    found = told(tags={"sse_recorder.mode": "client"})
    assert set(found) == {"own", "http client"}
    own, client = found["own"], found["http client"]
    assert (own.parent_span_id, client.parent_span_id) == (PARENT, own.span_id)
    assert own.attributes["sse_recorder.mode"] == "client"
    assert not any(span.has_remote_parent for span in found.values())
