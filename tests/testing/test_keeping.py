"""The cassette of a test: what of it is replayed, and what is left of it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Final

import pytest

from recordings import CHUNKS, exchange
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Exchange
from sse_recorder.match import EXACT
from sse_recorder.store.cassette import dumps
from sse_recorder.store.store import Store
from sse_recorder.testing.keeping import Cassette, Take
from sse_recorder.testing.options import Mode

BEGAN_NS: Final = 1_700_000_000_000_000_000
OLD_NS: Final = BEGAN_NS - 1
IDS: Final = iter(range(1_000_000))


def asked(text: str, *, began_ns: int = BEGAN_NS) -> Exchange:
    """Return an exchange with a message; of this run of the tests, or older."""
    return exchange(
        exchange_id=f"01936a3e-8c00-7abc-9def-{next(IDS):012}",
        started_at=began_ns,
        request_body=json.dumps(text).encode(),
    )


def takes(*texts: str) -> list[Take]:
    """Return new recordings."""
    return [(asked(text), CHUNKS) for text in texts]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where a cassette is to be."""
    return tmp_path / "a" / "chats.sse.jsonl"


def write(path: Path, *exchanges: Exchange) -> None:
    """Write a cassette."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(dumps(one, CHUNKS) for one in exchanges))


def messages(path: Path | None) -> list[str]:
    """Return what a cassette was asked."""
    if path is None:
        return []
    with Store.open(path) as store:
        return [json.loads(one.request_body) for one in store.exchanges()]


@pytest.mark.parametrize(
    ("mode", "replayed", "is_recorded", "kept"),
    [
        # Of old, fresh; a test that records new, and old again.
        ("none", "old fresh", False, None),
        ("once", "fresh", True, "fresh new old"),
        ("new_episodes", "old fresh", True, "old fresh new old"),
        ("all", "fresh", True, "other fresh new old"),
        ("rewrite", "fresh", True, "fresh new old"),
    ],
)
def test_it_is_what_this_run_has_recorded_that_counts(
    path: Path,
    tmp_path: Path,
    mode: str,
    replayed: str,
    kept: str,
    *,
    is_recorded: bool,
) -> None:
    """Whoever recorded it: what is older is replayed or not, and kept or not."""
    others = [asked("other", began_ns=OLD_NS)] if mode == "all" else []
    write(path, *others, asked("old", began_ns=OLD_NS), asked("fresh"))
    cassette = Cassette(path, Mode(mode), EXACT, began_ns=BEGAN_NS)
    assert cassette.is_recorded == is_recorded
    source = cassette.source(lambda: tmp_path)
    assert [m for m in messages(source) if m != "other"] == replayed.split()
    if kept:
        cassette.keep(takes("new", "old"))
        assert sorted(messages(path)) == sorted(kept.split())


@pytest.mark.parametrize(
    ("mode", "replayed", "is_recorded"),
    [
        ("none", "old", False),
        ("once", "old", False),
        ("new_episodes", "old", True),
        ("all", "", True),
        ("rewrite", "", True),
    ],
)
def test_what_nobody_has_recorded_in_this_run_is_an_old_cassette(
    path: Path, tmp_path: Path, mode: str, replayed: str, *, is_recorded: bool
) -> None:
    """Also where no run is told of: then each test is one."""
    for began_ns in (BEGAN_NS, None):
        write(path, asked("old", began_ns=OLD_NS if began_ns else BEGAN_NS))
        cassette = Cassette(path, Mode(mode), EXACT, began_ns=began_ns)
        assert cassette.is_recorded == is_recorded
        assert messages(cassette.source(lambda: tmp_path)) == replayed.split()
    path.unlink()
    for each in Mode:
        cassette = Cassette(path, each, EXACT, began_ns=BEGAN_NS)
        assert cassette.source(lambda: tmp_path) is None
        assert cassette.is_recorded == (each is not Mode.NONE)


@pytest.mark.parametrize("mode", ["once", "new_episodes", "all", "rewrite"])
def test_tests_at_the_same_time_leave_what_one_after_the_other_would(
    path: Path, mode: str
) -> None:
    """Nothing is lost, and what both have recorded is there once."""
    if mode != "once":
        write(path, asked("a", began_ns=OLD_NS))
    one, two = (Cassette(path, Mode(mode), EXACT, began_ns=BEGAN_NS) for _ in range(2))
    one.keep(takes("both", "a", "one"))
    two.keep(takes("both", "both", "two"))
    found = messages(path)
    assert sorted(found) == sorted(
        (["a"] if mode == "new_episodes" else []) + ["both", "a", "one", "both", "two"]
    )


def test_a_cassette_is_written_under_a_lock(path: Path) -> None:
    """Who writes at the same time waits, and then reads what was written."""
    write(path, asked("one"))
    cassette = Cassette(path, Mode.NEW_EPISODES, EXACT, began_ns=BEGAN_NS)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    thread = threading.Thread(target=cassette.keep, args=(takes("three"),))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    write(path, asked("one"), asked("two"))
    os.close(folder)
    thread.join(10)
    assert sorted(messages(path)) == ["one", "three", "two"]


def test_a_damaged_cassette_can_be_rewritten_and_nothing_else(path: Path) -> None:
    """What it had would be lost, unless that is what is asked for."""
    path.parent.mkdir()
    path.write_text("{}")
    for mode in (Mode.ONCE, Mode.NEW_EPISODES, Mode.ALL):
        with pytest.raises(StoreError):
            Cassette(path, mode, EXACT, began_ns=BEGAN_NS)
    Cassette(path, Mode.REWRITE, EXACT, began_ns=BEGAN_NS).keep(takes("new"))
    assert messages(path) == ["new"]
