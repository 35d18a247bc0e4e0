"""Cassettes of VCR.py, most of them written by VCR.py itself."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from imports.reading import (
    BODY,
    FILES,
    body,
    cassette_of,
    head,
    only,
    opening,
    read,
    sent,
)
from samples import MS

from sse_recorder.background import running
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.errors import StoreError
from sse_recorder.exchange import header
from sse_recorder.imports import vcr
from sse_recorder.replay import ReplayServer

BINARY = b"\xff\x00\r\n.\xfe"


def cassette(**response: Any) -> bytes:
    """Return a cassette with one response, as VCR.py dumps it."""
    request: dict[str, Any] = {"method": "GET", "uri": "http://h/", "body": None}
    whole = {"body": {"string": ""}, "status": {"code": 200, "message": "OK"}}
    whole |= response
    interactions = [{"request": request, "response": whole}]
    return yaml.dump({"version": 1, "interactions": interactions}).encode()


@pytest.mark.parametrize(
    ("name", "bodies"),
    [
        ("requests.yaml", [BODY, BODY, BINARY, BODY, BODY, BODY, BODY, b""]),
        ("requests.json", [BODY]),
        ("decoded.yaml", [BODY, BODY]),
        ("aiohttp.yaml", [BODY, BODY]),
        ("pytest_recording.yaml", [BODY]),
    ],
)
def test_bodies_come_over_byte_for_byte(name: str, bodies: list[bytes]) -> None:
    """Text, `!!binary` and what was decoded, with headers that are true of them."""
    found = read(FILES / name)
    assert found.format == "vcr"
    assert [body(records) for records in found.exchanges] == bodies
    for records in found.exchanges:
        assert header(head(records).headers, "content-encoding") is None


def test_what_is_compressed_stays_compressed() -> None:
    """VCR.py keeps of httpx what was on the wire."""
    plain, coded = read(FILES / "httpx.yaml").exchanges
    assert body(plain) == BODY
    assert gzip.decompress(body(coded)) == BODY
    assert header(head(coded).headers, "content-encoding") == "gzip"


def test_heads_come_over() -> None:
    """Every line of a header, the status, and where the request went."""
    first, *_ = read(FILES / "requests.yaml").exchanges
    cookies = [v for k, v in head(first).headers if k.lower() == "set-cookie"]
    assert cookies == ["a=1", "b=2"]
    assert (head(first).status, head(first).reason) == (200, "OK")
    assert opening(first).url == "http://127.0.0.1:18999/chat?x=1"
    assert opening(first).request.method == "POST"
    assert header(opening(first).request.headers, "content-length") == "15"


def test_request_bodies_come_over_as_they_were_sent() -> None:
    """Text, bytes, iterators and files, which VCR.py writes with tags of Python's."""
    found = [sent(records) for records in read(FILES / "requests.yaml").exchanges]
    assert found[:2] == [b'{"q": "\\u00e9"}'] * 2
    assert found[2:6] == [b"", b"\xff\x00bin", b"one two", b"a file"]
    assert b'filename="n.txt"\r\n\r\nhi' in found[6]
    # Of aiohttp it keeps the value.
    first, _ = read(FILES / "aiohttp.yaml").exchanges
    assert sent(first) == b'{"q": "\\u00e9"}'


def test_a_cassette_replays_to_the_clients_that_it_was_recorded_of(
    tmp_path: Path,
) -> None:
    """The request that VCR.py saw gets the bytes that VCR.py kept."""
    path = cassette_of(tmp_path, FILES / "httpx.yaml")
    with (
        running(ReplayServer(path)) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        for target in ("/chat", "/gzip"):
            answer = client.post(target, json={"q": "é"})
            assert (answer.status_code, answer.content) == (200, BODY)


@given(st.binary())
def test_any_body_comes_back_from_what_vcr_writes(data: bytes) -> None:
    """As text where it is UTF-8, and as `!!binary` where it is not."""
    kept: Any = data
    try:
        kept = data.decode()
    except UnicodeDecodeError:
        pass
    else:
        whole = yaml.load(cassette(body={"string": kept}), Loader=yaml.SafeLoader)
        assert body(only(vcr.read(json.dumps(whole).encode()).tapes)) == data
    assert body(only(vcr.read(cassette(body={"string": kept})).tapes)) == data


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"body": "text"}, b"text"),
        ({"body": None}, b""),
        ({"body": {"base64_string": "/wA=", "encoding": "utf-8"}}, b"\xff\x00"),
        ({"body": {"string": b"\xff"}}, b"\xff"),
        ({"status_code": 200, "content": "old"}, b"old"),
        ({"body": "x", "headers": {"A": "b", "C": [b"d"]}}, b"x"),
    ],
)
def test_other_forms_of_a_response_are_read(
    response: dict[str, Any], expected: bytes
) -> None:
    """Those of older versions, and what people write by hand."""
    found = only(vcr.read(cassette(**response)).tapes)
    assert body(found) == expected
    assert head(found).status == 200
    if "headers" in response:
        assert head(found).headers == (("A", "b"), ("C", "d"))


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("!!python/str 'a'", b"a"),
        ("!!python/unicode 'a'", b"a"),
        ("!!python/object/new:_io.BytesIO {state: !!python/tuple [a, 0]}", b"a"),
        ("!!python/object/new:_io.BytesIO {}", b""),
        ("!!python/object/apply:builtins.iter {args: [[a, b]]}", b"ab"),
        ("!!python/object/apply:builtins.iter {}", b""),
        ("{string: a, b: c}", b'{"string": "a", "b": "c"}'),
    ],
)
def test_tags_of_pythons_that_vcr_writes_are_bytes(tag: str, expected: bytes) -> None:
    """And nothing of Python's is made of them."""
    text = cassette().decode().replace("body: null", f"body: {tag}", 1)
    assert sent(only(vcr.read(text.encode()).tapes)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"interactions: !!python/object/apply:os.getcwd []", "could not determine"),
        (b"interactions: [", "while parsing"),
        (b"interactions: 5", "no list"),
        (b"interactions: [{}]", "interaction 1: 'request' is missing"),
        (b"other: 1", "'interactions' is missing"),
        (b"", "it is no mapping with `interactions`"),
        (b"- 1", "it is no mapping with `interactions`"),
        (cassette(headers={5: ["x"]}), "the name of a header is text, and 5 is none"),
        (cassette(headers={"a b": ["x"]}), "response header 1 is no token"),
        (cassette(body={"base64_string": "AAAA*!"}), "interaction 1"),
        (b"interactions: &a [*a]", "has itself in it"),
        (b"[" * 20_000, "."),
        (cassette(body={"string": 5}), "this is of the type int"),
        (cassette(body={"string": "a"}, status={"code": "x"}), "interaction 1"),
    ],
)
def test_what_is_no_cassette_is_told_in_a_line(
    text: bytes, reason: str, tmp_path: Path
) -> None:
    """Nothing of it is run, and nothing is raised but what says so."""
    path = tmp_path / "x.yaml"
    path.write_bytes(text)
    with pytest.raises(StoreError, match=reason) as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_what_is_wrong_in_a_file_is_told_without_what_it_says() -> None:
    """Where there is no libyaml, PyYAML says the line, which may have a secret."""
    script = (
        "import sys, yaml; del yaml.CSafeLoader; from sse_recorder.imports import vcr\n"
        "try: vcr.read(sys.stdin.buffer.read())\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=b"interactions:\n- request: {Authorization: 'SECRET' 'SECRET'}\n",
        stdout=subprocess.PIPE,
        check=True,
    )
    assert b"line 2" in done.stdout
    assert b"SECRET" not in done.stdout


def layers(first: str, layer: str) -> str:
    """Return YAML of which each of nine lines means the one before ten times."""
    lines = [f"a0: &a0 {first}"]
    lines += [
        f"a{n}: &a{n} {layer.format(', '.join([f'*a{n - 1}'] * 10))}"
        for n in range(1, 10)
    ]
    return "\n".join(lines) + "\n"


LIST = layers("[x, x, x]", "[{}]")
PAIRS = layers("[x]", "!!pairs [b: [{}]]")


@pytest.mark.parametrize(
    ("bomb", "use"),
    [
        (LIST, "body: {k: *a9}"),
        (LIST, "body: !!python/object/apply:builtins.iter {args: [*a9]}"),
        (LIST, "body: !!python/object/apply:builtins.iter {args: [[*a9]]}"),
        (LIST, "body: !!python/object/new:_io.BytesIO {state: [*a9]}"),
        (LIST, "headers: {X: [*a9]}"),
        (PAIRS, "body: *a9"),
    ],
)
def test_what_says_far_more_than_it_is_large_is_refused(bomb: str, use: str) -> None:
    """A few hundred bytes can mean gigabytes, wherever they are used."""
    text = cassette().decode().replace("body: null", use, 1)
    begun_ns = MONOTONIC_NS()
    with pytest.raises(ValueError, match="aliases written out"):
        vcr.read((bomb + text).encode())
    assert MONOTONIC_NS() - begun_ns < 5_000 * MS


def test_what_is_meant_a_few_times_is_written_once() -> None:
    """As people do by hand, and PyYAML where two values are one."""
    text = """
        interactions:
        - request: &r {method: GET, uri: "http://h/", headers: &h {X: [y]}}
          response: &a {body: text, status: {code: 200}, headers: {<<: *h, Z: z}}
        - {request: *r, response: *a}
        """
    first, second = vcr.read(text.encode()).tapes
    assert first == second
    assert first.request_headers == (("X", "y"),)
    assert first.response is not None
    assert set(first.response.headers) == {("X", "y"), ("Z", "z")}


def test_a_large_body_is_no_bomb() -> None:
    """What is in the file may be as large as the file."""
    data = "x" * ((64 << 20) + 1)
    text = cassette(body={"string": "HERE"}).replace(b"HERE", data.encode())
    assert body(only(vcr.read(text).tapes)) == data.encode()


def test_a_304_has_no_body() -> None:
    """Also where somebody wrote one."""
    found = vcr.read(
        cassette(body={"string": "x"}, status={"code": 304, "message": ""})
    )
    assert body(only(found.tapes)) == b""
    assert found.notes[0].startswith("interaction 1: an answer of 304 to GET has no")
