"""The rules of the values that everything speaks in."""

from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError

import pytest
from samples import MS, STARTED_AT, exchange_id

from sse_recorder.exchange import (
    Exchange,
    Headers,
    Op,
    Outcome,
    RequestHead,
    header,
    media_type,
    uuid7,
)

HEADERS: Headers = (("Content-Type", "Text/HTML ; charset=x"), ("a", "1"), ("A", "2"))


def exchange(url: str, path: str) -> Exchange:
    """Return an exchange of some request."""
    return Exchange(
        exchange_id=exchange_id(1),
        recorder_id="r",
        started_at=STARTED_AT,
        method="GET",
        url=url,
        path=path,
    )


def test_the_first_header_of_a_name_counts() -> None:
    """Names are compared without their case; values are as they are."""
    assert header(HEADERS, "a") == header(HEADERS, "A") == "1"
    assert header(HEADERS, "b") is None
    assert header((), "a") is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (HEADERS, "text/html"),
        ((), ""),
        ((("content-type", ""),), ""),
        ((("CONTENT-TYPE", "text/event-stream;x=y;z"),), "text/event-stream"),
    ],
)
def test_a_media_type_has_no_parameters(headers: Headers, expected: str) -> None:
    """What decides how a body is read is the type alone, in lower case."""
    assert media_type(headers) == expected


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/a?b?c", "/a", "b?c"), ("/a?", "/a", ""), ("/a", "/a", ""), ("*", "*", "")],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query: str) -> None:
    """The first question mark is where the path ends."""
    head = RequestHead("GET", target)
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("http://h/a?b?c", "/a", "/a?b?c"),
        ("http://h/a?", "/a", "/a?"),
        ("http://h/a", "/a", "/a"),
        ("http://h/a?b#c?d", "/a", "/a?b"),
        ("http://h", "*", "*"),
    ],
)
def test_an_exchange_knows_the_target_it_was_sent_to(
    url: str, path: str, target: str
) -> None:
    """The path is a column; the query is in the URL."""
    assert exchange(url, path).target == target


def test_values_do_not_change() -> None:
    """What was recorded is passed around without being copied."""
    with pytest.raises(FrozenInstanceError):
        exchange("http://h/", "/").status = 200  # type: ignore[misc]


def test_the_numbers_in_journals_stay() -> None:
    """Numbers of operations are in files, words of outcomes in tables."""
    assert {op.name: op.value for op in Op} == {
        "OPEN": 1,
        "REQUEST_DATA": 2,
        "SENT": 3,
        "HEAD": 4,
        "DATA": 5,
        "END": 6,
        "CARRY": 7,
        "TOOL_CALL": 8,
    }
    assert [str(outcome) for outcome in Outcome] == [
        *["complete", "client_abort", "upstream_abort", "upstream_error"],
        *["timeout", "incomplete"],
    ]


def test_ids_are_of_version_7_and_sort_by_time() -> None:
    """An id says when its exchange began, to the millisecond, and is never repeated."""
    ids = [uuid7(STARTED_AT + n * MS) for n in range(50)]
    assert ids == sorted(ids)
    assert len({uuid7(STARTED_AT) for _ in range(50)}) == 50
    for number, text in enumerate(ids):
        value = uuid.UUID(text)
        assert str(value) == text
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert value.int >> 80 == STARTED_AT // MS + number
