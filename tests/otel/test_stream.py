"""What the frames of an exchange say that its row does not."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from otel_samples import ID, exchange, tool_call
from samples import (
    called,
    event,
    finished,
    meibel_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder.dialects.base import Kind
from sse_recorder.otel.stream import (
    CONTENT_BYTES_MAX,
    GAPS_EXACT_MAX,
    STALL_NS,
    Listener,
    StreamFacts,
    facts_of,
)
from sse_recorder.store.store import Store
from sse_recorder.tables import EventRun, FrameRow, Rows

S = 1_000_000_000


def frame(kind: str, at_ns: int, data: str = "{}", type_: str = "event") -> FrameRow:
    """Return a frame of a kind."""
    text = None if type_ == "body" else data
    raw = data.encode() if type_ == "body" else None
    return FrameRow(
        *(ID, 0, at_ns, at_ns, len(data), type_, "e", None, None),
        *(text, None, raw, kind, None),
    )


def heard(*frames: tuple[str, int], keeps_content: bool = False) -> StreamFacts:
    """Return the facts of frames of these kinds at these times."""
    rows = (frame(kind, at_ns) for kind, at_ns in frames)
    return facts_of(rows, keeps_content=keeps_content)


def test_gaps_are_between_frames_that_say_something() -> None:
    """What greets or keeps a connection alive does not reset the clock of content."""
    facts = facts_of(
        [
            frame("connected", S),
            frame("keepalive", 2 * S, type_="comment"),
            frame("status", 3 * S),
            frame("keepalive", 4 * S),
            frame("other", 5 * S, type_="fields"),
            frame("text", 6 * S),
        ]
    )
    assert facts.longest is not None
    assert facts.longest.length_ns == 6 * S
    assert facts.keepalives == 2
    assert facts.statuses == 1
    assert facts.chunk_gaps == []
    assert facts.content_chunks == 1


@pytest.mark.parametrize(
    ("frames", "first_ns", "state"),
    [
        ([("text", 3 * S)], 3 * S, "awaiting_first"),
        ([("finish", 1), ("text", 3 * S)], 3 * S, "awaiting_first"),
        ([("text", 1), ("text", 3 * S)], 1, "generating"),
        ([("tool_result", 1), ("text", 3 * S)], 1, "after_tool"),
        ([("tool_call", 5), ("tool_result", 3 * S)], 5, "tool_running"),
    ],
)
def test_a_gap_has_a_state(
    frames: list[tuple[str, int]], first_ns: int, state: str
) -> None:
    """What a stream was doing is told by what it had said, and by its open calls."""
    facts = heard(*frames)
    calls = [tool_call(called_ns=5, result_ns=3 * S)]
    assert facts.longest is not None
    known = calls if state == "tool_running" else []
    one = exchange(first_content_ns=first_ns)
    assert facts.longest.state(one, known) == state


def test_a_silence_while_a_tool_is_at_work_is_no_stall() -> None:
    """The tool takes as long as it takes; without one, more than two seconds is one."""
    facts = heard(
        ("text", S), ("tool_call", 2 * S), ("tool_result", 7 * S), ("text", 10 * S)
    )
    calls = [tool_call(called_ns=2 * S, result_ns=7 * S)]
    one = exchange(ended_ns=10 * S)
    assert [gap.length_ns for gap in facts.long_gaps] == [5 * S, 3 * S]
    assert [gap.length_ns for gap in facts.stalls(one, calls)] == [3 * S]
    assert len(facts.stalls(one, [])) == 2
    assert heard(("text", 2 * S)).stalls(exchange(ended_ns=2 * S), []) == []


def test_a_call_without_a_result_is_at_work_until_a_stream_is_cut() -> None:
    """One that a stream leaves to its client when it is done is nobody's work."""
    facts = heard(("tool_call", S), ("other", 9 * S))
    open_call = [tool_call(called_ns=S, result_ns=None)]
    assert facts.stalls(exchange(finish_reason=None, ended_ns=9 * S), open_call) == []
    done = exchange(finish_reason="tool_calls", ended_ns=9 * S)
    assert len(facts.stalls(done, open_call)) == 1
    answered = [replace(open_call[0], timing="cross_request", result_ns=99 * S)]
    assert len(facts.stalls(done, answered)) == 1


def test_a_stream_that_does_not_end_stalls_until_it_is_ended() -> None:
    """The wait for a last word that never comes is a silence as well."""
    cut = exchange(finish_reason=None, ended_ns=9 * S)
    facts = heard(("text", S))
    assert [gap.length_ns for gap in facts.stalls(cut, [])] == [8 * S]
    assert heard(("text", S), ("finish", 2 * S)).stalls(cut, []) == []
    assert [gap.length_ns for gap in heard().stalls(cut, [])] == [9 * S]
    listening = replace(cut, dialect="mcp", method="GET")
    assert heard().stalls(listening, []) == []


def test_the_completion_is_the_last_word() -> None:
    """A stream is over when its API says so, if nothing that counts comes after."""
    assert heard(("text", 1), ("finish", 5), ("usage", 7)).completion_ns == 7
    assert heard(("text", 1), ("finish", 5), ("status", 9)).completion_ns == 5
    assert heard(("finish", 5), ("tool_result", 9)).completion_ns is None
    assert heard(("text", 1), ("usage", 5)).completion_ns is None


def test_results_of_tools_are_noted() -> None:
    """They tell an agent from a model."""
    assert heard(("tool_call", 1), ("tool_result", 2)).has_results
    assert not heard(("tool_call", 1), ("text", 2)).has_results


def test_text_without_an_event_is_garbled() -> None:
    """A page that calls itself an event stream has lines, and no event."""
    lines = [frame("other", 1, type_="fields"), frame("other", 2, type_="tail")]
    assert facts_of(lines).is_garbled
    assert not facts_of([*lines, frame("text", 3)]).is_garbled
    assert not facts_of([frame("keepalive", 1, type_="comment")]).is_garbled


def test_an_error_is_final_unless_content_follows() -> None:
    """Some APIs report what they then get over."""
    assert heard(("error", 1), ("finish", 2)).has_failed
    assert not heard(("error", 1), ("text", 2), ("finish", 3)).has_failed


@pytest.mark.parametrize(
    ("payload", "code", "rpc"),
    [
        ({"error": {"type": "overloaded_error"}}, "overloaded_error", None),
        ({"error": {"code": "rate_limit_exceeded"}}, "rate_limit_exceeded", None),
        ({"error": {"code": 503, "status": "UNAVAILABLE"}}, "UNAVAILABLE", None),
        ({"type": "error", "code": "server_error"}, "server_error", None),
        ({"error": {"type": "about: my secret plan"}}, None, None),
        ({"jsonrpc": "2.0", "error": {"code": -32603}}, None, "-32603"),
        ({"error": {"code": ["server_error"]}}, None, None),
        ([], None, None),
    ],
)
def test_an_error_code_is_one_that_is_known(
    payload: object, code: str | None, rpc: str | None
) -> None:
    """What a provider calls an error is passed on only from a list."""
    facts = facts_of([frame("error", 1, json.dumps(payload))])
    assert (facts.error_code, facts.rpc_code) == (code, rpc)


@pytest.mark.parametrize(
    ("payload", "counts"),
    [
        (
            {
                "usage": {
                    "cache_read_input_tokens": 1,
                    "cache_creation_input_tokens": 2,
                }
            },
            (1, 2, None),
        ),
        (
            {
                "usage": {
                    "prompt_tokens_details": {"cached_tokens": 3},
                    "completion_tokens_details": {"reasoning_tokens": 4},
                }
            },
            (3, None, 4),
        ),
        (
            {
                "response": {
                    "usage": {
                        "input_tokens_details": {"cached_tokens": 5},
                        "output_tokens_details": {"reasoning_tokens": 6},
                    }
                }
            },
            (5, None, 6),
        ),
        (
            {"usageMetadata": {"cachedContentTokenCount": 7, "thoughtsTokenCount": 8}},
            (7, None, 8),
        ),
        ({"usage": {"cache_read_input_tokens": "many"}}, (None, None, None)),
    ],
    ids=["anthropic", "chat", "responses", "gemini", "odd"],
)
def test_usage_is_what_the_provider_reports(
    payload: object, counts: tuple[int | None, ...]
) -> None:
    """Cached and reasoning tokens are found where each API has them."""
    text = json.dumps(payload)
    for facts in (
        facts_of([frame("text", 1), frame("usage", 2, text), frame("finish", 3, "x")]),
        facts_of([frame("other", 1, text, type_="body")]),
    ):
        found = facts.cache_read_tokens, facts.cache_write_tokens
        assert (*found, facts.reasoning_tokens) == counts


@pytest.mark.parametrize(
    "first",
    [
        {"id": "r-1"},
        {"message": {"id": "r-1"}},
        {"response": {"id": "r-1"}},
        {"responseId": "r-1"},
    ],
)
def test_the_response_has_the_id_that_its_first_frame_names(first: object) -> None:
    """The id of a response is told at its beginning."""
    frames = [frame("text", 1, json.dumps(first)), frame("text", 2)]
    assert facts_of(frames).response_id == "r-1"


def test_runs_of_events_say_what_their_frames_say() -> None:
    """Columns and rows of the same events come to the same, in all mixtures."""
    kinds = [Kind.CONNECTED, *[Kind.TEXT] * 9, Kind.STATUS, Kind.KEEPALIVE, Kind.TEXT]
    kinds += [*[Kind.TEXT] * 4, Kind.TOOL_CALL, Kind.FINISH]
    at_ns = [n * n * S // 20 for n in range(len(kinds))]
    data = [json.dumps({"id": f"x{n}"}) for n in range(len(kinds))]
    expected = facts_of(map(frame, kinds, at_ns, data))
    for size in (1, 3, 4, 7, len(kinds)):
        listener = Listener()
        for start in range(0, len(kinds), size):
            part = slice(start, start + size)
            rows, count = Rows(), len(kinds[part])
            times = at_ns[part]
            rows.runs.append(
                EventRun(
                    *(ID, start, times, times, [2] * count, ["e"] * count),
                    *([None] * count, data[part], [""] * count, kinds[part]),
                )
            )
            listener.hear_rows(rows, 0, 0)
        assert listener.facts() == expected


def test_runs_and_frames_are_heard_in_their_order() -> None:
    """Rows of both sorts that were added at once have numbers that tell it."""
    rows = Rows()
    rows.runs.append(
        EventRun(ID, 1, [2], [2], [2], ["e"], [None], ["{}"], [""], [Kind.TEXT])
    )
    for seq, at_ns in ((0, 1), (2, 5)):
        rows.frames.append(frame("text", at_ns)._replace(seq=seq))
    listener = Listener()
    listener.hear_rows(rows, 0, 0)
    assert list(listener.facts().chunk_gaps) == [1, 3]


def test_there_is_a_gap_for_each_chunk_after_the_first() -> None:
    """Ten thousand chunks have 9,999 gaps, to the nanosecond."""
    times = [n * 1_000_003 for n in range(10_000)]
    gaps = heard(*(("text", at_ns) for at_ns in times)).chunk_gaps
    assert list(gaps) == [b - a for a, b in pairwise(times)]


def test_a_stream_without_end_keeps_the_count_of_its_gaps() -> None:
    """What is kept of an endless stream is bounded: three digits of each gap."""
    count = GAPS_EXACT_MAX + 10
    listener = Listener()
    for n in range(count):
        listener.hear(frame("text", n * 123_456))
    facts = listener.facts()
    assert facts.rounded_gaps.keys() == {123_000}
    assert set(facts.chunk_gaps) == {123_456}
    assert facts.rounded_gaps[123_000] + len(facts.chunk_gaps) == count - 1
    assert len(facts.chunk_gaps) < 10
    assert len(listener._gaps) < 10


def test_content_is_kept_only_where_it_is_wanted_and_not_without_end() -> None:
    """Frames beyond a megabyte are left out, and counted."""
    large = "x" * (CONTENT_BYTES_MAX - 10)
    frames = [frame("text", 1, large), frame("text", 2, "y" * 11), frame("text", 3)]
    assert facts_of(frames).heard == ()
    facts = facts_of(frames, keeps_content=True)
    assert [len(one.data) for one in facts.heard] == [len(large), 2]
    assert facts.unheard_bytes == 11


SLOW = [said(100, "a"), said(3_500, "b"), called(4_000, "t", "n")]
STREAMS = {
    "a tool at work": [
        *SLOW,
        returned(9_000, "t"),
        said(12_000, "c"),
        finished(12_100),
    ],
    "after a tool": [called(1, "t", "n"), returned(2, "t"), finished(5_000)],
    "never answered": [*SLOW, finished(9_000)],
    "cut": [*SLOW, returned(4_100, "t")],
    "cut at work": SLOW,
    "slow to begin": [said(3_000, "a"), finished(3_100)],
    "greeting": [event(100, "connected", {"signal_id": "x"}), said(2_500, "a")],
    "status alone": [event(n, "status", {}) for n in range(1_000, 9_000, 500)],
    "quick": [said(100, "a"), finished(200)],
}


@pytest.mark.parametrize("name", STREAMS)
def test_stalls_are_those_of_the_report(tmp_path: Path, name: str) -> None:
    """What a span says of stalls is what SQL says of the same recording."""
    records = meibel_exchange(STREAMS[name], ended_ms=20_000)
    with Store.open(store_with(tmp_path, [records])) as store:
        (one,) = store.exchanges()
        calls = store.tool_calls(one.exchange_id)
        facts = facts_of(store.frames(one.exchange_id))
        found = {
            (gap.start_ns, gap.end_ns, gap.state(one, calls))
            for gap in facts.gaps(one)
            if gap.length_ns > STALL_NS
        }
        rows = store.sql("SELECT begin_ns, end_ns, state FROM stalls").to_pylist()
        assert found == {(r["begin_ns"], r["end_ns"], r["state"]) for r in rows}
        working = [row for row in rows if row["state"] == "tool_running"]
        assert len(facts.stalls(one, calls)) == len(rows) - len(working)
