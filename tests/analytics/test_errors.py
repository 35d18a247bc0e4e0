"""The errors report, on exchanges whose problems can be counted by hand."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from samples import (
    MS,
    STARTED_AT,
    Event,
    called,
    cassette_with,
    conversation,
    event,
    exchange_id,
    finished,
    meibel_exchange,
    plain_exchange,
    returned,
    said,
    store_with,
)

from sse_recorder import analytics, dialects
from sse_recorder.exchange import Op, Outcome, Record, ResponseHead
from sse_recorder.store.store import Store

CHATS = "/v1/chat/completions"
NO_RESULT = "no result, in it or in a later request"


def errors(path: Path, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of the report."""
    with Store.open(path) as store:
        rows: list[dict[str, Any]] = analytics.run(
            store, "errors", **options
        ).table.to_pylist()
    return rows


def problems(path: Path) -> list[tuple[str, str, int, int]]:
    """Return what there is: problem, detail, how often, in how many exchanges."""
    return [
        (row["problem"], row["detail"], row["n"], row["exchanges"])
        for row in errors(path)
    ]


def refused(number: int, status: int) -> list[Record]:
    """Return an exchange that was answered with a status."""
    return [
        record._replace(payload=ResponseHead(status, "No"))
        if record.op is Op.HEAD
        else record
        for record in meibel_exchange([finished(20)], number=number)
    ]


def test_the_most_frequent_comes_first(tmp_path: Path) -> None:
    """A row a problem: how often, in what share, and the latest to look at."""
    later = STARTED_AT + 5000 * MS
    root = store_with(
        tmp_path,
        [
            refused(1, 429),
            refused(2, 429),
            meibel_exchange(
                [said(10, "a")],
                number=3,
                outcome=Outcome.UPSTREAM_ABORT,
                error="eof: 12 bytes were missing",
            ),
            meibel_exchange(
                [
                    called(10, "a", "search"),
                    returned(20, "a", {"error": "no"}),
                    called(30, "b", "search"),
                    returned(40, "b", {"error": "no"}),
                    finished(50),
                ],
                number=4,
                started_at=later,
            ),
            meibel_exchange([finished(20)], number=5),
            meibel_exchange([said(10, "a")], number=6, ended_ms=None),
        ],
    )
    found = errors(root)
    assert [tuple(row.values())[1:6] for row in found] == [
        ("status", "429", 2, 2, 40),
        ("tool", "failed search", 2, 1, 20),
        ("outcome", "upstream_abort: eof", 1, 1, 20),
    ]
    assert found[0]["latest_in"] in {exchange_id(1), exchange_id(2)}
    assert found[1]["latest_in"] == exchange_id(4)
    assert found[1]["last"] == datetime.fromtimestamp(later // 10**9, UTC).replace(
        microsecond=123_000
    )


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (
            '{"error": {"type": "overloaded_error", "message": "Busy"}}',
            "overloaded_error",
        ),
        ('{"error": {"code": "rate_limit", "type": "x"}}', "rate_limit"),
        ('{"error": {"code": 429, "message": "Slow down"}}', "429"),
        ('{"error": "out of memory"}', "out of memory"),
        ('{"message": "no such agent"}', "no such agent"),
        ('{"error": {"code": null, "type": "", "message": "Busy"}}', "Busy"),
        ("not json", "not json"),
    ],
)
def test_an_error_in_a_stream_goes_by_its_code(
    tmp_path: Path, data: str, detail: str
) -> None:
    """Its code, else its type, else what it says: what can be counted comes first."""
    records = meibel_exchange([Event(10, "error", data)])
    assert problems(store_with(tmp_path, [records])) == [("stream error", detail, 1, 1)]


def test_an_error_in_an_answer_that_is_no_stream_goes_by_its_code(
    tmp_path: Path,
) -> None:
    """What a body says is looked at like what an event says, in a list, too."""
    gemini = "/v1beta/models/g:streamGenerateContent"
    answers = [
        plain_exchange(
            20, '{"error": {"code": "rate_limit"}}', status=429, number=1, path=CHATS
        ),
        plain_exchange(
            20, '[{"error": {"code": 503}}]', status=503, number=2, path=gemini
        ),
    ]
    found = problems(store_with(tmp_path, answers))
    assert [row for row in found if row[0] == "stream error"] == [
        ("stream error", "503", 1, 1),
        ("stream error", "rate_limit", 1, 1),
    ]


def test_a_response_that_failed_goes_by_the_code_within(tmp_path: Path) -> None:
    """OpenAI's Responses wrap the error in the response, beside an id of its own."""
    failed = [
        meibel_exchange(
            [
                event(
                    10,
                    "response.failed",
                    {
                        "type": "response.failed",
                        "response": {"id": f"r{n}", "error": {"code": "server_error"}},
                    },
                )
            ],
            number=n,
            path="/v1/responses",
        )
        for n in (1, 2)
    ]
    assert problems(store_with(tmp_path, failed)) == [
        ("stream error", "server_error", 2, 2)
    ]


def test_the_report_names_the_dialects_that_say_when_they_are_over() -> None:
    """It runs where there is no Python, so it has a list; here it is compared."""
    script = Path(str(analytics.__file__)).with_name("errors.sql").read_text("utf-8")
    (listed,) = re.findall(r"dialect IN \(([^)]*)\)", script)
    known = (name for name in dialects.NAMES if dialects.load(name).says_end)
    assert re.findall(r"'(\w+)'", listed) == sorted(known)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param([said(10, "a")], [("no end", "meibel", 1, 1)], id="no end"),
        pytest.param([said(10, "a"), finished(20)], [], id="an end"),
        pytest.param(
            [event(10, "connected", {}), called(20, "a", "f"), finished(30)],
            [("tool", f"unanswered f: {NO_RESULT}", 1, 1)],
            id="unanswered",
        ),
        pytest.param(
            [
                called(10, "a", "f"),
                called(20, "a", "f"),
                returned(30, "a"),
                finished(40),
            ],
            [("tool", "superseded f: called again with its id", 1, 1)],
            id="superseded",
        ),
        pytest.param(
            [returned(30, "a"), finished(40)],
            [("tool", "unmatched: no open call", 1, 1)],
            id="unmatched, which has no name",
        ),
    ],
)
def test_streams_that_went_wrong_in_themselves(
    tmp_path: Path, events: list[Event], expected: list[tuple[str, str, int, int]]
) -> None:
    """Answers of status 200 have problems, too."""
    assert problems(store_with(tmp_path, [meibel_exchange(events)])) == expected


@pytest.mark.parametrize(
    ("reason", "is_problem"),
    [
        ("length", True),
        ("content_filter", True),
        ("stop", False),
        ("tool_calls", False),
    ],
)
def test_an_answer_that_was_cut_short(
    tmp_path: Path, reason: str, *, is_problem: bool
) -> None:
    """The finish reason says so; the ordinary ones are no problem."""
    data = f'{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}'
    events = [Event(10, None, data), Event(20, None, "[DONE]")]
    root = store_with(tmp_path, [meibel_exchange(events, path=CHATS)])
    assert problems(root) == ([("cut short", reason, 1, 1)] if is_problem else [])


def test_what_differs_each_time_is_left_out(tmp_path: Path) -> None:
    """Two losses of the recorder's are one problem, however many records were lost."""
    lost = [
        meibel_exchange(
            [finished(10)],
            number=n,
            outcome=Outcome.INCOMPLETE,
            error=f"{n} records were lost: the writer fell behind",
        )
        for n in (1, 2)
    ]
    assert problems(store_with(tmp_path, lost)) == [
        ("outcome", "incomplete: … records were lost", 2, 2)
    ]


def test_a_frame_that_breaks_the_rules_is_an_anomaly(tmp_path: Path) -> None:
    """What the parser says of frames is counted."""
    records = meibel_exchange([said(10, "a"), finished(20)])
    broken = [
        record._replace(payload=b"data: \xff\n\n") if record.op is Op.DATA else record
        for record in records
    ]
    root = store_with(tmp_path, [broken])
    with Store.open(root) as store:
        anomalies = store.sql("SELECT anomaly FROM frames WHERE anomaly IS NOT NULL")
    [anomaly] = set(anomalies.column(0).to_pylist())
    assert problems(root)[0] == ("anomaly", anomaly, 2, 1)


def test_by_tool_a_failed_call_is_in_its_own_group_alone(tmp_path: Path) -> None:
    """What else went wrong is in the groups of all tools that the exchange called."""
    events = [
        called(10, "a", "search"),
        returned(20, "a"),
        called(30, "b", "fetch"),
        returned(40, "b", {"error": "no"}),
    ]
    root = store_with(tmp_path, [meibel_exchange(events)])
    assert [(r["group"], r["problem"]) for r in errors(root, by="tool")] == [
        ("fetch", "no end"),
        ("fetch", "tool"),
        ("search", "no end"),
    ]


def test_a_call_without_a_result_has_a_reason(tmp_path: Path) -> None:
    """Its arguments were not whole, or the stream was not, or nobody brought it."""
    delta = '{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":%s}]}}'
    named = delta % '{"name":"f","arguments":"{"}'
    half = [Event(10, None, f'{{"choices":[{named}]}}')]
    cut = meibel_exchange(
        half, number=1, path=CHATS, outcome=Outcome.UPSTREAM_ABORT, error="eof: cut"
    )
    broken = meibel_exchange(
        [called(10, "a", "f")], number=2, outcome=Outcome.UPSTREAM_ABORT, error="reset"
    )
    root = store_with(tmp_path, [cut, broken, *conversation()])
    found = {d: n for problem, d, n, _ in problems(root) if problem == "tool"}
    assert found == {
        "unanswered f: its arguments never came whole": 1,
        "unanswered f: the stream ended first": 1,
        f"unanswered search: {NO_RESULT}": 3,
    }
    told = cassette_with(tmp_path / "c.sse.jsonl", conversation())
    assert ("tool", "unmatched: in no recorded answer", 1, 1) in problems(told)
