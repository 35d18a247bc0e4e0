"""Stores as an older version would have left them: recorded, and then told wrongly.

root = recorded(tmp_path, mixed(rng), rng)
before = on_disk(root)
spoil(root, rng)
rebuild(root, is_dry=False)
assert on_disk(root) == before
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from making import on_disk
from samples import (
    MS,
    called,
    chat_exchange,
    exchange_id,
    finished,
    meibel_exchange,
    returned,
    said,
)

from sse_recorder.capture.scribe import Limits, Scribe
from sse_recorder.clock import SYSTEM
from sse_recorder.dialects.base import Kind
from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    Record,
    RequestHead,
    ResponseHead,
)
from sse_recorder.redact import Redactor
from sse_recorder.store.rebuild.reading import DERIVED
from sse_recorder.store.segment import Layout, write_table
from sse_recorder.store.verify import Tally, verify
from sse_recorder.tables import SCHEMAS

RECORDER: Final = "r"
SMALL: Final = Limits(segment_bytes=6_000, segment_age_s=10**6, idle_s=10**6)


def chance(seed: int) -> random.Random:
    """Return what is random, and comes again with the next run."""
    return random.Random(seed)  # noqa: S311


def mixed(rng: random.Random, count: int = 30) -> list[list[Record]]:
    """Return exchanges of several dialects that overlap; the client runs tools."""
    exchanges = []
    asked: list[str] = []
    for number in range(1, count + 1):
        at_ms = number * 40 + rng.randrange(30)
        kind = rng.choice(["meibel", "chat", "chat", "chat", "body", "mcp", "other"])
        if kind == "chat":
            calls = [f"c{number}-{n}" for n in range(rng.randrange(3))]
            results = [asked.pop(0) for _ in range(min(len(asked), rng.randrange(3)))]
            exchanges.append(
                chat_exchange(
                    number,
                    calls=calls,
                    results=[*results, *["nobody"] * (rng.random() < 0.1)],
                    at_ms=at_ms,
                    ended_ms=rng.choice([60, 200, 400]),
                )
            )
            asked += calls
        elif kind == "meibel":
            events = [
                said(20, "Let me see"),
                called(40, "a", "search", q="x"),
                called(60, "b", "look"),
                *[returned(80, "a")] * (rng.random() < 0.7),
                *[said(100 + n, f"word {n}") for n in range(rng.randrange(40))],
                *[finished(180)] * (rng.random() < 0.8),
            ]
            exchanges.append(
                meibel_exchange(
                    events,
                    number=number,
                    started_at=started_at(at_ms),
                    ended_ms=200,
                    outcome=rng.choice(list(Outcome)),
                )
            )
        else:
            exchanges.append(_plain(kind, number, at_ms))
    return exchanges


def started_at(at_ms: float) -> int:
    """Return the wall time of a moment, as the samples count it."""
    (opening, *_) = chat_exchange(1, at_ms=at_ms)
    assert isinstance(opening.payload, Opening)
    return opening.payload.started_at


def _plain(kind: str, number: int, at_ms: float) -> list[Record]:
    """Return an exchange with one answer that is no stream, or with one of no API."""
    eid = exchange_id(number)
    paths = {"body": "/v1/messages", "mcp": "/mcp", "other": "/stream"}
    headers = (("Mcp-Session-Id", "s"),) if kind == "mcp" else ()
    tool = {"type": "tool_use", "id": f"t{number}", "name": "add", "input": {}}
    usage = {"input_tokens": 3, "output_tokens": 5}
    sent: dict[str, dict[str, Any]] = {
        "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        "mcp": {"id": 1, "method": "tools/call", "params": {"name": "add"}},
        "other": {},
    }
    answers: dict[str, dict[str, Any]] = {
        "body": {"model": "m", "content": [tool], "usage": usage},
        "mcp": {"jsonrpc": "2.0", "id": 1, "result": {"content": []}},
        "other": {},
    }
    body = json.dumps(answers[kind]).encode()
    media = "application/json"
    if kind == "other":
        media, body = (
            "text/event-stream",
            b'data: {"a":1}\n\n: ping\n\ndata: [DONE]\n\nid',
        )
    opening = Opening(
        recorder_id=RECORDER,
        started_at=started_at(at_ms),
        url=f"https://api.example{paths[kind]}",
        request=RequestHead("POST", paths[kind], headers),
    )
    half = len(body) // 2
    return [
        Record(eid, Op.OPEN, 0, opening),
        Record(eid, Op.REQUEST_DATA, 0, json.dumps(sent[kind]).encode()),
        Record(eid, Op.SENT, MS),
        Record(
            eid, Op.HEAD, 2 * MS, ResponseHead(200, "OK", (("Content-Type", media),))
        ),
        Record(eid, Op.DATA, 30 * MS, body[:half]),
        Record(eid, Op.DATA, 90 * MS, body[half:]),
        Record(eid, Op.END, 100 * MS, Ending(outcome=Outcome.COMPLETE)),
    ]


def in_time(exchanges: Iterable[Sequence[Record]]) -> list[Record]:
    """Return the records of exchanges as a recorder hears of them."""
    timed = []
    for records in exchanges:
        opening = records[0].payload
        assert isinstance(opening, Opening)
        timed += [(opening.started_at + r.at_ns, n, r) for n, r in enumerate(records)]
    return [record for *_, record in sorted(timed, key=lambda one: one[:2])]


def recorded(
    root: Path,
    exchanges: Iterable[Sequence[Record]],
    rng: random.Random,
    limits: Limits = SMALL,
) -> Path:
    """Record exchanges into segments that are small, and return the store."""
    scribe = writing(root, limits)
    for batch in batches(in_time(exchanges), rng):
        scribe.write([*batch])
    scribe.close()
    return root


def writing(root: Path, limits: Limits = SMALL) -> Scribe:
    """Begin to write to a store."""
    return Scribe(
        root,
        recorder_id=RECORDER,
        redactor=Redactor(),
        spans=None,
        limits=limits,
        clock=SYSTEM,
    )


def batches(records: list[Record], rng: random.Random) -> Iterator[list[Record]]:
    """Cut records at random places."""
    while records:
        size = rng.randrange(1, 20)
        yield records[:size]
        records = records[size:]


def spoil(root: Path, rng: random.Random, rate: float = 0.7) -> None:
    """Let everything be told wrongly that dialects tell, as far as chance has it."""
    layout = Layout(root)
    for name in layout.sealed_names():
        for table, change in (
            ("frames", spoil_frames),
            ("exchanges", _spoil_exchanges),
            ("tool_calls", _spoil_calls),
        ):
            if rng.random() < rate:
                path = layout.table(name, table)
                found = pq.read_table(path, partitioning=None).cast(SCHEMAS[table])
                write_table(path, table, [change(found, rng)])


def _with(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array(values, field.type))


def spoil_frames(table: pa.Table, rng: random.Random) -> pa.Table:
    """Give frames other kinds, as far as chance has it."""
    kinds = table.column("kind").to_pylist()
    wrong = [rng.choice([kind, "other", *Kind]) for kind in kinds]
    return _with(table, "kind", [str(kind) for kind in wrong])


def _spoil_exchanges(table: pa.Table, rng: random.Random) -> pa.Table:
    for name in DERIVED:
        values = table.column(name).to_pylist()
        if name == "error":
            wrong = [value or "the stream reported: nothing" for value in values]
        elif name == "dialect":
            wrong = [rng.choice([value, None, "generic", "ag_ui"]) for value in values]
        elif pa.types.is_string(table.schema.field(name).type):
            wrong = [rng.choice([value, None, "wrong"]) for value in values]
        else:
            wrong = [rng.choice([value, 7]) for value in values]
        table = _with(table, name, wrong)
    return table


def _spoil_calls(table: pa.Table, rng: random.Random) -> pa.Table:
    rows = []
    for row in table.to_pylist():
        match rng.randrange(4):
            case 0:
                rows.append(row)
            case 1:
                rows.append(row | {"arguments": "{}", "status": "ok"})
            case 2:
                rows.append(row | {"seq": row["seq"] + 100, "tool_name": "none"})
    return pa.Table.from_pylist(rows, schema=SCHEMAS["tool_calls"])


def stored(root: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a store's sealed segments; which has one does not matter."""
    tables = on_disk(root)
    # A call that a later request answered has two rows with one number.
    tables["tool_calls"].sort(key=lambda r: (r["exchange_id"], r["seq"], r["timing"]))
    return tables


def problems(root: Path) -> list[str]:
    """Return what is wrong with a store."""
    return [f"{f.check}: {f.problem}" for f in verify(root, Tally())]


def inodes(root: Path) -> dict[str, int]:
    """Return which files a store has."""
    return {
        str(path.relative_to(root)): path.stat().st_ino
        for path in root.rglob("*")
        if path.is_file()
    }
