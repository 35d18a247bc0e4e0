"""`query`, as its user meets it."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from cli.commands import objects
from support import PATIENCE_S, PROGRAM, command, environment, eventually


def test_query_prints_an_array_of_objects(root: Path) -> None:
    """SQL over the four tables, as JSON."""
    sql = "SELECT kind, count(*) AS n FROM frames GROUP BY kind ORDER BY n DESC, kind"
    assert objects(root, "query", sql) == [
        {"kind": "text", "n": 3},
        {"kind": "tool_call", "n": 3},
        {"kind": "tool_result", "n": 2},
        {"kind": "finish", "n": 1},
    ]


def piped(
    root: Path, sql: bytes, *args: str, format_: str = "json"
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with something on stdin."""
    return subprocess.run(
        [*PROGRAM, "query", *args, "--store", str(root), "--format", format_],
        input=sql,
        capture_output=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.parametrize("by", ["path", "day"])
def test_the_sql_of_a_report_runs_from_stdin_as_it_is(root: Path, by: str) -> None:
    """Behind a statement that says what to group by; the last one is printed."""
    sql = files("sse_recorder.analytics").joinpath("latency.sql").read_bytes()
    setting = f"SET VARIABLE \"by\" = '{by}';\n".encode()
    done = piped(root, setting + sql)
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found == objects(root, "latency", "--by", by)
    assert len({row["group"] for row in found}) == 2
    assert json.loads(piped(root, sql).stdout) == objects(root, "latency")


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (b"SELECT 1 AS one", [{"one": 1}]),
        (b"\xef\xbb\xbfSELECT 1 AS one;\n", [{"one": 1}]),
        ("SELECT 'é;' AS text; -- the end\n".encode(), [{"text": "é;"}]),
        (b"SELECT 1 AS one; SELECT 2 AS two;;\n", [{"two": 2}]),
        (b"CREATE TABLE t AS SELECT 3 AS n; INSERT INTO t VALUES (4); FROM t;", 2),
    ],
)
def test_of_several_statements_the_last_ones_rows_are_printed(
    root: Path, sql: bytes, rows: object
) -> None:
    """All of them are run; what is marked as UTF-8 is read as that."""
    found = json.loads(piped(root, sql).stdout)
    assert (len(found) if isinstance(rows, int) else found) == rows


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (b"", "no SQL: give it as an argument"),
        (b" \n", "no SQL: give it as an argument"),
        (b"-- nothing\n", "there is no query in '-- nothing"),
        (b"SELECT 1; SELEC 2", 'syntax error at or near "SELEC"'),
        (b"SELECT '\xff'", "stdin is not UTF-8"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    root: Path, sql: bytes, says: str
) -> None:
    """It is wrong usage."""
    done = piped(root, sql)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert says in line


def cpu_s(pid: int) -> float:
    """Return how long a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def test_an_argument_goes_before_stdin(root: Path) -> None:
    """As in a loop of a shell whose stdin is a list of something else."""
    done = piped(root, b"SELECT 2 AS two", "SELECT 1 AS one")
    assert json.loads(done.stdout) == [{"one": 1}]


def test_ctrl_c_ends_a_query_that_was_given(root: Path) -> None:
    """There is no prompt to return to: the exit code says that it was interrupted."""
    endless = "SELECT count(*) FROM range(1000000000000) a WHERE hash(a.range) % 7 = 3"
    with command("query", endless, "--store", str(root), cwd=root) as run:
        # Twice what it takes to begin.
        eventually(lambda: cpu_s(run.process.pid) > 2)
        assert run.stop() == 130
    assert "Traceback" not in run.stderr.text
