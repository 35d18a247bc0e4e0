"""What a long recorded stream weighs, beside `gzip -9` of its bytes.

A stream of 20,000 events is recorded through the writer, with the time of every read,
and sealed.  Its text is made of words drawn at random, so it is neither as repetitive
as a fixed sentence nor as dense as noise.  The times have the jitter of a network in
every digit, so they weigh what they weigh in practice, and gzip does not have them at
all.  The last line says how many frames are ordinary, that is, stored as their fields
alone, without their raw bytes.

Repeat with `make bench`.
"""

from __future__ import annotations

import gzip
import json
import random
import tempfile
from pathlib import Path

from sse_recorder.capture import Writer
from sse_recorder.exchange import Ending, Opening, Outcome, RequestHead, ResponseHead
from sse_recorder.sse import encode_event
from sse_recorder.store.store import Store

EVENTS = 20_000
MS = 1_000_000


def stream() -> list[tuple[int, bytes]]:
    """Return the reads of a long stream: when each came, and its bytes."""
    rng = random.Random(1)  # noqa: S311 - the same stream in every run
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(3_000)]
    at_ns, reads = 0, []
    for number in range(EVENTS):
        at_ns += rng.randint(5 * MS, 40 * MS)
        text = " ".join(rng.choices(words, k=rng.randint(1, 4)))
        data = {"id": "chat-77", "sequence": str(number), "data": {"message": text}}
        reads.append((at_ns, encode_event("partial_response", json.dumps(data))))
    return reads


def record(root: Path, reads: list[tuple[int, bytes]]) -> None:
    """Record the stream as the proxy would."""
    writer = Writer(root)
    tap = writer.tap("01936a3e-8c00-7abc-9def-0123456789ab", 0)
    request = RequestHead("POST", "/v2/sessions/s/chat/stream")
    tap.opened(
        Opening(recorder_id="size", started_at=0, url="http://h/x", request=request)
    )
    head = ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),))
    tap.head(1, head)
    for at_ns, data in reads:
        tap.data(at_ns, data)
    tap.ended(reads[-1][0], Ending(outcome=Outcome.COMPLETE))
    writer.close()


def main() -> None:
    """Print the sizes."""
    reads = stream()
    body = b"".join(data for _, data in reads)
    packed = len(gzip.compress(body, 9))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        record(root, reads)
        sizes = {
            table: sum(file.stat().st_size for file in root.glob(f"{table}/*/*"))
            for table in ("exchanges", "chunks", "frames", "tool_calls")
        }
        with Store.open(root) as store:
            assert store.body("01936a3e-8c00-7abc-9def-0123456789ab") == body
            ordinary = store.sql("SELECT avg((raw IS NULL)::INT) FROM frames")
    total = sum(sizes.values())
    print(f"{'raw bytes':<28} {len(body):>10,}")
    print(f"{'gzip -9 of them':<28} {packed:>10,}  {packed / len(body):.3f} of raw")
    print(f"{'store, with all times':<28} {total:>10,}  {total / len(body):.3f} of raw")
    for table, size in sizes.items():
        print(f"  {table:<26} {size:>10,}")
    share = ordinary.column(0)[0].as_py()
    print(
        f"store : gzip -9 = {total / packed:.2f}; raw is null in {share:.1%} of frames"
    )


if __name__ == "__main__":
    main()
