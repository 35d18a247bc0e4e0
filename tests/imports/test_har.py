"""HAR, by Chromium's developer tools, by Playwright, and by the specification."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imports.reading import (
    BODY,
    FILES,
    FRAMES,
    body,
    cassette_of,
    chunks,
    ending,
    head,
    only,
    opening,
    read,
    sent,
)
from samples import MS, STARTED_AT

from sse_recorder.background import running
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Chunk, Outcome, Record, header
from sse_recorder.imports import har
from sse_recorder.imports.base import Found
from sse_recorder.replay import ReplayServer

WALL_S = STARTED_AT / 1e9
EVENT = b"event: a\nid: 1\ndata: x\ndata: y\n\n"
MESSAGE = {"time": 0.04, "eventName": "a", "eventId": "1", "data": "x\ny"}


def log(*changes: dict[str, Any]) -> Found:
    """Return what a HAR has whose entries differ from the usual in something."""
    entries = [_entry(**change) for change in changes]
    return har.read(
        json.dumps({"log": {"version": "1.2", "entries": entries}}).encode()
    )


def entry(**changes: Any) -> list[Record]:
    """Return the records of an entry that differs from the usual in something."""
    return only(log(changes).tapes)


def _entry(
    request: Any = (), response: Any = (), content: Any = (), **more: Any
) -> dict[str, Any]:
    return {
        "startedDateTime": "2026-11-23T11:15:30.123+01:00",
        "timings": {"blocked": 2, "dns": -1, "send": 1, "wait": 27, "receive": 70},
        "request": {"method": "GET", "url": "https://h/x?y=1#z", "headers": []}
        | dict(request),
        "response": {
            "status": 200,
            "statusText": "OK",
            "httpVersion": "h2",
            "headers": [{"name": "Content-Type", "value": "text/event-stream"}],
            "content": {"mimeType": "text/event-stream", "text": EVENT.decode()}
            | dict(content),
        }
        | dict(response),
    } | more


def test_streams_that_chromium_fetched_come_over_byte_for_byte() -> None:
    """Each event is a chunk, at the time at which the browser saw it."""
    _, gzipped, plain = read(FILES / "devtools.har").exchanges
    for found in (gzipped, plain):
        assert body(found) == BODY
        assert header(head(found).headers, "content-encoding") is None
        assert [chunk.data for chunk in chunks(found)] == [
            FRAMES[0],
            FRAMES[1] + FRAMES[2],
            FRAMES[3],
        ]
    assert [chunk.at_ns for chunk in chunks(plain)] == [42914900, 103474000, 153722000]
    assert opening(plain).started_at % 1_000_000_000 == 191 * MS
    assert sent(gzipped).decode() == '{"a":"é"}'
    assert sent(plain) == b"a=1&b=2"


def test_an_event_source_of_chromium_is_written_from_its_events() -> None:
    """Its bytes are not in the file, which is told."""
    found = read(FILES / "devtools.har")
    assert [chunk.data for chunk in chunks(found.exchanges[0])] == [
        'event: status\ndata: {"s": "café 😀"}\n\n'.encode(),
        b"id: 7\ndata: a\ndata: b.c\n\n",
        b"event: done\ndata: [DONE]\n\n",
    ]
    assert found.notes[0].startswith("entry 1: its bytes were not saved")
    assert ending(found.exchanges[0]).outcome is Outcome.CLIENT_ABORT


def test_what_playwright_saved_comes_over_byte_for_byte() -> None:
    """What it did not save is told."""
    found = read(FILES / "playwright.har")
    page, stream = found.exchanges
    assert body(page) == b"<!doctype html><title>x</title>"
    assert [chunk.data for chunk in chunks(stream)] == [BODY]
    assert "entry 2: left out, the body of" in found.notes[0]


def test_a_har_replays_to_what_was_recorded_in_it(tmp_path: Path) -> None:
    """Byte for byte, whatever the browser made of them."""
    path = cassette_of(tmp_path, FILES / "devtools.har")
    with (
        running(ReplayServer(path)) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        assert client.post("/s", data={"b": "2", "a": "1"}).content == BODY
        assert client.post("/gz", json={"a": "é"}).content == BODY


@given(st.binary())
def test_any_body_comes_back_from_base64(data: bytes) -> None:
    """Byte for byte, in one chunk at the end of the wait."""
    text = base64.b64encode(data).decode()
    found = entry(content={"text": text, "encoding": "base64", "mimeType": ""})
    assert chunks(found) == ([Chunk(30 * MS, data)] if data else [])


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_comes_back(text: str) -> None:
    """In UTF-8, as it is in the file."""
    found = entry(content={"text": text, "mimeType": "text/plain"})
    assert body(found) == text.encode("utf-8", "surrogatepass")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf_8_that_was_read_as_windows_1252_is_put_right(text: str) -> None:
    """As Chromium reads event streams without a charset."""
    data = text.encode()
    read_as = "".join(
        bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in data
    )
    assert body(entry(content={"text": read_as})) == data
    if not text.isascii():
        assert body(entry(content={"text": text + "日"})) == (text + "日").encode()
    named = {"text": read_as, "mimeType": "text/event-stream; charset=utf-8"}
    assert body(entry(content=named)) == read_as.encode()


@pytest.mark.parametrize("origin", [0, WALL_S, 1234.0])
def test_times_of_messages_have_one_of_three_origins(origin: float) -> None:
    """The beginning of the entry, 1970, or any other: then the first ends the wait."""
    messages = [MESSAGE | {"time": origin + at} for at in (0.04, 0.0655)]
    found = entry(content={"text": (EVENT * 2).decode()}, _eventSourceMessages=messages)
    first_ns = 30 * MS if origin == 1234 else 40 * MS
    assert [c.data for c in chunks(found)] == [EVENT, EVENT]
    times = [chunk.at_ns for chunk in chunks(found)]
    assert times == pytest.approx([first_ns, first_ns + 25.5 * MS], abs=1000)


def test_text_that_the_messages_do_not_fit_is_left_whole() -> None:
    """From the first event that is another on, at the time of the last message."""
    text = (EVENT + b"data: other\n\n" + EVENT).decode()
    messages = [MESSAGE, MESSAGE | {"time": 0.06}]
    found = entry(content={"text": text}, _eventSourceMessages=messages)
    assert chunks(found) == [
        Chunk(40 * MS, EVENT),
        Chunk(60 * MS, b"data: other\n\n" + EVENT),
    ]
    found = entry(content={"text": text}, _eventSourceMessages=[MESSAGE])
    assert [c.at_ns for c in chunks(found)] == [40 * MS, 40 * MS]


def test_messages_without_a_text_are_written_as_events() -> None:
    """An id where it changes, and a name where it is not that of all."""
    plain = {"time": 0.05, "eventName": "message", "eventId": "1", "data": ""}
    content = {"text": None, "size": 90}
    found = entry(content=content, _eventSourceMessages=[MESSAGE, plain])
    wanted = b"id: 1\nevent: a\ndata: x\ndata: y\n\n" + b"data: \n\n"
    assert body(found) == wanted


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        *(("HTTP/2", "2"), ("HTTP/2.0", "2"), ("h2", "2"), ("HTTP/3", "3")),
        *(("h3", "3"), ("HTTP/1.0", "1.0"), ("http/1.1", "1.1"), ("", "1.1")),
    ],
)
def test_versions_are_those_of_every_browser(said: str, expected: str) -> None:
    """Firefox says `HTTP/2`, and Chromium `h2`."""
    assert head(entry(response={"httpVersion": said})).http_version == expected


@pytest.mark.parametrize(
    ("change", "content", "is_told"),
    [
        ({"response": {"status": 304}}, {"text": "cached"}, True),
        ({"response": {"status": 204}}, {"text": "x"}, True),
        ({"response": {"status": 304}}, {"text": "", "size": 9}, False),
        ({"request": {"method": "HEAD"}}, {"text": "", "size": 9}, False),
    ],
)
def test_an_answer_without_a_body_is_its_head(
    change: dict[str, Any],
    content: dict[str, Any],
    is_told: bool,  # noqa: FBT001
) -> None:
    """Of a 304 browsers save the body that was in their cache; its length stays."""
    lines = [{"name": "Content-Length", "value": "123"}]
    response = change.pop("response", {}) | {"headers": lines}
    found = log({**change, "response": response, "content": content})
    (records,) = [only(found.tapes)]
    assert body(records) == b""
    assert header(head(records).headers, "content-length") == "123"
    assert [note[:8] for note in found.notes] == ["entry 1:"] * is_told


@pytest.mark.parametrize("where", ["response", "request"])
def test_base64_that_is_none_is_told(where: str) -> None:
    """Python would leave out what is not of its alphabet."""
    kept = {"text": "AAAA*!", "encoding": "base64", "mimeType": ""}
    change = (
        {"content": kept} if where == "response" else {"request": {"postData": kept}}
    )
    with pytest.raises(ValueError, match="entry 1: "):
        log(change)


def test_the_head_is_that_of_the_body_as_it_is() -> None:
    """Without pseudo headers, codings, and lengths that are not its own."""
    pairs = {
        ":status": "200",
        "content-encoding": "br",
        "content-length": "7",
        "x": "y",
    }
    headers = [{"name": name, "value": value} for name, value in pairs.items()]
    found = entry(response={"headers": headers})
    assert head(found).headers == (("x", "y"),)
    assert head(found).http_version == "2"
    assert opening(found).url == "https://h/x?y=1"
    assert opening(found).started_at == STARTED_AT


@pytest.mark.parametrize(
    ("posted", "expected"),
    [
        ({"text": "é"}, "é".encode()),
        ({"text": "/wA=", "encoding": "base64"}, b"\xff\x00"),
        (
            {
                "mimeType": "application/x-www-form-urlencoded",
                "params": [{"name": "a b", "value": "&"}, {"name": "c"}],
            },
            b"a+b=%26&c=",
        ),
        ({"text": "", "params": []}, b""),
    ],
)
def test_what_was_posted_comes_over(posted: dict[str, Any], expected: bytes) -> None:
    """As text, as base64 or as the fields of a form."""
    assert sent(entry(request={"postData": posted})) == expected


def test_what_is_no_exchange_or_was_not_saved_is_left_out_and_told() -> None:
    """By its number; the rest is there."""
    multipart = {"mimeType": "multipart/form-data", "params": [{"name": "a"}]}
    found = log(
        {"request": {"url": "data:text/plain,x"}},
        {"response": {"status": 101}},
        {"content": {"text": "", "size": 5}},
        {"request": {"postData": multipart}},
        {},
    )
    assert len(found.tapes) == 1
    for number, reason in enumerate(
        ("no URL", "a WebSocket", "the body of", "what was posted"), start=1
    ):
        assert found.notes[number - 1].startswith(f"entry {number}: left out, ")
        assert reason in found.notes[number - 1]


@pytest.mark.parametrize(
    "change",
    [
        {"content": {"text": "", "size": 5}},
        {"request": {"postData": {"mimeType": "x", "params": [{"name": "a"}]}}},
        {"request": {"url": "wss://h/x?api_key=SECRET"}},
        {"request": {"url": "data:text/plain,SECRET"}},
    ],
)
def test_what_is_told_of_an_entry_has_no_secret(change: dict[str, Any]) -> None:
    """URLs are told without their queries."""
    request = {"url": "https://SECRET@h/x?api_key=SECRET"} | change.get("request", {})
    (note,) = log(change | {"request": request}).notes
    assert "left out" in note
    assert "SECRET" not in note


@pytest.mark.parametrize(
    ("response", "outcome", "error"),
    [
        ({}, "complete", None),
        ({"_error": None}, "complete", None),
        ({"_error": "net::ERR_ABORTED"}, "client_abort", "net::ERR_ABORTED"),
        ({"_error": "net::ERR_FAILED"}, "upstream_abort", "eof: net::ERR_FAILED"),
        ({"_failureText": "x_RESET"}, "upstream_abort", "reset: x_RESET"),
        ({"status": 0, "_error": "e"}, "upstream_error", "e"),
        ({"status": 0, "content": {}}, "upstream_error", "there was no answer"),
    ],
)
def test_what_broke_is_imported_as_it_broke(
    response: dict[str, Any], outcome: str, error: str | None
) -> None:
    """As far as the file tells."""
    end = ending(entry(response=response))
    assert (end.outcome, end.error) == (outcome, error)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"log": {"entries": [{}]}}',
        b'{"log": []}',
        b"\xff",
        b'{"log": {"entries": [{"request": {"url": 5}, "response": {"status": 1}}]}}',
    ],
)
def test_what_is_no_har_is_told_in_a_line(text: bytes, tmp_path: Path) -> None:
    """With what is wrong with it."""
    path = tmp_path / "x.har"
    path.write_bytes(text)
    with pytest.raises(StoreError, match="not a HAR that can be read") as raised:
        read(path)
    assert "\n" not in str(raised.value)
