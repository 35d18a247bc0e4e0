"""What a store says of its tables, views and columns."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from cli.commands import objects, run

from sse_recorder.cli.schema import (
    by_table,
    columns_of,
    columns_without_recordings,
    row_of,
)
from sse_recorder.errors import UsageError
from sse_recorder.store.store import Store
from sse_recorder.store.views import views
from sse_recorder.tables import SCHEMAS

OWN = ["exchanges", "chunks", "frames", "tool_calls"]


def test_every_column_of_every_table_and_view_is_explained() -> None:
    """In a line, which begins in lower case, as words in the middle of a text do."""
    columns = columns_without_recordings()
    assert [column for column in columns if not column.meaning] == []
    assert [column for column in columns if not column.meaning.isprintable()] == []
    assert all(row_of(table) for table in by_table(columns))


def test_nothing_is_explained_that_is_not_there() -> None:
    """A comment of a view that is about none of its columns is a stale one."""
    columns = by_table(columns_without_recordings())
    for name, view in views().items():
        assert set(view.columns) <= set(columns[name]), name


def test_all_tables_and_views_are_there_and_none_that_they_are_made_of() -> None:
    """The tables first, in the order of the words for them."""
    columns = by_table(columns_without_recordings())
    assert list(columns) == [*OWN, *views()]
    assert {name: columns[name] for name in OWN} == {
        name: SCHEMAS[name].names for name in OWN
    }


def test_a_store_has_the_columns_that_every_store_has(root: Path) -> None:
    """So that Tab need not open one."""
    with Store.open(root) as store:
        assert columns_of(store) == columns_without_recordings()


def test_a_table_of_the_user_is_there_without_meanings(root: Path) -> None:
    """Behind those that every store has."""
    with Store.open(root) as store:
        store.sql("CREATE TABLE mine AS SELECT 1 AS one, 2 AS two_ns")
        *_, one, two = columns_of(store)
    assert one == ("mine", "one", "INTEGER", "", "")
    assert two == ("mine", "two_ns", "INTEGER", "ns", "")


@pytest.mark.parametrize(
    ("table", "column", "type_", "unit"),
    [
        ("exchanges", "started_at", "TIMESTAMP WITH TIME ZONE", ""),
        ("exchanges", "ended_ns", "BIGINT", "ns"),
        ("exchanges", "response_size", "BIGINT", "bytes"),
        ("exchanges", "output_tokens", "BIGINT", "tokens"),
        ("exchanges", "status", "SMALLINT", ""),
        ("exchanges", "tags", "MAP(VARCHAR, VARCHAR)", ""),
        ("frames", "size", "INTEGER", "bytes"),
        ("frames", "retry", "BIGINT", "ms"),
        ("timings", "tokens_per_s", "DOUBLE", ""),
        ("timings", "per_token_ns", "DOUBLE", "ns"),
    ],
)
def test_types_are_the_databases_and_units_those_of_the_names(
    table: str, column: str, type_: str, unit: str
) -> None:
    """A rate is no time, whatever its name ends in."""
    found = {column[:2]: column for column in columns_without_recordings()}
    assert (found[table, column].type, found[table, column].unit) == (type_, unit)


def test_the_schema_is_printed_in_every_format(root: Path) -> None:
    """The same rows, for people under the names of their tables."""
    rows = objects(root, "query", "--explain-schema", "tool_calls, chunks")
    assert {row["table"] for row in rows} == {"chunks", "tool_calls"}
    assert rows[2] == {
        "table": "chunks",
        "column": "at_ns",
        "type": "BIGINT",
        "unit": "ns",
        "meaning": "the read returned",
    }
    options = ("--explain-schema", "chunks,tool_calls", "--format")
    lines = run(root, "query", *options, "jsonl").splitlines()
    assert [json.loads(line) for line in lines] == rows
    text = io.StringIO(run(root, "query", *options, "csv"))
    assert list(csv.DictReader(text)) == rows
    told = run(root, "query", *options, "table")
    assert "\ntool_calls: a call of a tool and its result\n" in told
    assert all(row["meaning"] in told for row in rows)


@pytest.mark.usefixtures("width")
def test_for_people_it_is_no_wider_than_a_terminal(root: Path) -> None:
    """Long types and meanings are wrapped at their spaces."""
    told = run(root, "query", "--explain-schema")
    lines = told.splitlines()
    assert max(len(line) for line in lines if ": " not in line) <= 80
    assert any(line.startswith("started_at") for line in lines)
    for title in ("exchanges: ", *(f"{name}: " for name in views())):
        assert any(line.startswith(title) for line in lines)


def test_a_table_that_is_not_there_is_told_with_those_that_are(root: Path) -> None:
    """It is a mistake in the command line."""
    with pytest.raises(UsageError, match=r"no table 'nope'.* are exchanges, chunks, "):
        run(root, "query", "--explain-schema", "frames,nope")
