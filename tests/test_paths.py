"""Paths and rules: what is written can be read again, and where a rule holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sse_recorder.errors import UsageError
from sse_recorder.paths import ANY, Path, ends, holds, ignoring, written

PATHS = st.lists(st.text() | st.integers(0, 999_999_999), min_size=1).map(tuple)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("city", ("city",)),
        ("a.b[0].c", ("a", "b", 0, "c")),
        ("tool_calls[*].arguments.*.id", ("tool_calls", ANY, "arguments", ANY, "id")),
        ('a["b.c"]["\\""]', ("a", "b.c", '"')),
        ("$.a", ("a",)),
        ("$[1].a", (1, "a")),
        # The root of a path, and no part of a name.
        ("$schema", ("$schema",)),
        ("a.$ref", ("a", "$ref")),
    ],
)
def test_a_rule_is_a_name_or_a_path(text: str, rule: Any) -> None:
    """Names, numbers, and `*` for any of them; `$` may stand in front."""
    assert ignoring(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "*",
        "[*]",
        "*.*",
        "a..b",
        "a.",
        "a[x]",
        "a[-1]",
        "a b",
        '["a]',
        '["\\x"]',
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    """With what to write instead; a rule for everything is none."""
    with pytest.raises(UsageError, match="neither a name nor a path; write one as it"):
        ignoring(text)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("a", 0, "b"), "a[0].b"),
        ((0, "b"), "[0].b"),
        (("a.b", "c d", "", "é"), '["a.b"]["c d"][""].é'),
        (("a", ANY, "b#2"), 'a[*]["b#2"]'),
        (("\ud800", "a\u200b"), '["\\ud800"]["a\\u200b"]'),
    ],
)
def test_a_path_is_written_as_people_write_it(path: Any, text: str) -> None:
    """Names stand bare, but where they would be taken for something else."""
    assert written(path) == text


@given(PATHS)
@example(("$", "a"))
def test_a_path_that_is_printed_can_be_given_back(path: Path) -> None:
    """It is the rule that holds there."""
    assert ignoring(written(path)) == path
    assert holds(path, path)


@pytest.mark.parametrize(
    ("rule", "held", "ended"),
    [
        ("b", True, False),
        ("a.b", True, False),
        ("b.c", True, True),
        ("a.b.c", True, True),
        ("*.c", True, True),
        ("a.*.c", True, True),
        ("a.c", False, False),
        ("x.a.b.c", False, False),
        ("[0]", False, False),
        ("B", False, False),
    ],
)
def test_a_rule_holds_where_it_is_a_piece_of_a_path(
    rule: str, *, held: bool, ended: bool
) -> None:
    """A name alone wherever it is, a longer rule where it leads, and all below."""
    path = ("a", "b", "c")
    assert (holds(ignoring(rule), path), ends(ignoring(rule), path)) == (held, ended)


@given(PATHS, PATHS, PATHS)
def test_every_piece_of_a_path_holds(before: Path, piece: Path, after: Path) -> None:
    """Wherever it is; it ends a path only where nothing comes behind it."""
    assert holds(piece, before + piece + after)
    assert ends(piece, before + piece)
    assert not ends(piece, piece[:-1])
