"""The ear on one exchange, and the queue that never waits."""

from __future__ import annotations

from capture.hearing import COMPLETE, hold, opening

from sse_recorder.capture import RecordQueue, Tap
from sse_recorder.capture.tap import BARE_BYTES
from sse_recorder.exchange import Ending, Op, Opening, Outcome, RequestHead


def test_offsets_are_counted_from_the_request() -> None:
    """A tap is given times of the clock and gives offsets from t0."""
    queue = RecordQueue(1 << 20)
    hold(Tap(queue, "e", 1_000), 1_000)
    records = queue.take(1)
    assert records is not None
    assert [at_ns for _, _, at_ns, _ in records] == [0, 1, 2, 3, 4, 5, 6]
    assert [op for _, op, _, _ in records] == [
        Op.OPEN,
        Op.REQUEST_DATA,
        Op.SENT,
        Op.HEAD,
        Op.DATA,
        Op.DATA,
        Op.END,
    ]


def test_a_full_queue_keeps_a_beginning_of_each_body_and_says_so() -> None:
    """Nobody waits: what does not fit is lost, and so is what would follow the gap."""
    queue = RecordQueue(4_000)
    tap = Tap(queue, "e", 0)
    tap.opened(opening())
    for at_ns in range(10):
        tap.data(at_ns, b"%d" % at_ns * 1_000)
    tap.data(10, b"small enough to fit")
    tap.ended(11, COMPLETE)
    records = queue.take(1)
    assert records is not None
    first, *kept, last = records
    assert first[1] is Op.OPEN
    assert [r[3] for r in kept] == [b"%d" % n * 1_000 for n in range(len(kept))]
    assert 0 < len(kept) < 10
    assert last[3] == Ending(
        outcome=Outcome.INCOMPLETE,
        error=f"{11 - len(kept)} records were lost: the writer fell behind",
    )


def test_a_queue_that_was_full_takes_records_again() -> None:
    """Once the writer has caught up there is room."""
    queue = RecordQueue(1_000)
    record = ("e", Op.DATA, 0, b"")
    assert queue.put(record, 900)
    assert not queue.put(record, 900)
    assert queue.take(1) == [record]
    assert queue.put(record, 900)


def test_a_closed_queue_is_emptied_first() -> None:
    """Closing loses nothing of what is queued."""
    queue = RecordQueue(1_000)
    record = ("e", Op.END, 0, COMPLETE)
    queue.put(record)
    queue.close()
    assert queue.take(None) == [record]
    assert queue.take(None) is None


def test_a_queue_gives_nothing_when_the_time_is_up() -> None:
    """The writer looks round now and then, even when nothing happens."""
    assert RecordQueue(1_000).take(0.01) == []


def test_a_record_that_never_fits_wakes_the_writer() -> None:
    """There is nothing to take, and something to be told of."""
    queue = RecordQueue(1_000)
    assert not queue.put(("e", Op.DATA, 0, bytes(2_000)), 2_000)
    assert queue._begun.is_set()
    assert queue.refused == 1


def test_beginnings_and_ends_have_a_bound_too() -> None:
    """First without headers and query, then not at all; each is counted."""
    limit, count = 1_000_000, 30_000
    queue = RecordQueue(limit)
    request = RequestHead("GET", "/chat?a=1", (("X-Large", "x" * 30_000),))
    for number in range(count):
        tap = Tap(queue, f"e{number}", 0)
        tap.opened(opening(request=request, url="http://h/chat?a=1"))
        tap.data(5, b"x")
        tap.ended(9, COMPLETE)
    assert queue.waiting_bytes < limit + BARE_BYTES + 2_000
    records = queue.take(1)
    assert records is not None
    begun = [record for record in records if record[1] is Op.OPEN]
    ended = [record for record in records if record[1] is Op.END]
    assert len(begun) == len(ended) == count - queue.unheard
    whole, bare = begun[0][3], begun[-1][3]
    assert isinstance(whole, Opening)
    assert isinstance(bare, Opening)
    assert whole.request == request
    assert (bare.request, bare.url) == (RequestHead("GET", "/chat"), "http://h/chat")
    assert isinstance(ended[-1][3], Ending)
    assert ended[-1][3].outcome is Outcome.INCOMPLETE
