"""Spans: what an exchange is turned into."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from otel_samples import (
    FIVE_CALLS,
    ID,
    MS,
    OWN_SPAN,
    OWN_TRACE,
    PARENT,
    T0,
    TRACE,
    UNANSWERED,
    exchange,
    tool_call,
)

from sse_recorder import semconv
from sse_recorder.exchange import Exchange, Headers, Outcome
from sse_recorder.http1.client import Origin, _connect_error
from sse_recorder.otel import TOOL_SPANS_MAX, SpanData, StreamFacts, View, spans
from sse_recorder.trace import derive_span_id


def tool_span(
    seq: int, name: str, start_ns: int, end_ns: int, **facts: str | float
) -> SpanData:
    """Return the span that a tool call should give."""
    return SpanData(
        name=name,
        kind="internal",
        trace_id=TRACE,
        span_id=derive_span_id(ID, seq),
        parent_span_id=OWN_SPAN,
        start_ns=T0 + start_ns,
        end_ns=T0 + end_ns,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.type": "extension",
            "sse_recorder.tool.timing": "wire_bracket",
            "sse_recorder.exchange.id": ID,
            **{key.replace("__", "."): value for key, value in facts.items()},
        },
    )


def test_one_exchange_is_exactly_these_spans() -> None:
    """Two parallel tools, one failed, one unanswered and one unmatched, to the ns."""
    assert spans(exchange(), FIVE_CALLS) == [
        SpanData(
            name="invoke_agent",
            kind="client",
            trace_id=TRACE,
            span_id="a35b37bed27a9f4d",
            parent_span_id=PARENT,
            start_ns=1_700_000_000_123_456_789,
            end_ns=1_700_000_002_123_456_789,
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "meibel",
                "gen_ai.conversation.id": "s-1",
                "url.full": "https://api.meibel.ai/v2/sessions/s-1/chat/stream?debug=1",
                "server.address": "api.meibel.ai",
                "server.port": 443,
                "http.request.method": "POST",
                "http.response.status_code": 200,
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.response.time_to_first_chunk": 0.25,
                "sse_recorder.stream.time_to_first_event": 0.2,
                "gen_ai.usage.input_tokens": 11,
                "gen_ai.usage.output_tokens": 7,
                "sse_recorder.exchange.id": ID,
                "sse_recorder.recording.id": "r1",
                "sse_recorder.mode": "proxy",
                "sse_recorder.outcome": "complete",
                "sse_recorder.stream.frames": 9,
                "sse_recorder.stream.bytes": 1_234,
                "sse_recorder.tool.calls": 5,
            },
            has_remote_parent=True,
        ),
        tool_span(
            0,
            "execute_tool search",
            300 * MS,
            701 * MS,
            gen_ai__tool__name="search",
            gen_ai__tool__call__id="call_0",
            sse_recorder__tool__arguments_stream_time=0.01,
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=2,
            sse_recorder__tool__result_frame=5,
        ),
        tool_span(
            1,
            "execute_tool weather",
            310 * MS,
            500 * MS + 1,
            gen_ai__tool__name="weather",
            gen_ai__tool__call__id="call_1",
            sse_recorder__tool__arguments_stream_time=0.02,
            sse_recorder__tool__parallelism=2,
            sse_recorder__tool__call_frame=3,
            sse_recorder__tool__result_frame=4,
        ),
        tool_span(
            2,
            "execute_tool book",
            800 * MS,
            900 * MS,
            gen_ai__tool__name="book",
            gen_ai__tool__call__id="call_2",
            sse_recorder__tool__arguments_stream_time=0.51,
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=6,
            sse_recorder__tool__result_frame=7,
            error__type="tool_error",
        ),
        tool_span(
            3,
            "execute_tool pay",
            950 * MS,
            2_000 * MS,
            gen_ai__tool__name="pay",
            gen_ai__tool__call__id="call_3",
            sse_recorder__tool__arguments_stream_time=0.66,
            sse_recorder__tool__parallelism=1,
            sse_recorder__tool__call_frame=8,
            error__type="unanswered",
        ),
        tool_span(
            4,
            "execute_tool",
            1_000 * MS,
            1_000 * MS,
            gen_ai__tool__call__id="ghost",
            sse_recorder__tool__unmatched=True,
            sse_recorder__tool__result_frame=9,
        ),
    ]


def test_a_failed_span_has_an_error_status_and_any_other_has_none() -> None:
    """The status is an error exactly where there is an error type."""
    found = spans(exchange(), FIVE_CALLS)
    assert [(span.status, span.error_type) for span in found] == [
        ("unset", None),
        ("unset", None),
        ("unset", None),
        ("error", "tool_error"),
        ("error", "unanswered"),
        ("unset", None),
    ]


def test_a_tool_span_lasts_exactly_as_long_as_its_row_says() -> None:
    """Of a bracket on the wire, not a nanosecond is lost."""
    call = tool_call(
        called_ns=300_000_001, result_ns=700_000_008, duration_ns=400_000_007
    )
    assert spans(exchange(), [call])[1].duration_ns == call.duration_ns


@pytest.mark.parametrize(
    ("changes", "start_ns", "end_ns", "error"),
    [
        ({"status": "superseded", "result_ns": 444}, 100, 444, "superseded"),
        ({"called_ns": None, "first_ns": 90, "result_ns": 500}, 90, 500, None),
        ({**UNANSWERED, "called_ns": None, "first_ns": 90}, 90, 1_000, "unanswered"),
        ({"called_ns": None, "first_ns": None, "result_ns": 500}, 500, 500, None),
        ({**UNANSWERED, "called_ns": 1_001}, 1_001, 1_001, "unanswered"),
    ],
    ids=["superseded", "no arguments", "neither", "only a result", "after the end"],
)
def test_a_tool_span_begins_and_ends_where_the_wire_shows_it(
    changes: dict[str, Any], start_ns: int, end_ns: int, error: str | None
) -> None:
    """A call begins with what is known of it, and ends no later than its exchange."""
    call = tool_call(**{"called_ns": 100, **changes})
    span = spans(exchange(ended_ns=1_000), [call])[1]
    assert (span.start_ns - T0, span.end_ns - T0) == (start_ns, end_ns)
    assert span.error_type == error


def test_a_tool_that_the_client_runs_has_no_span_below_the_exchange() -> None:
    """What the client does is beside the exchange, and so is its span."""
    assert len(spans(exchange(), [tool_call(timing="cross_request")])) == 1


def test_an_exchange_of_no_agent_is_an_http_span() -> None:
    """What no agent answered is called by its method, and makes no claim about one."""
    (span,) = spans(exchange(dialect=None, finish_reason=None, method="GET"), [])
    assert span.name == "GET"
    assert not {name for name in span.attributes if name.startswith("gen_ai.o")}
    assert semconv.GEN_AI_PROVIDER_NAME not in span.attributes
    assert semconv.GEN_AI_CONVERSATION_ID not in span.attributes


def test_an_unknown_method_names_no_span() -> None:
    """A method that a client made up does not become the name of a span."""
    (span,) = spans(exchange(dialect=None, method="BREW"), [])
    assert span.name == "HTTP"
    assert span.attributes[semconv.HTTP_REQUEST_METHOD] == "_OTHER"


def test_what_is_not_known_is_not_said() -> None:
    """A fact that the recording lacks is an attribute that the span lacks."""
    bare = Exchange(
        exchange_id=ID,
        recorder_id="r1",
        started_at=T0,
        method="GET",
        url="http://127.0.0.1:8000/a",
        path="/a",
        outcome=Outcome.COMPLETE,
    )
    (span,) = spans(bare, [])
    assert span.attributes == {
        "url.full": "http://127.0.0.1:8000/a",
        "server.address": "127.0.0.1",
        "server.port": 8000,
        "http.request.method": "GET",
        "sse_recorder.exchange.id": ID,
        "sse_recorder.recording.id": "r1",
        "sse_recorder.mode": "proxy",
        "sse_recorder.outcome": "complete",
        "sse_recorder.stream.frames": 0,
        "sse_recorder.stream.bytes": 0,
        "sse_recorder.tool.calls": 0,
    }
    assert (span.trace_id, span.span_id) == (OWN_TRACE, OWN_SPAN)
    assert span.parent_span_id is None
    assert span.duration_ns == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 399}, None),
        ({"status": 429}, "429"),
        ({"status": 500, "outcome": Outcome.UPSTREAM_ABORT}, "500"),
        (
            {"outcome": Outcome.UPSTREAM_ABORT, "error": "eof: 3 left"},
            "stream_truncated",
        ),
        ({"outcome": Outcome.TIMEOUT}, "timeout"),
        ({"outcome": Outcome.CLIENT_ABORT}, None),
        ({"outcome": Outcome.CLIENT_ABORT, "status": 503}, "503"),
        ({"outcome": Outcome.INCOMPLETE, "error": "the queue was full"}, None),
    ],
)
def test_the_error_type_says_what_went_wrong(
    changes: dict[str, Any], error: str | None
) -> None:
    """The server's status comes first, then how the exchange ended."""
    (span,) = spans(exchange(**changes), [])
    assert span.error_type == error


@pytest.mark.parametrize(
    ("facts", "changes", "error", "reasons"),
    [
        (StreamFacts(is_stream=True), {}, "stream_truncated", ("error",)),
        (StreamFacts(is_stream=True, has_finished=True), {}, None, None),
        (StreamFacts(is_stream=True), {"finish_reason": "stop"}, None, ("stop",)),
        (StreamFacts(is_stream=True), {"dialect": "langgraph"}, None, None),
        (StreamFacts(is_stream=True), {"dialect": "a2a"}, None, None),
        (StreamFacts(is_stream=True), {"dialect": None}, None, None),
        (StreamFacts(has_failed=True), {}, "_OTHER", ("error",)),
        (
            StreamFacts(has_failed=True, error_code="overloaded_error"),
            {},
            "overloaded_error",
            ("error",),
        ),
        (StreamFacts(is_garbled=True), {}, "invalid_sse", None),
        (StreamFacts(is_garbled=True), {"dialect": None}, None, None),
        (StreamFacts(is_stream=True), {"outcome": Outcome.CLIENT_ABORT}, None, None),
    ],
)
def test_what_the_stream_says_is_heard(
    facts: StreamFacts,
    changes: dict[str, Any],
    error: str | None,
    reasons: tuple[str, ...] | None,
) -> None:
    """An API that says how its streams end is believed, and so is one that does not."""
    one = exchange(**{"finish_reason": None, **changes})
    (span,) = spans(one, [], facts)
    assert span.error_type == error
    assert span.attributes.get(semconv.GEN_AI_RESPONSE_FINISH_REASONS) == reasons


def test_in_the_unreleased_words_a_cancelled_answer_finished_with_an_error() -> None:
    """The published ones do not say; in both it is no error of the span."""
    left = exchange(outcome=Outcome.CLIENT_ABORT, finish_reason=None)
    (span,) = spans(left, [], view=View(vocabulary="genai-main"))
    assert span.attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("error",)
    assert span.status == "unset"


@pytest.mark.parametrize(
    ("vocabulary", "name"),
    [
        ("genai-1.41", "gen_ai.usage.cache_creation.input_tokens"),
        ("genai-main", "gen_ai.usage.cache_write.input_tokens"),
    ],
)
def test_usage_is_told_in_one_vocabulary(vocabulary: str, name: str) -> None:
    """What was written to a cache has another name in each."""
    facts = StreamFacts(
        cache_read_tokens=1, cache_write_tokens=2, reasoning_tokens=3, response_id="r"
    )
    one = exchange(dialect="anthropic")
    (span,) = spans(one, [], facts, View(vocabulary=vocabulary))
    usage = {k: v for k, v in span.attributes.items() if "usage" in k}
    assert usage == {
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 1,
        name: 2,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }
    assert span.attributes["gen_ai.response.id"] == "r"


def test_an_answer_ends_with_the_frame_that_completes_it() -> None:
    """What a server does after that is not the agent's work."""
    facts = StreamFacts(is_stream=True, has_finished=True, completion_ns=1_500 * MS)
    assert spans(exchange(), [], facts)[0].duration_ns == 1_500 * MS
    cut = exchange(outcome=Outcome.UPSTREAM_ABORT)
    assert spans(cut, [], facts)[0].duration_ns == 2_000 * MS
    plain = exchange(dialect=None)
    assert spans(plain, [], facts)[0].duration_ns == 2_000 * MS


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ConnectionRefusedError: [Errno 111]", "ConnectionRefusedError"),
        ("ssl.SSLCertVerificationError: self-signed", "ssl.SSLCertVerificationError"),
        ("reset: by peer", "reset"),
        ("eof", "eof"),
        ("what the server said: secret", "_OTHER"),
        ("api.example.com: refused", "_OTHER"),
        ("", "_OTHER"),
        (None, "_OTHER"),
    ],
)
def test_an_upstream_error_is_called_by_its_class(text: str | None, error: str) -> None:
    """Of an error's text only the name of a class gets out, never a message or host."""
    failed = exchange(outcome=Outcome.UPSTREAM_ERROR, status=None, error=text)
    (span,) = spans(failed, [])
    assert span.error_type == error


ORIGIN = Origin("https", "secret.example.com", 443)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "ConnectionRefusedError"),
        (TimeoutError(), "TimeoutError"),
        (socket.gaierror(-2, "Name or service not known"), "socket.gaierror"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "ssl.SSLError"),
        (ConnectionResetError(104, "reset"), "ssl.SSLError"),
        (OSError(113, "No route to host"), "ConnectionError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OSError) else "",
)
def test_what_our_client_says_is_called_by_its_class(
    raised: OSError, error: str
) -> None:
    """Its sentences are for people; the host that they name stays out."""
    said = str(_connect_error(ORIGIN, 3, raised))
    failed = exchange(outcome=Outcome.UPSTREAM_ERROR, status=None, error=said)
    assert spans(failed, [])[0].error_type == error


def test_a_certificate_that_is_refused_has_a_class_of_its_own() -> None:
    """It is told from other failures of TLS."""
    refused = ssl.SSLCertVerificationError(1, "no")
    refused.verify_message = "self-signed certificate"
    said = str(_connect_error(ORIGIN, 3, refused))
    failed = exchange(outcome=Outcome.UPSTREAM_ERROR, status=None, error=said)
    assert spans(failed, [])[0].error_type == "ssl.SSLCertVerificationError"


def test_a_client_that_leaves_is_no_error_but_is_said() -> None:
    """Cancelling is the client's right: the status stays unset."""
    (span,) = spans(exchange(outcome=Outcome.CLIENT_ABORT), [])
    assert span.status == "unset"
    assert span.attributes[semconv.STREAM_CANCELLED] is True


def test_an_agents_cut_answer_finished_with_an_error() -> None:
    """A stream that was cut before its finish reason has `error` in its place."""
    cut = exchange(outcome=Outcome.UPSTREAM_ABORT, finish_reason=None)
    (span,) = spans(cut, [])
    assert span.attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] == ("error",)


def test_an_open_exchange_has_no_spans_yet() -> None:
    """What has no end is no span."""
    assert spans(exchange(outcome=None), FIVE_CALLS) == []


def test_an_exchange_without_an_end_ends_when_it_was_last_heard_of() -> None:
    """A recorder that was killed leaves no end; the last known time stands for it."""
    killed = exchange(
        outcome=Outcome.INCOMPLETE,
        ended_ns=None,
        headers_ns=5,
        first_event_ns=7,
        last_content_ns=77,
    )
    assert spans(killed, [])[0].duration_ns == 77


@pytest.mark.parametrize(
    ("recorded", "parent"), [(PARENT, PARENT), ("", None)], ids=["inbound", "none"]
)
def test_the_parent_is_the_clients_span(recorded: str, parent: str | None) -> None:
    """An exchange is a child of the client's span, where the client had one."""
    own: Headers = (("traceparent", f"00-{TRACE}-{OWN_SPAN}-01"),)
    (span,) = spans(exchange(parent_span_id=recorded, request_headers=own), [])
    assert (span.trace_id, span.parent_span_id) == (TRACE, parent)


def test_ids_that_were_not_recorded_are_derived() -> None:
    """Spans of a recording made without telemetry get the ids it would have had."""
    old = exchange(trace_id="", span_id="", parent_span_id="")
    new = exchange(trace_id=OWN_TRACE, parent_span_id="")
    assert spans(old, [tool_call(span_id="")]) == spans(new, [tool_call()])


def test_an_answer_in_one_piece_has_no_first_chunk() -> None:
    """Where nothing is streamed there is no time to its beginning."""
    facts = StreamFacts(first_output_ns=9)
    (streamed,) = spans(exchange(), [], facts)
    (whole,) = spans(exchange(first_event_ns=None), [], facts)
    assert whole.attributes.keys() - streamed.attributes.keys() == set()
    assert streamed.attributes.keys() - whole.attributes.keys() == {
        "gen_ai.response.time_to_first_chunk",
        "sse_recorder.response.time_to_first_output",
        "sse_recorder.stream.time_to_first_event",
    }


@pytest.mark.parametrize(
    ("url", "full", "address", "port"),
    [
        ("https://u:p@a.example/x?k=v", "https://a.example/x?k=v", "a.example", 443),
        ("https://a/?sig=S&q=1", "https://a/?sig=[redacted]&q=1", "a", 443),
        ("http://u@[::1]:81/", "http://[::1]:81/", "::1", 81),
        ("http://a:99999/", None, None, None),
        ("/only/a/path", "/only/a/path", None, None),
    ],
)
def test_the_url_carries_no_credentials(
    url: str, full: str | None, address: str | None, port: int | None
) -> None:
    """User and password are taken out of the URL; what is no URL is left out."""
    (span,) = spans(exchange(url=url), [])
    assert span.attributes.get(semconv.URL_FULL) == full
    assert span.attributes.get(semconv.SERVER_ADDRESS) == address
    assert span.attributes.get(semconv.SERVER_PORT) == port


@pytest.mark.parametrize(
    ("tool_name", "name"),
    [
        ("get-weather", "execute_tool get-weather"),
        ("web_search_20250305", "execute_tool web_search_20250305"),
        ("n" * 128, "execute_tool " + "n" * 128),
        ("n" * 129, "execute_tool"),
        ("two words", "execute_tool"),
        ("run-01936a3e-8c00-7abc-9def-0123456789ab", "execute_tool"),
        ("job1700000000", "execute_tool"),
        ("\x00", "execute_tool"),
        (None, "execute_tool"),
    ],
)
def test_a_tool_name_that_is_no_name_stays_out_of_the_spans(
    tool_name: str | None, name: str
) -> None:
    """A name with an id in it, or a long one, would be a group of one in a backend."""
    assert spans(exchange(), [tool_call(tool_name=tool_name)])[1].name == name


def test_tool_spans_are_bounded_and_the_rest_is_counted() -> None:
    """A runaway stream gives 1,024 tool spans, and says how many it had."""
    calls = [tool_call(seq) for seq in range(TOOL_SPANS_MAX + 3)]
    root, *tools = spans(exchange(), calls)
    assert len(tools) == TOOL_SPANS_MAX == 1_024
    assert root.attributes[semconv.TOOL_CALLS] == 1_027
    assert root.attributes[semconv.TOOL_SPANS_DROPPED] == 3
