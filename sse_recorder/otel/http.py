"""HTTP spans, where they are asked for: the request on both sides of the recorder.

    POST               server   from the request's head to the end of its response
    └─ invoke_agent    client   the exchange, as always
       └─ POST         client   the same request, as it went upstream

What was recorded within its client has the last of them alone.

The span upstream ends with the last byte of the body.  What the conventions call an
error differs between the two: a client's 4xx is one to the client alone.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus

from sse_recorder import semconv
from sse_recorder.exchange import Exchange, Outcome
from sse_recorder.otel.data import SpanData, Value, clean, mode_of, present
from sse_recorder.trace import derive_span_id

_OF_HTTP = (
    semconv.URL_FULL,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
    semconv.HTTP_REQUEST_METHOD,
    semconv.HTTP_RESPONSE_STATUS_CODE,
    semconv.NETWORK_PROTOCOL_VERSION,
    semconv.EXCHANGE_ID,
    semconv.ERROR_TYPE,
)


def with_http_spans(
    exchange: Exchange, found: list[SpanData], name: str, end_ns: int
) -> list[SpanData]:
    """Return the spans of an exchange with those of its request around and below.

    Args:
        exchange: its row.
        found: its own span, and those of its tools.
        name: of spans of its method.
        end_ns: when the last byte came, as an offset from t0.
    """
    root, *tools = found
    if mode_of(exchange.tags) == semconv.CLIENT:  # which is nobody's server
        around = [root, *tools]
    else:
        server = _server(exchange, root, name, end_ns)
        own = replace(root, parent_span_id=server.span_id, has_remote_parent=False)
        around = [own, *tools, server]
    if semconv.GEN_AI_OPERATION_NAME in root.attributes or name != root.name:
        around.append(_client(exchange, root, name, end_ns))
    return around


def _server(exchange: Exchange, root: SpanData, name: str, end_ns: int) -> SpanData:
    status = _answered(exchange)
    error = str(status) if (status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR else None
    if exchange.outcome is Outcome.CLIENT_ABORT:
        error = semconv.CLIENT_DISCONNECTED
    found: dict[str, Value | None] = {
        semconv.HTTP_REQUEST_METHOD: root.attributes[semconv.HTTP_REQUEST_METHOD],
        semconv.HTTP_RESPONSE_STATUS_CODE: status,
        semconv.URL_PATH: clean(exchange.received_path or exchange.path),
        semconv.URL_SCHEME: "http",
        semconv.MODE: semconv.PROXY,
        semconv.EXCHANGE_ID: exchange.exchange_id,
        semconv.ERROR_TYPE: error,
    }
    return replace(
        root,
        name=name,
        kind="server",
        span_id=derive_span_id(exchange.exchange_id, "server"),
        end_ns=root.start_ns + end_ns,
        attributes=present(found),
    )


def _answered(exchange: Exchange) -> int | None:
    """Return the status that the client got: ours, where the upstream gave none."""
    if exchange.status is not None:
        return exchange.status
    match exchange.outcome:
        case Outcome.UPSTREAM_ERROR:
            return HTTPStatus.BAD_GATEWAY.value
        case Outcome.TIMEOUT:
            return HTTPStatus.GATEWAY_TIMEOUT.value
        case _:
            return None


def _client(exchange: Exchange, root: SpanData, name: str, end_ns: int) -> SpanData:
    known = {key: root.attributes.get(key) for key in _OF_HTTP}
    return replace(
        root,
        name=name,
        span_id=derive_span_id(exchange.exchange_id, "http"),
        parent_span_id=root.span_id,
        has_remote_parent=False,
        end_ns=root.start_ns + end_ns,
        attributes=present(known),
    )
