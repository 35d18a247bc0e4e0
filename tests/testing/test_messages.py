"""What is said: the words that do not depend on a run; the rest is pinned by runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from recordings import exchange
from sse_recorder.exchange import RequestHead
from sse_recorder.testing.messages import Messages
from sse_recorder.testing.options import Mode, Options, Place, Sharing


def words(sharing: Sharing = Sharing.NO, **options: object) -> Messages:
    """Return the messages of a recording."""
    place = Place(test="test_a.py::test_b[c d]", root=Path("/a"), scratch=Path)
    asked = Options(**options)  # type: ignore[arg-type]
    return Messages(Path("/a/b.sse.jsonl"), place, asked, sharing)


@pytest.mark.parametrize(
    ("sharing", "mode", "command"),
    [
        (Sharing.NO, Mode.REWRITE, "rewrite 'test_a.py::test_b[c d]'"),
        (Sharing.PERHAPS, Mode.REWRITE, "rewrite test_a.py"),
        (Sharing.YES, Mode.REWRITE, "rewrite test_a.py"),
        (Sharing.YES, Mode.NEW_EPISODES, "new_episodes 'test_a.py::test_b[c d]'"),
    ],
)
def test_a_command_takes_nothing_from_other_tests(
    sharing: Sharing, mode: Mode, command: str
) -> None:
    """What rewrites a cassette that others may use, has them record as well."""
    assert words(sharing).command(mode) == f"pytest --sse-record={command}"


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 response of b.sse.jsonl was"), (2, "2 responses of b.ss")],
)
def test_one_is_not_many(count: int, text: str) -> None:
    """Of responses that were left open, and of those that were left."""
    heads = [RequestHead("GET", "/")] * count
    assert words().left_open(heads).startswith(text)
    assert words().outstayed([exchange()] * count).startswith(text)


def test_what_is_too_much_is_counted() -> None:
    """The first five tell what is wrong."""
    text = words().unused([exchange()] * 7, 9)
    assert text.startswith("The test did not ask for 7 of 9 recordings in b.sse.jsonl:")
    assert text.count("POST /chat") == 5
    assert "… and 2 more" in text
