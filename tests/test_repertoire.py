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
from sse_recorder.playback import MAX_SPEED, Data, Player
from sse_recorder.repertoire import Answer, Repertoire, ReplayOptions
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
    steps = list(answer.timeline)
    assert {at_ns for at_ns, _ in steps} == {0}
    chunks = [step.data for _, step in steps if isinstance(step, Data)]
    assert set(map(len, chunks)) == {1}
    assert played.fault_report == []  # it is told when it has been played
    played.note_end(answer, Player(answer.timeline, 0), 5)
    (line,) = played.fault_report
    assert line.startswith("POST /chat: reslice=1: ")
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
    with pytest.raises(AssertionError, match=r"not punctual: n=5.*were max=4 ms"):
        played.assert_punctual(max_ms=4)
    wrong: dict[str, Any] = {"p95_ms": 1}
    with pytest.raises(TypeError, match="p95_ms"):
        played.assert_punctual(**wrong)
    assert played.report()["lateness_by_streams"]["2-9"]["count"] == 2


def test_a_repertoire_of_nothing_is_refused(tmp_path: Path) -> None:
    """It is found at once, and not by the first request that misses."""
    file = tmp_path / "a.sse.jsonl"
    file.write_text(cassette.dumps(exchange(outcome=Outcome.INCOMPLETE), CHUNKS))
    with pytest.raises(
        StoreError, match=r"a.sse.jsonl: no exchange that can be served"
    ):
        Repertoire([file])


def test_nothing_is_no_repertoire() -> None:
    """Who forgot the sources is told so."""
    with pytest.raises(UsageError, match="nothing to replay: give a folder or a"):
        Repertoire([])


@pytest.mark.parametrize("speed", [0, -1, "fast"])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: Any) -> None:
    """In Python as on the command line, where `max` is one."""
    assert repertoire(tmp_path, speed="max").pace.speed == MAX_SPEED
    with pytest.raises(UsageError, match="give a number above 0, or max"):
        repertoire(tmp_path, speed=speed)


def test_one_exchange_can_be_named(tmp_path: Path) -> None:
    """`SOURCE#ID` serves that one, by the end of its id, and nothing else."""
    whole = repertoire(tmp_path)
    one = Repertoire([tmp_path / "a.sse.jsonl#00000002"])
    assert (whole.loaded, one.loaded) == (2, 1)
    answer = ask(one)
    assert answer.exchange.reason == "Take 2"
    assert sum(isinstance(step, Data) for _, step in answer.timeline) == len(CHUNKS)
    with pytest.raises(UsageError):
        Repertoire([tmp_path / "a.sse.jsonl#00000009"])


def test_what_is_told_does_not_grow_for_ever(tmp_path: Path) -> None:
    """The first of it is kept, and the rest is counted."""
    left = exchange(outcome=Outcome.CLIENT_ABORT)
    file = tmp_path / "a.sse.jsonl"
    file.write_text(cassette.dumps(left, CHUNKS))
    played = Repertoire([file], faults=["drop@event:7", "drop@event:8"], speed="max")
    for _ in range(600):
        answer = ask(played)
        player = Player(answer.timeline, 0)
        for now_ns in (0, 10**18):
            while player.take(now_ns):
                pass
        played.note_end(answer, player, 10**18)
        miss = played.find(RequestHead("GET", "/", HEADERS), BODY)
        assert isinstance(miss, Miss)
        played.note_miss(miss)
    report = played.report()
    assert report["faults_told"] == 1_200
    assert report["missed"] == 600
    kept = ("faults", "misses", "outstayed")
    assert [len(report[name]) for name in kept] == [1_000, 100, 100]


def test_the_report_says_what_was_missed_and_why(tmp_path: Path) -> None:
    """Nobody has to have read the answers to the clients."""
    played = repertoire(tmp_path)
    miss = played.find(RequestHead("POST", "/chat?x=1", HEADERS), b'{"a":1,"b":3}')
    assert isinstance(miss, Miss)
    played.note_miss(miss)
    (told,) = played.report()["misses"]
    assert (told["method"], told["path"]) == ("POST", "/chat")
    assert (told["differs_in"], told["recorded"], told["received"]) == (
        "body.b",
        "2",
        "3",
    )
