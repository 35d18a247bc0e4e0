"""Masking secrets before anything reaches the disk.

A recording is made to be kept, shown and committed, so what gives access must not be
in it.  A `Redactor` takes a head and returns one without secrets, and gives each body a
mask to stream through; the writer calls it before the first byte goes to the journal,
and the replayer calls the same one on a live request before it is matched.  Masking
what is masked changes nothing.

Rules for heads
---------------
1. A name decides, and no value but one that is a secret wherever it stands (8).  Names
   of headers and of query parameters are cut into words at every character that is not
   a letter and where camel case begins a new word; one word that means a secret is
   enough (`_SECRET_WORDS`, `_SECRET_ENDINGS`).  So `Meibel-API-Key`,
   `x-amz-security-token`, `accessToken` and `X-Goog-Signature` need no list of vendors.
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
8. What looks like a secret in any text (`sse_recorder.credentials`) is one in the
   values of headers and parameters, too, also where `%2D` stands for `-`.  It becomes
   the same word, behind the prefix that says whose it is: `sk-ant-[redacted]`.

Bodies
------
Their length must stay, so secrets are overwritten, and as they have no names but in
JSON and in forms, values decide too: see `sse_recorder.credentials` for what a secret
looks like and `sse_recorder.masking` for how a body is followed.  Names of fields obey
stricter rules than those of headers: the word that means a secret is the last one, and
`key`, `token` and `signature` alone mean none, because models write tokens and sign
their thoughts (`_ends_secret`).  An object below a secret name stays, as the schemas of
tools have a property `api_key` too; strings and numbers go, and lists of strings.
Media types that are no text pass as they are.

Of a body that is content-coded no byte can be overwritten.  Its text is looked through
by the same rules, and from the first secret on it is not kept at all: its mask raises
`UnmaskableError`, and the exchange is incomplete.  What cannot be decoded cannot be
shown in frames either, and passes as it is.

Not masked: secrets in the path of a URL, and URLs that are percent-encoded into the
value of another URL.  `Redactor(mask=…)` adds names, `Redactor(keep=…)` takes some out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import accumulate

from sse_recorder import coding
from sse_recorder.credentials import (
    FormRules,
    MultipartRules,
    Rules,
    is_suspicious,
)
from sse_recorder.exchange import (
    Headers,
    RequestHead,
    ResponseHead,
    header,
    media_type,
)
from sse_recorder.masking import (
    BodyMask,
    CodedMask,
    EventMask,
    LineMask,
    Report,
    TextMask,
    UnmaskableError,
)

__all__ = ["PLACEHOLDER", "BodyMask", "Redactor"]

PLACEHOLDER = "[redacted]"
"""What stands for a secret, whatever it was."""

_USERINFO_PLACEHOLDER = "redacted@"

_SECRET_WORDS = frozenset(
    {"auth", "authentication", "authorization", "bearer", "cookie", "dpop", "jwt"}
    | {"key", "otp", "pass", "pwd", "sig"}
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

# What makes a `key` in JSON a secret.  Alone it is one half of a pair, as `token` alone
# is what models write.
_SECRET_KEYS = frozenset(
    {"access", "account", "admin", "api", "app", "auth", "client", "consumer", "deploy"}
    | {"encryption", "function", "functions", "host", "license", "master", "private"}
    | {"root", "secret", "service", "shared", "signing", "ssh", "storage"}
    | {"subscription", "user", "webhook"}
)
# What a token is a token of, when it opens nothing: places in lists and in streams,
# pieces of text, and what they cost.
_PUBLIC_TOKENS = frozenset(
    {"page", "next", "previous", "prev", "continuation", "cursor", "sync", "progress"}
    | {"resumption", "resume", "bos", "eos", "pad", "unk", "sep", "mask", "cls", "stop"}
    | {"special", "first", "last", "start", "end", "per", "image", "audio", "video"}
    | {"text", "input", "output", "total", "cached", "min", "top", "prompt", "by"}
    | {"completion", "reasoning", "thought", "tool", "draft", "raw", "word", "sub"}
    | {"new", "current", "each", "separator", "finish", "generated", "decoded", "to"}
)
# Whose `auth` or `pass` it is, when it is no count of what passed.
_LOGINS = frozenset(
    {"", "admin", "app", "basic", "db", "database", "email", "ftp", "http", "ldap"}
    | {"login", "mail", "mongo", "mysql", "pg", "postgres", "proxy", "redis", "root"}
    | {"service", "sftp", "smtp", "ssh", "sudo", "user", "vpn", "x"}
)
_SECRET_FIELD_WORDS = frozenset(
    {"authorization", "bearer", "cookie", "jwt", "otp", "pwd", "passwd", "password"}
    | {"passphrase", "passcode", "secret", "credential", "credentials"}
)
_SECRET_FIELD_ENDINGS = (
    *("accesskey", "apikey", "authkey", "privatekey", "secretkey", "passphrase"),
    *("password", "passwd", "secret", "accesstoken", "refreshtoken", "authtoken"),
    *("idtoken", "sessiontoken", "bearertoken", "apitoken", "securitytoken"),
)
# What may follow the word that means a secret.
_FORM_WORDS = frozenset({"base", "hash", "hashed", "plain", "text", "value", "string"})

# Subtypes of `application/` that are text.
_TEXT_TYPES = frozenset(
    {"json", "jsonl", "ndjson", "json-seq", "xml", "yaml", "yml", "toml", "graphql"}
    | {"jsonlines", "json-lines"}
    | {"www-form-urlencoded"}
    | {"javascript", "ecmascript", "sql", "sh", "httpd-php", "jwt", "pem-file"}
)

# A JSON value on each line.
_LINE_TYPES = frozenset(
    f"application/{name}"
    for name in (
        *("ndjson", "jsonl", "jsonlines", "json-lines", "stream+json"),
        *("x-ndjson", "x-jsonl", "x-jsonlines", "x-json-lines"),
    )
)

_ASK_UNCODED = "ask for it uncoded (Accept-Encoding: identity)"
_SEND_UNCODED = "send it uncoded"

_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PLAIN = re.compile(r"[a-z]+")
_ESCAPE = re.compile(r"%([2-7][0-9A-Fa-f])")
# What needs a closer look only for the secrets that `is_suspicious` knows.
_UNMARKED = re.compile(r"[ !#$&-\[\]-~]*")
_SETTLED_AFTER = 8
_CHARACTER = re.compile(rb"%[2-7][0-9A-Fa-f]|[^%]|%", re.DOTALL)
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


def _sounds_secret_in_json(forms: tuple[str, str]) -> bool:
    if not _PUBLIC_NAMES.isdisjoint(forms):
        return False
    return any(_ends_secret(form.split("-")) for form in forms)


def _ends_secret(words: list[str]) -> bool:
    while len(words) > 1 and (words[-1] in _FORM_WORDS or len(words[-1]) == 1):
        words = words[:-1]
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "key":
        return before in _SECRET_KEYS
    if last == "token":
        return bool(before) and before not in _PUBLIC_TOKENS
    if last in {"auth", "pass"}:
        return before in _LOGINS
    return last in _SECRET_FIELD_WORDS or last.endswith(_SECRET_FIELD_ENDINGS)


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


def _is_text(kind: str) -> bool:
    """Return whether a media type is text, as far as one can tell."""
    return (
        not kind
        or kind.startswith(("text/", "message/", "multipart/"))
        or kind.endswith(("+json", "+xml", "+yaml", "+text"))
        or kind.rpartition("/")[2].removeprefix("x-") in _TEXT_TYPES
    )


def _spans(text: bytes, rules: Rules, *, is_start: bool) -> list[tuple[int, int]]:
    """Return where something is secret in a text, or in what its escapes stand for."""
    found = [span for span, _ in rules.find(text, is_start=is_start)]
    places = [(span.start, span.end) for span in found]
    if b"%" in text:
        characters = [match.group() for match in _CHARACTER.finditer(text)]
        offsets = [*accumulate(map(len, characters), initial=0)]
        plain = bytes(c[0] if len(c) == 1 else int(c[1:], 16) for c in characters)
        for span, _ in rules.find(plain, is_start=is_start):
            places.append((offsets[span.start], offsets[span.end]))
    return sorted(place for place in places if place[0] < place[1])


def _without_secrets(text: str, rules: Rules) -> str:
    """Return a value of a head without what looks like a secret in it."""
    is_unmarked = not rules.patterns and _UNMARKED.fullmatch(text) is not None
    if is_unmarked and not is_suspicious(text.encode()):
        return text
    pieces = text.split(PLACEHOLDER)
    for n, piece in enumerate(pieces):
        data, masked, at = piece.encode(errors="surrogatepass"), [], 0
        for start, end in _spans(data, rules, is_start=not n):
            if start >= at:
                masked += [data[at:start], PLACEHOLDER.encode()]
            at = max(at, end)
        if masked:
            whole = b"".join([*masked, data[at:]])
            pieces[n] = whole.decode(errors="surrogatepass")
    return PLACEHOLDER.join(pieces)


def _settled(mask: Callable[[str], str], text: str) -> str:
    """Mask a text until that changes nothing.

    Where a mask is now may have been what ended a name, or a URL.
    """
    for _ in range(_SETTLED_AFTER):
        text, before = mask(text), text
        if text == before:
            break
    return text


class Redactor:
    """Masks the heads and the bodies of exchanges.

    Args:
        enabled: False to record secrets as they are.
        mask: more names of headers, parameters and fields that are secrets.
        keep: names that are not, whatever the rules say; they win over `mask`.
            Case does not matter in either, nor does `_` for `-`.
        patterns: regular expressions of more secrets in bodies; of one with a group,
            what group 1 matches is secret.  They see a chunk or a frame and
            `credentials.CONTEXT` bytes before, so a match that is cut by the end of a
            chunk is masked only from there on, if at all.

    Raises:
        UsageError: a pattern is not a regular expression.
    """

    def __init__(
        self,
        *,
        enabled: bool = True,
        mask: Iterable[str] = (),
        keep: Iterable[str] = (),
        patterns: Iterable[str] = (),
    ) -> None:
        self._enabled = enabled
        self._mask = frozenset(map(self._folded, mask))
        self._keep = frozenset(map(self._folded, keep))
        self.patterns = patterns = tuple(patterns)
        """Those of the user."""
        self._text = Rules(self._is_secret_field, patterns)
        self._form = FormRules(self._is_secret_parameter, patterns)
        self._multipart = MultipartRules(self._is_secret_field, patterns)

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
        return tuple(
            (name, _settled(partial(self._value, name), value))
            for name, value in headers
        )

    def url(self, url: str) -> str:
        """Return a URL or a request target without secrets."""
        return _settled(self._url, url) if self._enabled else url

    def _url(self, url: str) -> str:
        start = _QUERY.search(url)
        if start is None:
            return _USERINFO.sub(_USERINFO_PLACEHOLDER, url)
        base, mark, query = url[: start.start()], start.group(), url[start.end() :]
        pieces = [self._piece(piece) for piece in query.split("&")]
        return _USERINFO.sub(_USERINFO_PLACEHOLDER, base) + mark + "&".join(pieces)

    def body(
        self, head: RequestHead | ResponseHead, report: Report | None = None
    ) -> BodyMask:
        """Return the mask for the body that comes with a head.

        Args:
            head: tells how to read the body.
            report: told of each part of a secret: where in the body it begins, its
                bytes, and the name of the rule.
        """
        kind = media_type(head.headers)
        if not self._enabled or not _is_text(kind):
            return BodyMask()
        name = header(head.headers, "content-encoding") or ""
        try:
            decoder = coding.decoder(name)
        except coding.CodingError:
            return BodyMask()
        if decoder is None:
            return self._text_mask(kind, report)
        is_request = isinstance(head, RequestHead)
        return CodedMask(
            name.strip().lower(),
            decoder,
            lambda note: self._text_mask(kind, note),
            _SEND_UNCODED if is_request else _ASK_UNCODED,
            report,
        )

    def whole_body(self, head: RequestHead | ResponseHead, data: bytes) -> bytes:
        """Return a whole body without its secrets.

        A coded one with a secret in it is masked from its first byte to its last.
        """
        mask = self.body(head)
        try:
            chunks = [*mask.feed(0, data), *mask.flush()] if data else []
        except UnmaskableError:
            return b"*" * len(data)
        return b"".join(chunk for _, chunk in chunks)

    def _text_mask(self, kind: str, report: Report | None) -> BodyMask:
        if kind == "text/event-stream":
            return EventMask(self._text, report)
        if kind in _LINE_TYPES:
            return LineMask(self._text, report)
        if kind == "application/x-www-form-urlencoded":
            return TextMask(self._form, report)
        if kind.startswith("multipart/"):
            return TextMask(self._multipart, report)
        return TextMask(self._text, report)

    def _value(self, name: str, value: str) -> str:
        folded = self._folded(name)
        if self._is_secret(name):
            if folded == "cookie":
                return ";".join(map(_cookie, value.split(";")))
            if folded == "set-cookie":
                return _set_cookie(value)
            return _credentials(value)
        value = _OUTSIDE_ANGLES.sub(lambda text: self._url(text.group()), value)
        return _without_secrets(value, self._text)

    def _piece(self, piece: str) -> str:
        piece = _USERINFO.sub(_USERINFO_PLACEHOLDER, piece)
        for found in _NAME.finditer(piece):
            # Only escapes of ASCII matter: the words that mean a secret are ASCII.
            name = _ESCAPE.sub(lambda hexes: chr(int(hexes.group(1), 16)), found[1])
            # The secret reaches to the end of the piece: it may contain any of the
            # other separators, and half a secret is a leak.
            if self._is_secret(name, parameter=True):
                before = _without_secrets(piece[: found.end()], self._text)
                return before + PLACEHOLDER
        return _without_secrets(piece, self._text)

    def _is_secret(self, name: str, *, parameter: bool = False) -> bool:
        folded = self._folded(name)
        if folded in self._keep:
            return False
        if folded in self._mask or (parameter and folded in _SECRET_PARAMETERS):
            return True
        return _sounds_secret(_normal_forms(name))

    def _is_secret_parameter(self, name: str) -> bool:
        return self._is_secret(name, parameter=True)

    def _is_secret_field(self, name: str) -> bool:
        folded = self._folded(name)
        if folded in self._keep:
            return False
        return folded in self._mask or _sounds_secret_in_json(_normal_forms(name))

    @staticmethod
    def _folded(name: str) -> str:
        return name.strip().lower().replace("_", "-")
