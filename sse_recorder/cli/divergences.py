"""How divergences are shown: side by side, for programs, and for build servers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import click
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sse_recorder.cli.base import counted, print_rows, say
from sse_recorder.cli.look import ID_WIDTH
from sse_recorder.cli.waterfall import cut, duration, printable
from sse_recorder.dialects.base import compact
from sse_recorder.diff import Change, Compared, Divergence
from sse_recorder.exchange import Exchange

SHOWN_MAX: Final = 100
"""Of one exchange, so many divergences are shown to people."""

_LENGTH_MAX: Final = 200
_BEFORE: Final = 24
_WIDTH_IN_FILES: Final = 1 << 10
_STACKED_BELOW: Final = 60
_COLUMNS: Final = ("left_id", "right_id", "where", "kind", "left", "right")
_DIVERGENCES: Final = pa.schema([(name, pa.string()) for name in _COLUMNS])


def report(
    found: Sequence[Compared],
    format_: str,
    junit: Path | None,
    skipped: Sequence[tuple[Exchange, str]] = (),
) -> int:
    """Print what was compared, and return whether it differs.

    Args:
        found: what was compared.
        format_: one of those of `format_option`.
        junit: where a test report goes; None for nowhere.
        skipped: what was not, and why, for the test report.
    """
    count = sum(len(pair.divergences) for pair in found)
    if format_ != "table":
        _print_divergences(found, format_)
    elif count:
        _print_side_by_side(found)
    if junit is not None:
        junit.write_bytes(_junit(found, skipped))
    say(
        f"Compared {counted(len(found), 'exchange')}:"
        f" {counted(count, 'divergence') if count else 'no divergences'}."
    )
    return int(bool(count))


def _print_divergences(found: Iterable[Compared], format_: str) -> None:
    rows = [
        {
            "left_id": pair.left and pair.left.exchange_id,
            "right_id": pair.right and pair.right.exchange_id,
            "where": divergence.where,
            "kind": str(divergence.kind),
            "left": _plain(divergence.left),
            "right": _plain(divergence.right),
        }
        for pair in found
        for divergence in pair.divergences
    ]
    match format_:
        case "json":
            # Half a surrogate pair, which JSON may hold, stays escaped.
            text = json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False)
            click.echo(text.encode(errors="backslashreplace"))
        case "jsonl":
            for row in rows:
                click.echo(compact(row))
        case _:
            for row in rows:
                for side, absent in (("left", Change.ADDED), ("right", Change.MISSING)):
                    is_there = row["kind"] != absent
                    row[side] = compact(row[side]) if is_there else None
            print_rows(pa.Table.from_pylist(rows, schema=_DIVERGENCES), format_)


def _plain(value: Any) -> Any:
    """Return JSON in which what is no number, or infinite, is text."""
    # Python reads it; RFC 8259 section 6 does not permit it.
    match value:
        case float() if not math.isfinite(value):
            return compact(value)
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _print_side_by_side(found: Iterable[Compared]) -> None:
    console = console_of()
    for pair in found:
        if not pair.divergences:
            continue
        console.print(Text(cut(_title(pair), console.width), "bold"))
        show(console, ("where", "kind", "left", "right"), _rows(pair))
        if more := len(pair.divergences[SHOWN_MAX:]):
            console.print(f"… and {more:,} more; --format jsonl has all of them")
        console.print()


def _rows(pair: Compared) -> Iterator[list[Text]]:
    for divergence in pair.divergences[:SHOWN_MAX]:
        where = divergence.where.partition("]")[2].removeprefix(".")
        left, right = _shown(divergence)
        yield [
            Text(printable(where or "the exchange"), "cyan"),
            Text(divergence.kind),
            Text(left, "red"),
            Text(right, "green"),
        ]


def _title(pair: Compared) -> str:
    """Return what is compared in words: the request, and the ends of the ids."""
    exchange = pair.left or pair.right
    assert exchange is not None
    ids = [x.exchange_id[-ID_WIDTH:] if x else "nothing" for x in pair[:2]]
    number = pair.divergences[0].path[1] if pair.divergences else ""
    request = printable(f"{exchange.method} {exchange.target}")
    return f"exchange[{number}]  {ids[0]} ↔ {ids[1]}  {request}"


def _shown(divergence: Divergence) -> tuple[str, str]:
    """Return both values for people; of long ones, from where they differ."""
    left, right = divergence.left, divergence.right
    if divergence.kind is Change.TIMING:
        return duration(left), duration(right)
    texts = [
        "" if divergence.kind is absent else printable(compact(value))
        for value, absent in ((left, Change.ADDED), (right, Change.MISSING))
    ]
    start = 0
    if max(map(len, texts)) > _LENGTH_MAX // 2:
        pairs = enumerate(zip(*texts, strict=False))
        differ = next((n for n, (a, b) in pairs if a != b), 0)
        start = max(differ - _BEFORE, 0)
    return _window(texts[0], start), _window(texts[1], start)


def _window(text: str, start: int) -> str:
    shown = text[start : start + _LENGTH_MAX]
    before, after = "…" * bool(start), "…" * (start + _LENGTH_MAX < len(text))
    return before + shown + after


def console_of() -> Console:
    """Return where tables are printed."""
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a wrapped column in a file: let lines be as long as they are.
        console.width = _WIDTH_IN_FILES
    return console


def show(
    console: Console, names: Sequence[str], rows: Iterable[Sequence[Text]]
) -> None:
    """Print rows as a table, or where that is too narrow each cell in a line."""
    if console.width < _STACKED_BELOW:
        for row in rows:
            cells = [c for c in zip(names, row, strict=True) if c[1].plain]
            for name, cell in cells:
                console.print(Text(f"{name} ", "bold"), cell, sep="", overflow="fold")
            console.print()
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


# --- JUnit ----------------------------------------------------------------------------


def _junit(
    found: Sequence[Compared], skipped: Sequence[tuple[Exchange, str]] = ()
) -> bytes:
    """Return a report as build servers read it: a test for each pair."""
    failures = sum(bool(pair.divergences) for pair in found)
    tests = str(len(found) + len(skipped))
    counts = {"tests": tests, "failures": str(failures), "errors": "0"}
    if skipped:
        counts["skipped"] = str(len(skipped))
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "sse-recorder diff", **counts})
    for pair in found:
        exchange = pair.left or pair.right
        assert exchange is not None
        case = _case(suite, exchange)
        if pair.divergences:
            message = counted(len(pair.divergences), "divergence")
            failure = ET.SubElement(case, "failure", {"message": message})
            lines = list(map(_line, pair.divergences[:SHOWN_MAX]))
            if more := len(pair.divergences[SHOWN_MAX:]):
                lines.append(f"… and {more:,} more")
            failure.text = "\n".join(lines)
    for exchange, reason in skipped:
        ET.SubElement(_case(suite, exchange), "skipped", {"message": reason})
    ET.indent(suites)
    whole: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"


def _case(suite: ET.Element, exchange: Exchange) -> ET.Element:
    name = printable(f"{exchange.method} {exchange.target}")
    whole = {
        "classname": "sse-recorder.diff",
        "name": f"{name} {exchange.exchange_id}",
    }
    return ET.SubElement(suite, "testcase", whole)


def _line(divergence: Divergence) -> str:
    # Escaped, because XML has no way to write control characters.
    left, right = _shown(divergence)
    values = f"{left or '(nothing)'} ≠ {right or '(nothing)'}"
    return f"{printable(divergence.where)} {divergence.kind}: {values}"
