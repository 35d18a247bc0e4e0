"""The program as a whole: exit codes, the line that an error is told in, settings."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from samples import called, finished, meibel_exchange, returned, said, store_with
from support import PATIENCE_S, command, environment, run_command

from sse_recorder import __version__, cli, config
from sse_recorder.store import cassette
from sse_recorder.store.store import Store

NOWHERE = "http://127.0.0.1:1"
"""An upstream that is well formed."""
RECORD = ("record", "--upstream", NOWHERE)


def make_store(folder: Path) -> Path:
    """Make the store `recordings` with two exchanges."""
    events = [called(100, "t1", "search"), returned(250, "t1"), said(300, "Hi")]
    chats = [meibel_exchange([*events, finished(400)], number=n) for n in (1, 2)]
    return store_with(folder, chats)


def make_cassette(folder: Path) -> Path:
    """Make the cassette `chat.sse.jsonl` with the exchanges of a store."""
    with Store.open(make_store(folder)) as store:
        text = "".join(
            cassette.dumps(x, store.chunks(x.exchange_id)) for x in store.exchanges()
        )
    path = folder / f"chat{cassette.SUFFIX}"
    path.write_text(text, encoding="utf-8")
    return path


def damage_cassette(folder: Path) -> None:
    """Cut a cassette within a line."""
    path = make_cassette(folder)
    path.write_bytes(path.read_bytes()[:-30])


def damage_parquet(folder: Path) -> None:
    """Overwrite the end of a Parquet file."""
    (path,) = (make_store(folder) / "frames").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)


def leave_one_open(folder: Path) -> None:
    """Make a store whose only exchange has not ended."""
    store_with(folder, [meibel_exchange([said(20, "Hi")], ended_ms=None)])


def write_text_file(folder: Path) -> None:
    """Write a file that is neither a store nor a cassette."""
    (folder / "notes").write_text("hello\n", encoding="utf-8")


def write_settings(text: str) -> Callable[[Path], None]:
    """Return what writes a configuration file."""

    def write(folder: Path) -> None:
        (folder / config.FILE).write_text(text, encoding="utf-8")

    return write


class Case(NamedTuple):
    """A command that fails, and how it says so."""

    args: tuple[str, ...]
    code: int
    says: str
    before: Callable[[Path], object] = make_store
    env: dict[str, str] = {}  # noqa: RUF012 - never changed


Done = Future[subprocess.CompletedProcess[str]]
TO_HELP = "Try 'sse-recorder"
CASES = {
    # Wrong usage, as click finds it.
    "no command": Case(("bogus",), 2, "No such command 'bogus'"),
    "unknown option": Case(("ls", "--bogus"), 2, "No such option '--bogus'"),
    "no upstream": Case(("record",), 2, "give --upstream URL, --route /PREFIX=URL"),
    "no sql": Case(("query",), 2, "no SQL: give it as an argument"),
    "on miss": Case(
        ("replay", "--on-miss", "200"), 2, "the status of an error, such as 404 or 503"
    ),
    "speed 0": Case(("replay", "--speed", "0"), 2, "give a number above 0, or max"),
    "speed inf": Case(("replay", "--speed", "inf"), 2, "a number above 0, or max"),
    "speed nan": Case(("replay", "--speed", "nan"), 2, "a number above 0, or max"),
    "speed word": Case(("replay", "--speed", "fast"), 2, "above 0, or max"),
    "listen": Case(
        (*RECORD, "--listen", "8787"), 2, "not HOST:PORT, such as 127.0.0.1:8787"
    ),
    "listen port": Case(
        ("replay", "--listen", "127.0.0.1:65536"), 2, "such as 127.0.0.1:8787"
    ),
    "grace": Case((*RECORD, "--grace", "-1"), 2, "-1.0 is not in the range x>=0"),
    "format": Case(("ls", "--format", "xml"), 2, "'json', 'jsonl', 'csv'"),
    "variable": Case(
        ("replay",), 2, "not a speed: give a number", env={"SSE_RECORDER_SPEED": "x"}
    ),
    # Wrong usage, as we find it.
    "scheme": Case(
        ("record", "--upstream", "ftp://x"), 2, "give one such as https://api."
    ),
    "no host": Case(("record", "--upstream", "http://"), 2, "names no host: give one"),
    "port": Case(("record", "--upstream", "http://h:x"), 2, "give one such as"),
    "query": Case(
        ("record", "--upstream", "http://h/?k=v"), 2, "scheme, host, port and path only"
    ),
    "password": Case(
        ("record", "--upstream", "http://u:p@h"), 2, "in an Authorization header"
    ),
    "ca file": Case(
        (*RECORD, "--ca-file", "notes"), 2, "give a PEM file", write_text_file
    ),
    "unknown id": Case(("export", "nope"), 2, "`sse-recorder ls` shows the ids, and"),
    "ambiguous id": Case(("show", "0193"), 2, "2 exchanges with an id like '0193'"),
    "open exchange": Case(
        ("export", "01936a3e"), 2, "export it when it has ended", leave_one_open
    ),
    "sql syntax": Case(("query", "SELEC 1"), 2, 'syntax error at or near "SELEC"'),
    "sql column": Case(("query", "SELECT x FROM frames"), 2, "Candidate bindings"),
    "sql value": Case(("query", "SELECT 'infinity'::TIMESTAMP AS t"), 2, "t::VARCHAR"),
    "setting": Case(
        ("ls",), 2, "'stroe' is not a setting; what", write_settings("stroe = 1")
    ),
    "setting of": Case(
        ("ls",), 2, "what can be set for ls: format,", write_settings("[ls]\nspeed = 1")
    ),
    "setting value": Case(
        ("replay",), 2, "not a speed: give a number", write_settings("speed = -1")
    ),
    "toml": Case(("ls",), 2, "mend it or take it away", write_settings("a = [")),
    "sampler": Case(
        RECORD,
        2,
        "set it to [parentbased_]always_on",
        env={
            "OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE,
            "OTEL_TRACES_SAMPLER": "dice",
        },
    ),
    # The environment.
    "no store": Case(("ls", "--store", "none"), 3, "or name it with --store"),
    "no name": Case(("ls", "--store", ""), 2, "give a folder or a cassette"),
    "no source": Case(("replay", "none"), 3, "or name it with --store"),
    "empty folder": Case(("ls", "--store", "."), 3, "or name a store with --store"),
    "no cassette": Case(
        ("ls", "--store", "notes"), 3, "restore the file or record", write_text_file
    ),
    "file as store": Case(
        (*RECORD, "--store", "notes"), 3, "written with --store", write_text_file
    ),
    "below a file": Case(
        (*RECORD, "--store", "notes/a/b"), 3, "written with --store", write_text_file
    ),
    "demo below a file": Case(
        ("demo", "--store", "notes/a"), 3, "written with --store", write_text_file
    ),
    "damaged Parquet": Case(
        ("ls",), 3, "the rest of the store is whole", damage_parquet
    ),
    "damaged cassette": Case(
        ("ls", "--store", "chat.sse.jsonl"),
        3,
        "restore the file or record it again",
        damage_cassette,
    ),
    "replay of damage": Case(("replay",), 3, "the rest of the store", damage_parquet),
    "nothing to replay": Case(
        ("replay",), 3, "`sse-recorder ls` shows what is there", leave_one_open
    ),
    "not our address": Case(
        (*RECORD, "--listen", "192.0.2.1:0"), 3, "Use 127.0.0.1 or one of its own"
    ),
    "output": Case(("export", "-o", "no/such/x"), 3, "can be written with --output"),
    "recover nothing": Case(("recover", "--store", "none"), 3, "store with --store"),
    "recover a cassette": Case(
        ("recover", "--store", "notes"), 3, "store with --store", write_text_file
    ),
}


def run_case(case: Case, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of a case in a folder of its own."""
    case.before(folder)
    return run_command(*case.args, cwd=folder, env=environment(**case.env))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Done]]:
    """Run all cases, two at a time: nearly all they take is the start of Python."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(run_case, case, tmp_path_factory.mktemp("case"))
            for name, case in CASES.items()
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_fails_says_why_and_what_to_do(
    cases: dict[str, Done], name: str
) -> None:
    """One line on stderr, nothing on stdout, never a traceback, and the right code."""
    case, done = CASES[name], cases[name].result()
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert case.says in done.stderr
    *usage, line = done.stderr.splitlines()
    if usage:  # click shows how the command is called, and where its help is
        assert usage[0].startswith("Usage: ")
        assert usage[1].startswith(TO_HELP)
        assert line.startswith("Error: ")
        assert case.code == 2
    else:
        assert line.startswith("sse-recorder: ")
    assert done.returncode == case.code


@pytest.mark.parametrize("args", [RECORD, ("replay",)], ids=["record", "replay"])
def test_a_port_that_is_taken_is_told_and_nothing_is_left(
    tmp_path: Path, args: tuple[str, ...]
) -> None:
    """It says what to do instead, and the next recorder has nothing to recover."""
    store = make_store(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_command(*args, "--listen", address, cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sse-recorder: Cannot listen on {address}: ")
    assert line.endswith("use port 0 to get a free one.")
    assert not list(store.rglob("*.arrows"))


@pytest.mark.parametrize("moment", ["Recording four chats", "Replaying them"])
def test_another_command_that_is_interrupted_exits_with_130(
    tmp_path: Path, moment: str
) -> None:
    """Ctrl-C is answered without a traceback, and what was recorded is not lost."""
    with command("demo", cwd=tmp_path) as run:
        run.stderr.until(moment)
        assert run.stop(signal.SIGINT) == 130
        assert "Traceback" not in run.stderr.text
    assert run_command("recover", cwd=tmp_path).returncode == 0
    assert not list(tmp_path.rglob("*.arrows"))


BEGUN = (
    "import runpy, sys, sse_recorder; print('begun', file=sys.stderr, flush=True);"
    " runpy.run_module('sse_recorder', run_name='__main__', alter_sys=True)"
)
"""The program, which says when it begins: to start Python is not its business."""
MOMENTS = [0.05 + 1.95 * n / 14 for n in range(15)]


@pytest.mark.parametrize("args", [RECORD, ("demo",)], ids=["record", "demo"])
@pytest.mark.parametrize(
    "after_s",
    [
        pytest.param(s, id=f"{s:.2f}", marks=[pytest.mark.slow] * (n not in {1, 3}))
        for n, s in enumerate(MOMENTS)
    ],
)
def test_ctrl_c_ends_all_processes_at_any_moment(
    tmp_path: Path, after_s: float, args: tuple[str, ...]
) -> None:
    """It is a signal to all of them, and none answers with a traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGUN, *args],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in told
    assert process.returncode in {0, 130}


def test_ctrl_c_while_modules_are_read_ends_the_program(tmp_path: Path) -> None:
    """It is not taken for an error of the module that is being read."""
    (tmp_path / "rich.py").write_text(
        "import os, signal\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except BaseException:\n"
        "    raise ImportError('interrupted')\n",
        encoding="utf-8",
    )
    env = environment(PYTHONPATH=str(tmp_path))
    done = run_command("demo", cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (130, "")


def test_who_ignores_ctrl_c_goes_on(tmp_path: Path) -> None:
    """A shell that starts a program in the background has it ignore that."""
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);"
    ignoring += " os.execv(sys.argv[1], sys.argv[1:])"
    with command("demo", cwd=tmp_path, before=(sys.executable, "-c", ignoring)) as run:
        run.stderr.until("Recording four chats")
        assert run.stop(signal.SIGINT) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize(
    "args", [("ls",), ("query", "FROM frames", "--format", "csv"), ("export",)]
)
def test_a_full_disk_is_told(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Output that could not be written is a failure, in one line."""
    make_store(tmp_path)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = run_command(*args, cwd=tmp_path, stdout=full)
    assert done.returncode == 3
    assert done.stderr == (
        "sse-recorder: No space left on device; mend that and run it again\n"
    )


def test_the_program_calls_itself_by_its_name(tmp_path: Path) -> None:
    """However it was started; and without a command it says which there are."""
    done = run_command("--version", cwd=tmp_path)
    assert done.stdout == f"sse-recorder, version {__version__}\n"
    done = run_command(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: sse-recorder [OPTIONS] COMMAND")


def test_every_command_of_every_module_is_there() -> None:
    """Each is imported when it is asked for, so somebody has to list it."""
    folder = Path(cli.__file__).parent
    modules = [import_module(f"{cli.__name__}.{f.stem}") for f in folder.glob("*.py")]
    found = {c.name for m in modules for c in getattr(m, "COMMANDS", ())}
    assert found == set(cli.every_command())


def test_who_asks_for_the_version_waits_for_nothing_else() -> None:
    """Nor does who mistypes a command: libraries are loaded by those who use them."""
    code = (
        "import sys, click; from sse_recorder.cli import commands\n"
        "assert commands.get_command(click.Context(commands), 'x') is None\n"
        "print([m for m in ('duckdb', 'pyarrow', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["", *sorted(cli.every_command())])
def test_help_fits_80_columns_and_has_examples(name: str) -> None:
    """An example stands in a line of its own, to be copied."""
    done = CliRunner().invoke(
        cli.commands, [*name.split(), "-h"], prog_name=cli.PROGRAM, terminal_width=80
    )
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(f"  sse-recorder {name}") for line in lines)
    assert "\\b" not in done.output


def test_every_option_of_a_command_can_be_set() -> None:
    """Names in a file are those of the options, whatever their functions call them."""
    found = {n: {s.name for s in of} for n, of in cli.every_setting().items()}
    assert found["record"] == {
        *("upstream", "route", "listen", "store", "tag", "workers", "admin"),
        *("on-write-error", "on-client-abort", "grace", "ca-file"),
        *("upstream-timeout", "fault", "seed"),
        *("redact", "redact-keep", "redact-pattern"),
        *("propagate", "expose-ids", "semconv", "otel-compat", "otel-http-spans"),
        "otel-stream-events",
        *("max-connections", "max-head", "max-headers", "head-timeout", "idle-timeout"),
        *("queue-bytes", "segment-bytes", "segment-age"),
    }
    assert found["query"] == {"store", "format", "explain-schema"}
    shared = {s.name for s in cli.every_setting()["export"] if s.is_shared}
    assert shared == {"store"}


# What is set, from the weakest to the strongest, and which of them counts.
TOML = 'store = "{0}"\nformat = "{1}"\n'
PYPROJECT = '[tool.sse-recorder]\nstore = "{0}"\n[tool.sse-recorder.ls]\nformat="{1}"\n'


@pytest.mark.parametrize("name", [config.FILE, "pyproject.toml"])
def test_flag_goes_before_environment_before_file_before_default(
    tmp_path: Path, name: str
) -> None:
    """Each source is looked at only where those above it say nothing."""
    store = make_store(tmp_path)
    text = TOML if name == config.FILE else PYPROJECT
    file = tmp_path / name

    def is_json_of_two(*args: str, **variables: str) -> bool:
        done = run_command("ls", *args, cwd=tmp_path, env=environment(**variables))
        assert done.returncode == 0, done.stderr
        return done.stdout.startswith("[") and len(json.loads(done.stdout)) == 2

    assert not is_json_of_two()
    store.rename(tmp_path / "elsewhere")
    file.write_text(text.format("elsewhere", "json"), encoding="utf-8")
    assert is_json_of_two()
    file.write_text(text.format("none", "csv"), encoding="utf-8")
    variables = {"SSE_RECORDER_STORE": "elsewhere", "SSE_RECORDER_FORMAT": "json"}
    assert is_json_of_two(**variables)
    variables = {"SSE_RECORDER_STORE": "none", "SSE_RECORDER_FORMAT": "csv"}
    assert is_json_of_two("--store", "elsewhere", "--format", "json", **variables)
