"""A response as steps, and what becomes of it, as the tests of faults share them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st
from making import pieces

from sse_recorder.exchange import ResponseHead
from sse_recorder.faults import Disturbance, parse
from sse_recorder.playback import Data, End, Head, Step, TimedStep, Timeline

MS = 1_000_000
SSE = Head(ResponseHead(200, "OK", (("Content-Type", "text/event-stream"),)))
TEXT = Head(ResponseHead(200, "OK", (("Content-Type", "text/plain"),)))
FIRST, COMMENT = b"data: one\n\n", b": ping\n\n"
SECOND, THIRD = "event: e\ndata: né 😀\n\n".encode(), b"data: three\r\n\r\n"
STREAM = FIRST + COMMENT + SECOND + THIRD
CUTS = st.sets(st.integers(1, len(STREAM) - 1))


def timeline(
    places: Iterable[int] = (), head: Head = SSE, body: bytes = STREAM
) -> Timeline:
    """Return a response that is cut at some places, a chunk each 10 ms."""
    chunks = enumerate(pieces(body, set(places)), start=2)
    data: list[TimedStep] = [(n * 10 * MS, Data(chunk)) for n, chunk in chunks]
    return [(10 * MS, head), *data, ((len(data) + 2) * 10 * MS, End(()))]


def faults(*texts: str, seed: int = 7, method: str = "POST") -> Disturbance:
    """Return faults, one behind the other."""
    specs = [parse(text) for text in texts]
    return Disturbance(specs, seed=seed, name="s", method=method)


def disturbed(text: str, steps: Timeline, seed: int = 7) -> list[TimedStep]:
    """Return steps with a fault."""
    return list(faults(text, seed=seed).apply(steps))


def body_of(steps: Iterable[TimedStep]) -> bytes:
    """Return the bytes of a body."""
    return b"".join(step.data for _, step in steps if isinstance(step, Data))


def sizes(steps: Timeline) -> list[int]:
    """Return the sizes of its chunks."""
    return [len(step.data) for _, step in steps if isinstance(step, Data)]


def ordered(steps: Timeline) -> bool:
    """Return whether times never run backwards."""
    return all(a <= b for (a, _), (b, _) in pairwise(steps))


def kinds_of(steps: Timeline) -> list[type[Step]]:
    """Return what is done, one after the other."""
    return [type(step) for _, step in steps]
