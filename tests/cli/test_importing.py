"""`import`, as a process on real files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx
import pytest
from imports.reading import BODY, FILES
from samples import conversation
from support import command, run_command

from sse_recorder.cli import importing
from sse_recorder.store import cassette
from sse_recorder.store.store import Store
from sse_recorder.store.verify import Tally, verify
from sse_recorder.tables import Rows


def run(folder: Path, *args: str, code: int = 0) -> str:
    """Run a command, check its exit code, and return what it printed to stdout."""
    done = run_command(*args, cwd=folder)
    assert done.returncode == code, done.stderr
    return done.stdout


def told(folder: Path, *args: str, code: int = 0) -> str:
    """Run a command, check its exit code, and return its messages."""
    done = run_command(*args, cwd=folder)
    assert done.returncode == code, done.stderr
    if code > 1:
        assert done.stderr.count("\n") == 1
    return done.stderr


def have(folder: Path, *names: str) -> None:
    """Copy files of other tools into a folder."""
    for name in names:
        shutil.copy(FILES / name, folder)


def bodies(path: Path) -> list[bytes]:
    """Return the bodies of a store or a cassette, in the order of time."""
    with Store.open(path) as opened:
        return [opened.body(x.exchange_id) for x in opened.exchanges()]


def test_each_file_gets_a_cassette_beside_it(tmp_path: Path) -> None:
    """For its owner alone, canonical, sound, and named on stdout."""
    have(tmp_path, "requests.json", "devtools.har", "curl.trace")
    names = ["requests.json", "devtools.har", "curl.trace"]
    printed = run(tmp_path, "import", *names).split()
    assert printed == ["requests.sse.jsonl", "devtools.sse.jsonl", "curl.sse.jsonl"]
    for name in printed:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert bodies(tmp_path / "curl.sse.jsonl") == [BODY]
    assert len(list(tmp_path.iterdir())) == 6
    run(tmp_path, "verify", *printed)
    assert run(tmp_path, "cassette", "lint", *printed) == ""


def test_importing_again_changes_nothing(tmp_path: Path) -> None:
    """But another cassette of that name is not replaced unless it is asked for."""
    have(tmp_path, "curl.trace", "requests.json")
    run(tmp_path, "import", "curl.trace")
    path = tmp_path / "curl.sse.jsonl"
    before = path.read_bytes()
    run(tmp_path, "import", "curl.trace")
    assert path.read_bytes() == before
    path.write_text("mine", encoding="utf-8")
    message = told(tmp_path, "import", "curl.trace", code=2)
    assert "there is another already; name one with --output" in message
    assert path.read_text(encoding="utf-8") == "mine"
    run(tmp_path, "import", "curl.trace", "requests.json", "-o", path.name)
    assert bodies(path) == [BODY, BODY]


def test_secrets_do_not_reach_the_disk(tmp_path: Path) -> None:
    """By the rules of recording, and by the user's own."""
    have(tmp_path, "requests.yaml")
    run(tmp_path, "import", "requests.yaml", "--redact", "data", "-o", "a.sse.jsonl")
    text = (tmp_path / "a.sse.jsonl").read_text(encoding="utf-8")
    assert "made-up-secret" not in text
    assert "Bearer [redacted]" in text
    run(tmp_path, "redact", "--dry-run", "a.sse.jsonl")


def test_exchanges_are_added_to_a_store_once(tmp_path: Path) -> None:
    """Where they can be queried as if they had been recorded."""
    have(tmp_path, "requests.yaml", "curl.trace")
    args = ("import", "requests.yaml", "curl.trace", "--store", "store")
    assert "Added 9 exchanges to store." in told(tmp_path, *args)
    again = told(tmp_path, *args)
    assert "Added 0 exchanges to store." in again
    assert "The other 9 were there already." in again
    assert bodies(tmp_path / "store").count(BODY) == 7
    run(tmp_path, "verify", "store")
    query = "SELECT count(*) AS n FROM frames WHERE data = '[DONE]'"
    printed = run(tmp_path, "query", query, "--store", "store", "--format", "json")
    assert json.loads(printed) == [{"n": 7}]


def test_imported_requests_answer_imported_calls(tmp_path: Path) -> None:
    """As if they had been recorded; a store that has it is whole."""
    text = cassette.canonical(
        cassette.transcribe(records, Rows()) for records in conversation()
    )
    cassettes = tmp_path / "c.sse.jsonl"
    cassettes.write_text(text, encoding="utf-8")
    assert importing._add_to_store(conversation(), tmp_path / "store") == 3
    query = "FROM tool_calls ORDER BY exchange_id, seq"
    with Store.open(tmp_path / "store") as store, Store.open(cassettes) as other:
        rows = store.sql(query).to_pylist()
        assert rows == other.sql(query).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "unanswered", "ok", "unmatched"]
    assert list(verify(tmp_path / "store", Tally())) == []


def test_what_was_imported_is_replayed(tmp_path: Path) -> None:
    """To the client whose output it was, by the request that curl's user names."""
    have(tmp_path, "stamped.txt")
    options = ("--url", "https://h/chat", "--method", "POST", "--format", "curl")
    run(tmp_path, "import", "stamped.txt", *options)
    with command("replay", "stamped.sse.jsonl", cwd=tmp_path) as server:
        answer = httpx.post(f"{server.url}/chat", trust_env=False)
        assert answer.content == BODY
        assert server.stop() == 0


def test_a_trace_without_bytes_is_given_the_body(tmp_path: Path) -> None:
    """The one that curl wrote beside it."""
    have(tmp_path, "curl-ascii.trace", "curl-ascii.body")
    assert "--body" in told(tmp_path, "import", "curl-ascii.trace", code=2)
    run(tmp_path, "import", "curl-ascii.trace", "--body", "curl-ascii.body")
    assert bodies(tmp_path / "curl-ascii.sse.jsonl") == [BODY]


def test_what_is_not_as_it_was_is_told(tmp_path: Path) -> None:
    """What is left out, and what will not be served."""
    have(tmp_path, "playwright.har")
    message = told(tmp_path, "import", "playwright.har")
    assert "playwright.har: entry 2: left out, the body of" in message
    assert "playwright.har (har): 2 exchanges." in message
    # Of a compressed body a secret cannot be taken out.
    have(tmp_path, "httpx.yaml")
    message = told(tmp_path, "import", "httpx.yaml", "--redact-pattern", "DONE")
    assert "is incomplete, and will not be served" in message
    (tmp_path / "none.har").write_text('{"log": {"entries": []}}', encoding="utf-8")
    assert "nothing in it can be imported" in told(
        tmp_path, "import", "none.har", code=2
    )


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["none.har"], 3, "name a file that can be read"),
        (["x.txt"], 2, "name it with --url"),
        (["x.har"], 3, "not a HAR that can be read"),
        (["curl.trace", "-o", "a", "--store", "b"], 2, "name one"),
        (["curl.trace", "copy.trace", "-o", "a"], 2, "are the same"),
        (["curl.trace", "-o", "none/a"], 3, "name a file in another"),
        (["curl.trace", "--store", "x.txt/store"], 3, "with --store"),
    ],
)
def test_wrong_usage_and_bad_files_are_told_in_a_line(
    tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    """With what to do, and nothing is left behind."""
    have(tmp_path, "curl.trace")
    (tmp_path / "x.txt").write_text("data: x\n\n", encoding="utf-8")
    (tmp_path / "x.har").write_text("{}", encoding="utf-8")
    shutil.copy(tmp_path / "curl.trace", tmp_path / "copy.trace")
    assert message in told(tmp_path, "import", *args, code=code)
    assert len(list(tmp_path.iterdir())) == 4


def test_copies_of_a_file_are_imported_once(tmp_path: Path) -> None:
    """A file without times has its own, and that is another in each checkout."""
    have(tmp_path, "stamped.txt")
    known = ("--url", "https://h/chat")
    run(tmp_path, "import", "stamped.txt", *known)
    cassette = tmp_path / "stamped.sse.jsonl"
    before = cassette.read_bytes()
    assert "1 exchange " in told(
        tmp_path, "import", "stamped.txt", *known, "--store", "s"
    )
    os.utime(tmp_path / "stamped.txt", (1_577_836_800, 1_577_836_800))
    run(tmp_path, "import", "stamped.txt", *known)
    assert cassette.read_bytes() == before
    again = told(tmp_path, "import", "stamped.txt", *known, "--store", "s")
    assert "The other 1 were there already." in again
    # But another exchange at that time is another.
    text = cassette.read_text(encoding="utf-8").replace('"GET"', '"PUT"')
    cassette.write_text(text, encoding="utf-8")
    told(tmp_path, "import", "stamped.txt", *known, code=2)


def test_whether_lines_have_stamps_can_be_said(tmp_path: Path) -> None:
    """What is taken off is told, and so is how to leave it."""
    (tmp_path / "x.txt").write_text("42 is\n43 is not\n", encoding="utf-8")
    args = ("import", "x.txt", "--url", "https://h/", "-o", "x.sse.jsonl")
    assert "taken off; say --no-stamps" in told(tmp_path, *args)
    assert bodies(tmp_path / "x.sse.jsonl") == [b"is\nis not\n"]
    assert "stamps" not in told(tmp_path, *args, "--no-stamps")
    assert bodies(tmp_path / "x.sse.jsonl") == [b"42 is\n43 is not\n"]
    assert "stamps" not in told(tmp_path, *args, "--stamps")
    assert bodies(tmp_path / "x.sse.jsonl") == [b"is\nis not\n"]
    have(tmp_path, "requests.json")
    assert "leave them out" in told(
        tmp_path, "import", "requests.json", "--stamps", code=2
    )


def test_what_is_told_of_a_file_has_no_secret(tmp_path: Path) -> None:
    """A log of continuous integration is read by many."""
    have(tmp_path, "playwright.har")
    path = tmp_path / "playwright.har"
    text = json.loads(path.read_text(encoding="utf-8"))
    for entry in text["log"]["entries"]:
        entry["request"]["url"] += "?api_key=hunter2SECRET"
    path.write_text(json.dumps(text), encoding="utf-8")
    message = told(tmp_path, "import", path.name)
    assert "entry 2: left out, the body of" in message
    assert "hunter2SECRET" not in message
