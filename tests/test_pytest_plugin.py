"""The pytest plugin as its users meet it: small projects, their runs, and what is said.

Runs are made in this process where nothing forbids it, so each takes a tenth of a
second.
"""

from __future__ import annotations

import json
import stat
import textwrap
from collections.abc import Iterator

import anyio.pytest_plugin
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
from little_api import LittleApi, little_api

from sse_recorder import Store, testing

# Loaded here, once, and not anew in each of the projects' runs.
assert all((anyio.pytest_plugin, httpcore, httpcore2, httpx, httpx2, testing))

HELLO = """
    def test_hello(sse_client):
        answer = sse_client.post("/chat", json={"message": "hello"})
        assert answer.text == "data: hello, answer 1\\n\\ndata: [DONE]\\n\\n"
"""
# hypothesis would be loaded anew by each run, which takes it seconds.
QUICKLY = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-Wdefault")
FILE = "recordings/test_chat/test_hello.sse.jsonl"
MADE = "recordings/test_chat"


class Project:
    """A project with one file of tests, and the API that they speak with."""

    def __init__(self, pytester: pytest.Pytester, api: LittleApi) -> None:
        self.pytester = pytester
        self.api = api
        self.path = pytester.path

    def write(self, text: str, *, upstream: bool = True) -> None:
        """Write a file of tests; by default all of them have the API as upstream."""
        mark = f'pytestmark = pytest.mark.sse_recording(upstream="{self.api.url}")'
        head = f"import pytest\n{mark if upstream else ''}\n"
        self.pytester.makepyfile(test_chat=head + textwrap.dedent(text))

    def run(self, *args: str, **counts: int) -> pytest.RunResult:
        """Run the tests, and check how many passed, failed, …."""
        result = self.pytester.runpytest_inprocess(*QUICKLY, *args)
        result.assert_outcomes(**counts)
        return result

    def recorded(self, file: str = FILE) -> list[str]:
        """Return what a cassette's exchanges were asked, and which answers they are."""
        with Store.open(self.path / file) as store:
            return [
                f"{json.loads(e.request_body)['message']}"
                f" {store.body(e.exchange_id).decode().split()[3]}"
                for e in store.exchanges()
            ]


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """Return an empty project, on a developer's machine."""
    monkeypatch.delenv("CI", raising=False)
    with little_api() as api:
        yield Project(pytester, api)


def saying(*messages: str, name: str = "hello", path: str = "/chat") -> str:
    """Return a test that says some messages, and passes whatever the answer is."""
    lines = "".join(
        f'    sse_client.post("{path}", json={{"message": "{message}"}})\n'
        for message in messages
    )
    return f"def test_{name}(sse_client):\n{lines or '    pass'}\n"


def said(result: pytest.RunResult, text: str) -> None:
    """Check that a run has said something, wherever its lines are broken.

    In a text, `*` and `?` are any characters.
    """
    everything = pytest.LineMatcher([" ".join(result.stdout.str().split())])
    everything.fnmatch_lines([f"*{' '.join(text.split())}*"])


# --- modes ----------------------------------------------------------------------------


def test_the_first_run_records_and_the_next_ones_replay(project: Project) -> None:
    """Once there is a cassette beside the test, the API is asked no more."""
    project.write(HELLO)
    project.run(passed=1)
    assert project.recorded() == ["hello 1"]
    for _ in range(2):
        project.run(passed=1)
    assert project.api.asked == ["/chat"]


def test_a_cassette_can_be_read_by_its_owner_alone(project: Project) -> None:
    """It is like everything recorded, and nothing else is left beside it."""
    project.write(HELLO)
    project.run(passed=1)
    (path,) = (project.path / MADE).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_none_records_nothing(project: Project) -> None:
    """Who forbids recording hears what is missing, and what to type."""
    project.write(HELLO)
    result = project.run("--sse-record=none", errors=1)
    said(
        result,
        f"""
        {FILE}: there is no such recording. Record it:

            pytest --sse-record=once test_chat.py::test_hello
        """,
    )
    assert project.api.asked == []


def test_nothing_is_recorded_in_continuous_integration(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forgotten cassette fails there; an option stands above the variable."""
    monkeypatch.setenv("CI", "true")
    project.write(HELLO)
    result = project.run(errors=1)
    said(
        result,
        f"""
        {FILE}: there is no such recording, and where the variable CI is set none is
        made. Record it on your machine, and commit the file:

            pytest --sse-record=once test_chat.py::test_hello
        """,
    )
    project.run("--sse-record=once", passed=1)
    project.run(passed=1)


def test_rewrite_begins_anew(project: Project) -> None:
    """What was recorded before is gone."""
    project.write(saying("one", "two"))
    project.run(passed=1)
    project.write(saying("two", "three"))
    project.run("--sse-record=rewrite", passed=1)
    assert project.recorded() == ["two 3", "three 4"]
    project.run(passed=1)


def test_all_records_everything_and_keeps_the_rest(project: Project) -> None:
    """A request has its new answer, those that are not asked have their old ones."""
    project.write(saying("one", "two"))
    project.run(passed=1)
    project.write(saying("two", "three"))
    project.run("--sse-record=all", passed=1)
    assert project.recorded() == ["one 1", "two 3", "three 4"]


def test_new_episodes_replays_what_there_is_and_adds_the_rest(
    project: Project,
) -> None:
    """Only what is missed goes to the upstream."""
    project.write(saying("one", "two"))
    project.run("--sse-record=new_episodes", passed=1)
    project.write(saying("one", "three", "two", "four"))
    project.run("--sse-record=new_episodes", passed=1)
    assert project.recorded() == ["one 1", "two 2", "three 3", "four 4"]
    project.run("--sse-record=new_episodes", passed=1)
    project.run(passed=1)
    assert len(project.api.asked) == 4


def test_a_miss_is_streamed_and_closed_like_any_other_request(
    project: Project,
) -> None:
    """Behind a replay a stream comes as it comes, and can be left at any time."""
    project.write(saying("one"))
    project.run(passed=1)
    project.write(
        """
        def test_hello(sse_client, sse_recording):
            sse_client.post("/chat", json={"message": "one"})
            with sse_client.stream(
                "POST", "/endless", json={"message": "x" * 200_000}
            ) as response:
                assert next(response.iter_text()).startswith("data: xxx")
            outcomes = [str(e.outcome) for e in sse_recording.exchanges()]
            assert outcomes == ["complete", "client_abort"]
        """
    )
    project.run("--sse-record=new_episodes", passed=1)
    project.run("--sse-record=none", passed=1)


def test_what_a_failing_test_records_is_not_kept(project: Project) -> None:
    """Half a recording would be replayed from then on; it can be looked at."""
    project.write(HELLO.replace("answer 1", "answer 2"))
    result = project.run(failed=1)
    said(
        result,
        f"""
        *Captured sse-recorder teardown*
        The test did not pass, so what it recorded is not in {FILE}. Look at it
        there:

            sse-recorder ls --store *sse-recording0
        """,
    )
    assert not (project.path / MADE).exists()
    project.run(passed=1)
    assert project.recorded() == ["hello 2"]


def test_a_failing_test_does_not_spoil_a_cassette(project: Project) -> None:
    """It is what it was before, whatever the mode."""
    project.write(HELLO)
    project.run(passed=1)
    before = (project.path / FILE).read_bytes()
    for mode in ("new_episodes", "all", "rewrite"):
        project.write(saying("hello", "more") + "    raise ValueError\n")
        project.run(f"--sse-record={mode}", failed=1)
    assert (project.path / FILE).read_bytes() == before


def test_an_upstream_that_cannot_be_reached_is_named(project: Project) -> None:
    """The client has its 502, and the test's report says why."""
    project.write(saying("hello") + "    raise ValueError\n")
    result = project.run("--sse-upstream=http://127.0.0.1:1", failed=1)
    said(
        result,
        """
        POST http://127.0.0.1:1/chat: *refused*
        """,
    )


def test_an_upstream_on_the_command_line_stands_above_the_marks(
    project: Project,
) -> None:
    """The same tests can be recorded from another server."""
    project.write(HELLO)
    with little_api() as other:
        project.run(f"--sse-upstream={other.url}/v1", passed=1)
        assert other.asked == ["/v1/chat"]
    project.run(passed=1)


def test_a_recording_without_an_upstream_says_how_to_give_one(
    project: Project,
) -> None:
    """The first thing that anybody forgets."""
    project.write(HELLO, upstream=False)
    result = project.run(errors=1)
    said(
        result,
        f"""
        {FILE}: there is no upstream to record this from. Say where the requests are
        to go:

            @pytest.mark.sse_recording(upstream="https://api.example.com")
        """,
    )


# --- what is wrong when a test ends ---------------------------------------------------


def test_a_miss_says_what_differs_and_what_to_type(project: Project) -> None:
    """It fails a test that has swallowed its 404, and explains one that has not."""
    project.write(HELLO)
    project.run(passed=1)
    explanation = [
        f"1 request had no recording in {FILE}:",
        "",
        "    POST /chat",
        "        nearest     POST /chat (????????, recorded 20??-??-?? ??:??)",
        "        differs in  body.message",
        "        recorded    hello",
        "        received    goodbye",
        "",
        "If the request is as it should be, record the test again:",
        "",
        "    pytest --sse-record=rewrite test_chat.py::test_hello",
        "",
        "or add what is new to what is there:",
        "",
        "    pytest --sse-record=new_episodes test_chat.py::test_hello",
    ]
    project.write(saying("goodbye"))
    result = project.run(passed=1, errors=1)
    result.stdout.fnmatch_lines(explanation, consecutive=True)
    project.write(HELLO.replace('"hello"', '"goodbye"'))
    result = project.run(failed=1)
    result.stdout.fnmatch_lines(
        ["*Captured sse-recorder teardown*", *explanation], consecutive=True
    )


def asking(number: int, mark: str = "", **headers: str) -> str:
    """Return a test whose request has an id of its own, and a time."""
    uuid = f"0193a0c4-7d3e-7abc-9def-{number:012}"
    body = {"message": "hello", "run": {"id": uuid}, "at": 1_795_428_930 + number}
    return (
        f"{mark}\ndef test_hello(sse_client):\n"
        f"    sse_client.post('/chat', json={body}, headers={headers})\n"
    )


def test_what_is_another_in_every_run_is_ignored_by_a_mark(project: Project) -> None:
    """Each miss says what to write, with what is written there already."""
    project.write(asking(1))
    project.run(passed=1)
    rules: list[str] = []
    for rule, differs in (("body.at", "body.at"), ("run.id", "body.run.id")):
        mark = f"@pytest.mark.sse_recording(ignore={json.dumps(rules)})"
        project.write(asking(2, mark))
        result = project.run(passed=1, errors=1)
        rules.append(rule)
        result.stdout.fnmatch_lines(
            [
                f"        differs in  {differs}",
                "        recorded    *",
                "        received    *",
                "        to ignore   @pytest.mark.sse_recording("
                f"ignore={json.dumps(rules)})".replace("[", "[[]"),
                "",
            ],
            consecutive=True,
        )
    mark = f"@pytest.mark.sse_recording(ignore={json.dumps(rules)})"
    project.write(asking(3, mark))
    project.run(passed=1)
    assert project.api.asked == ["/chat"]


def test_a_project_says_once_what_takes_part(project: Project) -> None:
    """In its ini file; a mark stands above it."""
    project.pytester.makeini(
        """
        [pytest]
        sse_recording_ignore =
            run.id
            at
        sse_recording_match_headers = X-Tenant
        """
    )
    project.write(asking(1))
    project.run(passed=1)
    project.write(asking(2))
    project.run(passed=1)
    project.write(asking(2, **{"x-tenant": "b"}))
    said(project.run(passed=1, errors=1), "differs in headers.x-tenant")
    mark = "@pytest.mark.sse_recording(ignore='at', match_headers=())"
    project.write(asking(2, mark, **{"x-tenant": "b"}))
    said(project.run(passed=1, errors=1), "differs in body.run.id")
    assert project.api.asked == ["/chat"]


def test_many_misses_are_not_all_listed(project: Project) -> None:
    """The first few tell what is wrong."""
    project.write(saying("hello"))
    project.run(passed=1)
    project.write(saying(*"1234567"))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        7 requests had no recording in {FILE}:
        *… and 2 more
        """,
    )
    result.stdout.no_fnmatch_line("*received*6*")


def test_an_unused_recording_says_so(project: Project) -> None:
    """What nobody asks for any more is found, and can be allowed."""
    project.write(saying("one", "two"))
    project.run(passed=1)
    project.write(saying("one"))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        The test did not ask for 1 of 2 recordings in {FILE}:

            POST /chat (????????, recorded 20??-??-?? ??:??)

        If it needs them no more, record the test again:

            pytest --sse-record=rewrite test_chat.py::test_hello

        If that is on purpose, say so: @pytest.mark.sse_recording(allow_unused=True)
        """,
    )
    allowed = "@pytest.mark.sse_recording(allow_unused=True)\n"
    project.write(allowed + saying("one"))
    project.run(passed=1)
    project.write(allowed + saying())
    project.run(passed=1)


@pytest.mark.parametrize(("state", "done"), [("first", "recorded"), ("", "replayed")])
def test_a_test_that_asks_nothing_is_told_the_url(
    project: Project, state: str, done: str
) -> None:
    """A client without the base URL is speaking with somebody else."""
    project.write(HELLO)
    if not state:
        project.run(passed=1)
    project.write(saying())
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        No request came to http://127.0.0.1:*, so nothing of {FILE} was {done}. Give
        that URL to your client as its base URL: it is `sse_base_url`, and
        `sse_recording.url`.

        If that is on purpose, say so: @pytest.mark.sse_recording(allow_unused=True)
        """,
    )


def test_who_may_have_taken_the_request_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other plugins, and proxies, that answer in place of the network."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    project.pytester.makeconftest(
        """
        import pytest

        def pytest_configure(config):
            config.addinivalue_line("markers", "vcr: as in pytest-recording")
            config.addinivalue_line("markers", "block_network: the same")

        @pytest.fixture
        def respx_mock():
            "Stands for that of respx."

        @pytest.fixture
        def httpx_mock():
            "Stands for that of pytest-httpx."
        """
    )
    project.write(
        """
        @pytest.mark.vcr
        @pytest.mark.block_network
        def test_hello(respx_mock, httpx_mock, sse_base_url):
            pass
        """
    )
    result = project.run(passed=1, errors=1)
    said(
        result,
        """
        No request came to *
        - respx answers httpx's requests itself; let these through:
        respx_mock.route(host="127.0.0.1").pass_through()
        - pytest-httpx answers httpx's requests itself; let these through:
        @pytest.mark.httpx_mock(should_mock=lambda request: request.url.host !=
        "127.0.0.1")
        - VCR answers requests itself; let these through: ignore_localhost=True in
        the fixture vcr_config
        - pytest-recording blocks the network; let this through:
        @pytest.mark.block_network(allowed_hosts=[[]"127.0.0.1"[]])
        - the environment sends requests to a proxy, http://proxy:3128; let these
        through: NO_PROXY=127.0.0.1
        """,
    )


OPEN = """
    import httpx

    responses = []

    @pytest.fixture
    def client():
        with httpx.Client(trust_env=False) as client:
            yield client
        responses.clear()

    @pytest.mark.sse_recording(step=True)
    def test_hello(client, sse_recording):
        request = client.build_request(
            "POST", sse_recording.url + "PATH", json={"message": "hello"}
        )
        responses.append(client.send(request, stream=True))
        MORE
"""


def test_a_response_that_is_left_open_is_found(project: Project) -> None:
    """It is half a recording, and so it is not kept."""
    project.write(OPEN.replace("PATH", "/endless").replace("MORE", "pass"))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        1 exchange could not be recorded whole, so {FILE} was not written:

            POST /endless: the recorder was stopped

        Read responses to their end, or close them: `with client.stream(…) as
        response:`, or `response.close()`.
        """,
    )
    assert not (project.path / FILE).exists()


def test_events_that_are_never_released_are_found(project: Project) -> None:
    """A replay in steps waits for the test, and says so when it is over."""
    done = 'assert "DONE" in responses[0].read().decode()'
    project.write(OPEN.replace("PATH", "/chat").replace("MORE", done))
    project.run(passed=1)
    waiting = "sse_recording.release(1)"
    project.write(OPEN.replace("PATH", "/chat").replace("MORE", waiting))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        1 response of {FILE} was still open when the test ended:

            POST /chat

        Read responses to their end, or close them: `with client.stream(…) as
        response:`, or `response.close()`.

        The test has step=True, so events wait for it: `sse_recording.release(1000)`
        lets the rest go.
        """,
    )


def aged(project: Project, *, year: str = "2001") -> None:
    """Make a project's cassette an old one."""
    path = project.path / FILE
    text = path.read_text(encoding="utf-8")
    stamp = '"started_at": "'
    before, _, after = text.partition(stamp)
    path.write_text(f"{before}{stamp}{year}{after[4:]}", encoding="utf-8")


def test_a_stale_cassette_is_warned_of(project: Project) -> None:
    """If asked to; whoever wants to have it fail makes an error of the warning."""
    project.write(saying("hello"))
    project.run(passed=1)
    aged(project)
    project.run(passed=1, warnings=0)
    project.pytester.makeini("[pytest]\nsse_recording_max_age_days = 30")
    result = project.run(passed=1, warnings=1)
    said(
        result,
        f"""
        *StaleRecordingWarning: {FILE} was recorded * days ago, and 30 are allowed
        (sse_recording_max_age_days). See whether the API still answers like that:
        pytest --sse-record=rewrite test_chat.py::test_hello
        """,
    )
    name = "sse_recorder.pytest_plugin.StaleRecordingWarning"
    project.run("-W", f"error::{name}", errors=1)
    project.run("--sse-record=rewrite", passed=1, warnings=0)
    project.run(passed=1, warnings=0)


def test_a_damaged_cassette_says_what_to_do(project: Project) -> None:
    """The line is named, and no traceback hides it."""
    project.write(saying("hello"))
    project.run(passed=1)
    path = project.path / FILE
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    for mode in ("none", "new_episodes"):
        result = project.run(f"--sse-record={mode}", errors=1)
        said(
            result,
            """
            *line [0-9]: not a line of a cassette*record it again
            """,
        )
        result.stdout.no_fnmatch_line("*Traceback*")
    project.run("--sse-record=rewrite", passed=1)


def test_a_cassette_that_cannot_be_written_says_so(project: Project) -> None:
    """What was recorded is not lost."""
    project.write(HELLO)
    (project.path / "recordings").write_text("not a folder", encoding="utf-8")
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        {FILE}: Not a directory. Make its folder writable; what was recorded is in
        *sse-recording0
        """,
    )


# --- marks ----------------------------------------------------------------------------


def test_each_test_has_a_cassette_of_its_own(project: Project) -> None:
    """Classes and parameters are part of its name, whatever is in them."""
    project.write(
        """
        class TestChat:
            @pytest.mark.parametrize("path", ["/chat", "/a/chat", "/a:chat"])
            def test_path(self, sse_client, path):
                sse_client.post(path, json={"message": "hello"})
        """
    )
    project.run(passed=3)
    names = sorted(path.name for path in (project.path / MADE).iterdir())
    assert len(names) == 3
    assert all(name.startswith("TestChat.test_path[-") for name in names)
    project.run("--sse-record=none", passed=3)


def test_a_mark_can_name_the_cassette(project: Project) -> None:
    """With or without its ending, also in a folder; the closest mark's options win."""
    project.write(
        """
        @pytest.mark.sse_recording("chats/one.sse.jsonl", upstream="URL")
        @pytest.mark.sse_recording(upstream="http://127.0.0.1:1")
        def test_hello(sse_client, sse_recording):
            assert sse_recording.upstream == "URL"
            assert sse_recording.path.name == "one.sse.jsonl"
            sse_client.post("/chat", json={"message": "hello"})
        """.replace("URL", project.api.url)
    )
    project.run(passed=1)
    assert project.recorded(f"{MADE}/chats/one.sse.jsonl") == ["hello 1"]
    project.run("--sse-record=none", passed=1)


def test_tests_can_share_a_cassette(project: Project) -> None:
    """They record it together, and each is answered from the first recording on."""
    shared = '@pytest.mark.sse_recording("shared", allow_unused=True)\n'
    project.write(
        shared
        + saying("one", "two", name="first")
        + shared
        + saying("two", "three", name="second")
    )
    file = f"{MADE}/shared.sse.jsonl"
    for mode in ("once", "rewrite"):
        project.run(f"--sse-record={mode}", passed=2)
        asked = [line.split()[0] for line in project.recorded(file)]
        assert asked == ["one", "two", "three"]
    project.run("--sse-record=none", passed=2)


def test_a_test_can_have_several_recordings(project: Project) -> None:
    """Each mark with a name of its own is a cassette, with an upstream and a URL."""
    with little_api() as other:
        project.write(
            f"""
            @pytest.mark.sse_recording("models", upstream="{other.url}")
            @pytest.mark.sse_recording("tools")
            def test_hello(sse_recordings):
                import httpx

                assert list(sse_recordings) == ["models", "tools"]
                for recording in sse_recordings.values():
                    httpx.post(
                        recording.url + "/chat", json={{"message": "hello"}},
                        trust_env=False,
                    )
                    assert len(recording.exchanges()) == 1
            """
        )
        project.run(passed=1)
        assert project.api.asked == other.asked == ["/chat"]
    project.run("--sse-record=none", passed=1)
    two = '@pytest.mark.sse_recording("models")\n@pytest.mark.sse_recording("tools")\n'
    project.write(two + saying("hello"))
    result = project.run(errors=1)
    said(
        result,
        """
        this test has more than one recording: ask for the fixture sse_recordings,
        and take sse_recordings[[]'models'] and sse_recordings[[]'tools']
        """,
    )


UNKNOWN = (
    "@pytest.mark.sse_recording does not know 'b', 'upstrem'; it takes a name, and"
    " upstream, speed, step, faults, ignore, match_headers, allow_unused"
)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("'a', 'b', upstrem='x'", UNKNOWN),
        ("speed=0", "*'0' is not a speed: give a number above 0, or max"),
        ("upstream='ftp://x'", "*ftp://x*"),
        ("faults='wobble'", "*wobble*"),
        ("ignore=['a..b']", "*'a..b' is neither a name nor a path; write one*"),
    ],
)
def test_a_wrong_mark_says_what_would_be_right(
    project: Project, mark: str, message: str
) -> None:
    """Without a traceback through the plugin."""
    project.write(HELLO)
    project.run(passed=1)
    mode = "rewrite" if "ftp" in mark else "once"
    project.write(f"@pytest.mark.sse_recording({mark})" + textwrap.dedent(HELLO))
    result = project.run(f"--sse-record={mode}", errors=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_a_mark_alone_does_nothing_and_says_so(project: Project) -> None:
    """Who knows VCR expects it to; a mark of the module is no such mistake."""
    project.write(
        """
        @pytest.mark.sse_recording("hello")
        def test_hello():
            pass

        def test_other():
            pass
        """
    )
    result = project.run(passed=2, warnings=1)
    said(
        result,
        """
        *@pytest.mark.sse_recording does nothing by itself, so
        test_chat.py::test_hello spoke with the real API: give the test the argument
        `sse_base_url`, and that to your client as its base URL
        """,
    )


def test_recordings_can_lie_elsewhere(project: Project) -> None:
    """In one folder for all, as the ini file says, or where a fixture says."""
    folder = project.pytester.mkpydir("unit")
    project.write(HELLO)
    (project.path / "test_chat.py").rename(folder / "test_chat.py")
    project.pytester.makeini("[pytest]\nsse_recordings_dir = fixtures/sse")
    project.run(passed=1)
    assert project.recorded("fixtures/sse/unit/test_chat/test_hello.sse.jsonl")
    project.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def sse_recordings_dir():
            return "elsewhere"
        """
    )
    project.api.asked.clear()
    project.run(passed=1)
    assert project.recorded("elsewhere/test_hello.sse.jsonl") == ["hello 1"]


def test_secrets_of_a_project_are_masked_by_its_own_rules(project: Project) -> None:
    """The rules that everything has, and what a fixture adds."""
    project.pytester.makeconftest(
        """
        import pytest
        from sse_recorder.redact import Redactor

        @pytest.fixture(scope="session")
        def sse_redactor():
            return Redactor(mask=["message"])
        """
    )
    project.write(saying("swordfish"))
    project.run(passed=1)
    text = (project.path / FILE).read_text(encoding="utf-8")
    assert "swordfish" not in text.partition("at_ms")[0]
    project.run("--sse-record=none", passed=1)


# --- pace -----------------------------------------------------------------------------


def test_replays_do_not_wait_unless_they_are_asked_to(project: Project) -> None:
    """By the command line, or by a mark, which stands above it."""
    timed = """
        import time

        MARK
        def test_hello(sse_client, sse_recording):
            began = time.monotonic()
            sse_client.post("/slow", json={"message": "hello"})
            took = time.monotonic() - began
            sse_recording.assert_punctual(max_ms=MAX)
            print("took", took)
            assert sse_recording.is_recording or LEAST <= took < MOST
    """

    def write(mark: str, least: float, most: float, max_ms: float = 10_000) -> None:
        text = timed.replace("MARK", mark).replace("MAX", str(max_ms))
        project.write(text.replace("LEAST", str(least)).replace("MOST", str(most)))

    write("", 0, 0.2)
    project.run(passed=1)
    project.run(passed=1)
    write("", 0.2, 9)
    project.run("--sse-speed=1", passed=1)
    write("@pytest.mark.sse_recording(speed=1)", 0.2, 9)
    project.run("--sse-speed=max", passed=1)
    write("@pytest.mark.sse_recording(speed=0.5)", 0.4, 9, max_ms=-1)
    result = project.run(failed=1)
    said(
        result,
        """
        *AssertionError: the replay was not punctual: n=*
        """,
    )


def test_events_can_be_released_one_by_one(project: Project) -> None:
    """A test stands between any two events, as long as it likes."""
    project.write(
        """
        @pytest.mark.sse_recording(step=True)
        def test_hello(sse_client, sse_recording):
            with sse_client.stream(
                "POST", "/chat", json={"message": "hello"}
            ) as response:
                lines = response.iter_lines()
                sse_recording.release()
                assert "hello" in next(lines)
                if not sse_recording.is_recording:
                    assert len(sse_recording.exchanges()) == 1
                sse_recording.release()
                assert "data: [DONE]" in list(lines)
        """
    )
    project.run(passed=1)
    project.run(passed=1)


def test_a_replay_can_be_disturbed(project: Project) -> None:
    """The mark takes the faults that the command takes."""
    project.write(HELLO)
    project.run(passed=1)
    project.write(
        """
        import httpx

        @pytest.mark.sse_recording(faults="reset@event:1")
        def test_hello(sse_client):
            with pytest.raises(httpx.ReadError):
                sse_client.post("/chat", json={"message": "hello"})
        """
    )
    project.run(passed=1)


# --- whoever else is there ------------------------------------------------------------


def test_async_tests_have_their_loop_to_themselves(project: Project) -> None:
    """The server has a thread and a loop of its own."""
    project.write(
        """
        import httpx

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_hello(sse_base_url, anyio_backend):
            async with httpx.AsyncClient(
                base_url=sse_base_url, trust_env=False
            ) as client:
                async with client.stream(
                    "POST", "/chat", json={"message": "hello"}
                ) as response:
                    assert "[DONE]" in (await response.aread()).decode()
        """
    )
    project.run(passed=1)
    project.run("--sse-record=none", passed=1)


def test_a_client_with_a_fixed_url_takes_the_transport(project: Project) -> None:
    """Of httpx or httpx2, with and without a loop; what it sees is its own request."""
    project.write(
        """
        import httpx
        import httpx2
        import pytest

        URL = "https://api.example.com/chat?a=b"
        SENT = {"json": {"message": "hello"}}

        @pytest.mark.parametrize("library", [httpx, httpx2])
        def test_plain(sse_transport, library):
            with library.Client(transport=sse_transport) as client:
                response = client.post(URL, **SENT)
            assert "[DONE]" in response.text
            assert str(response.url) == URL

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        @pytest.mark.parametrize("library", [httpx, httpx2])
        async def test_async(sse_transport, library, anyio_backend):
            async with library.AsyncClient(transport=sse_transport) as client:
                assert "[DONE]" in (await client.post(URL, **SENT)).text
        """
    )
    project.run(passed=4)
    assert project.api.asked == ["/chat?a=b"] * 4
    project.run("--sse-record=none", passed=4)


def test_nothing_is_loaded_for_tests_that_do_not_ask(project: Project) -> None:
    """A project that has the plugin and does not use it pays nothing for it."""
    project.pytester.makepyfile(
        """
        import sys

        def test_other():
            loaded = {name for name in sys.modules if name.startswith("sse_recorder.")}
            assert loaded == {"sse_recorder.pytest_plugin"}
            assert not {"duckdb", "httpx", "pyarrow"} & set(sys.modules)
        """
    )
    project.pytester.runpytest_subprocess().assert_outcomes(passed=1)


SDKS = """
    import subprocess
    import pytest

    pytestmark = pytest.mark.sse_recording(upstream="URL")
    MESSAGE = {"role": "user", "content": "hello"}

    def test_openai(sse_base_url):
        import openai

        with openai.OpenAI(base_url=sse_base_url + "/v1", api_key="any") as client:
            stream = client.chat.completions.create(
                model="m", messages=[MESSAGE], stream=True
            )
            deltas = [chunk.choices[0].delta.content for chunk in stream]
        assert deltas == ["Hel", "l\\u00f6"]

    def test_anthropic(sse_base_url):
        import anthropic

        with (
            anthropic.Anthropic(base_url=sse_base_url, api_key="any") as client,
            client.messages.stream(
                model="m", max_tokens=9, messages=[MESSAGE]
            ) as stream,
        ):
            assert list(stream.text_stream) == ["Hell\\u00f6"]

    def test_meibel(sse_base_url):
        from meibel import MeibelClient

        with MeibelClient(base_url=sse_base_url + "/v2", api_key="any") as client:
            events = client.agents.sessions.send_chat_message_stream(
                "lisbon", user_message="hello"
            )
            assert [event.event for event in events][0] == "message"

    def test_curl(sse_base_url):
        curl = ["curl", "-sN", "--json", '{"message": "hello"}', sse_base_url + "/chat"]
        done = subprocess.run(curl, capture_output=True, text=True, check=True)
        assert "[DONE]" in done.stdout
"""


def test_any_client_is_recorded_once_and_replayed_without_the_api(
    project: Project,
) -> None:
    """SDKs on httpx and on httpx2, another process; in one process and in two."""
    url = project.api.url
    project.pytester.makepyfile(test_chat=SDKS.replace("URL", url))
    quietly = (*QUICKLY, "-p", "no:anyio")
    result = project.pytester.runpytest_subprocess(*quietly, "-n2")
    result.assert_outcomes(passed=4)
    assert len(project.api.asked) == 4
    project.api.shutdown()
    project.api.server_close()
    result = project.pytester.runpytest_subprocess(*quietly, "-n2")
    result.assert_outcomes(passed=4)
