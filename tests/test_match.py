"""The canonical form of requests, and the recordings found by it."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sse_recorder.credentials import _FORMS
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, RequestHead
from sse_recorder.match import (
    ABSENT,
    JSON_DEPTH_MAX,
    MASK_SIZE,
    PARSED_BYTES_MAX,
    BodyDigest,
    Matcher,
    MatchRules,
    Miss,
    canonical,
    request_key,
)
from sse_recorder.paths import Path, ends, ignoring, written
from sse_recorder.redact import Redactor

JSON: Headers = (("Content-Type", "application/json"),)
FORM: Headers = (("Content-Type", "application/x-www-form-urlencoded"),)
CHAT = "/v2/sessions/0193/chat/stream"


def multipart(boundary: str = "b") -> Headers:
    """Return the headers of a multipart body."""
    return (("content-type", f"multipart/form-data; boundary={boundary}"),)


def json_key(text: str | bytes) -> str:
    """Return the key of a JSON request."""
    body = text.encode() if isinstance(text, str) else text
    return request_key("POST", CHAT, JSON, body)


def kind(headers: Headers, body: bytes) -> str:
    """Return how a body is compared."""
    return canonical("POST", CHAT, headers, body).body.kind


def find_miss(matcher: Matcher[str], *request: Any) -> Miss[str]:
    """Return the miss that a request must give."""
    miss = matcher.find(*request)
    assert isinstance(miss, Miss)
    return miss


def differs(
    recorded: tuple[str, Headers, bytes], received: tuple[str, Headers, bytes]
) -> tuple[str, str, str]:
    """Return what a miss says of two POST requests: field, expected, actual."""
    matcher: Matcher[str] = Matcher()
    matcher.add("one", "POST", *recorded)
    miss = find_miss(matcher, "POST", *received)
    assert miss.nearest == "one"
    return miss.field, miss.expected, miss.actual


def json_differs(recorded: object, received: object) -> tuple[str, str, str]:
    """Return what a miss says of two JSON bodies."""
    return differs(
        (CHAT, JSON, json.dumps(recorded).encode()),
        (CHAT, JSON, json.dumps(received).encode()),
    )


# --- the canonical form ---------------------------------------------------------------


def test_a_key_is_the_hexadecimal_sha256_of_a_request() -> None:
    """A key never changes: recordings that were made long ago carry it."""
    key = request_key("POST", CHAT + "?a=1", JSON, b'{"stream": true, "n": 1.0}')
    assert key == "8789a14827013e71e92eefd6136aa3550658b1345271055d5a3ecb7d41fb3f03"


@pytest.mark.parametrize(
    "other",
    [
        ("GET", "/a/b?x=1", JSON, b'{"a":1}'),
        ("POST", "/a/c?x=1", JSON, b'{"a":1}'),
        ("POST", "/a/b?x=2", JSON, b'{"a":1}'),
        ("POST", "/a/b", JSON, b'{"a":1}'),
        ("POST", "/a/b?x=1", JSON, b'{"a":2}'),
        ("POST", "/a/b?x=1", JSON, b""),
        ("POST", "/a/b?x=1", FORM, b'{"a":1}'),
    ],
)
def test_everything_but_headers_is_in_the_key(
    other: tuple[str, str, Headers, bytes],
) -> None:
    """Method, path, query and body each decide."""
    assert request_key("POST", "/a/b?x=1", JSON, b'{"a":1}') != request_key(*other)


def test_headers_are_not_in_the_key() -> None:
    """Headers other than those that say how to read the body never decide."""
    more = (*JSON, ("Authorization", "Bearer x"), ("User-Agent", "y"))
    assert request_key("POST", CHAT, more, b"{}") == json_key("{}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a%7eb%41", "/a~bA"),
        ("/a%2fb", "/a%2Fb"),
        ("http://host:80/a?b=1", "/a?b=1"),
        ("https://host", "/"),
        ("?a=1", "/?a=1"),
        ("/?a=1&b=2", "/?b=2&a=1"),
        ("/?a=1&b=2&a=3", "/?b=2&a=1&a=3"),
        ("/?a=x+y", "/?%61=x%20y"),
        ("/?a=\xc3\xa9", "/?a=%C3%A9"),
        ("/?a=\u20ac", "/?a=%e2%82%ac"),
        ("/?a", "/?a="),
        ("/?&a=1&&", "/?a=1"),
        ("/?", "/"),
    ],
)
def test_spelling_of_a_target_means_nothing(one: str, other: str) -> None:
    """Escapes that mean the same and the order of different names are irrelevant."""
    assert request_key("GET", one, (), b"") == request_key("GET", other, (), b"")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a%2Fb", "/a/b"),
        ("/a", "/a/"),
        ("/A", "/a"),
        ("/?a=1&a=2", "/?a=2&a=1"),
        ("/?a=%FF", "/?a=%FE"),
        ("/?a=%FF", "/?a=%EF%BF%BD"),
        ("/?a=1%26b=2", "/?a=1&b=2"),
    ],
)
def test_meaning_of_a_target_decides(one: str, other: str) -> None:
    """Reserved escapes, case, slashes and the order of equal names are relevant."""
    assert request_key("GET", one, (), b"") != request_key("GET", other, (), b"")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":[true,null]}', ' { "b" : [ true , null ] , "a" : 1 }\n'),
        ('{"a":"\\u00e9\\/"}', '{"a":"é/"}'),
        ('{"a":{"c":1,"b":2}}', '{"a":{"b":2,"c":1}}'),
        ('{"a":1,"b":0,"a":2}', '{"b":0,"a":1,"a":2}'),
    ],
)
def test_spelling_of_json_means_nothing(one: str, other: str) -> None:
    """Key order, white space and escapes of strings are irrelevant."""
    assert json_key(one) == json_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "1e0"),
        ("0.1", "0.10000000000000000001"),
        ("12345678901234567890123", "12345678901234567890124"),
        ("1", '"1"'),
        ("1", "true"),
        ("null", '""'),
        ("[]", "{}"),
        ("[1,2]", "[2,1]"),
        ("[[1],2]", "[1,[2]]"),
        ('{"a":1,"a":2}', '{"a":2,"a":1}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('{"a":1,"a":2}', '{"a":[1,2]}'),
        ("1", '{"number":"1"}'),
        ('"\\ud800"', '"\\ud801"'),
    ],
)
def test_meaning_of_json_decides(one: str, other: str) -> None:
    """Numbers as written, types, the order of arrays and of equal keys are relevant."""
    assert json_key(one) != json_key(other)


def test_a_number_may_be_longer_than_an_int_can_be_read() -> None:
    """Numbers are never turned into ints, whose digits Python limits."""
    assert kind(JSON, b"1" * 10_000) == "json"


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (JSON, b'{"a":1}', "json"),
        (JSON, b'"text"', "json"),
        ((("content-type", "application/ld+json; charset=utf-8"),), b"[]", "json"),
        ((), b' {"a":1}', "json"),
        ((), b"[1]", "json"),
        ((), b"5", "bytes"),
        ((), b"{a", "bytes"),
        ((), b" ", "bytes"),
        ((("content-type", "text/plain"),), b'{"a":1}', "bytes"),
        (JSON, b'{"a":NaN}', "bytes"),
        (JSON, b"[-Infinity]", "bytes"),
        (JSON, b'{"a":1', "bytes"),
        (JSON, b'"\xff"', "bytes"),
        (JSON, b'\xef\xbb\xbf{"a":1}', "bytes"),
        (JSON, "{}".encode("utf-16"), "bytes"),
        (JSON, b"", "none"),
        ((*JSON, ("Content-Encoding", "gzip")), b'{"a":1}', "bytes"),
        ((*JSON, ("Content-Encoding", "Identity")), b'{"a":1}', "json"),
        (FORM, b"a=1", "form"),
        (FORM, b"&&", "none"),
        (multipart(), b"--b--\r\n", "none"),
        ((("content-type", "multipart/mixed; boundary=b"),), b"--b--", "bytes"),
    ],
)
def test_the_label_says_how_a_body_is_compared(
    headers: Headers, body: bytes, expected: str
) -> None:
    """A body is read as its content type says, and is bytes where that fails."""
    assert kind(headers, body) == expected


@pytest.mark.parametrize("depth", [JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1, 100_000])
def test_json_that_is_nested_too_deeply_is_bytes(depth: int) -> None:
    """The limit of nesting is ours, not the interpreter's."""
    body = b"[" * depth + b"]" * depth
    assert kind(JSON, body) == ("json" if depth == JSON_DEPTH_MAX else "bytes")


def test_forms_are_the_same_in_both_encodings() -> None:
    """A form of Meibel's client is the same as multipart with any boundary."""
    boundary = f"----FormBoundary{uuid.uuid4()}"
    parts = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="user_message"\r\n\r\n'
        f"What's the 1st line?\r\né\r\n"
        f'--{boundary}\r\ncontent-disposition:form-data;name="include_tool_activity"\r\n'
        f"Content-Type: text/plain; charset=utf-8\r\n\r\nTrue\r\n--{boundary}--\r\n"
    )
    flat = (
        b"include_tool_activity=True&user_message=What%27s+the+1st+line%3F%0D%0A%C3%A9"
    )
    assert request_key("POST", CHAT, FORM, flat) == request_key(
        "POST", CHAT, multipart(boundary), parts.encode()
    )


def upload(*, boundary: str = "x", **changes: str) -> tuple[str, Headers, bytes]:
    """Return a chat request with a file, as Meibel's client sends it."""
    part = {"field": "file", "name": "a.txt", "type": "text/plain", "data": "1\r\n2"}
    part |= changes
    body = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="user_message"\r\n\r\nHi\r\n'
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{part["field"]}"; '
        f'filename="{part["name"]}"\r\n'
        f"Content-Type: {part['type']}\r\n\r\n{part['data']}\r\n"
        f"--{boundary}--\r\n"
    )
    headers = (*multipart(boundary), ("Transfer-Encoding", "chunked"))
    return CHAT, headers, body.encode()


def test_files_are_the_same_under_every_boundary() -> None:
    """A file is its field, name, type and content; the boundary is not part of it."""
    other = upload(boundary=f"----FormBoundary{uuid.uuid4()}")
    assert request_key("POST", *upload()) == request_key("POST", *other)


@pytest.mark.parametrize(
    ("change", "field", "expected", "actual"),
    [
        ({"name": "b.txt"}, "body.file.filename", "a.txt", "b.txt"),
        ({"type": "text/csv"}, "body.file.content_type", "text/plain", "text/csv"),
        ({"field": "files[]"}, "body.file", None, ABSENT),
        (
            {"data": "2"},
            "body.file.sha256",
            hashlib.sha256(b"1\r\n2").hexdigest(),
            hashlib.sha256(b"2").hexdigest(),
        ),
    ],
)
def test_a_miss_names_what_differs_in_a_file(
    change: dict[str, str], field: str, expected: str | None, actual: str
) -> None:
    """Field, name, type and content of a file each decide, and are named."""
    found = differs(upload(), upload(**change))
    assert (found[0], found[2]) == (field, actual)
    assert expected is None or found[1] == expected


@pytest.mark.parametrize(
    ("disposition", "content_type", "value"),
    [
        ('form-data; name="a"', None, "1"),
        ("form-data; name=a", None, "1"),
        ('Form-Data ; Name = "a"', "text/plain", "1"),
        ('form-data; name="a"', "application/json", ("", "application/json")),
        ('form-data; name="a"', "text/plain; charset=x", ("", "text/plain; charset=x")),
        ('form-data; name="a"; filename=""', None, ("", "")),
        ('form-data; name="a"; filename="x%22\\"\\\\y"', "z", ('x""\\y', "z")),
        (
            'form-data; name="a"; filename="n"; filename*=utf-8\'\'n%C3%A9',
            None,
            ("utf-8''n%C3%A9", ""),
        ),
    ],
)
def test_a_part_is_a_file_when_it_has_a_name_or_a_type_of_its_own(
    disposition: str, content_type: str | None, value: str | tuple[str, str]
) -> None:
    """Plain text without a file name is a field; everything else is a file."""
    head = f"Content-Disposition: {disposition}\r\n"
    if content_type is not None:
        head += f"CONTENT-TYPE: {content_type}\r\n"
    body = f"--b\r\n{head}X-More: 1\r\n\r\n1\r\n--b--".encode()
    expected: object = value
    if isinstance(value, tuple):
        expected = {
            "filename": (value[0],),
            "content_type": (value[1],),
            "sha256": (hashlib.sha256(b"1").hexdigest(),),
        }
    form = canonical("POST", "/", multipart(), body)
    assert form.body.value == {"a": (expected,)}


PART = b'Content-Disposition: form-data; name="a"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b\r\n" + PART + b"--b--\r\n"),
        ('multipart/form-data; boundary="b', b"--b\r\n" + PART + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"no boundary"),
        ("multipart/form-data; boundary=b", b"preamble\r\n--b\r\n" + PART + b"--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + PART),
        ("multipart/form-data; boundary=b", b"--b\r\n" + PART + b"--b--\r\nepilogue"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + PART + b"--b--\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b \r\n" + PART + b"--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n1\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Type: a\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\n1\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\n1\r\n--b--"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\n1\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: file; name="a"\r\n\r\n1\r\n--b--',
        ),
    ],
)
def test_malformed_multipart_is_bytes(content_type: str, body: bytes) -> None:
    """What is not multipart to the letter is compared by its bytes, never an error."""
    assert kind((("content-type", content_type),), body) == "bytes"


# --- properties -----------------------------------------------------------------------

# Without stars, which may be masks: these have properties of their own.
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="*"), max_size=8
)
SCALARS = st.none() | st.booleans() | st.integers() | TEXT
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)


def reordered(value: Any) -> Any:
    """Return the same JSON value with the keys of all objects the other way round."""
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(value=JSON_VALUES, indent=st.none() | st.integers(0, 3), plain=st.booleans())
def test_order_and_spacing_of_json_never_change_the_key(
    value: object, indent: int | None, *, plain: bool
) -> None:
    """However a client writes the same JSON value, its key is the same."""
    other = json.dumps(reordered(value), indent=indent, ensure_ascii=plain)
    assert json_key(json.dumps(value)) == json_key(other)


@given(one=JSON_VALUES, other=JSON_VALUES)
def test_different_json_never_has_the_same_key(one: object, other: object) -> None:
    """Two values have one key exactly when they are written alike but for key order."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (json_key(json.dumps(one)) == json_key(json.dumps(other))) == same


@given(value=JSON_VALUES, new=SCALARS, data=st.data())
def test_changing_any_leaf_changes_the_key_and_is_named(
    value: object, new: object, data: st.DataObject
) -> None:
    """One changed leaf is a miss that names it and nothing else."""
    changed = json.loads(json.dumps({"root": value}))
    place: Any = changed
    key: Any = "root"
    path: list[str | int] = ["body", "root"]
    while isinstance(place[key], (dict, list)) and place[key]:
        place = place[key]
        if isinstance(place, dict):
            key = data.draw(st.sampled_from(sorted(place)))
        else:
            key = data.draw(st.integers(0, len(place) - 1))
        path.append(key)
    assume(json.dumps(place[key]) != json.dumps(new))
    place[key] = new
    found, expected, actual = json_differs({"root": value}, changed)
    assert found == written(path)
    assert expected != actual


@given(pairs=PAIRS, boundary=st.uuids())
def test_encoding_of_a_form_never_changes_the_key(
    pairs: list[tuple[str, str]], boundary: uuid.UUID
) -> None:
    """However a client encodes the same fields, their key is the same."""
    mark = f"----FormBoundary{boundary}"
    escapes = {'"': "%22", "\r": "%0D", "\n": "%0A", "\\": "\\\\"}
    # A name that contains such an escape itself cannot be told from an escaped one.
    assume(not any(code in name for name, _ in pairs for code in escapes.values()))
    parts = "".join(
        f"--{mark}\r\nContent-Disposition: form-data; "
        f'name="{"".join(escapes.get(c, c) for c in name)}"\r\n\r\n{value}\r\n'
        for name, value in pairs
    )
    keys = {
        request_key(
            "POST", CHAT, FORM, urlencode(pairs, quote_via=quote_plus).encode()
        ),
        request_key("POST", CHAT, FORM, urlencode(pairs, quote_via=quote).encode()),
        request_key("POST", CHAT, multipart(mark), f"{parts}--{mark}--\r\n".encode()),
    }
    assert len(keys) == 1


@given(pairs=PAIRS, data=st.data())
def test_order_of_different_names_never_changes_the_key(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Fields may come in any order that keeps equal names in theirs."""
    names = data.draw(st.permutations([name for name, _ in pairs]))
    left = list(pairs)
    other = []
    for name in names:
        pair = next(pair for pair in left if pair[0] == name)
        left.remove(pair)
        other.append(pair)
    for headers, target in ((FORM, CHAT), ((), f"{CHAT}?")):
        one, two = urlencode(pairs), urlencode(other)
        requests = (
            [(target, headers, text.encode()) for text in (one, two)]
            if headers
            else [(target + text, headers, b"") for text in (one, two)]
        )
        assert len({request_key("POST", *request) for request in requests}) == 1


@given(
    content_type=st.sampled_from(
        [
            "",
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
            'multipart/form-data; boundary="',
        ]
    ),
    body=st.binary(max_size=40)
    | st.lists(
        st.sampled_from([b"--b", b"--", b"\r\n", PART, b"{", b'"', b"%", b"=", b"["]),
        max_size=12,
    ).map(b"".join),
    target=st.text(max_size=20),
)
def test_no_request_is_an_error(content_type: str, body: bytes, target: str) -> None:
    """Whatever is recorded is found again by the same request."""
    request = ("POST", target, (("content-type", content_type),), body)
    matcher: Matcher[str] = Matcher()
    matcher.add("one", *request)
    assert matcher.find(*request) == "one"


@pytest.mark.parametrize("boundary", ["b", "----FormBoundary0193", "'()+_,-./:=?"])
def test_a_real_client_sends_the_same_form_both_ways(boundary: str) -> None:
    """What httpx encodes is read in both encodings."""
    data = {'na"me\\': "va\r\nlue", "b": ["1", "2"]}
    quoted = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
    flat = httpx.Request("POST", "http://h/x", data=data)
    parts = httpx.Request(
        "POST",
        "http://h/x",
        files=[
            (name, (None, value))
            for name, values in data.items()
            for value in ([values] if isinstance(values, str) else values)
        ],
        headers=quoted,
    )
    assert parts.read().startswith(f"--{boundary}\r\n".encode())
    keys = {
        request_key("POST", "/x", tuple(request.headers.items()), request.read())
        for request in (flat, parts)
    }
    assert len(keys) == 1


# --- finding --------------------------------------------------------------------------


def filled(*recordings: tuple[str, str, str]) -> Matcher[str]:
    """Return a matcher of recordings: name, target and JSON text."""
    matcher: Matcher[str] = Matcher()
    for name, target, text in recordings:
        matcher.add(name, "POST", target, JSON, text.encode())
    return matcher


def asked(matcher: Matcher[str], target: str, text: str = "{}") -> str | Miss[str]:
    """Ask for a JSON request."""
    return matcher.find("POST", target, JSON, text.encode())


def test_equal_requests_are_answered_in_recorded_order_and_then_by_the_last() -> None:
    """Rules `order` and `last`, with another request in between."""
    matcher = filled(("a", "/x", "{}"), ("other", "/x", "[]"), ("b", "/x", "{}"))
    answers = [asked(matcher, "/x", text) for text in ("{}", "[]", "{}", "{}", "[]")]
    assert answers == ["a", "other", "b", "b", "other"]


def test_a_request_may_be_answered_as_often_as_it_was_recorded_and_no_more() -> None:
    """Where repeats are off, what is asked once too often is a miss that counts."""
    matcher = filled(("one", "/v1/chat", "{}"), ("two", "/v1/chat", "{}"))
    matcher.repeats = False
    assert [asked(matcher, "/v1/chat") for _ in range(2)] == ["one", "two"]
    for times in (3, 4):
        miss = asked(matcher, "/v1/chat")
        assert isinstance(miss, Miss)
        assert (miss.nearest, miss.rule) == ("two", "")
        told = (miss.field, miss.expected, miss.actual)
        assert told == ("how often it is asked", "2 times", f"{times} times")
    assert (matcher.used(), matcher.unused()) == (["one", "two"], [])
    matcher.reset()
    assert asked(matcher, "/v1/chat") == "one"


def test_a_miss_says_which_command_records() -> None:
    """In a test run it is another one."""
    miss = asked(filled(("one", "/v1/chat", "{}")), "/v1/chat", "[]")
    assert isinstance(miss, Miss)
    told = (
        miss.to_json(lambda name: {"name": name}),
        miss.to_json(lambda name: {"name": name}, command="pytest x"),
    )
    for value, command in zip(told, ("sse-recorder record", "pytest x"), strict=True):
        assert f"or record this one with `{command}`." in str(value["error"])


def test_unused_recordings_are_reported_and_reset_starts_again() -> None:
    """What was served is known, until everything starts from the beginning."""
    matcher = filled(("a", "/x", "{}"), ("b", "/y", "{}"), ("c", "/x", "{}"))
    assert asked(matcher, "/y") == "b"
    assert asked(matcher, "/x") == "a"
    assert (matcher.used(), matcher.unused()) == (["a", "b"], ["c"])
    matcher.reset()
    assert (matcher.used(), matcher.unused()) == ([], ["a", "b", "c"])
    assert asked(matcher, "/x") == "a"


def test_a_recording_that_is_added_later_is_answered_next() -> None:
    """A series that ran out goes on when a recording is added to it."""
    matcher = filled(("a", "/x", "{}"))
    assert [asked(matcher, "/x"), asked(matcher, "/x")] == ["a", "a"]
    matcher.add("b", "POST", "/x", JSON, b"{}")
    assert [asked(matcher, "/x"), asked(matcher, "/x")] == ["b", "b"]


@pytest.mark.parametrize(
    ("recorded", "received"),
    [
        ("/v2/chat", "/chat"),
        ("/v1/x", "/openai/v1/x"),
        ("/v2/chat?a=1&b=2", "/chat?b=2&a=1"),
        ("/v2/chat/", "/chat/"),
    ],
)
def test_prefixes_of_paths_do_not_matter(recorded: str, received: str) -> None:
    """Paths match when one ends with the other at a slash."""
    assert asked(filled(("a", recorded, "{}")), received) == "a"


@pytest.mark.parametrize(
    ("recorded", "received"),
    [
        ("/v2/chat", "/hat"),
        ("/v2/chat", "chat"),
        ("/v2/chat", "/"),
        ("/v2/chat/", "/chat"),
        ("/v2/", "//"),
        ("/v2/chat", "/v3/chat"),
        ("/v2/chat", "/chat?a=1"),
    ],
)
def test_other_paths_miss(recorded: str, received: str) -> None:
    """There is no other fuzziness in paths."""
    assert isinstance(asked(filled(("a", recorded, "{}")), received), Miss)


def test_closer_paths_win() -> None:
    """Equal beats suffix, and a longer common suffix beats a shorter one."""
    matcher = filled(
        ("short", "/chat", "{}"), ("long", "/v2/chat", "{}"), ("equal", "/b/chat", "{}")
    )
    assert [asked(matcher, "/b/chat"), asked(matcher, "/b/chat")] == ["equal", "equal"]
    assert asked(matcher, "/a/v2/chat") == "long"
    assert asked(matcher, "/c/chat") == "short"
    assert asked(matcher, "/chat") == "short"


def test_equally_close_paths_answer_as_one_series() -> None:
    """Recordings behind different prefixes are answered in recorded order."""
    matcher = filled(
        ("1", "/a/chat", "{}"), ("2", "/b/chat", "{}"), ("3", "/a/chat", "{}")
    )
    assert [asked(matcher, "/chat") for _ in range(4)] == ["1", "2", "3", "3"]


def test_a_recording_is_found_by_the_path_that_its_client_sent() -> None:
    """A route's prefix and the upstream's path differ, and the client knows its own."""
    matcher: Matcher[str] = Matcher()
    sent, received = "/v1/chat/completions", "/openai/chat/completions"
    for name in ("first", "last"):
        matcher.add(name, "GET", f"{sent}?a=1", (), b"", received_path=received)
    assert matcher.find("GET", f"{received}?a=1", (), b"") == "first"
    assert matcher.unused() == ["last"]
    assert matcher.find("GET", f"{sent}?a=1", (), b"") == "last"
    assert matcher.find("GET", f"{received}?a=1", (), b"") == "last"
    assert matcher.used() == ["first", "last"]
    # Another base URL again, by the common end; escapes are brought into one form.
    assert matcher.find("GET", "/chat/completion%73?a=1", (), b"") == "last"
    miss = find_miss(matcher, "GET", f"{received}?a=2", (), b"")
    assert (miss.field, miss.expected, miss.actual) == ("query.a", "1", "2")
    miss = find_miss(matcher, "GET", "/mistral/chat?a=1", (), b"")
    assert (miss.field, miss.actual) == ("path", "/mistral/chat")


def test_paths_sent_and_received_are_equally_close() -> None:
    """Whoever asks for a path gets all that was asked for by it, as one series."""
    matcher: Matcher[str] = Matcher()
    matcher.add("routed", "GET", "/v2/chat", (), b"", received_path="/chat")
    matcher.add("direct", "GET", "/chat", (), b"", received_path="/chat")
    found = [matcher.find("GET", "/chat", (), b"") for _ in range(2)]
    assert found == ["routed", "direct"]


def test_credentials_of_recorder_and_replayer_may_differ() -> None:
    """A live request that is masked alike matches, whatever its credentials are."""
    redactor = Redactor()

    def masked(key: str) -> tuple[str, str, Headers, bytes]:
        head = RequestHead(
            "POST",
            f"/v1/models/m:stream?alt=sse&key={key}",
            (*JSON, ("x-api-key", key), ("Authorization", f"Bearer {key}")),
        )
        head = redactor.request_head(head)
        return head.method, head.target, head.headers, b'{"a":1}'

    matcher: Matcher[str] = Matcher()
    matcher.add("one", *masked("sk-real"))
    assert matcher.find(*masked("dummy")) == "one"
    assert request_key(*masked("sk-real")) == request_key(*masked(""))


def test_requests_are_the_same_however_often_they_are_masked() -> None:
    """A key that was made from a masked head is the key of the recording as read."""
    redactor = Redactor()
    head = redactor.request_head(RequestHead("GET", "/?token=a%20b&x=1"))
    again = redactor.request_head(head)
    assert request_key("GET", head.target, (), b"") == request_key(
        "GET", again.target, (), b""
    )


# --- masks ----------------------------------------------------------------------------

MASK = "*" * MASK_SIZE
WORDS = "abcdefghijklmnopqrstuvwxyz0123456789"
PLAIN: Headers = (("Content-Type", "text/plain"),)
LINES: Headers = (("Content-Type", "application/x-ndjson"),)


def masked(headers: Headers, body: bytes) -> tuple[str, str, Headers, bytes]:
    """Return a request as it is recorded, and as it is looked for."""
    head = RequestHead("POST", CHAT, headers)
    return "POST", CHAT, headers, Redactor().whole_body(head, body)


def part(name: str, content: str) -> str:
    """Return a multipart body of one part, and one that is no secret."""
    return (
        f'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\n'
        f"Content-Disposition: form-data; name={name}\r\n\r\n{content}\r\n--b--\r\n"
    )


def nested(text: str, depth: int) -> str:
    """Return JSON inside a string of JSON, and so on."""
    for _ in range(depth):
        text = json.dumps({"x": text})
    return text


FILE = '"f"; filename="f.txt"\r\nContent-Type: text/x-f'

# Where a name or a place says what is secret, so that a secret is any text.
PLACES: list[tuple[str, Headers, Callable[[str], str]]] = [
    ("field", JSON, lambda s: f'{{"api_key": "{s}"}}'),
    ("list", JSON, lambda s: f'[{{"password": ["{s}", "x"]}}]'),
    ("nested", JSON, lambda s: nested(f'{{"n": 1, "password" : "{s}"}}', 1)),
    ("deep", JSON, lambda s: nested(f'{{"password":\n"{s}"}}', 3)),
    ("unlabelled", (), lambda s: f'{{"password": "{s}"}}'),
    ("cut", JSON, lambda s: f'{{"password": "{s}", "b": '),
    ("lines", LINES, lambda s: f'{{"a":1}}\n{{"password":"{s}"}}\n'),
    ("form", FORM, lambda s: f"a=1&password={s}&b=2"),
    ("part", multipart(), lambda s: part("password", s)),
    ("file", multipart(), lambda s: part('"password"; filename="p.txt"', s)),
    ("json-part", multipart(), lambda s: part(FILE, f'{{"password": "{s}"}}')),
    ("url", PLAIN, lambda s: f"of db://zoe:{s}@h, db://zoe:{s}@h"),
    ("url-json", JSON, lambda s: f'["db://zoe:{s}@h/x"]'),
]


@pytest.mark.parametrize(
    ("headers", "write"), [place[1:] for place in PLACES], ids=[p[0] for p in PLACES]
)
@given(
    one=st.text(WORDS, min_size=1, max_size=40),
    other=st.text(WORDS, min_size=1, max_size=40),
)
def test_a_secret_of_any_length_is_the_same_where_all_of_it_is_masked(
    headers: Headers, write: Callable[[str], str], one: str, other: str
) -> None:
    """Requests are equal but for what is named a secret, were it one byte long."""
    recorded = masked(headers, write(one).encode())
    live = masked(headers, write(other).encode())
    assert b"*" in recorded[3]
    assert request_key(*recorded) == request_key(*live)
    assert request_key(*recorded) != request_key(*masked(headers, write("").encode()))
    matcher: Matcher[str] = Matcher()
    matcher.add("one", *recorded)
    assert matcher.find(*live) == "one"


LOOKS: list[tuple[str, Callable[[str], str]]] = [
    ("anthropic", lambda s: f"sk-ant-api03-{s}"),
    ("dotted", lambda s: f"glpat-{s}.{s}"),
    ("bearer", lambda s: f"Authorization: Bearer {s}"),
    ("jwt", lambda s: f"eyJ{s}.eyJ{s}.{s}"),
]
TEXTS: list[tuple[str, Headers, Callable[[str], str]]] = [
    ("text", PLAIN, lambda s: f"My **key** is {s}, *my* only one"),
    ("json", JSON, lambda s: json.dumps({"m": [{"c": f"**x** {s}\n"}]})),
    ("name", JSON, lambda s: json.dumps({"keys": {s: "**x**"}})),
    ("top", JSON, json.dumps),
    ("nested", JSON, lambda s: nested(json.dumps([s]), 2)),
    ("form", FORM, lambda s: f"q=**x** {s}"),
    ("part", multipart(), lambda s: part("q", f"**x** {s}")),
    ("file", multipart(), lambda s: part(FILE, f"**x** {s}")),
    ("filename", multipart(), lambda s: part(f'f; filename="{s}"', "**x**")),
]
DIGITS_AND_MORE = st.text(WORDS, min_size=32, max_size=64).map(lambda s: s + "0")


@pytest.mark.parametrize(
    "looks", [look[1] for look in LOOKS], ids=[k[0] for k in LOOKS]
)
@pytest.mark.parametrize(
    ("headers", "write"), [text[1:] for text in TEXTS], ids=[t[0] for t in TEXTS]
)
@given(one=DIGITS_AND_MORE, other=DIGITS_AND_MORE)
def test_a_key_of_any_length_is_the_same_amid_other_text(
    headers: Headers,
    write: Callable[[str], str],
    looks: Callable[[str], str],
    one: str,
    other: str,
) -> None:
    """Requests are equal but for what looks like a credential, wherever it stands."""
    recorded = masked(headers, write(looks(one)).encode())
    live = masked(headers, write(looks(other)).encode())
    assert one.encode() not in recorded[3]
    assert request_key(*recorded) == request_key(*live)
    changed = write(looks(one)).replace("**", "*").encode()
    if changed != write(looks(one)).encode():
        assert request_key(*recorded) != request_key(*masked(headers, changed))


@given(
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    others=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    end=st.sampled_from(["\n", "\r\n"]),
    more=st.sampled_from(["", "Proc-Type: 4,ENCRYPTED\n\n"]),
    kind_of=st.sampled_from(["PRIVATE KEY", "RSA PRIVATE KEY"]),
)
def test_a_private_key_is_the_same_however_many_lines_it_has(
    sizes: list[int], others: list[int], end: str, more: str, kind_of: str
) -> None:
    """All that stands between the first and the last line of a key is one secret."""

    def key(sizes: list[int], behind: str = "") -> str:
        lines = end.join("k" * size for size in sizes)
        block = f"-----BEGIN {kind_of}-----\n{more}{lines}{end}-----END {kind_of}-----"
        return f"**my** key:\n{block}\n{behind}"

    for headers, write in (
        (PLAIN, str),
        (JSON, lambda text: json.dumps({"m": text})),
        (JSON, lambda text: nested(json.dumps([text]), 2)),
    ):
        one = request_key(*masked(headers, write(key(sizes)).encode()))
        assert one == request_key(*masked(headers, write(key(others)).encode()))
        for behind in ("*", "**"):
            other = masked(headers, write(key(others, behind)).encode())
            assert one != request_key(*other)
    assert kind(JSON, masked(JSON, json.dumps([key(sizes)]).encode())[3]) == "json"


def test_the_shortest_mask_is_shorter_than_any_that_is_found_for_its_looks() -> None:
    """No rule for keys, tokens and schemes makes a mask that is taken for text."""
    assert min(form.minimum for form in _FORMS) >= MASK_SIZE
    for text in ("eyJ1234567890abc..", "Bearer 1234567890123456", "Basic MTIzOjQ1"):
        *_, body = masked(PLAIN, text.encode())
        assert body.count(b"*") >= MASK_SIZE


STARRED = st.lists(
    st.sampled_from(
        ["*", "**", "***", "*" * (MASK_SIZE - 1), "a", " ", "\n", '"', ":"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


@given(one=STARRED, other=STARRED)
def test_stars_that_are_no_mask_decide(one: str, other: str) -> None:
    """Markdown is compared to the letter: what is not masked is never fuzzy."""
    text, other = f"x {one} y", f"x {other} y"
    # Nor may they be the value of a name in JSON that is written into the text.
    assume(not any(MASK in t or re.search(r'":\s*"\*', t) for t in (text, other)))
    for headers, write in (
        (PLAIN, str),
        (JSON, json.dumps),
        (FORM, lambda text: urlencode({"q": text})),
        (multipart(), lambda text: part("q", text)),
        (multipart(), lambda text: part(FILE, text)),
    ):
        keys = {
            request_key("POST", CHAT, headers, write(t).encode()) for t in (text, other)
        }
        assert (len(keys) == 1) == (text == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":"**x**"}', '{"a":"*x*"}'),
        ('{"a":"x **"}', '{"a":"x *"}'),
        (f'{{"a":"x {MASK}"}}', f'{{"a":"x {MASK[1:]}"}}'),
        ('{"*":1}', '{"**":1}'),
        ('{"*":1,"**":2}', '{"*":2,"**":1}'),
        ('{"password":""}', '{"password":"**"}'),
        ('{"password":null}', '{"password":"**"}'),
        ('{"password":["*","*"]}', '{"password":["*"]}'),
        ('{"password":99}', '{"password":999}'),
        ('["u://a:**@h"]', '["u://b:**@h"]'),
        ('["u://a:**"]', '["u://a:*"]'),
        ('["-----BEGIN CERTIFICATE-----*--"]', '["-----BEGIN CERTIFICATE-----**--"]'),
        (
            '["-----BEGIN PRIVATE KEY-----\\n-----END"]',
            '["-----BEGIN PRIVATE KEY-----\\n*\\n-----END"]',
        ),
    ],
)
def test_what_is_around_a_mask_decides(one: str, other: str) -> None:
    """Short runs, names, numbers, and whether there is a secret are relevant."""
    assert json_key(one) != json_key(other)


def test_a_mask_is_the_same_however_json_writes_it() -> None:
    """Stars are told from other text after the escapes of JSON are undone."""
    assert json_key('{"a":"\\u002a\\u002A*"}') == json_key('{"a":"*"}')


@pytest.mark.parametrize(
    ("headers", "write"),
    [
        ((*PLAIN, ("Content-Encoding", "gzip")), str),
        ((("Content-Type", "application/octet-stream"),), "\xff{}".format),
        (multipart(), lambda stars: part(FILE, f"\xff{stars}")),
    ],
    ids=["coded", "binary", "file"],
)
def test_stars_of_what_is_no_text_decide(
    headers: Headers, write: Callable[[str], str]
) -> None:
    """Bytes that are never masked are compared one by one."""
    keys = {
        request_key("POST", CHAT, headers, write("*" * size).encode("latin-1"))
        for size in (MASK_SIZE, MASK_SIZE + 1)
    }
    assert len(keys) == 2


def test_a_query_has_no_masks_of_its_own() -> None:
    """The secrets of a query become a word, so its stars are what the client wrote."""
    keys = {request_key("GET", f"/?a={'*' * size}", (), b"") for size in (1, 8, 9)}
    assert len(keys) == 3


def test_a_long_body_is_compared_by_its_bytes() -> None:
    """One that is too long to be parsed has the key of its digest, stars and all."""
    body = b'{"password":"**"}'.ljust(PARSED_BYTES_MAX + 1)
    digest = BodyDigest(len(body), hashlib.sha256(body).hexdigest())
    assert request_key("POST", CHAT, JSON, body) == request_key(
        "POST", CHAT, JSON, digest
    )


def test_many_stars_take_little_time() -> None:
    """Whatever a body is made of, it is read in time that grows with its length."""
    for text in ("*", "* ", '"', '":', '":"*', "\\", '"\\', "://", "-----BEGIN "):
        json_key(json.dumps([text * (400_000 // len(text)) + "*"]))
        begin = "-----BEGIN PRIVATE KEY-----*"
        json_key(json.dumps([begin + text * (400_000 // len(text))]))
        json_key(json.dumps([begin * 10_000]))


@pytest.mark.parametrize(
    ("recorded", "received", "expected"),
    [
        (
            {"m": "with sk-ant-api03-" + "Ab3" * 20 + " do this"},
            {"m": "with sk-ant-api03-" + "Ab3" * 30 + " do that"},
            (
                "body.m",
                f"with sk-ant-{MASK} do this",
                f"with sk-ant-{MASK} do that",
            ),
        ),
        (
            {"password": "ab"},
            {"password": None},
            ("body.password", f'"{MASK}"', "null"),
        ),
        ({"password": "ab", "n": 1}, {"password": "abc", "n": 2}, ("body.n", "1", "2")),
        ({"password": "abc"}, {}, ("body.password", MASK, ABSENT)),
    ],
)
def test_a_miss_shows_masks_as_masks(
    recorded: object, received: object, expected: tuple[str, str, str]
) -> None:
    """What differs is named, never the length of a secret, and the secret not shown."""
    one, other = (
        masked(JSON, json.dumps(body).encode())[1:] for body in (recorded, received)
    )
    assert differs(one, other) == expected


# --- rules ----------------------------------------------------------------------------


def same(
    one: tuple[str, Headers, bytes],
    other: tuple[str, Headers, bytes],
    *ignore: str,
    match_headers: str | tuple[str, ...] = (),
) -> bool:
    """Tell whether two POST requests are the same under some rules."""
    rules = MatchRules.of(ignore, match_headers)
    keys = {canonical("POST", *request, rules).key for request in (one, other)}
    return len(keys) == 1


def same_json(one: object, other: object, *ignore: str) -> bool:
    """Tell whether two JSON bodies are the same under some rules."""
    sides = [(CHAT, JSON, json.dumps(side).encode()) for side in (one, other)]
    return same(sides[0], sides[1], *ignore)


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        ("id", {"id": 1, "a": [{"id": 2}]}, {"a": [{"id": 3}]}),
        ("metadata.request_id", {"metadata": {"request_id": 1}}, {"metadata": {}}),
        ("body.metadata", {"metadata": {"request_id": 1}}, {}),
        ("m[*].id", {"m": [{"id": 1}, {"a": 1}]}, {"m": [{}, {"a": 1, "id": [2]}]}),
        ("m[1]", {"m": [1, 2]}, {"m": [1]}),
        ("m[0]", {"m": [1, 2, 3]}, {"m": [{"a": 1}, 2, 3]}),
        ("m[*]", {"m": [1, 2, 3]}, {"m": []}),
        ("body[*].id", [{"id": 1}], [{"id": 2}]),
        ('["a.b"]', {"a.b": 1}, {}),
        ("$.a", {"a": 1}, {"a": None}),
    ],
)
def test_an_ignored_field_may_be_anything_or_absent(
    rule: str, one: object, other: object
) -> None:
    """With all that is below it; without the rule it decides."""
    assert same_json(one, other, rule)
    assert not same_json(one, other)


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        # What is above it, and what has its name elsewhere.
        ("a.b", {"a": {"b": 1}}, {}),
        ("a.b", {"b": 1}, {"b": 2}),
        ("a.b", {"a": {"c": {"b": 1}}}, {"a": {"c": {"b": 2}}}),
        ("a[0]", {"a": [1, 2]}, {"a": [1, 3]}),
        # An item that is ignored keeps the places of the others.
        ("a[0]", {"a": [1, 2]}, {"a": [2]}),
        ("a[0]", {"a": [1, 2]}, {"a": [1, 2, 2]}),
        ("a[0]", {"a": [7, 2]}, {"a": [[], 3]}),
        # No name of a field.
        ("body", {"a": 1}, {"a": 2}),
        ("query", {"a": 1}, {"a": 2}),
        ("A", {"a": 1}, {"a": 2}),
    ],
)
def test_what_no_rule_leads_to_decides(rule: str, one: object, other: object) -> None:
    """A rule is no more than it says."""
    assert not same_json(one, other, rule)


RULES = ("a", "b", "a.b", "a[0]", "a[*].b", "body.a", "*.a", "[1]", "body.*", "[*].b")
SMALL_JSON = st.recursive(
    st.sampled_from([0, 1, "0", None]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "body"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def what_counts(
    value: Any, rules: list[str], path: Path = ("body",)
) -> set[tuple[Path, str]]:
    """Return every path to which no rule leads, with what is there."""
    if len(path) > 1 and any(ends(ignoring(rule), path) for rule in rules):
        return set()
    inner: Any = enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict):
        inner = value.items()
    kind = type(value).__name__ if isinstance(value, (dict, list)) else repr(value)
    return {(path, kind)}.union(
        *(what_counts(child, rules, (*path, part)) for part, child in inner)
    )


@given(
    one=SMALL_JSON,
    other=SMALL_JSON,
    rules=st.lists(st.sampled_from(RULES), min_size=1, max_size=3),
)
def test_requests_are_the_same_when_all_that_counts_is(
    one: object, other: object, rules: list[str]
) -> None:
    """What is ignored never decides, and what is not always does."""
    expected = what_counts(one, rules) == what_counts(other, rules)
    assert same_json(one, other, *rules) == expected


@given(value=JSON_VALUES, noise=JSON_VALUES, data=st.data())
def test_an_ignored_field_may_be_added_anywhere(
    value: object, noise: object, data: st.DataObject
) -> None:
    """Whatever its value is; beside it, everything decides as before."""

    def noisy(part: Any) -> Any:
        if isinstance(part, list):
            return [noisy(item) for item in part]
        if not isinstance(part, dict):
            return part
        more = {"request-id": noise} if data.draw(st.booleans()) else {}
        return {**{name: noisy(item) for name, item in part.items()}, **more}

    assert same_json({"root": value}, noisy({"root": value}), "request-id")
    assert not same_json({"root": value}, noisy({"root": [value]}), "request-id")


def test_equal_names_are_ignored_together() -> None:
    """Which of them is which, a rule cannot say."""
    one, other = (CHAT, JSON, b'{"a":1,"a":2,"b":1}'), (CHAT, JSON, b'{"b":1}')
    assert same(one, other, "a")


@pytest.mark.parametrize(
    ("depth", "is_json"), [(JSON_DEPTH_MAX - 2, True), (JSON_DEPTH_MAX - 1, False)]
)
def test_a_field_is_ignored_as_deep_as_json_is_read(
    depth: int, *, is_json: bool
) -> None:
    """Deeper JSON is bytes, which have no fields."""
    one, other = (
        (CHAT, JSON, f'{"[" * depth}{{"id":{n}}}{"]" * depth}'.encode()) for n in (1, 2)
    )
    assert same(one, other, "id") == is_json


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        ("query.ts", ("/a?ts=1&x=1", (), b""), ("/a?x=1", (), b"")),
        ("ts", ("/a?ts=1&ts=3", (), b""), ("/a?ts=2", (), b"")),
        ("query.*", ("/a?ts=1", (), b""), ("/a?x=2", (), b"")),
        ('query["a[]"]', ("/a?a[]=1", (), b""), ("/a", (), b"")),
        ("ts", ("/a", FORM, b"ts=1&x=1"), ("/a", FORM, b"x=1&ts=2&ts=3")),
        ("body.ts", ("/a", FORM, b"ts=1"), ("/a", FORM, b"")),
        ("body.ts", ("/a", FORM, b"ts=1"), ("/a", (), b"")),
        ("file.filename", upload(name="a.txt"), upload(name="b.txt")),
        ("body.file", upload(data="one"), upload(data="two")),
    ],
)
def test_fields_of_queries_and_forms_are_ignored_like_those_of_json(
    rule: str, one: tuple[str, Headers, bytes], other: tuple[str, Headers, bytes]
) -> None:
    """By the paths that a miss has for them; a form without fields is no body."""
    assert same(one, other, rule)
    assert not same(one, other)
    assert not same(one, other, f"{rule}.x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("/a?x=1", FORM, b""), ("/a", FORM, b"x=1")),
        (("/a?x=1", (), b""), ("/a?x=2", (), b"")),
        (("/a", FORM, b"x=1"), ("/a", FORM, b"x=2")),
    ],
)
def test_a_rule_for_one_place_leaves_the_others(
    one: tuple[str, Headers, bytes], other: tuple[str, Headers, bytes]
) -> None:
    """A query is not the body, and no name is another."""
    assert not same(one, other, "query.y", "body.y", "y", "query", "body")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([("X-Tenant", "a")], [("x-tenant", " a ")], True),
        ([("X-Tenant", "a")], [("X-Tenant", "A")], False),
        ([("X-Tenant", "a")], [], False),
        ([], [], True),
        ([("X-Tenant", "")], [], False),
        ([("X-Tenant", "a"), ("X-Tenant", "b")], [("X-Tenant", "a, b")], True),
        ([("X-Tenant", "a"), ("X-Tenant", "b")], [("X-Tenant", "b, a")], False),
        ([("X-Other", "a")], [("X-Other", "b")], True),
        ([("X-Tenant", "a")], [("X-Tenants", "a")], False),
    ],
)
def test_a_header_takes_part_when_it_is_asked_to(
    one: list[tuple[str, str]], other: list[tuple[str, str]], *, expected: bool
) -> None:
    """By its value, whatever the case of its name; absent twice is equal."""
    sides = [(CHAT, (*JSON, *more), b"{}") for more in (one, other)]
    assert same(sides[0], sides[1], match_headers="x-TENANT") == expected
    assert same(sides[0], sides[1])


def test_a_rule_for_what_is_not_there_changes_no_key() -> None:
    """And without rules the keys are those that stores have."""
    request = ("POST", CHAT, JSON, b'{"a":1}')
    rules = MatchRules.of(["b", "query.b"], ["x-tenant"])
    assert canonical(*request, rules).key == request_key(*request)


@pytest.mark.parametrize(
    ("ignore", "match_headers", "message"),
    [
        ("", (), "'' is neither a name nor a path"),
        (["a", "b..c"], (), "'b..c' is neither a name nor a path"),
        ("*", (), "neither a name nor a path"),
        ((), "", "'' is not the name of a header; write x-tenant, say"),
        ((), ["x-tenant: a"], "'x-tenant: a' is not the name of a header"),
        ((), "x-tenant,y", "'x-tenant,y' is not the name of a header"),
    ],
)
def test_what_is_no_rule_is_refused_at_once(
    ignore: str | list[str], match_headers: str | list[str], message: str
) -> None:
    """And not when the first request misses."""
    with pytest.raises(UsageError, match=re.escape(message)):
        MatchRules.of(ignore, match_headers)


def test_one_rule_alone_is_not_its_letters() -> None:
    """Who forgets the brackets does not ignore fields of one letter."""
    assert MatchRules.of("id", "X-A") == MatchRules.of(["id"], ["x-a"])


def test_requests_that_rules_make_equal_are_answered_in_recorded_order() -> None:
    """They are one series, whatever was recorded in the ignored field."""
    matcher: Matcher[str] = Matcher(MatchRules.of("request_id", ()))
    for name, text in (
        ("a", '{"request_id":1,"m":"hi"}'),
        ("other", '{"request_id":1,"m":"ho"}'),
        ("b", '{"m":"hi","request_id":2}'),
    ):
        matcher.add(name, "POST", "/x", JSON, text.encode())
    # As if the second were asked for first: only the order counts.
    texts = [f'{{"request_id":{n},"m":"hi"}}' for n in (2, 1, 7)]
    assert [asked(matcher, "/x", text) for text in texts] == ["a", "b", "b"]
    assert matcher.unused() == ["other"]
    assert asked(matcher, "/x", '{"m":"ho"}') == "other"


# --- what an ignored field would be --------------------------------------------------


def suggested(recorded: object, received: object) -> str:
    """Return the rule that a miss of two JSON bodies suggests."""
    matcher: Matcher[str] = Matcher()
    matcher.add("one", "POST", CHAT, JSON, json.dumps(recorded).encode())
    received_body = json.dumps(received).encode()
    return find_miss(matcher, "POST", CHAT, JSON, received_body).rule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "0193a0c4-7d3e-7abc-9def-0123456789ab",
            "A193A0C4-7D3E-4ABC-9DEF-000000000000",
        ),
        ("0193a0c47d3e7abc9def0123456789ab", "f193a0c47d3e7abc9def0123456789ab"),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVS0"),
        ("req_011CRhtCu1UMh2Cd", "req_0aQCRhtCu1UMh2Ce"),
        ("call_a8KMrt39kdPqWz", "toolu_01A09q90qw90lq"),
        ("2026-11-23", "2026-11-24"),
        ("2026-11-23T10:15:30Z", "2026-11-23 10:15:30.123456+01:00"),
        ("Mon, 23 Nov 2026 10:15:30 GMT", "Tue, 24 Nov 2026 10:15:30 GMT"),
        (1795428930, 1795428930.125),
        (1795428930123, "1795428930123456789"),
        (0.8444218515250481, 0.7579544029403025),
    ],
)
def test_a_rule_is_suggested_for_ids_times_and_random_values(
    one: object, other: object
) -> None:
    """Both sides look like it; a value that is not there may mean something."""
    assert suggested({"m": {"f": one}}, {"m": {"f": other}}) == "m.f"
    assert suggested({"m": {"f": one}}, {"m": {}}) == ""
    assert suggested({"m": {"f": one}}, {"m": {"f": "hello"}}) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hello", "goodbye"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06"),
        ("claude-sonnet-4-5-20250929", "claude-opus-4-1-20250805"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "Qwen/Qwen2.5-72B-Instruct-Turbo"),
        ("I met you on 2026-11-23", "I met you on 2026-11-24"),
        (1, 2),
        (200, 4096),
        (0.7, 0.2),
        (True, False),
        ({"id": 1}, []),
    ],
)
def test_no_rule_is_suggested_for_what_means_something(
    one: object, other: object
) -> None:
    """Texts, models and settings are what a test is about."""
    assert suggested({"m": {"f": one}}, {"m": {"f": other}}) == ""


UUIDS = ("0193a0c4-7d3e-7abc-9def-0123456789ab", "0193a0c4-7d3e-7abc-9def-0123456789ac")


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ({"metadata": {"request_id": UUIDS}}, "metadata.request_id"),
        # Alone a name would be one at any depth.
        ({"request_id": UUIDS}, "body.request_id"),
        ({"messages": [{}, {"id": UUIDS}]}, "messages[*].id"),
        ([{"id": UUIDS}], "body[*].id"),
        ({"a": {"b c": {"d.e": UUIDS}}}, 'a["b c"]["d.e"]'),
        # The other items of a list may be no ids.
        ({"stop": [{}, UUIDS]}, "stop[1]"),
    ],
)
def test_a_suggested_rule_is_no_wider_than_it_has_to_be(
    template: object, rule: str
) -> None:
    """It is a path, in which only the numbers of items are any."""
    one, other = (
        json.loads(json.dumps(template).replace(json.dumps(UUIDS), json.dumps(uuid)))
        for uuid in UUIDS
    )
    assert suggested(one, other) == rule
    assert same_json(one, other, rule)


@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        (("/a?ts=1795428930", (), b""), ("/a?ts=1795428931", (), b""), "query.ts"),
        (("/a", FORM, b"ts=1795428930"), ("/a", FORM, b"ts=1795428931"), "body.ts"),
        # The hash of a file looks like an id, and is its content.
        (upload(data="one"), upload(data="two"), ""),
        (("/a", (), b"one"), ("/a", (), b"two"), ""),
        ((f"/a/{UUIDS[0]}", (), b""), (f"/a/{UUIDS[1]}", (), b""), ""),
    ],
)
def test_a_rule_is_suggested_where_there_can_be_one(
    one: tuple[str, Headers, bytes], other: tuple[str, Headers, bytes], rule: str
) -> None:
    """Only fields can be ignored."""
    matcher: Matcher[str] = Matcher()
    matcher.add("one", "POST", *one)
    assert find_miss(matcher, "POST", *other).rule == rule


@given(value=JSON_VALUES, data=st.data())
def test_a_suggested_rule_ignores_what_it_is_suggested_for(
    value: object, data: st.DataObject
) -> None:
    """Wherever it is, and whatever is its name."""
    sides: list[Any] = [json.loads(json.dumps({"root": value})) for _ in range(2)]
    places, key = sides, "root"
    while isinstance(places[0][key], (dict, list)) and places[0][key]:
        places = [place[key] for place in places]
        keys = (
            sorted(places[0]) if isinstance(places[0], dict) else range(len(places[0]))
        )
        key = data.draw(st.sampled_from(keys))
    for place, text in zip(places, UUIDS, strict=True):
        place[key] = text
    assert same_json(*sides, suggested(*sides))


# --- missing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "received", "expected"),
    [
        ({"a": 1, "b": "x"}, {"a": 1, "b": "y"}, ("body.b", "x", "y")),
        ({"a": 1}, {"a": "1"}, ("body.a", "1", '"1"')),
        ({"a": 1}, {"a": 1.0}, ("body.a", "1", "1.0")),
        ({"a": True}, {"a": None}, ("body.a", "true", "null")),
        ({"a": 1}, {}, ("body.a", "1", ABSENT)),
        ({}, {"a": "x"}, ("body.a", ABSENT, "x")),
        ({"t": []}, {"t": [{"n": "é"}]}, ("body.t[0]", ABSENT, '{"n": "é"}')),
        ({"t": [1, 2]}, {"t": {}}, ("body.t", "[1, 2]", "{}")),
        ({"a b": 1}, {"a b": 2}, ('body["a b"]', "1", "2")),
        ([[1], [2]], [[1], [3]], ("body[1][0]", "2", "3")),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, ("body.a", "1", "2")),
        ({"a": "\ud800"}, {"a": "b"}, ("body.a", "\\ud800", "b")),
        (
            {"messages": [{"content": "a"}] * 2 + [{"content": "b"}]},
            {"messages": [{"content": "a"}] * 2 + [{"content": "c"}]},
            ("body.messages[2].content", "b", "c"),
        ),
    ],
)
def test_a_miss_names_the_first_leaf_that_differs(
    recorded: object, received: object, expected: tuple[str, str, str]
) -> None:
    """The leaf is named by its path, with both of its values."""
    assert json_differs(recorded, received) == expected


def test_a_miss_shows_long_values_where_they_part() -> None:
    """Two long prompts that begin alike are shown from just before the difference."""
    same = "x" * 1000
    _, expected, actual = json_differs(
        {"a": f"{same}one{same}"}, {"a": f"{same}two{same}"}
    )
    assert expected == f"…{'x' * 20}one{'x' * 57}…"
    assert actual == f"…{'x' * 20}two{'x' * 57}…"
    _, expected, actual = json_differs({"a": f"1{same}"}, {"a": same})
    assert (expected, actual) == (f"1{'x' * 79}…", f"{'x' * 80}…")


def test_a_miss_shows_where_a_long_value_goes_on() -> None:
    """A long value that begins with all of the other is shown from that end."""
    _, expected, actual = json_differs({"a": "x" * 100}, {"a": "x" * 100 + "more"})
    assert (expected, actual) == (f"…{'x' * 20}", f"…{'x' * 20}more")


@pytest.mark.parametrize(
    ("recorded", "received", "expected"),
    [
        (("/a?x=1", JSON, b"1"), ("/a?x=2", JSON, b"2"), ("query.x", "1", "2")),
        (("/a?x=1", (), b""), ("/a?x=1&x=3", (), b""), ("query.x#2", ABSENT, "3")),
        (("/a?a%20b=1", (), b""), ("/a", (), b""), ('query["a b"]', "1", ABSENT)),
        (("/a", JSON, b"{}"), ("/a", FORM, b"a=1"), ("body", "json", "form")),
        (("/a", JSON, b"{}"), ("/a", JSON, b""), ("body", "json", ABSENT)),
        (("/a/x", JSON, b"1"), ("/b/x", JSON, b"2"), ("path", "/a/x", "/b/x")),
        (("/a/x", FORM, b"m=hi&n"), ("/x", FORM, b"m=ho&n"), ("body.m", "hi", "ho")),
        (
            ("/a", (), b"one"),
            ("/a", (), b"three"),
            (
                "body",
                f"sha256:{hashlib.sha256(b'one').hexdigest()}, 3 B",
                f"sha256:{hashlib.sha256(b'three').hexdigest()}, 5 B",
            ),
        ),
    ],
)
def test_a_miss_names_the_part_that_differs(
    recorded: tuple[str, Headers, bytes],
    received: tuple[str, Headers, bytes],
    expected: tuple[str, str, str],
) -> None:
    """Path, then query, then body; bodies of different kinds are named by kind."""
    assert differs(recorded, received) == expected


@pytest.mark.parametrize(
    ("target", "tenant", "body", "expected"),
    [
        ("/a?x=1", "b", b"2", ("headers.x-tenant", "a", "b")),
        ("/a?x=1", None, b"2", ("headers.x-tenant", "a", ABSENT)),
        ("/a?x=2", "b", b"2", ("query.x", "1", "2")),
        ("/a?x=1", "a", b"2", ("body", "1", "2")),
    ],
)
def test_a_miss_names_a_header_that_takes_part(
    target: str, tenant: str | None, body: bytes, expected: tuple[str, str, str]
) -> None:
    """Behind the query and before the body; what was asked for is not ignored."""
    matcher: Matcher[str] = Matcher(MatchRules.of((), "X-Tenant"))
    matcher.add("one", "POST", "/a?x=1", (*JSON, ("X-Tenant", "a")), b"1")
    more = () if tenant is None else (("x-tenant", tenant),)
    miss = find_miss(matcher, "POST", target, (*JSON, *more), body)
    assert (miss.field, miss.expected, miss.actual) == expected
    assert miss.rule == ""


@pytest.mark.parametrize(
    ("recorded", "received", "expected"),
    [
        ([1, 2, {"id": 1, "t": "x"}], [3, 2, {"t": "y"}], ("body.m[2].t", "x", "y")),
        ([], [3, 2], ("body.m[1]", ABSENT, "2")),
        ([3, 2], [4], ("body.m[1]", "2", ABSENT)),
    ],
)
def test_a_miss_names_nothing_that_is_ignored(
    recorded: object, received: object, expected: tuple[str, str, str]
) -> None:
    """Items keep the numbers that they have in the request."""
    matcher: Matcher[str] = Matcher(MatchRules.of(["id", "m[0]"], ()))
    one, other = (
        json.dumps({"id": number, "m": items}).encode()
        for number, items in enumerate((recorded, received))
    )
    matcher.add("one", "POST", "/a", JSON, one)
    miss = find_miss(matcher, "POST", "/a", JSON, other)
    assert (miss.field, miss.expected, miss.actual) == expected


def test_a_miss_names_the_method() -> None:
    """A request that was recorded with another method differs in that."""
    miss = find_miss(filled(("a", "/x", "{}")), "PUT", "/x", JSON, b"{}")
    assert (miss.field, miss.expected, miss.actual) == ("method", "POST", "PUT")


@pytest.mark.parametrize(
    ("recordings", "nearest"),
    [
        # The path counts most, then what it ends with.
        ((("a", "/x", "[1]"), ("b", "/y", '{"m":"hi"}')), "a"),
        ((("a", "/sessions/1/other", "{}"), ("b", "/sessions/1/y", "{}")), "b"),
        ((("a", "/y", '{"m":"hi"}'), ("b", "/v2/x", "1")), "b"),
        # Then the number of equal leaves, then that of different ones, then the order.
        ((("a", "/x", '{"m":1}'), ("b", "/x", '{"m":"hi"}')), "b"),
        ((("a", "/x", '{"m":"hi","o":1,"p":1}'), ("b", "/x", '{"m":"hi"}')), "b"),
        ((("a", "/x", '{"m":1}'), ("b", "/x", '{"m":2}')), "a"),
    ],
)
def test_the_nearest_recording_shares_the_most(
    recordings: tuple[tuple[str, str, str], ...], nearest: str
) -> None:
    """Path, method and equal leaves rank recordings, and the first of equals wins."""
    target = "/sessions/2/y" if "sessions" in recordings[0][1] else "/x"
    miss = asked(filled(*recordings), target, '{"m":"hi","n":2}')
    assert isinstance(miss, Miss)
    assert miss.nearest == nearest


def test_a_miss_serves_nothing() -> None:
    """A recording that is only named by a miss stays unused."""
    matcher = filled(("a", "/x", "{}"))
    assert isinstance(asked(matcher, "/x", "[]"), Miss)
    assert matcher.unused() == ["a"]


@pytest.mark.parametrize(
    ("recordings", "nearest", "why", "difference"),
    [
        (
            [("a", "/x", '{"m":1}')],
            {"exchange_id": "a"},
            "the nearest recording differs in body.m",
            {"differs_in": "body.m", "recorded": "1", "received": "2"},
        ),
        (
            [],
            None,
            "there are no recordings",
            {"differs_in": "path", "recorded": ABSENT, "received": "/x"},
        ),
    ],
)
def test_a_miss_tells_the_client_what_to_do(
    recordings: list[tuple[str, str, str]],
    nearest: dict[str, str] | None,
    why: str,
    difference: dict[str, str],
) -> None:
    """The JSON of a miss says what differs, from which recording, and what to do."""
    miss = asked(filled(*recordings), "/x", '{"m":2}')
    assert isinstance(miss, Miss)
    assert miss.to_json(lambda name: {"exchange_id": name}) == {
        "error": {
            "type": "no_recording_matches",
            "message": f"No recording matches POST /x: {why}; send a request that was "
            "recorded, or record this one with `sse-recorder record`.",
            "nearest": nearest,
            **difference,
        }
    }


def test_a_miss_tells_how_to_ignore_what_looks_like_an_id() -> None:
    """On the command line and in Python, ready to be typed; and it serves nothing."""
    one, other = ({"messages": [{"id": text}]} for text in UUIDS)
    matcher: Matcher[str] = Matcher()
    matcher.add("one", "POST", "/x", JSON, json.dumps(one).encode())
    miss = find_miss(matcher, "POST", "/x", JSON, json.dumps(other).encode())
    told: Any = miss.to_json(lambda name: {"exchange_id": name})
    assert told["error"]["message"] == (
        "No recording matches POST /x: the nearest recording differs in"
        " body.messages[0].id; send a request that was recorded, or record this one"
        " with `sse-recorder record`. If that field is another in every request, as ids"
        " and times are, ignore it with --ignore 'messages[*].id' (in Python:"
        ' ignore=["messages[*].id"]).'
    )
