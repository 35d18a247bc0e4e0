"""Calls that a later request answered: whether their rows agree with all others.

Such a call has two rows, its own and one that the later request told (see
`dialects.conversations`), which may be in a later segment and repeats all that the call
itself was.  What it tells is in that request, which has a row of its own:

    tool_calls    A, call 0, unanswered
    tool_calls    A, call 0, ok, result_exchange_id B        the same call
    exchanges     B, request_body                            has the result

`Answered` is shown the rows of a recorder's segments in their order.  It keeps digests
of what it waits for, no content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sse_recorder import dialects
from sse_recorder.dialects.conversations import CROSS_REQUEST
from sse_recorder.exchange import Exchange
from sse_recorder.tables import TOOL_CALLS

# What the later row says anew; all else is the call's own.
_NEWS: Final = frozenset(
    {"result", "status", "timing", "result_ns", "duration_ns", "result_frame"}
    | {"result_exchange_id"}
)
_OWN: Final = tuple(
    place for place, name in enumerate(TOOL_CALLS.names) if name not in _NEWS
)
_PLACES: Final = {name: place for place, name in enumerate(TOOL_CALLS.names)}


class Wrong(NamedTuple):
    """A row that does not agree with others."""

    file: str
    exchange_id: str
    problem: str


@dataclass(frozen=True, slots=True)
class _Told:
    """A row that a later request told."""

    file: str
    exchange_id: str
    seq: int
    is_unmatched: bool
    call: bytes
    result: bytes


class Answered:
    """The calls of one recorder that later requests answered."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, int], bytes] = {}
        """Unanswered ones."""
        self._told: dict[tuple[str, int], _Told] = {}
        self._awaited: dict[str, list[_Told]] = {}
        """By the exchange whose request has the result."""
        self._wrong: list[Wrong] = []

    def calls(self, file: str, rows: Iterable[pa.RecordBatch]) -> None:
        """Take in the rows of `tool_calls` of a segment, before its requests."""
        for batch in rows:
            is_open = pc.equal(batch.column("status"), "unanswered")
            for row in _rows(batch.filter(is_open)):
                key = (str(row[0]), int(str(row[1])))
                self._calls[key] = _digest([row[place] for place in _OWN])
            for row in _rows(batch.filter(_is_told(batch))):
                self._add(file, row)

    def _add(self, file: str, row: tuple[object, ...]) -> None:
        told = _Told(
            file,
            str(row[0]),
            int(str(row[1])),
            row[_PLACES["status"]] == "unmatched",
            _digest([row[place] for place in _OWN]),
            _digest(row[_PLACES["result"]]),
        )
        key = (told.exchange_id, told.seq)
        if key in self._told:
            self._wrong.append(_wrong(told, "is answered twice"))
        self._told[key] = told
        request = str(row[_PLACES["result_exchange_id"]])
        self._awaited.setdefault(request, []).append(told)

    def request(self, exchange: Exchange) -> None:
        """Look whether a request has the results that are said to be in it."""
        told = self._awaited.pop(exchange.exchange_id, None)
        if told is None:
            return
        dialect = dialects.load(exchange.dialect or "")
        results = dialect.read_turn(exchange.request_body).results
        there = {_digest(result.result) for result in results}
        for one in told:
            if one.result not in there:
                problem = f"has a result that is not in {exchange.exchange_id}"
                self._wrong.append(_wrong(one, problem))
            elif one.is_unmatched and one.seq < exchange.tool_call_count:
                self._wrong.append(_wrong(one, "has the number of another one"))

    def close(self, *, is_whole: bool) -> Iterator[Wrong]:
        """Give what is wrong, and begin anew.

        Args:
            is_whole: whether all segments could be read.
        """
        yield from self._wrong
        for key, told in self._told.items():
            if not told.is_unmatched and is_whole and self._calls.get(key) != told.call:
                yield _wrong(told, "is another one where it is answered")
        for held in (self._calls, self._told, self._awaited, self._wrong):
            held.clear()


def own(rows: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
    """Return the rows of `tool_calls` that no later request told."""
    return rows.filter(pc.invert(_is_told(rows)))


def _is_told(rows: pa.Table | pa.RecordBatch) -> pa.Array:
    return pc.equal(rows.column("timing"), CROSS_REQUEST)


def _rows(table: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def _digest(value: object) -> bytes:
    return hashlib.sha256(repr(value).encode(errors="backslashreplace")).digest()[:16]


def _wrong(told: _Told, problem: str) -> Wrong:
    return Wrong(told.file, told.exchange_id, f"call {told.seq} {problem}")
