"""Which requests are refused, and with what answer.

A request that two servers could read in two ways is how one client's bytes become
another one's request (RFC 9112 section 11): it is answered here and never passed on,
and its connection is closed, because nobody can tell where the next request begins.
llhttp refuses most of it by itself (both framings in one request, two lengths, folded
lines, bare line feeds); `check_request` adds what it lets pass.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from sse_recorder.exchange import Headers, RequestHead, header
from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.response import ResponseStream

# `uri-host [ ":" port ]`, without the commas that RFC 3986 allows in names: they are
# what two Host headers look like when somebody joined them.
_HOST: Final = re.compile(
    r"(\[[0-9A-Za-z:.]+\]|[A-Za-z0-9\-._~!$&'()*+;=%]*)(:[0-9]*)?"
)
METHODS: Final = (
    *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
    *("COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK"),
    *("BIND", "REBIND", "UNBIND", "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE"),
    *("M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR"),
    *("LINK", "UNLINK", "SOURCE", "QUERY"),
)
"""Those that llhttp knows."""
_REQUEST_LINE: Final = re.compile(
    rb"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) [!-~]+ HTTP/1\.[01]\r?$", re.MULTILINE
)
_NEVER_TRAILERS: Final = frozenset(
    {"connection", "content-length", "host", "transfer-encoding"}
)


KINDS: Final = (
    *("bad_request", "headers_too_large", "request_timeout", "too_many_connections"),
    *("http_version_not_supported", "not_implemented", "internal_error"),
)
"""What the types of these errors are."""


class Refusal(Exception):  # noqa: N818 - an answer, raised through the parser
    """Why we answer a request ourselves."""

    def __init__(
        self, status: int, kind: str, message: str, headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.headers = headers


def malformed(reason: str) -> Refusal:
    """Return the answer to what is not HTTP/1.1."""
    return Refusal(
        400, "bad_request", f"The request is not valid HTTP/1.1: {reason.rstrip('.')}."
    )


def unknown_method(data: bytes) -> Refusal:
    """Return the answer to what does not begin with a method that is known.

    "An origin server that receives a request method that is unrecognized or not
    implemented SHOULD respond with the 501" (RFC 9110 section 9.1); what is no request
    at all is malformed.
    """
    for line in _REQUEST_LINE.finditer(data):
        method = line[1].decode()
        if method not in METHODS:
            known = ", ".join(m for m in METHODS if m != "CONNECT")
            return Refusal(
                501,
                "not_implemented",
                f"The method {method} is not supported: those that are known are"
                f" {known}.",
            )
    return malformed("it does not begin with a method that is known")


def failed() -> Refusal:
    """Return the answer when it is our fault."""
    return Refusal(500, "internal_error", "The server failed: its log tells why.")


def check_request(head: RequestHead) -> None:
    """Refuse the malformed requests that llhttp lets pass.

    Raises:
        Refusal: with the answer.
    """
    if head.http_version not in {"1.0", "1.1"}:
        raise Refusal(
            505,
            "http_version_not_supported",
            f"HTTP/{head.http_version} is not spoken here: send HTTP/1.1.",
        )
    if head.target == "*" and head.method != "OPTIONS":
        raise malformed("the target * is for OPTIONS alone")
    # "A server MUST respond with a 400 status code to any HTTP/1.1 request message that
    # lacks a Host header field and to any request message that contains more than one
    # Host header field line or a Host header field with an invalid field value"
    # (RFC 9112 section 3.2).
    hosts = [value for name, value in head.headers if name.lower() == "host"]
    if len(hosts) > 1 or (not hosts and head.http_version == "1.1"):
        raise malformed(f"it has {len(hosts)} Host headers, and needs one")
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise malformed("its Host is not one host, with or without a port")
    _check_framing(head)


def _check_framing(head: RequestHead) -> None:
    length = header(head.headers, "content-length")
    if length is not None and len(length) > 1 and length.startswith("0"):
        # The grammar allows it; who reads numbers as C does takes it for an octal one.
        raise malformed("its Content-Length begins with 0")
    codings = [v for name, v in head.headers if name.lower() == "transfer-encoding"]
    if not codings:
        return
    # "A server or client that receives an HTTP/1.0 message containing a
    # Transfer-Encoding header field MUST treat the message as if the framing is faulty"
    # (6.1).
    if head.http_version == "1.0":
        raise malformed("HTTP/1.0 knows no Transfer-Encoding")
    # "A server that receives a request message with a transfer coding it does not
    # understand SHOULD respond with 501" (6.1).  Nobody but an attacker sends others.
    if [value.lower() for value in codings] != ["chunked"]:
        raise Refusal(
            501,
            "not_implemented",
            "Transfer codings other than chunked are not supported: send the body"
            " chunked or with its length.",
        )


def check_trailers(trailers: Headers) -> None:
    """Refuse trailers that would frame or route, were they merged into the head.

    Raises:
        Refusal: with the answer.
    """
    for name, _ in trailers:
        if name.lower() in _NEVER_TRAILERS:
            raise malformed(f"its trailers hold {name}")


def too_large(limits: Limits) -> Refusal:
    """Return the answer to a head beyond the limits."""
    return Refusal(
        431,
        "headers_too_large",
        f"The headers are more than {limits.headers} or larger than"
        f" {limits.head_bytes} bytes: send fewer or shorter ones.",
    )


def too_slow(limits: Limits) -> Refusal:
    """Return the answer to a head that takes too long."""
    return Refusal(
        408,
        "request_timeout",
        f"The request's head was not complete within {limits.head_timeout_s:g} s.",
    )


def too_many(limit: int) -> Refusal:
    """Return the answer to a connection for which there is no room."""
    return Refusal(
        503,
        "too_many_connections",
        f"{limit} connections are open, and more are not served: try again soon.",
        (("Retry-After", "1"),),
    )


def send_refusal(stream: ResponseStream, refusal: Refusal) -> None:
    """Answer, and say that nothing more is answered on this connection."""
    headers = (*refusal.headers, ("Connection", "close"))
    status = HTTPStatus(refusal.status)
    send_json_error(stream, status, refusal.kind, refusal.message, headers)
