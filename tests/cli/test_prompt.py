"""The prompt for SQL, as somebody meets it who sits before a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.terminal import CTRL_C, CTRL_D, TAB, UP, Terminal, terminal
from samples import called, finished, meibel_exchange, returned, store_with
from support import PROGRAM, environment, eventually

ENDLESS = (
    "SELECT count(*) FROM range(1000000000000) a WHERE a.range % 7 = hash(a.range)"
)
CALLS = [called(100, "t1", "search"), returned(250, "t1"), finished(400)]


@contextmanager
def prompt(folder: Path, *args: str) -> Iterator[Terminal]:
    """Start a prompt on a store of one exchange."""
    store_with(folder, [meibel_exchange(CALLS, number=1)])
    env = environment(TERM="dumb")
    with terminal(*PROGRAM, "query", *args, cwd=folder, env=env) as started:
        started.until("sql> ")
        yield started


def until_it_waits(started: Terminal) -> None:
    """Wait until the prompt does, as somebody does who looks before typing."""
    state = Path(f"/proc/{started.process.pid}/stat")
    eventually(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")


def test_a_statement_ends_with_a_semicolon_or_an_empty_line(tmp_path: Path) -> None:
    """It may have several lines; Ctrl-D ends all."""
    with prompt(tmp_path, "--format", "csv") as started:
        started.type("\n", "SELECT 1 AS one;\n")
        started.until("\none\n1\nsql> ")
        started.type("SELECT ';' AS two,\n")
        started.until(r"\.\.\.> ")
        started.type("2 AS three -- ;\n", "\n")
        started.until("\ntwo,three\n;,2\nsql> ")
        started.type(CTRL_D)
        assert started.wait() == 0
    assert "Traceback" not in started.shown


def test_tab_completes_what_the_store_has(tmp_path: Path) -> None:
    """Columns, tables, also of an earlier line and of one's own, and keywords."""
    with prompt(tmp_path, "--format", "csv") as started:
        started.type("SEL", TAB, " dur", TAB, " FROM tool_c", TAB, ";\n")
        started.until("\nduration_ns\n150000000\nsql> ")
        started.type("CREATE TABLE mine AS SELECT 7 AS my_column;\n")
        started.until("sql> ")
        started.type("FROM mi", TAB, " SELECT\n", "my", TAB, ";\n")
        started.until("\nmy_column\n7\nsql> ")


def test_an_error_is_told_and_the_prompt_goes_on(tmp_path: Path) -> None:
    """With the place that is wrong."""
    with prompt(tmp_path, "--format", "csv") as started:
        started.type("SELEC 1;\n")
        assert "; mend" not in started.until('syntax error at or near "SELEC"[^>]*sql>')
        started.type("SELECT 1 AS one;\n")
        started.until("\none\n1\nsql> ")


def test_ctrl_c_ends_a_query_and_what_is_typed_but_not_the_prompt(
    tmp_path: Path,
) -> None:
    """The next statement has nothing of it."""
    with prompt(tmp_path, "--format", "csv") as started:
        started.type("SELECT 1,\n", "2 AS lost")
        started.until("2 AS lost")
        # A signal just before readline waits is seen with the next key only.
        until_it_waits(started)
        started.type(CTRL_C)
        started.until("sql> ")
        threads = Path(f"/proc/{started.process.pid}/task")
        idle = len(list(threads.iterdir()))
        started.type(f"{ENDLESS};\n")
        eventually(lambda: len(list(threads.iterdir())) > idle)
        started.type(CTRL_C)
        started.until("interrupted\nsql> ")
        until_it_waits(started)
        started.type("SELECT 1 AS one;\n")
        started.until("\none\n1\nsql> ")


def test_the_last_line_comes_again_and_is_kept_nowhere(tmp_path: Path) -> None:
    """The history ends with the prompt: no file is written."""
    with prompt(tmp_path, "--format", "csv") as started:
        files = sorted(tmp_path.rglob("*"))
        started.type("SELECT 1 AS one;\n")
        started.until("\none\n1\nsql> ")
        started.type(UP, "\n")
        started.until("\none\n1\nsql> ")
        started.type(CTRL_D)
        assert started.wait() == 0
    assert sorted(tmp_path.rglob("*")) == files


def test_the_store_is_looked_at_again_before_each_statement(tmp_path: Path) -> None:
    """What is being recorded is there."""
    with prompt(tmp_path, "--format", "csv") as started:
        started.type("SELECT count(*) AS n FROM exchanges;\n")
        started.until("\nn\n1\nsql> ")
        store_with(tmp_path, [meibel_exchange(CALLS, number=2)])
        started.type("SELECT count(*) AS n FROM exchanges;\n")
        started.until("\nn\n2\nsql> ")


@pytest.mark.parametrize("end", [CTRL_D, f"SELECT 2 AS two\n{CTRL_D}"])
def test_into_a_file_go_rows_alone(tmp_path: Path, end: str) -> None:
    """The prompt stands on stderr then; what has not ended is not run."""
    store_with(tmp_path, [meibel_exchange(CALLS)])
    line = ("sh", "-c", '"$0" "$@" > rows.csv', *PROGRAM, "query", "--format", "csv")
    env = environment(TERM="xterm")
    with terminal(*line, cwd=tmp_path, env=env) as started:
        started.until("sql> ")
        started.type("SELECT 1 AS one;\n")
        started.until("sql> ")
        started.type(end)
        assert started.wait() == 0
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8") == "one\n1\n"
