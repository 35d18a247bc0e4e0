"""What of a recording can be sent again, and what is sent of it.

The method, the path and the query as they were sent upstream (`exchanges.path`), behind
the path of the target's URL; the body; and the headers in their order, but for those of
the connection, of the framing and of tracing, which belong to the first time.

Masks are never sent.  A header that has one is left out unless its value is given anew.
A body or a query with one cannot be sent truthfully, and neither can a request that was
not recorded whole: these are skipped, with the reason.  A mask in a body is known by
this: put something else in the place of its stars and it would be masked again.

What a pattern of the user's has masked is not known by that, for nobody can tell what
the pattern would match.  So where there are such patterns, a body of text with a star
is skipped, whatever the star is.  Where the recordings were made with a pattern that is
not given here, nothing tells that its stars are masks, and they are sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sse_recorder.errors import UsageError
from sse_recorder.exchange import (
    Exchange,
    Headers,
    Outcome,
    RequestHead,
    header,
)
from sse_recorder.http1 import framing
from sse_recorder.redact import PLACEHOLDER, BodyMask, Redactor

if TYPE_CHECKING:
    import httpx

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_MASKED_URL: Final = "://redacted@"
# Of the connection, of the framing, of a server that was asked whether to go on, and of
# traces that are over.
_OF_THE_FIRST_TIME: Final = frozenset(
    {"connection", "te", "host", "content-length", "transfer-encoding", "expect"}
    | {"traceparent", "tracestate"}
)
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
# Headers that say how to read a message: masked, nobody could read the recording.
_NEVER_SECRET: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "user-agent"}
    | {"content-encoding"}
)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_STARS: Final = re.compile(rb"\*+")
_NINES: Final = re.compile(rb'(?<=[:,\[\s])"?-?9+"?(?=\s*[,}\]\s])')
_MASKED_JWT: Final = re.compile(rb"\beyJ\*{10,}")
# A mask may stand for letters of any case, and for hexadecimal digits.
_FILLINGS: Final = (b"A1", b"a1")
_FILL: Final = b"*9/\\-"
_SECRET_MIN: Final = 8


class Given:
    """Headers that are given anew, in place of those that were recorded.

    Args:
        lines: `Name: value`; `Name:` leaves one out, `Name;` has no value.
        keys: values for headers that were masked, by their names in lower case; they
            take the place of the mask, behind the scheme.

    Raises:
        UsageError: a line is no header, or one that is not for a user to give.
    """

    def __init__(
        self, lines: Iterable[str] = (), keys: Mapping[str, str] = _NOTHING
    ) -> None:
        parsed = [_parsed(line) for line in lines]
        self.names = frozenset(name.lower() for name, _ in parsed)
        self.headers: Headers = tuple((n, v) for n, v in parsed if v is not None)
        self.keys = keys
        if "host" in self.names:
            raise UsageError("Host is the URL's: put the host that you mean into --to")
        if framed := self.names & _FRAMING:
            raise UsageError(f"{min(framed)} is set by the body: leave it away")

    def over(self, recorded: Headers, left_out: Callable[[str], object]) -> Headers:
        """Return the headers that are sent in place of recorded ones.

        Args:
            recorded: those.
            left_out: is told the name of each that is masked and was not given.
        """
        sent: list[tuple[str, str]] = []
        for name, value in framing.end_to_end(recorded):
            lower = name.lower()
            # HTTP/2 has the request line among the headers, behind colons.
            if lower in self.names | _OF_THE_FIRST_TIME or lower.startswith(":"):
                continue
            if PLACEHOLDER not in value and _MASKED_URL not in value:
                sent.append((name, value))
            elif lower in self.keys and value.endswith(PLACEHOLDER):
                before = value.removesuffix(PLACEHOLDER)
                sent.append((name, before + self.keys[lower]))
            else:
                left_out(name)
        return (*sent, *self.headers)

    def redactor(self, **rules: Any) -> Redactor:
        """Return what masks the new recordings: what was given is a secret, too.

        Args:
            rules: of the `Redactor`; names to `keep` are no secrets.
        """
        keep = {name.lower() for name in rules.get("keep", ())}
        names = self.names - _NEVER_SECRET - keep
        plain = Redactor(**rules)
        # What a server repeats of a credential is one, too.  Other headers may hold
        # words that are in every answer.
        secrets = {
            value.split()[-1]
            for name, value in self.headers
            if value and PLACEHOLDER in plain.headers(((name, value),))[0][1]
        } | set(self.keys.values())
        patterns = [re.escape(s) for s in sorted(secrets) if len(s) >= _SECRET_MIN]
        rules["patterns"] = (*rules.get("patterns", ()), *patterns)
        return _Redactor(names, len(patterns), **rules)


class _Redactor(Redactor):
    """A redactor that knows more headers that are secret, and no more fields."""

    def __init__(self, names: frozenset[str], given: int, **rules: Any) -> None:
        super().__init__(**rules)
        self._names = names
        self.given = given
        """How many of its patterns are for what was given, and masked nothing yet."""

    def headers(self, headers: Headers) -> Headers:
        return tuple(
            (name, PLACEHOLDER)
            if name.lower() in self._names and PLACEHOLDER not in value
            else (name, value)
            for name, value in super().headers(headers)
        )


def _parsed(line: str) -> tuple[str, str | None]:
    """Read a header as curl does."""
    name, colon, value = line.partition(":")
    name, value = name.strip(), value.strip()
    if not colon and name.endswith(";"):
        name, value = name[:-1].strip(), ""
    elif not value:
        return _checked(line, name if colon else "", ""), None
    return _checked(line, name, value), value


def _checked(line: str, name: str, value: str) -> str:
    # What is in the message may be a secret that was typed without its name.
    is_latin = value.isascii() or all(ord(c) < 0x100 for c in value)  # noqa: PLR2004
    if not _TOKEN.fullmatch(name) or _CONTROL.search(value) or not is_latin:
        shown = line if ":" not in line else f"{line.partition(':')[0]}: …"
        raise UsageError(f"{shown!r} is not a header: give one as 'Name: value'")
    return name


# --- what can be sent -----------------------------------------------------------------


class Skip(NamedTuple):
    """A recorded request that is not sent."""

    exchange: Exchange
    reason: str


class Job(NamedTuple):
    """A recorded request that is sent."""

    exchange: Exchange
    """Without its request's body."""
    headers: Headers
    target: str
    body_at: int
    """Where its body is in the file."""

    def request(
        self, url: str, body: bytes, extensions: Mapping[str, Any]
    ) -> httpx.Request:
        """Return it as the library takes it.

        Args:
            url: with the target, for the library to find the server by.
            body: its own.
            extensions: of the library's.
        """
        import httpx  # noqa: PLC0415 - costs every other command 150 ms

        target = self.target.encode("latin-1")
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in self.headers]
        request = httpx.Request(
            self.exchange.method,
            url,
            headers=headers,
            content=body,
            # The library would write the URL's path in its own way.
            extensions={**extensions, "target": target},
        )
        request.method = self.exchange.method  # in its own case
        return request

    def wrong(self, url: str) -> str | None:
        """Return why the library takes it for no request, if it does."""
        import httpx  # noqa: PLC0415 - as above

        if wrong := [n for n, _ in self.headers if not _TOKEN.fullmatch(n)]:
            return f"it cannot be sent ({wrong[0]!r} is not the name of a header)"
        try:
            framing.encode_request(
                RequestHead(self.exchange.method, self.target, self.headers)
            )
            self.request(url, b"", {})
        except (httpx.InvalidURL, UsageError, UnicodeError) as error:
            return f"it cannot be sent ({error})"
        return None


def unsendable(exchange: Exchange, redactor: Redactor) -> str | None:
    """Return why a recorded request cannot be sent truthfully, if it cannot.

    Args:
        exchange: with its request's body.
        redactor: what masked it.
    """
    headers, body = exchange.request_headers, exchange.request_body
    if exchange.outcome is None:
        return "it was still open when it was read"
    if exchange.outcome is Outcome.INCOMPLETE:
        return "it was not recorded whole"
    length = header(headers, "content-length")
    is_short = length is not None and length.strip() != str(len(body))
    # Without a length, only the end of a body tells that it was all of it.
    is_open = framing.is_chunked(headers) and exchange.sent_ns is None
    if is_short or is_open or exchange.request_body_size != len(body):
        return "its body was not recorded whole"
    target = exchange.target
    if PLACEHOLDER in target or _MASKED_URL in target:
        return "its query holds a secret that was masked"
    if _is_masked(exchange, redactor):
        return "its body holds a secret that was masked"
    if _may_be_masked(exchange, redactor):
        return "its body may hold a secret that --redact-pattern masked"
    return None


def _is_masked(exchange: Exchange, redactor: Redactor) -> bool:
    """Return whether there are masks in a request's body."""
    body, headers = exchange.request_body, exchange.request_headers
    if header(headers, "content-encoding"):
        return False  # in these nothing can be masked, and they are cut instead
    head = RequestHead(exchange.method, exchange.target, headers)
    if _MASKED_JWT.search(body):
        return True
    others: list[bytes] = []
    if b"*" in body:
        others += [_STARS.sub(partial(_filled, filling), body) for filling in _FILLINGS]
    if _NINES.search(body):
        others.append(_NINES.sub(lambda nines: nines[0].replace(b"9", b"8"), body))
    return any(_masks_again(redactor, head, body, other) for other in others)


def _may_be_masked(exchange: Exchange, redactor: Redactor) -> bool:
    """Return whether a star in a request's body may be of a user's pattern."""
    given = redactor.given if isinstance(redactor, _Redactor) else 0
    headers = exchange.request_headers
    if len(redactor.patterns) == given or header(headers, "content-encoding"):
        return False
    head = RequestHead(exchange.method, exchange.target, headers)
    is_text = type(redactor.body(head)) is not BodyMask  # the one that masks nothing
    return is_text and b"*" in exchange.request_body


def _filled(filling: bytes, stars: re.Match[bytes]) -> bytes:
    size = len(stars[0])
    return (filling * (size // 2 + 1))[:size]


def _masks_again(
    redactor: Redactor, head: RequestHead, body: bytes, other: bytes
) -> bool:
    """Return whether in the other body something is masked that is a mask in this."""
    found: list[tuple[int, int]] = []
    mask = redactor.body(head, lambda at, data, _: found.append((at, at + len(data))))
    mask.feed(0, other)
    mask.flush()
    return any(
        body[start:end] != other[start:end] and not body[start:end].strip(_FILL)
        for start, end in found
    )
