"""`rebuild`, as a process on real stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from samples import called, meibel_exchange, returned, said
from store.rebuild.rebuilding import chance, inodes, problems, recorded, spoil, stored
from support import environment, run_command

from sse_recorder.store.segment import Layout

DEMO = Path(__file__).parents[2] / "recordings" / "demo.sse.jsonl"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a store of which everything is told wrongly."""
    events = [called(20, "a", "search"), returned(40, "a"), said(60, "Hi")]
    exchanges = [meibel_exchange(events, number=n) for n in (1, 2)]
    return recorded(tmp_path / "recordings", exchanges, chance(1))


def test_it_says_what_it_changed_and_what_it_would(root: Path) -> None:
    """A dry run changes nothing; both print the same rows, with counts."""
    before = stored(root)
    spoil(root, chance(5), rate=1)
    there = inodes(root)
    options = ("--store", str(root), "--format", "json")
    dry = run_command("rebuild", "--dry-run", *options, cwd=root)
    assert dry.returncode == 0
    assert inodes(root) == there
    assert "would change" in dry.stderr
    rows = json.loads(dry.stdout)
    assert {tuple(row) for row in rows} == {("column", "before", "after", "count")}
    assert "frames.kind" in {row["column"] for row in rows}
    real = run_command("rebuild", *options, cwd=root)
    assert (real.returncode, real.stdout) == (0, dry.stdout)
    assert "2 exchanges changed" in real.stderr
    assert stored(root) == before
    again = run_command("rebuild", "--store", str(root), cwd=root)
    assert (again.returncode, again.stdout) == (0, "")
    assert "0 exchanges changed, in 0 segments" in again.stderr
    assert problems(root) == []


def test_what_is_left_is_told(root: Path) -> None:
    """With the reason; a segment that cannot be read makes it exit with 1."""
    layout = Layout(root)
    *_, name = layout.sealed_names()
    layout.table(name, "frames").write_bytes(b"PAR1")
    run = run_command("rebuild", "--store", str(root), cwd=root)
    assert run.returncode == 1
    assert f"{name}.parquet: it cannot be read" in run.stderr
    assert "Traceback" not in run.stderr


def test_of_cassettes_there_is_nothing_to_rebuild(tmp_path: Path) -> None:
    """Nor of a folder of them; that is said, and is no error."""
    folder = tmp_path / "cassettes"
    folder.mkdir()
    shutil.copy(DEMO, folder)
    for source in (DEMO, folder):
        run = run_command("rebuild", "--store", str(source), cwd=folder)
        assert (run.returncode, run.stdout) == (0, "")
        assert "nothing to rebuild in a cassette" in " ".join(run.stderr.split())


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    """In one line."""
    run = run_command("rebuild", "--store", str(tmp_path), cwd=tmp_path)
    assert run.returncode == 3
    assert run.stderr.count("\n") == 1


def test_it_can_be_set_to_run_dry(root: Path) -> None:
    """By a variable of its own."""
    spoil(root, chance(5), rate=1)
    there = inodes(root)
    variables = environment(SSE_RECORDER_REBUILD_DRY_RUN="1")
    run = run_command("rebuild", "--store", str(root), cwd=root, env=variables)
    assert "would change" in run.stderr
    assert inodes(root) == there
