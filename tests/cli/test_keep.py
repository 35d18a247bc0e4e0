"""`export`, `verify` and `recover`, as processes on real stores."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from cli.held import FIRST, held_upstream
from samples import CHAT, exchange_id, meibel_exchange, said, store_with
from support import (
    PATIENCE_S,
    PROGRAM,
    command,
    environment,
    run_command,
    until_on_disk,
)

from sse_recorder.background import running
from sse_recorder.demo import AgentServer
from sse_recorder.exchange import Outcome
from sse_recorder.store.store import Store

BODY_1 = b'event: partial_response\ndata: {"data": {"message": "one"}}\n\n'
BODY_2 = BODY_1.replace(b"one", b"two")


def make_store(folder: Path) -> Path:
    """Make the store `recordings`: two exchanges that are over, and an open one."""
    return store_with(
        folder,
        [
            meibel_exchange([said(20, "one")], number=1),
            meibel_exchange([said(20, "two")], number=2),
            meibel_exchange([said(20, "three")], number=3, ended_ms=None),
        ],
    )


def export(folder: Path, *args: str) -> bytes:
    """Return what `export` writes to stdout."""
    done = subprocess.run(
        [*PROGRAM, "export", *args],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=True,
    )
    return done.stdout


def heads(text: bytes) -> list[str]:
    """Return the ids of the exchanges of a cassette."""
    values = [json.loads(line) for line in text.splitlines()]
    return [value["exchange_id"] for value in values if "request" in value]


def chat(url: str, session: str) -> bytes:
    """Return what an agent, or a replay of it, answers."""
    path = f"{url}/v2/sessions/{session}/chat/stream"
    answer = httpx.post(path, json={"user_message": "Hi"}, trust_env=False, timeout=30)
    assert answer.status_code == 200
    return answer.content


@pytest.mark.parametrize("options", [(), ("--format", "raw")])
def test_what_is_exported_can_be_read_by_its_owner_alone(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Also where a file that others could read is replaced, which a link may name."""
    make_store(tmp_path)
    old, new, link = (tmp_path / name for name in ("old", "new", "link"))
    old.write_text("old\n" * 9_999, encoding="utf-8")
    old.chmod(0o644)
    link.symlink_to(old)
    for path in (link, new):
        done = run_command("export", "-o", path.name, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes() == export(tmp_path, *options)
    assert link.is_symlink()
    assert {x.name for x in tmp_path.iterdir()} == {"old", "new", "link", "recordings"}


def test_an_export_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """It is replaced when all is written, and nothing is left beside it."""
    store = make_store(tmp_path)
    (chunks,) = (store / "chunks").rglob("*.parquet")
    chunks.write_bytes(chunks.read_bytes()[:-20] + b"x" * 20)
    (tmp_path / "old").write_text("old", encoding="utf-8")
    assert run_command("export", "-o", "old", cwd=tmp_path).returncode == 3
    assert (tmp_path / "old").read_text(encoding="utf-8") == "old"
    assert {x.name for x in tmp_path.iterdir()} == {"old", "recordings"}


def test_a_cassette_can_be_exported_onto_itself(tmp_path: Path) -> None:
    """What is read is not what is being written."""
    make_store(tmp_path)
    run_command("export", "-o", "chat.sse.jsonl", cwd=tmp_path)
    before = (tmp_path / "chat.sse.jsonl").read_bytes()
    again = ("export", "--store", "chat.sse.jsonl", "-o", "chat.sse.jsonl")
    assert run_command(*again, cwd=tmp_path).returncode == 0
    assert (tmp_path / "chat.sse.jsonl").read_bytes() == before


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """`-o /dev/stdout` is the same as no -o."""
    make_store(tmp_path)
    done = run_command("export", "-o", "/dev/stdout", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.encode() == export(tmp_path)


def test_what_is_exported_is_replayed_byte_for_byte(tmp_path: Path) -> None:
    """A cassette holds all that a client gets, and so does a raw body."""
    sessions = ("one", "two")
    with (
        running(AgentServer()) as agent,
        command("record", "--upstream", agent.url, cwd=tmp_path) as run,
    ):
        with ThreadPoolExecutor(2) as pool:
            live = dict(
                zip(sessions, pool.map(partial(chat, run.url), sessions), strict=True)
            )
        assert run.stop() == 0
    done = run_command("export", "-o", "chat.sse.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Wrote 2 exchanges to chat.sse.jsonl.\n"
    assert export(tmp_path) == (tmp_path / "chat.sse.jsonl").read_bytes()
    with command("replay", "chat.sse.jsonl", "--speed", "max", cwd=tmp_path) as run:
        assert {session: chat(run.url, session) for session in sessions} == live
        assert run.stop() == 0
    raw = export(tmp_path, "--format", "raw")
    assert raw in {live["one"] + live["two"], live["two"] + live["one"]}
    # A cassette of a cassette is the same file.
    assert export(tmp_path, "--store", "chat.sse.jsonl") == export(tmp_path)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), [1, 2]),
        ((exchange_id(2),), [2]),
        ((exchange_id(2)[-12:], exchange_id(1)[-12:]), [2, 1]),
    ],
    ids=["all that are over", "a whole id", "ends, in their order"],
)
def test_ids_choose_what_is_exported(
    tmp_path: Path, args: Sequence[str], expected: Sequence[int]
) -> None:
    """Each once, in the order of the ids; without one, all but those still open."""
    make_store(tmp_path)
    bodies = {1: BODY_1, 2: BODY_2}
    assert heads(export(tmp_path, *args)) == [exchange_id(n) for n in expected]
    raw = export(tmp_path, *args, "--format", "raw")
    assert raw == b"".join(bodies[n] for n in expected)


@pytest.mark.parametrize("args", [(), ("-o", "out")], ids=["stdout", "file"])
def test_nothing_to_export_is_said(tmp_path: Path, args: Sequence[str]) -> None:
    """An empty file would be a riddle; it is no error either."""
    open_one = meibel_exchange([said(20, "Hi")], ended_ms=None)
    store_with(tmp_path, [open_one])
    done = run_command("export", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "No exchange is over yet, so there is nothing to export.\n"
    assert not (tmp_path / "out").exists()


def test_export_and_rows_have_formats_of_their_own(tmp_path: Path) -> None:
    """`SSE_RECORDER_FORMAT` is for rows; export's is named after it."""
    make_store(tmp_path)
    env = environment(SSE_RECORDER_FORMAT="json")
    done = run_command("export", exchange_id(1), cwd=tmp_path, env=env)
    assert heads(done.stdout.encode()) == [exchange_id(1)]
    env = environment(SSE_RECORDER_EXPORT_FORMAT="raw")
    done = run_command("export", exchange_id(1), cwd=tmp_path, env=env)
    assert done.stdout.encode() == BODY_1


def test_recover_seals_what_a_killed_recorder_left(tmp_path: Path) -> None:
    """What had ended is whole, what was open is kept as far as it went."""
    root = tmp_path / "recordings"
    with (
        held_upstream() as held,
        command("record", "--upstream", held.url, cwd=tmp_path) as run,
        httpx.Client(trust_env=False) as http,
        http.stream("GET", run.url) as answer,
    ):
        chunks = answer.iter_raw()
        assert next(chunks) == FIRST
        until_on_disk(root, "chunk_count = 1")
        # Beside a living recorder there is nothing to do.
        done = run_command("recover", cwd=tmp_path)
        assert done.stdout.endswith(" is being written\n")
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
    done = run_command("recover", cwd=tmp_path)
    assert done.returncode == 0
    assert " is sealed from its journal (1 exchange, 1 of them cut)" in done.stdout
    assert not list(root.rglob("*.arrows"))
    with Store.open(root) as store:
        (exchange,) = store.exchanges()
        assert store.body(exchange.exchange_id) == FIRST
    assert exchange.outcome is Outcome.INCOMPLETE
    done = run_command("recover", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "Nothing to recover.\n")


def test_recover_leaves_what_it_does_not_know_and_exits_with_1(tmp_path: Path) -> None:
    """A file that is no journal of ours is reported, and is still there."""
    journals = make_store(tmp_path) / ".journal"
    foreign = journals / "other-01936a3e-8c00-7abc-9def-000000000000.arrows"
    foreign.write_bytes(b"something else entirely, longer than a header")
    done = run_command("recover", cwd=tmp_path)
    assert done.returncode == 1
    assert f"{foreign.stem} cannot be recovered; it is left as it is" in done.stdout
    assert foreign.exists()


def test_what_recover_found_can_be_replayed(tmp_path: Path) -> None:
    """A store whose recorder died serves what had ended as ever."""
    make_store(tmp_path)
    done = run_command("recover", cwd=tmp_path)
    assert "is sealed from its journal (1 exchange, 1 of them cut)" in done.stdout
    with command("replay", "--speed", "max", cwd=tmp_path) as run:
        assert "2 exchanges; 1 incomplete left out" in run.stderr.until("Replaying")
        answer = httpx.post(
            run.url + CHAT, json={"message": "Hello"}, trust_env=False, timeout=30
        )
        assert answer.content == BODY_1
        assert run.stop() == 0


def test_verify_says_what_it_looked_at_and_that_all_is_well(tmp_path: Path) -> None:
    """A good store, and cassettes beside it, exit with 0 and one line."""
    make_store(tmp_path)
    run_command("recover", cwd=tmp_path)
    run_command("export", "-o", "chat.sse.jsonl", cwd=tmp_path)
    done = run_command("verify", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Checked 8 files with 3 exchanges in ")
    assert done.stderr.endswith(" bytes: no problems.\n")
    done = run_command("verify", "chat.sse.jsonl", "recordings", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("Checked 9 files with 6 exchanges in ")
    done = run_command("verify", "--format", "json", cwd=tmp_path)
    assert json.loads(done.stdout) == []


def test_verify_names_what_is_broken_and_exits_with_1(tmp_path: Path) -> None:
    """One row a problem: where, what, and what to do."""
    root = make_store(tmp_path)
    run_command("recover", cwd=tmp_path)
    path = min(root.glob("frames/*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    done = run_command("verify", "--format", "jsonl", cwd=tmp_path)
    assert done.returncode == 1
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["level"], row["check"]) == ("problem", "file")
    assert tmp_path / row["file"] == path
    assert "restore" in row["remedy"]
    assert done.stderr.endswith(" 1 problem.\n")


def test_verify_warns_of_files_that_others_can_read(tmp_path: Path) -> None:
    """The recordings are whole, so it exits with 0."""
    root = make_store(tmp_path)
    run_command("recover", cwd=tmp_path)
    path = min(root.glob("frames/*/*.parquet"))
    path.chmod(0o640)
    done = run_command("verify", cwd=tmp_path)
    assert done.returncode == 0
    assert "its mode is 640" in done.stdout
    assert done.stderr.endswith(" no problems, 1 warning.\n")


def test_verify_sends_one_to_recover(tmp_path: Path) -> None:
    """What a crash left is a problem until it is mended."""
    make_store(tmp_path)
    done = run_command("verify", cwd=tmp_path)
    assert done.returncode == 1
    assert "run `sse-recorder recover`" in done.stdout
    run_command("recover", cwd=tmp_path)
    assert run_command("verify", cwd=tmp_path).returncode == 0


def test_verify_of_nothing_says_so(tmp_path: Path) -> None:
    """A mistyped name is told in one line."""
    done = run_command("verify", "absent", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr == (
        "sse-recorder: absent: no store or cassette is here; name one, or a store with"
        " --store\n"
    )
