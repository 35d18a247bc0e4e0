"""Tables for people."""

from __future__ import annotations

import pytest
from rich.console import Console

from sse_recorder.cli.columns import Column, number, print_columns


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1234567, "1,234,567"),
        (0.0, "0.000"),
        (1.23456, "1.235"),
        (12.3456, "12.35"),
        (123.456, "123.5"),
        (1234.56, "1,235"),
    ],
)
def test_numbers_have_four_digits_or_more(value: float | None, text: str) -> None:
    """What an eye compares: four digits, all of those before the point."""
    assert number(value) == text


def test_heads_stand_on_their_columns_and_cells_hang(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Numbers end together, texts begin together, wide characters count as two."""
    columns = [
        Column("name", ["日本", "[b]x"]),
        Column("p50\nms", ["1,234", "-"], is_number=True),
        Column("not ok", ["1 error\n2 superseded", ""]),
    ]
    console = Console(width=80, color_system=None, legacy_windows=False)
    print_columns(console, columns, [column.width for column in columns])
    assert capsys.readouterr().out.splitlines() == [
        "        p50",
        "name     ms  not ok",
        "日本  1,234  1 error",
        "             2 superseded",
        "[b]x      -",
    ]
