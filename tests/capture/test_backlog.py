"""What waits to be transcribed keeps its order, exchange by exchange."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_recorder.capture.backlog import Backlog
from sse_recorder.exchange import Op, RawRecord
from sse_recorder.store.journal import Journal

RECORDS = st.tuples(
    st.sampled_from(("a", "b", "c")),
    st.sampled_from((Op.DATA, Op.DATA, Op.REQUEST_DATA)),
    st.integers(0, 2**62),
    st.binary(max_size=4) | st.sampled_from((b"data: 1\n\n", b"\n\n")),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(RECORDS, min_size=1), max_size=4))
def test_the_chunks_of_an_exchange_come_together_and_in_their_order(
    tmp_path: Path, batches: list[list[RawRecord]]
) -> None:
    """Sorting by exchange loses, adds, mixes and reorders nothing of any of them."""
    path = tmp_path / "journal"
    path.unlink(missing_ok=True)
    journal, backlog = Journal(path), Backlog()
    for batch in batches:
        backlog.add(journal.append(batch))
    journal.close()
    expected: dict[str, list[tuple[int, bytes]]] = {}
    for eid, op, at_ns, data in (record for batch in batches for record in batch):
        if op is Op.DATA:
            assert isinstance(data, bytes)
            expected.setdefault(eid, []).append((at_ns, data))
    assert backlog.count == sum(map(len, expected.values()))
    found = dict(backlog.take())
    assert found.keys() == expected.keys()
    for eid, chunks in expected.items():
        run = found[eid]
        assert run.at_ns == [at_ns for at_ns, _ in chunks]
        assert run.size == [len(data) for _, data in chunks]
        assert run.data == b"".join(data for _, data in chunks)
    assert (backlog.count, backlog.size, list(backlog.take())) == (0, 0, [])
