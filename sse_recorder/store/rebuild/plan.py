"""What a rebuild would change of a recorder's segments, found out and not yet done.

`Plan` is shown the segments in their order.  Each exchange is read anew in the segment
that has its row; what it has in earlier ones is looked up there:

    segment 1     segment 2     segment 3
    frames A      frames A      frames A   calls A   exchange A
       ▲             ▲             ▲          ▲          ▲
       └─────────────┴─────────────┴──────────┴──────────┴──── what reading A changes

When all were shown, the exchanges are heard of once more in the order of time, so that
calls are paired with results in later requests (see `dialects.conversations`).

What cannot be told stays as it is: exchanges that are still open, of a dialect that is
not known here, or with frames that are not there, and answers that such an exchange
gave.  In memory are the ids of a recorder's exchanges, the numbers of the calls that
later requests answered, and one segment; the rest is on a shelf.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sse_recorder import dialects
from sse_recorder.dialects.base import Kind
from sse_recorder.dialects.conversations import CROSS_REQUEST, Conversations, Part
from sse_recorder.dialects.turns import ClientResult
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.match import PARSED_BYTES_MAX
from sse_recorder.store.rebuild.reading import (
    DERIVED,
    PLACES,
    Reading,
    StoredFrame,
    call_rows,
    tuples,
)
from sse_recorder.store.rebuild.shelf import Shelf
from sse_recorder.store.segment import Layout
from sse_recorder.store.store import to_exchange
from sse_recorder.tables import SCHEMA_VERSION, SCHEMAS, VERSION_KEY, Row, Rows
from sse_recorder.transcript import BODY_FRAME_MAX

BATCH_ROWS: Final = 4_096
KINDS: Final = {kind.value: chr(ord("a") + n) for n, kind in enumerate(Kind)}
"""A letter for each kind, so that those of many frames are one text."""
_NAMES: Final = {letter: kind for kind, letter in KINDS.items()}
_FRAME_COLUMNS: Final = list(StoredFrame._fields)
# What the later row says anew; all else is the call's own.
_NEWS: Final = tuple(
    PLACES[name]
    for name in (
        *("result", "status", "timing", "result_ns", "duration_ns", "result_frame"),
        "result_exchange_id",
    )
)
_SEQ, _STATUS, _TIMING = PLACES["seq"], PLACES["status"], PLACES["timing"]
_RESULT, _REQUEST = PLACES["result"], PLACES["result_exchange_id"]

log = logging.getLogger("sse_recorder.store")


class Difference(NamedTuple):
    """A way in which what is stored and what is read differ."""

    what: str
    """A table and a column, or a table where rows come and go."""
    before: str = ""
    after: str = ""


@dataclass(slots=True)
class Tally:
    """What was found so far."""

    segments: int = 0
    """Looked at,"""
    changed_segments: int = 0
    """and with something to change."""
    exchanges: int = 0
    changed_exchanges: int = 0
    differences: Counter[Difference] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    """Exchanges that stay as they are, by why."""
    problems: list[str] = field(default_factory=list)
    """Segments that stay as they are, and why."""


@dataclass(slots=True)
class Changes:
    """The places on the shelf of what changes in a segment, by table.

    Of `frames` it is (exchange, kinds of all its frames in the segment), of `exchanges`
    (exchange, columns), of `tool_calls` (exchange, number, whether a later request told
    it, the row or None).
    """

    frames: array[int] = field(default_factory=lambda: array("q"))
    exchanges: array[int] = field(default_factory=lambda: array("q"))
    tool_calls: array[int] = field(default_factory=lambda: array("q"))


class _Unsound(Exception):  # noqa: N818 - it never leaves this module
    """An exchange cannot be read anew, and why."""


class Plan:
    """What is to be changed of one recorder's segments."""

    def __init__(
        self, layout: Layout, shelf: Shelf, tally: Tally, *, is_whole: bool
    ) -> None:
        """Begin one.

        Args:
            layout: of the store.
            shelf: where it puts what it finds.
            tally: is added to.
            is_whole: whether all that the recorder recorded is to be shown.
        """
        self.changes: defaultdict[str, Changes] = defaultdict(Changes)
        """By segment."""
        self._layout = layout
        self._shelf = shelf
        self._tally = tally
        self._is_whole = is_whole
        self._pending: dict[str, list[str]] = {}
        """The segments of exchanges that have no row in any of them yet."""
        self._read: set[str] = set()
        """Exchanges that were read anew."""
        self._told: dict[tuple[str, int], tuple[str, int]] = {}
        """The calls that later requests answered: segment, and place of the row."""
        self._homes: dict[str, str] = {}
        """The segments of exchanges whose requests have results."""
        self._parts = _Parts(shelf)

    def add(self, name: str) -> None:
        """Read a segment's exchanges anew.

        Raises:
            OSError: a file cannot be read; as do ArrowException and ValueError.
            StoreError: the shelf has no room.
        """
        own: dict[str, list[tuple[str, Row]]] = {}
        for row in rows_of(self._layout.table(name, "tool_calls"), "tool_calls"):
            if row[_TIMING] == CROSS_REQUEST:
                self._told[row[0], row[_SEQ]] = (name, self._shelf.put(row))
            else:
                own.setdefault(row[0], []).append((name, row))
        frames = _ByExchange(_frames(self._layout.table(name, "frames")))
        exchanges = list(_exchanges(self._layout.table(name, "exchanges")))
        exchanges.sort(key=lambda one: one.exchange_id)
        earlier = self._look_back([one.exchange_id for one in exchanges], own)
        for exchange in exchanges:
            eid = exchange.exchange_id
            self._await(name, frames.skip(eid))
            names = self._pending.pop(eid, [])
            parts = [(each, earlier[each].take(eid)) for each in names]
            parts.append((name, frames.take(eid)))
            self._reread(name, exchange, parts, own.pop(eid, []))
        self._await(name, frames.skip(None))
        self._await(name, own)
        self._tally.segments += 1

    def _look_back(
        self, ids: Iterable[str], own: dict[str, list[tuple[str, Row]]]
    ) -> dict[str, _ByExchange]:
        """Return the frames that exchanges have in earlier segments, by segment.

        Their calls there are put before those of their own segment.
        """
        wanted: dict[str, list[str]] = {}
        for eid in ids:
            for name in self._pending.get(eid, ()):
                wanted.setdefault(name, []).append(eid)
        before: dict[str, list[tuple[str, Row]]] = {}
        for name, those in wanted.items():
            path = self._layout.table(name, "tool_calls")
            for row in rows_of(path, "tool_calls", those):
                if row[_TIMING] != CROSS_REQUEST:
                    before.setdefault(row[0], []).append((name, row))
        for eid, rows in before.items():
            own[eid] = rows + own.get(eid, [])
        return {
            name: _ByExchange(_frames(self._layout.table(name, "frames"), those))
            for name, those in wanted.items()
        }

    def _await(self, name: str, ids: Iterable[str]) -> None:
        """Note exchanges whose row is in a later segment, or in none yet."""
        for eid in ids:
            names = self._pending.setdefault(eid, [])
            if name not in names:
                names.append(name)

    # --- one exchange

    def _reread(
        self,
        home: str,
        exchange: Exchange,
        parts: Sequence[tuple[str, Iterator[StoredFrame]]],
        calls: list[tuple[str, Row]],
    ) -> None:
        """Note what changes of an exchange, unless it cannot be told."""
        self._tally.exchanges += 1
        found: Counter[Difference] = Counter()
        try:
            if not dialects.is_known(exchange.dialect or "generic"):
                raise _Unsound(f"the dialect {exchange.dialect!r} is not known here")  # noqa: TRY301
            reading = Reading(exchange)
            kinds = _kinds(exchange, reading, parts, found)
            columns = _columns(exchange, reading.close(), found)
            new_calls = reading.calls()
        except _Unsound as unsound:
            self._tally.left[str(unsound)] += 1
            return
        except (OSError, pa.ArrowException, StoreError):
            raise
        except Exception as error:
            log.exception("%s: cannot be read anew; please report this", home)
            self._tally.left[f"reading it failed: {error!r}"] += 1
            return
        finally:
            for _, frames in parts:
                for _ in frames:
                    pass  # what was not looked at belongs to it all the same
        self._note(home, exchange.exchange_id, kinds, columns)
        self._compare_calls(home, calls, new_calls, found)
        self._tally.differences += found
        self._tally.changed_exchanges += bool(found)
        self._read.add(exchange.exchange_id)
        if (part := reading.part()) is not None:
            if part.results:
                self._homes[part.exchange_id] = home
            self._parts.add(part)

    def _note(
        self, home: str, eid: str, kinds: dict[str, str], columns: dict[str, Any]
    ) -> None:
        for name, text in kinds.items():
            self.changes[name].frames.append(self._shelf.put((eid, text)))
        if columns:
            self.changes[home].exchanges.append(self._shelf.put((eid, columns)))

    def _compare_calls(
        self,
        home: str,
        stored: list[tuple[str, Row]],
        found: list[Row],
        differences: Counter[Difference],
    ) -> None:
        """Note which of an exchange's own calls change; each stays in its segment."""
        before = {row[_SEQ]: (name, row) for name, row in stored}
        for row in found:
            name, old = before.pop(row[_SEQ], (home, None))
            if old != row:
                self._change_call(name, old, row, differences)
        for name, old in before.values():
            self._change_call(name, old, None, differences)

    def _change_call(
        self,
        name: str,
        old: Row | None,
        new: Row | None,
        differences: Counter[Difference],
    ) -> None:
        row = new or old
        assert row is not None
        is_told = row[_TIMING] == CROSS_REQUEST
        place = self._shelf.put((row[0], row[_SEQ], is_told, new))
        self.changes[name].tool_calls.append(place)
        before, after = (one[_STATUS] if one else "" for one in (old, new))
        differences[Difference("tool_calls", before, after)] += 1

    # --- across exchanges

    def pair(self) -> None:
        """Pair calls with results in later requests, when all segments were shown."""
        spared = self._spare()
        machine = Conversations()
        for part, is_beginning in self._parts.in_time():
            if is_beginning:
                machine.began(part.exchange_id, part.host)
                answered = machine.asked(_without(part, spared))
            else:
                answered = machine.ended(part)
            self._compare_told(answered)
        self._compare_told(machine.close())
        self._drop_told()

    def _spare(self) -> Counter[tuple[str, int]]:
        """Leave the answers to calls that were not read; return which results."""
        spared: Counter[tuple[str, int]] = Counter()
        for key, (_, place) in list(self._told.items()):
            if key[0] not in self._read:
                row = self._shelf.get(place)
                spared[row[_REQUEST], hash(row[_RESULT])] += 1
                del self._told[key]
        return spared

    def _compare_told(self, calls: list[ToolCall]) -> None:
        rows = Rows()
        rows.add_tool_calls(calls)
        for row in call_rows(rows):
            name, place = self._told.pop((row[0], row[_SEQ]), (None, None))
            if row[_STATUS] == "unmatched" and not self._is_whole:
                continue  # its call may be in what was not shown
            old = None if place is None else tuple(self._shelf.get(place))
            if old is not None and old[_REQUEST] not in self._read:
                row = _with_news(row, old)  # noqa: PLW2901
            if old != row:
                home = name or self._homes[row[_REQUEST]]
                self._change_call(home, old, row, self._tally.differences)

    def _drop_told(self) -> None:
        """Drop answers that are none any more, but not those of what was not read."""
        rest = {
            key: (name, tuple(self._shelf.get(place)))
            for key, (name, place) in self._told.items()
        }
        doubtful = {
            key[0] for key, (_, row) in rest.items() if row[_REQUEST] not in self._read
        }
        calls = self._parts.calls_of(doubtful)
        for key, (name, old) in rest.items():
            call = calls.get(key)
            is_kept = old[_REQUEST] not in self._read and call is not None
            new = _with_news(call, old) if is_kept and call is not None else None
            if old != new:
                self._change_call(name, old, new, self._tally.differences)


class _Parts:
    """What exchanges are to their conversations, to be heard of in time."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._times = array("q")
        self._places = array("q")

    def add(self, part: Part) -> None:
        place = self._shelf.put(
            part._asdict() | {"calls": [(key, asdict(c)) for key, c in part.calls]}
        )
        ended_at = part.started_at + max(part.length_ns, 1)
        self._times.extend((part.started_at, ended_at))
        # The last bit tells the end from the beginning.
        self._places.extend((place << 1, place << 1 | 1))

    def in_time(self) -> Iterator[tuple[Part, bool]]:
        """Give each of them twice: when it began and when it ended, ends first."""
        is_begun = pa.array([~place & 1 for place in self._places], pa.int8())
        events = pa.table([pa.array(self._times), is_begun], ["at", "is_begun"])
        order = [("at", "ascending"), ("is_begun", "ascending")]
        for number in pc.sort_indices(events, sort_keys=order):
            place = self._places[number.as_py()]
            yield self._get(place >> 1), not place & 1

    def calls_of(self, ids: set[str]) -> dict[tuple[str, int], Row]:
        """Return the unanswered calls of some exchanges."""
        rows = Rows()
        for place in self._places if ids else ():
            if not place & 1 and (part := self._get(place >> 1)).exchange_id in ids:
                rows.add_tool_calls(call for _, call in part.calls)
        return {(row[0], row[_SEQ]): row for row in call_rows(rows)}

    def _get(self, place: int) -> Part:
        found = self._shelf.get(place)
        found["results"] = tuple(ClientResult(*one) for one in found["results"])
        found["calls"] = tuple((key, ToolCall(**one)) for key, one in found["calls"])
        return Part(**(found | {"answered": tuple(found["answered"])}))


def _without(part: Part, spared: Counter[tuple[str, int]]) -> Part:
    """Return a part without the results that are accounted for."""
    results = []
    for result in part.results:
        key = (part.exchange_id, hash(result.result))
        if spared[key]:
            spared[key] -= 1
        else:
            results.append(result)
    return part._replace(results=tuple(results))


def _with_news(call: Row, told: Row) -> Row:
    """Return a call with what another row tells of its result."""
    return tuple(
        told[place] if place in _NEWS else value for place, value in enumerate(call)
    )


def _kinds(
    exchange: Exchange,
    reading: Reading,
    parts: Sequence[tuple[str, Iterator[StoredFrame]]],
    found: Counter[Difference],
) -> dict[str, str]:
    """Return the kinds of frames by segment, of those in which one is another."""
    changed = {}
    count = 0
    for name, frames in parts:
        letters: list[str] = []
        is_same = True
        for frame in frames:
            if frame.seq != count:
                raise _Unsound("some of its frames are not there")
            count += 1
            kind = reading.read(frame)
            letters.append(KINDS[kind])
            if kind != frame.kind:
                is_same = False
                found[Difference("frames.kind", frame.kind, kind.value)] += 1
        if not is_same:
            changed[name] = "".join(letters)
    if count != exchange.frame_count:
        raise _Unsound("some of its frames are not there")
    return changed


def kinds_of(letters: str) -> list[str]:
    """Return kinds by their letters."""
    return [_NAMES[letter] for letter in letters]


def _columns(
    exchange: Exchange, read: dict[str, Any], found: Counter[Difference]
) -> dict[str, Any]:
    """Return the columns of an exchange that are others."""
    changed = {}
    for name in DERIVED:
        before = getattr(exchange, name)
        if before != read[name]:
            changed[name] = read[name]
            # Names of dialects are few; values are as many as exchanges.
            values = (before or "", read[name] or "") if name == "dialect" else ()
            found[Difference(f"exchanges.{name}", *values)] += 1
    return changed


# --- reading files


class _ByExchange:
    """Frames in the order of their exchanges, taken exchange by exchange."""

    def __init__(self, frames: Iterator[StoredFrame]) -> None:
        self._groups = groupby(frames, key=itemgetter(0))
        self._next = next(self._groups, None)

    def take(self, exchange_id: str) -> Iterator[StoredFrame]:
        """Give those of an exchange, if it is the next one."""
        if self._next is not None and self._next[0] == exchange_id:
            yield from self._next[1]
            self._next = next(self._groups, None)

    def skip(self, before: str | None) -> Iterator[str]:
        """Give the exchanges before one, without their frames; all, without one."""
        while self._next is not None and (before is None or self._next[0] < before):
            yield self._next[0]
            self._next = next(self._groups, None)


def open_file(path: Path) -> pq.ParquetFile:
    """Open a file whose pages are held against their checksums."""
    return pq.ParquetFile(path, page_checksum_verification=True)


def refusal(path: Path, table: str) -> str | None:
    """Say why a table's file is none that can be written again."""
    try:
        with open_file(path) as file:
            found = file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        return f"{path}: it cannot be read ({str(error).partition(chr(10))[0]})"
    version = (found.metadata or {}).get(VERSION_KEY, b"none").decode()
    names = SCHEMAS[table].names
    if version != SCHEMA_VERSION or found.names != names[: len(found.names)]:
        return f"{path}: another version of sse-recorder wrote it"
    return None


def rows_of(path: Path, table: str, ids: list[str] | None = None) -> Iterator[Row]:
    """Give the rows of a table's file, or those of some exchanges, whole."""
    schema = SCHEMAS[table]
    for batch in _batches(path, schema.names, ids):
        width = len(schema) - batch.num_columns
        for row in tuples(batch):
            yield (*row, *[None] * width)  # an earlier version had fewer columns


def _frames(path: Path, ids: list[str] | None = None) -> Iterator[StoredFrame]:
    for batch in _batches(path, _FRAME_COLUMNS, ids):
        # Only a whole body is read from its bytes.
        is_body = pc.and_(
            pc.equal(batch.column("type"), "body"),
            pc.less_equal(batch.column("size"), BODY_FRAME_MAX),
        )
        raw = pc.if_else(is_body, batch.column("raw"), pa.scalar(None, pa.binary()))
        place = batch.schema.get_field_index("raw")
        for row in tuples(batch.set_column(place, "raw", raw)):
            yield StoredFrame(*row)


def _batches(
    path: Path, columns: list[str], ids: list[str] | None
) -> Iterator[pa.RecordBatch]:
    wanted = None if ids is None else pa.array(ids, pa.string())
    with open_file(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=columns):
            # In the order in which they were asked for.
            there = batch.select([n for n in columns if n in batch.schema.names])
            if wanted is not None:
                is_wanted = pc.is_in(there.column("exchange_id"), wanted)
                there = there.filter(is_wanted)
            yield there


def _exchanges(path: Path) -> Iterator[Exchange]:
    """Give the exchanges of a segment, without the bodies that dialects do not read."""
    with open_file(path) as file:
        for batch in file.iter_batches(64):
            table = pa.Table.from_batches([batch])
            place = table.schema.get_field_index("started_at")
            times = table.column(place).cast(pa.int64())
            for row in table.set_column(place, "started_at", times).to_pylist():
                if row["request_body_size"] > PARSED_BYTES_MAX:
                    row["request_body"] = b""
                yield to_exchange(row)
