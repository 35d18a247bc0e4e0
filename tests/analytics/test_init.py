"""Running reports: on all of a store, or on some of its exchanges."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from samples import MS, STARTED_AT, called, meibel_exchange, returned, said, store_with

from sse_recorder import analytics
from sse_recorder.errors import UsageError
from sse_recorder.store import views
from sse_recorder.store.store import Store

REPORTS = ["errors", "latency", "slow", "stalls", "tools", "usage"]
HOUR = 3_600_000 * MS
DAY = 24 * HOUR
STARTED = datetime(2026, 11, 23, 10, 15, 30, 123_000, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three exchanges of 1, 2 and 3 s: this morning, at 23:15:30.123, next noon."""
    began = [STARTED_AT, STARTED_AT + 13 * HOUR, STARTED_AT + DAY + 2 * HOUR]
    return store_with(
        tmp_path,
        [
            meibel_exchange(
                [called(20, "t", f"tool{n}"), returned(30, "t"), said(100 * n, "Hi")],
                number=n,
                started_at=at,
                ended_ms=1000 * n,
                path=f"/sessions/{n}/chat",
            )
            for n, at in enumerate(began, start=1)
        ],
    )


def e2e(root: Path, **options: Any) -> dict[str, tuple[int, float]]:
    """Return how many exchanges each group has, and the longest."""
    with Store.open(root) as store:
        rows = analytics.run(store, "latency", **options).table.to_pylist()
    return {
        row["group"]: (row["n"], row["max_ms"])
        for row in rows
        if row["measure"] == "e2e"
    }


def test_each_sql_file_is_a_report() -> None:
    """A report is there because its file is."""
    assert analytics.names() == REPORTS


def test_a_report_brings_its_formulas(root: Path) -> None:
    """Every measure is explained, in the words of the query's own file."""
    with Store.open(root) as store:
        report = analytics.run(store, "latency")
        tools = analytics.run(store, "tools")
    measures = report.table.column("measure").to_pylist()
    assert [formula.partition(":")[0] for formula in report.formulas] == measures
    assert report.formulas[0].startswith("ttfb: headers_ns - sent_ns")
    assert tools.formulas[0] == "calls: ok + error + unanswered + superseded"


@pytest.mark.parametrize("name", REPORTS)
def test_formulas_fit_a_narrow_terminal(root: Path, name: str) -> None:
    """No formula is longer than a line of 80 columns."""
    with Store.open(root) as store:
        assert max(map(len, analytics.run(store, name).formulas)) < 80


def test_days_are_those_of_utc(root: Path) -> None:
    """By day, an exchange belongs to the UTC day on which it began."""
    assert e2e(root, by="day") == {"2026-11-23": (2, 2000), "2026-11-24": (1, 3000)}


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        (None, ["all"]),
        ("dialect", ["meibel"]),
        ("model", ["(none)"]),
        ("path", ["/sessions/1/chat", "/sessions/2/chat", "/sessions/3/chat"]),
        ("host", ["api.meibel.ai"]),
        ("session", ["1", "2", "3"]),
        ("tool", ["tool1", "tool2", "tool3"]),
        ("hour", ["2026-11-23 10:00", "2026-11-23 23:00", "2026-11-24 12:00"]),
    ],
)
def test_groups_have_the_values_of_a_column(
    root: Path, by: str | None, groups: list[str]
) -> None:
    """One group without a grouping; `(none)` where an exchange has no value."""
    assert list(e2e(root, by=by)) == groups


def test_a_grouping_does_not_outlive_its_report(root: Path) -> None:
    """The next report on the same store is not grouped by what the last one was."""
    with Store.open(root) as store:
        analytics.run(store, "latency", by="path")
        table = analytics.run(store, "latency").table
    assert set(table.column("group").to_pylist()) == {"all"}


@pytest.mark.parametrize(
    ("since", "until", "count"),
    [
        ("2026-11-23", None, 3),
        ("2026-11-24", None, 1),
        (None, "2026-11-24", 2),
        ("2026-11-23T10:15:30.123Z", None, 3),
        ("2026-11-23T10:15:30.124Z", None, 2),
        (None, "2026-11-23T10:15:30.123", 0),
        ("2026-11-23T12:00:00+02:00", "2026-11-24T01:00:00+02:00", 1),
        (STARTED, STARTED + timedelta(hours=13), 1),
        (STARTED.replace(tzinfo=None), None, 3),
        (STARTED.astimezone(timezone(timedelta(hours=-9))), None, 3),
    ],
)
def test_a_report_can_be_of_a_span_of_time(
    root: Path, since: datetime | str | None, until: datetime | str | None, count: int
) -> None:
    """`since` is the first moment that counts, `until` the first that does not."""
    found = e2e(root, since=since, until=until)
    assert sum(n for n, _ in found.values()) == count


@pytest.mark.parametrize("age", ["90s", "15m", "24h", "7d"])
def test_a_moment_can_be_told_by_its_age(tmp_path: Path, age: str) -> None:
    """An age counts back from now."""
    years = {2020: 1_577_836_800_000 * MS, 2100: 4_102_444_800_000 * MS}
    root = store_with(
        tmp_path,
        [
            meibel_exchange(number=year, started_at=at, ended_ms=year)
            for year, at in years.items()
        ],
    )
    assert e2e(root, since=age) == {"all": (1, 2100)}
    assert e2e(root, until=age) == {"all": (1, 2020)}


def test_a_report_can_be_of_chosen_exchanges(root: Path) -> None:
    """A condition on exchanges selects their frames and tool calls with them."""
    with Store.open(root) as store:
        rows = analytics.run(store, "tools", where="ended_ns > 2e9").table.to_pylist()
        assert [row["tool_name"] for row in rows] == ["tool3"]
        report = analytics.run(store, "latency", where="ended_ns > 2e9")
    found = {row["measure"]: row["max_ms"] for row in report.table.to_pylist()}
    assert found["ttfc"] == 20
    assert found["gap"] == 280
    assert found["tool_union"] == 10


def test_conditions_add_up(root: Path) -> None:
    """Every condition holds, whatever a `where` has in it."""
    where = "path LIKE '%1%' OR path LIKE '%{2}%' OR path LIKE '%3%' -- or"
    assert e2e(root, where=where, until="2026-11-24") == {"all": (1, 1000)}


def test_an_empty_selection_has_no_rows(root: Path) -> None:
    """A report on nothing has its columns and no rows."""
    with Store.open(root) as store:
        table = analytics.run(store, "latency", where="false").table
    assert table.num_rows == 0
    assert table.column_names[:3] == ["group", "measure", "n"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "speed",
            {},
            "there is no report 'speed'; choose errors, latency, slow, stalls,",
        ),
        (
            "latency",
            {"by": "colour"},
            "cannot be grouped by 'colour'; choose dialect, model, path, host,",
        ),
        (
            "latency",
            {"since": "yesterday"},
            "since 'yesterday' is not a moment; write 2026-11-23,",
        ),
        (
            "latency",
            {"since": "0001-01-01T00:00:00+05:00"},
            "since '0001-01-01T00:00:00+05:00' is not a moment; write",
        ),
        ("latency", {"until": "999999999d"}, "until '999999999d' is not a moment;"),
        ("latency", {"where": " "}, "where ' ': Parser Error: syntax error at or"),
        (
            "latency",
            {"where": "count(*) > 1"},
            "WHERE clause cannot contain aggregates!; give an SQL condition on",
        ),
        (
            "tools",
            {"where": "speed > 1"},
            "where 'speed > 1': Binder Error: Referenced column \"speed\" not found",
        ),
    ],
)
def test_what_cannot_be_run_says_what_can(
    root: Path, name: str, options: dict[str, Any], message: str
) -> None:
    """A wrong argument is told in one line, with what to do instead."""
    with Store.open(root) as store, pytest.raises(UsageError) as caught:
        analytics.run(store, name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_where_is_read_alone(root: Path) -> None:
    """What is wrong in a condition is told of the condition, not of the report."""
    with Store.open(root) as store, pytest.raises(UsageError, match="Parser Error"):
        analytics.run(store, "latency", where="status >= 400)")


@pytest.mark.parametrize("name", REPORTS)
def test_a_file_runs_in_plain_duckdb(root: Path, name: str) -> None:
    """Who has the tables, and the views that follow, can run a file as it is."""
    text = Path(str(analytics.__file__)).with_name(f"{name}.sql").read_text("utf-8")
    connection = duckdb.connect()
    with Store.open(root) as store:
        for table in ("exchanges", "chunks", "frames", "tool_calls"):
            connection.register(f"{table}_ns", store.sql(f"FROM {table}"))
            connection.view(f"{table}_ns").create_view(table)
        connection.execute(views.script())
        assert re.findall(r"SET VARIABLE .*?;", text)
        for setting in ("", *re.findall(r"SET VARIABLE .*?;", text)):
            by = re.search(r"\"by\" = '(.*)'", setting)
            limit = re.search(r"\"limit\" = (\d+)", setting)
            over = re.search(r"over_ns = ([\d_]+)", setting)
            told = analytics.run(
                store,
                name,
                by=by[1] if by else None,
                limit=int(limit[1]) if limit else None,
                over_ns=int(over[1]) if over else None,
            )
            rows = connection.sql(setting + text).to_arrow_table()
            assert rows.to_pylist() == told.table.to_pylist()
            assert bool(by or limit or over or not setting) is True
            for variable in ("by", "limit", "over_ns"):
                connection.execute(f'RESET VARIABLE "{variable}"')
    connection.close()


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("by", ["tool", "day"])
def test_selecting_everything_changes_nothing(root: Path, name: str, by: str) -> None:
    """A condition that holds for all exchanges gives what none gives."""
    with Store.open(root) as store:
        whole = analytics.run(store, name, by=by, over_ns=1).table
        chosen = analytics.run(store, name, by=by, over_ns=1, where="true").table
    assert whole.num_rows > 0 or name in {"errors", "slow"}
    assert chosen.to_pylist() == whole.to_pylist()


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_has_every_percentile(root: Path, name: str) -> None:
    """n, p50, p90, p95, p99 and max, where there is something to measure."""
    with Store.open(root) as store:
        columns = analytics.run(store, name).table.column_names
    found = {column.removesuffix("_ms") for column in columns}
    if name not in {"errors", "slow"}:
        assert found >= {"p50", "p90", "p95", "p99", "max"}
        assert found & {"n", "calls"}
