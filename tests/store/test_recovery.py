"""The rules of recovery: nothing that reached a journal is lost, or there twice."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from making import SEALED, Recorder, files, in_memory, on_disk, pieces, records_of
from samples import exchange_id

from sse_recorder.errors import StoreError
from sse_recorder.exchange import Ending, Op, Outcome, Record
from sse_recorder.store import journal
from sse_recorder.store.recovery import (
    CASES,
    Decision,
    Found,
    Recovered,
    Tables,
    recover,
)
from sse_recorder.store.segment import Layout, seal
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS

CALL = (
    b'event: tool_call\ndata: {"tool_id":"t1","tool_name":"search","arguments":{}}\n\n'
)
RESULT = b'event: tool_result\r\ndata: {"tool_id":"t1","result":"x"}\r\n\r\n'
STREAM = (
    b'\xef\xbb\xbfevent: connected\rdata: {"signal_id":"s"}\r\r'
    + CALL
    + 'data: {"type":"content","text":"né 😀"}\n\n: ping\n\n'.encode()
    + b"data: \xff\r\n\r\n"
    + RESULT
    + b'event: completion\ndata: {"data":{"message":"done"}}\n\ndata: [DONE]\n\ndata: x'
)
WHOLE = records_of([STREAM])
DONE = Ending(outcome=Outcome.COMPLETE)


def torn(recorder: Recorder) -> Path:
    """Leave half a batch at the end of a recorder's journal."""
    path = recorder.segment.journal.path
    recorder.write(records_of([b"data: lost\n\n"], number=9))
    size = recorder.segment.journal.size
    recorder.die()
    path.write_bytes(path.read_bytes()[: size - 30])
    return path


# Every state of a journal, as something that happened.
def no_journal(recorder: Recorder) -> None:
    """Delete it."""
    recorder.segment.journal.remove()


def only_parts(recorder: Recorder) -> None:
    """Delete it while it is being sealed."""
    no_journal(recorder)
    leave_part(recorder)


def held_journal(recorder: Recorder) -> None:
    """Go on writing."""
    recorder.write(WHOLE)


def empty_journal(recorder: Recorder) -> None:
    """Die before anything was written whole."""
    torn(recorder)


def whole_journal(recorder: Recorder) -> None:
    """Die within a batch."""
    recorder.write(WHOLE)
    torn(recorder)


def damaged_journal(recorder: Recorder) -> None:
    """Change what follows the first batch."""
    recorder.write(WHOLE)
    path = recorder.segment.journal.path
    sound = path.stat().st_size
    recorder.segment.journal.append(records_of([b"data: lost\n\n"], number=9))
    recorder.die()
    data = bytearray(path.read_bytes())
    data[sound + 20] ^= 0xFF
    path.write_bytes(data)


def foreign_journal(recorder: Recorder) -> None:
    """Put something else in its place."""
    recorder.die()
    recorder.segment.journal.path.write_bytes(b"not ours")


JOURNALS: dict[Found, Callable[[Recorder], None]] = {
    Found.ABSENT: no_journal,
    Found.PARTS: only_parts,
    Found.HELD: held_journal,
    Found.EMPTY: empty_journal,
    Found.BATCHES: whole_journal,
    Found.DAMAGED: damaged_journal,
    Found.FOREIGN: foreign_journal,
}


def leave_part(recorder: Recorder) -> None:
    """Die while a file is written."""
    part = recorder.layout.part(recorder.segment.name, "chunks")
    part.write_bytes(b"half a file")


def leave_tables(recorder: Recorder, tables: Tables) -> None:
    """Put the files of a segment as far into place as a seal had come."""
    layout, name = recorder.layout, recorder.segment.name
    if tables is not Tables.NONE:
        filled = Recorder(layout.root.parent / "other")
        filled.write(WHOLE)
        filled.die()
        seal(layout, name, filled.segment.batches)
    if tables is Tables.SOME:
        layout.table(name, "exchanges").unlink()
        layout.table(name, "tool_calls").unlink()


def test_the_table_of_cases_is_exhaustive() -> None:
    """Each combination of journal and tables has a decision, each decision a case."""
    assert set(CASES) == set(product(Found, Tables))
    assert set(CASES.values()) == set(Decision)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case[0].name}-{case[1].name}"
)
def test_each_case_on_disk(tmp_path: Path, case: tuple[Found, Tables]) -> None:
    """What a restart finds is told apart, and dealt with as the table says, once."""
    found, tables = case
    decision = CASES[case]
    recorder = Recorder(tmp_path / "store")
    name = recorder.segment.name
    JOURNALS[found](recorder)
    leave_tables(recorder, tables)
    if found is not Found.ABSENT and tables is not Tables.NONE:
        leave_part(recorder)
    before = files(recorder.layout.root)
    done = recover(recorder.layout.root)
    after = files(recorder.layout.root)
    is_settled = decision in {Decision.LEAVE, Decision.KEEP, Decision.REPORT}
    if decision is Decision.KEEP:
        assert done == []
    else:
        count = int(decision in {Decision.SEAL, Decision.SALVAGE})
        assert done == [Recovered(name, decision, count, 0)]
    if is_settled:
        assert after == before
    elif decision is Decision.DISCARD:
        assert after == {}
    else:
        kept = {".journal.damaged": 1} if decision is Decision.SALVAGE else {}
        assert after == SEALED | kept
        assert on_disk(recorder.layout.root) == in_memory(WHOLE)
    assert recover(recorder.layout.root) == (
        done if decision in {Decision.LEAVE, Decision.REPORT} else []
    )
    assert files(recorder.layout.root) == after
    recorder.die()


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_seal_that_was_killed_at_any_step_is_finished(
    tmp_path: Path, table: str
) -> None:
    """Whichever files had come into place, the segment is whole afterwards."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE)
    recorder.die()
    layout, name = recorder.layout, recorder.segment.name
    seal(layout, name, recorder.segment.batches)
    order = list(SCHEMAS)
    for later in order[order.index(table) :]:
        layout.table(name, later).rename(layout.part(name, later))
    recover(tmp_path)
    assert files(tmp_path) == SEALED
    assert on_disk(tmp_path) == in_memory(WHOLE)


def test_what_was_open_is_incomplete_and_keeps_its_bytes(tmp_path: Path) -> None:
    """A killed recorder's open exchanges say so, with every byte that had come."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE[:-1])
    recorder.die()
    assert [(r.exchanges, r.cut) for r in recover(tmp_path)] == [(1, 1)]
    tables = on_disk(tmp_path)
    (exchange,) = tables["exchanges"]
    assert exchange["outcome"] == Outcome.INCOMPLETE
    assert "killed" in exchange["error"]
    assert exchange["response_size"] == len(STREAM)
    assert exchange["ended_ns"] == WHOLE[-2].at_ns
    assert sum(frame["size"] for frame in tables["frames"]) == len(STREAM)
    assert tables["frames"][-1]["raw"] == b"data: x"


def test_what_was_never_opened_is_passed_over(tmp_path: Path) -> None:
    """Records whose opening was lost on a full queue do not stop a recovery."""
    recorder = Recorder(tmp_path)
    recorder.segment.journal.append(records_of([STREAM], number=2)[1:])
    recorder.segment.journal.append(WHOLE)
    recorder.die()
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(WHOLE)


def test_a_recorder_that_died_before_it_carried_over_loses_nothing(
    tmp_path: Path,
) -> None:
    """A journal that was only begun does not keep what was open before from its end."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE[:-1])
    recorder.roll(seal=False, carry=False)
    recorder.die()
    decisions = [r.decision for r in recover(tmp_path)]
    assert decisions == [Decision.SEAL, Decision.DISCARD]
    assert on_disk(tmp_path) == in_memory(WHOLE[:-1])


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_segment_whose_seal_failed_does_not_end_what_went_on(
    tmp_path: Path, *, is_dead: bool
) -> None:
    """An exchange that a later segment has whole is not ended by an earlier journal."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE[:4])
    recorder.roll(seal=False)
    recorder.write(WHOLE[4:])
    recorder.roll()
    if is_dead:
        recorder.die()
    else:
        recorder.unsealed[0].journal.close()
    decisions = [r.decision for r in recover(tmp_path)]
    assert decisions == [
        Decision.SEAL,
        Decision.DISCARD if is_dead else Decision.LEAVE,
    ]
    assert on_disk(tmp_path) == in_memory(WHOLE)
    recorder.die()


def test_a_living_recorder_is_not_disturbed(tmp_path: Path) -> None:
    """Beside a recorder that writes, recovery seals what another one left."""
    living, dead = Recorder(tmp_path, "living"), Recorder(tmp_path, "dead")
    living.write(records_of([STREAM], number=2)[:-1])
    dead.write(WHOLE)
    dead.die()
    assert {r.segment[:4]: r.decision for r in recover(tmp_path)} == {
        "dead": Decision.SEAL,
        "livi": Decision.LEAVE,
    }
    assert on_disk(tmp_path) == in_memory(WHOLE)
    living.write(records_of([STREAM], number=2)[-1:])
    living.roll()
    living.die()
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory([*WHOLE, *records_of([STREAM], number=2)])


def test_what_follows_a_held_journal_is_left_to_its_holder(tmp_path: Path) -> None:
    """While one recovery has the first journal of a recorder, another takes none."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE[:4])
    recorder.roll(seal=False)
    recorder.write(WHOLE[4:])
    recorder.die()
    with journal.claim(recorder.unsealed[0].journal.path) as is_ours:
        assert is_ours
        assert [r.decision for r in recover(tmp_path)] == [Decision.LEAVE] * 2
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(WHOLE)


# What a stream is made of, and what can be cut in it: each kind of line end, a
# character of several bytes, a call and its result, bytes that are no text.
PIECES = st.sampled_from(
    [CALL, RESULT, STREAM, b"data: a\r\r", b": x\r\n\r\n", "data: 😀é\n\n".encode()]
) | st.binary(max_size=6)
STREAMS = st.lists(PIECES, min_size=1, max_size=5).map(b"".join)
PLACES = st.sets(st.integers(1, 500), max_size=12)
# After each batch: nothing, a roll whose segment is sealed, one whose seal fails.
STEPS = st.lists(st.sampled_from(["", "", "", "", "seal", "fail"]), max_size=12)


def interleaved(streams: Sequence[bytes], places: Sequence[set[int]]) -> list[Record]:
    """Return the records of exchanges that run at the same time, all of them ended."""
    found = [
        record
        for number, (stream, cuts) in enumerate(zip(streams, places, strict=True))
        for record in records_of(pieces(stream, cuts), number=number)
    ]
    return sorted(found, key=lambda record: record.at_ns)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(STREAMS, STREAMS), st.tuples(PLACES, PLACES), STEPS, st.integers(0, 40)
)
@example((STREAM, b""), (set(range(0, 400, 25)), set()), ["fail", "seal"] * 6, 40)
@example((STREAM, b""), (set(range(0, 400, 25)), set()), ["seal"] * 12, 40)
@example((STREAM, b""), (set(range(0, 400, 25)), set()), ["fail"] * 9, 17)
def test_any_rolls_and_any_kill_give_the_rows_of_an_uninterrupted_run(
    streams: tuple[bytes, bytes],
    places: tuple[set[int], set[int]],
    steps: list[str],
    kill: int,
) -> None:
    """However a stream was cut, rolled over and killed, its rows are the same."""
    records = interleaved(streams, places)[: kill + 8]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        recorder = Recorder(root)
        for number, step in enumerate(steps):
            recorder.write(records[number * 3 : number * 3 + 3])
            if step:
                recorder.roll(seal=step == "seal")
        recorder.write(records[len(steps) * 3 :])
        recorder.die()
        recover(root)
        assert on_disk(root) == in_memory(records)
        assert not list(Layout(root).journals.iterdir())


@pytest.mark.parametrize("place", range(1, len(STREAM), 7))
def test_a_roll_at_any_byte_changes_nothing(tmp_path: Path, place: int) -> None:
    """A roll in a BOM, a CRLF, a character or a frame is not seen in the rows."""
    records = records_of(pieces(STREAM, [place]))
    recorder = Recorder(tmp_path)
    recorder.write(records[:5])
    recorder.roll()
    recorder.write(records[5:])
    recorder.die()
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)


def test_a_body_that_is_no_stream_survives_a_roll(tmp_path: Path) -> None:
    """A JSON answer that was cut by a roll is one frame, with the times of its ends."""
    json = (("content-type", "application/json"),)
    body = [b'{"usage":', b'{"input_tokens":3,', b'"output_tokens":5}}']
    records = records_of(body, headers=json)
    recorder = Recorder(tmp_path)
    recorder.write(records[:6])
    recorder.roll()
    recorder.write(records[6:7])
    recorder.roll()
    recorder.write(records[7:])
    recorder.die()
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)
    assert on_disk(tmp_path)["exchanges"][0]["output_tokens"] == 5


def test_recoveries_at_the_same_time_do_it_once(tmp_path: Path) -> None:
    """Several at once neither lose nor double anything, over many recorders."""
    expected = []
    for number in range(6):
        records = records_of(pieces(STREAM, range(0, 400, 40)), number=number)
        recorder = Recorder(tmp_path, f"r{number}")
        for start in range(0, len(records), 4):
            recorder.write(records[start : start + 4])
            recorder.roll(seal=False)
        recorder.die()
        expected += records
    done: list[Recovered] = []
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        done.extend(recover(tmp_path))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert on_disk(tmp_path) == in_memory(expected)
    assert not list(Layout(tmp_path).journals.iterdir())
    assert sum(r.exchanges for r in done) == 6
    sealed = [r.segment for r in done if r.decision is Decision.SEAL]
    assert len(sealed) == len(set(sealed))


def test_recovering_processes_do_it_once(tmp_path: Path) -> None:
    """The same holds for processes, as when several recorders are started at once."""
    recorder = Recorder(tmp_path)
    records = records_of(pieces(STREAM, range(0, 400, 10)))
    for start in range(0, len(records), 2):
        recorder.write(records[start : start + 2])
        recorder.roll(seal=False)
    recorder.die()
    code = (
        "import sys; from pathlib import Path;"
        "from sse_recorder.store.recovery import recover;"
        "sys.stdin.read(); recover(Path(sys.argv[1]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert on_disk(tmp_path) == in_memory(records)
    assert not list(Layout(tmp_path).journals.iterdir())


def test_a_recovery_that_fails_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one recovery sealed before the disk was full, the next one builds on."""
    recorder = Recorder(tmp_path)
    records = records_of(pieces(STREAM, range(0, 400, 40)))
    for start in range(0, len(records), 4):
        recorder.write(records[start : start + 4])
        recorder.roll(seal=False)
    recorder.die()
    fsync, times = os.fsync, iter(range(99))

    def full(fd: int) -> None:
        if next(times) == 6:  # in the second of the segments
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left.*run `sse-recorder recover`"):
        recover(tmp_path)
    assert len(Layout(tmp_path).sealed_names()) == 1
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)
    assert not list(Layout(tmp_path).journals.iterdir())


def test_foreign_files_are_not_touched(tmp_path: Path) -> None:
    """What is not named as our files are is nobody's business here."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE)
    recorder.roll()
    recorder.die()
    recover(tmp_path)
    later = "x-ffffffff-ffff-7fff-8fff-ffffffffffff"
    for name in (
        "chunks/date=2026-11-23/notes.parquet",
        f"frames/date=x/{later}.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".journal" / "notes.arrows").write_bytes(b"mine")
    assert recover(tmp_path) == []
    assert (tmp_path / ".journal" / "notes.arrows").exists()
    assert on_disk(tmp_path) == in_memory(WHOLE)


def test_a_damaged_file_of_an_earlier_segment_says_which(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the frames before a roll cannot be read, the log has the file's name."""
    recorder = Recorder(tmp_path)
    recorder.write(WHOLE[:-1])
    recorder.roll()
    recorder.die()
    (path,) = tmp_path.glob("frames/*/*.parquet")
    path.write_bytes(b"damaged")
    name = recorder.segment.name
    assert recover(tmp_path) == [Recovered(name, Decision.REPORT)]
    assert f"{path}: cannot be read" in caplog.text
    assert "move it away or restore it" in caplog.text
    assert Layout(tmp_path).journal_names() == [name]


def test_a_damaged_journal_stops_no_other_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is before the damage is recovered, what goes on after it goes on."""
    first, second = Recorder(tmp_path, "a"), Recorder(tmp_path, "b")
    ended, over = records_of([STREAM], number=2), records_of([STREAM], number=3)
    first.write(WHOLE[:5])
    first.write(ended[:-1])
    first.write(over)
    sound = first.segment.journal.size
    first.write(ended[-1:])
    first.roll(seal=False)
    first.write(WHOLE[5:])
    first.die()
    second.write(records_of([STREAM], number=4))
    second.die()
    path = first.unsealed[0].journal.path
    data = bytearray(path.read_bytes())
    data[data.index(b"complete", sound)] ^= 0xFF
    path.write_bytes(data)
    decisions = [r.decision for r in recover(tmp_path)]
    assert decisions == [Decision.SALVAGE, Decision.SEAL, Decision.SEAL]
    found = {e["exchange_id"]: e for e in on_disk(tmp_path)["exchanges"]}
    assert {eid: e["outcome"] for eid, e in found.items()} == {
        exchange_id(1): "complete",
        exchange_id(2): "incomplete",
        exchange_id(3): "complete",
        exchange_id(4): "complete",
    }
    assert "its journal is damaged" in found[exchange_id(2)]["error"]
    assert caplog.text.count(f"{path}: it is damaged") == 1
    assert recover(tmp_path) == []
    assert path.with_suffix(".damaged").read_bytes() == data


@pytest.mark.parametrize(
    "start", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (7, 14))]
)
def test_whatever_byte_is_changed_the_rest_is_recovered(
    tmp_path: Path, start: int
) -> None:
    """No damage to one recorder's journal keeps another's from being recovered."""
    recorder = Recorder(tmp_path / "made", "a")
    recorder.write(WHOLE[:5])
    recorder.roll(seal=False)
    recorder.write(WHOLE[5:])
    recorder.die()
    whole = recorder.segment.journal.path.read_bytes()
    for place in range(start, len(whole), 61):
        root = tmp_path / str(place)
        other = Recorder(root, "b")
        other.write(records_of([STREAM], number=4))
        other.die()
        data = bytearray(whole)
        data[place] ^= 0x55
        name = recorder.segment.journal.path.name
        (root / ".journal" / name).write_bytes(data)
        with Store.open(root) as store:
            assert store.exchange(exchange_id(4)).outcome == "complete"
        recover(root)
        found = {e["exchange_id"] for e in on_disk(root)["exchanges"]}
        assert exchange_id(4) in found


def test_nothing_to_recover_is_nothing_done(tmp_path: Path) -> None:
    """A folder without recordings, or one that is not there, is no error."""
    assert recover(tmp_path) == []
    assert recover(tmp_path / "nowhere") == []


def test_an_exchange_that_ends_with_the_roll_is_not_carried(tmp_path: Path) -> None:
    """The end of an exchange in one journal is its end in the next one too."""
    recorder = Recorder(tmp_path)
    recorder.write([*WHOLE, *records_of([STREAM], number=2)[:-1]])
    recorder.roll(seal=False)
    recorder.write([Record(exchange_id(2), Op.END, 10**9, DONE)])
    recorder.die()
    assert [(r.exchanges, r.cut) for r in recover(tmp_path)] == [(1, 0), (1, 0)]


def big(number: int = 1, pieces_: int = 40) -> list[Record]:
    """Return an exchange with a request body of 64 KiB pieces, too long for memory."""
    records = records_of([b"data: 1\n\n", b"data: 2\n\n"], number=number)
    body = [
        Record(records[0].exchange_id, Op.REQUEST_DATA, 0, bytes([n]) * (1 << 16))
        for n in range(pieces_)
    ]
    return [records[0], *body, *records[2:]]


@pytest.mark.parametrize("steps", list(product(("stay", "seal", "fail"), repeat=2)))
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_long_request_body_survives_rolls_and_kills(
    tmp_path: Path, steps: tuple[str, str], *, is_killed: bool
) -> None:
    """It is carried over in pieces, and its cell has it whole."""
    records = sorted([*big(1), *big(2, 3)], key=lambda record: record.op)
    recorder = Recorder(tmp_path)
    parts = (records[:30], records[30:50], records[50:])
    for step, part in zip(("stay", *steps), parts, strict=True):
        if step != "stay":
            recorder.roll(seal=step == "seal")
        recorder.write(part)
    if is_killed:
        recorder.die()
    else:
        for segment in (*recorder.unsealed, recorder.segment):
            segment.seal()
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)
    assert not list(Layout(tmp_path).journals.iterdir())


@pytest.mark.parametrize("place", ["begun", "whole"])
def test_a_recorder_that_died_while_it_carried_over_loses_nothing(
    tmp_path: Path, place: str
) -> None:
    """A journal with a part of what is open is not taken for one."""
    records = [*big(1)[:-1], *big(2)[:-1]]
    recorder = Recorder(tmp_path)
    recorder.write(records)
    recorder.roll(seal=False)
    recorder.die()
    path = recorder.segment.journal.path
    data = path.read_bytes()
    if place == "begun":
        path.rename(recorder.layout.carry(recorder.segment.name))
        recorder.layout.carry(recorder.segment.name).write_bytes(data[: len(data) // 2])
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)
    assert not list(Layout(tmp_path).journals.iterdir())


FULL_DISK = """
import resource, sys
from pathlib import Path
from sse_recorder.errors import StoreError
from sse_recorder.store.recovery import recover
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    recover(Path(sys.argv[1]))
except StoreError as error:
    sys.exit(f"said: {error}")
"""


@pytest.mark.parametrize("limit", [0, 100, 2_000, 10_000, 2_000_000])
def test_a_full_disk_at_recovery_loses_nothing(tmp_path: Path, limit: int) -> None:
    """It is one clear error; with room again, everything is recovered."""
    recorder = Recorder(tmp_path)
    # What no compression makes small.
    noise = random.Random(1).randbytes(1_900_000)  # noqa: S311 - the same each time
    records = [*big(1), *records_of([noise], number=2, headers=())]
    recorder.write(records)
    recorder.die()
    before = files(tmp_path)
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # noqa: PLW1510 - it is to fail
    assert done.returncode == 1
    assert done.stderr.startswith("said: ")
    assert "File too large; make the store writable and run `sse-rec" in done.stderr
    assert files(tmp_path) == before
    recover(tmp_path)
    assert on_disk(tmp_path) == in_memory(records)
