"""Spans: what one exchange looks like in a tracing system.

An exchange is one CLIENT span; each of its tool calls is an INTERNAL span under it,
made after the fact with the times that the wire showed.  Spans are a view of the
recording, and a lossy one: the recording has every read, a span has the outline.

Theory of operation
-------------------
`spans()` is a pure function from the rows of an exchange to `SpanData`.  The ids are
those of the rows, or derived from the exchange id as `sse_recorder.trace` says, so
spans that are rebuilt from a store are equal to those that were sent live.

`Telemetry` ships them.  It gives finished spans to the SDK's batch processor instead
of starting them through a tracer: a tracer draws ids and reads a clock, and both are
facts of the recording here.  The sampler is the SDK's own.  It is asked once for an
exchange with nothing but the trace's id and its parent, so `context()`, before the
request is sent, and `emit()`, after the answer, agree.

Rules
-----
1. Nothing here waits for a collector but `close()`, and that has a bound.  The SDK's
   `force_flush` ignores its timeout, so the flush runs in a daemon thread that is
   waited for and then left behind.
2. A collector that fails costs spans and one line of log a minute, nothing else.  The
   SDK's own lines are held back while it works for us, and only then.
3. What was not delivered is known: `emit` counts what it hands over, the exporter's
   wrapper what arrived.  The difference covers a full queue, a failed batch and
   whatever `close` left behind.
4. A tool span brackets the execution as the wire showed it, from the call's arguments
   being complete to the result being read.  It does not measure the tool.
5. Content stays out: no arguments, results, bodies or error texts, since an error
   often quotes a prompt.  What a peer controls (names, ids) is cleaned and cut.
6. A fault of the recorder (`incomplete`) is not an error of the call that it recorded:
   `sse_recorder.outcome` says it, `error.type` does not.

The span of an exchange ends with the last byte of the body or what took its place,
not with the response head.

The SDK is imported when something is to be shipped, so that this module costs nothing
where telemetry is off.  Make a `Telemetry` after a fork, not before.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import logging
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal, Self, cast
from urllib.parse import SplitResult, unquote, urlsplit

from sse_recorder import __version__, semconv
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    END_OF_FILE,
    RESET,
    Exchange,
    Headers,
    Outcome,
    ToolCall,
)
from sse_recorder.trace import (
    TraceContext,
    derive_span_id,
    exchange_context,
    parse_traceparent,
)

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext

Value = str | bool | int | float | tuple[str, ...]

TOOL_SPANS_MAX: Final = 1_024
"""Tool spans of one exchange.  The SDK's queue holds 2,048 and drops the oldest: one
runaway stream must not push the spans of all others out of it."""

TEXT_BYTES_MAX: Final = 256
"""Of an attribute whose text a peer chose."""

URL_BYTES_MAX: Final = 8_192
"""Of `url.full`: what common servers accept as a request line."""

NAME_BYTES_MAX: Final = 128
"""Of a tool's name within the name of its span.  A longer one stays out of it."""

CLOSE_TIMEOUT_S: Final = 5.0

_COMPLAINT_INTERVAL_NS: Final = 60_000_000_000

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

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanData:
    """One span, in no SDK's terms."""

    name: str
    kind: Literal["client", "internal"]
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_span_id: str | None
    """Of the client's span for an exchange, of the exchange's for a tool call."""
    start_ns: int
    """Wall time, in nanoseconds since 1970."""
    end_ns: int
    attributes: Mapping[str, Value]

    @property
    def error_type(self) -> str | None:
        """What went wrong; None when nothing did."""
        value = self.attributes.get(semconv.ERROR_TYPE)
        return None if value is None else str(value)

    @property
    def status(self) -> Literal["unset", "error"]:
        """The span's status.  Success is `unset`: `ok` is the application's to say."""
        return "unset" if self.error_type is None else "error"

    @property
    def duration_ns(self) -> int:
        """How long the span lasted."""
        return self.end_ns - self.start_ns


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
    parent = _inbound(exchange)
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


def _inbound(exchange: Exchange) -> TraceContext | None:
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
    return _present(found)


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
        attributes=_present(found),
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


def clean(text: str | None, bytes_max: int = TEXT_BYTES_MAX) -> str | None:
    """Return what is fit to be an attribute of a text that a peer chose.

    Without control and format characters, which rewrite what a terminal or a page
    shows, and without lone surrogates, which JSON can say and protobuf cannot: one of
    them would cost the whole batch.  Cut between characters.

    Returns:
        None when nothing is left.
    """
    # Cut first, with room for what is taken out: the text may be huge.
    kept = (
        c for c in (text or "")[: bytes_max * 4] if unicodedata.category(c)[0] != "C"
    )
    return "".join(kept).encode()[:bytes_max].decode(errors="ignore") or None


def _present(found: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in found.items() if value is not None}


class Telemetry:
    """Ships the spans of exchanges to a collector, beside the data path.

    Args:
        exporter: where finished spans go.
        resource: attributes of this process, over those that the SDK finds.
        sampler: decides per trace; by default as the client did, else always yes.
        clock: paces the log.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        resource: Mapping[str, str] | None = None,
        sampler: Sampler | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - costs 90 ms
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - the same
            BatchSpanProcessor,
        )
        from opentelemetry.sdk.trace.sampling import DEFAULT_ON  # noqa: PLC0415 - the same
        from opentelemetry.sdk.util.instrumentation import (  # noqa: PLC0415 - the same
            InstrumentationScope,
        )

        self._resource = Resource.create(
            {
                semconv.SERVICE_NAME: "sse-recorder",
                semconv.SERVICE_VERSION: __version__,
                **(resource or {}),
            }
        )
        self._scope = InstrumentationScope(
            "sse_recorder", __version__, semconv.SCHEMA_URL
        )
        self.environ: Mapping[str, str] | None = None
        """The variables that it was made from; None where it was made otherwise."""
        self._sampler = sampler or DEFAULT_ON
        self._delivery = _Delivery(exporter, clock)
        for name in _SDK_LOGGERS:
            logging.getLogger(name).addFilter(_hold_back)
        # The processor asks an exporter for its two methods, not for its class.
        self._processor = BatchSpanProcessor(cast("SpanExporter", self._delivery))

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, clock: Clock = SYSTEM
    ) -> Self | None:
        """Return what the standard variables ask for; None when they name no endpoint.

        Headers, certificates, compression and timeouts are the exporter's to read.

        Args:
            environ: the environment of this process.
            clock: paces the log.

        Raises:
            UsageError: if the variables ask for something that we cannot do.
        """
        endpoint = _endpoint(environ)
        if endpoint is None:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - costs 160 ms
            OTLPSpanExporter,
        )

        resource, sampler = _resource(environ), _sampler(environ)
        try:
            exporter = OTLPSpanExporter(endpoint=endpoint)
            made = cls(exporter, resource=resource, sampler=sampler, clock=clock)
        except ValueError as error:  # a timeout, a compression, the size of a queue
            raise UsageError(
                f"The exporter refuses its settings ({error}); "
                "correct the OTEL_EXPORTER_OTLP_* or OTEL_BSP_* variables."
            ) from error
        made.environ = dict(environ)
        return made

    def context(self, exchange_id: str, headers: Headers) -> TraceContext:
        """Return the position of a new exchange in its trace, to be sent upstream.

        Args:
            exchange_id: the exchange.
            headers: the request as the client sent it.
        """
        parent = parse_traceparent(headers)
        own = exchange_context(exchange_id, parent)
        is_sampled = self._is_sampled(own.trace_id, parent)
        return TraceContext(own.trace_id, own.span_id, is_sampled)

    def emit(self, exchange: Exchange, tool_calls: Sequence[ToolCall]) -> None:
        """Hand over the spans of an exchange that is over; does not block.

        An exchange that is not sampled, or still open, has none to hand over.
        """
        found = spans(exchange, tool_calls)
        if not found or not self._wants(exchange, found[0]):
            return
        self._delivery.expect(len(found))
        with _listening() as heard:
            # The exchange goes last: a full queue loses its oldest spans.
            for span in reversed(found):
                self._processor.on_end(self._finished(span))
        if heard:
            self._delivery.complain(heard[0])

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> int:
        """Send what is left for as long as `timeout_s`; then give up.

        Returns:
            How many spans are not known to have been delivered, since the beginning.
        """
        flush = threading.Thread(
            target=self._processor.shutdown, name="sse-recorder-spans", daemon=True
        )
        flush.start()
        flush.join(timeout_s)
        self._delivery.is_over = True
        return self._delivery.missing

    def _wants(self, exchange: Exchange, root: SpanData) -> bool:
        carried = parse_traceparent(exchange.request_headers)
        if carried is not None and carried.span_id == root.span_id:
            return carried.sampled  # what `context` decided, as it was sent upstream
        return self._is_sampled(root.trace_id, _inbound(exchange))

    def _is_sampled(self, trace_id: str, parent: TraceContext | None) -> bool:
        from opentelemetry import trace  # noqa: PLC0415 - already loaded by now
        from opentelemetry.sdk.trace.sampling import Decision  # noqa: PLC0415 - the same

        around = None
        if parent is not None:
            remote = _span_context(
                parent.trace_id, parent.span_id, sampled=parent.sampled, remote=True
            )
            around = trace.set_span_in_context(trace.NonRecordingSpan(remote))
        result = self._sampler.should_sample(
            around, int(trace_id, 16), "exchange", trace.SpanKind.CLIENT
        )
        return result.decision is Decision.RECORD_AND_SAMPLE

    def _finished(self, span: SpanData) -> ReadableSpan:
        from opentelemetry import trace  # noqa: PLC0415 - already loaded by now
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - the same

        is_client = span.kind == "client"
        failed = span.status == "error"
        return ReadableSpan(
            name=span.name,
            context=_span_context(span.trace_id, span.span_id),
            parent=None
            if span.parent_span_id is None
            else _span_context(span.trace_id, span.parent_span_id, remote=is_client),
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=trace.SpanKind.CLIENT if is_client else trace.SpanKind.INTERNAL,
            status=trace.Status(
                trace.StatusCode.ERROR if failed else trace.StatusCode.UNSET
            ),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _span_context(
    trace_id: str, span_id: str, *, sampled: bool = True, remote: bool = False
) -> SpanContext:
    from opentelemetry import trace  # noqa: PLC0415 - already loaded by now

    flags = trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT
    return trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), remote, trace.TraceFlags(flags)
    )


# Where the SDK speaks of a collector that fails and of a queue that is full.
_SDK_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)

# What the SDK has said since it began to work for us; None where it does not.  Each
# thread has its own, so what it says of somebody else's spans is left alone.
_heard: ContextVar[list[str] | None] = ContextVar("_heard", default=None)


def _hold_back(record: logging.LogRecord) -> bool:
    heard = _heard.get()
    if heard is None:
        return True
    if record.levelno >= logging.WARNING:
        heard.append(record.getMessage())
    return False


@contextmanager
def _listening() -> Iterator[list[str]]:
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


class _Delivery:
    """An exporter round an exporter, which counts what arrives and keeps it quiet."""

    def __init__(self, exporter: SpanExporter, clock: Clock) -> None:
        self.is_over = False
        """Nothing is sent any more."""
        self._exporter = exporter
        self._clock = clock
        self._lock = threading.Lock()
        self._expected = 0
        self._delivered = 0
        self._complained_ns: int | None = None

    @property
    def missing(self) -> int:
        """Spans that were handed over and not delivered, or not yet."""
        with self._lock:
            return self._expected - self._delivered

    def expect(self, count: int) -> None:
        """Count spans that were handed over."""
        with self._lock:
            self._expected += count

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; what goes wrong is counted and never raised."""
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - already loaded
            SpanExportResult,
        )

        if self.is_over:
            return SpanExportResult.FAILURE
        with _listening() as heard:
            try:
                result = self._exporter.export(batch)
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises
                heard.append(type(error).__name__)
                result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            with self._lock:
                self._delivered += len(batch)
        elif not self.is_over:  # else `close` has told already
            self.complain(heard[0] if heard else "the exporter does not say why")
        return result

    def shutdown(self) -> None:
        """Let go of the connections."""
        with _listening(), suppress(Exception):  # nobody is left to be told
            self._exporter.shutdown()

    def complain(self, reason: str) -> None:
        """Log that spans are being lost, at most once a minute."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            since = self._complained_ns
            if since is not None and now_ns - since < _COMPLAINT_INTERVAL_NS:
                return
            self._complained_ns = now_ns
        _logger.warning(
            "Spans do not reach the collector (%s); recording goes on. "
            "Check OTEL_EXPORTER_OTLP_ENDPOINT.",
            # A query of the endpoint may be a key.
            clean(re.sub(r"\?\S*", "?…", reason)),
        )


def _endpoint(environ: Mapping[str, str]) -> str | None:
    """Return where spans go in full, or None."""
    if _setting(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    if _setting(environ, "OTEL_TRACES_EXPORTER").lower() == "none":
        return None
    # The one for traces is used as it is; the other is a base for all signals.
    name, path = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""
    if not _setting(environ, name):
        name, path = "OTEL_EXPORTER_OTLP_ENDPOINT", "/v1/traces"
    endpoint = _setting(environ, name)
    if not endpoint:
        return None
    if not re.match(r"https?://[^/?#]", endpoint, re.IGNORECASE):
        raise UsageError(
            f"{name} is not an http:// or https:// URL; "
            "set it to one such as http://127.0.0.1:4318."
        )
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = _setting(environ, name)
        if protocol == "http/protobuf":
            break
        if protocol:
            raise UsageError(
                f"{name} is {clean(protocol)!r}, but spans are sent as http/protobuf; "
                "set it to that, and the endpoint to the collector's HTTP port."
            )
    return endpoint.removesuffix("/") + path if path else endpoint


def _resource(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that the environment gives this process."""
    found: dict[str, str] = {}
    for pair in _setting(environ, "OTEL_RESOURCE_ATTRIBUTES").split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            found[name.strip()] = unquote(value.strip())
    if service := _setting(environ, "OTEL_SERVICE_NAME"):
        found[semconv.SERVICE_NAME] = service
    return found


def _sampler(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler that the environment names.

    The SDK has the same table, but private, and reads the process's environment.
    """
    from opentelemetry.sdk.trace import sampling  # noqa: PLC0415 - costs 90 ms

    name = _setting(environ, "OTEL_TRACES_SAMPLER").lower() or "parentbased_always_on"
    argument = _setting(environ, "OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        match name:
            case "always_on":
                return sampling.ALWAYS_ON
            case "always_off":
                return sampling.ALWAYS_OFF
            case "parentbased_always_on":
                return sampling.DEFAULT_ON
            case "parentbased_always_off":
                return sampling.DEFAULT_OFF
            case "traceidratio":
                return sampling.TraceIdRatioBased(float(argument))
            case "parentbased_traceidratio":
                return sampling.ParentBasedTraceIdRatio(float(argument))
            case _:
                raise UsageError(
                    f"OTEL_TRACES_SAMPLER is {clean(name)!r}, which is no sampler; set "
                    "it to [parentbased_]always_on, always_off or traceidratio."
                )
    except ValueError:
        raise UsageError(
            f"OTEL_TRACES_SAMPLER_ARG is {clean(argument)!r}; "
            "set it to a number from 0 to 1."
        ) from None


def _setting(environ: Mapping[str, str], name: str) -> str:
    """Return a variable; an empty one counts as not set, as the specification says."""
    return environ.get(name, "").strip()
