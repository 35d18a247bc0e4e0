"""`query`, as its user meets it."""

from __future__ import annotations

from pathlib import Path

from cli.commands import objects


def test_query_prints_an_array_of_objects(root: Path) -> None:
    """SQL over the four tables, as JSON."""
    sql = "SELECT kind, count(*) AS n FROM frames GROUP BY kind ORDER BY n DESC, kind"
    assert objects(root, "query", sql) == [
        {"kind": "text", "n": 3},
        {"kind": "tool_call", "n": 3},
        {"kind": "tool_result", "n": 2},
        {"kind": "finish", "n": 1},
    ]
