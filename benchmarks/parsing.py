"""How fast bytes become frames, beside other decoders, and frames become rows.

Decoders: the streams of several APIs are decoded by our `Parser` and by those of
httpx2, httpx-sse and the openai SDK; whole, one frame a read, and in cuts of 100 bytes.
Theirs are called as their clients call them, but without the client; where one wants
text, it gets it from an incremental UTF-8 decoder.  Ours is called in runs of many
reads, as capture calls it, and read by read, as they are.  First all must find the same
events in the same bytes.  Ours tells more of each: how it was written, and where it is.

Rows: a hundred streams at a time go from bytes to Arrow, as they do in the process that
writes: sorted by stream, parsed, read by their dialect, made rows, made columns.  The
last column has masking and the journal before it.  httpx2's decoder, on the same reads,
is the measure of the machine: it does the first of these steps alone.

All of it is pinned to one core, and is warm.  Times are those of the processor.  They
take turns, in several rounds; a figure is the median of the rounds, and a ratio is the
median of the rounds' ratios.

    make bench
    python benchmarks/parsing.py --rounds 3
    python benchmarks/parsing.py --profile openai_chat   where the time of rows goes
"""

from __future__ import annotations

import argparse
import codecs
import cProfile
import gc
import json
import os
import pstats
import random
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice, zip_longest
from operator import truediv
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final, NamedTuple

import pyarrow as pa
from httpx2._sse import _SSEParser
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from openai._streaming import SSEDecoder as OpenAIDecoder

from sse_recorder import demo
from sse_recorder.capture.backlog import Backlog
from sse_recorder.capture.scribe import BACKLOG_RECORDS, Limits, Scribe
from sse_recorder.clock import SYSTEM
from sse_recorder.exchange import (
    Ending,
    Op,
    Opening,
    Outcome,
    RawRecord,
    Record,
    RequestHead,
    ResponseHead,
    uuid7,
)
from sse_recorder.redact import Redactor
from sse_recorder.sse import Frame, Parser, encode_event, read_text
from sse_recorder.store import journal
from sse_recorder.tables import Rows
from sse_recorder.transcript import ChunkRun, Transcript

CORPUS: Final = (
    Path(__file__).parents[2] / "shared" / "corpus" / "recorded_streams.jsonl"
)
FRAMES: Final = 40_000
STREAMS: Final = 100
CUT: Final = 100
BATCH_RECORDS: Final = 2_048
# As many of each as the writer has before it parses them.
RUN_READS: Final = BACKLOG_RECORDS // STREAMS
MS: Final = 1_000_000
# Of the recorded streams, to have as much to do as of the others.
RECORDED_TIMES: Final = 8
PATHS: Final = {
    "meibel": "/v2/sessions/s/chat/stream",
    "openai_chat": "/v1/chat/completions",
    "anthropic": "/v1/messages",
}

# A frame, or what is left at the end.
_FRAME = re.compile(rb".+?(?:\r\n\r\n|\n\n)|.+", re.DOTALL)

Body = list[bytes]
"""A stream, frame by frame."""
Event = tuple[str, str | None, str]
"""Its name, its data and the last id: what all the decoders give."""


# --- the streams


def meibel(rng: random.Random) -> Iterator[bytes]:
    """Give a chat of the demo's agent."""
    for beat in demo.script(f"session-{rng.random()}"):
        if isinstance(beat.data, str):
            yield beat.data.encode() + b"\n\n"
        else:
            yield encode_event(beat.event, json.dumps(beat.data))


def openai_chat(rng: random.Random) -> Iterator[bytes]:
    """Give a completion of text, then two tool calls, as OpenAI writes one."""
    head: dict[str, Any] = {
        "id": "chatcmpl-BkU6x9YzQvT0sKq1nR7mWcE4hLpA2",
        "object": "chat.completion.chunk",
        "created": 1763900000,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_9e15ccd6a4",
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        whole = head | {"choices": [choice], "usage": None}
        return encode_event(None, _compact(whole))

    yield chunk({"role": "assistant", "content": ""})
    for word in words(rng, 200):
        yield chunk({"content": word})
    for index, name in enumerate(("get_weather", "search_flights")):
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{index}", "function": function}
        yield chunk({"tool_calls": [call]})
        for piece in ('{"city', '":"', "Lis", "bon", '"}'):
            part = {"index": index, "function": {"arguments": piece}}
            yield chunk({"tool_calls": [part]})
    yield chunk({}, "tool_calls")
    usage = {"prompt_tokens": 180, "completion_tokens": 212, "total_tokens": 392}
    yield encode_event(None, _compact(head | {"choices": [], "usage": usage}))
    yield encode_event(None, "[DONE]")


def anthropic(rng: random.Random) -> Iterator[bytes]:
    """Give a message of text, then a tool call, as Anthropic writes one."""

    def event(name: str, **members: Any) -> bytes:
        return encode_event(name, _compact({"type": name, **members}))

    def delta(index: int, kind: str, **members: Any) -> bytes:
        said = {"type": kind, **members}
        return event("content_block_delta", index=index, delta=said)

    message: dict[str, Any] = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-sonnet-4-5",
        "stop_reason": None,
        "usage": {"input_tokens": 472, "output_tokens": 2},
    }
    yield event("message_start", message=message)
    text = {"type": "text", "text": ""}
    yield event("content_block_start", index=0, content_block=text)
    yield event("ping")
    for word in words(rng, 200):
        yield delta(0, "text_delta", text=word)
    yield event("content_block_stop", index=0)
    tool = {"type": "tool_use", "id": "toolu_01", "name": "get_weather", "input": {}}
    yield event("content_block_start", index=1, content_block=tool)
    for piece in ("", '{"city', '": "', "Lis", "bon", '"}'):
        yield delta(1, "input_json_delta", partial_json=piece)
    yield event("content_block_stop", index=1)
    said = {"stop_reason": "tool_use", "stop_sequence": None}
    yield event("message_delta", delta=said, usage={"output_tokens": 212})
    yield event("message_stop")


def words(rng: random.Random, count: int) -> Iterator[str]:
    """Give pieces of an answer, some of them not in ASCII."""
    known = "You have two free hours before the flight — it will rain, 14 °C. São Bento"
    for word in rng.choices(known.split(" "), k=count):
        yield f" {word}"


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


GENERATORS: Final[dict[str, Callable[[random.Random], Iterator[bytes]]]] = {
    "meibel": meibel,
    "openai_chat": openai_chat,
    "anthropic": anthropic,
}


def generated(name: str) -> list[Body]:
    """Return streams of a dialect, `FRAMES` in all."""
    rng = random.Random(1)  # noqa: S311 - the same streams in every run
    bodies: list[Body] = []
    count = 0
    while count < FRAMES:
        bodies.append(list(GENERATORS[name](rng)))
        count += len(bodies[-1])
    return bodies


def recorded() -> list[Body]:
    """Return the streams that real providers sent, several times; none without them."""
    lines = CORPUS.read_text("utf-8").splitlines() if CORPUS.exists() else []
    answers = [
        interaction["response"]
        for line in lines
        for interaction in json.loads(line)["interactions"]
    ]
    bodies = [
        _FRAME.findall(answer["body"].encode())
        for answer in answers
        if str(answer.get("content_type")).startswith("text/event-stream")
    ]
    return bodies * RECORDED_TIMES


def cut(body: Body, cuts: str) -> list[bytes]:
    """Return the reads that a stream comes in."""
    if cuts == "a frame":
        return body
    whole = b"".join(body)
    size = CUT if cuts == "100 bytes" else len(whole)
    return [whole[start : start + size] for start in range(0, len(whole), size)]


# --- decoders


def ours(chunks: list[bytes]) -> Iterator[Iterable[Frame]]:
    """Decode with `Parser`."""
    parser = Parser()
    for chunk in chunks:
        yield parser.feed(chunk)
    yield parser.close()


def in_runs(chunks: list[bytes]) -> Iterator[Iterable[Any]]:
    """Decode with `Parser`, many reads at a time."""
    parser = Parser()
    for start in range(0, len(chunks), RUN_READS):
        run = chunks[start : start + RUN_READS]
        blocks = parser.feed_run(b"".join(run), list(map(len, run)))
        if blocks is not None:
            yield blocks
        else:
            yield chain.from_iterable(map(parser.feed, run))
    yield parser.close()


def httpx2(chunks: list[bytes]) -> Iterator[Iterable[Any]]:
    """Decode as httpx2's `EventSource` does."""
    text, parser = codecs.getincrementaldecoder("utf-8")(), _SSEParser()
    for chunk in chunks:
        yield parser.decode(text.decode(chunk))
    yield parser.flush()


def httpx_sse(chunks: list[bytes]) -> Iterator[Iterable[Any]]:
    """Decode as httpx-sse's `EventSource` does."""
    text, lines = codecs.getincrementaldecoder("utf-8")(), SSELineDecoder()
    decoder = SSEDecoder()

    def events(found: list[str]) -> Iterator[Any]:
        for line in found:
            event = decoder.decode(line)
            if event is not None:
                yield event

    for chunk in chunks:
        yield events(lines.decode(text.decode(chunk)))
    yield events(lines.flush())


def openai(chunks: list[bytes]) -> Iterator[Iterable[Any]]:
    """Decode as the openai SDK's `Stream` does."""
    yield OpenAIDecoder().iter_bytes(iter(chunks))


Decode = Callable[[list[bytes]], Iterator[Iterable[Any]]]
DECODERS: Final[dict[str, Decode]] = {
    "in runs": in_runs,
    "read by read": ours,
    "httpx2": httpx2,
    "httpx-sse": httpx_sse,
    "openai": openai,
}


def events_of(decode: Decode, chunks: list[bytes]) -> list[Event]:
    """Return what a decoder finds, in the words of the specification."""
    events = []
    last_id = ""
    for found in chain.from_iterable(decode(chunks)):
        if isinstance(found, tuple) and not isinstance(found, Frame) and found[-1]:
            found = read_text(found[-1], "\n")  # noqa: PLW2901
        if isinstance(found, Frame):
            last_id = last_id if found.id is None else found.id
            if found.type == "event":
                events.append((found.event or "message", found.data, last_id))
        elif isinstance(found, tuple):
            id_, event, data, _ = found
            last_id = id_ or last_id
            events.append((event or "message", data, last_id))
        else:
            events.append((found.event or "message", found.data, found.id or ""))
    return events


def cpu_s(work: Callable[[], object]) -> float:
    """Return the processor time of some work that begins with no garbage."""
    gc.collect()
    began = process_time()
    work()
    return process_time() - began


def decode_all(decode: Decode, streams: list[list[bytes]]) -> None:
    """Decode streams, and keep nothing of them."""
    for chunks in streams:
        for found in decode(chunks):
            deque(found, maxlen=0)


def decoding(name: str, bodies: list[Body], rounds: int) -> Iterator[str]:
    """Give the lines of what decoders do with a kind of streams."""
    size = sum(map(len, chain.from_iterable(bodies)))
    for cuts in ("whole", "a frame", "100 bytes"):
        streams = [cut(body, cuts) for body in bodies]
        for chunks in streams:
            found = [events_of(decode, chunks) for decode in DECODERS.values()]
            assert all(events == found[0] for events in found), f"{name}: they differ"
        taken: dict[str, list[float]] = {decoder: [] for decoder in DECODERS}
        for _ in range(rounds):
            for decoder, decode in DECODERS.items():
                taken[decoder].append(cpu_s(partial(decode_all, decode, streams)))
        runs_s, reads_s = taken["in runs"], taken["read by read"]
        cells = []
        for seconds in taken.values():
            cell = f"{size / median(seconds) / 1e6:.0f} MB/s"
            if seconds not in (runs_s, reads_s):
                ratios = [
                    median(map(truediv, seconds, own)) for own in (runs_s, reads_s)
                ]
                cell += f", {ratios[0]:.1f} x, {ratios[1]:.1f} x"
            cells.append(cell)
        yield f"| {name} | {cuts} | {' | '.join(cells)} |"


# --- rows


class Recording(NamedTuple):
    """Exchanges that happen at the same time."""

    opened: list[Record]
    read: list[RawRecord]
    """What was read of their responses, in turns."""
    ended: list[Record]
    frames: int
    chunks: list[list[bytes]]


def recording(name: str, cuts: str) -> Recording:
    """Return streams of a dialect as the proxy hears them, a hundred at a time."""
    request = RequestHead("POST", PATHS[name])
    response = ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),))
    bodies = generated(name)
    whole = Recording([], [], [], sum(map(len, bodies)), [])
    # Each is as many chats, one after the other, as make a hundred streams.
    bodies = [list(chain(*bodies[n::STREAMS])) for n in range(STREAMS)]
    for number, body in enumerate(bodies):
        eid = uuid7(number * MS)
        opening = Opening(
            recorder_id="bench", started_at=0, url="http://host/", request=request
        )
        whole.opened.append(Record(eid, Op.OPEN, 0, opening))
        whole.opened.append(Record(eid, Op.SENT, MS))
        whole.opened.append(Record(eid, Op.HEAD, 2 * MS, response))
        whole.chunks.append(cut(body, cuts))
    ids = [record.exchange_id for record in whole.opened[::3]]
    at_ns = 2 * MS
    for chunks in zip_longest(*whole.chunks):
        at_ns += 20 * MS
        for eid, chunk in zip(ids, chunks, strict=True):
            if chunk is not None:
                whole.read.append((eid, Op.DATA, at_ns, chunk))
    ending = Ending(outcome=Outcome.COMPLETE)
    whole.ended.extend(Record(eid, Op.END, at_ns + MS, ending) for eid in ids)
    return whole


def journaled(whole: Recording) -> list[pa.RecordBatch]:
    """Return what was read as the journal returns it."""
    with tempfile.TemporaryDirectory() as folder:
        file = journal.Journal(Path(folder) / "bench.arrows")
        batches = [file.append(records) for records in batched(whole.read)]
        file.remove()
    return batches


def batched(records: list[RawRecord]) -> Iterator[list[RawRecord]]:
    """Give records as many at a time as are written at once."""
    rest = iter(records)
    while batch := list(islice(rest, BATCH_RECORDS)):
        yield batch


class Steps:
    """Makes rows of exchanges, step by step, and keeps how long each step took."""

    def __init__(self, whole: Recording) -> None:
        self.frames = 0
        self.sort_s = self.rows_s = self.arrow_s = 0.0
        self.runs: list[tuple[str, ChunkRun]] = []
        self._whole = whole
        self._rows = Rows()
        self._backlog = Backlog()
        self._transcripts: dict[str, Transcript] = {}
        for record in whole.opened:
            eid = record.exchange_id
            transcript = self._transcripts.setdefault(eid, Transcript(eid))
            transcript.add(record, self._rows)

    def run(self, batches: list[pa.RecordBatch]) -> None:
        """Take what the journal returned."""
        for batch in batches:
            self._backlog.add(batch)
            if self._backlog.count > BACKLOG_RECORDS:
                self._flush()
        self._flush()
        for record in self._whole.ended:
            self._transcripts[record.exchange_id].add(record, self._rows)
        self._columns()

    def _flush(self) -> None:
        began = process_time()
        runs = list(self._backlog.take())
        sorted_at = process_time()
        for eid, run in runs:
            self._transcripts[eid].add_run(run, self._rows)
        self.sort_s += sorted_at - began
        self.rows_s += process_time() - sorted_at
        self._columns()
        self.runs += runs

    def _columns(self) -> None:
        began = process_time()
        batches = self._rows.batches()
        self.arrow_s += process_time() - began
        self.frames += sum(batch.num_rows for batch in batches.get("frames", ()))
        self._rows = Rows()


def parse_runs(runs: list[tuple[str, ChunkRun]]) -> None:
    """Do of rows what the parser does."""
    parsers: dict[str, Parser] = {}
    for eid, run in runs:
        parser = parsers.setdefault(eid, Parser())
        if parser.feed_run(run.data, run.size) is not None:
            continue
        start = 0
        for size in run.size:
            parser.feed(run.data[start : start + size])
            start += size


def write_all(whole: Recording) -> float:
    """Return how long masking, journal and rows take together."""
    with tempfile.TemporaryDirectory() as folder:
        scribe = Scribe(
            Path(folder),
            recorder_id="bench",
            redactor=Redactor(),
            spans=None,
            limits=Limits(segment_bytes=1 << 40),
            clock=SYSTEM,
        )
        scribe.write(list(whole.opened))
        batches = list(batched(whole.read))

        def write() -> None:
            for batch in batches:
                scribe.write(batch)
            scribe.write(list(whole.ended))

        seconds = cpu_s(write)
        scribe.close()
    return seconds


def rows(name: str, cuts: str, rounds: int) -> str:
    """Return the line of what rows of a dialect take."""
    whole = recording(name, cuts)
    batches = journaled(whole)
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        steps = Steps(whole)
        seconds = cpu_s(partial(steps.run, batches))
        assert steps.frames == whole.frames, "frames were lost"
        figures = {
            "all": seconds,
            "sort": steps.sort_s,
            "parse": cpu_s(partial(parse_runs, steps.runs)),
            "arrow": steps.arrow_s,
            "written": write_all(whole),
            "httpx2": cpu_s(partial(decode_all, httpx2, whole.chunks)),
        }
        figures["read"] = steps.rows_s - figures["parse"]
        for figure, value in figures.items():
            taken.setdefault(figure, []).append(value)
    cells = [f"{whole.frames / median(taken['all']):,.0f}"]
    cells.append(f"{median(map(truediv, taken['httpx2'], taken['all'])):.2f} x")
    steps_s = [median(taken[step]) for step in ("sort", "parse", "read", "arrow")]
    cells += [f"{seconds / whole.frames * 1e6:.1f} µs" for seconds in steps_s]
    cells.append(f"{whole.frames / median(taken['written']):,.0f}")
    return f"| {name} | {cuts} | {' | '.join(cells)} |"


def profile(name: str, cuts: str) -> None:
    """Print where the time of rows goes."""
    whole = recording(name, cuts)
    batches = journaled(whole)
    steps = Steps(whole)
    with cProfile.Profile() as profiler:
        steps.run(batches)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", choices=PATHS)
    parser.add_argument("--cuts", default="a frame", help="of what is profiled")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    if given.profile:
        profile(given.profile, given.cuts)
        return
    print(f"| streams | a read | {' | '.join(DECODERS)} |")
    print("|---|---" + "|---" * len(DECODERS) + "|")
    kinds = {name: generated(name) for name in GENERATORS} | {"recorded": recorded()}
    for name, bodies in kinds.items():
        for line in decoding(name, bodies, given.rounds) if bodies else ():
            print(line, flush=True)
    print()
    print(
        "| streams | a read | frames/s | of httpx2's decoder | sort | parse | read |"
        " columns | frames/s with masking and journal |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in GENERATORS:
        for cuts in ("a frame", "100 bytes"):
            print(rows(name, cuts, given.rounds), flush=True)


if __name__ == "__main__":
    main()
