"""What Tab offers for the arguments of commands."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from samples import exchange_id, meibel_exchange, said, store_with

from sse_recorder.cli import every_command
from sse_recorder.store import cassette
from sse_recorder.store.store import Store


def offered(command: str, incomplete: str, *line: str) -> list[tuple[str, str, str]]:
    """Return what is offered for the argument of a command after a line."""
    asked = every_command()[command]
    context = asked.make_context(command, list(line), resilient_parsing=True)
    argument = next(p for p in asked.params if isinstance(p, click.Argument))
    found = argument.shell_complete(context, incomplete)
    return [(item.value, item.type, item.help or "") for item in found]


def test_sql_is_offered_with_its_meanings() -> None:
    """A table's is what a row of it is; keywords have none."""
    assert offered("query", "SELECT parall") == [
        ("parallelism", "sql", "calls open when it began, itself included")
    ]
    ((name, _, meaning),) = offered("query", "FROM fra")
    assert (name, meaning.split(" of ")[0]) == ("frames", "one block")
    assert offered("query", "SEL") == [("SELECT", "sql", "")]


@pytest.mark.parametrize("line", [(), ("--explain-schema",)])
def test_where_no_sql_fits_no_file_is_offered_either(line: tuple[str, ...]) -> None:
    """The kind says that it is SQL, and that there is nothing."""
    assert offered("query", "SELECT zzz", *line) == [("", "sql", "")]


def test_tables_are_offered_to_be_explained() -> None:
    """One after another."""
    found = offered("query", "chunks,fr", "--explain-schema")
    assert found == [("chunks,frames", "plain", "")]


def test_ids_are_offered_by_their_end_or_their_beginning(root: Path) -> None:
    """The newest first, each with what it is; the shorter form where both would do."""
    store = ("--store", str(root))
    assert [value for value, _, _ in offered("show", "", *store)] == [
        exchange_id(number)[-8:] for number in (0xA3, 0xA2, 0xA1)
    ]
    ((value, kind, meaning),) = offered("show", "000000a1", *store)
    assert (value, kind) == ("000000a1", "plain")
    assert meaning == "POST /v2/sessions/0193a0c4/chat/stream 2026-11-23 10:15:30"
    whole = [exchange_id(number) for number in (0xA3, 0xA2, 0xA1)]
    assert [value for value, _, _ in offered("show", "0193", *store)] == whole
    assert offered("show", "f", *store) == []


def test_an_id_that_a_shell_would_run_is_not_offered(tmp_path: Path) -> None:
    """A cassette may come from anybody; and what is shown cannot steer a terminal."""
    folder = store_with(tmp_path, [meibel_exchange([said(1, "a")], path="/\x1b[31m")])
    with Store.open(folder) as store:
        text = "".join(
            cassette.dumps(x, store.chunks(x.exchange_id)) for x in store.exchanges()
        )
    evil = text.replace(exchange_id(1), "$(touch evil)")
    path = tmp_path / f"evil{cassette.SUFFIX}"
    path.write_text(text + evil, encoding="utf-8")
    with Store.open(path) as store:
        assert store.sql("FROM exchanges").num_rows == 2
    ((value, _, meaning),) = offered("show", "", "--store", str(path))
    assert value == exchange_id(1)[-8:]
    assert "\\x1b[31m" in meaning
