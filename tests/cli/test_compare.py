"""`diff` and `check`, as processes on real stores and cassettes."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from rich.console import Console
from samples import (
    MS,
    STARTED_AT,
    Event,
    called,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    rows_of,
    said,
    store_with,
)
from support import run_command

from sse_recorder.cli import compare, divergences
from sse_recorder.exchange import Outcome
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

DEMO = Path(__file__).parents[2] / "recordings" / "demo.sse.jsonl"
EVIL = "\x1b[31m\x00]"


def talk(*events: Event, number: int = 1, **options: Any) -> Any:
    """Return the records of a chat; each begins after the one before it."""
    began = STARTED_AT + number * MS
    return meibel_exchange(events, number=number, started_at=began, **options)


def search(city: str, answer: str, ms: float = 100) -> list[Event]:
    """Return a stream that asks a tool and answers."""
    return [
        called(50, "t", "search", city=city),
        returned(50 + ms, "t"),
        said(500, answer),
        finished(600),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two stores that differ in three things."""
    made = tmp_path_factory.mktemp("compare")
    before = [
        talk(*search("Lisbon", "Sunny"), number=1),
        talk(said(10, "Hello"), number=2),
        talk(said(10, "Bye"), number=3),
    ]
    after = [
        talk(*search("Porto", EVIL), number=4, ended_ms=1200),
        talk(said(10, "Hel"), said(20, "lo"), number=5),
        talk(said(10, "open"), number=6, ended_ms=None),
    ]
    store_with(made / "before", before)
    store_with(made / "after", after)
    return made


def run(folder: Path, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
    """Run a command, and see with what it exits."""
    done = run_command(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


STORES = ("before/recordings", "after/recordings")
WHERES = [
    ("exchange[0].text", "changed"),
    ("exchange[0].tool_calls[0].arguments.city", "changed"),
    ("exchange[2]", "missing"),
]


# --- diff -----------------------------------------------------------------------------


def test_a_recording_has_no_divergences_from_itself(folder: Path) -> None:
    """Exit 0, nothing on stdout, and one line for people."""
    done = run(folder, "diff", str(DEMO), str(DEMO), "--timing", "0ms", code=0)
    assert done.stdout == ""
    assert done.stderr == "Compared 1 exchange: no divergences.\n"


def test_divergences_are_printed_side_by_side(folder: Path) -> None:
    """Each pair has a title and a table; what could steer a terminal is escaped."""
    done = run(folder, "diff", *STORES, code=1)
    blocks = [block.splitlines() for block in done.stdout.split("\n\n") if block]
    assert blocks[0][0].startswith("exchange[0]  00000001 ↔ 00000004  POST /v2/")
    assert [line.split() for line in blocks[0][1:]] == [
        ["where", "kind", "left", "right"],
        ["text", "changed", '"Sunny"', r'"\u001b[31m\u0000]"'],
        ["tool_calls[0].arguments.city", "changed", '"Lisbon"', '"Porto"'],
    ]
    assert "00000003 ↔ nothing" in blocks[1][0]
    assert blocks[1][2].split()[:4] == ["the", "exchange", "missing", '"POST']
    assert "\x1b" not in done.stdout
    assert done.stderr == "Compared 3 exchanges: 3 divergences.\n"


@pytest.mark.parametrize("format_", ["json", "jsonl", "csv"])
def test_divergences_can_be_read_by_programs(folder: Path, format_: str) -> None:
    """The values are JSON, and ids say what was compared."""
    output = run(folder, "diff", *STORES, "--format", format_, code=1).stdout
    rows: list[dict[str, Any]]
    match format_:
        case "json":
            rows = json.loads(output)
        case "jsonl":
            rows = [json.loads(line) for line in output.splitlines()]
        case _:
            rows = list(csv.DictReader(io.StringIO(output)))
    assert [(row["where"], row["kind"]) for row in rows] == WHERES
    assert rows[1]["left_id"] == exchange_id(1)
    assert rows[1]["right_id"] == exchange_id(4)
    left = rows[1]["left"]
    assert (json.loads(left) if format_ == "csv" else left) == "Lisbon"
    assert not rows[2]["right_id"]
    assert not rows[2]["right"]


def test_no_divergences_are_an_empty_array(folder: Path) -> None:
    """Programs always get what they can read."""
    done = run(folder, "diff", str(DEMO), str(DEMO), "--format", "json", code=0)
    assert json.loads(done.stdout) == []


def test_one_exchange_is_named_by_its_id(folder: Path) -> None:
    """In --store, or behind the name of another; they need not be alike."""
    to_other = ("diff", "00000001", "after/recordings#00000004", "--store", STORES[0])
    rows = json.loads(run(folder, *to_other, "--format", "json", code=1).stdout)
    assert [(row["where"], row["kind"]) for row in rows] == WHERES[:2]
    ids = ("00000002", "00000003")
    options = ("--store", STORES[0], "--format", "json")
    rows = json.loads(run(folder, "diff", *ids, *options, code=1).stdout)
    assert [(row["left"], row["right"]) for row in rows] == [("Hello", "Bye")]


def test_what_is_ignored_is_no_divergence(folder: Path) -> None:
    """By names and by paths, as they are printed."""
    rules = ("city", "exchange[0].text", "exchange[2]")
    options = [word for rule in rules for word in ("--ignore", rule)]
    assert run(folder, "diff", *STORES, *options, code=0).stdout == ""


def test_times_are_compared_on_demand(folder: Path) -> None:
    """With a tolerance; the table has them in words, programs in nanoseconds."""
    one = ("before/recordings#00000001", "after/recordings#00000004")
    options = ("--timing", "10%", "--ignore", "text", "--ignore", "city")
    done = run(folder, "diff", *one, *options, code=1)
    assert done.stdout.splitlines()[2].split() == [
        *("e2e_ns", "timing", "1.00", "s", "1.20", "s"),
    ]
    done = run(folder, "diff", *one, *options, "--format", "jsonl", code=1)
    row = json.loads(done.stdout)
    assert (row["left"], row["right"]) == (1_000_000_000, 1_200_000_000)


def test_a_junit_report_has_a_test_for_each_exchange(folder: Path) -> None:
    """A build server shows which differ, and in what; any text is valid XML."""
    run(folder, "diff", *STORES, "--junit", "report.xml", code=1)
    suite = ET.parse(folder / "report.xml").getroot()[0]  # noqa: S314 - our own
    assert {k: suite.get(k) for k in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "2",
        "errors": "0",
    }
    first, second, third = suite
    assert first.get("name", "").endswith(exchange_id(1))
    failure = first[0]
    assert failure.get("message") == "2 divergences"
    assert failure.text is not None
    assert 'arguments.city changed: "Lisbon" ≠ "Porto"' in failure.text
    assert len(second) == 0
    assert "≠ (nothing)" in (third[0].text or "")


def test_long_values_are_shown_from_where_they_differ(tmp_path: Path) -> None:
    """With a little of what comes before."""
    same = "word " * 100
    for name, end in (("a", "left"), ("b", "right")):
        records = talk(said(10, same + end + " and more" * 50))
        transcript, _ = rows_of(records)
        chunks = Store.open(store_with(tmp_path / name, [records])).chunks(
            exchange_id(1)
        )
        text = cassette.dumps(transcript.exchange(), chunks)
        (tmp_path / f"{name}.sse.jsonl").write_text(text, encoding="utf-8")
    done = run(tmp_path, "diff", "a.sse.jsonl", "b.sse.jsonl", code=1)
    row = done.stdout.splitlines()[2]
    assert "  …ord word word word word left and more" in row
    assert "  …ord word word word word right and more" in row
    assert row.count("…") == 4
    assert len(row) < 500


def test_a_narrow_terminal_folds_its_columns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wider than the terminal, and the sides have colours."""

    def console(**options: Any) -> Console:
        return Console(
            force_terminal=True, width=60, color_system="standard", **options
        )

    monkeypatch.setattr(divergences, "Console", console)
    stores = [str(folder / name) for name in STORES]
    result = CliRunner().invoke(compare.diff, stores, standalone_mode=False)
    assert result.return_value == 1
    assert "\x1b[31m" in result.stdout
    assert "\x1b[32m" in result.stdout
    plain = Console(width=10_000, file=io.StringIO()).render_str(result.stdout).plain
    assert "exchange[0]" in plain


def test_of_long_exchanges_few_are_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores need not fit into memory, however few events they are made of."""
    size = 300_000
    records = [talk(said(10, "x" * size), number=number) for number in range(20)]
    monkeypatch.setattr(compare, "_BYTES_AT_ONCE", 2 * size + 10_000)
    with Store.open(store_with(tmp_path, records)) as store:
        side = compare.Side(store, list(store.exchanges()))
        tracemalloc.start()
        for exchange in side.exchanges:
            assert len(side.load(exchange).tool_calls) == 0
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20 * size


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["diff", "nowhere/", str(DEMO)], 3, "no such store or cassette"),
        (["diff", "nowhere.sse.jsonl", str(DEMO)], 3, "no such store or cassette"),
        (["diff", f"{DEMO}#nope", str(DEMO)], 2, "no exchange with an id like 'nope'"),
        (["diff", f"{DEMO}#", str(DEMO)], 2, "demo.sse.jsonl#' names no exchange"),
        (["diff", "", str(DEMO)], 2, "'' names no exchange"),
        (["diff", "00000001", str(DEMO)], 3, "recordings: no such store"),
        (["diff", str(DEMO), str(DEMO), "--timing", "soon"], 2, "is no tolerance"),
        (["diff", str(DEMO), str(DEMO), "--ignore", "a..b"], 2, "neither a name nor"),
        (["diff", str(DEMO), str(DEMO), "--junit", "no/x.xml"], 3, "no/x.xml: No such"),
        (["check", str(DEMO), str(DEMO)], 2, "Missing option '--max'"),
        (["check", str(DEMO), str(DEMO), "--max", "x=1"], 2, "there is no metric 'x'"),
        (["check", str(DEMO), "nowhere", "--max", "errors=1%"], 3, "no such store"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    """Wrong usage is 2, what cannot be read or written is 3."""
    assert message in run(tmp_path, *arguments, code=code).stderr


# --- check ----------------------------------------------------------------------------

COUNT = 300
"""Exchanges of each store; times to first content vary by a tenth."""


def drawn(seed: int, factor: float) -> Iterable[Any]:
    """Give exchanges whose first content comes after 300 ms, more or less."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    for number in range(COUNT):
        ttfc = 300 * factor * chance.lognormvariate(0, 0.1)
        path = f"/sessions/{number % 2}/chat"
        answer = said(ttfc, "Hi")
        yield talk(answer, number=number, path=path, ended_ms=ttfc + 100)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a baseline, the same drawn again, and one 15 % slower."""
    made = tmp_path_factory.mktemp("gate")
    for name, seed, factor in (("base", 1, 1), ("same", 2, 1), ("slow", 3, 1.15)):
        store_with(made / name, drawn(seed, factor))
    return made


BASE, SAME, SLOW = ("base/recordings", "same/recordings", "slow/recordings")
TEN = ("--max", "ttfc_p95=+10%")


def test_a_store_that_has_not_changed_passes(gate: Path) -> None:
    """Exit 0, with the numbers beside the limit."""
    done = run(gate, "check", BASE, SAME, *TEN, "--max", "errors=1%", code=0)
    heading, first, second = (line.split() for line in done.stdout.splitlines())
    assert heading == [
        *("limit", "baseline", "candidate", "change", "interval"),
        *("no", "value", "verdict"),
    ]
    assert (first[0], first[-1]) == ("ttfc_p95=+10%", "pass")
    assert second[:5] == ["errors=1%", "0.00%", "0.00%", "+0.00", "points"]
    assert done.stderr == "0 of 2 limits exceeded.\n"


def test_fifteen_percent_more_fail(gate: Path) -> None:
    """Exit 1, and programs learn all that is known."""
    done = run(gate, "check", BASE, SLOW, *TEN, "--format", "json", code=1)
    (row,) = json.loads(done.stdout)
    names = ("limit", "metric", "statistic", "group", "verdict")
    assert [row[name] for name in names] == [
        *("ttfc_p95=+10%", "ttfc", "p95", "all", "fail"),
    ]
    assert row["n_baseline"] == row["n_candidate"] == COUNT
    assert row["needed"] <= COUNT
    assert 0 < row["low"] < row["change"] < row["high"]
    assert row["candidate"] / row["baseline"] - 1 == pytest.approx(row["change"])
    assert done.stderr == "1 of 1 limit exceeded.\n"


def test_too_little_data_is_no_pass(gate: Path) -> None:
    """It exits with 1, or with 0 where that is allowed, and says how many it takes."""
    few = (
        "check",
        BASE,
        SAME,
        *TEN,
        "--where",
        "path LIKE '%/1/chat' AND ended_ns < 4e8",
    )
    done = run(gate, *few, code=1)
    assert " needed" in done.stdout
    assert "1 cannot be told: not enough data" in done.stderr
    assert run(gate, *few, "--allow-little-data", code=0).stdout == done.stdout


def test_allowing_little_data_allows_no_regression(gate: Path) -> None:
    """A limit that is exceeded is."""
    run(gate, "check", BASE, SLOW, *TEN, "--allow-little-data", code=1)


def test_groups_are_named(gate: Path) -> None:
    """Each has an answer of its own."""
    options = ("--max", "ttfc_p50=+10%", "--by", "path", "--format", "json")
    rows = json.loads(run(gate, "check", BASE, SLOW, *options, code=1).stdout)
    assert [(row["group"], row["verdict"]) for row in rows] == [
        ("/sessions/0/chat", "fail"),
        ("/sessions/1/chat", "fail"),
    ]
    table = run(gate, "check", BASE, SLOW, *options[:4], code=1).stdout
    assert "ttfc_p50=+10% /sessions/0/chat" in table


def test_gaps_are_read_where_they_are_asked_for(folder: Path) -> None:
    """A limit on gaps, and an absolute one, on a small store."""
    limits = ("--max", "gap_p50=1s", "--max", "tool_mean=1s", "--format", "json")
    rows = json.loads(run(folder, "check", *STORES, *limits, code=1).stdout)
    assert [(row["baseline"], row["candidate"]) for row in rows] == [
        (450, 230),  # 50 → 500; and 10 → 20
        (100, 100),
    ]


def test_a_summary_fits_a_comment(gate: Path) -> None:
    """Markdown, with what failed first."""
    limits = ("--max", "errors=1%", *TEN)
    run(gate, "check", BASE, SLOW, *limits, "--summary", "comment.md", code=1)
    lines = (gate / "comment.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "### ❌ 1 of 2 limits exceeded"
    assert lines[2].count("|") == lines[4].count("|") == lines[5].count("|") == 8
    assert lines[4].startswith("| ttfc_p95=+10% |")
    assert lines[4].endswith("| ❌ fail |")
    assert lines[5].endswith("| ✅ pass |")
    assert lines[7] == (
        "Baseline `base/recordings`, 300 exchanges. Candidate `slow/recordings`, 300"
        " exchanges. All intervals together hold with 95 %."
    )
    assert len(lines) == 8


def test_a_summary_of_groups_counts_all_exchanges(gate: Path) -> None:
    """Not those of the largest group."""
    options = ("--max", "ttfc_p50=+10%", "--by", "path", "--summary", "groups.md")
    run(gate, "check", BASE, SLOW, *options, code=1)
    text = (gate / "groups.md").read_text(encoding="utf-8")
    assert "Baseline `base/recordings`, 300 exchanges." in text


def test_what_fails_at_once_does_not_pass(gate: Path) -> None:
    """The table, and programs, learn how many exchanges have no value."""
    records = [
        talk(number=n, ended_ms=1, outcome=Outcome.UPSTREAM_ABORT, error="eof")
        for n in range(COUNT)
    ]
    store_with(gate / "broken", records)
    broken = ("check", BASE, "broken/recordings", "--max", "e2e_p50=+10%")
    done = run(gate, *broken, "--allow-little-data", code=1)
    assert "0 of 300 → 300 of 300 (300 failed)  fail: more have no value" in done.stdout
    (row,) = json.loads(run(gate, *broken, "--format", "json", code=1).stdout)
    assert (row["n_candidate"], row["without_candidate"]) == (0, 300)
    assert (row["failed_candidate"], row["is_lacking"]) == (300, True)
