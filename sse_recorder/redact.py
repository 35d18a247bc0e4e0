"""Masking secrets before anything reaches the disk.

A recording is made to be kept, shown and committed, so what gives access must not be
in it.  A `Redactor` takes a head and returns one without secrets; the writer calls it
before the first byte goes to the journal, and the replayer calls the same one on a live
request before it is matched.  Masking a masked head changes nothing.

Rules
-----
1. A name decides, never a value.  Names of headers and of query parameters are cut into
   words at every character that is not a letter and where camel case begins a new word;
   one word that means a secret is enough (`_SECRET_WORDS`, `_SECRET_ENDINGS`).  So
   `Meibel-API-Key`, `x-amz-security-token`, `accessToken` and `X-Goog-Signature` need
   no list of vendors.
2. Names that only sound secret stay (`_PUBLIC_NAMES`, `_COUNTING_WORDS`).  The plural
   `tokens` is never a secret: it counts what a model reads and writes, in
   `x-ratelimit-remaining-tokens` as in `max_tokens`.  `mcp-session-id` stays because
   people look recordings up by it.
3. Every secret becomes the same word, `[redacted]`.  A hash would tell equal secrets
   from different ones, but a short password can be guessed from a plain hash, and a
   salted one is different in every process.  Above all, who replays has other
   credentials than who recorded, often dummy ones: what takes part in matching must be
   equal for all of them, and that is a constant.
4. What is around a secret stays: the scheme (`Bearer [redacted]`), the names of
   cookies, the attributes of Set-Cookie, every other parameter of a query.
5. Credentials in a URL (`https://user:pass@host`) become `redacted@`, without brackets,
   because brackets there mean an IPv6 address and URL parsers reject anything else.
   A user name alone may be a token, so it goes too.
6. URLs inside of other headers (`Location`, `Referer`, `Link`) obey the same rules.
7. In doubt about where a secret ends, more is masked: half a secret is a leak.

Not masked: secrets in the path of a URL, and URLs that are percent-encoded into the
value of another URL.  `Redactor(mask=…)` adds names, `Redactor(keep=…)` takes some out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from sse_recorder.exchange import Headers, RequestHead, ResponseHead

PLACEHOLDER = "[redacted]"
"""What stands for a secret, whatever it was."""

_USERINFO_PLACEHOLDER = "redacted@"

_SECRET_WORDS = frozenset(
    {"auth", "authorization", "bearer", "cookie", "dpop", "jwt", "key", "otp"}
    | {"pass", "pwd", "sig"}
)

# Words that people also write without a separator, as in `accesstoken`.  `key` is not
# among them: a `monkey` is no secret.
_SECRET_ENDINGS = (
    *("accesskey", "apikey", "authkey", "privatekey", "secretkey"),
    *("credential", "credentials", "passcode", "passphrase", "passwd", "password"),
    *("secret", "signature", "token"),
)

_PUBLIC_NAMES = frozenset(
    # Tells a retry from a new request, which is worth seeing in a recording.  It opens
    # nothing without the credentials of the one who sent it.
    {"idempotency-key", "x-idempotency-key"}
    # A nonce against caches (RFC 6455 section 11.3.1), not a key of anything.
    | {"sec-websocket-key"}
    # Names of cached and stored things.
    | {"cache-key", "x-cache-key", "surrogate-key", "partition-key", "sort-key"}
    # Places in a list.  Masked, all pages of a list would be the same request.
    | {"page-token", "next-page-token", "next-token", "continuation-token"}
    | {"pagetoken", "nextpagetoken", "nexttoken", "continuationtoken"}
)

_COUNTING_WORDS = frozenset({"count", "limit", "max", "ratelimit", "usage"})

# A query parameter of exactly this name is an OAuth authorization code or the key of an
# Azure function.  As one word among others (`error_code`, `country-code`) it is not.
_SECRET_PARAMETERS = frozenset({"code"})

# https://www.iana.org/assignments/http-authschemes and what APIs add to it.  An unknown
# first word is masked with the rest, because it may be the secret's own first word.
_SCHEMES = frozenset(
    {"basic", "bearer", "concealed", "digest", "dpop", "gnap", "hoba", "mutual"}
    | {"negotiate", "oauth", "privatetoken", "scram-sha-1", "scram-sha-256", "vapid"}
    | {"apikey", "aws4-hmac-sha256", "hawk", "key", "ntlm", "sharedkey", "signature"}
    | {"token"}
)

_COOKIE_ATTRIBUTES = frozenset(
    {"domain", "expires", "httponly", "max-age", "partitioned", "path", "priority"}
    | {"samesite", "secure"}
)

_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PLAIN = re.compile(r"[a-z]+")
_ESCAPE = re.compile(r"%([2-7][0-9A-Fa-f])")
_OUTSIDE_ANGLES = re.compile(r"[^<>]+")  # Link: <URL>; rel="next", <URL>; …
_USERINFO = re.compile(r"(?<=://)[^/?#\\\s]*@")
_QUERY = re.compile(r"[?#]")
# Where a name may begin inside of one `&`-separated piece of a query: at its start, and
# after what some servers also separate with, or a nested URL or a fragment begins with.
_NAME = re.compile(r"(?:^|[?#;])([^=?#;]*)=")


def _normal_forms(name: str) -> tuple[str, str]:
    # Camel case is a hint in a query and chance in a header, whose case means nothing:
    # a name is read both ways, and either is enough to mask or to keep it.
    plain = "-".join(_PLAIN.findall(name.lower()))
    return plain, "-".join(_CAMEL.findall(name)).lower()


def _sounds_secret(forms: tuple[str, str]) -> bool:
    words = {word for form in forms for word in form.split("-")}
    if not _PUBLIC_NAMES.isdisjoint(forms) or not _COUNTING_WORDS.isdisjoint(words):
        return False
    return not _SECRET_WORDS.isdisjoint(words) or any(
        word.endswith(_SECRET_ENDINGS) for word in words
    )


def _credentials(value: str) -> str:
    scheme, space, _ = value.strip().partition(" ")
    if space and scheme.lower() in _SCHEMES:
        return f"{scheme} {PLACEHOLDER}"
    return PLACEHOLDER


def _cookie(part: str) -> str:
    name, equals, _ = part.partition("=")
    if equals:
        return f"{name}={PLACEHOLDER}"
    # A cookie without a name: what is there is its value.
    space = name[: len(name) - len(name.lstrip())]
    return f"{space}{PLACEHOLDER}" if name.strip() else part


def _cookie_attribute(part: str) -> str:
    name, _, value = part.partition("=")
    # A second `=` is a second cookie that a gateway folded into this line.
    known = name.strip().lower() in _COOKIE_ATTRIBUTES and "=" not in value
    return part if known else _cookie(part)


def _set_cookie(value: str) -> str:
    first, *attributes = value.split(";")
    return ";".join([_cookie(first), *map(_cookie_attribute, attributes)])


class BodyMask:
    """Masks one body while it streams by; for now it masks nothing.

    This is the place for it: every byte of a body passes here, in order, before it
    reaches the journal.  What will be masked keeps its length, so that sizes and
    offsets stay true, and `feed` may hold bytes back that could be the start of a
    secret; `flush` gives what is still held when the body ends.
    """

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that are safe to keep."""
        return data

    def flush(self) -> bytes:
        """Return the bytes held back; the body is over."""
        return b""


class Redactor:
    """Masks the heads of exchanges.

    Args:
        enabled: False to record secrets as they are.
        mask: more names of headers and query parameters that are secrets.
        keep: names that are not, whatever the rules say; they win over `mask`.
            Case does not matter in either, nor does `_` for `-`.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        mask: Iterable[str] = (),
        keep: Iterable[str] = (),
    ) -> None:
        self._enabled = enabled
        self._mask = frozenset(map(self._folded, mask))
        self._keep = frozenset(map(self._folded, keep))

    def request_head(self, head: RequestHead) -> RequestHead:
        """Return the head without the secrets of its target and headers."""
        target, headers = self.url(head.target), self.headers(head.headers)
        return replace(head, target=target, headers=headers)

    def response_head(self, head: ResponseHead) -> ResponseHead:
        """Return the head without the secrets of its headers."""
        return replace(head, headers=self.headers(head.headers))

    def headers(self, headers: Headers) -> Headers:
        """Return headers or trailers without secrets, in their order."""
        if not self._enabled:
            return headers
        return tuple((name, self._value(name, value)) for name, value in headers)

    def url(self, url: str) -> str:
        """Return a URL or a request target without secrets."""
        if not self._enabled:
            return url
        start = _QUERY.search(url)
        if start is None:
            return _USERINFO.sub(_USERINFO_PLACEHOLDER, url)
        base, mark, query = url[: start.start()], start.group(), url[start.end() :]
        pieces = [self._piece(piece) for piece in query.split("&")]
        return _USERINFO.sub(_USERINFO_PLACEHOLDER, base) + mark + "&".join(pieces)

    def body(self, exchange_id: str) -> BodyMask:  # noqa: ARG002 - state is per exchange
        """Return the mask for one body of an exchange."""
        return BodyMask()

    def _value(self, name: str, value: str) -> str:
        folded = self._folded(name)
        if self._is_secret(name):
            if folded == "cookie":
                return ";".join(map(_cookie, value.split(";")))
            if folded == "set-cookie":
                return _set_cookie(value)
            return _credentials(value)
        return _OUTSIDE_ANGLES.sub(lambda text: self.url(text.group()), value)

    def _piece(self, piece: str) -> str:
        piece = _USERINFO.sub(_USERINFO_PLACEHOLDER, piece)
        for found in _NAME.finditer(piece):
            # Only escapes of ASCII matter: the words that mean a secret are ASCII.
            name = _ESCAPE.sub(lambda hexes: chr(int(hexes.group(1), 16)), found[1])
            # The secret reaches to the end of the piece: it may contain any of the
            # other separators, and half a secret is a leak.
            if self._is_secret(name, parameter=True):
                return piece[: found.end()] + PLACEHOLDER
        return piece

    def _is_secret(self, name: str, *, parameter: bool = False) -> bool:
        folded = self._folded(name)
        if folded in self._keep:
            return False
        if folded in self._mask or (parameter and folded in _SECRET_PARAMETERS):
            return True
        return _sounds_secret(_normal_forms(name))

    @staticmethod
    def _folded(name: str) -> str:
        return name.strip().lower().replace("_", "-")
