"""What millions of frames weigh, what sealing them takes, and what asking of them does.

Chats of the demo's agent are written as the recorder's second process writes what it is
handed: through a `Scribe`, in batches, two hundred at a time, with the times of the
demo's script and the jitter of a network; segments are as large as they are by default.
Whenever one is sealed, nothing else is done, so that the time is its own.  The text is
the same in every chat, which makes little of it for gzip as for Parquet; `size.py` has
text that differs.  gzip is given the bodies one after the other, and none of the times.

Then every report is run on the store, on all of it and on the last tenth of it by time;
and the statements that this came down to are run on a DuckDB that knows nothing of us:
its tables are views over the same files, its other views those of `views.sql`.  Both
must find the same.  They take turns; of three times the shortest counts.

    make bench                                         a million frames
    python benchmarks/reports.py --frames 10_000_000   takes minutes
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from sse_recorder import analytics, demo
from sse_recorder.capture.scribe import Limits, Scribe
from sse_recorder.clock import SYSTEM
from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    RawRecord,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.redact import Redactor
from sse_recorder.sse import encode_event
from sse_recorder.store.segment import Layout
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS

MS: Final = 1_000_000
AT_ONCE: Final = 200
BATCH_RECORDS: Final = 4_096
BEGAN: Final = datetime(2026, 11, 23, tzinfo=UTC)
LASTED: Final = timedelta(days=1)
TURNS: Final = 3
GZIP_WINDOW: Final = 31  # the largest, with the header of gzip


@dataclass(slots=True)
class Built:
    """A store that was built, and what that took."""

    frames: int = 0
    exchanges: int = 0
    raw: int = 0
    gzip: int = 0
    gzip_s: float = 0.0
    seal_s: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    segments: int = 0
    sample: tuple[str, bytes] = ("", b"")
    """An exchange, and its body."""


def chat(number: int) -> list[tuple[int, bytes]]:
    """Return the reads of one chat: when each came, and its bytes."""
    session = f"session-{number}"
    rng = random.Random(number)  # noqa: S311 - the same times in every run
    due_ns, reads = 0, []
    for beat in demo.script(session):
        due_ns += round(beat.after_ms * MS)
        if isinstance(beat.data, str):
            data = beat.data.encode() + b"\n\n"
        else:
            data = encode_event(beat.event, json.dumps(beat.data))
        reads.append((due_ns + rng.randrange(MS), data))
    return sorted(reads, key=lambda read: read[0] // MS)


def records_of(
    number: int, started_ns: int, reads: Sequence[tuple[int, bytes]]
) -> tuple[str, Iterator[RawRecord]]:
    """Return the id of a chat, and its records as a proxy has them."""
    eid = uuid7(started_ns)
    path = f"/v2/sessions/session-{number}/chat/stream"
    request = RequestHead(
        "POST",
        path,
        (("Host", "api.example"), ("Content-Type", "application/json")),
    )
    opening = Opening(
        recorder_id="bench",
        started_at=started_ns,
        url=f"https://api.example{path}",
        request=request,
    )
    headers = (
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache"),
        ("Transfer-Encoding", "chunked"),
    )

    def records() -> Iterator[RawRecord]:
        yield (eid, Op.OPEN, 0, opening)
        yield (eid, Op.REQUEST_DATA, 0, b'{"user_message": "Plan my day in Lisbon"}')
        yield (eid, Op.SENT, MS, None)
        yield (eid, Op.HEAD, 5 * MS, ResponseHead(200, "OK", headers))
        for at_ns, data in reads:
            yield (eid, Op.DATA, 5 * MS + at_ns, data)
        ending = Ending(outcome=Outcome.COMPLETE)
        yield (eid, Op.END, 6 * MS + reads[-1][0], ending)

    return eid, records()


def interleaved(frames: int, built: Built) -> Iterator[RawRecord]:
    """Give the records of as many chats as have that many frames, in turns."""
    packer = zlib.compressobj(9, zlib.DEFLATED, GZIP_WINDOW)
    chats = -(-frames // len(chat(0)))
    step_ns = LASTED // timedelta(microseconds=1) * 1_000 // chats
    started_ns = int(BEGAN.timestamp()) * 1_000 * MS
    running: deque[Iterator[RawRecord]] = deque()
    while running or built.exchanges < chats:
        if len(running) < AT_ONCE and built.exchanges < chats:
            reads = chat(built.exchanges)
            body = b"".join(data for _, data in reads)
            began = process_time()
            built.gzip += len(packer.compress(body))
            built.gzip_s += process_time() - began
            eid, records = records_of(built.exchanges, started_ns, reads)
            built.sample = (eid, body)
            built.raw += len(body)
            built.frames += len(reads)
            built.exchanges += 1
            started_ns += step_ns
            running.append(records)
        records = running.popleft()
        record = next(records, None)
        if record is not None:
            yield record
            running.append(records)
    built.gzip += len(packer.flush())


def build(root: Path, frames: int) -> Built:
    """Write a store, and let it tell what it took."""
    built = Built()
    scribe = Scribe(
        root,
        recorder_id="bench",
        redactor=Redactor(),
        spans=None,
        limits=Limits(),
        clock=SYSTEM,
    )
    batch: list[RawRecord] = []
    sealing = None

    def write() -> None:
        nonlocal sealing
        scribe.write(batch)
        batch.clear()
        if scribe._sealing is not sealing:  # noqa: SLF001 - to have it wait for us
            sealing = scribe._sealing  # noqa: SLF001
            assert sealing is not None
            began = perf_counter()
            sealing.result()
            built.seal_s += perf_counter() - began

    for record in interleaved(frames, built):
        batch.append(record)
        if len(batch) == BATCH_RECORDS:
            write()
    write()
    began = perf_counter()
    scribe.close()
    built.seal_s += perf_counter() - began
    assert not scribe.status.problems, scribe.status.problems
    built.segments = len(Layout(root).sealed_names())
    built.sizes = {
        table: sum(file.stat().st_size for file in root.glob(f"{table}/*/*"))
        for table in SCHEMAS
    }
    return built


class Noting(Store):
    """A store that notes what it is asked."""

    asked: list[str]

    def sql(self, query: str, params: Sequence[object] = ()) -> pa.Table:
        """Note a query, and answer it."""
        self.asked.append(query)
        return super().sql(query, params)


class Bare:
    """A DuckDB that has the files of a store as plain views."""

    def __init__(self, root: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        for table in SCHEMAS:
            # Most of SQL's functions for time want six digits of a second.
            six = "REPLACE (started_at::TIMESTAMPTZ AS started_at)"
            columns = f"* {six}" if table == "exchanges" else "*"
            source = f"read_parquet('{root}/{table}/*/*.parquet')"
            self._connection.execute(
                f"CREATE VIEW {table} AS SELECT {columns} FROM {source}"  # noqa: S608
            )
        script = files("sse_recorder.store").joinpath("views.sql")
        if script.is_file():
            self._connection.execute(script.read_text(encoding="utf-8"))

    def ask(self, statements: Sequence[str]) -> pa.Table:
        """Run statements, and return what the one that is a query found."""
        table = None
        for statement in statements:
            relation: duckdb.DuckDBPyRelation | None = self._connection.sql(statement)
            if relation is not None and not statement.startswith(("SET", "RESET")):
                table = relation.to_arrow_table()
        assert table is not None
        return table


class Moment(NamedTuple):
    """A moment by two clocks, or the time between two of them."""

    wall: float
    cpu: float
    """Of all threads."""

    @classmethod
    def now(cls) -> Moment:
        """Look at both."""
        return cls(perf_counter(), process_time())

    def __sub__(self, began: Moment) -> Moment:
        return Moment(self.wall - began.wall, self.cpu - began.cpu)


def same(one: pa.Table, other: pa.Table) -> bool:
    """Tell whether two answers are the same, in whichever order equals come."""

    def rows(table: pa.Table) -> list[str]:
        columns = [
            [f"{v:.9g}" if isinstance(v, float) else repr(v) for v in c.to_pylist()]
            for c in table.columns
        ]
        return sorted(map(repr, zip(*columns, strict=True)))

    return (one.column_names, rows(one)) == (other.column_names, rows(other))


def reports(root: Path) -> Iterator[str]:
    """Give the lines of what each report takes."""
    yield (
        "| report | of | rows | sse-recorder | bare DuckDB | of its time | of its CPU |"
    )
    yield "|---|---|---|---|---|---|---|"
    bare = Bare(root)
    since = BEGAN + LASTED * 0.9
    with Noting.open(root) as store:
        for name in analytics.names():
            selections: dict[str, dict[str, Any]] = {"all": {}}
            selections["the last tenth"] = {"since": since}
            for label, selected in selections.items():
                ours_s, theirs_s = [], []
                for _ in range(TURNS):
                    store.asked = []
                    began = Moment.now()
                    ours = analytics.run(store, name, **selected).table
                    ours_s.append(Moment.now() - began)
                    began = Moment.now()
                    theirs = bare.ask(store.asked)
                    theirs_s.append(Moment.now() - began)
                assert same(ours, theirs), f"{name}: the answers differ"
                (wall, cpu), (bare_wall, bare_cpu) = min(ours_s), min(theirs_s)
                yield (
                    f"| {name} | {label} | {ours.num_rows:,} | {wall:.2f} s"
                    f" | {bare_wall:.2f} s | {wall / bare_wall:.2f} x"
                    f" | {cpu / bare_cpu:.2f} x |"
                )


def weights(built: Built, tool_calls: int) -> Iterator[str]:
    """Give the lines of what a store weighs, and what sealing took."""
    yield "| | size | of raw |"
    yield "|---|---|---|"
    total = sum(built.sizes.values())
    sizes = {"raw bytes": built.raw, "`gzip -9` of them": built.gzip}
    sizes |= {"store, with all times": total, **built.sizes}
    for label, size in sizes.items():
        yield f"| {label} | {size / 1e6:,.1f} MB | {size / built.raw:.4f} |"
    million_s = built.seal_s / built.frames * 1e6
    mb_s, gzip_mb_s = built.raw / built.seal_s / 1e6, built.raw / built.gzip_s / 1e6
    yield ""
    yield (
        f"{built.frames:,} frames of {built.exchanges:,} exchanges, with {tool_calls:,}"
        f" tool calls, in {built.segments} segments: the store is"
        f" {total / built.gzip:.1f} x `gzip -9`, which has no times. Sealing took"
        f" {million_s:.1f} s a million frames, that is {mb_s:.0f} MB/s of raw bytes,"
        f" beside {gzip_mb_s:.0f} MB/s of `gzip -9`."
    )


def main() -> None:
    """Build, weigh, and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        root = Path(folder)
        built = build(root, given.frames)
        with Store.open(root) as store:
            counted = store.sql(
                "SELECT (SELECT count(*) FROM frames), (SELECT count(*) FROM exchanges"
                " WHERE outcome = 'complete'), (SELECT count(*) FROM tool_calls"
                " WHERE status IN ('ok', 'error'))"
            )
            frames, exchanges, calls = (c[0].as_py() for c in counted.columns)
            assert (frames, exchanges) == (built.frames, built.exchanges)
            eid, body = built.sample
            assert store.body(eid) == body
        print(*weights(built, calls), "", sep="\n", flush=True)
        for line in reports(root):
            print(line, flush=True)


if __name__ == "__main__":
    main()
