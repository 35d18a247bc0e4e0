"""`ls` and `show`, as their user meets them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli.commands import objects, run
from click.testing import CliRunner
from samples import (
    CHAT,
    MS,
    called,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics
from sse_recorder.cli import every_command
from sse_recorder.errors import UsageError

HOUR = 3_600_000 * MS
EVIL = "[red]\x1b[31m"


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


def test_show_draws_stalls(tmp_path: Path) -> None:
    """Silences stand where they were, but for those in which a tool was at work."""
    events = [
        said(3000, "a"),
        called(3100, "t", "search"),
        returned(9000, "t"),
        said(12_000, "ab"),
        finished(12_100),
    ]
    root = store_with(tmp_path, [meibel_exchange(events, number=1, ended_ms=12_200)])
    lines = [line for line in run(root, "show", "01").splitlines() if "stall" in line]
    assert [line.split()[0] for line in lines] == ["0.000", "9.000"]
    assert [line.split()[1] for line in lines] == ["awaiting_first", "after_tool"]
    assert lines[1].rstrip().endswith("stall, 3.00 s")


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


@pytest.mark.parametrize("name", ["ls", "show", "query", *analytics.names()])
def test_help_has_examples_on_lines_of_their_own(name: str) -> None:
    """Examples in the help can be copied line by line."""
    output = CliRunner().invoke(every_command()[name], ["--help"]).stdout
    assert f"\n  sse-recorder {name} " in output


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
