"""`demo`, run as a new user runs it."""

from __future__ import annotations

import shlex
from pathlib import Path

from support import command, environment, run_command

from sse_recorder.cli import demo
from sse_recorder.clock import MONOTONIC_NS
from sse_recorder.exchange import Outcome
from sse_recorder.store.store import Store

DEAD_PROXY = "http://127.0.0.1:1"


def test_the_demo_works_offline_and_so_do_the_commands_that_it_names(
    tmp_path: Path,
) -> None:
    """Twice in one store, with a space in its name and a proxy in the environment."""
    env = environment(
        HTTP_PROXY=DEAD_PROXY, ALL_PROXY=DEAD_PROXY, HTTPS_PROXY=DEAD_PROXY
    )
    began_ns = MONOTONIC_NS()
    outputs = []
    for count in (1, 2):
        done = run_command("demo", "--store", "my store", cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert "bytes identical; lateness n=" in done.stdout
        assert done.stderr.splitlines() == [
            "Recording four chats …",
            "Replaying them at their pace …",
        ]
        outputs.append(done.stdout)
        with Store.open(tmp_path / "my store") as store:
            exchanges = list(store.exchanges())
            assert len(exchanges) == count * len(demo.CITIES)
            assert {x.outcome for x in exchanges} == {Outcome.COMPLETE}
            assert {x.tool_call_count for x in exchanges} == {3}
    assert MONOTONIC_NS() - began_ns < 2 * 20 * 1_000_000_000
    # The second run reports on its own chats alone.
    for text in outputs:
        (line,) = (x for x in text.splitlines() if x.startswith("search_flights"))
        assert line.split()[1:3] == ["4", "4"]  # calls, ok
    assert not list(tmp_path.rglob("*.arrows"))
    show, query, record = outputs[1].partition("Try next\n")[2].splitlines()

    done = run_command(*shlex.split(show)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "search_flights" in done.stdout
    done = run_command(*shlex.split(query)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert any(line.split() == ["tool_call", "24"] for line in done.stdout.splitlines())
    with command(*shlex.split(record)[1:], cwd=tmp_path) as run:
        assert run.url.startswith("http://127.0.0.1:")
        assert run.stop() == 0
