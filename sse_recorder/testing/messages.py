"""What is said of a recording that is not as it should be.

Each text names the file, the request, what differs, and what to type, so nobody has to
open the documentation to go on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Exchange, RequestHead, header
from sse_recorder.faults import Spec
from sse_recorder.match import REPEATS, Miss
from sse_recorder.playback import Recording
from sse_recorder.testing.options import Mode, Options, Place, Sharing

SHOWN_MAX: Final = 5
"""Requests that a message lists."""
_NS_PER_S: Final = 1_000_000_000
_ID_SHOWN: Final = 8
_ALLOW_UNUSED: Final = "@pytest.mark.sse_recording(allow_unused=True)"
_ON_PURPOSE: Final = f"If that is on purpose, say so: {_ALLOW_UNUSED}"
_READ_OR_CLOSE: Final = (
    "Read responses to their end, or close them: `with client.stream(…) as response:`,"
    " or `response.close()`."
)


class Messages:
    """The texts of one recording.

    Args:
        path: its cassette.
        place: where it is used.
        options: what the test asked for.
        sharing: whether other tests use the cassette: what is typed is not to destroy
            what is theirs.
    """

    def __init__(
        self, path: Path, place: Place, options: Options, sharing: Sharing
    ) -> None:
        self._place = place
        self._options = options
        self._is_own = sharing is Sharing.NO
        self.file = str(path)
        """The cassette's path as it is shown."""
        if path.is_relative_to(place.root):
            self.file = str(path.relative_to(place.root))

    def command(self, mode: Mode) -> str:
        """Return what to type to record."""
        test = self._place.test
        if mode is Mode.REWRITE and not self._is_own:
            test = test.partition("::")[0]
        return f"pytest --sse-record={mode} {shlex.quote(test)}"

    # What is wrong before the test.

    def no_upstream(self) -> UsageError:
        """Say that nobody knows where requests are to go."""
        return UsageError(
            f"{self.file}: there is no upstream to record this from. Say where the"
            " requests are to go:\n\n"
            '    @pytest.mark.sse_recording(upstream="https://api.example.com")'
        )

    def no_cassette(self) -> StoreError:
        """Say that there is nothing to replay."""
        # An option that is given stands above the variable.
        why = (
            ", and where the variable CI is set none is made. Record it on your"
            " machine, and commit the file"
            if self._place.is_ci
            else ". Record it"
        )
        return StoreError(
            f"{self.file}: there is no such recording{why}:\n\n"
            f"    {self.command(Mode.ONCE)}"
        )

    def unreadable(self, error: StoreError) -> StoreError:
        """Say what to type to be rid of a damaged cassette."""
        return StoreError(f"{error}:\n\n    {self.command(Mode.REWRITE)}")

    def stale(self, age_days: float, max_age_days: float) -> str:
        """Say that a cassette is an old one."""
        return (
            f"{self.file} was recorded {age_days:.0f} days ago, and"
            f" {max_age_days:g} are allowed (sse_recording_max_age_days). See whether"
            f" the API still answers like that: {self.command(Mode.REWRITE)}"
        )

    # What is wrong after it.

    def unreached(self, url: str, done: str) -> str:
        """Say that no request came."""
        hints = "".join(f"\n- {hint}" for hint in self._place.hints())
        return (
            f"No request came to {url}, so nothing of {self.file} was {done}. Give"
            f" that URL to your client as its base URL: it is `sse_base_url`, and"
            f" `sse_recording.url`.{hints}\n\n{_ON_PURPOSE}"
        )

    def missed(self, misses: Sequence[Miss[Recording]], count: int) -> str:
        """Say which requests have no recording."""
        ignored = self._options.ignore
        known = [ignored] if isinstance(ignored, str) else list(ignored)
        shown = misses[:SHOWN_MAX]
        lines = [line for miss in shown for line in _miss_lines(miss, known)]
        anew, more = self.command(Mode.REWRITE), self.command(Mode.NEW_EPISODES)
        advice = (
            "If the request is as it should be, record the test again:\n\n"
            f"    {anew}\n\n"
            f"or add what is new to what is there:\n\n    {more}"
            if self._is_own
            else "If the request is as it should be, add it to what is there:\n\n"
            f"    {more}\n\n"
            "or, since other tests may use this file, record all of them again:\n\n"
            f"    {anew}"
        )
        return (
            f"{_counted(count, 'request')} had no recording in {self.file}:\n\n"
            f"{_listed(lines, count - SHOWN_MAX)}\n\n{advice}"
        )

    def unused(self, unused: Sequence[Exchange], count: int) -> str:
        """Say which recordings had no request."""
        lines = [_line(exchange) for exchange in unused[:SHOWN_MAX]]
        anew = self.command(Mode.REWRITE)
        advice = (
            "If it needs them no more, record the test again:\n\n"
            f"    {anew}\n\n{_ON_PURPOSE}"
            if self._is_own
            else f"If other tests use them, say so: {_ALLOW_UNUSED}\n\n"
            "If none does, record all that may use this file again:\n\n"
            f"    {anew}"
        )
        return (
            f"The test did not ask for {len(unused)} of"
            f" {_counted(count, 'recording')} in {self.file}:\n\n"
            f"{_listed(lines, len(unused) - SHOWN_MAX)}\n\n{advice}"
        )

    def left_open(self, left: Sequence[RequestHead]) -> str:
        """Say which responses the test has not ended."""
        lines = [f"{head.method} {head.path}" for head in left[:SHOWN_MAX]]
        step = (
            "\n\nThe test has step=True, so events wait for it:"
            " `sse_recording.release(1000)` lets the rest go."
        ) * self._options.step
        return (
            f"{_counted(len(left), 'response')} of {self.file} {_were(len(left))} still"
            f" open when the test ended:\n\n{_listed(lines, len(left) - SHOWN_MAX)}\n\n"
            f"{_READ_OR_CLOSE}{step}"
        )

    def outstayed(self, outstayed: Sequence[Exchange]) -> str:
        """Say where a client has waited for what was never recorded."""
        lines = [_line(exchange) for exchange in outstayed[:SHOWN_MAX]]
        count = len(outstayed)
        return (
            f"{_counted(count, 'response')} of {self.file} {_were(count)} left by the"
            " client when it was recorded, and this time it waited for more, which"
            f" nobody knows:\n\n{_listed(lines, count - SHOWN_MAX)}\n\n"
            "If the client is to read on, record it again:\n\n"
            f"    {self.command(Mode.REWRITE)}"
        )

    def cut(self, cut: Sequence[Exchange]) -> str:
        """Say what was not recorded whole."""
        lines = [f"{e.method} {e.path}: {e.error}" for e in cut[:SHOWN_MAX]]
        return (
            f"{_counted(len(cut), 'exchange')} could not be recorded whole, so"
            f" {self.file} was not written:\n\n"
            f"{_listed(lines, len(cut) - SHOWN_MAX)}\n\n{_READ_OR_CLOSE}"
        )

    def idle(self, faults: Sequence[Spec], told: Sequence[str]) -> str:
        """Say which faults have changed nothing."""
        texts = ", ".join(map(str, faults))
        return (
            f"{_counted(len(faults), 'fault')} did nothing, so the test has not seen"
            f" what it is about: {texts}\n\n"
            f"{_listed(told[:SHOWN_MAX], len(told) - SHOWN_MAX)}\n\n"
            "Give each a place that the responses have."
        )

    def not_written(self, error: OSError, store: Path) -> str:
        """Say that a cassette could not be written, and what became of it."""
        return (
            f"{self.file}: {error.strerror}. Make its folder writable; what was"
            f" recorded is in {store}"
        )

    # What helps, and what may be wrong.

    def faulted(self, told: Sequence[str]) -> str:
        """Say what faults did, in a test that has failed."""
        return f"Faults:\n\n{_listed(told[:SHOWN_MAX], len(told) - SHOWN_MAX)}"

    def not_kept(self, store: Path) -> str:
        """Say where that is which a failing test has recorded."""
        step = (
            "\n\nThe test has step=True, which holds back replays: what is recorded"
            " comes when its upstream sends it. Where that makes a difference, ask"
            " `sse_recording.is_recording`."
        ) * self._options.step
        return (
            f"The test did not pass, so what it recorded is not in {self.file}. Look"
            " at it there:\n\n"
            f"    sse-recorder ls --store {shlex.quote(str(store))}{step}"
        )

    def recorded_error(self, exchange: Exchange) -> str:
        """Say that an upstream was down when it was recorded."""
        return (
            f"{error_line(exchange)}. That is in {self.file} now, and is replayed from"
            f" now on. If it was not to be: {self.command(Mode.REWRITE)}"
        )

    def leads_away(self, exchange: Exchange) -> str:
        """Say that a client may have followed a redirect past us."""
        to = header(exchange.response_headers, "location")
        return (
            f"{exchange.method} {exchange.path} of {self.file} is redirected to {to}."
            " A client that follows it speaks with the real server, also where nothing"
            " is to be recorded: give it the fixture `sse_transport`, which brings all"
            " requests here"
        )


def error_line(exchange: Exchange) -> str:
    """Say what went wrong in an exchange."""
    return f"{exchange.method} {exchange.url}: {exchange.error}"


def _miss_lines(miss: Miss[Recording], ignored: list[str]) -> Iterator[str]:
    yield f"{miss.method} {miss.path}"
    if miss.nearest is None:
        return
    yield f"    nearest     {_line(miss.nearest.exchange)}"
    yield f"    differs in  {miss.field}"
    yield f"    recorded    {miss.expected}"
    yield f"    received    {miss.actual}"
    if miss.field == REPEATS:
        yield "    to allow    @pytest.mark.sse_recording(allow_repeats=True)"
    if miss.rule:
        # The closest mark counts alone, so it has to name what is ignored already.
        rules = json.dumps([*ignored, miss.rule], ensure_ascii=False)
        yield f"    to ignore   @pytest.mark.sse_recording(ignore={rules})"


def _line(exchange: Exchange) -> str:
    began = datetime.fromtimestamp(exchange.started_at // _NS_PER_S, UTC)
    when = f"{began:%Y-%m-%d %H:%M}"
    short = exchange.exchange_id[-_ID_SHOWN:]
    return f"{exchange.method} {exchange.path} ({short}, recorded {when})"


def _listed(lines: Iterable[str], more: int) -> str:
    rest = [f"… and {more} more"] if more > 0 else []
    return "\n".join(f"    {line}" for line in [*lines, *rest])


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
