"""Which exchanges a store has of some recorders, and how many."""

from __future__ import annotations

from pathlib import Path

from making import Recorder, records_of
from samples import exchange_id

from sse_recorder.exchange import Ending, Outcome
from sse_recorder.store.census import Census, count, known
from sse_recorder.store.segment import Layout

LOST = Ending(outcome=Outcome.INCOMPLETE, error="lost")


def made(root: Path) -> list[Recorder]:
    """Make a store of two recorders: one has segments and a journal, one a journal."""
    first, second = Recorder(root, "first"), Recorder(root, "second")
    first.write(records_of([b"data: 1\n\n"], number=1))
    first.write(records_of([b"data: 2\n\n"], number=2, ending=LOST))
    first.write(records_of([b"data: 3\n\n"], number=3)[:-1])
    first.roll()
    first.write(records_of([b"data: 4\n\n"], number=4))
    second.write(records_of([b"data: 5\n\n"], number=5))
    for recorder in (first, second):
        recorder.die()
    return [first, second]


def test_what_is_known_is_in_a_journal_or_a_segment(tmp_path: Path) -> None:
    """Of the recorders that are asked about, and of the exchanges."""
    first, _ = made(tmp_path)
    ids = {exchange_id(number) for number in (1, 3, 4, 5, 6)}
    layout = Layout(tmp_path)
    both = known(layout, {"first", "second"}, ids)
    assert both == {exchange_id(number) for number in (1, 3, 4, 5)}
    assert known(layout, {"second"}, ids) == {exchange_id(5)}
    assert known(layout, {"first"}, []) == set()
    later = known(layout, {"first"}, ids, after=first.segment.name)
    assert later == set()


def test_exchanges_are_counted_by_where_they_are(tmp_path: Path) -> None:
    """Those of a journal are none of the segments' until they are recovered."""
    made(tmp_path)
    layout = Layout(tmp_path)
    assert count(layout, {"first"}) == Census(sealed=2, incomplete=1, unsealed=2)
    assert count(layout, {"second"}) == Census(unsealed=1)
    assert count(layout, {"nobody"}) == Census()


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """Others report it; a count is only a count."""
    first, second = made(tmp_path)
    second.segment.journal.path.write_bytes(b"not a journal")
    (path,) = tmp_path.glob("exchanges/*/*.parquet")
    path.write_bytes(b"not Parquet")
    layout = Layout(tmp_path)
    assert count(layout, {first.name, second.name}) == Census(unsealed=2)
