"""Recordings of tests, without pytest: what they are in each mode, and how they end.

What pytest's users see of them is in `test_pytest_plugin.py`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from little_api import LittleApi, little_api

from sse_recorder.clock import FakeClock
from sse_recorder.errors import SSERecorderError, StoreError, UsageError
from sse_recorder.playback import MAX_SPEED
from sse_recorder.store.store import Store
from sse_recorder.testing import Mode, Options, Place, SSERecording

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def api() -> Iterator[LittleApi]:
    """Run an API to record."""
    with little_api() as api:
        yield api


class Bench:
    """A cassette, and recordings of it one after the other."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.folder = folder
        self.path = folder / "chats.sse.jsonl"
        self.upstream = upstream

    def recording(self, mode: str = "once", **options: object) -> SSERecording:
        """Return a recording of the cassette."""
        place = Place(
            test="test_chat.py::test_hello[a b]",
            root=self.folder,
            scratch=lambda: Path(tempfile.mkdtemp(dir=self.folder)),
        )
        asked = Options(**{"upstream": self.upstream} | options)  # type: ignore[arg-type]
        return SSERecording(self.path, Mode(mode), asked, place)

    def record(self, *messages: str) -> None:
        """Record some messages."""
        with self.recording("rewrite") as recording:
            for message in messages:
                say(recording, message)
            assert recording.finish(has_passed=True) == ([], [], [])


@pytest.fixture
def bench(tmp_path: Path, api: LittleApi) -> Bench:
    """Return an empty bench."""
    return Bench(tmp_path, api.url)


def say(recording: SSERecording, message: str) -> str:
    """Say something to the API, and return its answer."""
    with httpx.Client(base_url=recording.url, trust_env=False) as client:
        return client.post("/chat", json={"message": message}).text


@pytest.mark.parametrize(
    ("mode", "has_cassette", "replays", "records"),
    [
        ("none", True, True, False),
        ("once", True, True, False),
        ("once", False, False, True),
        ("new_episodes", True, True, True),
        ("new_episodes", False, False, True),
        ("all", True, False, True),
        ("all", False, False, True),
        ("rewrite", True, False, True),
        ("rewrite", False, False, True),
    ],
)
def test_a_mode_says_who_answers(
    bench: Bench,
    api: LittleApi,
    mode: str,
    *,
    has_cassette: bool,
    replays: bool,
    records: bool,
) -> None:
    """What is in the cassette is replayed or not, what is not is recorded or not."""
    bench.record("old")
    if not has_cassette:
        bench.path.unlink()
    api.asked.clear()
    with bench.recording(mode) as recording:
        say(recording, "old")
        assert len(api.asked) == (not replays)
        say(recording, "new")
        assert len(api.asked) == (not replays) + records
        assert recording.is_recording == records


def test_exchanges_are_what_has_answered_so_far(bench: Bench) -> None:
    """Replayed ones first, then new ones, in the order in which they began."""
    bench.record("one", "two", "three")
    with bench.recording("new_episodes") as recording:
        assert recording.exchanges() == []
        for message in ("two", "four", "one", "five"):
            say(recording, message)
        bodies = [exchange.request_body for exchange in recording.exchanges()]
    said = ["one", "two", "four", "five"]
    assert bodies == [b'{"message":"%b"}' % message.encode() for message in said]


def test_bodies_and_tool_calls_are_those_of_the_exchanges(bench: Bench) -> None:
    """Of replayed ones and of new ones, while the test is running."""
    bench.record("one")
    with bench.recording("new_episodes") as recording:
        texts = [say(recording, message) for message in ("one", "two")]
        found = recording.exchanges()
        assert [recording.body(one).decode() for one in found] == texts
        assert [recording.tool_calls(one) for one in found] == [[], []]


def test_what_is_recorded_is_never_late(bench: Bench) -> None:
    """Only replays have something to be punctual about; both take the same test."""
    with bench.recording() as recording:
        say(recording, "hello")
        recording.release()
        assert recording.lateness.count == 0
        recording.assert_punctual(max_ms=0)
        recording.finish(has_passed=True)
    with bench.recording(speed=MAX_SPEED) as recording:
        with pytest.raises(AssertionError, match="nothing was played"):
            recording.assert_punctual(max_ms=1_000)
        say(recording, "hello")
        assert recording.lateness.count
        recording.assert_punctual(max_ms=60_000)


def test_nothing_is_left_of_a_recording_but_the_cassette(bench: Bench) -> None:
    """The store that it was made in is thrown away when the cassette is there."""
    bench.record("hello")
    assert [*bench.folder.iterdir()] == [bench.path]


def test_what_is_not_kept_stays_in_its_store(bench: Bench) -> None:
    """A cassette is not touched by a test that fails, which is told where to look."""
    with bench.recording() as recording:
        say(recording, "hello")
        report = recording.finish(has_passed=False)
    assert report.problems == []
    (store,) = bench.folder.iterdir()
    (note,) = report.notes
    assert note.startswith(
        "The test did not pass, so what it recorded is not in chats."
    )
    assert note.endswith(f"Look at it there:\n\n    sse-recorder ls --store {store}")


def test_a_command_is_quoted_for_a_shell(bench: Bench) -> None:
    """Node ids have brackets and spaces in them."""
    with pytest.raises(StoreError, match=r"once 'test_chat.py::test_hello\[a b\]'$"):
        bench.recording("none")


def test_a_cassette_elsewhere_is_shown_by_its_whole_path(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where it is not below the folder that the tests are run from."""
    bench.path = tmp_path_factory.mktemp("elsewhere") / "chats.sse.jsonl"
    with pytest.raises(StoreError) as caught:
        bench.recording("none")
    assert str(caught.value).startswith(f"{bench.path}: there is no such recording")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upstream": None}, "there is no upstream"),
        ({"upstream": "ftp://api"}, "ftp://api"),
        ({"speed": 0}, "not a speed"),
        ({"faults": ["wobble"]}, "wobble"),
        ({"ignore": "a..b"}, "neither a name nor a path"),
        ({"match_headers": ["a b"]}, "not the name of a header"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_test(
    bench: Bench, options: dict[str, object], message: str
) -> None:
    """And no thread is left of what was prepared."""
    bench.record("hello")
    with pytest.raises(SSERecorderError, match=message):
        bench.recording("new_episodes", **options)


@pytest.mark.parametrize("option", [{"ignore": ["a..b"]}, {"match_headers": ""}])
def test_a_rule_that_is_none_is_refused_before_anything_is_recorded(
    bench: Bench, api: LittleApi, option: dict[str, object]
) -> None:
    """Else the first replay would be what finds it."""
    with pytest.raises(UsageError):
        bench.recording("rewrite", **option)
    assert (api.asked, [*bench.folder.iterdir()]) == ([], [])


def test_what_is_ignored_is_recorded_in_place_of_what_was(bench: Bench) -> None:
    """`all` keeps other recordings, and other is what a replay would tell apart."""
    bench.record("one", "two")
    for ignore, kept in (((), ["one", "two", "three"]), ("message", ["four"])):
        with bench.recording("all", ignore=ignore) as recording:
            say(recording, "three" if not ignore else "four")
            assert recording.finish(has_passed=True) == ([], [], [])
        with Store.open(bench.path) as store:
            said = [json.loads(e.request_body)["message"] for e in store.exchanges()]
        assert said == kept


def test_a_stale_cassette_is_as_old_as_its_oldest_exchange(bench: Bench) -> None:
    """By the wall clock; what is recorded now is not stale."""
    bench.record("hello")
    with bench.recording() as recording:
        assert recording.stale(1) is None
        assert recording.stale(0) is None
        began_ns = recording._player.matcher.unused()[0].exchange.started_at  # type: ignore[union-attr]
        later = FakeClock(started_at_ns=began_ns + 3 * DAY_NS)
        recording._clock = later.clock()
        assert recording.stale(4) is None
        text = recording.stale(2)
    assert text is not None
    assert text.startswith("chats.sse.jsonl was recorded 3 days ago, and 2 are allowed")
    with bench.recording("rewrite") as recording:
        assert recording.stale(2) is None


def test_a_recording_without_an_upstream_needs_none_to_replay(bench: Bench) -> None:
    """The API may be gone, and nobody has to say where it was."""
    bench.record("hello")
    with bench.recording(upstream=None) as recording:
        assert "hello, answer 1" in say(recording, "hello")
        assert recording.upstream is None
        assert recording.finish(has_passed=True) == ([], [], [])
    with pytest.raises(UsageError):
        bench.recording("all", upstream=None)
