"""Export: the spans of a recording, made again from a store.

They are equal to those that were sent live: the ids are in the rows or derived from
them, the times are those of the recording, and everything else is a function of rows
that the store has.  A backend that was down when it was recorded loses nothing, and one
that has some of them already sees nothing twice, if it tells spans apart by their ids.

A store is read in groups of exchanges, so that memory is bounded; it is sent as it is
read, and each batch is waited for: here nobody is in a hurry, and the queue that live
spans go through drops what is too much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final

from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.otel.data import SpanData
from sse_recorder.otel.spans import spans
from sse_recorder.otel.stream import StreamFacts, facts_of
from sse_recorder.otel.telemetry import Telemetry
from sse_recorder.otel.tools import Origin, answered_span
from sse_recorder.store.store import Store
from sse_recorder.tables import FrameRow

GROUP_BYTES: Final = 16 << 20
"""Of responses whose frames are read at once."""
GROUP_SIZE: Final = 256
BATCH_SIZE: Final = 512
"""Spans that are sent at once."""


def rebuilt(
    store: Store, telemetry: Telemetry, where: str = "true"
) -> Iterator[list[SpanData]]:
    """Give the spans of each exchange that is over and sampled.

    The spans of its calls that another exchange answered come after its own.

    Args:
        store: the recording.
        telemetry: says how exchanges are told, and which are sampled.
        where: an SQL condition on the table `exchanges`.

    Raises:
        UsageError: the condition is wrong.
        StoreError: a file of the store is damaged.
    """
    origins = _answering(store)
    for group in _groups(store.exchanges(where)):
        ids = [exchange.exchange_id for exchange in group]
        facts = _facts(store, ids, keeps_content=telemetry.view.has_content)
        calls = _tool_calls(store, ids)
        for exchange in group:
            origin = Origin.of(exchange.exchange_id, exchange)
            if not telemetry.wants(origin, exchange.request_headers):
                telemetry.unsampled += 1
                continue
            own = calls.get(exchange.exchange_id, [])
            heard = facts.get(exchange.exchange_id, StreamFacts())
            found = spans(exchange, own, heard, telemetry.view)
            if found:
                found += (
                    answered_span(
                        call,
                        origin,
                        origins.get(call.result_exchange_id or ""),
                        telemetry.view,
                    )
                    for call in own
                    if call.timing == CROSS_REQUEST
                )
                yield found


def send(found: Iterable[list[SpanData]], telemetry: Telemetry) -> tuple[int, int]:
    """Send spans, and return how many were delivered and how many were not.

    The first batch that is not taken is the last that is tried.
    """
    delivered, batch = 0, list[SpanData]()
    size = telemetry.batch_size("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") or BATCH_SIZE
    for more in found:
        batch += more
        while len(batch) >= size:
            part, batch = batch[:size], batch[size:]
            if not telemetry.send(part):
                return delivered, len(part) + len(batch)
            delivered += len(part)
    if batch and not telemetry.send(batch):
        return delivered, len(batch)
    return delivered + len(batch), 0


def _groups(exchanges: Iterable[Exchange]) -> Iterator[list[Exchange]]:
    """Group exchanges so that the frames of each group fit into memory."""
    group: list[Exchange] = []
    size = 0
    for exchange in exchanges:
        too_large = size + exchange.response_size > GROUP_BYTES
        if group and (too_large or len(group) == GROUP_SIZE):
            yield group
            group, size = [], 0
        group.append(exchange)
        size += exchange.response_size
    if group:
        yield group


def _facts(
    store: Store, ids: list[str], *, keeps_content: bool
) -> dict[str, StreamFacts]:
    query = (
        "SELECT * FROM frames WHERE exchange_id IN (SELECT unnest(?))"
        " ORDER BY exchange_id, seq"
    )
    rows = (
        FrameRow(*row)
        for batch in store.sql(query, [ids]).to_batches()
        for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    )
    return {
        exchange_id: facts_of(frames, keeps_content=keeps_content)
        for exchange_id, frames in groupby(rows, key=attrgetter("exchange_id"))
    }


def _tool_calls(store: Store, ids: list[str]) -> dict[str, list[ToolCall]]:
    query = (
        "SELECT * FROM tool_calls WHERE exchange_id IN (SELECT unnest(?))"
        " ORDER BY exchange_id, seq"
    )
    rows = (ToolCall(**row) for row in store.sql(query, [ids]).to_pylist())
    return {
        exchange_id: list(calls)
        for exchange_id, calls in groupby(rows, key=attrgetter("exchange_id"))
    }


def _answering(store: Store) -> dict[str, Origin]:
    """Return where the exchanges are whose requests have results of others' calls."""
    query = (
        "SELECT exchange_id, epoch_ns(started_at) AS started_at, trace_id, span_id,"
        " parent_span_id, trace_flags FROM exchanges_ns WHERE exchange_id IN"
        " (SELECT result_exchange_id FROM tool_calls WHERE timing = 'cross_request')"
    )
    return {
        row["exchange_id"]: Origin.at(**row) for row in store.sql(query).to_pylist()
    }
