"""What every replay shares: what answers which request, and how late it was."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from recordings import CHUNKS, MS, exchange
from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Outcome, RequestHead
from sse_recorder.match import Miss
from sse_recorder.playback import MAX_SPEED, Data
from sse_recorder.repertoire import Answer, Repertoire, ReplayOptions, speed_of
from sse_recorder.store import cassette

HEADERS = (("Content-Type", "application/json"),)
BODY = b'{"b": 2, "a": 1}'
TENANT = ("X-Tenant", "a")


def repertoire(path: Path, **changes: Any) -> Repertoire:
    """Return one of a cassette with two exchanges, and one that is incomplete."""
    takes = [
        exchange(reason="Take 1", exchange_id="01936a3e-8c00-7abc-9def-000000000001"),
        exchange(reason="Take 2", exchange_id="01936a3e-8c00-7abc-9def-000000000002"),
        exchange(
            outcome=Outcome.INCOMPLETE,
            exchange_id="01936a3e-8c00-7abc-9def-000000000003",
        ),
    ]
    file = path / "a.sse.jsonl"
    file.write_text("".join(cassette.dumps(one, CHUNKS) for one in takes))
    return Repertoire([file], **changes)


def ask(of: Repertoire, *headers: tuple[str, str], scope: str = "") -> Answer:
    """Return what answers the recorded request with some headers more."""
    head = RequestHead("POST", "/chat?x=1", (*HEADERS, *headers))
    found = of.find(head, BODY, scope=scope)
    assert isinstance(found, Answer)
    return found


def test_equal_requests_are_answered_in_order_in_each_scope(tmp_path: Path) -> None:
    """The last answers again; a scope, by a header or not, begins at the first."""
    played = repertoire(tmp_path)
    assert (played.loaded, played.skipped) == (2, 1)
    header = ("X-SSE-Recorder-Scope", "third")
    reasons = [
        *[ask(played).exchange.reason for _ in range(3)],
        ask(played, scope="other").exchange.reason,
        ask(played, header, scope="other").exchange.reason,
    ]
    assert reasons == ["Take 1", "Take 2", "Take 2", "Take 1", "Take 1"]
    assert played.served == 5


def test_a_request_says_its_own_pace_and_faults(tmp_path: Path) -> None:
    """What is set for all requests is for those that do not ask for something else."""
    played = repertoire(tmp_path, faults=["drop@event:1"])
    assert sum(isinstance(step, Data) for _, step in ask(played).timeline) == 2
    fault = ("X-SSE-Recorder-Fault", "reslice=1")
    answer = ask(played, ("x-sse-recorder-speed", "max"), fault)
    assert {at_ns for at_ns, _ in answer.timeline} == {0}
    chunks = [step.data for _, step in answer.timeline if isinstance(step, Data)]
    assert set(map(len, chunks)) == {1}
    assert [line.partition(":")[0] for line in played.fault_report] == [
        "POST /chat"
    ] * 2
    with pytest.raises(UsageError, match="is not a speed"):
        ask(played, ("x-sse-recorder-speed", "fast"))


def test_a_miss_is_counted_by_who_answers_it(tmp_path: Path) -> None:
    """Finding nothing is no miss yet: it may be handed on to somebody else."""
    played = repertoire(tmp_path)
    miss = played.find(RequestHead("GET", "/chat?x=1", HEADERS), BODY)
    assert isinstance(miss, Miss)
    assert (played.missed, len(played.misses)) == (0, 0)
    told: Any = played.note_miss(miss)
    assert told["error"]["differs_in"] == "method"
    assert told["error"]["nearest"]["path"] == "/chat"
    assert (played.missed, list(played.misses)) == (1, [miss])


def test_what_is_ignored_makes_requests_equal(tmp_path: Path) -> None:
    """Recorded and live ones alike; a header that was asked for tells them apart."""
    played = repertoire(tmp_path, ignore="b", match_headers=["x-tenant"])
    head = RequestHead("POST", "/chat?x=1", HEADERS)
    answers = [played.find(head, body) for body in (b'{"a":1}', b'{"a":1,"b":[]}')]
    reasons = [
        answer.exchange.reason for answer in answers if isinstance(answer, Answer)
    ]
    assert reasons == ["Take 1", "Take 2"]
    miss = played.find(RequestHead("POST", "/chat?x=1", (*HEADERS, TENANT)), BODY)
    assert isinstance(miss, Miss)
    assert miss.field == "headers.x-tenant"


@pytest.mark.parametrize("option", [{"ignore": "a..b"}, {"match_headers": "a b"}])
def test_a_rule_that_is_none_is_refused_before_anything_is_read(
    tmp_path: Path, option: ReplayOptions
) -> None:
    """Who mistypes one need not wait for a miss."""
    with pytest.raises(UsageError, match=r"is neither a name|is not the name of"):
        Repertoire([tmp_path / "nothing"], **option)


def test_servers_and_transports_pass_on_every_option() -> None:
    """What a repertoire can be given, they can be given by the same name."""
    named = inspect.signature(Repertoire.__init__).parameters.values()
    options = {one.name for one in named if one.kind is one.KEYWORD_ONLY}
    assert options == ReplayOptions.__optional_keys__


def test_lateness_is_told_by_how_many_streams_there_were(tmp_path: Path) -> None:
    """A replay that is late with a thousand streams may be punctual with one."""
    played = repertoire(tmp_path)
    with pytest.raises(AssertionError, match="nothing was played"):
        played.assert_punctual(max_ms=1)
    for streams in (1, 2, 9, 10, 5_000):
        played.note_late(streams * 1_000, streams)
    assert list(played.lateness_by_streams()) == ["1", "2-9", "10-99", "1000+"]
    assert played.lateness.max_ns == 5 * MS
    played.assert_punctual(max_ms=5)
    with pytest.raises(AssertionError, match="not punctual: n=5"):
        played.assert_punctual(max_ms=4)
    assert played.report()["lateness_by_streams"]["2-9"]["count"] == 2


def test_a_repertoire_of_nothing_is_refused(tmp_path: Path) -> None:
    """It is found at once, and not by the first request that misses."""
    file = tmp_path / "a.sse.jsonl"
    file.write_text(cassette.dumps(exchange(outcome=Outcome.INCOMPLETE), CHUNKS))
    with pytest.raises(
        StoreError, match=r"a.sse.jsonl: no exchange that can be served"
    ):
        Repertoire([file])


def test_a_speed_is_a_factor_or_max() -> None:
    """Anything else is refused in words."""
    assert [speed_of(text) for text in ("1", "0.5", "max")] == [1, 0.5, MAX_SPEED]
    for text in ("0", "-1", "inf", "nan", ""):
        with pytest.raises(UsageError, match="give a number above 0, or max"):
            speed_of(text)
