"""The rules of a rebuild: what is told is told anew, what was recorded stays."""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making import files
from samples import (
    MS,
    called,
    chat_exchange,
    conversation,
    exchange_id,
    meibel_exchange,
    returned,
    said,
    store_with,
)
from store.rebuild.rebuilding import (
    SMALL,
    batches,
    chance,
    in_time,
    inodes,
    mixed,
    problems,
    recorded,
    spoil,
    spoil_frames,
    started_at,
    stored,
    writing,
)
from support import PATIENCE_S, PROGRAM, environment, eventually

from sse_recorder.capture.scribe import Limits
from sse_recorder.errors import StoreError
from sse_recorder.store.rebuild.plan import Difference
from sse_recorder.store.rebuild.reading import DERIVED
from sse_recorder.store.rebuild.run import rebuild
from sse_recorder.store.recovery import recover
from sse_recorder.store.segment import Layout, write_table
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS

LARGE = Limits(segment_bytes=1 << 30, segment_age_s=10**6, idle_s=10**6)


def truth(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all that dialects do not tell, whatever else a store says."""
    told = {*DERIVED, "kind"}
    return {
        table: [
            tuple(value for name, value in row.items() if name not in told)
            for row in rows
        ]
        for table, rows in stored(root).items()
        if table != "tool_calls"
    }


def changed(root: Path, table: str, change: dict[str, Any], where: str) -> None:
    """Change rows of the one segment that has them, as another version wrote them.

    Args:
        root: the store.
        table: one of its tables.
        change: the new values.
        where: the id of the exchange whose rows they are.
    """
    layout = Layout(root)
    for name in layout.sealed_names():
        path = layout.table(name, table)
        rows = pq.read_table(path, partitioning=None).cast(SCHEMAS[table]).to_pylist()
        wrong = [r | (change if r["exchange_id"] == where else {}) for r in rows]
        if wrong != rows:
            write_table(path, table, [pa.Table.from_pylist(wrong, SCHEMAS[table])])


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
@example(0)
def test_what_was_told_wrongly_is_told_as_if_it_were_recorded_anew(seed: int) -> None:
    """Across segments and exchanges, whatever was wrong; and a second time nothing."""
    rng = chance(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = recorded(Path(folder) / "store", mixed(rng), rng)
        before = stored(root)
        assert rebuild(root, is_dry=True).differences == {}
        spoil(root, rng)
        rebuild(root, is_dry=False)
        assert stored(root) == before
        assert problems(root) == []
        there = inodes(root)
        assert rebuild(root, is_dry=False).differences == {}
        assert inodes(root) == there


def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    """Exchanges, kinds from and to, calls; the real run then says the same."""
    events = [called(20, "a", "search"), returned(40, "a"), said(60, "Hi")]
    root = store_with(tmp_path, [meibel_exchange(events), meibel_exchange(number=2)])
    one = exchange_id(1)
    changed(root, "frames", {"kind": "other"}, one)
    changed(root, "exchanges", {"dialect": None, "tool_call_count": 0}, one)
    changed(root, "tool_calls", {"status": "error"}, one)
    there = inodes(root)
    tally = rebuild(root, is_dry=True)
    assert inodes(root) == there
    assert tally.differences == {
        Difference("frames.kind", "other", "tool_call"): 1,
        Difference("frames.kind", "other", "tool_result"): 1,
        Difference("frames.kind", "other", "text"): 1,
        Difference("exchanges.dialect", "", "meibel"): 1,
        Difference("exchanges.tool_call_count"): 1,
        Difference("tool_calls", "error", "ok"): 1,
    }
    assert (tally.exchanges, tally.changed_exchanges) == (2, 1)
    assert (tally.segments, tally.changed_segments) == (1, 1)
    assert rebuild(root, is_dry=False) == tally


def test_only_files_in_which_something_changes_are_written(tmp_path: Path) -> None:
    """And they keep who may read them."""
    root = store_with(tmp_path, [meibel_exchange([said(20, "Hi")])])
    (path,) = root.glob("frames/*/*.parquet")
    changed(root, "frames", {"kind": "other"}, exchange_id(1))
    path.chmod(0o640)
    before = inodes(root)
    rebuild(root, is_dry=False)
    after = inodes(root)
    assert {name for name in after if after[name] != before[name]} == {
        str(path.relative_to(root))
    }
    assert path.stat().st_mode & 0o777 == 0o640
    assert rebuild(root, is_dry=False).changed_segments == 0


def test_what_the_stream_reported_is_told_anew_and_other_errors_stay(
    tmp_path: Path,
) -> None:
    """An error that no dialect told is of what was recorded."""
    root = store_with(
        tmp_path,
        [meibel_exchange([said(20, "Hi")], number=n) for n in (1, 2)]
        + [meibel_exchange([said(20, "Hi")], number=3, ended_ms=30)],
    )
    changed(root, "exchanges", {"error": "the stream reported: x"}, exchange_id(1))
    changed(root, "exchanges", {"error": "the disk was full"}, exchange_id(2))
    rebuild(root, is_dry=False)
    errors = {row["exchange_id"]: row["error"] for row in stored(root)["exchanges"]}
    assert errors[exchange_id(1)] is None
    assert errors[exchange_id(2)] == "the disk was full"


def test_what_cannot_be_told_here_stays(tmp_path: Path) -> None:
    """An exchange of an unknown dialect, and one of which frames are lacking."""
    root = store_with(
        tmp_path, [meibel_exchange([said(20, "Hi")], number=n) for n in (1, 2, 3)]
    )
    changed(root, "exchanges", {"dialect": "acme"}, exchange_id(1))
    changed(root, "exchanges", {"frame_count": 5}, exchange_id(2))
    changed(root, "frames", {"kind": "status"}, exchange_id(1))
    changed(root, "frames", {"kind": "status"}, exchange_id(2))
    before = inodes(root)
    tally = rebuild(root, is_dry=False)
    assert inodes(root) == before
    assert tally.left == {
        "the dialect 'acme' is not known here": 1,
        "some of its frames are not there": 1,
    }


def test_a_segment_that_is_damaged_is_told_and_stays(tmp_path: Path) -> None:
    """Whether its end or its middle is; other recorders' segments are rebuilt."""
    rng = chance(3)
    root = recorded(tmp_path, mixed(rng, 12), rng)
    other = store_with(
        tmp_path / "other", [meibel_exchange([said(20, "x")], number=99)]
    )
    spoil(root, rng)
    shutil.copytree(other, root, dirs_exist_ok=True)
    changed(root, "frames", {"kind": "status"}, exchange_id(99))
    path = next(
        p for p in root.glob("frames/*/r-*.parquet") if p.stat().st_size > 2_000
    )
    data = bytearray(path.read_bytes())
    data[100:110] = bytes(10)
    path.write_bytes(data)
    before = inodes(root)
    tally = rebuild(root, is_dry=False)
    after = inodes(root)
    (problem,) = tally.problems
    assert path.stem in problem
    assert {name for name in after if after[name] != before[name]} == {
        str(p.relative_to(root)) for p in root.glob("frames/*/test-*.parquet")
    }
    path.write_bytes(data[:-1])
    (problem,) = rebuild(root, is_dry=False).problems
    assert "it cannot be read" in problem


def test_a_file_of_a_later_version_is_not_written(tmp_path: Path) -> None:
    """It may have columns that would be lost."""
    root = store_with(tmp_path, [meibel_exchange([said(20, "Hi")])])
    (path,) = root.glob("frames/*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column("new", table.column("kind")), path)
    before = inodes(root)
    (problem,) = rebuild(root, is_dry=False).problems
    assert "another version" in problem
    assert inodes(root) == before


def test_files_of_an_earlier_version_are_written_as_this_one_does(
    tmp_path: Path,
) -> None:
    """With the columns that have come since, which are null."""
    events = [called(20, "a", "search"), said(60, "Hi")]
    root = store_with(tmp_path, [meibel_exchange(events)])
    before = stored(root)
    for table, column, change in (
        ("frames", "anomaly", {"kind": "other"}),
        ("exchanges", "trace_flags", {"model": "m"}),
        ("tool_calls", "span_id", {"status": "error"}),
    ):
        changed(root, table, change, exchange_id(1))
        (path,) = root.glob(f"{table}/*/*.parquet")
        pq.write_table(
            pq.read_table(path, partitioning=None).drop_columns([column]), path
        )
    assert rebuild(root, is_dry=False).problems == []
    assert stored(root) == before
    assert problems(root) == []


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    """Nothing is made there."""
    with pytest.raises(StoreError, match="nothing was recorded here"):
        rebuild(tmp_path, is_dry=False)
    assert list(tmp_path.iterdir()) == []


# --- calls that later requests answered


def calls(root: Path) -> list[tuple[object, ...]]:
    """Return the calls that the view shows, with what answered them."""
    with Store.open(root) as store:
        table = store.sql(
            "SELECT tool_id, status, timing, result_exchange_id FROM tool_calls"
            " ORDER BY exchange_id, seq"
        )
    return [tuple(row.values()) for row in table.to_pylist()]


PAIRED = [
    ("c1", "ok", "cross_request", exchange_id(12)),
    ("c2", "unanswered", "wire_bracket", None),
    ("c3", "ok", "cross_request", exchange_id(13)),
    ("c9", "unmatched", "cross_request", exchange_id(12)),
]


@pytest.mark.parametrize("limits", [SMALL, LARGE], ids=["segments", "one segment"])
def test_results_in_later_requests_are_found_anew(
    tmp_path: Path, limits: Limits
) -> None:
    """As if an older version had known nothing of tools."""
    rng = chance(1)
    root = recorded(tmp_path / "a", conversation(), rng, limits)
    before = stored(root)
    assert calls(root) == PAIRED
    layout = Layout(root)
    for name in layout.sealed_names():
        none = SCHEMAS["tool_calls"].empty_table()
        write_table(layout.table(name, "tool_calls"), "tool_calls", [none])
    tally = rebuild(root, is_dry=False)
    assert stored(root) == before
    assert tally.differences == {
        Difference("tool_calls", "", "unanswered"): 3,
        Difference("tool_calls", "", "ok"): 2,
        Difference("tool_calls", "", "unmatched"): 1,
    }
    assert problems(root) == []


def test_answers_of_an_exchange_that_is_still_open_stay(tmp_path: Path) -> None:
    """What is not sealed yet cannot be read anew, nor what it told be doubted."""
    root, rng = tmp_path / "store", chance(1)
    scribe = writing(root)
    first, second, _ = conversation()
    scribe.write([*first])
    scribe.write([*second[:-1]])
    eventually(lambda: any("c1" in str(row) for row in calls(root)))
    # Another long exchange seals what there is, while the second is open.
    scribe.write([*meibel_exchange([said(n, "x" * 900) for n in range(20, 40)])])
    eventually(lambda: Layout(root).sealed_names())
    changed(root, "tool_calls", {"tool_name": "wrong"}, exchange_id(11))
    changed(root, "frames", {"kind": "status"}, exchange_id(12))
    rebuild(root, is_dry=False)
    assert calls(root)[:2] == PAIRED[:2]
    names = {row["tool_name"] for row in stored(root)["tool_calls"]}
    assert names == {"search"}
    scribe.write([second[-1]])
    scribe.close()
    assert rebuild(root, is_dry=False).differences == {
        Difference("frames.kind", "status", "tool_call"): 1
    }
    assert (
        stored(root)["tool_calls"]
        == stored(recorded(tmp_path / "anew", conversation()[:2], rng))["tool_calls"]
    )


def test_an_answer_to_what_was_taken_away_stays(tmp_path: Path) -> None:
    """Its call cannot be read anew; that it is unmatched would be wrong."""
    first, *rest = conversation()
    root = tmp_path / "store"
    scribe = writing(root, LARGE)
    scribe.write([*first])
    scribe._roll()
    for records in rest:
        scribe.write([*records])
    scribe.close()
    layout = Layout(root)
    oldest, _ = layout.sealed_names()
    for table in SCHEMAS:
        layout.table(oldest, table).unlink()
    before = inodes(root)
    assert rebuild(root, is_dry=False).differences == {}
    assert inodes(root) == before


def test_a_result_is_not_unmatched_while_its_call_may_not_be_sealed(
    tmp_path: Path,
) -> None:
    """A recorder that lives has exchanges that the segments lack."""
    root = tmp_path / "store"
    scribe = writing(root, LARGE)
    slow = chat_exchange(11, calls=["c1"], ended_ms=900)
    scribe.write([*slow[:-1]])
    scribe.write([*chat_exchange(12, results=["c1"], at_ms=300)])
    scribe._roll()
    eventually(lambda: Layout(root).sealed_names())
    assert rebuild(root, is_dry=False).differences == {}
    scribe.write([*slow[-1:]])
    scribe.close()
    assert rebuild(root, is_dry=False).differences == {}
    assert calls(root) == [("c1", "ok", "cross_request", exchange_id(12))]


# --- beside others, and killed


def test_a_store_that_is_recorded_into_can_be_rebuilt(tmp_path: Path) -> None:
    """The recorder loses nothing, and what it wrote is told anew sooner or later."""
    rng = chance(7)
    exchanges = mixed(rng, 80)
    root = tmp_path / "store"
    scribe = writing(root)
    done = threading.Event()

    def record() -> None:
        for batch in batches(in_time(exchanges), chance(8)):
            scribe.write([*batch])
            done.wait(0.005)
        scribe.close()
        done.set()

    thread = threading.Thread(target=record)
    thread.start()
    count = 0
    while not done.is_set():
        spoil(root, rng)
        rebuild(root, is_dry=False)
        count += 1
    thread.join(PATIENCE_S)
    assert count > 1
    spoil(root, rng)
    assert rebuild(root, is_dry=False).changed_segments
    assert stored(root) == stored(recorded(tmp_path / "anew", exchanges, rng))
    assert problems(root) == []


def test_readers_that_have_a_store_open_read_on(tmp_path: Path) -> None:
    """A query whose files are replaced under it gives what it would give then."""
    rng = chance(1)
    root = recorded(
        tmp_path,
        [
            meibel_exchange(
                [said(20 + at / 100, f"{rng.random()}") for at in range(6_000)],
                number=number,
                started_at=started_at(number * 1_000),
            )
            for number in range(1, 6)
        ],
        rng,
        Limits(segment_bytes=1 << 20, segment_age_s=10**6, idle_s=10**6),
    )
    layout, over = Layout(root), threading.Event()
    versions = []
    for name in layout.sealed_names():
        path = layout.table(name, "frames")
        right = pq.read_table(path, partitioning=None).cast(SCHEMAS["frames"])
        versions.append((path, [right, spoil_frames(right, rng)]))

    def replace() -> None:
        count = 0
        while not over.is_set():
            path, tables = rng.choice(versions)
            write_table(path.with_suffix(".new"), "frames", [tables[count % 2]])
            path.with_suffix(".new").rename(path)
            count += 1

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        with Store.open(root) as store:
            for _ in range(150):
                (row,) = store.sql(
                    "SELECT count(*) AS n, sum(size) AS size, count(kind) AS kinds,"
                    " sum(length(data)) AS data FROM frames"
                ).to_pylist()
                assert row["n"] == row["kinds"] == 30_000
    finally:
        over.set()
        thread.join(PATIENCE_S)


def test_one_rebuild_runs_at_a_time(tmp_path: Path) -> None:
    """The second says so; a dry run need not wait."""
    root = store_with(tmp_path, [meibel_exchange([said(20, "Hi")])])
    waiting = (
        "import sys; from pathlib import Path\n"
        "from sse_recorder.store.rebuild.lock import only_one\n"
        "from sse_recorder.store.segment import Layout\n"
        "with only_one(Layout(Path(sys.argv[1]))):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", waiting, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreError, match="rebuilt already"):
            rebuild(root, is_dry=False)
        assert rebuild(root, is_dry=True).exchanges == 1
        process.kill()
    assert rebuild(root, is_dry=False).exchanges == 1


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file become longer, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Nothing is left of what could not be written, and the next run goes on."""
    rng = chance(2)
    root = recorded(tmp_path, mixed(rng), rng)
    before = stored(root)
    spoil(root, rng)
    wrong, there = stored(root), inodes(root)
    with (
        small_files(1_000),
        pytest.raises(StoreError, match="run `sse-recorder rebuild`"),
    ):
        rebuild(root, is_dry=False)
    assert stored(root) == wrong
    assert inodes(root) == there
    rebuild(root, is_dry=False)
    assert stored(root) == before


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from sse_recorder.store.rebuild.run import rebuild

left = int(sys.argv[2])

def heard(event, arguments):
    global left
    if event in ("open", "os.rename", "os.chmod", "os.remove") and sys.argv[1] in str(
        arguments
    ):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(heard)
rebuild(Path(sys.argv[1]), is_dry=False)
"""


def test_a_rebuild_that_is_killed_between_any_two_steps_is_finished(
    tmp_path: Path,
) -> None:
    """At each moment every exchange is there once, as it was recorded."""
    rng = chance(4)
    root = recorded(tmp_path / "right", mixed(rng, 8), rng, LARGE)
    right, recording = stored(root), truth(root)
    spoil(root, chance(6), rate=1)
    assert all(
        stored(root)[table] != right[table] for table in right if table != "chunks"
    )
    killed = 0
    while True:
        again = tmp_path / f"killed {killed}"
        shutil.copytree(root, again)
        process = subprocess.run(
            [sys.executable, "-c", KILLED_AT, str(again), str(killed + 1)],
            check=False,
            timeout=PATIENCE_S,
        )
        assert truth(again) == recording
        if killed % 2:
            recover(again)
            assert not list(again.rglob("*.rebuilt"))
        if not process.returncode:
            break
        assert process.returncode == -signal.SIGKILL
        killed += 1
        rebuild(again, is_dry=False)
        assert stored(again) == right
        assert problems(again) == []
        assert not list(again.rglob("*.rebuilt"))
    assert stored(again) == right
    assert killed > 9  # three files are opened, given their mode, and renamed


def is_writing_or_over(root: Path, rebuild: subprocess.Popen[bytes]) -> bool:
    """Tell whether a rebuild has begun to write, or has ended."""
    return any(root.glob(".journal/*.rebuilt")) or rebuild.poll() is not None


@pytest.mark.parametrize("seed", range(3))
def test_a_rebuild_that_is_killed_at_any_moment_is_finished(
    tmp_path: Path, seed: int
) -> None:
    """As a command, at random moments, again and again, until one comes to its end."""
    rng = chance(seed)
    root = recorded(tmp_path, mixed(rng, 60), rng)
    right, recording = stored(root), truth(root)
    spoil(root, rng)
    kills = 0
    while True:
        with subprocess.Popen(
            [*PROGRAM, "rebuild", "--store", root],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            if kills < 4:
                eventually(partial(is_writing_or_over, root, process))
                threading.Event().wait(rng.random() / 20)
                process.kill()
        assert truth(root) == recording
        if process.returncode == 0:
            break
        kills += 1
    assert stored(root) == right
    assert files(root).keys() == {f"{table}.parquet" for table in SCHEMAS}
    assert problems(root) == []


def test_the_time_of_a_result_is_that_of_the_next_request(tmp_path: Path) -> None:
    """The client's turnaround comes out as the recorder told it."""
    root = recorded(tmp_path, conversation(), chance(1))
    changed(root, "tool_calls", {"duration_ns": 1, "result_ns": 2}, exchange_id(11))
    rebuild(root, is_dry=False)
    (told,) = (
        row
        for row in stored(root)["tool_calls"]
        if row["result_exchange_id"] == exchange_id(12) and row["status"] == "ok"
    )
    assert (told["result_ns"], told["duration_ns"]) == (300 * MS, 250 * MS)
