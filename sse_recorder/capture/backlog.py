"""What streams said and has no rows yet, as the journal has it.

Chunks come interleaved, a few of each stream, in batches that Arrow holds already.  To
make their rows one by one costs several times as much as to make those of a hundred
chunks of one stream at once: so they wait here, and are then sorted by exchange, all in
Arrow, where a chunk is a few bytes of a buffer and no object.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from sse_recorder.exchange import Op
from sse_recorder.transcript import ChunkRun

_IS_DATA = pa.scalar(Op.DATA, pa.int8())


class Backlog:
    """Chunks of any number of exchanges, in the order in which they came."""

    def __init__(self) -> None:
        self.count = 0
        """How many there are."""
        self.size = 0
        """How many bytes they have."""
        self._batches: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add those of a batch of the journal."""
        is_chunk = pc.equal(batch.column("op"), _IS_DATA)
        chunks = batch if pc.all(is_chunk).as_py() else batch.filter(is_chunk)
        if chunks.num_rows:
            self._batches.append(chunks)
            self.count += chunks.num_rows
            self.size += chunks.column("data").nbytes

    def take(self) -> Iterator[tuple[str, ChunkRun]]:
        """Give all of them, those of an exchange together, and forget them."""
        batches, self._batches = self._batches, []
        self.count = self.size = 0
        if not batches:
            return
        whole = pa.Table.from_batches(batches).combine_chunks()
        ids = whole.column("exchange_id").combine_chunks().dictionary_encode()
        order = pc.array_sort_indices(ids.indices)  # keeps what is equal in order
        runs = pc.run_end_encode(ids.indices.take(order))
        at_ns = whole.column("at_ns").take(order).to_pylist()
        data = whole.column("data").combine_chunks().take(order)
        sizes = pc.binary_length(data).to_pylist()
        _, offsets, buffer = data.buffers()
        place = memoryview(offsets).cast("i")
        content = memoryview(buffer) if buffer is not None else memoryview(b"")
        start = 0
        for number, end in zip(
            runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True
        ):
            yield (
                ids.dictionary[number].as_py(),
                ChunkRun(
                    at_ns[start:end],
                    sizes[start:end],
                    bytes(content[place[start] : place[end]]),
                ),
            )
            start = end
