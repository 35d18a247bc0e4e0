"""Finding the recorded exchange for a live request.

A request is brought into a canonical form, and two requests are the same when their
forms are.  Recorder and replayer use this one function, because two that should agree
will not.  The caller masks a live request with the `Redactor` of the recording first.
Unless a rule says so, headers take no part beyond saying how to read the body, so
credentials, user agents and trace ids never decide.

The canonical form
------------------
method      as it is.
path        as it is; escapes of unreserved characters are undone, other escapes are in
            upper case (RFC 3986 section 6.2.2).
query       decoded fields.
JSON body   objects are fields, so that key order and white space mean nothing.  Numbers
            are compared as they are written: 1, 1.0 and 1e0 differ, since some servers
            tell them apart and a client writes its own the same way every time.
form body   `application/x-www-form-urlencoded` and `multipart/form-data` give the same
            fields, so that encoding and boundary mean nothing.  A file is its name, its
            content type and the hash of its content.
other body  the hash of its bytes: also for what claims to be JSON or multipart and is
            malformed, and for what has a Content-Encoding.
masks       of one length, whatever was masked.

One rule for all fields: the order of different names means nothing, the order of equal
names does.  So `{"a":1,"a":2}` is neither `{"a":2,"a":1}` nor `{"a":2}`.

Rules
-----
What one run sends and the next does not (ids, times, nonces) is for `MatchRules` to
name; nothing is ignored by itself.  A replay takes a recorded request and a live one
into canonical form under the same rules; the key in a store has none.

ignored     the fields of query and body that a rule of `sse_recorder.paths` leads to,
            with all that is below them, whether they are there or not.  A field has the
            path that a `Miss` prints: `query.NAME`, `body.NAME` (of JSON and forms),
            `body.messages[2].id`, `body.FILE.filename`.  So `request_id` is any field
            of that name, and `query.*` the whole query.  Equal names are one field; the
            items of a list keep their places.  A body that is compared by its bytes
            has no fields.
headers     those that take part, by their values; several lines are one list (RFC 9110
            section 5.3).  A secret one is masked, and all masks are equal: it decides
            by being there, and by its scheme.

Masks
-----
A secret in a body is as many `*` as it had bytes, and who replays has other credentials
than who recorded, of other lengths.  So every mask becomes one of `MASK_SIZE` stars
before anything is compared or hashed.  What is a mask and what are stars that somebody
wrote cannot be told for certain, and prompts are full of Markdown, so stars are a mask
only where little else can be meant:

whole       a string that is nothing but stars, of any length, as a password may be
            short: a string of JSON, the value of a form, a file, a text body; and in
            any text what stands between the quotes of a value, as in
            `"password": "***"`, at any depth of JSON inside strings
URL         the password of `scheme://user:***@host`, of any length
PEM         all of a private key, line breaks included
run         `MASK_SIZE` stars and more, anywhere else

Shorter runs are text: `*x*` is not `**x**`.  The names of fields and of files hold runs
at most, and a query nothing, for its secrets become words without a length.  Stars of
other text that are taken for a mask are compared but for their number.

What still needs credentials of one length, or kind:

- A masked number is a number: 999 may be what the client wrote.
- Shorter masks than `MASK_SIZE` amid other text: what a user's own pattern found, a
  list of passwords in JSON inside a string, or a name and a password of less than six
  bytes behind `Basic`.
- What is compared by all of its bytes: bodies longer than `PARSED_BYTES_MAX`, and files
  and other bodies that are not UTF-8, where a star is any byte.
- What is secret for its looks has to look alike: the prefixes of keys are not masked.
  An empty string is no secret.

Paths and prefixes
------------------
What a client asks for may not be what goes upstream: `/chat` becomes `/v2/chat` where
the upstream URL has a path, `/openai/v1/x` becomes `/v1/x` where a route has a prefix.
A recording knows both paths where they differ, and either finds it.  For clients whose
base URL is yet another, two paths match when one ends with the other at a slash.  Equal
paths beat such suffixes, and a longer common suffix beats a shorter one.  There is no
other fuzziness: a wrong answer costs more time than a miss that names what differs.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar
from urllib.parse import unquote_to_bytes

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, header, media_type
from sse_recorder.paths import ANY, Part, Path, Rule, ends, ignoring, step, written

PARSED_BYTES_MAX: Final = 16 << 20
"""The longest request body that is compared by what it means; a longer one is compared
by its bytes, because what it means can take many times its memory."""

MASK_SIZE: Final = 8
"""The fewest stars that are a mask wherever they stand, and the length of all masks.

What is found for its looks is longer: the shortest key is masked by 12 stars, the
shortest JWT by 15, what stands behind `Bearer` by 16.
"""

T = TypeVar("T")

JSON_DEPTH_MAX = 200
"""JSON that is nested deeper is compared as bytes.

Python's own limit depends on its version and on the caller's stack.  With that one, a
key could be different where it is replayed; this one is far below it.
"""

SHOWN_MAX = 80
"""Characters of a value that a `Miss` shows."""

REPEATS: Final = "how often it is asked"
"""What differs in a request that has been answered as often as it was recorded."""

ABSENT = "(absent)"
"""What a `Miss` shows for a value that one side does not have."""


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number as it was written, which no float can keep."""

    literal: str


class _Missing:
    """Marks a value that only the other side has: null is a value."""


Value: TypeAlias = "bool | str | Number | list[Value] | Fields | None"
Fields: TypeAlias = "dict[str, tuple[Value, ...]]"
_Side: TypeAlias = "Value | _Missing"

_MISSING: Final = _Missing()
_IGNORED: Final = Number("ignored")
"""Stands for an ignored item of a list; no number of a request is written like that."""
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class MatchRules:
    """What of a request takes no part in matching, and which headers do."""

    ignored: tuple[Rule, ...] = ()
    """Of the fields of query and body."""
    headers: tuple[str, ...] = ()
    """Their names, in lower case."""

    @classmethod
    def of(
        cls, ignore: str | Iterable[str], match_headers: str | Iterable[str]
    ) -> MatchRules:
        """Return the rules that a user wrote.

        Args:
            ignore: paths of fields, or names; see `sse_recorder.paths`.
            match_headers: names of headers, in any case.

        Raises:
            UsageError: one of them is no path, or no name.
        """
        names = {_header_name(name) for name in _each(match_headers)}
        return cls(tuple(map(ignoring, _each(ignore))), tuple(sorted(names)))

    def ignores(self, path: Path, part: str | int) -> bool:
        """Tell whether a rule leads to a part of what a path leads to."""
        return any(
            (rule[-1] is ANY or rule[-1] == part) and ends(rule[:-1], path)
            for rule in self.ignored
        )

    def chosen(self, headers: Headers) -> Fields:
        """Return the headers that take part."""
        lines: dict[str, list[str]] = {}
        for name, value in headers:
            if name.lower() in self.headers:
                lines.setdefault(name.lower(), []).append(value.strip())
        return {name: (", ".join(values),) for name, values in lines.items()}


EXACT: Final = MatchRules()
"""No rules."""


def _each(texts: str | Iterable[str]) -> Iterable[str]:
    # One alone is not to be taken for its letters.
    return (texts,) if isinstance(texts, str) else texts


def _header_name(text: str) -> str:
    if not _HEADER_NAME.fullmatch(text):
        raise UsageError(f"{text!r} is not the name of a header; write x-tenant, say")
    return text.lower()


class Body(NamedTuple):
    """A canonical body."""

    kind: str
    """`none`, `json`, `form` or `bytes`."""
    value: Value = None


@dataclass(frozen=True, slots=True)
class Canonical:
    """A request in the form in which requests are compared; equal when `key` is."""

    method: str = field(compare=False)
    path: str = field(compare=False)
    query: Fields = field(compare=False)
    headers: Fields = field(compare=False)
    """Those that take part."""
    body: Body = field(compare=False)
    content: str = field(compare=False)
    """Hexadecimal sha256 of everything but the path."""
    key: str
    """Hexadecimal sha256 of everything."""


class BodyDigest(NamedTuple):
    """What is known of a body that is longer than `PARSED_BYTES_MAX`."""

    size: int
    sha256: str
    """Hexadecimal."""


def request_key(
    method: str, target: str, headers: Headers, body: bytes | BodyDigest
) -> str:
    """Return the hexadecimal sha256 of the canonical request."""
    return canonical(method, target, headers, body).key


def canonical(
    method: str,
    target: str,
    headers: Headers,
    body: bytes | BodyDigest,
    rules: MatchRules = EXACT,
) -> Canonical:
    """Return the canonical form of a request under some rules."""
    path, _, query_text = _ORIGIN.sub("", target, count=1).partition("?")
    path = _canonical_path(path)
    query = _fields(_urlencoded(_wire(query_text)))
    form = _canonical_body(headers, body)
    if rules.ignored:
        _leave_out("query", query, rules)
        form = _left_of(form, rules)
    chosen = rules.chosen(headers) if rules.headers else {}
    content = _digest(
        [method, query, form, chosen] if chosen else [method, query, form]
    )
    key = _digest([path, content])
    return Canonical(method, path, query, chosen, form, content, key)


# The scheme and host of a target in absolute form (RFC 9112 section 3.2.2).
_ORIGIN = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def _canonical_path(path: str) -> str:
    return _ESCAPE.sub(_normal_escape, path) or "/"


def _normal_escape(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.match(character) else escape[0].upper()


def _wire(text: str) -> bytes:
    # Heads are Latin-1 as the wire has them.  A transport may hand over other text,
    # which its client would have sent as UTF-8.
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    # Lossless: two byte strings that are not UTF-8 stay two different texts.
    return data.decode("utf-8", "surrogateescape")


def _digest(value: object) -> str:
    """Hash a value by a JSON text that only equal values share.

    Objects hold tuples under their names, so a number, which becomes an object that
    holds a string, is like no object of a request.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        default=lambda number: {"number": number.literal},
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _fields(pairs: Iterable[tuple[str, Value]]) -> Fields:
    groups: dict[str, list[Value]] = {}
    for name, value in pairs:
        groups.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in groups.items()}


# --- what is ignored ------------------------------------------------------------------


def _left_of(body: Body, rules: MatchRules) -> Body:
    """Return a body without the fields that are ignored."""
    _leave_out("body", body.value, rules)
    # As a form without fields is.
    return Body("none") if body.kind == "form" and not body.value else body


def _leave_out(root: str, value: Value, rules: MatchRules) -> None:
    """Take what is ignored out of a value; not by recursion, for it may be deep."""
    waiting: list[tuple[Path, Value]] = [((root,), value)]
    while waiting:
        path, parent = waiting.pop()
        if isinstance(parent, dict):
            for name in list(parent):
                if rules.ignores(path, name):
                    del parent[name]
                else:
                    waiting += _within((*path, name), parent[name])
        elif isinstance(parent, list):
            for index, child in enumerate(parent):
                if rules.ignores(path, index):
                    parent[index] = _IGNORED
                else:
                    waiting += _within((*path, index), (child,))
            while parent and parent[-1] is _IGNORED:
                parent.pop()


def _within(path: Path, children: Iterable[Value]) -> list[tuple[Path, Value]]:
    return [(path, child) for child in children if isinstance(child, (dict, list))]


# --- masks ----------------------------------------------------------------------------

_MASK: Final = "*" * MASK_SIZE
_MASKED: Final = rf"\g<1>{_MASK}"

# Of each, group 1 stays and the rest is the mask.  What stands before it has to be in
# the text, and to look for that alone costs next to nothing.
_MASKS: Final = (
    (
        "PRIVATE KEY",
        re.compile(
            r"(-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----)"
            # Line breaks, also those that are escaped, and what is no part of a key.
            r"(?=[^-*]*\*)(?:\\+[nrt]|[^A-Za-z0-9+/=\\])*?(?=--)"
        ),
    ),
    ("*@", re.compile(r"(://[^/\s\"'@:?#\\<>*]{0,128}:)\*++(?=@)")),
    (
        '"*',
        # The quotes of a value have as many backslashes before them as is its depth.
        re.compile(r'("(?:\s|\\+[nrt])*+:(?:\s|\\+[nrt])*+(\\*)")\*++(?=\2")'),
    ),
    (_MASK, re.compile(rf"()\*{{{MASK_SIZE},}}+")),
)


def _even_text(text: str) -> str:
    """Return a text with all of its masks of one length."""
    if "*" in text:
        for hint, mask in _MASKS:
            if hint in text:
                text = mask.sub(_MASKED, text)
    return text


def _even_string(text: str) -> str:
    """Return a text that may be one mask as a whole."""
    return _even_text(text) if text.strip("*") or not text else _MASK


def _even_bytes(data: bytes) -> bytes:
    if b"*" not in data:
        return data
    try:
        return _even_string(data.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return data  # only text is masked


def _even_value(value: Value) -> Value:
    return _even_string(value) if isinstance(value, str) else value


def _even_fields(pairs: Iterable[tuple[str, Value]]) -> Fields:
    # No rule masks a name as a whole: `{"*":1,"**":2}` has two.
    return _fields((_even_text(name), _even_value(value)) for name, value in pairs)


# --- bodies ---------------------------------------------------------------------------


def _canonical_body(headers: Headers, body: bytes | BodyDigest) -> Body:
    if isinstance(body, BodyDigest):
        return Body("bytes", f"sha256:{body.sha256}, {body.size} B")
    if not body:
        return Body("none")
    coding = (header(headers, "content-encoding") or "identity").strip().lower()
    if coding != "identity" or len(body) > PARSED_BYTES_MAX:
        return _hashed(body)
    try:
        return _parsed(header(headers, "content-type"), media_type(headers), body)
    except (ValueError, RecursionError):
        # Not what its label says: the bytes are all there is to compare.
        return _hashed(_even_bytes(body))


def _hashed(body: bytes) -> Body:
    return Body("bytes", f"sha256:{hashlib.sha256(body).hexdigest()}, {len(body)} B")


def _parsed(content_type: str | None, kind: str, body: bytes) -> Body:
    """Read a body as its label says; raise ValueError where that is impossible."""
    if kind == "application/x-www-form-urlencoded":
        return _form(_urlencoded(body))
    if kind == "multipart/form-data":
        _, parameters = _with_parameters(content_type or "")
        return _form(_multipart(body, parameters.get("boundary", "")))
    if kind == "application/json" or kind.endswith("+json"):
        return Body("json", _json(body))
    # Some clients do not label their bodies.  An object or an array is JSON beyond
    # doubt; a bare word or number may be anything.
    if not kind and body.lstrip()[:1] in {b"{", b"["}:
        return Body("json", _json(body))
    raise ValueError("a body that is compared by its bytes")


def _form(pairs: Iterable[tuple[str, Value]]) -> Body:
    fields = _even_fields(pairs)
    return Body("form", fields) if fields else Body("none")


def _json(body: bytes) -> Value:
    value: Value = json.loads(
        body.decode("utf-8"),
        object_pairs_hook=_even_fields,
        parse_int=Number,
        parse_float=Number,
        parse_constant=_not_json,
    )
    value = _even_value(value)
    level, depth = [value], 0
    while level:
        if depth == JSON_DEPTH_MAX:
            raise ValueError("JSON nested too deeply")
        for parent in level:
            if isinstance(parent, list):
                parent[:] = map(_even_value, parent)
        level = [child for parent in level for child in _children(parent)]
        depth += 1
    return value


def _not_json(constant: str) -> Value:
    # Python reads NaN and Infinity; RFC 8259 section 6 does not permit them.
    raise ValueError(constant)


def _children(value: Value) -> Iterable[Value]:
    if isinstance(value, dict):
        return (child for values in value.values() for child in values)
    return value if isinstance(value, list) else ()


def _urlencoded(data: bytes) -> Iterator[tuple[str, str]]:
    # https://url.spec.whatwg.org/#urlencoded-parsing: "If bytes is the empty byte
    # sequence, then continue"; no `=` is an empty value; `+` is a space.
    for piece in data.split(b"&"):
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            yield _text(unquote_to_bytes(name)), _text(unquote_to_bytes(value))


# --- multipart/form-data: RFC 7578, and RFC 2046 section 5.1.1 for the delimiters -----

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;"]+)')
_QUOTED_PAIR = re.compile(r'\\(["\\])')
# "replacing … 0x0A with `%0A`, 0x0D with `%0D` and 0x22 with `%22`": what browsers and
# httpx do to names (WHATWG HTML, "multipart/form-data encoding algorithm").
_NAME_ESCAPE = re.compile(r"%(0A|0D|22)", re.IGNORECASE)

# The content types with which a part without a file name is a plain text field.
_PLAIN_TEXT = {"", "text/plain", "text/plain;charset=utf-8", "text/plain;charset=utf8"}


def _with_parameters(value: str) -> tuple[str, dict[str, str]]:
    word, semicolon, rest = value.partition(";")
    rest = semicolon + rest
    if _PARAMETER.sub("", rest).strip(" \t;"):
        raise ValueError("a header value that is not a word with parameters")
    parameters = {}
    for name, text in _PARAMETER.findall(rest):
        if text.startswith('"'):
            text = _QUOTED_PAIR.sub(r"\1", text[1:-1])  # noqa: PLW2901 - the same, bare
        parameters[name.lower()] = text
    return word.strip().lower(), parameters


def _multipart(body: bytes, boundary: str) -> Iterator[tuple[str, Value]]:
    """Yield the fields of a body; raise ValueError where it is malformed."""
    if not boundary:
        raise ValueError("multipart without a boundary")
    # A delimiter owns the line end in front of it, which the first one does not need.
    pieces = (b"\r\n" + body).split(b"\r\n--" + _wire(boundary))
    if pieces[0] or pieces[-1] not in {b"--", b"--\r\n"}:
        raise ValueError("multipart that does not begin and end with its boundary")
    for part in pieces[1:-1]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if not head.startswith(b"\r\n") or not blank:
            raise ValueError("a part without a head")
        yield _part(head, content)


def _part(head: bytes, content: bytes) -> tuple[str, Value]:
    headers = {}
    for line in _text(head[2:]).split("\r\n"):
        label, colon, value = line.partition(":")
        if not colon:
            raise ValueError("a part with a line that is no header")
        headers[label.strip().lower()] = value.strip()
    disposition, names = _with_parameters(headers.get("content-disposition", ""))
    if disposition != "form-data" or "name" not in names:
        raise ValueError("a part without a name")
    name = _unescaped(names["name"])
    content_type = headers.get("content-type", "")
    # `filename*` is forbidden by RFC 7578 section 4.2, and sent by some.
    filename = names.get("filename*", names.get("filename"))
    if filename is None and content_type.lower().replace(" ", "") in _PLAIN_TEXT:
        return name, _text(content)
    return name, {
        "filename": (_even_text(_unescaped(filename or "")),),
        "content_type": (content_type,),
        "sha256": (hashlib.sha256(_even_bytes(content)).hexdigest(),),
    }


def _unescaped(name: str) -> str:
    return _NAME_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), name)


# --- what differs ---------------------------------------------------------------------


class _Leaf(NamedTuple):
    """A value that has no fields, or that does on one side alone."""

    name: str
    """Its path as text, and which of equal names it is."""
    path: Path
    recorded: _Side
    received: _Side


def _closeness(recorded: str, received: str) -> tuple[int, int]:
    """Rank two paths: (2, 0) equal, (1, segments) by suffix, (0, segments) no match."""
    if recorded == received:
        return 2, 0
    shorter, longer = sorted((recorded, received), key=len)
    segments = [segment for segment in shorter.split("/") if segment]
    if shorter.startswith("/") and segments and longer.endswith(shorter):
        return 1, len(segments)
    # Counted from the end, where prefixes do no harm.
    ends = (reversed(path.split("/")) for path in (recorded, received))
    return 0, sum(one == other for one, other in zip(*ends, strict=False))


def _best(paths: Iterable[str], received: str) -> tuple[tuple[int, int], str]:
    """Return the rank of the path that is closest to a received one, and that path."""
    return max((_closeness(path, received), path) for path in paths)


def _pairs(leaf: _Leaf) -> Iterator[_Leaf]:
    """Walk two values together and yield their leaves, in the order of their names."""
    name, path, recorded, received = leaf
    if isinstance(recorded, dict) and isinstance(received, dict):
        for key in sorted(recorded.keys() | received.keys()):
            here, text = (*path, key), name + step(key)
            twins = zip_longest(
                recorded.get(key, ()), received.get(key, ()), fillvalue=_MISSING
            )
            for number, (one, other) in enumerate(twins, start=1):
                again = f"#{number}" if number > 1 else ""
                yield from _pairs(_Leaf(text + again, here, one, other))
    elif isinstance(recorded, list) and isinstance(received, list):
        twins = zip_longest(recorded, received, fillvalue=_MISSING)
        for index, (one, other) in enumerate(twins):
            if one is _IGNORED or other is _IGNORED:
                continue  # on both sides, unless one ends before it
            yield from _pairs(_Leaf(f"{name}[{index}]", (*path, index), one, other))
    else:
        yield leaf


def _leaves(recorded: Canonical, received: Canonical) -> Iterator[_Leaf]:
    one: _Side = recorded.body.value
    other: _Side = received.body.value
    kinds = (recorded.body.kind, received.body.kind)
    if kinds[0] != kinds[1]:
        one, other = (_MISSING if kind == "none" else kind for kind in kinds)
    for root, *sides in (
        ("query", recorded.query, received.query),
        ("headers", recorded.headers, received.headers),
        ("body", one, other),
    ):
        yield from _pairs(_Leaf(root, (root,), *sides))


def _likeness(recorded: Canonical, received: Canonical) -> tuple[int, int]:
    leaves = _leaves(recorded, received)
    same = [leaf.recorded == leaf.received for leaf in leaves]
    return sum(same), -same.count(False)


class _Difference(NamedTuple):
    """What a `Miss` says of two requests, by the names that it has for it."""

    field: str
    expected: str
    actual: str
    rule: str = ""


def _difference(recorded: Canonical, received: Canonical) -> _Difference:
    """Return the first thing that differs."""
    if not _closeness(recorded.path, received.path)[0]:
        return _Difference("path", *_shown(recorded.path, received.path))
    if recorded.method != received.method:
        return _Difference("method", *_shown(recorded.method, received.method))
    leaf = next(
        leaf for leaf in _leaves(recorded, received) if leaf.recorded != leaf.received
    )
    texts = _shown(leaf.recorded, leaf.received)
    return _Difference(leaf.name, *texts, _rule_for(leaf, received.body.kind))


# What looks like a value that every request has of its own.  It decides nothing: it is
# only said.  Names of models and of versions must not look like it.
_CHANGING = re.compile(
    r"""
    (?: [a-z]+ [_-] )*                      # in front of an id, as in req_… and call_…
    (?: [0-9a-f]{8} (?: -[0-9a-f]{4} ){3} -[0-9a-f]{12}            # a UUID
      | (?= [a-z]* [0-9] ) (?= [0-9]* [a-z] ) [0-9a-z]{12,} )      # letters and digits
    | \d{4}-\d\d-\d\d (?: [T ] \d\d:\d\d [0-9:.,]* \s? (?: Z | [+-]\d\d:?\d\d )? )?
    | [a-z]{3}, [ ] \d\d [ ] [a-z]{3} [ ] \d{4} [ ] [0-9:]{8} [ ] GMT
    | 1\d{9} (?: \d{3} ){0,3} (?: \.\d+ )?  # Unix time from 2001 to 2033, in s to ns
    | 0\.\d{12,}                            # of a generator of random numbers
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def _changes(value: _Side) -> bool:
    text = value.literal if isinstance(value, Number) else value
    return isinstance(text, str) and _CHANGING.fullmatch(text) is not None


def _rule_for(leaf: _Leaf, kind: str) -> str:
    """Return the rule that would ignore a field that looks like an id or a time."""
    root, *rest = leaf.path
    # A header was asked for, and what a file holds is no id, though its hash looks so.
    has_rule = rest and root != "headers" and not (kind == "form" and len(rest) > 1)
    if not has_rule or not (_changes(leaf.recorded) and _changes(leaf.received)):
        return ""
    rule: list[Part] = [ANY if isinstance(part, int) else part for part in leaf.path]
    rule[-1] = rest[-1]
    # With a name above it, a field is told well enough.
    return written(rule[len(rest) > 1 and isinstance(rest[0], str) :])


def _shown(one: _Side, other: _Side) -> tuple[str, str]:
    # Text stands for itself, unless its quotes are what tells "1" from 1.
    bare = all(isinstance(side, (str, _Missing)) for side in (one, other))
    texts = [
        side if bare and isinstance(side, str) else _written(side)
        for side in (one, other)
    ]
    start = 0
    if max(map(len, texts)) > SHOWN_MAX:
        # Long prompts begin alike: show them from just before where they part.
        pairs = enumerate(zip(*texts, strict=False))
        end = min(map(len, texts))
        parting = next((at for at, (a, b) in pairs if a != b), end)
        start = max(0, parting - SHOWN_MAX // 4)
    return _window(texts[0], start), _window(texts[1], start)


def _window(text: str, start: int) -> str:
    before = "…" if start else ""
    after = "…" if len(text) > start + SHOWN_MAX else ""
    text = before + text[start : start + SHOWN_MAX] + after
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _written(value: _Side) -> str:
    """Write a value as JSON again, for people."""
    if isinstance(value, _Missing):
        return ABSENT
    if isinstance(value, Number):
        return value.literal
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        members = (
            f"{json.dumps(name, ensure_ascii=False)}: {_written(child)}"
            for name, children in sorted(value.items())
            for child in children
        )
        return f"{{{', '.join(members)}}}"
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Miss(Generic[T]):
    """No recording matches a request, and why."""

    method: str
    path: str
    nearest: T | None
    """The recording that shares the most with the request; None without recordings."""
    field: str
    """What differs first: `path`, `query.NAME`, `body.messages[2].content`, …"""
    expected: str
    """That, in the nearest recording."""
    actual: str
    """That, in the request."""
    rule: str = ""
    """What would ignore it, where it looks like an id or a time: see `MatchRules`."""

    def to_json(
        self,
        describe: Callable[[T], Mapping[str, object]],
        *,
        command: str = "sse-recorder record",
    ) -> dict[str, object]:
        """Return the body of the 404 that tells the client.

        Args:
            describe: gives what to tell of the nearest recording, such as its
                `exchange_id`.
            command: records the request.
        """
        if self.nearest is None:
            why = "there are no recordings"
        else:
            why = f"the nearest recording differs in {self.field}"
        message = (
            f"No recording matches {self.method} {self.path}: {why}; send a request "
            f"that was recorded, or record this one with `{command}`."
        )
        if self.rule:
            message += (
                " If that field is another in every request, as ids and times are,"
                f" ignore it with --ignore {shlex.quote(self.rule)} (in Python:"
                f" ignore=[{json.dumps(self.rule, ensure_ascii=False)}])."
            )
        nearest = None if self.nearest is None else dict(describe(self.nearest))
        return {
            "error": {
                "type": "no_recording_matches",
                "message": message,
                "nearest": nearest,
                "differs_in": self.field,
                "recorded": self.expected,
                "received": self.actual,
            }
        }


# --- the matcher ----------------------------------------------------------------------

Paths: TypeAlias = "tuple[str, ...]"
"""The paths by which a recording is found: as sent upstream, and as received."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    recording: T
    method: str
    paths: Paths
    request: tuple[str, str, Headers, bytes]
    """Kept instead of its canonical form, which is needed only to explain a miss and
    can be several times as large; the bytes are the recording's own."""


@dataclass(slots=True)
class _Group:
    """The recordings of one request, as positions in recorded order."""

    paths: Paths
    entries: list[int] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)
    """How many of them have answered, by the scope of the requests; more, where more
    were asked for than there are."""

    @property
    def used(self) -> int:
        """How many have answered in any scope."""
        return max(self.served.values(), default=0)


class Matcher(Generic[T]):
    """Finds recordings for live requests.

    Rules:
        order: requests that are equal are answered in recorded order.
        last: the last of them answers again when they run out, unless `repeats` is
            off; then that is a miss.
        scope: each scope, such as a test, is answered from the first one on.

    A recording answers a request whose content is equal and whose path matches; where
    the paths of several match, the closest ones answer, and as one series when they are
    equally close.

    Args:
        rules: what takes no part, and which headers do.
    """

    def __init__(self, rules: MatchRules = EXACT) -> None:
        self.repeats = True
        """Whether a recording may answer more than once."""
        self._rules = rules
        self._entries: list[_Entry[T]] = []
        # By content, then by paths.
        self._groups: dict[str, dict[Paths, _Group]] = {}
        # By content and any path: an equal one is found without looking at the others.
        self._by_path: dict[tuple[str, str], list[_Group]] = {}

    def add(
        self,
        recording: T,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        *,
        received_path: str | None = None,
    ) -> None:
        """Add a recording and its request, masked, after those already there.

        Args:
            recording: what `find` is to return.
            method: of the request.
            target: path and query as sent upstream.
            headers: of the request.
            body: of the request.
            received_path: the path as the client sent it, where that is another.
        """
        form = canonical(method, target, headers, body, self._rules)
        paths: Paths = (form.path,)
        if received_path and (received := _canonical_path(received_path)) != form.path:
            paths = (form.path, received)
        group = self._groups.setdefault(form.content, {}).get(paths)
        if group is None:
            group = self._groups[form.content][paths] = _Group(paths)
            for path in paths:
                self._by_path.setdefault((form.content, path), []).append(group)
        group.entries.append(len(self._entries))
        request = (method, target, headers, body)
        self._entries.append(_Entry(recording, method, paths, request))

    def find(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        *,
        scope: str = "",
    ) -> T | Miss[T]:
        """Return the recording that answers a masked request, or why none does."""
        live = canonical(method, target, headers, body, self._rules)
        closest = self._closest(live)
        if not closest:
            return self._miss(live)
        waiting = [
            (group.entries[served], group, served)
            for group in closest
            if (served := group.served.get(scope, 0)) < len(group.entries)
        ]
        if waiting:
            entry, group, served = min(waiting, key=lambda first: first[0])
            group.served[scope] = served + 1
            return self._entries[entry].recording
        last = self._entries[max(group.entries[-1] for group in closest)].recording
        return last if self.repeats else self._run_out(live, closest, scope, last)

    def reset(self) -> None:
        """Start again: nothing has been served."""
        for group in self._all_groups():
            group.served.clear()

    def used(self) -> list[T]:
        """Return the recordings that have been served, in recorded order."""
        served = [
            at for group in self._all_groups() for at in group.entries[: group.used]
        ]
        return [self._entries[at].recording for at in sorted(served)]

    def unused(self) -> list[T]:
        """Return the recordings that nobody asked for yet, in recorded order."""
        waiting = [
            at for group in self._all_groups() for at in group.entries[group.used :]
        ]
        return [self._entries[at].recording for at in sorted(waiting)]

    def _all_groups(self) -> Iterator[_Group]:
        for groups in self._groups.values():
            yield from groups.values()

    def _closest(self, live: Canonical) -> list[_Group]:
        if equal := self._by_path.get((live.content, live.path)):
            return equal
        groups = self._groups.get(live.content, {})
        ranks = {paths: _best(paths, live.path)[0] for paths in groups}
        best = max(ranks.values(), default=(0, 0))
        return [groups[paths] for paths in groups if best[0] and ranks[paths] == best]

    def _run_out(
        self, live: Canonical, closest: list[_Group], scope: str, last: T
    ) -> Miss[T]:
        """Say how often a request was recorded, and how often it has come."""
        closest[-1].served[scope] += 1  # counts what was asked, beyond what answered
        recorded = sum(len(group.entries) for group in closest)
        asked = sum(group.served[scope] for group in closest)
        times = (f"{recorded} time" + "s" * (recorded != 1), f"{asked} times")
        return Miss(live.method, live.path, last, REPEATS, *times)

    def _miss(self, live: Canonical) -> Miss[T]:
        if not self._entries:
            return Miss(live.method, live.path, None, "path", ABSENT, live.path)
        # Bodies are read again for the best paths and methods only.
        ranks = [
            (_best(entry.paths, live.path)[0], entry.method == live.method)
            for entry in self._entries
        ]
        best = max(ranks)
        rivals = [
            (
                entry.recording,
                replace(
                    canonical(*entry.request, self._rules),
                    path=_best(entry.paths, live.path)[1],
                ),
            )
            for entry, rank in zip(self._entries, ranks, strict=True)
            if rank == best
        ]
        # The first of equals wins, so the answer depends on nothing but the recordings.
        nearest, form = max(rivals, key=lambda rival: _likeness(rival[1], live))
        return Miss(live.method, live.path, nearest, *_difference(form, live))
