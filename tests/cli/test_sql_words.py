"""What a word of SQL may become, by what stands before it."""

from __future__ import annotations

import pytest

from sse_recorder.cli.sql_words import completions, is_statement, word_before

TABLES = {
    "exchanges": ["exchange_id", "status", "ended_ns"],
    "frames": ["exchange_id", "seq", "kind", "event"],
    "tool_calls": ["exchange_id", "seq", "tool_name", "duration_ns"],
}
NAMES = list(TABLES)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Columns, of all tables until one is named.
        ("SELECT dur", ["duration_ns"]),
        ("SELECT count(dur", ["duration_ns"]),
        ("SELECT a,dur", ["duration_ns"]),
        ("SELECT 'it''s', dur", ["duration_ns"]),
        ("SELECT 1 -- two\n, dur", ["duration_ns"]),
        ("SELECT /* dur */ dur", ["duration_ns"]),
        ("SELECT exch", ["exchange_id", "exchanges"]),
        ("FROM frames WHERE seq > 1 AND ev", ["event"]),
        ("FROM frames JOIN tool_calls USING (se", ["seq", "select", "semi"]),
        ("FROM frames; FROM exchanges WHERE st", ["status"]),
        # Of the one before the full stop, or, where that is another name, of any.
        ("SELECT frames.", TABLES["frames"]),
        ("SELECT frames.se", ["seq"]),
        ("SELECT f.to", ["tool_name"]),
        # Tables.
        ("FROM ", NAMES),
        ("select * from t", ["tool_calls"]),
        ("FROM frames JOIN ", NAMES),
        ("FROM frames, ", NAMES),
        ("FROM frames AS f, e", ["exchanges"]),
        ("DESCRIBE f", ["frames"]),
        ("FROM late", ["lateral"]),
        # Keywords, as they are typed.
        ("SEL", ["SELECT"]),
        ("sel", ["select"]),
        ("Sel", ["select"]),
        ("SELECT E", ["ELSE", "END", "EXCEPT", "EXCLUDE", "EXISTS"]),
        ("SELECT DUR", ["duration_ns"]),
        ("FROM frames GROUP BY ki", ["kind"]),
        # Nothing: texts, comments, quoted names, new names, types, numbers.
        ("SELECT 'dur", []),
        ("SELECT 'it''s dur", []),
        ('SELECT "dur', []),
        ("SELECT 1 -- dur", []),
        ("SELECT /* dur", []),
        ("SELECT /*/ dur", []),
        ("SELECT 1 AS du", []),
        ("SELECT x::d", []),
        ("SELECT 12", []),
        ("SELECT 1d", []),
        ("SELECT é", []),
        ("SELECT édur", []),
        ("SELECT zzz", []),
    ],
)
def test_a_word_becomes_what_may_stand_there(text: str, found: list[str]) -> None:
    """Columns first, then tables, then keywords; after FROM and JOIN, tables alone."""
    assert completions(text, TABLES) == found


def test_where_nothing_is_typed_all_is_offered() -> None:
    """Each word once, however many tables have it."""
    found = completions("SELECT ", TABLES)
    assert found[:4] == ["exchange_id", "status", "ended_ns", "seq"]
    assert {"frames", "FROM", "CASE"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("typed", ["e", "E", "du", "DU", "Du", "t", "s", "S"])
def test_what_is_found_for_a_word_begins_alike(typed: str) -> None:
    """A shell puts what all have in common in place of the word: never less of it."""
    found = completions(f"SELECT {typed}", TABLES)
    assert len({word[: len(typed)] for word in found}) == 1
    assert found[0][: len(typed)].lower() == typed.lower()


@pytest.mark.parametrize(
    ("text", "word"),
    [("", ""), ("a", "a"), ("a.b_1", "b_1"), ("count(", ""), ("x ", ""), ("é", "")],
)
def test_a_word_is_of_the_letters_of_names(text: str, word: str) -> None:
    """The scripts of the shells cut it off in the same way."""
    assert word_before(text) == word


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("SELECT 1;", True),
        ("SELECT 1 ; ", True),
        ("SELECT 1; -- one", True),
        ("SELECT 1; /* one */", True),
        ("SELECT ';'\n;", True),
        ("", False),
        ("SELECT 1", False),
        ("SELECT ';", False),
        ('SELECT ";', False),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ;", False),
        ("SELECT 1; SELECT 2", False),
    ],
)
def test_a_semicolon_ends_a_statement(text: str, *, is_one: bool) -> None:
    """But not in a text, in quotes or in a comment."""
    assert is_statement(text) is is_one
