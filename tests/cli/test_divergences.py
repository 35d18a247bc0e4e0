"""Divergences as they are shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from rich.text import Text

from sse_recorder.cli import divergences
from sse_recorder.cli.divergences import SHOWN_MAX, report, show
from sse_recorder.diff import Change, Compared, Divergence
from sse_recorder.exchange import Exchange

EXCHANGE = Exchange(
    exchange_id="01" * 16,
    recorder_id="r",
    started_at=0,
    method="POST",
    url="http://a/chat",
    path="/chat",
)


def compared(*pairs: tuple[Any, Any]) -> list[Compared]:
    """Return two exchanges with divergences of the members of an event."""
    found = [
        Divergence(("exchange", 0, "events", n), Change.CHANGED, *values)
        for n, values in enumerate(pairs)
    ]
    return [Compared(EXCHANGE, EXCHANGE, found)]


def test_of_many_divergences_the_first_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People get as many as they may read, and programs all of them."""
    many = compared(*((n, -n) for n in range(1, 301)))
    assert report(many, "table", tmp_path / "report.xml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "… and 200 more; --format jsonl has all of them"
    assert len(lines) == 2 + SHOWN_MAX + 2  # a title, the names, and what is above
    failure = ET.parse(tmp_path / "report.xml").find(".//failure")  # noqa: S314 - our own
    assert failure is not None
    assert (failure.text or "").splitlines()[SHOWN_MAX:] == ["… and 200 more"]
    assert failure.get("message") == "300 divergences"
    report(many, "jsonl", None)
    assert len(capsys.readouterr().out.splitlines()) == 300
    report(compared((1, 2)), "table", None)
    assert "more" not in capsys.readouterr().out


@pytest.mark.parametrize("format_", ["json", "jsonl"])
def test_what_is_no_number_is_text(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    """JSON has no word for it, and who reads strictly would read nothing."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(word)

    found = compared((float("nan"), {"a": [float("inf")]}), (-float("inf"), 1.5))
    report(found, format_, None)
    output = capsys.readouterr().out
    lines = [output] if format_ == "json" else output.splitlines()
    read = [json.loads(line, parse_constant=refuse) for line in lines]
    rows = read[0] if format_ == "json" else read
    assert [(row["left"], row["right"]) for row in rows] == [
        ("NaN", {"a": ["Infinity"]}),
        ("-Infinity", 1.5),
    ]


def test_a_very_narrow_terminal_has_a_line_for_each_cell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns of a few letters cannot be read."""

    def console(**options: Any) -> Console:
        return Console(force_terminal=True, width=30, color_system=None, **options)

    monkeypatch.setattr(divergences, "Console", console)
    report(compared(("Lisbon", "Porto")), "table", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:5] == [
        "where events[0]",
        "kind changed",
        'left "Lisbon"',
        'right "Porto"',
    ]
    assert max(map(len, lines)) <= 30


@pytest.mark.parametrize(("width", "is_table"), [(59, False), (60, True)])
def test_columns_need_a_width(width: int, *, is_table: bool) -> None:
    """From sixty columns on there is a table; an empty cell has no line."""
    console = Console(file=io.StringIO(), width=width)
    show(console, ("one", "two", "three"), [[Text("a"), Text(""), Text("b")]])
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    if is_table:
        assert lines == [["one", "two", "three"], ["a", "b"]]
    else:
        assert lines == [["one", "a"], ["three", "b"], []]
