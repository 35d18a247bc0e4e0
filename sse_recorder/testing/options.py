"""What a test asks for, and what it is told in the end: values, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import NamedTuple

from sse_recorder.clock import duration_ns
from sse_recorder.faults import Spec, parse
from sse_recorder.match import MatchRules
from sse_recorder.playback import MAX_SPEED, Pace, speed_of


class Mode(StrEnum):
    """What is recorded, in the words of VCR."""

    NONE = "none"
    """Nothing: everything is replayed."""
    ONCE = "once"
    """What has no cassette yet."""
    NEW_EPISODES = "new_episodes"
    """What the cassette does not have; what it has is replayed."""
    ALL = "all"
    """Everything; recordings of other requests are kept."""
    REWRITE = "rewrite"
    """Everything, into a new cassette."""


class Sharing(Enum):
    """Whether other tests use the same cassette."""

    NO = auto()
    """It has the test's own name."""
    PERHAPS = auto()
    """It has a name that any test can give."""
    YES = auto()
    """It was named for several tests at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a test may ask of its recording."""

    upstream: str | None = None
    """Where requests go while recording."""
    speed: float | str | None = None
    """How many times as fast as recorded it is replayed, or `max`; that is what None
    means, or 1 where anything else is said of the pace."""
    max_gap: str | None = None
    """The longest wait between two steps of a replay, such as 500ms."""
    ttfb: str | None = None
    """The wait before a replayed response head, in place of the recorded one."""
    jitter: float = 0.0
    """By which share of it each wait may be longer or shorter, at random."""
    step: bool = False
    """Whether replayed events wait for `release`."""
    faults: str | Sequence[str] = ()
    """What is done to responses; see `sse_recorder.faults`."""
    seed: int = 0
    """What jitter and faults are drawn from."""
    ignore: str | Sequence[str] = ()
    """Fields of requests that take no part in matching; see `sse_recorder.match`."""
    match_headers: str | Sequence[str] = ()
    """Headers that do."""
    allow_unused: bool | None = None
    """Whether the test need not ask for every recording, or for any.  None: for every
    one, unless other tests use the cassette, too."""
    allow_repeats: bool = False
    """Whether a recording answers more requests than were recorded."""

    def pace(self) -> Pace:
        """Return how the times of replays are changed.

        Raises:
            UsageError: a number or a duration is none.
        """
        is_paced = self.max_gap is not None or self.ttfb is not None or self.jitter
        usual = 1.0 if is_paced else MAX_SPEED
        return Pace(
            speed=usual if self.speed is None else speed_of(self.speed),
            max_gap_ns=None if self.max_gap is None else duration_ns(self.max_gap),
            ttfb_ns=None if self.ttfb is None else duration_ns(self.ttfb),
            jitter=self.jitter,
        )

    def specs(self) -> list[Spec]:
        """Return the faults.

        Raises:
            UsageError: one of them is none.
        """
        faults = self.faults
        return [parse(f) for f in ([faults] if isinstance(faults, str) else faults)]

    def rules(self) -> MatchRules:
        """Return what takes part in matching.

        Raises:
            UsageError: a path or a name is none.
        """
        return MatchRules.of(self.ignore, self.match_headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a recording is used, in the words of who runs the tests."""

    test: str
    """The test's node id."""
    root: Path
    """The folder that paths are shown from."""
    scratch: Callable[[], Path]
    """Gives an empty folder for what is being recorded."""
    hints: Callable[[], Sequence[str]] = tuple
    """Gives reasons why a request may not have come, of what is known of the test."""
    is_ci: bool = False
    """Whether it is for continuous integration that nothing is recorded."""
    began_ns: int | None = None
    """When the run of the tests began; None if each of them is a run of its own."""


class Report(NamedTuple):
    """How it went."""

    problems: list[str]
    """What is wrong, even with a test that passed."""
    notes: list[str]
    """What helps to understand one that did not."""
    warnings: list[str]
    """What may be wrong."""
