"""`ls`, `show`, `query`, `latency` and `tools`, as their user meets them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner
from rich.console import Console
from samples import (
    CHAT,
    MS,
    STARTED_AT,
    called,
    cassette_with,
    conversation,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.cli import look
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Outcome

COMMANDS = {command.name: command for command in look.COMMANDS}
HOUR = 3_600_000 * MS
EVIL = "[red]\x1b[31m"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three exchanges: one with tools, one that broke a day later, one that is open."""
    return store_with(
        tmp_path_factory.mktemp("look"),
        [
            meibel_exchange(
                [
                    called(100, "a", "search"),
                    called(150, "b", EVIL),
                    returned(300, "a"),
                    returned(450, "b", {"error": "boom"}),
                    called(500, "c", "search"),
                    said(600, "Hello"),
                    finished(900),
                ],
                number=0xA1,
            ),
            meibel_exchange(
                [said(40, "a")],
                number=0xA2,
                started_at=STARTED_AT + 24 * HOUR,
                ended_ms=95,
                outcome=Outcome.UPSTREAM_ABORT,
                path="/v2/sessions/0193a0c4-77aa-7e12-9b1c-5a1f0c9d2e3f/chat/stream",
            ),
            meibel_exchange(
                [said(40, "a")],
                number=0xA3,
                started_at=STARTED_AT + 25 * HOUR,
                ended_ms=None,
            ),
        ],
    )


@pytest.fixture
def width(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Make commands believe that they print to a terminal of so many columns."""
    columns = int(getattr(request, "param", 80))

    def console(**options: Any) -> Console:
        return Console(force_terminal=True, color_system=None, width=columns, **options)

    monkeypatch.setattr(look, "Console", console)
    return columns


def run(root: Path, name: str, *arguments: str) -> str:
    """Run a command in this process, and return what it prints."""
    command = COMMANDS[name]
    result = CliRunner().invoke(
        command, ["--store", str(root), *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def objects(root: Path, name: str, *arguments: str) -> Any:
    """Run a command that prints JSON, and return it."""
    return json.loads(run(root, name, *arguments, "--format", "json"))


# --- ls -------------------------------------------------------------------------------


def test_ls_lists_the_newest_last(root: Path) -> None:
    """The table is for people: short ids, UTC to the second, `open` while it is."""
    lines = run(root, "ls").splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["started", "(UTC)", "id", "method"],
        ["2026-11-23", "10:15:30", "000000a1", "POST"],
        ["2026-11-24", "10:15:30", "000000a2", "POST"],
        ["2026-11-24", "11:15:30", "000000a3", "POST"],
    ]
    assert lines[1].split()[4:9] == [CHAT, "200", "meibel", "complete", "1.00"]
    assert lines[3].split()[5:] == ["200", "meibel", "open", "1", "0", "58", "B"]


@pytest.mark.parametrize("width", [80, 90, 120, 200], indirect=True)
def test_ls_fits_the_terminal(root: Path, width: int) -> None:
    """A narrow terminal shows less; the end of a path is what remains of it."""
    lines = run(root, "ls").splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert "/chat/stream  " in lines[2]
    assert ("dialect" in lines[0]) is (width >= 120)
    assert ("10:15:30  000000a1" in lines[1]) is True


def test_ls_can_be_narrowed(root: Path) -> None:
    """A condition chooses, and a limit keeps the newest."""
    rows = objects(root, "ls", "--where", "outcome IS NULL OR status = 200 -- all")
    assert [row["exchange_id"][-2:] for row in rows] == ["a1", "a2", "a3"]
    rows = objects(root, "ls", "--where", "outcome IS NOT NULL", "--limit", "1")
    assert [row["exchange_id"] for row in rows] == [exchange_id(0xA2)]
    assert rows[0]["path"].endswith("5a1f0c9d2e3f/chat/stream")
    assert rows[0]["duration_ms"] == 95
    assert run(root, "ls", "--where", "false") == "(no rows)\n"


def test_ls_has_everything_for_programs(root: Path) -> None:
    """The other formats have the names of the table's columns, and whole values."""
    row = objects(root, "ls")[2]
    assert row.pop("started_at").startswith("2026-11-24T")
    assert row == {
        "exchange_id": exchange_id(0xA3),
        "method": "POST",
        "path": CHAT,
        "status": 200,
        "dialect": "meibel",
        "outcome": None,
        "duration_ms": None,
        "frame_count": 1,
        "tool_call_count": 0,
        "response_size": 58,
    }
    rows = list(csv.DictReader(io.StringIO(run(root, "ls", "--format", "csv"))))
    assert [r["exchange_id"][-2:] for r in rows] == ["a1", "a2", "a3"]
    lines = run(root, "ls", "--format", "jsonl").splitlines()
    assert json.loads(lines[2])["frame_count"] == 1


# --- show -----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120], indirect=True)
def test_show_draws_a_waterfall(root: Path, width: int) -> None:
    """Heading, axis, and a line for each thing that happened; nothing wraps."""
    lines = run(root, "show", "a1").splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == f"POST https://api.meibel.ai{CHAT}"
    assert lines[1] == "200 OK · complete · 1.00 s · meibel"
    shown = [line.split()[1] for line in lines[lines.index("") + 2 :]]
    assert shown == [
        *("request", "headers", "first", "first", "search", r"[red]\x1b[31m"),
        *("search", "text", "end"),
    ]
    assert "error, 300 ms" in lines[-4]
    assert "unanswered" in lines[-3]


def test_show_lists_frames(root: Path) -> None:
    """`--frames` has a line for each frame, in order."""
    lines = run(root, "show", "a1", "--frames").splitlines()
    listed = [line.split() for line in lines[lines.index("") + 2 :]]
    assert [words[0] for words in listed] == [str(n) for n in range(7)]
    assert listed[0][1:6] == ["100.000", "tool_call", "tool_call", "81", "B"]
    assert "\x1b" not in "".join(lines)


def test_show_prints_one_object(root: Path) -> None:
    """As JSON an exchange has all its columns, its tool calls and its frames."""
    found = objects(root, "show", "000000a1")
    assert found["exchange_id"] == exchange_id(0xA1)
    assert found["outcome"] == "complete"
    assert [call["status"] for call in found["tool_calls"]] == [
        *("ok", "error", "unanswered"),
    ]
    assert [frame["seq"] for frame in found["frames"]] == list(range(7))
    assert found["frames"][5]["data"] == '{"data": {"message": "Hello"}}'


# --- query ----------------------------------------------------------------------------


def test_query_prints_an_array_of_objects(root: Path) -> None:
    """SQL over the four tables, as JSON."""
    sql = "SELECT kind, count(*) AS n FROM frames GROUP BY kind ORDER BY n DESC, kind"
    assert objects(root, "query", sql) == [
        {"kind": "text", "n": 3},
        {"kind": "tool_call", "n": 3},
        {"kind": "tool_result", "n": 2},
        {"kind": "finish", "n": 1},
    ]


# --- latency and tools ----------------------------------------------------------------


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
    look.print_report(analytics.Report(table, ["a: b"]), "table")
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "tool name  calls  not ok",
        "t          1,234  2 error",
        "                  1 superseded",
        "",
        "a: b",
    ]


# --- all of them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nope"], "no exchange with an id like 'nope'"),
        (["show", "01936a3e"], "3 exchanges with an id like '01936a3e'"),
        (["ls", "--where", "speed > 1"], "where 'speed > 1': Binder Error"),
        (["latency", "--since", "soon"], "since 'soon' is not a moment"),
        (["query", "SELECT * FROM nothing"], "Table with name nothing does not exist"),
    ],
)
def test_what_is_wrong_is_told_by_the_library(
    root: Path, arguments: list[str], message: str
) -> None:
    """Commands add nothing to what the library says of a mistake."""
    with pytest.raises(UsageError, match=message):
        run(root, *arguments)


def test_latency_has_no_groups_by_tool(root: Path) -> None:
    """A grouping that makes no sense is wrong usage."""
    command = COMMANDS["latency"]
    result = CliRunner().invoke(command, ["--store", str(root), "--by", "tool"])
    assert result.exit_code == 2
    assert "'tool' is not one of 'dialect', 'model', 'path', 'day'" in result.stderr


@pytest.mark.parametrize("command", look.COMMANDS, ids=lambda command: command.name)
def test_help_has_examples_on_lines_of_their_own(command: click.Command) -> None:
    """Examples in the help can be copied line by line."""
    output = CliRunner().invoke(command, ["--help"]).stdout
    assert f"\n  sse-recorder {command.name} " in output


def test_the_real_program_prints_data_to_stdout_and_mistakes_to_stderr(
    root: Path,
) -> None:
    """Exit 0 with data, exit 2 with one line on what to do."""

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sse_recorder", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = program("query", "--store", str(root), "SELECT 1 AS a", "--format", "json")
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout) == [{"a": 1}]
    bad = program("tools", "--store", str(root), "--where", "speed > 1")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.count("\n") == 1
    assert bad.stderr.startswith("sse-recorder: where 'speed > 1': Binder Error")


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
