"""`cassette`, as processes on real files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from imports.reading import FILES
from making import records_of
from samples import called, exchange_id, meibel_exchange, said, store_with
from support import PROGRAM, environment, run_command

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


@pytest.mark.parametrize(
    "recorder",
    [
        b'"recorder_id": "\xed\xa0\x80"',
        rb'"recorder_id": "\ud800"',
        b'"recorder": "test"',
    ],
)
def test_what_no_cassette_can_have_is_damage(tmp_path: Path, recorder: bytes) -> None:
    """Half of a character, as bytes or escaped, and a key that `rewrite` would lose."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    text = path.read_bytes().replace(b'"recorder_id": "test"', recorder)
    path.write_bytes(text)
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["line"]) == ("damage", 1)
    told(tmp_path, "cassette", "rewrite", path.name, code=3)
    assert path.read_bytes() == text


def test_the_mark_of_some_editors_is_another_form(tmp_path: Path) -> None:
    """A cassette that begins with it is read; `rewrite` takes it off."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    canonical = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + canonical)
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["line"]) == ("form", 1)
    run(tmp_path, "cassette", "rewrite", path.name)
    assert path.read_bytes() == canonical


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
        ([("bad name", "x")], "complete", "response header 1 is no token of HTTP"),
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


def test_a_request_that_nobody_can_have_sent_is_told(tmp_path: Path) -> None:
    """No client could ask for its answer, and no server would take it."""
    path = tape(tmp_path, meibel_exchange([said(20, "Hi")]))
    text = path.read_text(encoding="utf-8").replace('"POST"', '"GET /\\r\\nX:"')
    path.write_text(text, encoding="utf-8")
    (flaw,) = flaws(tmp_path, path.name)
    assert (flaw["check"], flaw["line"]) == ("serve", 1)
    assert flaw["problem"] == "the method is no token of HTTP"


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
    path.write_bytes(path.read_bytes() * 2)
    (flaw,) = flaws(tmp_path, "x.sse.jsonl")
    assert (flaw["line"], flaw["exchange_id"]) == (4, exchange_id(1))
    assert flaw["problem"] == "the same id is in x.sse.jsonl, line 1"
    tape(tmp_path, meibel_exchange([said(20, "Hi")]))
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
        ["--exchange", ""],
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
    """The documented `textconv`, as a shell reads it; a store need not be there."""
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

    run(tmp_path, "import", "curl.trace", "--store", "store")
    shell("git init -q")
    shell(recipe)
    shell("git add -A")
    text = shell("git diff --cached -- store")
    shutil.move(tmp_path / "store", tmp_path / "gone")
    assert shell("git diff --cached -- store") == text
    assert '+{"exchange_id": ' in text
    assert '"data": "[DONE]"' in text
    assert "Binary files" not in text
