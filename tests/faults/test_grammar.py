"""How a fault is written."""

from __future__ import annotations

import pytest

from sse_recorder.faults import KINDS, parse
from sse_recorder.faults.grammar import Place, Spec, number, read


def test_a_fault_is_written_as_it_was_read() -> None:
    """What a report names can be given again."""
    texts = [
        "reset@event:12",
        "stall=2s@ms:500",
        "reslice=1",
        "status=429,retry-after=2",
    ]
    assert [str(parse(text)) for text in texts] == texts
    assert {parse(text).kind for text in texts} < set(KINDS)


def test_a_fault_has_a_kind_a_value_and_a_place() -> None:
    """The last two are not always there; what they mean is for the kind to say."""
    assert read(" error=too busy@bytes:007 ") == Spec(
        "error", "too busy", Place("bytes", 7)
    )
    assert read("x@line:3") == Spec("x", "", Place("line", 3))
    assert read("merge=") == Spec("merge")


@pytest.mark.parametrize(
    "text", ["", "@ms:1", "cut@ms", "cut@ms:", "cut@ms:-1", "cut@ms:\u0663", "a b"]
)
def test_what_is_not_written_so_is_none(text: str) -> None:
    """Digits are those of ASCII."""
    assert read(text) is None


def test_a_number_has_a_limit() -> None:
    """They come in headers, too, where nobody's patience is to be tried."""
    assert (number("0"), number("999999999")) == (0, 999_999_999)
    assert [number(text) for text in ("", "-1", "1.5", "9" * 10, "\u0663")] == [
        None
    ] * 5
    assert read("cut@ms:" + "9" * 15) == Spec("cut", "", Place("ms", 10**15 - 1))
    assert read("cut@ms:" + "9" * 16) is None
