"""Telling the formats apart, and masking what is read."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imports.reading import FILES, body, chunks, ending, head, opening, read, sent
from samples import rows_of

from sse_recorder import imports
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Outcome, header
from sse_recorder.redact import Redactor
from sse_recorder.store import cassette

KEY = "sk-ant-api03-Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"
STREAM = f'data: {{"api_key": "{KEY}"}}\n\n'.encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=secret\r\n"


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.HAR", b"", "har"),
        ("a.json", b' {"log": {"entries": []}}', "har"),
        ("a.json", b'{"interactions": [], "version": 1}', "vcr"),
        ("a.yml", b"", "vcr"),
        ("a.yaml", b"", "vcr"),
        ("a", b"# by hand\ninteractions: []\n", "vcr"),
        ("a.json", b'{"log": 5}', "curl"),
        ("a.json", b'{"log": ', "curl"),
        ("a", b'{"a":' * 50_000, "curl"),
        ("a.txt", b"data: {}\n\n", "curl"),
        ("a", b"", "curl"),
    ],
)
def test_the_format_is_told_by_name_and_content(
    name: str, data: bytes, expected: str
) -> None:
    """What is nobody else's was printed by curl."""
    assert imports.detect(name, data) == expected


def test_a_format_that_is_named_is_not_guessed(tmp_path: Path) -> None:
    """And what is wrong for it is told."""
    path = tmp_path / "x.har"
    path.write_bytes(b"data: x\n\n")
    (found,) = read(path, format_="curl", url="http://h/").exchanges
    assert body(found) == b"data: x\n\n"
    with pytest.raises(StoreError, match=r"not a cassette of VCR\.py that can be read"):
        read(path, format_="vcr")


@pytest.mark.parametrize("known", [{"url": "http://h/"}, {"method": "PUT"}])
def test_what_a_file_says_itself_is_not_said_again(known: dict[str, str]) -> None:
    """It could only be wrong."""
    with pytest.raises(UsageError, match="leave them out"):
        read(FILES / "requests.json", **known)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(StoreError, match="name a file that can be read"):
        read(tmp_path / "none.har")
    with pytest.raises(StoreError, match="ftp://h/' is no URL of HTTP"):
        read(FILES / "stamped.txt", url="ftp://h/")


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -5, 1e300, 10**25, "", "x", "\ud800", [], [5], {}, {"a": []}]
)


def altered(value: Any, draw: Callable[[Any], Any]) -> Any:
    """Return a value with something in it replaced, or left out."""
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 9)) < 1:
        return draw(VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw(st.sampled_from(keys))
    whole = copy.copy(value)
    if draw(st.integers(0, 9)) < 1:
        del whole[key]
    else:
        whole[key] = altered(value[key], draw)
    return whole


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["devtools.har", "playwright.har", "requests.json"]), st.data())
def test_nothing_in_a_file_makes_it_fail(name: str, data: st.DataObject) -> None:
    """It is read, and can be written as a cassette, or a line says what is wrong."""
    value = altered(json.loads((FILES / name).read_bytes()), data.draw)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(json.dumps(value), encoding="utf-8")
        try:
            found = imports.read(path, Redactor(), url=None)
        except (StoreError, UsageError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - it need not come
            return
    for records in found.exchanges:
        ended = rows_of(records)[0].ended
        assert ended is not None
        assert cassette.dumps(ended, chunks(records)).encode()


@settings(deadline=None)
@given(st.sampled_from(["curl.trace", "stamped.txt", "requests.yaml"]), st.data())
def test_no_cut_or_damage_makes_it_fail(name: str, data: st.DataObject) -> None:
    """Bytes that are missing, or others."""
    text = (FILES / name).read_bytes()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text[:start] + data.draw(st.binary(max_size=9)) + text[end:])
        known = (
            {} if name.endswith(".yaml") else {"url": "http://h/", "format_": "curl"}
        )
        try:
            read(path, **known)
        except (StoreError, UsageError) as error:
            assert "\n" not in str(error)  # noqa: PT017 - it need not come


def test_secrets_are_masked_wherever_they_are(tmp_path: Path) -> None:
    """In URLs, headers and bodies, as a recorder masks them."""
    path = tmp_path / "x.txt"
    path.write_bytes(HEAD + b"\r\n" + STREAM)
    url = f"https://h/?api_key={KEY}"
    (found,) = imports.read(path, Redactor(), url=url).exchanges
    assert opening(found).url == "https://h/?api_key=[redacted]"
    assert opening(found).request.target == "/?api_key=[redacted]"
    assert header(head(found).headers, "set-cookie") == "a=[redacted]"
    assert len(body(found)) == len(STREAM)
    assert KEY.encode() not in body(found)
    first, *_ = imports.read(FILES / "requests.yaml", Redactor()).exchanges
    authorization = header(opening(first).request.headers, "authorization")
    assert authorization == "Bearer [redacted]"


def test_of_a_compressed_body_with_a_secret_nothing_is_kept(tmp_path: Path) -> None:
    """Nothing can be masked in it, so the exchange is incomplete and says why."""
    path = tmp_path / "x.txt"
    coded = gzip.compress(STREAM)
    path.write_bytes(HEAD + b"Content-Encoding: gzip\r\n\r\n" + coded)
    (found,) = imports.read(path, Redactor(), url="http://h/").exchanges
    assert ending(found).outcome is Outcome.INCOMPLETE
    assert "gzip" in (ending(found).error or "")
    assert coded not in body(found)


def test_of_a_compressed_request_with_a_secret_nothing_is_kept(tmp_path: Path) -> None:
    """Nor of what follows it."""
    headers = [{"name": "Content-Encoding", "value": "gzip"}]
    text = json.loads((FILES / "playwright.har").read_bytes())
    entry = text["log"]["entries"][-1]
    coded = gzip.compress(json.dumps({"api_key": KEY}).encode())
    entry["request"]["headers"] = headers
    posted = {"text": base64.b64encode(coded).decode(), "encoding": "base64"}
    entry["request"]["postData"] = posted
    path = tmp_path / "x.har"
    path.write_text(json.dumps({"log": {"entries": [entry]}}), encoding="utf-8")
    (found,) = imports.read(path, Redactor()).exchanges
    assert ending(found).outcome is Outcome.INCOMPLETE
    assert coded not in sent(found)
    assert body(found) == b""
