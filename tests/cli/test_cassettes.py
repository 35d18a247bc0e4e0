"""`import` and `cassette`, as processes on real files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from imports.reading import BODY, FILES
from making import records_of
from samples import called, exchange_id, meibel_exchange, said, store_with
from support import PROGRAM, command, environment, run_command

from sse_recorder.cli.cassettes import care
from sse_recorder.exchange import Ending, Outcome, Record
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "hunter2SECRET"  # noqa: S105 - stands for any


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


def tape(folder: Path, *exchanges: list[Record], name: str = "x.sse.jsonl") -> Path:
    """Write a cassette of exchanges."""
    root = store_with(folder, exchanges)
    text = ""
    with Store.open(root) as opened:
        for exchange in opened.exchanges():
            text += cassette.dumps(exchange, opened.chunks(exchange.exchange_id))
    shutil.rmtree(root)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def flaws(folder: Path, *args: str, code: int = 1) -> list[dict[str, Any]]:
    """Return what `lint` finds."""
    text = run(folder, "cassette", "lint", *args, "--format", "json", code=code)
    return list(json.loads(text))


# --- import ---------------------------------------------------------------------------


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
    assert [flaw["level"] for flaw in flaws(tmp_path, *printed, code=0)] == []


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
        (["curl.trace", "-o", "none/a"], 3, "in a folder that can be written"),
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


# --- lint -----------------------------------------------------------------------------


def test_a_sound_cassette_has_no_flaws(tmp_path: Path) -> None:
    """And people are told that it was looked at."""
    tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    done = run_command("cassette", "lint", "x.sse.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "Checked 1 file: no problems." in done.stderr


def test_damage_is_told_with_its_line(tmp_path: Path) -> None:
    """Of a line, of a file that was cut, and of one that is not there."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"at_ms"', '"at"'), encoding="utf-8")
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["line"], flaw["level"]) == ("damage", 2, "problem")
    assert flaw["problem"].startswith("not a line of a cassette")
    assert flaw["remedy"] == "restore the file or record it again"
    path.write_text(text[: text.rindex("{")], encoding="utf-8")
    (flaw,) = flaws(tmp_path, path.name)
    assert flaw["problem"] == "its last exchange has no end, so the file was cut"
    assert flaw["line"] is None
    (flaw,) = flaws(tmp_path, "none.sse.jsonl")
    assert flaw["problem"] == "No such file or directory"


def test_secrets_are_told_and_not_shown(tmp_path: Path) -> None:
    """Where they are, by which rule, and what masks them."""
    leaky = meibel_exchange([called(30, "t1", "login", api_key=PASSWORD)])
    path = tape(tmp_path, meibel_exchange([said(1, "Hi")], number=2), leaky)
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["exchange_id"]) == ("secret", exchange_id(1))
    assert flaw["problem"].startswith("frame 0, field api_key: ")
    assert PASSWORD not in flaw["problem"]
    assert flaw["remedy"] == "sse-recorder redact x.sse.jsonl"
    assert flaws(tmp_path, path.name, "--redact-keep", "api_key", code=0) == []
    run(tmp_path, "cassette", "redact", path.name)
    assert flaws(tmp_path, path.name, code=0) == []


def test_settings_of_a_file_hold_for_it_too(tmp_path: Path) -> None:
    """Those that all commands share, and those of `cassette`."""
    tape(tmp_path, meibel_exchange([called(30, "t1", "login", api_key=PASSWORD)]))
    settings = tmp_path / "sse-recorder.toml"
    for text in ('redact-keep = ["api_key"]', '[cassette]\nredact-keep = ["api_key"]'):
        settings.write_text(text, encoding="utf-8")
        assert flaws(tmp_path, "x.sse.jsonl", code=0) == []


def test_another_form_is_told_and_rewritten(tmp_path: Path) -> None:
    """From its first line on; the file keeps its permissions, and nothing is lost."""
    path = tape(
        tmp_path, meibel_exchange([said(20, "é")]), meibel_exchange([], number=2)
    )
    canonical = path.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in canonical.splitlines()]
    path.write_text(
        "\n".join(json.dumps(x, sort_keys=True) for x in lines[3:] + lines[:3]),
        encoding="utf-8",
    )
    path.chmod(0o640)
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["line"]) == ("form", 1)
    assert flaw["remedy"] == "sse-recorder cassette rewrite x.sse.jsonl"
    assert "Rewrote x.sse.jsonl." in told(tmp_path, "cassette", "rewrite", path.name)
    assert path.read_text(encoding="utf-8") == canonical
    assert path.stat().st_mode & 0o777 == 0o640
    assert flaws(tmp_path, path.name, code=0) == []


def test_what_is_canonical_is_not_written_again(tmp_path: Path) -> None:
    """Nor is what is damaged."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    before = path.stat()
    message = told(tmp_path, "cassette", "rewrite", path.name)
    assert "is in its canonical form" in message
    assert path.stat().st_ino == before.st_ino
    path.write_text("{}", encoding="utf-8")
    told(tmp_path, "cassette", "rewrite", path.name, code=3)
    assert path.read_text(encoding="utf-8") == "{}"


def test_a_cassette_is_rewritten_where_a_link_points(tmp_path: Path) -> None:
    """The link stays one."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    canonical = path.read_bytes()
    path.write_bytes(canonical + b"\n")
    link = tmp_path / "link.sse.jsonl"
    link.symlink_to(path.name)
    run(tmp_path, "cassette", "rewrite", link.name)
    assert link.is_symlink()
    assert path.read_bytes() == canonical


STREAM = ("Content-Type", "text/event-stream")


@pytest.mark.parametrize(
    ("headers", "outcome", "problem"),
    [
        ([STREAM], "incomplete", "it is incomplete: why"),
        ([("A", "b\r\nc")], "complete", "holds a line end or a NUL"),
        ([("Content-Length", "x")], "complete", "Content-Length is 'x'"),
        (
            [("Content-Length", "3")],
            "complete",
            "Content-Length says 3, and its body has 2",
        ),
        (
            [("Content-Length", "1")],
            "client_abort",
            "Content-Length says 1, and its body",
        ),
        ([("Content-Length", "3")], "client_abort", None),
        ([("Content-Length", "2")], "complete", None),
    ],
)
def test_what_cannot_be_served_is_told(
    tmp_path: Path,
    headers: list[tuple[str, str]],
    outcome: str,
    problem: str | None,
) -> None:
    """As a whole, with its head and its line."""
    ending = Ending(outcome=Outcome(outcome), error="why")
    path = tape(tmp_path, records_of([b"ab"], headers=tuple(headers), ending=ending))
    found = flaws(tmp_path, path.name, code=int(problem is not None))
    assert [flaw["check"] for flaw in found] == ["serve"] * len(found)
    if problem is not None:
        assert problem in found[0]["problem"]
        assert found[0]["line"] == 1


def test_a_body_that_no_status_allows_is_told(tmp_path: Path) -> None:
    """A client would take it for the next answer."""
    path = tape(tmp_path, records_of([b"ab"]))
    text = path.read_text(encoding="utf-8").replace('"status": 200', '"status": 204')
    path.write_text(text, encoding="utf-8")
    (flaw,) = flaws(tmp_path, path.name)
    assert flaw["problem"] == "an answer of 204 has no body, and this has 2 bytes"


def test_what_broke_before_its_head_can_be_served(tmp_path: Path) -> None:
    """A replay breaks it, too."""
    first, sent, *_, end = meibel_exchange(outcome=Outcome.TIMEOUT)
    path = tape(tmp_path, [first, sent, end])
    assert flaws(tmp_path, path.name, code=0) == []


def test_duplicates_are_told_across_files(tmp_path: Path) -> None:
    """An id is there once; the same answer to the same request may be meant."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    shutil.copy(path, tmp_path / "y.sse.jsonl")
    (flaw,) = flaws(tmp_path, "x.sse.jsonl", "y.sse.jsonl")
    assert flaw["problem"] == "the same id is in x.sse.jsonl, line 1"
    tape(tmp_path, meibel_exchange([said(20, "Hi")], number=2), name="z.sse.jsonl")
    (flaw,) = flaws(tmp_path, "x.sse.jsonl", "z.sse.jsonl", code=0)
    assert (flaw["level"], flaw["check"]) == ("warning", "duplicate")
    done = run_command("cassette", "lint", "x.sse.jsonl", "z.sse.jsonl", cwd=tmp_path)
    assert "no problems, 1 warning." in done.stderr
    assert "same answer to the same request" in done.stdout


# --- slice ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "numbers"),
    [
        (["--exchange", "0002", "--exchange", exchange_id(2)], [2]),
        (["--exchange", "0003", "--exchange", "0001"], [1, 3]),
        (["--first", "2"], [1, 2]),
        (["--first", "9"], [1, 2, 3]),
        (["--where", "exchange_id LIKE '%3' OR false"], [3]),
    ],
)
def test_some_exchanges_become_a_cassette(
    tmp_path: Path, selection: list[str], numbers: list[int]
) -> None:
    """Line by line as they were, for their owner alone, in the order of time."""
    parts = [meibel_exchange([said(20, "Hi")], number=n) for n in (1, 2, 3)]
    path = tape(tmp_path, *parts)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    run(tmp_path, "cassette", "slice", path.name, *selection, "-o", "out.sse.jsonl")
    out = tmp_path / "out.sse.jsonl"
    wanted = [line for n in numbers for line in lines[3 * n - 3 : 3 * n]]
    assert out.read_text(encoding="utf-8") == "".join(wanted)
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_store_is_sliced_too_but_for_what_is_open(tmp_path: Path) -> None:
    """What is not over has no end that a cassette could have."""
    store_with(
        tmp_path,
        [meibel_exchange(), meibel_exchange(number=2, ended_ms=None)],
    )
    args = ("cassette", "slice", "recordings", "-o", "o.sse.jsonl")
    assert "Wrote 1 exchange to" in told(tmp_path, *args, "--first", "5")
    told(tmp_path, *args, "--exchange", "0002", code=2)


@pytest.mark.parametrize(
    "selection",
    [
        [],
        ["--first", "1", "--where", "true"],
        ["--where", "false"],
        ["--where", "x y"],
        ["--exchange", "zz"],
        ["--first", "0"],
    ],
)
def test_a_selection_of_nothing_is_wrong_usage(
    tmp_path: Path, selection: list[str]
) -> None:
    """And writes nothing."""
    path = tape(tmp_path, meibel_exchange())
    args = ("cassette", "slice", path.name, "-o", "out.sse.jsonl", *selection)
    assert run_command(*args, cwd=tmp_path).returncode == 2
    assert not (tmp_path / "out.sse.jsonl").exists()


# --- what the documentation says ------------------------------------------------------


@pytest.mark.parametrize("name", sorted(care.commands))
def test_every_command_of_the_group_helps(name: str) -> None:
    """With an example, and with what each option does."""
    inner = care.commands[name]
    assert "sse-recorder " in (inner.help or "")
    for param in inner.params:
        assert param.param_type_name == "argument" or getattr(param, "help", None)


def test_git_shows_what_differs_in_parquet_by_the_recipe(tmp_path: Path) -> None:
    """The documented `textconv`, as a shell reads it, in a repository with a store."""
    page = (ROOT / "docs" / "cassettes.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^git config .*textconv.*$", page, re.MULTILINE)
    (attributes,) = re.findall(r"`(\*\.parquet diff=\S+)`", page)
    have(tmp_path, "curl.trace", "requests.json")
    program = tmp_path / "bin" / "sse-recorder"
    program.parent.mkdir()
    (tmp_path / ".gitattributes").write_text(attributes + "\n", encoding="utf-8")
    program.write_text(
        f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    path = f"{program.parent}:{environment()['PATH']}"

    def shell(line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env=environment(
                PATH=path, GIT_CONFIG_GLOBAL="/dev/null", HOME=str(tmp_path)
            ),
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout

    run(tmp_path, "import", "curl.trace", "--store", "recordings")
    shell("git init -q")
    shell(recipe)
    shell("git add -A")
    text = shell("git diff --cached -- recordings")
    assert '+{"exchange_id": ' in text
    assert '"data": "[DONE]"' in text
    assert "Binary files" not in text
