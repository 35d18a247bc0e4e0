"""The usage report, on exchanges whose numbers can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from samples import MS, STARTED_AT, Event, meibel_exchange, said, store_with

from sse_recorder import analytics
from sse_recorder.exchange import Record
from sse_recorder.store.store import Store


def chat(
    number: int, *, tokens: tuple[int, int] | None, at_ms: float, took_ms: float
) -> list[Record]:
    """Return a chat that reports input and output tokens, or does not."""
    words = [{"index": 0, "delta": {"content": "hi"}}]
    events = [Event(100, None, json.dumps({"model": "m", "choices": words}))]
    if tokens:
        names = ("prompt_tokens", "completion_tokens")
        usage = dict(zip(names, tokens, strict=True))
        events.append(Event(200, None, json.dumps({"choices": [], "usage": usage})))
    return meibel_exchange(
        [*events, Event(300, None, "[DONE]")],
        number=number,
        started_at=STARTED_AT + round(at_ms * MS),
        path="/v1/chat/completions",
        headers_ms=0,
        ended_ms=took_ms,
    )


# The first two are open together for 1 s of 3 s; the third comes 5 s later.
CHATS = [
    chat(1, tokens=(100, 40), at_ms=0, took_ms=2000),
    chat(2, tokens=(300, 20), at_ms=1000, took_ms=2000),
    chat(3, tokens=None, at_ms=8000, took_ms=500),
]


def usage(path: Path, **options: Any) -> dict[tuple[str, str], list[float | None]]:
    """Return the report: n, total, p50, p90, p95, p99, max by group and measure."""
    with Store.open(path) as store:
        rows = analytics.run(store, "usage", **options).table.to_pylist()
    return {(row["group"], row["measure"]): list(row.values())[2:] for row in rows}


def test_tokens_are_those_that_were_reported(tmp_path: Path) -> None:
    """An exchange without a report counts for nothing, and is no zero."""
    found = usage(store_with(tmp_path, CHATS))
    assert found["all", "input_tokens"] == pytest.approx(
        [2, 400, 200, 280, 290, 298, 300]
    )
    assert found["all", "output_tokens"] == pytest.approx([2, 60, 30, 38, 39, 39.8, 40])


def test_a_total_rate_is_of_the_time_in_which_anything_was_open(tmp_path: Path) -> None:
    """40 and 20 tokens in 3 s, as they had one together; alone 20 and 10 a second."""
    found = usage(store_with(tmp_path, CHATS))
    assert found["all", "tokens_per_s"] == pytest.approx(
        [2, 20, 15, 19, 19.5, 19.9, 20]
    )


def test_bytes_and_frames_are_those_of_the_response(tmp_path: Path) -> None:
    """What was recorded, and from the response's head on how fast it came."""
    found = usage(
        store_with(tmp_path, [meibel_exchange([said(100, "a")], ended_ms=510)])
    )
    size = len('event: partial_response\ndata: {"data": {"message": "a"}}\n\n')
    assert found["all", "bytes"] == [1, *[size] * 6]
    assert found["all", "bytes_per_s"][:3] == pytest.approx(
        [1, size / 0.51, size / 0.5]  # the head came after 10 ms
    )
    assert found["all", "frames"] == found["all", "bytes"][:1] + [1] * 6
    assert found["all", "seconds"] == pytest.approx([1, *[0.51] * 6])
    assert found["all", "tool_calls"] == [1, *[0] * 6]


def test_models_have_their_own(tmp_path: Path) -> None:
    """Grouped, totals are of the group."""
    other = meibel_exchange([said(10, "a")], number=9)
    found = usage(store_with(tmp_path, [*CHATS, other]), by="model")
    assert found["m", "output_tokens"][:2] == [2, 60]
    assert found["(none)", "output_tokens"][:2] == [0, None]
    assert found["m", "frames"][0] == 3
