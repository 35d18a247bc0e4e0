"""Tables for people."""

from __future__ import annotations

import pytest

from sse_recorder.cli.columns import number


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
