"""The reports, as their user meets them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from cli.commands import objects, run
from click.testing import CliRunner
from samples import cassette_with, conversation

from sse_recorder import analytics
from sse_recorder.cli import every_command, reports


def test_latency_is_followed_by_its_formulas(root: Path) -> None:
    """The table ends where each measure is explained."""
    table, formulas = run(root, "latency").split("\n\n")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0][:4] == ["measure", "n", "p50", "ms"]
    assert lines[-1] == ["e2e", "2", "547.5", "909.5", "954.8", "991.0", "1,000"]
    assert ["tool_union", "1", *["350.0"] * 5] in lines
    names = [line.partition(":")[0] for line in formulas.splitlines()]
    assert names == [line[0] for line in lines[1:]]


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


def test_latency_has_no_groups_by_tool(root: Path) -> None:
    """A grouping that makes no sense is wrong usage."""
    command = every_command()["latency"]
    result = CliRunner().invoke(command, ["--store", str(root), "--by", "tool"])
    assert result.exit_code == 2
    assert "'tool' is not one of 'dialect', 'model', 'path', 'day'" in result.stderr


@pytest.mark.parametrize("width", [120], indirect=True)
def test_turnarounds_have_columns_where_there_are_any(
    root: Path, width: int, tmp_path: Path
) -> None:
    """Under what they are; a store without them has no room to spare for them."""
    assert run(root, "tools").startswith("tool name ")
    path = cassette_with(tmp_path / "c.sse.jsonl", conversation())
    above, names, row, *_ = run(path, "tools").splitlines()
    assert above.split() == ["client"] * 4
    assert " ".join(names.split()).endswith("total ms n p50 ms p95 ms max ms not ok")
    assert row.split()[-6:] == ["2", "150.0", "240.0", "250.0", "1", "unanswered"]
    assert max(map(len, (above, names, row))) <= width
