"""The scribe: batches of records in; a journal, segments and spans out.

    records ─▶ mask ─▶ journal ─▶ backlog ─▶ transcripts ─▶ rows ─▶ segment ─▶ Parquet
                                                  └──▶ spans

A batch is masked and appended to the journal at once: that is what a crash leaves.  The
rows can wait, since nobody reads them before their segment is sealed, and making many
at a time costs less than half: so what streams said is kept in a backlog, which is
transcribed when an exchange does anything but go on, when there is much of it, and
before a seal.  What one exchange tells of the tool calls of another (see
`conversations`) comes into the journal before the end of the one that told it: who
reads that a request is over, now or after a crash, finds what it answered of calls that
were known by then.  Sealing is done by another thread, so that the journal does not
wait.

What cannot be written is lost, and said: in the exchange's outcome, in the log once a
minute, and in `status`.  Nothing here raises for what a disk does.  Rows are made only
of what the journal has, so that it can always stand in for them.  What it did not take
is owed to it (see `debt`), and while anything is wrong each batch, and each pause, is
an occasion to see whether it still is.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from sse_recorder.capture.audience import Audience, Spans
from sse_recorder.capture.backlog import Backlog
from sse_recorder.capture.complaints import Complaints
from sse_recorder.capture.debt import Debt
from sse_recorder.clock import Clock
from sse_recorder.dialects.conversations import Conversations
from sse_recorder.errors import StoreError
from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    RawRecord,
    Record,
    RequestHead,
    ResponseHead,
    ToolCall,
    records_of,
)
from sse_recorder.masking import BodyMask, UnmaskableError
from sse_recorder.redact import Redactor
from sse_recorder.store.census import known
from sse_recorder.store.recovery import Decision, Recovered, recover
from sse_recorder.store.segment import Layout, OpenSegment, new_segment_name
from sse_recorder.tables import Rows
from sse_recorder.transcript import Transcript

log = logging.getLogger("sse_recorder.capture")

BACKLOG_RECORDS: Final = 8_192
BACKLOG_BYTES: Final = 8 << 20
_SEGMENTS_IN_MEMORY: Final = 2
_TOLD_MAX: Final = 100
_LOOK_S: Final = 0.5
"""How often it looks round while it seals, and while anything is wrong."""
_ROOM_BYTES: Final = 64 << 10
"""For so much there must be room, or nothing more is tried."""
_RESEAL_NS: Final = 5_000_000_000
_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_OUR_FAULT: Final = "the recorder failed; its log says how"
# Without the reason, which has names in it that anybody may choose.
_UNMASKABLE: Final = (
    "a coded body is not kept to its end, because it may hold a secret that cannot be"
    " masked; its exchange is incomplete and says more"
)
_BODIES: Final = frozenset({Op.REQUEST_DATA, Op.DATA})
# Looking a member up in its class takes as long as a test of it.
_DATA, _REQUEST_DATA, _END = Op.DATA, Op.REQUEST_DATA, Op.END


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a segment is sealed, and how much may wait to be written."""

    queue_bytes: int = 64 << 20
    """Beyond this records are dropped and their exchanges are `incomplete`."""
    segment_bytes: int = 64 << 20
    """A journal of this size is sealed,"""
    segment_age_s: float = 300
    """or of this age,"""
    idle_s: float = 10
    """or when no exchange has been open for this long."""


class Loss(NamedTuple):
    """Something that was to be recorded, and was not."""

    reason: str
    at_ns: int
    """By the monotonic clock, which is the same for all processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a scribe is."""

    problems: tuple[str, ...] = ()
    """What keeps it from writing everything, in words; empty while all is well."""
    losses: tuple[Loss, ...] = ()
    """The last of each kind."""
    journal_errors: int = 0
    seals: int = 0
    seal_failures: int = 0
    restarts: int = 0


class Scribe:
    """Writes batches of records to a store.

    Everything but `status` is called by one thread.

    Args:
        root: the store.
        recorder_id: what names the segments.
        redactor: what masks.
        spans: who wants to hear of exchanges that are over.
        limits: when a segment is sealed.
        clock: of the records' times.

    Raises:
        StoreError: the store cannot be written.
    """

    def __init__(
        self,
        root: Path,
        *,
        recorder_id: str,
        redactor: Redactor,
        spans: Spans | None,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self.recorders = [recorder_id]
        """The ids of all that wrote in its name: its own."""
        self._layout = Layout(root)
        self._recorder_id = recorder_id
        self._redactor = redactor
        self._audience = Audience(spans)
        self._limits = limits
        self._clock = clock
        self._transcripts: dict[str, Transcript] = {}
        self._conversations = Conversations()
        self._told: list[ToolCall] = []
        """What exchanges told of others' calls, and the journal does not have yet."""
        self._masks: dict[Op, dict[str, BodyMask]] = {op: {} for op in _BODIES}
        self._lost: dict[str, str] = {}
        """Exchanges of which something is gone, and why."""
        self._unspooled: set[str] = set()
        """Open ones whose request body could not be kept."""
        self._spanning: set[str] = set()
        """Open exchanges that have rows in segments before this one."""
        self._backlog = Backlog()
        self._debt = Debt()
        self._last_heard_ns = clock.monotonic_ns()
        self._latest_ns = 0
        self._problems: dict[str, str] = {}
        self._losses: dict[str, Loss] = {}
        self._journal_errors = self._seals = self._seal_failures = 0
        self._has_failed = False
        """Whether the journal did not take something of this batch."""
        self._sealing: Future[None] | None = None  # the last one of them
        self._reseal_ns = 0
        self._complaints = Complaints(clock)
        try:
            self._segment = self._begin_segment()
        except OSError as error:
            raise StoreError(
                f"{error.filename or root}: {error.strerror}; name a folder that can be"
                " written with --store"
            ) from error
        self.recovered = self._recover(root)
        """What an earlier crash left, and what was done about it."""
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="sse-recorder-seal")

    def _recover(self, root: Path) -> list[Recovered]:
        try:
            found = recover(root)
        except StoreError as error:
            # What cannot be recovered now is still there, and no reason not to record.
            self._complaints.say(
                "recover", f"what a crash left is not recovered: {error}"
            )
            return []
        return [item for item in found if item.decision is not Decision.LEAVE]

    @property
    def status(self) -> Status:
        """How it is; asked from any thread."""
        return Status(
            problems=tuple(self._problems.values()),
            losses=tuple(self._losses.values()),
            journal_errors=self._journal_errors,
            seals=self._seals,
            seal_failures=self._seal_failures,
        )

    @property
    def pid(self) -> None:
        """Nothing: it is in this process."""

    def pause_s(self) -> float | None:
        """Return after how long without records it wants an empty batch."""
        is_sealing = self._sealing is not None and not self._sealing.done()
        if is_sealing or self._problems:
            return _LOOK_S
        return None if self._segment.is_empty else self._limits.idle_s / 4

    def write(self, records: list[RawRecord]) -> None:
        """Take a batch; an empty one lets it look round."""
        self._has_failed = False
        try:
            self._look_at_place()
            if self._problems:
                self._look_again()
            self._write(self._masked(records))
            self._write_told()
            if self._is_due():
                self._roll()
        except Exception as error:  # noqa: BLE001 - told within
            self._survive(error, records)

    def give_up(
        self, records: list[RawRecord], reason: str, recorders: Collection[str]
    ) -> None:
        """Take in exchanges of which beginnings and ends are known; the rest is lost.

        Args:
            records: the beginnings and the ends.
            reason: why.
            recorders: those that may have recorded them nevertheless.
        """
        there = known(self._layout, recorders, {eid for eid, *_ in records})
        lost = [record for record in records if record[0] not in there]
        self._lost.update((eid, reason) for eid, *_ in lost)
        self.write(lost)

    def leave(self) -> None:
        """Let go of the journal: in a fork, it is the other process's to write."""
        self._segment.journal.close()

    def hurry(self) -> None:
        """Nothing can be waited for less."""

    def close(self) -> int:
        """Seal what there is; whoever hears of spans knows which were not delivered."""
        self.write([])
        self._told += self._conversations.close()
        self._write_told()
        owed = self._debt.all()
        # The last chance: rows may be sealed where a journal cannot be written.
        self._take_in(owed)
        self._take_in(records_of(self._told))
        self._submit_seal(self._segment)
        self._sealer.shutdown()
        lost = self._debt.unheard
        if owed and "seal" in self._problems:
            lost += sum(op is Op.OPEN for _, op, _, _ in owed)
        if lost:
            log.error("%s exchanges are lost: nothing of them could be written", lost)
        return 0

    # --- from records to the journal

    def _write(self, records: list[RawRecord]) -> None:
        """Write masked records, ends last."""
        ends = [record for record in records if record[1] is _END]
        self._record([r for r in records if r[1] is not _END] if ends else records)
        if ends:
            self._write_ends(ends)

    def _write_ends(self, ends: list[RawRecord]) -> None:
        """Write ends, each after what its exchange tells and after what tells of it."""
        self._hear_out(ends)
        part, has_calls = list[RawRecord](), False
        for end in ends:
            if has_calls and self._conversations.is_waiting(end[0]):
                self._write_told()
                self._record(part)  # it may show the calls that are waited for
                part, has_calls = [], False
            part.append(end)
            transcript = self._transcripts.get(end[0])
            has_calls = has_calls or (transcript is not None and transcript.has_calls)
        self._write_told()
        self._record(part)

    def _hear_out(self, ends: list[RawRecord]) -> None:
        """Let exchanges tell what they can before they end."""
        try:
            self._clear_backlog()  # events may show how to read the request
        except Exception as error:  # noqa: BLE001 - told within
            self._survive(error, [])
        for eid, *_ in ends:
            if (transcript := self._transcripts.get(eid)) is not None:
                self._hear_turn(transcript)

    def _record(self, records: list[RawRecord]) -> None:
        """Bring records into the journal, and to the rows."""
        if not records:
            return
        try:
            if "journal" in self._problems:
                raise OSError(errno.EIO, self._problems["journal"])  # noqa: TRY301
            self._backlog.add(self._append(records))
        except OSError as error:
            self._owe(records, error)
        else:
            self._take_in_safely(records)
        self._last_heard_ns = self._clock.monotonic_ns()

    def _write_told(self) -> None:
        """Write what exchanges told of others; a little of it waits for a full disk."""
        if "journal" not in self._problems:
            try:
                self._append_told()
            except OSError as error:
                self._miss([], error)
        del self._told[:-_TOLD_MAX]

    def _append_told(self) -> None:
        if not self._told:
            return
        told = records_of(self._told)
        self._append(told)
        self._told = []
        self._take_in_safely(told)

    def _take_in_safely(self, records: list[RawRecord]) -> None:
        """Make the rows of records; where that fails, they are made of the journal."""
        try:
            self._take_in(records)
        except Exception as error:  # noqa: BLE001 - told within
            self._survive(error, records)

    def _survive(self, error: Exception, records: list[RawRecord]) -> None:
        """Go on after a fault of ours: it must not end the recording of all others."""
        log.error("a batch was not recorded whole; please report this", exc_info=error)
        self._lose("fault", records, _OUR_FAULT)
        # The journal may have what the tables now lack.
        self._segment.is_suspect = True
        for eid, op, _, _ in records:
            if op is _END:
                self._forget(eid)
                self._audience.forget(eid)

    def _append(self, records: list[RawRecord]) -> pa.RecordBatch:
        if self._is_stuck():
            raise OSError(errno.EIO, self._problems["segment"])
        return self._segment.journal.append(records)

    def _owe(self, records: list[RawRecord], error: OSError) -> None:
        """Keep what must be known of records that the journal did not take."""
        self._miss([record for record in records if record[1] is not _END], error)
        self._debt.add(self._honest(r) for r in records if r[1] not in _BODIES)

    def _miss(self, records: list[RawRecord], error: OSError) -> None:
        """Note that the journal cannot be written, and what is lost by that."""
        if not self._has_failed:
            self._has_failed = True
            self._journal_errors += 1
        reason = self._problems.setdefault(
            "journal", f"the journal could not be written: {error.strerror}"
        )
        self._lose("journal", records, reason)

    def _look_again(self) -> None:
        """See whether what was wrong still is."""
        if "seal" in self._problems:
            self._submit_recovery()
        if self._problems.keys().isdisjoint({"journal", "spool"}):
            return
        try:
            with os.fdopen(self._layout.scratch(), "wb") as file:
                file.write(bytes(_ROOM_BYTES))
        except OSError:
            return
        if self._pay():
            self._problems.pop("journal", None)
            self._problems.pop("spool", None)
        elif self._segment.size > _ROOM_BYTES:
            self._roll()  # as a rule, a segment takes less room than its journal

    def _pay(self) -> bool:
        """Write what is owed; False if that still cannot be."""
        try:
            while owed := self._debt.first(_ROOM_BYTES):
                self._hear_out([record for record in owed if record[1] is _END])
                self._append_told()
                self._append(owed)
                self._debt.paid(len(owed))
                self._take_in_safely(owed)
            self._append_told()
        except OSError:
            return False
        return True

    def _masked(self, records: list[RawRecord]) -> list[RawRecord]:
        """Return what the disk may have of records."""
        kept: list[RawRecord] = []
        keep, lost = kept.append, self._lost
        request_masks, response_masks = self._masks[_REQUEST_DATA], self._masks[_DATA]
        for record in records:
            eid, op, at_ns, payload = record
            if op is _DATA:
                mask = response_masks.get(eid)
            elif op is _REQUEST_DATA:
                mask = request_masks.get(eid)
            else:
                kept += self._safely_masked(record)
                continue
            if mask is None or eid in lost:
                continue  # nothing of a body that follows a gap (see `Tap`)
            try:
                assert isinstance(payload, bytes)
                if mask.passes(payload):
                    keep(record)
                    continue
                chunks = mask.feed(at_ns, payload)
            except UnmaskableError as error:
                chunks = self._give_body_up(eid, error)
            except Exception:
                log.exception("a body cannot be masked; please report this")
                lost[eid] = _OUR_FAULT
                continue
            kept += [(eid, op, chunk_ns, data) for chunk_ns, data in chunks]
        return kept

    def _safely_masked(self, record: RawRecord) -> list[RawRecord]:
        """Return what the disk may have of a record; nothing, if that is not known."""
        eid, op, at_ns, payload = record
        try:
            return list(self._mask(record))
        except Exception:
            log.exception("a record cannot be masked; please report this")
            self._lost[eid] = _OUR_FAULT
            match payload:
                case Opening() as opening:
                    unknown = RequestHead(opening.request.method, "/")
                    bare = replace(opening, url="", request=unknown, received_path="")
                    return [(eid, op, at_ns, bare)]
                case Ending():
                    return [self._honest(record)]
            return []

    def _mask(self, record: RawRecord) -> Iterator[RawRecord]:
        """Give what the disk may have of a record that is not of a body."""
        redactor = self._redactor
        eid, op, at_ns, payload = record
        match payload:
            case Opening():
                request = redactor.request_head(payload.request)
                self._masks[_REQUEST_DATA][eid] = redactor.body(payload.request)
                masked = replace(
                    payload,
                    url=redactor.url(payload.url),
                    received_path=redactor.url(payload.received_path),
                    request=request,
                )
                yield (eid, op, at_ns, masked)
            case ResponseHead():
                self._masks[_DATA][eid] = redactor.body(payload)
                yield (eid, op, at_ns, redactor.response_head(payload))
            case Ending():
                yield from self._held_back(eid, _REQUEST_DATA)
                yield from self._held_back(eid, _DATA)
                trailers = redactor.headers(payload.trailers)
                ending = replace(payload, trailers=trailers)
                yield self._honest((eid, op, at_ns, ending))
            case _:
                if op is Op.SENT:
                    yield from self._held_back(eid, _REQUEST_DATA)
                yield record

    def _held_back(self, eid: str, op: Op) -> Iterator[RawRecord]:
        """Give what was held back of a body that is over."""
        mask = self._masks[op].pop(eid, None)
        if mask is None or eid in self._lost:
            return
        try:
            chunks = mask.flush()
        except UnmaskableError as error:
            chunks = self._give_body_up(eid, error)
        for at_ns, data in chunks:
            yield (eid, op, at_ns, data)

    def _give_body_up(
        self, eid: str, error: UnmaskableError
    ) -> list[tuple[int, bytes]]:
        """Note why no more of a body is kept, and return the last that is."""
        self._lost[eid] = str(error)
        self._complaints.say("unmaskable", _UNMASKABLE)
        return error.before

    def _honest(self, record: RawRecord) -> RawRecord:
        """Let the end of an exchange say so if some of it was lost."""
        eid, op, at_ns, _ = record
        if op is not Op.END or (reason := self._lost.pop(eid, None)) is None:
            return record
        return (eid, op, at_ns, Ending(outcome=Outcome.INCOMPLETE, error=reason))

    def _lose(self, kind: str, records: list[RawRecord], reason: str) -> None:
        """Note that records are gone; their exchanges will say so when they end."""
        for eid, *_ in records:
            self._lost.setdefault(eid, reason)
        self._losses[kind] = Loss(reason, self._clock.monotonic_ns())
        self._complaints.say(
            kind, f"{reason}; streams flow on, but are not recorded until it can be"
        )

    # --- from records to rows

    def _take_in(self, records: list[RawRecord]) -> None:
        """Transcribe what is not in the backlog."""
        rows, endings = Rows(), []
        for record in records:
            op = record[1]
            if op is Op.END:
                endings.append(record)
            elif op is not _DATA:
                self._transcribe(record, rows)
        backlog = self._backlog
        if endings or backlog.count > BACKLOG_RECORDS or backlog.size > BACKLOG_BYTES:
            self._transcribe_backlog(rows)
        for record in endings:
            self._transcribe(record, rows)
        self._segment.keep(rows)

    def _clear_backlog(self) -> None:
        rows = Rows()
        self._transcribe_backlog(rows)
        self._segment.keep(rows)

    def _transcribe_backlog(self, rows: Rows) -> None:
        for eid, run in self._backlog.take():
            transcript = self._transcripts.get(eid)
            if transcript is None:
                continue  # it failed before, and has had its row
            before = len(rows.frames), len(rows.runs)
            try:
                transcript.add_run(run, rows)
            except Exception as error:  # noqa: BLE001 - told within
                self._fail(transcript, run.at_ns[-1], rows, error)
            else:
                self._audience.hear(eid, rows, *before)

    def _transcribe(self, record: RawRecord, rows: Rows) -> None:
        eid, op, at_ns, payload = record
        if isinstance(payload, ToolCall):
            rows.add_tool_calls([payload])
            self._audience.told(payload)
            return
        if op is Op.OPEN:
            assert isinstance(payload, Opening)
            self._transcripts[eid] = Transcript(eid, open_file=self._layout.scratch)
            self._audience.began(eid, payload)
        transcript = self._transcripts.get(eid)
        if transcript is None:
            return  # it failed before, and has had its row
        before = len(rows.frames), len(rows.runs)
        if op is Op.END:
            self._forget(eid)
        try:
            transcript.add(Record(*record), rows)
            self._audience.hear(eid, rows, *before)
            if op is Op.REQUEST_DATA:
                self._look_at_spool(transcript)
            else:
                self._converse(op, transcript)
            if transcript.ended is not None:
                self._audience.ended(transcript.ended, transcript.tool_calls)
        except Exception as error:  # noqa: BLE001 - told within
            self._fail(transcript, at_ns, rows, error)

    def _converse(self, op: Op, transcript: Transcript) -> None:
        """Let the exchanges of its conversation hear of one."""
        conversations, told = self._conversations, self._told
        eid, host = transcript.exchange_id, transcript.host
        if op is Op.OPEN:
            conversations.began(eid, host)
        self._hear_turn(transcript)
        if op is Op.END:
            part = transcript.part()
            told += conversations.ended(part) if part else conversations.left(eid, host)

    def _hear_turn(self, transcript: Transcript) -> None:
        """Let others hear of the results that a request has, once."""
        if transcript.turn is None or transcript.is_turn_told:
            return
        transcript.is_turn_told = True
        try:
            if (part := transcript.part()) is not None:
                self._told += self._conversations.asked(part)
        except Exception:
            log.exception(
                "what exchange %s answers is not known; please report this",
                transcript.exchange_id,
            )

    def _look_at_spool(self, transcript: Transcript) -> None:
        """Say so if a long request body cannot be kept."""
        error = transcript.body_error
        if error is None or transcript.exchange_id in self._unspooled:
            return
        self._unspooled.add(transcript.exchange_id)
        reason = f"a request body could not be kept whole: {error.strerror or error}"
        self._problems["spool"] = reason
        self._losses["spool"] = Loss(reason, self._clock.monotonic_ns())
        self._complaints.say("spool", f"{reason}; its exchange is incomplete")

    def _fail(
        self, transcript: Transcript, at_ns: int, rows: Rows, error: Exception
    ) -> None:
        """Say that there was an exchange, and that it was not recorded."""
        # A fault of ours, and the other exchanges must not suffer from it.
        eid = transcript.exchange_id
        log.error(
            "exchange %s cannot be transcribed; please report this", eid, exc_info=error
        )
        self._transcripts.pop(eid, None)
        self._audience.forget(eid)
        if transcript.opening is not None:
            self._told += self._conversations.left(eid, transcript.host)
        if transcript.ended is None and transcript.opening is not None:
            stub = Transcript(eid)
            stub.add(Record(eid, Op.OPEN, 0, transcript.opening), rows)
            ending = Ending(outcome=Outcome.INCOMPLETE, error=_OUR_FAULT)
            stub.add(Record(eid, Op.END, at_ns, ending), rows)

    def _forget(self, eid: str) -> None:
        self._lost.pop(eid, None)
        self._transcripts.pop(eid, None)
        self._spanning.discard(eid)
        self._unspooled.discard(eid)
        for op in _BODIES:
            self._masks[op].pop(eid, None)

    # --- from rows to segments

    def _look_at_place(self) -> None:
        """See whether the journal is still where readers look for it."""
        if self._segment.journal.is_in_place:
            return
        reason = "the store was removed while this was recorded"
        self._complaints.say(
            "place", f"{self._layout.root} is gone; a new store is begun there"
        )
        # What this segment has is still in memory, and goes into the new store with it.
        self._lost.update(dict.fromkeys(self._spanning, reason))
        self._roll()

    def _is_stuck(self) -> bool:
        """Tell whether rows gather in memory because no new segment can be begun."""
        room = _SEGMENTS_IN_MEMORY * self._limits.segment_bytes
        return "segment" in self._problems and self._segment.size > room

    def _is_due(self) -> bool:
        segment, limits = self._segment, self._limits
        if segment.is_empty:
            return False
        now_ns = self._clock.monotonic_ns()
        idle_ns = now_ns - self._last_heard_ns
        return (
            segment.size > limits.segment_bytes
            or now_ns - segment.began_ns > limits.segment_age_s * _NS_PER_S
            or (not self._transcripts and idle_ns > limits.idle_s * _NS_PER_S)
        )

    def _begin_segment(self) -> OpenSegment:
        # Segments are read in the order of their names, which a wall clock that steps
        # back must not change.
        self._latest_ns = max(self._clock.wall_ns(), self._latest_ns + _NS_PER_MS)
        name = new_segment_name(self._recorder_id, self._latest_ns)
        return OpenSegment(
            self._layout, name, self._clock.monotonic_ns(), self._transcripts.values()
        )

    def _roll(self) -> None:
        """Go on in a new segment, and seal the one so far."""
        self._clear_backlog()
        try:
            segment = self._begin_segment()
        except OSError as error:
            reason = f"no new segment could be begun: {error.strerror}"
            self._problems["segment"] = reason
            self._complaints.say("segment", reason)
            return
        self._problems.pop("segment", None)
        self._spanning.update(self._transcripts)
        sealed, self._segment = self._segment, segment
        self._submit_seal(sealed)

    def _submit_seal(self, segment: OpenSegment) -> None:
        self._clear_backlog()
        try:
            self._sealing = self._sealer.submit(self._seal, segment)
        except RuntimeError:  # the process ends, and no thread begins any more
            self._seal(segment)

    def _seal(self, segment: OpenSegment) -> None:
        try:
            if segment.is_suspect:
                raise RuntimeError("some of its rows could not be made")  # noqa: TRY301
            segment.seal()
        except Exception as error:  # noqa: BLE001 - the journal has it all, and is kept
            segment.journal.close()
            self._seal_failures += 1
            self._problems["seal"] = f"a segment could not be sealed: {error}"
            self._complaints.say(
                "seal",
                f"segment {segment.name} could not be sealed ({error}); its journal is"
                " kept, and `sse-recorder recover` seals it",
            )
        else:
            self._seals += 1  # an earlier one may still wait for its recovery

    def _submit_recovery(self) -> None:
        """Let what could not be sealed be sealed from its journal, now and then."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._reseal_ns and (not self._sealing or self._sealing.done()):
            self._reseal_ns = now_ns + _RESEAL_NS
            with suppress(RuntimeError):  # the process ends; the journal stays
                self._sealing = self._sealer.submit(self._recover_unsealed)

    def _recover_unsealed(self) -> None:
        try:
            recover(self._layout.root)
        except Exception as error:  # noqa: BLE001 - it is tried again
            log.debug("what was not sealed still cannot be: %s", error)
        else:
            self._seals += 1
            self._problems.pop("seal", None)
