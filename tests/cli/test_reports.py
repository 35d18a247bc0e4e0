"""The reports, as their user meets them."""

from __future__ import annotations

import re
from pathlib import Path
from time import process_time

import pyarrow as pa
import pytest
from cli.commands import objects, run
from click.testing import CliRunner
from samples import (
    cassette_with,
    conversation,
    exchange_id,
    finished,
    meibel_exchange,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.cli import every_command, reports

HOUR_MS = 3_600_000


def test_latency_is_followed_by_its_formulas(root: Path) -> None:
    """The table ends where each measure is explained."""
    table, formulas = run(root, "latency").split("\n\n")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0][:4] == ["measure", "n", "p50", "ms"]
    assert lines[-1] == ["e2e", "2", "547.5", "909.5", "954.8", "991.0", "1,000"]
    assert ["tool_union", "1", *["350.0"] * 5] in lines
    names = [line.partition(":")[0] for line in formulas.splitlines()]
    assert names == [line[0] for line in lines[1:]]


@pytest.mark.parametrize("name", analytics.names())
def test_a_report_of_nothing_says_what_would_be_in_it(root: Path, name: str) -> None:
    """No stall is good news, once one knows how long a stall is."""
    said_so, formulas = run(root, name, "--where", "false").split("\n\n")
    assert said_so == "(no rows)"
    assert formulas.count("\n") > 4


def test_latency_of_groups_names_each(root: Path) -> None:
    """A group's name stands above its rows; what did not happen is a dash."""
    blocks = run(root, "latency", "--by", "day").split("\n\n")
    assert [block.split("\n")[0] for block in blocks[:2]] == [
        "2026-11-23",
        "2026-11-24",
    ]
    assert ["tool", "0", *["-"] * 5] in [line.split() for line in blocks[1].split("\n")]


def test_latency_can_be_of_some_exchanges(root: Path) -> None:
    """Time and conditions select, and programs get plain numbers."""
    rows = objects(root, "latency", "--since", "2026-11-24", "--where", "status = 200")
    assert [row for row in rows if row["measure"] == "e2e"] == [
        {
            "group": "all",
            "measure": "e2e",
            "n": 1,
            **{f"{name}_ms": 95.0 for name in ("p50", "p90", "p95", "p99", "max")},
        }
    ]
    assert objects(root, "latency", "--until", "2026-11-23") == []


@pytest.mark.parametrize("width", [80, 120], indirect=True)
def test_tools_fit_the_terminal(root: Path, width: int) -> None:
    """Names are cut to fit, and what went wrong shares one column."""
    lines = run(root, "tools").splitlines()
    assert max(map(len, lines)) <= width
    if width == 80:  # the words of the head stand above each other
        assert lines.pop(0).split() == [
            "tool",
            *["p50", "p90", "p95", "p99", "max"],
            "total",
            "not",
        ]
    assert lines[1].split()[:3] == [r"[red]\x1b[31m", "1", "0"]
    assert lines[1].rstrip().endswith("300.0  1 error")
    assert lines[2].split()[:3] == ["search", "2", "1"]
    assert lines[2].rstrip().endswith("200.0  1 unanswered")
    assert (
        "total: sum of the same, so calls that ran side by side all count in full"
        in (lines)
    )


def test_tools_by_tool_need_no_names_above(root: Path) -> None:
    """Grouped by tool, a group is a row and is named by it."""
    assert run(root, "tools", "--by", "tool").startswith("tool name ")


def test_each_trouble_of_a_tool_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Several kinds of trouble stand below each other."""
    counts = {"error": [2], "unanswered": [0], "superseded": [1], "unmatched": [0]}
    table = pa.table({"group": ["all"], "tool_name": ["t"], "calls": [1234], **counts})
    reports.print_report(analytics.Report(table, ["a: b"]), "table")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "tool name  calls  not ok",
        "t          1,234  2 error",
        "                  1 superseded",
        "",
        "a: b",
    ]


def test_many_groups_take_no_longer_each(capsys: pytest.CaptureFixture[str]) -> None:
    """By session there may be thousands, each with a table of its own."""
    count = 4000
    names = [f"session {n}" for n in range(count) for _ in range(12)]
    numbers = list(range(12 * count))
    table = pa.table({"group": names, "measure": ["e2e"] * len(names), "n": numbers})
    began = process_time()
    reports.print_report(analytics.Report(table, []), "table")
    assert process_time() - began < 30  # it takes two, or minutes if each sees all
    assert capsys.readouterr().out.count("measure") == count


def test_latency_has_no_groups_by_colour(root: Path) -> None:
    """A grouping that makes no sense is wrong usage."""
    command = every_command()["latency"]
    result = CliRunner().invoke(command, ["--store", str(root), "--by", "colour"])
    assert result.exit_code == 2
    assert "'colour' is not one of 'dialect', 'model', 'path'," in result.stderr


@pytest.mark.parametrize("width", [160], indirect=True)
def test_turnarounds_have_columns_where_there_are_any(
    root: Path, width: int, tmp_path: Path
) -> None:
    """Under what they are; a store without them has no room to spare for them."""
    assert run(root, "tools").startswith("tool name ")
    path = cassette_with(tmp_path / "c.sse.jsonl", conversation())
    above, names, row, *_ = run(path, "tools").splitlines()
    assert above.split()[-6:] == ["client"] * 6
    assert row.split()[-8:] == [
        *("2", "150.0", "230.0", "240.0", "248.0", "250.0"),
        *("1", "unanswered"),
    ]
    assert max(map(len, (above, names, row))) <= width


@pytest.mark.parametrize("width", [80, 100, 200], indirect=True)
@pytest.mark.parametrize("name", analytics.names())
def test_every_report_fits_the_terminal(root: Path, width: int, name: str) -> None:
    """No line is wider than the terminal, and nothing can steer it."""
    for by in ([], ["--by", "tool"], ["--by", "path"]):
        printed = run(root, name, *by)
        assert max(map(len, printed.splitlines())) <= width
        assert "\x1b" not in printed


@pytest.mark.parametrize("width", [60, 80, 100], indirect=True)
@pytest.mark.parametrize("name", analytics.names())
def test_no_number_is_cut(width: int, name: str, tmp_path: Path) -> None:
    """A terminal that is too narrow has fewer columns, and the numbers are whole."""
    hours = [
        meibel_exchange([said(n * HOUR_MS, "a")], number=n, ended_ms=9 * HOUR_MS)
        for n in range(1, 9)
    ]
    path = cassette_with(tmp_path / "c.sse.jsonl", [*conversation(), *hours])
    assert width
    table = run(path, name).split("\n\n")[0]
    assert name == "errors" or "…" not in table
    assert not re.search("[0-9,.]…| …", table)


def test_stalls_can_be_told_how_long_they_are(root: Path) -> None:
    """As a duration; anything else is wrong usage."""
    assert objects(root, "stalls") == []
    rows = objects(root, "stalls", "--over", "140ms")
    assert [(row["state"], row["n"], row["worst"]) for row in rows] == [
        ("generating", 1, exchange_id(0xA1)),  # 600 → 900, after an unanswered call
        ("tool_running", 2, exchange_id(0xA1)),  # 150 → 300 → 450
    ]
    command = every_command()["stalls"]
    result = CliRunner().invoke(command, ["--store", str(root), "--over", "20"])
    assert result.exit_code == 2
    assert "'20' is not a duration: give one such as 200ms or 1.5s" in result.stderr


def test_errors_name_the_latest_to_look_at(root: Path) -> None:
    """By the end of its id, as `show` takes it."""
    head, first, *_ = run(root, "errors").splitlines()
    assert head.split() == [
        *("problem", "detail", "n", "exchanges", "share", "%", "last", "(UTC)"),
        *("latest", "in"),
    ]
    assert first.split()[-4:] == ["50.0", "2026-11-24", "10:15:30", "000000a2"]


def test_slow_limits_each_group(tmp_path: Path) -> None:
    """The slowest of each group, by the ends of their ids."""
    root = store_with(
        tmp_path,
        [
            meibel_exchange([finished(10)], number=n, ended_ms=100 * n)
            for n in range(1, 60)
        ],
    )
    lines = run(root, "slow", "--limit", "2").split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == ["id", "0000003b", "0000003a"]
    assert lines[1].split()[4:] == ["5,900", "2,900", "close", "5,890", "2,990", "59"]
