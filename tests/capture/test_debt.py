"""What is owed to the journal: bounded, and nothing of it unsaid."""

from __future__ import annotations

from dataclasses import replace

from capture.hearing import COMPLETE, opening

from sse_recorder.capture.debt import BARE_BYTES, WHOLE_BYTES, Debt
from sse_recorder.capture.tap import size_of
from sse_recorder.exchange import Op, Opening, RawRecord, RequestHead

HEADS = RequestHead("POST", "/chat?api_key=secret", (("X-Large", "x" * 30_000),))


def exchange(name: str) -> list[RawRecord]:
    """Return the beginning and the end of one."""
    begun = opening(request=HEADS, url="http://h/chat?api_key=secret")
    return [(name, Op.OPEN, 0, begun), (name, Op.END, 9, COMPLETE)]


def test_openings_are_bare_when_much_is_owed() -> None:
    """Their headers go, and the query, which cannot be masked when it is cut."""
    debt = Debt()
    for number in range(100):
        debt.add(exchange(f"e{number}"))
    first, *_, last, _ = debt.all()
    assert first[3] == exchange("e0")[0][3]
    assert isinstance(last[3], Opening)
    assert last[3].request == RequestHead("POST", "/chat")
    assert last[3].url == "http://h/chat"
    assert len(debt.all()) == 200
    assert debt.size < WHOLE_BYTES + 31_000 + 200 * 600


def test_exchanges_are_counted_when_very_much_is_owed() -> None:
    """Memory is bounded, and those of which nothing is kept have no end either."""
    debt = Debt()
    count = 60_000
    for number in range(count):
        debt.add(exchange(f"e{number}"))
    assert debt.size < BARE_BYTES + 2_000
    assert 0 < debt.unheard < count
    assert len(debt.all()) == 2 * (count - debt.unheard)
    assert not debt._unheard


def test_what_is_owed_is_paid_in_its_order_and_in_parts() -> None:
    """A part is as large as was asked, or one record, and what is paid is forgotten."""
    debt = Debt()
    records = [*exchange("a"), *exchange("b")]
    debt.add(records)
    assert debt.first(1) == records[:1]
    assert debt.first(31_000) == records[:2]
    debt.paid(2)
    assert debt.all() == debt.first(1 << 20) == records[2:]
    debt.paid(2)
    assert not debt
    assert debt.size == 0


def test_what_ends_later_is_owed_too() -> None:
    """An exchange that the journal knows may end while nothing can be written."""
    debt = Debt()
    (_, end) = exchange("a")
    debt.add([end, ("a", Op.SENT, 1, None)])
    assert debt.all()[0] == end
    assert size_of(replace_trailers(end)) == 4


def replace_trailers(end: RawRecord) -> RawRecord:
    """Return an end with trailers."""
    return (*end[:3], replace(COMPLETE, trailers=(("ab", "cd"),)))
