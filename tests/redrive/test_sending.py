"""Sending recorded requests again: at which times, and what comes back."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from live import live, request
from redrive.again import answers, meanwhile, redrive_of, sent
from samples import MS, exchange_id, store_with

from sse_recorder import RecordingTransport, ReplayServer, running
from sse_recorder.background import run
from sse_recorder.demo import AgentServer
from sse_recorder.errors import StoreError
from sse_recorder.exchange import Outcome
from sse_recorder.playback import MAX_SPEED
from sse_recorder.redrive.order import Order
from sse_recorder.redrive.sending import RUN_TAG, TAG, Redrive
from sse_recorder.store.store import Store

NEAR_NS = 60 * MS
"""How far from its time a request may arrive on a machine that does much else."""


# --- when -----------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [1, 10])
def test_requests_arrive_at_their_times_whatever_the_server_does(
    tmp_path: Path, speed: int
) -> None:
    """A stream that does not end holds back nothing, at any speed."""
    due_ms = [0, 40, 45, 200, 400]
    paths = ["/0?slow", "/1", "/2", "/3", "/4"]
    made = [
        request(n, at_ms * speed, path=path)
        for n, (at_ms, path) in enumerate(zip(due_ms, paths, strict=True))
    ]
    with live() as server:
        redrive = redrive_of(tmp_path, made, server.url, speed=speed)

        def all_came() -> bool:
            return len(server.asked) == len(due_ms)

        def let_go() -> bool:
            assert redrive.over < len(due_ms)
            server.release.set()
            return True

        with closing(redrive):
            meanwhile(redrive, all_came, let_go)
    # Two that are 5 ms apart may change places on their ways through a busy machine.
    came = sorted(server.asked, key=lambda asked: asked.target)
    assert [asked.target for asked in came] == paths
    first_ns = came[0].at_ns
    for asked, at_ms in zip(came, due_ms, strict=True):
        assert abs(asked.at_ns - first_ns - at_ms * MS) < NEAR_NS
    assert redrive.lateness.count == len(due_ms)
    assert 0 <= redrive.lateness.p50_ns <= redrive.lateness.max_ns < NEAR_NS
    assert redrive.held == 0


CHAT = "/v2/sessions/one/chat"
IN_SESSIONS = [
    (CHAT + "?slow", 0, 10),
    (CHAT + "?2", 5, 10),  # while the first was open
    ("/v2/sessions/two/chat?3", 20, 10),
    (CHAT + "?4", 30, 10),  # when both of its session had ended
]


@pytest.mark.parametrize(
    ("order", "speed", "waiting"),
    [
        (Order.SESSION, 1, ["4"]),
        (Order.ALL, MAX_SPEED, ["3", "4"]),
        (Order.NONE, 1, []),
    ],
)
def test_what_had_ended_before_is_waited_for(
    tmp_path: Path, order: Order, speed: float, waiting: list[str]
) -> None:
    """In its session, everywhere or nowhere; what was open then is never waited for."""
    made = [
        request(n, at_ms, path=path, took_ms=took_ms)
        for n, (path, at_ms, took_ms) in enumerate(IN_SESSIONS)
    ]
    early = {"slow", "2", "3", "4"} - set(waiting)

    def came() -> set[str]:
        return {target.partition("?")[2] for target in server.targets}

    with live() as server:
        redrive = redrive_of(tmp_path, made, server.url, order=order, speed=speed)

        def early_came() -> bool:
            is_all = came() == early and redrive.held == len(waiting)
            return is_all and redrive.over == len(early) - 1

        def let_go() -> bool:
            server.release.set()
            return True

        with closing(redrive):
            meanwhile(redrive, early_came, let_go)
    assert sorted(came() - early) == waiting
    # What waited is not late: it could not go before.
    assert redrive.lateness.count == (0 if speed == MAX_SPEED else 4)
    assert redrive.lateness.max_ns < NEAR_NS


def test_at_the_highest_speed_nothing_waits_but_for_a_place(tmp_path: Path) -> None:
    """Requests go in recorded order, and so many at a time; an hour is no time."""
    made = [request(n, n * 3_600_000, path=f"/{n}") for n in range(20)]
    with live() as server:
        one = sent(tmp_path, made, server.url, speed=MAX_SPEED, concurrency=1)
        assert server.targets == [f"/{n}" for n in range(20)]
        assert server.open_most == 1
    assert one.lateness.count == 0
    slow = [request(n, path="/x?slow") for n in range(8)]
    with live() as server:
        (tmp_path / "slow").mkdir()
        options: dict[str, Any] = {"speed": MAX_SPEED, "concurrency": 3}
        redrive = redrive_of(tmp_path / "slow", slow, server.url, **options)

        def full() -> bool:
            return server.open == 3

        def let_go() -> bool:
            assert redrive.sent == 3
            server.release.set()
            return True

        with closing(redrive):
            meanwhile(redrive, full, let_go)
        assert server.open_most == 3
        assert len(server.asked) == 8


def test_what_waits_for_a_place_is_late(tmp_path: Path) -> None:
    """The limit is ours, so the report does not hide what it does to the times."""
    made = [request(1, path="/1?slow"), request(2, 10, path="/2")]
    with live() as server:
        redrive = redrive_of(tmp_path, made, server.url, concurrency=1)
        rounds = iter(range(20))

        def a_while_later() -> bool:
            return next(rounds, None) is None

        def let_go() -> bool:
            assert server.targets == ["/1?slow"]
            server.release.set()
            return True

        with closing(redrive):
            meanwhile(redrive, lambda: server.asked, a_while_later, let_go)
    assert redrive.lateness.max_ns > 150 * MS
    assert redrive.held == 0


def test_each_repetition_begins_when_the_last_is_over(tmp_path: Path) -> None:
    """All of them are compared with the same recording."""
    made = [request(1, path="/1"), request(2, 30, path="/2")]
    with live() as server:
        redrive = sent(tmp_path, made, server.url, repeat=3)
    assert server.targets == ["/1", "/2"] * 3
    assert {n: len(found) for n, found in answers(tmp_path, redrive).items()} == {
        1: 3,
        2: 3,
    }
    assert redrive.times == {0: 3, 1: 3}


# --- what comes back ------------------------------------------------------------------


def test_nothing_to_send_is_an_error(tmp_path: Path) -> None:
    """A gate that looked at nothing must not be green."""
    made = store_with(tmp_path, [request(1)])
    with Store.open(made) as store, pytest.raises(StoreError, match="no exchange"):
        Redrive(store.exchanges("false"), "http://127.0.0.1:1")


def test_answers_are_tagged_with_what_they_are_of(tmp_path: Path) -> None:
    """Also where all requests are the same; and another run is another one."""
    made = [request(n, n) for n in (1, 2, 3)]
    with live() as server:
        first = sent(tmp_path, made, server.url)
        with Store.open(tmp_path / "recordings") as store:
            second = Redrive(store.exchanges(), server.url, store=tmp_path / "after")
        with closing(second):
            run(second.run())
    assert first.run_id != second.run_id
    for redrive in (first, second):
        found = answers(tmp_path, redrive)
        assert {n: len(exchanges) for n, exchanges in found.items()} == {
            1: 1,
            2: 1,
            3: 1,
        }
        for number, (answer,) in found.items():
            tags = {TAG: exchange_id(number), RUN_TAG: redrive.run_id}
            assert answer.tags == {"sse_recorder.mode": "client", **tags}
            assert answer.outcome is Outcome.COMPLETE


def test_what_fails_is_recorded_and_counted_and_not_tried_again(tmp_path: Path) -> None:
    """Nobody follows a redirect, either."""
    words = {1: "cut", 2: "mute", 3: "away", 4: "fine"}
    made = [request(n, n, path=f"/?{word}") for n, word in words.items()]
    with live() as server:
        redrive = sent(tmp_path, made, server.url, timeout_s=0.3)
    assert sorted(server.targets) == sorted(f"/?{word}" for word in words.values())
    found = {n: exchanges[0] for n, exchanges in answers(tmp_path, redrive).items()}
    assert {n: (x.status, x.outcome) for n, x in found.items()} == {
        1: (200, Outcome.UPSTREAM_ABORT),
        2: (None, Outcome.TIMEOUT),
        3: (302, Outcome.COMPLETE),
        4: (200, Outcome.COMPLETE),
    }
    assert (redrive.sent, redrive.over, redrive.unanswered) == (4, 4, 1)
    assert redrive.first_error == "ReadTimeout"


def test_a_server_that_is_not_there_is_recorded_as_such(tmp_path: Path) -> None:
    """Each request has an exchange that says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        redrive = sent(tmp_path, [request(1), request(2)], url)
    found = answers(tmp_path, redrive)
    assert {x.outcome for (x,) in found.values()} == {Outcome.UPSTREAM_ERROR}
    assert sorted(found) == [1, 2]
    assert redrive.unanswered == 2
    assert redrive.first_error.startswith("ConnectError: ")


def test_what_is_wrong_with_us_is_raised_and_not_recorded_as_an_answer(
    tmp_path: Path,
) -> None:
    """Nothing more is sent, and what was recorded is sealed."""
    made = [request(1), request(2, 3_600_000)]
    with live() as server:
        redrive = redrive_of(tmp_path, made, server.url)
        redrive.close()  # with it, the bodies are gone
        with pytest.raises(ValueError, match="closed file"):
            run(redrive.run())
        assert server.asked == []
    assert (redrive.sent, redrive.unsent) == (0, 2)


def test_stopping_lets_streams_end_and_cutting_does_not(tmp_path: Path) -> None:
    """What was not sent is counted, and what was cut is recorded as that."""
    made = [request(1, path="/1?slow"), request(2, 3_600_000)]
    for is_cut in (False, True):
        folder = tmp_path / str(is_cut)
        folder.mkdir()
        with live() as server:
            redrive = redrive_of(folder, made, server.url)

            def stop(redrive: Redrive = redrive) -> bool:
                redrive.stop()
                return True

            def end(redrive: Redrive = redrive, *, is_cut: bool = is_cut) -> bool:
                assert redrive.over == 0
                (redrive.cut if is_cut else server.release.set)()
                return True

            with closing(redrive):
                meanwhile(redrive, lambda: server.asked, stop, end)
        ((answer,),) = answers(folder, redrive).values()
        outcome = Outcome.CLIENT_ABORT if is_cut else Outcome.COMPLETE
        assert answer.outcome is outcome
        assert (redrive.sent, redrive.unsent, redrive.unanswered) == (1, 1, 0)


def test_stopping_ends_the_wait_for_what_is_due(tmp_path: Path) -> None:
    """Between two requests it ends at once; before the first nothing is sent."""
    made = [request(1), request(2, 3_600_000)]
    with live() as server:
        redrive = redrive_of(tmp_path, made, server.url)

        def stop() -> bool:
            redrive.stop()
            return True

        with closing(redrive):
            meanwhile(redrive, lambda: redrive.over, stop)
            assert (redrive.sent, redrive.unsent) == (1, 1)
            run(redrive.run())
    assert (redrive.sent, len(server.asked)) == (1, 1)


def test_what_an_agent_and_a_replay_answer_is_read_to_the_end(tmp_path: Path) -> None:
    """A recording of the agent, by a transport, is sent to a replay of itself."""
    with running(AgentServer()) as agent:
        transport = RecordingTransport(tmp_path / "before")
        with httpx.Client(transport=transport, trust_env=False) as client:
            client.post(agent.url + CHAT + "/stream", json={"message": "Hello"})
    with running(ReplayServer(tmp_path / "before")) as server:
        with Store.open(tmp_path / "before") as store:
            before = {
                x.exchange_id: store.body(x.exchange_id) for x in store.exchanges()
            }
            redrive = Redrive(
                store.exchanges(),
                server.url,
                store=tmp_path / "after",
            )
        with closing(redrive):
            run(redrive.run())
        assert (server.served, server.missed) == (1, 0)
    with Store.open(tmp_path / "after") as store:
        after = {
            eid: store.body(x.exchange_id)
            for eid, (x,) in redrive.recorded(store).items()
        }
    assert after == before
