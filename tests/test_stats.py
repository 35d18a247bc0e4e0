"""The counts of a recorder, and their sums."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.stats import NONE, Stats, Usage

COUNT = st.integers(0, 2**40)
COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 2**40))
STATS = st.builds(
    Stats,
    problems=st.lists(st.sampled_from(["full", "slow"]), unique=True).map(tuple),
    exchanges=COUNTS,
    open_exchanges=COUNT,
    refused_requests=COUNTS,
    seals=COUNT,
    usage=st.builds(Usage, resident_bytes=COUNT, open_files=COUNT),
)


@given(STATS, STATS)
def test_sums_are_of_every_count(one: Stats, other: Stats) -> None:
    """Problems that both have are said once; nothing added changes nothing."""
    total = one + other
    assert total.recorders == 2
    assert total.seals == one.seals + other.seals
    assert total.usage.open_files == one.usage.open_files + other.usage.open_files
    for name in "abc":
        parts = (one.exchanges.get(name, 0), other.exchanges.get(name, 0))
        assert total.exchanges.get(name, 0) == sum(parts)
    assert set(total.problems) == {*one.problems, *other.problems}
    assert len(set(total.problems)) == len(total.problems)
    assert sum([one], NONE) == one


@given(STATS)
def test_it_survives_the_way_between_two_processes(stats: Stats) -> None:
    """A worker's counts come to its parent as a line of JSON."""
    assert Stats.from_json(json.loads(json.dumps(stats.to_json()))) == stats


def test_usage_is_of_the_process_that_is_named() -> None:
    """Memory is that of a Python, and a file that is opened is one more."""
    before = Usage.of()
    with Path(os.devnull).open("rb"):
        opened = Usage.of(os.getpid())
    assert before.resident_bytes > 1 << 20
    assert opened.cpu_seconds >= before.cpu_seconds > 0
    assert opened.open_files == before.open_files + 1
    assert Usage.of(2**22 + 1) == Usage()
