"""Tab in real shells, in a real terminal: what stands on the line is then run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.terminal import TAB, Terminal, terminal
from samples import called, finished, meibel_exchange, returned, store_with
from support import environment, run_command

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs" / "looking.md"
# How each is started with a prompt and the settings of nobody.
START = {
    "bash": ("bash", "--noprofile", "--rcfile", "settings", "-i"),
    "zsh": ("zsh", "-i"),
    "fish": ("fish", "-i"),
}
SETTINGS = {
    "bash": ("settings", "PS1='ready> '\n"),
    "zsh": (".zshrc", "PS1='ready> '; autoload -Uz compinit; compinit -D -u\n"),
    "fish": (
        ".config/fish/config.fish",
        "function fish_prompt; echo -n 'ready> '; end\nfunction fish_greeting; end\n",
    ),
}
SHELLS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} here"),
    )
    for name in START
]


def documented(shell: str) -> str:
    """Return the line that the documentation has a shell run when it starts."""
    text = DOCS.read_text(encoding="utf-8")
    lines = re.findall(r"`([^`\n]*_SSE_RECORDER_COMPLETE=[^`\n]*)`", text)
    (line,) = (line for line in lines if f"{shell}_source" in line)
    return str(line)


@contextmanager
def shell(name: str, folder: Path) -> Iterator[Terminal]:
    """Start a shell that knows the command, in a folder with a store."""
    calls = [called(100, "t1", "search"), returned(250, "t1"), finished(400)]
    store_with(folder, [meibel_exchange(calls, number=0xA1)])
    program = folder / "bin" / "sse-recorder"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sse_recorder "$@"\n')
    program.chmod(0o755)
    file, text = SETTINGS[name]
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(f"{text}{documented(name)}\n", encoding="utf-8")
    env = environment()
    own = {
        "PATH": f"{program.parent}:{env['PATH']}",
        "HOME": str(folder),
        "ZDOTDIR": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "XDG_DATA_HOME": str(folder / ".local"),
        "TERM": "dumb",
    }
    with terminal(*START[name], cwd=folder, env={**env, **own}) as started:
        started.until("ready> ")
        yield started


@pytest.mark.parametrize("name", SHELLS)
def test_columns_and_tables_are_completed_within_quotes(
    tmp_path: Path, name: str
) -> None:
    """The only match is put in and the quotes stay open: the query goes on."""
    with shell(name, tmp_path) as started:
        started.type('sse-recorder query "SELECT dur', TAB, ", 'a b' AS x FROM tool_c")
        started.type(TAB, " WHERE DUR", TAB, ' > 1" --form', TAB, "csv\n")
        started.until("duration_ns,x\n150000000,a b\n")


@pytest.mark.parametrize("name", SHELLS)
def test_a_word_is_completed_wherever_it_stands(tmp_path: Path, name: str) -> None:
    """Behind a parenthesis, in the other quotes, in lower case."""
    with shell(name, tmp_path) as started:
        started.type("sse-recorder que", TAB, "--store recordings 'sel", TAB)
        started.type(" count(finish_r", TAB, ") AS n from exch", TAB, "' --format=js")
        started.type(TAB, "\n")
        started.until(r'"n": 1')


@pytest.mark.parametrize("name", SHELLS)
def test_an_exchange_and_a_file_are_completed(tmp_path: Path, name: str) -> None:
    """An id by its end, as `ls` shows it; where nothing is known, a file."""
    (tmp_path / "recordings_of_others").mkdir()
    with shell(name, tmp_path) as started:
        started.type("sse-recorder show --store recordings 00000", TAB, "\n")
        started.until("search")
        started.until("ready> ")
        started.type("sse-recorder ls --store recordings_o", TAB, "\n")
        started.until("recordings_of_others: nothing was recorded here")


def test_bash_lists_words_without_the_query_before_them(tmp_path: Path) -> None:
    """After FROM these are the tables and views, and the line stays as it is."""
    with shell("bash", tmp_path) as started:
        started.type('sse-recorder query "SELECT 1 AS one FROM ', TAB, TAB)
        listed = started.until(r"exchanges( +\w+)+ *\n(\w+ +)+\n").split()
        assert {"exchanges", "chunks", "frames", "tool_calls", "gaps"} <= set(listed)
        assert not {"SELECT", "duration_ns"} & set(listed)
        started.type('exchanges"', "\n")
        started.until("\none\n")


def test_bash_leaves_a_text_of_sql_alone(tmp_path: Path) -> None:
    """No column is put into it, nor the name of a file."""
    (tmp_path / "durable").touch()
    with shell("bash", tmp_path) as started:
        started.type("""sse-recorder query "SELECT 'dur""", TAB, """' AS x"\n""")
        started.until("\nx  \ndur\n")


def test_the_scripts_are_printed_for_each_shell(tmp_path: Path) -> None:
    """Where a shell is not installed, too; and each names the program."""
    for name in START:
        env = environment(_SSE_RECORDER_COMPLETE=f"{name}_source")
        done = run_command(cwd=tmp_path, env=env)
        assert done.returncode == 0
        assert "_SSE_RECORDER_COMPLETE=" in done.stdout


def ask(folder: Path, line: str, shell: str = "zsh") -> list[list[str]]:
    """Return what the program offers for a line: kind, value and meaning of each."""
    env = environment(_SSE_RECORDER_COMPLETE=f"{shell}_complete", COMP_LINE=line)
    done = run_command(cwd=folder, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines() if line]


def test_meanings_are_told_where_a_shell_shows_them(tmp_path: Path) -> None:
    """Of columns, tables and options, each in one line."""
    ((kind, value, meaning),) = ask(tmp_path, 'sse-recorder query "SELECT duration_')
    assert (kind, value) == ("sql", "duration_ns")
    assert meaning == "result_ns - called_ns; null without both"
    ((kind, value, meaning),) = ask(tmp_path, "sse-recorder query --explain")
    assert (kind, value) == ("plain", "--explain-schema")
    assert meaning.startswith("Explain all columns instead")


def test_fish_is_given_whole_arguments_and_the_only_one_twice(tmp_path: Path) -> None:
    """Two that begin alike are put in as far as they do, and nothing is closed."""
    line = 'sse-recorder query \'SELECT "a b", duration_'
    found = ask(tmp_path, line, "fish")
    whole = 'SELECT "a b", duration_ns'
    assert [value for _, value, _ in found] == [whole, f"{whole} "]


def test_without_quotes_a_word_of_sql_is_no_argument(tmp_path: Path) -> None:
    """A space would end it, so nothing is offered, nor a file."""
    for line in ("sse-recorder query ", "sse-recorder query dur"):
        assert ask(tmp_path, line) == []
    assert ask(tmp_path, "sse-recorder query 'dur") != []


def test_tables_to_explain_are_completed_one_after_another(tmp_path: Path) -> None:
    """They need no quotes."""
    found = ask(tmp_path, "sse-recorder query --explain-schema frames,tool_c")
    assert [(kind, value) for kind, value, _ in found] == [
        ("plain", "frames,tool_calls")
    ]


def test_a_store_that_is_not_there_makes_no_noise(tmp_path: Path) -> None:
    """SQL needs none; what needs one offers nothing, and a shell shows no error."""
    env = environment(
        _SSE_RECORDER_COMPLETE="bash_complete", COMP_LINE="sse-recorder show 1"
    )
    assert run_command(cwd=tmp_path, env=env).stdout == ""


def test_tab_for_a_command_loads_no_database() -> None:
    """Whoever waits for a word waits for no library."""
    code = (
        "import sys; from sse_recorder.cli import completing; completing.install()\n"
        "print([m for m in ('duckdb', 'pyarrow', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert done.stdout == "[]\n"
