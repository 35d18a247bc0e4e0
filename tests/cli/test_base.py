"""What the commands share: rows in every format, messages, and options."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import click
import duckdb
import pyarrow as pa
import pytest
from samples import event, meibel_exchange, said, store_with
from support import PATIENCE_S, PROGRAM, environment, run_command

from sse_recorder import config
from sse_recorder.cli import base
from sse_recorder.errors import UsageError

FORMATS = ("table", "json", "jsonl", "csv")
BIG = 2**63 - 1
NASTY = "[bold red]\\[/bold]\x1b[31m\x9b\r\n\t\u202e:smile:"
"""Markup and an escaped bracket, sequences for terminals, a change of direction."""
HARMLESS = r"[bold red]\[/bold]\x1b[31m\x9b\r\n\t\u202e:smile:"


def select(sql: str) -> pa.Table:
    """Return what SQL selects, as a store would."""
    return duckdb.connect().sql(f"SET TimeZone = 'UTC'; SELECT {sql}").to_arrow_table()


def printed(
    capsys: pytest.CaptureFixture[str], table: pa.Table, format_: str = "json"
) -> str:
    """Return what is printed of a table."""
    base.print_rows(table, format_)
    return capsys.readouterr().out


# What SQL has, and what JSON gets.
VALUES: list[tuple[str, Any]] = [
    ("NULL", None),
    ("true", True),
    (f"{BIG}", BIG),
    ("9007199254740993", 9007199254740993),
    ("170141183460469231731687303715884105727::HUGEINT", 2**127 - 1),
    ("(SELECT sum(x) FROM range(3) AS r(x))", 3),
    ("1.5", 1.5),
    ("0.1::DOUBLE", 0.1),
    ("'nan'::DOUBLE", None),
    ("'-infinity'::DOUBLE", None),
    ("'\\xFF\\x00'::BLOB", base64.b64encode(b"\xff\x00").decode()),
    ("''::BLOB", ""),
    ("'café \U0001f600'", "café \U0001f600"),
    ("TIMESTAMPTZ '2026-11-23 10:15:30.123456Z'", "2026-11-23T10:15:30.123456Z"),
    ("TIMESTAMP '2026-11-23 10:15:30'", "2026-11-23T10:15:30"),
    ("TIMESTAMP_NS '2026-11-23 10:15:30.123456789'", "2026-11-23T10:15:30.123456789"),
    ("NULL::TIMESTAMP_NS", None),
    ("DATE '2026-11-23'", "2026-11-23"),
    ("TIME '10:15:30.5'", "10:15:30.500000"),
    ("INTERVAL '14 months 3 days 90 minutes'", "P14M3DT5400S"),
    ("INTERVAL '1500 milliseconds'", "P0M0DT1.5S"),
    ("INTERVAL '0 seconds'", "P0M0DT0S"),
    ("[1, NULL, 2]", [1, None, 2]),
    ("[]::INTEGER[]", []),
    ("[{'name': 'a', 'value': '\\x01'::BLOB}]", [{"name": "a", "value": "AQ=="}]),
    ("MAP {'k': ['v']}", {"k": ["v"]}),
    ("MAP {1: true}", {"1": True}),
    ("MAP {}", {}),
]


@pytest.mark.parametrize(("sql", "expected"), VALUES)
def test_a_value_keeps_its_type_as_far_as_json_has_it(
    capsys: pytest.CaptureFixture[str], sql: str, expected: object
) -> None:
    """What scripts may rely on, type by type."""
    text = printed(capsys, select(f"{sql} AS x"))
    assert json.loads(text, parse_constant=pytest.fail) == [{"x": expected}]
    assert type(json.loads(text)[0]["x"]) is type(expected)


@pytest.mark.parametrize("format_", FORMATS)
def test_rows_come_in_their_order(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    """Every format has every row and every column, each once."""
    out = printed(
        capsys, select("x AS n, 'r' || x AS s FROM range(3) AS r(x)"), format_
    )
    rows = [{"n": n, "s": f"r{n}"} for n in range(3)]
    match format_:
        case "json":
            assert json.loads(out) == rows
        case "jsonl":
            assert [json.loads(line) for line in out.splitlines()] == rows
        case "csv":
            found = list(csv.DictReader(io.StringIO(out)))
            assert found == [{k: str(v) for k, v in row.items()} for row in rows]
        case _:
            lines = [line.split() for line in out.splitlines()]
            assert lines == [["n", "s"], ["0", "r0"], ["1", "r1"], ["2", "r2"]]


@pytest.mark.parametrize(
    ("format_", "expected"),
    [("table", "(no rows)\n"), ("json", "[]\n"), ("jsonl", ""), ("csv", "a,b\n")],
)
def test_no_rows_are_told_apart_from_no_output(
    capsys: pytest.CaptureFixture[str], format_: str, expected: str
) -> None:
    """A program still gets something that it can parse."""
    assert printed(capsys, select("1 AS a, 2 AS b WHERE false"), format_) == expected


@pytest.mark.parametrize("format_", FORMATS)
def test_columns_of_one_name_are_all_printed(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    """A join has such columns; an object can have a name only once."""
    out = printed(capsys, select("1 AS a, 2 AS a, 3 AS a_1, 4 AS a"), format_)
    if format_ in {"json", "jsonl"}:
        (row,) = json.loads(out) if format_ == "json" else [json.loads(out)]
        assert row == {"a": 1, "a_1": 2, "a_1_1": 3, "a_2": 4}
    else:
        names, values = out.replace(",", " ").splitlines()
        assert names.split() == ["a", "a_1", "a_1_1", "a_2"]
        assert values.split() == ["1", "2", "3", "4"]


def test_a_cell_for_people_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Null is nothing, and what has parts is JSON, in tables and in CSV."""
    table = select("NULL AS a, true AS b, [1, NULL] AS c, MAP {'k': 'é'} AS d")
    assert printed(capsys, table, "csv").splitlines()[1] == (
        ',true,"[1, null]","{""k"": ""é""}"'
    )
    line = printed(capsys, table, "table").splitlines()[1]
    assert line.split() == ["true", "[1,", "null]", '{"k":', '"é"}']


def test_recorded_text_cannot_control_a_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Markup, emoji codes and control characters come out written, in names too."""
    name = '"' + NASTY.replace('"', '""') + '"'
    out = printed(capsys, select(f"$${NASTY}$$ AS {name}"), "table")
    assert [line.rstrip() for line in out.splitlines()] == [HARMLESS, HARMLESS]


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv"])
def test_recorded_text_comes_whole_to_a_program(
    capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    """Nothing is escaped but as the format escapes it."""
    out = printed(capsys, select(f"$${NASTY}$$ AS x"), format_)
    if format_ == "csv":
        assert list(csv.reader(io.StringIO(out, newline=""))) == [["x"], [NASTY]]
    else:
        value = json.loads(out)
        assert (value if format_ == "jsonl" else value[0]) == {"x": NASTY}


def test_nothing_is_wrapped_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """However long a value is, its row is one line."""
    out = printed(capsys, select("repeat('word ', 40000) AS x, 1 AS y"), "table")
    assert [line.split()[-1] for line in out.splitlines()] == ["y", "1"]
    assert len(out.splitlines()[1]) > 200_000


@pytest.mark.parametrize(
    "values",
    [
        pa.array([2**62], pa.timestamp("us")),
        pa.array([[1]], pa.list_(pa.timestamp("ns"))),
    ],
    ids=["infinity", "nanoseconds in a list"],
)
def test_a_time_beyond_python_is_refused_with_the_way_round(values: pa.Array) -> None:
    """The column is named, and the cast that prints it."""
    with pytest.raises(UsageError, match=r"column 'far' .* as text: far::VARCHAR$"):
        base.print_rows(pa.table({"far": values}), "json")


def test_a_terminal_wraps_a_long_cell_instead_of_cutting_it(tmp_path: Path) -> None:
    """At 40 columns no line is longer, and nothing of the value is lost."""
    store = store_with(tmp_path, [meibel_exchange([said(20, "x" * 90)])])
    ours, theirs = pty.openpty()
    query = "SELECT 'v' || repeat('x', 90) || 'w' AS long FROM exchanges"
    process = subprocess.Popen(
        [*PROGRAM, "query", query, "--store", str(store)],
        env=environment(COLUMNS="40", TERM="xterm"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    assert process.wait(PATIENCE_S) == 0
    os.close(theirs)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    lines = text.replace("\x1b[1m", "").replace("\x1b[0m", "").split("\r\n")
    assert max(map(len, lines)) <= 40
    assert "".join(lines[1:]).replace(" ", "") == "v" + "x" * 90 + "w"


@pytest.mark.parametrize("format_", FORMATS)
def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path, format_: str) -> None:
    """`| head -1` gets its line, and nothing is said on stderr."""
    store = store_with(tmp_path, [meibel_exchange([said(20, "Hi")])])
    query = "SELECT repeat('x', 1000) AS x FROM exchanges, range(5000)"
    with subprocess.Popen(
        [*PROGRAM, "query", query, "--store", str(store), "--format", format_],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 0


def test_query_prints_what_a_stream_brought(tmp_path: Path) -> None:
    """The command prints recorded bytes as base64 and recorded text as it was."""
    events = [event(20, "status", {"content": NASTY})]
    store = store_with(tmp_path, [meibel_exchange(events)])
    query = "SELECT request_body, data FROM exchanges JOIN frames USING (exchange_id)"
    args = ("query", query, "--store", str(store), "--format", "json")
    (row,) = json.loads(run_command(*args, cwd=tmp_path).stdout)
    assert base64.b64decode(row["request_body"]) == b'{"message":"Hello"}'
    assert json.loads(row["data"]) == {"content": NASTY}


def test_an_option_has_a_variable_and_a_setting() -> None:
    """Both are named like its longest form; `only_in` makes them a command's own."""
    shared = base.Option(["--some-name", "-s", "value"])
    assert shared.envvar == "SSE_RECORDER_SOME_NAME"
    assert shared.setting == ("some-name", "value", True)
    own = base.Option(["-o", "--output"], only_in="export")
    assert own.envvar == "SSE_RECORDER_EXPORT_OUTPUT"
    assert own.setting == ("output", "output", False)


def secrets(folder: Path, **variables: str) -> list[str]:
    """Return what two accounts and a number are by the settings of a folder."""
    text = "acct: 12345678, acct: 23456789, order 87654321"
    store = store_with(folder, [meibel_exchange([said(20, text)])])
    done = run_command(
        *("redact", "--dry-run", "--store", str(store), "--format", "json"),
        cwd=folder,
        env=environment(**variables),
    )
    assert done.returncode in {0, 1}, done.stderr
    return [row["rule"] for row in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("acct: ([0-9]{8})", 2),
        ("acct: ([0-9]{8})\n", 2),
        ("acct: ([0-9]{8})\norder ([0-9]+)", 3),
    ],
)
def test_a_pattern_in_a_variable_may_hold_spaces(
    tmp_path: Path, value: str, count: int
) -> None:
    """Each line is one, as it is."""
    assert len(secrets(tmp_path, SSE_RECORDER_REDACT_PATTERN=value)) == count


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("'acct: ([0-9]{8})'", 2),
        ("['acct: ([0-9]{8})']", 2),
        ("['acct: ([0-9]{8})', 'order ([0-9]+)']", 3),
    ],
)
def test_a_list_of_one_needs_no_brackets_in_a_file(
    tmp_path: Path, value: str, count: int
) -> None:
    """What can be given several times can be given as text, too."""
    text = f"redact-pattern = {value}\n"
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    assert len(secrets(tmp_path)) == count


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('store = ["a", "b"]', "['a', 'b'] is not one value: give text or a number"),
        ("[ls]\nlimit = {a = 1}", "{'a': 1} is not one value"),
        ("[record]\ntag = 5", "'5' is not like run=42"),
        ("[record]\nroute = {a = 1}", "is not like /openai=https://api.openai.com/v1"),
    ],
)
def test_a_setting_of_another_kind_is_refused(
    tmp_path: Path, text: str, says: str
) -> None:
    """With what would be one, whatever TOML has for it."""
    (tmp_path / config.FILE).write_text(text, encoding="utf-8")
    command = "record" if "record" in text else "ls"
    done = run_command(command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_message_is_one_line_whatever_is_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A path may be long and may look like markup."""
    path = "/srv/[red]" + "long/" * 40
    base.say(f"Recording into {path}.")
    assert capsys.readouterr().err == f"Recording into {path}.\n"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 exchanges"), (1, "1 exchange"), (1234, "1,234 exchanges")],
)
def test_things_are_counted_as_people_do(count: int, expected: str) -> None:
    """One is not several."""
    assert base.counted(count, "exchange") == expected


def test_the_store_is_an_option_with_a_default() -> None:
    """Every command that works on a store has the same one."""

    @click.command()
    @base.store_option
    def command(store: str) -> None:
        """Do nothing."""

    (store,) = command.params
    assert (store.name, store.default) == ("store", "recordings")
    assert store.envvar == "SSE_RECORDER_STORE"
