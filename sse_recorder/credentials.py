r"""What credentials look like inside a text, and following a text that comes in pieces.

`Rules.find` is the knowledge: given a text it says which bytes of it are secret.

named       the value of a JSON field whose name means a secret, at any depth of JSON
            inside JSON strings; the number of backslashes before a quote is the depth
keys        what begins with the prefix of a vendor (`_FORMS`) and goes on long enough.
            All of them are one run of letters, digits, `_`, `-` and `.`, so runs are
            looked for first, at the speed of C, and only their beginnings are read
JWT         `eyJ….eyJ….…`
schemes     what stands behind `Bearer ` and `Basic `, if it is no word
PEM         from `-----BEGIN … PRIVATE KEY-----` to `-----END`; line breaks stay
URLs        the password of `scheme://user:password@host`
patterns    the user's own; a match may look back `CONTEXT` bytes over a cut, no further

A prefix counts only where a word begins, and most of what follows needs a digit or a
capital: `risk-adjusted`, UUIDs, hashes, ids of calls and base64 are left alone.  What
is in no word (`_DISTINCT`) counts anywhere, but for deltas that have its first letters
and those of a word in one, as `Hisk`, `-`, `ant`, `-api03`: each of them is harmless.

`Follower` applies the rules to a text that comes in pieces.  It keeps the last
`CONTEXT` bytes and, inside of a secret, how that ends, so its state is bounded.  What
may be half of a secret is left undecided where the caller can wait: the chunks of a
body.  Where he cannot, in the frames of a stream, which are not held back, it is masked
as soon as its prefix is complete.  The price is that a text about `ghp_` and the like
may lose the word behind it; after short prefixes, and behind `Bearer`, where words are
likely, seven characters or a word of plain letters pass.

Every secret byte becomes `*`, those of a number `9`.  One character for all lengths is
the only mask that is the same however a secret was cut: deltas joined and the whole
text agree, but for what may pass.  It is plain ASCII that JSON, forms and UTF-8 allow
anywhere in a string, and no rule takes it for a part of a key, so that masks stay as
they are.  Two secrets of one length look the same, and nothing else of them is told.
Backslashes at the end of a piece stay, because the quote behind them may be the end of
the value; where it is not, the other half of that escape becomes `/`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from sse_recorder.errors import UsageError

CONTEXT: Final = 512
"""Bytes that are remembered of a text, for what begins before a cut."""
UNDECIDED_MAX: Final = 4096
"""What is undecided for longer than this is no secret."""

# Names and shapes are few; who makes up more than these does not fill the memory.
_KNOWN_MAX: Final = 4096
_LEARNED_SIZE_MAX: Final = 160
_STAR: Final = ord("*")
_NINE: Final = ord("9")
_SLASH: Final = ord("/")
_PEM_MAX: Final = 16_384
_PASSING: Final = 7

_WORD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_KEY: Final = _WORD + b"_-"
_DOTTED: Final = _KEY + b"."
_OPAQUE: Final = _DOTTED + b"~+/="
_PASSWORD: Final = _OPAQUE + b"!$%&*,;"
_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_HEX: Final = b"0123456789abcdef"
_NUMBER: Final = b"0123456789+-.eE"


Identity = tuple[bytes, ...]
"""What may tell one string of a stream apart from the others."""


class Form(NamedTuple):
    """How the keys of one vendor look."""

    rule: str
    prefixes: tuple[bytes, ...]
    """Public, and left readable."""
    characters: bytes = _KEY
    """What the rest is made of."""
    minimum: int = 20
    """How long the rest is, at least."""


_FORMS: Final = (
    Form("anthropic-key", (b"sk-ant-",), minimum=16),
    Form("openai-key", (b"sk-proj-", b"sk-svcacct-", b"sk-admin-")),
    Form("openrouter-key", (b"sk-or-v1-",)),
    Form("langfuse-key", (b"sk-lf-", b"pk-lf-")),
    Form("secret-key", (b"sk-",)),  # OpenAI's old ones, DeepSeek, LiteLLM and others
    Form("google-key", (b"AIza",), minimum=30),
    Form("google-token", (b"ya29.", b"GOCSPX-"), _DOTTED),
    Form("github-token", (b"ghp_", b"gho_", b"ghs_", b"ghr_", b"ghu_"), minimum=30),
    Form("github-token", (b"github_pat_",), minimum=30),
    Form("gitlab-token", (b"glpat-",), _DOTTED, 16),
    Form(
        "slack-token",
        (b"xapp-", *(b"xox%c-" % letter for letter in b"abceoprs")),
        minimum=12,
    ),
    Form("stripe-key", (b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_"), _WORD, 16),
    Form("webhook-secret", (b"whsec_",), _OPAQUE, 16),
    Form("aws-key-id", (b"AKIA", b"ASIA"), _UPPER, 16),
    Form("huggingface-token", (b"hf_",), _WORD, 24),
    Form("groq-key", (b"gsk_",), _WORD),
    Form("xai-key", (b"xai-",), _WORD),
    Form("replicate-token", (b"r8_",), _WORD, 24),
    Form("perplexity-key", (b"pplx-",), _WORD),
    Form("sendgrid-key", (b"SG.",), _DOTTED, 32),
    Form("npm-token", (b"npm_",), _WORD, 30),
    Form("pypi-token", (b"pypi-",), minimum=40),
    Form("databricks-token", (b"dapi",), _HEX, 32),
    Form("notion-token", (b"ntn_", b"secret_"), _WORD, 30),
    Form("linear-key", (b"lin_api_",), _WORD),
    Form("tavily-key", (b"tvly-",), minimum=16),
    Form("fireworks-key", (b"fw_",), _WORD),
    Form("nvidia-key", (b"nvapi-",)),
)
_DOTTED_PREFIXES: Final = (b"ya29.", b"SG.")
_DISTINCT: Final = (b"sk-ant-api", b"sk-proj-", b"sk-svcacct-", b"github_pat_")
"""What is in no word, so that it is the beginning of a key behind letters, too."""


def _any_of(words: Iterable[bytes]) -> bytes:
    """Return a regular expression for the longest of some words, quick to fail."""
    rests: dict[bytes, set[bytes]] = {}
    for word in words:
        rests.setdefault(word[:1], set()).add(word[1:])
    is_over = rests.pop(b"", None) is not None
    if not rests:
        return b""
    branches = (re.escape(c) + _any_of(rests[c]) for c in sorted(rests))
    return b"(?:" + b"|".join(branches) + b")" + b"?" * is_over


_BY_PREFIX: Final = {p: form for form in _FORMS for p in form.prefixes}
_JWT: Final = b"eyJ"
# With fewer characters a word, or a name that somebody chose, may begin like this.
_SHORT: Final = frozenset({p for p in _BY_PREFIX if len(p) <= 4} | {b"secret_"})  # noqa: PLR2004 - `hf_`, `xai-`


_PREFIX: Final = re.compile(_any_of(_BY_PREFIX))
_BEGINS: Final = re.compile(_PREFIX.pattern + rb"|eyJ")
_RUN: Final = re.compile(rb"[A-Za-z0-9_\-]{16,}")
_RUN_OF: Final = {
    characters: re.compile(b"[" + re.escape(characters) + b"]*+")
    for characters in {form.characters for form in _FORMS}
}
# What looks like a part of the word behind it, and is an escape: `\nsk-…`, `%3Ask-…`.
_ESCAPES: Final = (
    re.compile(rb"(?<=\\)[nrtbf]"),
    re.compile(rb"(?<=\\)u[0-9A-Fa-f]{4}"),
    re.compile(rb"(?<=%)[0-9A-Fa-f]{2}"),
)
_STRONG: Final = re.compile(rb"[A-Za-z0-9_\-.~+/=]{0,64}?[0-9A-Z]")
_JSON_WEB_TOKEN: Final = re.compile(
    rb"eyJ[A-Za-z0-9_\-]{8,}\.(?:eyJ[A-Za-z0-9_\-]*|(?=\.))(?:\.[A-Za-z0-9_\-.]*)?"
)
_WORD_MAX: Final = 16
_PLAIN_WORD: Final = re.compile(rb"[A-Za-z]?[a-z]{0,15}")
_SCHEME: Final = re.compile(
    rb"([Bb])(?:(?<![A-Za-z0-9_].)|(?<=\\[nrtbf].)|(?<=\\u[0-9A-Fa-f]{4}.)"
    rb"|(?<=%[0-9A-Fa-f]{2}.))(?i:earer|asic)(?:\s|%20|\+){1,8}([A-Za-z0-9_\-.~+/=]*+)"
)
_BEARER_MIN: Final = 16
_DIGIT: Final = re.compile(rb"[0-9]")
_PEM: Final = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_PEM_TOKEN: Final = re.compile(
    rb'(?P<end>--|\\*")|\\+[nrt]?|[\r\n]+(?:data: ?)?|(?P<key>[A-Za-z0-9+/=]+)'
)
_URL: Final = re.compile(rb"://([^/\s\"'@:?#\\<>*]{0,128}):([^/\s\"'@\\<>]{1,256})(@?)")
_PORT: Final = re.compile(rb"[0-9]{0,5}")
# `"name": ` and what comes then: a string, a list of strings, or a number.
_NAMED: Final = re.compile(
    rb'"([A-Za-z_][\w.\-]{1,63}+)(\\{0,15})"'
    rb"(?:[ \t]|\\+[nrt]|[\r\n]+(?:data: ?)?){0,16}:"
    rb"(?:[ \t\[]|\\+[nrt]|[\r\n]+(?:data: ?)?){0,16}"
    # Another depth than the name's is another string, or the end of this one.
    rb'(?:(\2)"|(?=[0-9\-]))'
)
# How a name, or what is between a name and its value, looks when it is cut.
_NAME_CUT: Final = re.compile(
    rb'"[\w.\-]{0,64}(?:\\{0,15}(?:"[\s:,\\\[nrt]{0,32})?)?\Z|\\+\Z'
)
_BLOCK_CUT: Final = re.compile(rb"-{1,5}(?:[A-Z][A-Z0-9 ]{0,48}-{0,5})?\Z")
_URL_CUT: Final = re.compile(rb"://[^/\s\"'@:?#\\<>*]{1,128}:([^/\s\"'@\\<>]{0,256})\Z")
_URL_OPEN: Final = re.compile(rb"(?::|:/|://[^/\s\"'@:?#\\<>*]{0,128})\Z")
_JWT_CUT: Final = re.compile(rb"eyJ[A-Za-z0-9_\-]*(?:\.(?:e|ey)?)?\Z")
_FORM_NAME: Final = re.compile(rb"(?:\A|(?<=&))([^=&\s]{1,128})=")
_NOT_AMPERSAND: Final = bytes(set(range(256)) - {ord("&")})
_PART_NAME: Final = re.compile(
    rb'(?i:content-disposition):[^\r\n]{0,64}[; ]name="?([^"\r\n;]{1,128})"?'
    rb"[^\r\n]{0,256}\r\n(?:[^\r\n]{1,256}\r\n){0,4}\r\n"
)
_NEXT_ITEM: Final = re.compile(
    rb'(?:\s|\\+[nrt]){0,32},(?:\s|\\+[nrt]){0,32}(\\{0,15})"'
)
_QUOTE: Final = re.compile(rb'(\\*)"|[\r\n]')
_SLASHES_MAX: Final = 64
_REPEATED_MIN: Final = 8
# What may be the beginning of the end of a part of a form.
_BOUNDARY: Final = b"\r\n--"


def _beginnings() -> frozenset[bytes]:
    words = (*_BY_PREFIX, _JWT, b"Bearer", b"bearer", b"Basic", b"basic")
    return frozenset(word[:n] for word in words for n in range(1, len(word) + 1))


_BEGINNINGS: Final = _beginnings()
_DISTINCT_BEGINS: Final = re.compile(_any_of(_DISTINCT))
_DISTINCT_CUT: Final = re.compile(
    _any_of(word[:n] for word in _DISTINCT for n in range(2, len(word))) + rb"\Z"
)

# Everything that is suspicious at length has one of these in it.
_HINTS: Final = b"-_.:\\%IJBbp"
_SUSPICIOUS: Final = re.compile(
    # A depth of JSON, a block, a URL, a scheme, ...
    rb'\\"|-----|:(?://|/?\Z)|[Bb](?i:earer|asic)[\s%+]'
    # ... a prefix, or the beginning of one at the end.
    rb"|(?:^|[^A-Za-z0-9_\-]|\\[nrtbf]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2})"
    rb"(?:" + _BEGINS.pattern + rb"|(?:" + _any_of(_BEGINNINGS) + rb"|-{1,4})\Z)"
    # ... what is in no word, half of it at the end, or the other half of `sk`.
    rb"|" + _any_of(_DISTINCT) + rb"|" + _DISTINCT_CUT.pattern + rb"|^-(?:ant|proj|svc)"
)


# Of a long string only the end may be cut; what is before is whole.
_LONG: Final = 96
_LONG_HINT: Final = re.compile(
    rb'\\"|-----BEGIN|://|[A-Za-z0-9_\-]{16}|[Bb](?i:earer|asic)[\s%+]'
)


def is_suspicious(text: bytes) -> bool:
    """Return whether a string may hold, begin or go on with a secret.

    It says so of every one that does, of few others, and it says it fast.
    """
    if text[len(text.rstrip(_KEY)) :] in _BEGINNINGS:
        return True
    if len(text) > _LONG:
        if _LONG_HINT.search(text):
            return True
        text = text[-_LONG:]
    # Taking them out is the fastest way to learn whether any is there.
    is_plain = len(text.translate(None, _HINTS)) == len(text)
    return not is_plain and _SUSPICIOUS.search(text) is not None


class Span(NamedTuple):
    """A secret, or a part of one."""

    start: int
    end: int
    rule: str
    fill: int = _STAR

    def write(self, target: bytearray, at: int = 0) -> None:
        """Mask these bytes of a text that begins at a place in the target."""
        size = self.end - self.start
        target[at + self.start : at + self.end] = bytes([self.fill]) * size


@dataclass(slots=True)
class Inside:
    """A secret whose end has not been seen, and how to find it."""

    rule: str
    kind: str
    """`run`, `string`, `block`, or `part` of a form."""
    characters: bytes = b""
    depth: int = 0
    """Backslashes before the quotes of a string."""
    fill: int = _STAR
    left: int = _PEM_MAX

    def spans(self, text: bytes, start: int) -> tuple[list[Span], int | None]:
        """Return what is secret from a place on, and where it ends if it does."""
        if self.kind == "run":
            rest = text[start:].lstrip(self.characters)
            end = len(text) - len(rest)
            return [Span(start, end, self.rule, self.fill)], end if rest else None
        if self.kind == "part":
            end = text.find(_BOUNDARY, start)
            stop = len(text) if end < 0 else end
            return [Span(start, stop, self.rule)], None if end < 0 else end
        if self.kind == "block":
            return self._block(text, start)
        return self._string(text, start)

    def _string(self, text: bytes, start: int) -> tuple[list[Span], int | None]:
        # Half of an escape may have come before.
        begin = len(text[:start].rstrip(b"\\"))
        end = self._string_end(text, begin)
        slashes = 0
        if end is None:
            # The other half may be a quote that has to stay, so this one does.
            slashes = len(text) - len(text.rstrip(b"\\"))
        stop = len(text) - slashes if end is None else max(end, start)
        if begin == start or stop <= start:
            return [Span(start, max(stop, start), self.rule)], end
        # What makes an escape of any backslash, and needs nothing behind it.
        half = Span(start, start + 1, self.rule, _SLASH)
        return [half, Span(start + 1, stop, self.rule)], end

    def _string_end(self, text: bytes, start: int) -> int | None:
        level = self.depth + 1
        for quote in _QUOTE.finditer(text, start):
            slashes = quote.end(1) - quote.start(1) if quote[1] is not None else 0
            if (slashes + 1) % (2 * level) == 0:
                continue  # it is escaped, and belongs to the value
            if (slashes + 1) % level:
                return quote.start()  # the end of what the value is in
            return quote.end() - level
        return None

    def _block(self, text: bytes, start: int) -> tuple[list[Span], int | None]:
        spans: list[Span] = []
        # Half of `--`, or of an escape, may have come before.
        behind = text[max(0, start - 1) : start] == b"-"
        begin = start - 1 if behind else len(text[:start].rstrip(b"\\"))
        for token in _PEM_TOKEN.finditer(text, begin):
            if token["end"] or self.left <= 0:
                return spans, token.start()
            if token["key"]:
                spans.append(Span(token.start(), token.end(), self.rule))
                self.left -= len(token[0])
        return spans, None


class Rules:
    """What is secret.

    Args:
        is_secret: tells it of the name of a JSON field.
        patterns: more regular expressions; what group 1 matches is secret, or all of
            the match where there is no group.

    Raises:
        UsageError: a pattern is none, or matches nothing at all.
    """

    def __init__(
        self, is_secret: Callable[[str], bool], patterns: Iterable[str] = ()
    ) -> None:
        self._is_secret = is_secret
        self._known: dict[bytes, bool] = {}
        self.patterns = tuple(map(_compiled, patterns))
        self.harmless: set[bytes] = set()
        """Texts, of any stream, in which nothing was found."""

    def is_secret(self, name: bytes) -> bool:
        """Return whether a field of this name is secret."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            known = self._known[name] = self._is_secret(name.decode("latin-1"))
        return known

    def learn(self, text: bytes) -> None:
        """Add a text to `harmless`; a long one will hardly come again."""
        if len(text) > _LEARNED_SIZE_MAX:
            return
        if len(self.harmless) >= _KNOWN_MAX:
            self.harmless.clear()
        self.harmless.add(text)

    def find(
        self, text: bytes, *, is_start: bool = True
    ) -> Iterator[tuple[Span, Inside | None]]:
        """Give what is secret; with how it goes on, if it reaches the end."""
        yield from self._named(text)
        for run in _RUN.finditer(text):
            if run.start() or is_start:
                yield from _in_run(text, *run.span())
        yield from _in_phrases(text)
        for pattern in self.patterns:
            for match in pattern.finditer(text):
                yield Span(*match.span(min(pattern.groups, 1)), "pattern"), None

    def _named(self, text: bytes) -> Iterator[tuple[Span, Inside | None]]:
        for name in _NAMED.finditer(text):
            if not self.is_secret(name[1]):
                continue
            rule, start = f"field {name[1].decode('latin-1')}", name.end()
            if name[3] is None:
                inside = Inside(rule, "run", _NUMBER, fill=_NINE)
                yield from _until_end(text, start, inside)
                continue
            depth, is_list = len(name[3]), b"[" in text[name.end(2) : start]
            while True:
                inside = Inside(rule, "string", depth=depth)
                spans, end = inside.spans(text, start)
                for span in spans:
                    yield span, None if end is not None else inside
                item = end is not None and _NEXT_ITEM.match(text, end + depth + 1)
                if not is_list or not item or len(item[1]) != depth:
                    break
                start = item.end()


class FormRules(Rules):
    """What is secret in `application/x-www-form-urlencoded`."""

    def _named(self, text: bytes) -> Iterator[tuple[Span, Inside | None]]:
        for name in _FORM_NAME.finditer(text):
            if self.is_secret(unquote_to_bytes(name[1])):
                rule = f"field {name[1].decode('latin-1')}"
                inside = Inside(rule, "run", _NOT_AMPERSAND)
                yield from _until_end(text, name.end(), inside)


class MultipartRules(Rules):
    """What is secret in `multipart/form-data`."""

    def _named(self, text: bytes) -> Iterator[tuple[Span, Inside | None]]:
        for name in _PART_NAME.finditer(text):
            if self.is_secret(name[1]):
                rule = f"field {name[1].decode('latin-1')}"
                yield from _until_end(text, name.end(), Inside(rule, "part"))
        yield from super()._named(text)


def _compiled(pattern: str) -> re.Pattern[bytes]:
    try:
        compiled = re.compile(pattern.encode())
    except re.error as error:
        raise UsageError(
            f"{pattern!r} is not a regular expression ({error}); mend it"
        ) from error
    if compiled.match(b""):
        raise UsageError(
            f"{pattern!r} matches nothing at all, so it matches everywhere; say what"
            " has to be there"
        )
    return compiled


def _in_phrases(text: bytes) -> Iterator[tuple[Span, Inside | None]]:
    """Give what is secret for what stands before it: schemes, blocks and URLs."""
    for scheme in _SCHEME.finditer(text):
        yield from _schemed(text, scheme)
    if b"PRIVATE KEY" in text:
        for block in _PEM.finditer(text):
            yield from _until_end(text, block.end(), Inside("private-key", "block"))
    for url in _URL.finditer(text):
        if url[3]:
            yield Span(*url.span(2), "url-password"), None


def _until_end(
    text: bytes, start: int, inside: Inside
) -> Iterator[tuple[Span, Inside | None]]:
    spans, end = inside.spans(text, start)
    for span in spans or [Span(start, start, inside.rule)]:
        yield span, None if end is not None else inside


def _in_run(text: bytes, start: int, stop: int) -> Iterator[tuple[Span, Inside | None]]:
    for at in (*_starts(text, start), *_distinct(text, start, stop)):
        if not _BEGINS.match(text, at):
            continue
        found = _key(text, at) or _token(text, at)
        if found:
            span, characters = found
            goes_on = span.end == len(text)
            yield span, Inside(span.rule, "run", characters) if goes_on else None
            return


def _starts(text: bytes, start: int) -> list[int]:
    """Return where a key may begin that has a run in it which begins here."""
    before = text[max(0, start - 16) : start]
    starts = [start, *_behind_escapes(text, start)]
    for prefix in _DOTTED_PREFIXES:
        if before.endswith(prefix):
            at = start - len(prefix)
            word = (
                at
                - len(before)
                + len(prefix)
                + len(before[: -len(prefix)].rstrip(_KEY))
            )
            if at in (word, *_behind_escapes(text, word)):
                starts.append(at)
    return starts


def _distinct(text: bytes, start: int, stop: int) -> tuple[int, ...]:
    """Return where in a run something distinct begins."""
    found = _DISTINCT_BEGINS.search(text, start, stop)
    return (found.start(),) if found else ()


def _behind_escapes(text: bytes, start: int) -> list[int]:
    if text[max(0, start - 1) : start] not in (b"\\", b"%"):
        return []
    found = (escape.match(text, start) for escape in _ESCAPES)
    return [match.end() for match in found if match]


def _key(text: bytes, at: int) -> tuple[Span, bytes] | None:
    prefix = _PREFIX.match(text, at)
    if not prefix:
        return None
    form, start = _BY_PREFIX[prefix[0]], prefix.end()
    end = _run_end(text, start, form.characters)
    if end - start < form.minimum or not _STRONG.match(text, start, end):
        return None
    return Span(start, end, form.rule), form.characters


def _run_end(text: bytes, start: int, characters: bytes) -> int:
    run = _RUN_OF[characters].match(text, start)
    return run.end() if run else start


def _token(text: bytes, at: int) -> tuple[Span, bytes] | None:
    token = _JSON_WEB_TOKEN.match(text, at)
    return (Span(at + len(_JWT), token.end(), "jwt"), _DOTTED) if token else None


def _schemed(
    text: bytes, scheme: re.Match[bytes]
) -> Iterator[tuple[Span, Inside | None]]:
    start, end = scheme.span(2)
    is_basic = text.startswith((b"asic", b"ASIC"), scheme.end(1))
    if _is_basic(scheme[2]) if is_basic else _is_opaque(scheme[2]):
        rule = "basic" if is_basic else "bearer"
        goes_on = Inside(rule, "run", _OPAQUE) if end == len(text) else None
        yield Span(start, end, rule), goes_on


def _is_basic(value: bytes) -> bool:
    """Return whether a value is a name and a password in base64."""
    try:
        return b":" in base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except ValueError:
        return False


def _is_opaque(value: bytes) -> bool:
    """Return whether a value is more than words that stand behind another one."""
    return len(value) >= _BEARER_MIN and bool(_DIGIT.search(value))


class Doubt(NamedTuple):
    """The end of a text that may be the beginning of a secret."""

    start: int
    rule: str
    characters: bytes
    passing: int = 0
    """How much of it is let through where there is no waiting."""


def doubt(text: bytes) -> Doubt | None:
    """Return what at the end of a text may be a secret that goes on."""
    low = max(0, len(text) - UNDECIDED_MAX)
    found = [*_doubtful_keys(text, low), *_doubtful_schemes(text, low)]
    url = _URL_CUT.search(text, max(0, len(text) - CONTEXT))
    if url is not None:
        passing = _PASSING if _PORT.fullmatch(url[1]) else 0
        found.append(Doubt(url.start(1), "url-password", _PASSWORD, passing))
    return min(found, key=lambda may_be: may_be.start + may_be.passing, default=None)


def _doubtful_keys(text: bytes, low: int) -> Iterator[Doubt]:
    starts = {
        at
        for characters in (_KEY, _DOTTED)
        for at in _starts(text, low + len(text[low:].rstrip(characters)))
    }
    starts.update(_distinct(text, low + len(text[low:].rstrip(_KEY)), len(text)))
    for at in starts:
        prefix = _PREFIX.match(text, at)
        if prefix and _reaches(text, prefix):
            form = _BY_PREFIX[prefix[0]]
            passing = _PASSING if prefix[0] in _SHORT else 0
            yield Doubt(prefix.end(), form.rule, form.characters, passing)
        elif _JWT_CUT.match(text, at):
            yield Doubt(at + len(_JWT), "jwt", _DOTTED)


def _reaches(text: bytes, prefix: re.Match[bytes]) -> bool:
    characters = _BY_PREFIX[prefix[0]].characters
    return _run_end(text, prefix.end(), characters) == len(text)


def _doubtful_schemes(text: bytes, low: int) -> Iterator[Doubt]:
    start = low + len(text[low:].rstrip(_OPAQUE))
    for scheme in _SCHEME.finditer(text, max(0, start - 20)):
        if scheme.end() == len(text):
            is_word = _PLAIN_WORD.fullmatch(scheme[2])
            passing = _WORD_MAX if is_word else _PASSING
            yield Doubt(scheme.start(2), "bearer", _OPAQUE, passing)


class Follower:
    """Follows one text through its pieces.

    Args:
        rules: what is secret.
        context: what is known of the text before.
    """

    def __init__(self, rules: Rules, context: bytes = b"") -> None:
        self._rules = rules
        self._context = context
        self._is_start = not context
        self._inside: Inside | None = None
        self._is_doubtful = False
        self._grows = True
        self.last = b""
        """The piece taken last."""
        self.origin: Identity = ()
        """By what the caller knew where that piece came from."""

    def take(self, piece: bytes, *, wait: bool) -> tuple[list[Span], int]:
        """Take the next piece.

        Args:
            piece: how the text goes on.
            wait: whether the caller can wait for what is undecided; he gives it again,
                with what comes behind it.  Else it is masked, or let through.

        Returns:
            What of the piece is secret, and how many of its bytes are decided.
        """
        self._grows = self._grows and piece.startswith(self.last)
        self.last = piece
        text, base = self._context + piece, len(self._context)
        spans, begin = self._go_on(text, base)
        if self._inside is None:
            for span, inside in self._rules.find(text, is_start=self._is_start):
                self._inside = self._inside or inside
                if span.end > begin:
                    spans.append(span._replace(start=max(span.start, begin)))
        decided = len(text)
        if wait:
            decided = max(base, decided - self._unfinished(text, spans))
        else:
            spans += self._in_doubt(text, begin)
        self._is_start = self._is_start and decided <= CONTEXT
        self._context = text[max(0, decided - CONTEXT) : decided]
        return [_within(s, base, decided) for s in spans], decided - base

    @property
    def is_inside(self) -> bool:
        """Whether the text so far ends in a secret."""
        return self._inside is not None

    @property
    def is_open(self) -> bool:
        """Whether what comes next may be secret for what was taken without a wait."""
        return bool(self._rules.patterns) or self.is_suspended

    @property
    def is_suspended(self) -> bool:
        """Whether that is so by more than the user's own patterns."""
        if self._inside or self._is_doubtful:
            return True
        text = self._context
        start = len(text.rstrip(_KEY))
        return (
            any(text[at:] in _BEGINNINGS for at in _starts(text, start))
            or _DISTINCT_CUT.search(text, max(0, len(text) - 16)) is not None
            or _NAME_CUT.search(text, max(0, len(text) - 128)) is not None
            or _BLOCK_CUT.search(text, max(0, len(text) - 64)) is not None
            or _URL_OPEN.search(text, max(0, len(text) - 160)) is not None
        )

    def copy(self) -> Follower:
        """Return one that follows another text from here."""
        return deepcopy(self, {id(self._rules): self._rules})

    def repeats(self, piece: bytes) -> bool:
        """Return whether a piece is all of a text that grows, not how it goes on.

        One that grows did so from its first piece on.
        """
        is_long = len(self.last) >= _REPEATED_MIN
        return is_long and self._grows and piece.startswith(self.last)

    def _go_on(self, text: bytes, base: int) -> tuple[list[Span], int]:
        if self._inside is None:
            return [], base
        spans, end = self._inside.spans(text, base)
        if end is None:
            return spans, len(text)
        self._inside = None
        return spans, end

    def _unfinished(self, text: bytes, spans: list[Span]) -> int:
        """Return how many bytes at the end depend on what comes behind them."""
        inside = self._inside
        if inside is None:
            may_be = doubt(text)
            size = len(text) - may_be.start if may_be else 0
            return size if size < UNDECIDED_MAX else 0
        # The beginning of the secret's own end.
        last = text[spans[-1].start :] if spans else text
        if inside.kind == "part":
            return next(n for n in (3, 2, 1, 0) if last.endswith(_BOUNDARY[:n]))
        if inside.kind == "run":
            return 0
        return min(len(last) - len(last.rstrip(b"\\")), _SLASHES_MAX)

    def _in_doubt(self, text: bytes, begin: int) -> list[Span]:
        """Return what at the end is masked because it may be secret."""
        may_be, end = doubt(text), len(text)
        self._is_doubtful = may_be is not None
        if may_be is None or (self._inside and self._inside.kind != "run"):
            return []
        start = max(may_be.start + may_be.passing, begin)
        if start >= end and may_be.passing:
            return []
        inside = Inside(may_be.rule, "run", may_be.characters)
        self._inside = self._inside or inside
        return [Span(start, end, may_be.rule)]


def _within(span: Span, base: int, decided: int) -> Span:
    start, end = max(span.start, base), max(min(span.end, decided), base)
    return span._replace(start=min(start, end) - base, end=end - base)
