"""The pytest plugin: recordings as fixtures.

    @pytest.mark.sse_recording(upstream="https://api.example.com")
    def test_chat(sse_base_url):
        client = OpenAI(base_url=f"{sse_base_url}/v1")
        ...

The first run records through a real server on loopback, and writes a cassette beside
the test, `recordings/<module>/<test>.sse.jsonl`; all later ones are answered from it.
`--sse-record` has the modes that VCR users know.  What the test's client and the
cassette do not agree on fails the test when it ends; see `sse_recorder.testing`, which
does the work.

Marks
-----
`sse_recording(name, **options)`, with the fields of `testing.Options`.  A mark without
a name gives options to all recordings of its class or module; marks with different
names give a test several recordings, each with a URL of its own.  What is closest to
the test wins, and of equals what names the recording.

The end
-------
A recording stops as its fixture does, and is written or not when all of the test's
teardown is over: one whose fixture failed then has failed.

Nothing is imported, and nothing is done, for tests that ask for none of the fixtures:
the package is loaded by the first that does.  That also leaves it to be measured by
pytest-cov, which starts after this module is imported.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

if TYPE_CHECKING:
    import httpx

    from sse_recorder.redact import Redactor
    from sse_recorder.testing import Options, Sharing, SSERecording
    from sse_recorder.transport.server import ServerTransport

_MODES: Final = ("none", "once", "new_episodes", "all", "rewrite")
_MARK: Final = "sse_recording"
_NAME_MAX_BYTES: Final = 100
"""Of 255 that a file's name has, as a rule, in any alphabet."""
_TIMEOUT_S: Final = 60
_BEGAN: Final = "sse_recorder_began_ns"

_reports = pytest.StashKey[list[pytest.TestReport]]()
_recordings = pytest.StashKey["dict[str, SSERecording]"]()
_began_ns = pytest.StashKey[int]()


class SSERecordingWarning(pytest.PytestWarning):
    """Something may be wrong with a recording."""


class StaleRecordingWarning(SSERecordingWarning):
    """A cassette is older than `sse_recording_max_age_days`."""


class _Asked(NamedTuple):
    """A recording that a test asks for."""

    options: Options
    sharing: Sharing


# --- what pytest asks -----------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("sse-recorder", "recordings of event streams")
    group.addoption(
        "--sse-record",
        choices=_MODES,
        help="What is recorded: none; once, what has no recording yet (the default, but"
        " none where the variable CI is set); new_episodes, what a recording does not"
        " have; all, everything, and keep other recordings; rewrite, everything anew.",
    )
    group.addoption(
        "--sse-speed",
        metavar="N|max",
        help="How many times as fast as recorded replays are; the default, max, does"
        " not wait at all. A mark's own speed stands above it.",
    )
    group.addoption(
        "--sse-upstream",
        metavar="URL",
        help="Where requests go while recording, in place of what marks say.",
    )
    parser.addini(
        "sse_recordings_dir",
        "A folder for all recordings, as seen from the root folder; by default they are"
        " in the folder recordings beside each test.",
        default="",
    )
    parser.addini(
        "sse_recording_max_age_days",
        "Warn of recordings that are older; 0, the default, for never.",
        default="0",
    )
    parser.addini(
        "sse_recording_ignore",
        "Fields of requests that take no part in matching, by name or by path, such as"
        " request_id or messages[*].id. A mark's own ignore stands above it.",
        type="linelist",
    )
    parser.addini(
        "sse_recording_match_headers",
        "Headers that do. A mark's own match_headers stands above it.",
        type="linelist",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark, and check what the ini file says."""
    config.addinivalue_line(
        "markers",
        f"{_MARK}(name, *, upstream, speed, max_gap, ttfb, jitter, step, faults, seed,"
        " ignore, match_headers, allow_unused, allow_repeats): what the fixtures"
        " sse_recording, sse_base_url and sse_client replay, or record.",
    )
    _max_age_days(config)
    # A worker of xdist is told when the run began.
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    config.stash[_began_ns] = worker.get(_BEGAN) or _now_ns()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker when the run began, which all of them share."""
    node.workerinput[_BEGAN] = node.config.stash[_began_ns]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note how a test goes: subtests have reports, too, as many as there are."""
    report = yield
    if call.when == "setup":
        item.stash[_reports] = []  # it may be run again
    item.stash.setdefault(_reports, []).append(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Keep what was recorded, and say what is wrong, when all else has been told."""
    reports = item.stash.get(_reports, [])
    has_passed = any(report.when == "call" for report in reports) and all(
        report.passed for report in reports
    )
    try:
        yield
    except BaseException:
        has_passed = False
        raise
    finally:
        _finish(item, has_passed=has_passed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Tell who has marked a test to no effect."""
    yield
    is_marked = any(mark.name == _MARK for mark in item.own_markers)
    if is_marked and _recordings not in item.stash:
        item.warn(
            pytest.PytestWarning(
                f"@pytest.mark.{_MARK} does nothing by itself, so {item.nodeid} spoke"
                " with the real API: give the test the argument `sse_base_url`, and"
                " that to your client as its base URL"
            )
        )


# --- fixtures -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sse_recordings_dir(request: pytest.FixtureRequest) -> Path:
    """Return the folder of a module's cassettes; override it to have another."""
    config, module = request.config, request.path
    if folder := config.getini("sse_recordings_dir"):
        below = module.with_suffix("")
        if below.is_relative_to(config.rootpath):
            below = below.relative_to(config.rootpath)
        return Path(config.rootpath, folder, *below.parts[below.is_absolute() :])
    return module.parent / "recordings" / module.stem


@pytest.fixture(scope="session")
def sse_redactor() -> Redactor:
    """Return what masks secrets; override it to mask more, or to keep some names."""
    from sse_recorder.redact import Redactor

    return Redactor()


@pytest.fixture
def sse_recordings(
    request: pytest.FixtureRequest,
    sse_recordings_dir: str | Path,
    sse_redactor: Redactor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Mapping[str, SSERecording]]:
    """Return the test's recordings by their names, for a test with several."""
    from sse_recorder import config, errors, testing
    from sse_recorder.store.cassette import SUFFIX

    item: pytest.Item = request.node
    recordings: dict[str, SSERecording] = {}
    asked = request.config.getoption("sse_record")
    mode = testing.Mode(asked or ("none" if config.is_ci() else "once"))
    place = testing.Place(
        test=item.nodeid,
        root=request.config.rootpath,
        scratch=lambda: tmp_path_factory.mktemp("sse-recording"),
        hints=lambda: _hints(item),
        is_ci=not asked and config.is_ci(),
        began_ns=request.config.stash[_began_ns],
    )
    with ExitStack() as stack:
        try:
            for name, (options, sharing) in _asked_for(item).items():
                recording = testing.SSERecording(
                    Path(sse_recordings_dir, name + SUFFIX),
                    mode,
                    options,
                    place,
                    sharing=sharing,
                    redactor=sse_redactor,
                )
                recordings[name] = stack.enter_context(recording)
        except errors.SSERecorderError as error:
            raise pytest.fail.Exception(f"{error}", pytrace=False) from None
        _warn_of_stale(request.config, recordings)
        item.stash[_recordings] = recordings
        yield recordings
        for recording in recordings.values():
            recording.stop()


@pytest.fixture
def sse_recording(sse_recordings: Mapping[str, SSERecording]) -> SSERecording:
    """Return the test's recording: a server with a URL for any client."""
    if len(sse_recordings) > 1:
        names = " and ".join(f"sse_recordings[{name!r}]" for name in sse_recordings)
        pytest.fail(
            f"this test has more than one recording: ask for the fixture"
            f" sse_recordings, and take {names}",
            pytrace=False,
        )
    return next(iter(sse_recordings.values()))


@pytest.fixture
def sse_base_url(sse_recording: SSERecording) -> str:
    """Return the base URL that the test's client is to be given."""
    return sse_recording.url


@pytest.fixture
def sse_client(sse_base_url: str) -> Iterator[httpx.Client]:
    """Return an httpx client with that base URL."""
    import httpx

    # Proxies of the environment are not for what is on loopback, and to read the
    # certificate authorities, which it has no use for, takes 18 ms.
    with httpx.Client(
        base_url=sse_base_url,
        timeout=_TIMEOUT_S,
        trust_env=False,
        verify=False,  # noqa: S501 - it is http
    ) as client:
        yield client


@pytest.fixture
def sse_transport(sse_base_url: str) -> Iterator[ServerTransport]:
    """Return a transport for a client of httpx or httpx2 that has a fixed base URL."""
    from sse_recorder.transport.server import ServerTransport

    transport = ServerTransport(sse_base_url)
    yield transport
    transport.close_all()


# --- what they are made of ------------------------------------------------------------


def _now_ns() -> int:
    import time

    return time.time_ns()  # noqa: TID251 - nothing of ours is loaded yet


def _asked_for(item: pytest.Item) -> dict[str, _Asked]:
    """Return what a test asks for, by the names of its recordings."""
    from sse_recorder.testing import Options, Sharing

    config = item.config
    given = {
        "speed": config.getoption("sse_speed"),
        "ignore": config.getini("sse_recording_ignore"),
        "match_headers": config.getini("sse_recording_match_headers"),
    }
    shared = {key: value for key, value in given.items() if value is not None}
    named: dict[str, dict[str, Any]] = {}
    sharing: dict[str, Sharing] = {}
    for node, name, own in _marks(item):  # what is closest comes last
        for options in (
            (named.setdefault(name, shared.copy()),)
            if name
            else (
                shared,
                *named.values(),
            )
        ):
            options.update(own)
        if name:
            is_many = node is not item or hasattr(item, "callspec")
            sharing[name] = Sharing.YES if is_many else Sharing.PERHAPS
    last = {"upstream": url} if (url := config.getoption("sse_upstream")) else {}
    return {
        name: _Asked(Options(**options | last), sharing.get(name, Sharing.NO))
        for name, options in (named or {_default_name(item): shared}).items()
    }


def _marks(item: pytest.Item) -> Iterable[tuple[Any, str, dict[str, Any]]]:
    """Give our marks: where each stands, its name, its options; the closest last.

    Of those of one function, a class or a module, what names a recording comes last.
    """
    from sse_recorder.store.cassette import SUFFIX
    from sse_recorder.testing import Options

    known = Options.__dataclass_fields__
    found = []
    for node, mark in item.iter_markers_with_node(_MARK):
        unknown = [*mark.args[1:], *(key for key in mark.kwargs if key not in known)]
        if unknown:
            pytest.fail(
                f"@pytest.mark.{_MARK} does not know {', '.join(map(repr, unknown))};"
                f" it takes a name, and {', '.join(known)}",
                pytrace=False,
            )
        name = str(mark.args[0]).removesuffix(SUFFIX) if mark.args else ""
        found.append((node, name, dict(mark.kwargs)))
    found.reverse()
    depths = {node: depth for depth, node in enumerate(item.listchain())}
    return sorted(found, key=lambda mark: (depths[mark[0]], bool(mark[1])))


def _default_name(item: pytest.Item) -> str:
    """Return the name of a test's own cassette: a file's, and no other test's."""
    owner = getattr(item, "cls", None)
    name = f"{owner.__qualname__}.{item.name}" if owner else item.name
    plain = re.sub(r"[^\w.\[\]-]+", "-", name)
    # Bytes, because those are what file systems count.
    plain = plain.encode()[:_NAME_MAX_BYTES].decode(errors="ignore")
    if plain == name:
        return name
    # What was changed may be what told it from another.
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _warn_of_stale(
    config: pytest.Config, recordings: Mapping[str, SSERecording]
) -> None:
    max_age_days = _max_age_days(config)
    for recording in recordings.values():
        if text := recording.stale(max_age_days):
            warnings.warn(StaleRecordingWarning(text), stacklevel=1)


def _max_age_days(config: pytest.Config) -> float:
    text = config.getini("sse_recording_max_age_days")
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not days >= 0:
        raise pytest.UsageError(
            f"sse_recording_max_age_days = {text!r} is no number of days: write 30,"
            " say, or 0 for never"
        )
    return days


def _finish(item: pytest.Item, *, has_passed: bool) -> None:
    """End a test's recordings, and say what is wrong.

    A test that has failed already is not failed again: what may be the reason stands
    below its own report.
    """
    if _recordings not in item.stash:
        return
    recordings = item.stash[_recordings].values()
    del item.stash[_recordings]  # it may be run again
    reports = [recording.finish(has_passed=has_passed) for recording in recordings]
    texts = [text for report in reports for text in report.problems + report.notes]
    for text in (text for report in reports for text in report.warnings):
        warnings.warn(SSERecordingWarning(text), stacklevel=1)
    if not texts:
        return
    text = "\n\n".join(texts)
    if has_passed:
        pytest.fail(text, pytrace=False)
    item.add_report_section("teardown", "sse-recorder", text + "\n")


def _hints(item: pytest.Item) -> list[str]:
    """Say what may keep a test's requests from a server on loopback."""
    from urllib.request import getproxies, proxy_bypass

    fixtures = getattr(item, "fixturenames", ())
    names = vars(getattr(item, "module", object))
    hints = []
    if "respx_mock" in fixtures or "respx" in names:
        hints.append(
            "respx answers httpx's requests itself; let these through:"
            ' respx_mock.route(host="127.0.0.1").pass_through()'
        )
    if "httpx_mock" in fixtures:
        hints.append(
            "pytest-httpx answers httpx's requests itself; let these through:"
            " @pytest.mark.httpx_mock(should_mock=lambda request: request.url.host !="
            ' "127.0.0.1")'
        )
    if item.get_closest_marker("vcr"):
        hints.append(
            "VCR answers requests itself; let these through: ignore_localhost=True in"
            " the fixture vcr_config"
        )
    is_blocked = item.config.getoption("--block-network", default=False)
    if is_blocked or item.get_closest_marker("block_network"):
        hints.append(
            "pytest-recording blocks the network; let this through:"
            ' @pytest.mark.block_network(allowed_hosts=["127.0.0.1"])'
        )
    is_disabled = item.config.getoption("--disable-socket", default=False)
    if is_disabled or item.get_closest_marker("disable_socket"):
        hints.append(
            "pytest-socket blocks the network; let this through:"
            " @pytest.mark.allow_hosts(['127.0.0.1'])"
        )
    proxies = getproxies()
    if "http" in proxies and not proxy_bypass("127.0.0.1"):
        hints.append(
            f"the environment sends requests to a proxy, {proxies['http']}; let these"
            " through: NO_PROXY=127.0.0.1"
        )
    return hints
