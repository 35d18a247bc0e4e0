"""Spans as values: what a peer may put into one."""

from __future__ import annotations

import pytest

from sse_recorder.otel import clean
from sse_recorder.otel.data import mode_of


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("a\x00b\x1b[31mc\r\n", "ab[31mc"),
        ("\u202egnp.exe\u200b", "gnp.exe"),
        ("lone \ud800 half", "lone  half"),
        ("\x00", None),
        ("", None),
        (None, None),
        ("é" * 200, "é" * 128),
        ("a" + "é" * 200, "a" + "é" * 127),
    ],
)
def test_text_of_a_peer_is_cleaned_and_cut(
    text: str | None, cleaned: str | None
) -> None:
    """No control characters, no half characters, at most 256 bytes."""
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("tags", "mode"),
    [
        ({}, "proxy"),
        ({"sse_recorder.mode": "client", "a": "b"}, "client"),
        ({"sse_recorder.mode": "\x00"}, "proxy"),
    ],
)
def test_a_tag_tells_what_was_recorded_within_a_client(
    tags: dict[str, str], mode: str
) -> None:
    """Anything else is a proxy's."""
    assert mode_of(tags) == mode
