"""Recorders that a test drives step by step, and what they leave on disk.

    recorder = Recorder(root)
    recorder.write(records[:5])
    recorder.roll(seal=False)        # as if killed before the seal
    recorder.write(records[5:])
    recorder.die()
    recover(root)
    assert on_disk(root) == in_memory(records)

`Recorder` takes the steps that the writer takes, so a test can stop between any two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from samples import MS, STARTED_AT, exchange_id

from sse_recorder.exchange import (
    Ending,
    Headers,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.store.segment import Layout, OpenSegment
from sse_recorder.tables import SCHEMAS, Rows
from sse_recorder.transcript import Transcript

RECORDER: Final = "test"
STREAM: Final = (("Content-Type", "text/event-stream"),)
CHAT: Final = "/v2/sessions/s1/chat/stream"
CUT: Final = Ending(
    outcome=Outcome.INCOMPLETE,
    error="the recorder was killed; what came after this was not recorded",
)
"""How recovery ends what was open."""

Table = list[dict[str, Any]]
Tables = dict[str, Table]


def opening(path: str = CHAT, headers: Headers = (), **more: Any) -> Opening:
    """Return how an exchange begins."""
    request = RequestHead("POST", path, headers)
    url = f"https://api.meibel.ai{path}"
    return Opening(
        recorder_id=RECORDER, started_at=STARTED_AT, url=url, request=request, **more
    )


def records_of(
    chunks: Iterable[bytes],
    *,
    number: int = 1,
    headers: Headers = STREAM,
    path: str = CHAT,
    ending: Ending | None = Ending(outcome=Outcome.COMPLETE),  # noqa: B008 - frozen
) -> list[Record]:
    """Return the records of an exchange whose chunks come every 10 ms.

    Args:
        chunks: its response body, as it was read.
        number: tells it from others.
        headers: of the response.
        path: where the request went.
        ending: how it ended; None leaves it open.
    """
    eid = exchange_id(number)
    records = [
        Record(eid, Op.OPEN, 0, opening(path)),
        Record(eid, Op.REQUEST_DATA, 0, b'{"message":"Hello"}'),
        Record(eid, Op.SENT, 1 * MS),
        Record(eid, Op.HEAD, 5 * MS, ResponseHead(200, "OK", headers)),
    ]
    at_ns = 5 * MS
    for chunk in chunks:
        at_ns += 10 * MS
        records.append(Record(eid, Op.DATA, at_ns, chunk))
    if ending is not None:
        records.append(Record(eid, Op.END, at_ns + 10 * MS, ending))
    return records


def pieces(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut data at some places."""
    inside = {place for place in places if 0 < place < len(data)}
    ends = [0, *sorted(inside), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


def as_tables(rows: Rows) -> Tables:
    """Return rows as a reader of the files would see them."""
    return {name: _sorted(table) for name, table in rows.tables().items()}


def in_memory(records: Sequence[Record]) -> Tables:
    """Return the rows of exchanges that nothing interrupted; what is open is cut."""
    rows = Rows()
    transcripts: dict[str, Transcript] = {}
    last_ns: dict[str, int] = {}
    for record in records:
        eid = record.exchange_id
        transcripts.setdefault(eid, Transcript(eid)).add(record, rows)
        last_ns[eid] = record.at_ns
    for eid, transcript in transcripts.items():
        if transcript.ended is None:
            transcript.add(Record(eid, Op.END, last_ns[eid], CUT), rows)
    return as_tables(rows)


def on_disk(root: Path) -> Tables:
    """Return the rows of the sealed segments of a store."""
    layout = Layout(root)
    return {
        table: _sorted(
            pa.concat_tables(
                [
                    pq.read_table(layout.table(name, table), partitioning=None)
                    for name in layout.sealed_names()
                ]
                or [schema.empty_table()]
            )
        )
        for table, schema in SCHEMAS.items()
    }


def files(root: Path) -> dict[str, int]:
    """Name the files of a store, with what follows the segment's name, and count."""
    found: dict[str, int] = defaultdict(int)
    for path in root.rglob("*"):
        if path.is_file():
            kind = "".join(path.name.partition(".")[1:])
            found[f"{path.relative_to(root).parts[0]}{kind}"] += 1
    return dict(found)


SEALED: Final = {
    f"{table}.parquet": 1 for table in ("chunks", "exchanges", "frames", "tool_calls")
}
"""The `files` of a store with one sealed segment and nothing else."""


def _sorted(table: pa.Table) -> Table:
    keys = [key for key in ("exchange_id", "seq") if key in table.schema.names]
    rows: Table = table.sort_by([(key, "ascending") for key in keys]).to_pylist()
    return rows


class Recorder:
    """What a recorder does, one step at a time."""

    def __init__(self, root: Path, name: str = RECORDER) -> None:
        self.layout = Layout(root)
        self.name = name
        self.unsealed: list[OpenSegment] = []
        """Rolled away from; its writer died before it sealed them."""
        self._count = 0
        self._transcripts: dict[str, Transcript] = {}
        self.segment = self._begin()

    def write(self, records: Sequence[Record]) -> None:
        """Append one batch."""
        if not records:
            return
        self.segment.journal.append(records)
        rows = Rows()
        for record in records:
            eid = record.exchange_id
            if record.op is Op.OPEN:
                scratch = self.layout.scratch
                self._transcripts[eid] = Transcript(eid, open_file=scratch)
            self._transcripts[eid].add(record, rows)
            if record.op is Op.END:
                del self._transcripts[eid]
        self.segment.keep(rows)

    def roll(self, *, seal: bool = True, carry: bool = True) -> None:
        """Go on in a new segment."""
        carried = self._transcripts.values() if carry else ()
        earlier, self.segment = self.segment, self._begin(carried)
        if seal:
            earlier.seal()
        else:
            self.unsealed.append(earlier)

    def die(self) -> None:
        """Let go of all files, as the kernel does for a process that was killed."""
        for segment in (*self.unsealed, self.segment):
            segment.journal.close()

    def _begin(self, carried: Collection[Transcript] = ()) -> OpenSegment:
        self._count += 1
        uuid = uuid7(STARTED_AT + self._count * MS)
        return OpenSegment(self.layout, f"{self.name}-{uuid}", 0, carried)
