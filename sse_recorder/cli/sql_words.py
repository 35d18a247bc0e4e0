"""What a word of SQL that is being typed may become.

The text before the cursor is cut into tokens, no more: half a statement has no grammar.
From those before the word it is told whether a table is due (after FROM and JOIN) or
columns are, of the tables that the statement names so far, or of all.

Words are found whatever their case.  All that are found for a word are in one case, so
that each begins with what was typed, or none does: a shell puts in place of the word
what they have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_TOKEN: Final = re.compile(
    r"'(?:[^']|'')*'?"  # a text,
    r'|"(?:[^"]|"")*"?'  # a name in quotes,
    r"|--[^\n]*\n?|/\*.*?(?:\*/|$)"  # a comment; these may lack their ends,
    r"|\w+|[^\w\s]",
    re.DOTALL,
)
_COMMENTS: Final = ("--", "/*")
_BEFORE_TABLES: Final = frozenset(("FROM", "JOIN", "DESCRIBE", "SUMMARIZE", "TABLE"))
# Where a list of tables ends.
_AFTER_TABLES: Final = frozenset(
    ("SELECT", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "QUALIFY", "ON", "USING")
)
_KEYWORDS: Final = """
ALL AND ANTI ANY AS ASC ASOF BETWEEN BY CASE CAST CROSS DESC DESCRIBE DISTINCT ELSE
END EXCEPT EXCLUDE EXISTS FALSE FILTER FIRST FOLLOWING FROM FULL GROUP HAVING ILIKE
IN INNER INTERSECT INTERVAL IS JOIN LAST LATERAL LEFT LIKE LIMIT NATURAL NOT NULL
NULLS OFFSET ON OR ORDER OUTER OVER PARTITION PIVOT POSITIONAL PRECEDING QUALIFY
RANGE REPLACE RIGHT ROWS SAMPLE SELECT SEMI SUMMARIZE TABLE THEN TRUE UNBOUNDED
UNION UNPIVOT USING VALUES VARIABLE WHEN WHERE WINDOW WITH
"""


def word_before(text: str) -> str:
    """Return what has been typed of the last word; empty where one has to begin."""
    return re.split(r"[^A-Za-z0-9_]", text)[-1]


def completions(text: str, tables: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what the last word of a text may become.

    Args:
        text: SQL, up to the cursor.
        tables: the columns of each table.
    """
    typed = word_before(text)
    tokens = _tokens(text)
    if tokens and text.endswith(tokens[-1]):
        last = tokens[-1]
        if last == typed:
            tokens.pop()
        elif last[-1].isalnum() or not _is_closed(last):
            return []  # in a text, a comment, or a word of other letters
    if typed[:1].isdigit():
        return []
    before = [token for token in tokens if not token.startswith(_COMMENTS)]
    return _found(typed, _candidates(before, tables))


def is_statement(text: str) -> bool:
    """Return whether a text ends a statement with a semicolon."""
    tokens = [token for token in _tokens(text) if not token.startswith(_COMMENTS)]
    return tokens[-1:] == [";"]


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _is_closed(token: str) -> bool:
    """Return whether a token that may be text, or a comment, has its end."""
    if token.startswith("--"):
        return token.endswith("\n")
    if token.startswith("/*"):
        return len(token) > len("/*/") and token.endswith("*/")
    # Quotes stand in pairs.
    return token[0] not in "'\"" or token.count(token[0]) % 2 == 0


def _candidates(
    before: list[str], tables: Mapping[str, Sequence[str]]
) -> Iterable[Iterable[str]]:
    """Return the groups of words that may follow, of which the first with one counts.

    Args:
        before: the tokens before the word.
        tables: the columns of each table.
    """
    while ";" in before:
        before = before[before.index(";") + 1 :]
    words = [token.upper() for token in before]
    previous = words[-1] if words else ""
    named = [name for name in tables if name.upper() in words] or list(tables)
    columns = [column for name in named for column in tables[name]]
    if previous == ".":
        owner = "".join(before[-2:-1])
        return [tables.get(owner, columns)]
    if previous in {"AS", ":"}:
        return []  # a new name, a type
    everything = [*columns, *tables, *_KEYWORDS.split()]
    is_listed = previous == "," and _is_among_tables(words)
    if previous in _BEFORE_TABLES or is_listed:
        return [tables, everything]
    return [everything]


def _is_among_tables(words: list[str]) -> bool:
    clauses = [w for w in words if w in _AFTER_TABLES or w in _BEFORE_TABLES]
    return clauses[-1:] == ["FROM"]


def _found(typed: str, groups: Iterable[Iterable[str]]) -> list[str]:
    for group in groups:
        found = [word for word in group if word.upper().startswith(typed.upper())]
        if found:
            return list(dict.fromkeys(_in_one_case(typed, found)))
    return []


def _in_one_case(typed: str, words: list[str]) -> list[str]:
    keywords = [word for word in words if word.isupper()]
    if not typed:
        return words
    if typed.isupper() and keywords:
        return keywords
    return [word.lower() for word in words]
