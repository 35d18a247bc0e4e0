"""The rules of journals: whatever happens to the process, whole batches survive."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import CUT, opening, records_of
from samples import exchange_id

from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    Payload,
    Record,
    RequestHead,
    ResponseHead,
    ToolCall,
)
from sse_recorder.store import journal
from sse_recorder.store.journal import Journal

CALL = ToolCall(
    exchange_id=exchange_id(1),
    seq=0,
    tool_id=None,
    tool_name="\ud800",
    result="1",
    status="ok",
    timing="cross_request",
)
EVERY_OP = [
    *records_of([b"data: a\n", b"", bytes(range(256))]),
    Record(exchange_id(1), Op.CARRY, 7, {"chunk_count": 1, "pending_ns": [1, None]}),
    Record(exchange_id(1), Op.TOOL_CALL, 0, CALL),
]

# Header values are Latin-1; messages and tags may hold what was not UTF-8 in a file
# name or an argument, as Python escapes it.
LATIN_1 = st.text(st.characters(max_codepoint=255))
ESCAPED = st.characters(exclude_categories=()).filter(
    lambda c: not "\ud800" <= c <= "\udc7f" and not "\udd00" <= c <= "\udfff"
)
TEXT = st.text(ESCAPED)
HEADERS = st.lists(st.tuples(LATIN_1, LATIN_1), max_size=3).map(tuple)
OPENINGS = st.builds(
    Opening,
    recorder_id=TEXT,
    started_at=st.integers(0, 2**63 - 1),
    url=TEXT,
    request=st.builds(RequestHead, LATIN_1, LATIN_1, HEADERS, LATIN_1),
    trace_id=TEXT,
    span_id=TEXT,
    parent_span_id=TEXT,
    tags=st.dictionaries(TEXT, TEXT, max_size=2),
    received_path=TEXT,
    trace_flags=st.none() | st.integers(0, 255),
)
HEADS = st.builds(ResponseHead, st.integers(0, 999), LATIN_1, HEADERS, LATIN_1)
ENDINGS = st.builds(
    Ending,
    outcome=st.sampled_from(Outcome),
    error=st.none() | TEXT,
    trailers=HEADERS,
)
MAPPINGS = st.dictionaries(TEXT, st.none() | st.integers() | TEXT, max_size=3)
PAYLOADS = st.one_of(
    st.tuples(st.just(Op.OPEN), OPENINGS),
    st.tuples(st.sampled_from([Op.DATA, Op.REQUEST_DATA]), st.binary(max_size=50)),
    st.tuples(st.just(Op.SENT), st.none()),
    st.tuples(st.just(Op.HEAD), HEADS),
    st.tuples(st.just(Op.END), ENDINGS),
    st.tuples(st.just(Op.CARRY), MAPPINGS),
    st.tuples(st.just(Op.TOOL_CALL), st.builds(ToolCall, span_id=st.text())),
)
RECORDS = st.builds(
    lambda eid, at_ns, what: Record(eid, what[0], at_ns, what[1]),
    st.text(st.characters(max_codepoint=0x3000, exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    PAYLOADS,
)
BATCHES = st.lists(st.lists(RECORDS, min_size=1, max_size=4), max_size=4)


def write(path: Path, batches: Sequence[Sequence[Record]]) -> list[int]:
    """Write a journal; return where its header and each of its batches end."""
    one = Journal(path)
    ends = [one.size]
    for batch in batches:
        one.append(batch)
        ends.append(one.size)
    one.close()
    return ends


def whole(
    batches: Sequence[Sequence[Record]], ends: Sequence[int], size: int
) -> list[Record]:
    """Return the records of the batches that a cut at some size leaves whole."""
    pairs = zip(batches, ends[1:], strict=True)
    return [record for batch, end in pairs if end <= size for record in batch]


@contextmanager
def python(code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process of its own, until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a journal may be made."""
    return tmp_path / "one.arrows"


def test_every_cut_leaves_the_batches_before_it(path: Path) -> None:
    """A journal cut at any byte gives every batch before the cut, and no more."""
    batches = [EVERY_OP[:2], EVERY_OP[2:3], EVERY_OP[3:]]
    ends = write(path, batches)
    data = path.read_bytes()
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        assert list(journal.read(path)) == whole(batches, ends, size)


@settings(deadline=None, max_examples=60)
@given(BATCHES, st.data())
def test_any_records_come_back_as_they_were(
    batches: list[list[Record]], data: st.DataObject
) -> None:
    """Bytes, heads, endings and carried states round-trip, whole and after any cut."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "one.arrows")
        ends = write(path, batches)
        assert list(journal.read(path)) == [r for batch in batches for r in batch]
        written = path.read_bytes()
        size = data.draw(st.integers(0, len(written)))
        path.write_bytes(written[:size])
        assert list(journal.read(path)) == whole(batches, ends, size)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        opening(headers=(("X-Name", "caf\xe9"), ("x-name", ""), ("X-Name", "\xff"))),
        opening(tags={"file": "a\udcff.txt", "": ""}),
        ResponseHead(200, "", (("Set-Cookie", "a"), ("Set-Cookie", "b"))),
        Ending(outcome=Outcome.UPSTREAM_ABORT, error="eof", trailers=(("X", "\x80"),)),
        {"pending": "", "pending_ns": [3, 4], "first_chunk_ns": None},
    ],
)
def test_payloads_keep_what_is_easily_lost(payload: Payload) -> None:
    """Latin-1, repeated headers, half surrogates and empty values stay as they were."""
    op = {
        bytes: Op.DATA,
        Opening: Op.OPEN,
        ResponseHead: Op.HEAD,
        Ending: Op.END,
        dict: Op.CARRY,
    }[type(payload)]
    assert journal.decode(op, journal.encode(payload)) == payload


def test_a_journal_can_be_read_while_it_grows(path: Path) -> None:
    """A reader sees the batches that are there now, and later the ones that follow."""
    one = Journal(path)
    assert list(journal.read(path)) == []
    one.append(EVERY_OP[:1])
    assert list(journal.read(path)) == EVERY_OP[:1]
    one.append(EVERY_OP[1:])
    assert list(journal.read(path)) == EVERY_OP
    one.close()


def test_size_is_that_of_the_file(path: Path) -> None:
    """`size` is what the writer goes by to seal in time."""
    one = Journal(path)
    assert one.size == len(journal.HEADER) == path.stat().st_size
    one.append(EVERY_OP)
    assert one.size == path.stat().st_size
    one.close()


def test_a_journal_is_for_its_owner_alone(path: Path) -> None:
    """Recordings hold what people said, so others on the machine cannot read them."""
    before = os.umask(0)
    try:
        one = Journal(path)
    finally:
        os.umask(before)
    one.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_journal_never_replaces_a_file(path: Path) -> None:
    """What is there under its name might be a recording."""
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        Journal(path)
    assert path.read_bytes() == b"mine"


def test_removing_and_closing_can_be_repeated(path: Path) -> None:
    """The end of a journal is the end, in whatever order it is reached."""
    one = Journal(path)
    one.remove()
    one.remove()
    one.close()
    assert not path.exists()


def test_what_is_not_there_is_not_found(path: Path) -> None:
    """A journal that was sealed since it was seen is not a damaged one."""
    with pytest.raises(FileNotFoundError):
        next(journal.read(path))
    with pytest.raises(FileNotFoundError), journal.claim(path):
        pass


@pytest.mark.parametrize(
    "data", [b"x", b"PAR1" * 500, journal.HEADER[:40] + b"!" * 400, b"\0" * 5000]
)
def test_what_is_not_a_journal_says_so(path: Path, data: bytes) -> None:
    """A foreign file is one clear error, with its name and what to do."""
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"not a journal.*move it out") as caught:
        list(journal.read(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_says_so(path: Path) -> None:
    """An error of the system is told in the same way."""
    path.mkdir()
    with pytest.raises(StoreError, match="Is a directory"):
        list(journal.read(path))


@pytest.mark.parametrize(
    ("op", "data"), [(99, b""), (Op.OPEN, b"{"), (Op.END, b"{}"), (Op.HEAD, b"[]")]
)
def test_damage_before_the_end_says_so(path: Path, op: int, data: bytes) -> None:
    """A whole batch that cannot be understood is not passed over in silence."""
    columns = [[op], ["x"], [0], [data]]
    arrays = [
        pa.array(c, type=f.type) for c, f in zip(columns, journal.SCHEMA, strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=journal.SCHEMA)
    path.write_bytes(journal.HEADER + batch.serialize().to_pybytes())
    with pytest.raises(StoreError, match=r"damaged.*move it out"):
        list(journal.read(path))


HOLD = """
import sys
from pathlib import Path
from sse_recorder.exchange import Op, Record
from sse_recorder.store.journal import Journal
one = Journal(Path(sys.argv[1]))
one.append([Record("x", Op.DATA, 1, b"kept")])
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_journal_is_held_until_its_process_dies(path: Path) -> None:
    """A claim is refused while the writer lives, and granted once it was killed."""
    with python(HOLD, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with journal.claim(path) as is_ours:
            assert not is_ours
        process.send_signal(signal.SIGKILL)
        process.wait()
        with journal.claim(path) as is_ours:
            assert is_ours
            with journal.claim(path) as is_ours_too:
                assert not is_ours_too
    assert list(journal.read(path)) == [Record("x", Op.DATA, 1, b"kept")]


def test_a_recovery_that_is_faster_than_the_lock_does_no_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is deleted between its making and its locking is made again."""
    flock, times = fcntl.flock, iter(range(9))

    def late(fd: int, how: int) -> None:
        if not next(times):
            path.unlink()
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    one = Journal(path)
    one.append(EVERY_OP)
    assert list(journal.read(path)) == EVERY_OP
    one.close()


FILL = """
import resource, sys
from pathlib import Path
from sse_recorder.exchange import Op, Record
from sse_recorder.store import journal
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
one = journal.Journal(folder / "one.arrows")
one.append([Record("x", Op.DATA, 1, b"before")])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    one.append([Record("x", Op.DATA, 2, bytes(200_000))])
except OSError as error:
    print(error.errno)
assert one.size == one.path.stat().st_size
one.append([Record("x", Op.DATA, 3, b"after")])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (9, resource.RLIM_INFINITY))
    try:
        journal.Journal(folder / "two.arrows")
    except OSError as error:
        print(error.errno)
"""
SURVIVED = [Record("x", Op.DATA, 1, b"before"), Record("x", Op.DATA, 3, b"after")]


def test_a_write_that_fails_in_its_middle_is_taken_back(tmp_path: Path) -> None:
    """At the limit of a file's size half a batch is written; nothing of it stays."""
    with python(FILL, str(tmp_path), "50000") as process:
        output, _ = process.communicate()
    assert output.split() == [str(errno.EFBIG)] * 2
    assert process.returncode == 0
    assert list(journal.read(tmp_path / "one.arrows")) == SURVIVED
    # One that could not even be begun leaves no file, and so nothing to recover.
    assert not (tmp_path / "two.arrows").exists()


def test_a_full_disk_does_not_end_a_journal(tmp_path: Path) -> None:
    """On a disk that is full a batch is lost, and the next small one is written."""
    options = ["-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can only be mounted by root")
    try:
        with python(FILL, str(tmp_path), "0") as process:
            output, _ = process.communicate()
        assert output.split() == [str(errno.ENOSPC)]
        assert list(journal.read(tmp_path / "one.arrows")) == SURVIVED
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_batch_of_nothing_is_nothing(path: Path) -> None:
    """An empty batch neither ends a journal nor adds to it."""
    write(path, [[], EVERY_OP, []])
    assert list(journal.read(path)) == EVERY_OP


def test_how_recovery_ends_an_exchange_can_be_kept() -> None:
    """The ending that recovery writes is one that a journal could hold."""
    assert journal.decode(Op.END, journal.encode(CUT)) == CUT


def test_a_journal_of_another_version_of_arrow_is_read(path: Path) -> None:
    """The schema counts, and not the bytes in which a library happens to write it."""
    one = Journal(path)
    one.append([Record("e", Op.SENT, 7)])
    one.close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xff\xff\xff", b"", 1))  # as Arrow wrote once
    assert data != path.read_bytes()
    assert [record.at_ns for record in journal.read(path)] == [7]
