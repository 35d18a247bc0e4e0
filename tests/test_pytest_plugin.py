"""The pytest plugin as its users meet it: small projects, their runs, and what is said.

Runs are made in this process where nothing forbids it, so each takes a tenth of a
second.
"""

from __future__ import annotations

import json
import shutil
import stat
import textwrap
from collections.abc import Iterator

import anyio.pytest_plugin
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import sdk_project
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


def test_what_is_recorded_of_a_dead_upstream_is_warned_of(project: Project) -> None:
    """A test that takes an error for an answer would be replayed one for ever."""
    project.write(saying("hello"))
    result = project.run("--sse-upstream=http://127.0.0.1:1", passed=1, warnings=1)
    said(
        result,
        f"""
        *SSERecordingWarning: POST http://127.0.0.1:1/chat: *refused*. That is in {FILE}
        now, and is replayed from now on. If it was not to be: pytest
        --sse-record=rewrite test_chat.py::test_hello
        """,
    )


def test_what_asks_a_replay_for_something_does_not_reach_an_api(
    project: Project,
) -> None:
    """Headers of ours are neither sent nor recorded, behind a replay or without."""
    headers = {"X-SSE-Recorder-Speed": "2", "x-sse-recorder-fault": "reslice=1"}
    for messages in (["one"], ["one", "two"]):
        lines = "".join(
            f"    sse_client.post('/chat', json={{'message': {text!r}}},"
            f" headers={headers})\n"
            for text in messages
        )
        project.write(f"def test_hello(sse_client):\n{lines}")
        project.run("--sse-record=new_episodes", passed=1)
    assert len(project.api.headers) == 2
    assert "sse-recorder" not in repr(project.api.headers).lower()
    text = (project.path / FILE).read_text(encoding="utf-8")
    assert "x-sse-recorder" not in text.lower()


@pytest.mark.parametrize("path", ["/endless", "/mute"])
def test_a_client_that_lost_patience_loses_it_again(
    project: Project, path: str
) -> None:
    """When it leaves, the live client decides: nothing is broken in its place."""
    project.write(
        f"""
        import httpx

        def test_hello(sse_client):
            with pytest.raises(httpx.ReadTimeout):
                sse_client.post("{path}", json={{"message": "hello"}}, timeout=0.3)
        """
    )
    for _ in range(3):
        project.run(passed=1)
    assert project.api.asked == [path]


NODE = """
    import subprocess

    JS = '''
        const body = JSON.stringify({message: "hello"});
        const answer = await fetch(process.argv[1], {method: "POST", body});
        await new Promise(done => setTimeout(done, 200));
        const reader = answer.body.getReader();
        const {value} = await reader.read();
        console.log(new TextDecoder().decode(value));
        await reader.cancel();
    '''

    def test_hello(sse_base_url):
        node = ["node", "--input-type=module", "-e", JS, sse_base_url + "/endless"]
        done = subprocess.run(node, capture_output=True, text=True)
        assert "hello, answer 1" in done.stdout, done.stderr
"""


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_a_client_that_left_still_has_what_it_had(project: Project) -> None:
    """Node drops what it holds of a connection that breaks."""
    project.write(NODE)
    for _ in range(2):
        project.run(passed=1)


def test_a_client_that_reads_on_where_it_had_left_is_told(project: Project) -> None:
    """Nobody knows what would have come."""
    ask = """
        import httpx

        def test_hello(sse_client):
            with pytest.raises(httpx.ReadTimeout):
                sse_client.post("/endless", json={"message": "hello"}, timeout=SECONDS)
    """
    project.write(ask.replace("SECONDS", "0.1"))
    project.run(passed=1)
    project.write(ask.replace("SECONDS", "1.5"))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        1 response of {FILE} was left by the client when it was recorded, and this time
        it waited for more, which nobody knows:

            POST /endless (????????, recorded 20??-??-?? ??:??)

        If the client is to read on, record it again:

            pytest --sse-record=rewrite test_chat.py::test_hello
        """,
    )


SUBTESTS = """
    def test_hello(sse_client, subtests):
        for number in (1, 2):
            with subtests.test(number=number):
                sse_client.post("/chat", json={"message": "hello"})
                assert number == 2
"""
UNITTEST = """
    import unittest

    class TestChat(unittest.TestCase):
        @pytest.fixture(autouse=True)
        def client(self, sse_client):
            self.client = sse_client

        def test_hello(self):
            for number in (1, 2):
                with self.subTest(number=number):
                    self.client.post("/chat", json={"message": "hello"})
                    self.assertEqual(number, 2)
"""
TEARDOWN = """
    @pytest.fixture
    def client(sse_client):
        yield sse_client
        raise LookupError

    def test_hello(client):
        client.post("/chat", json={"message": "hello"})
"""
EARLIER = """
    @pytest.fixture
    def earlier():
        yield
        raise LookupError

    def test_hello(earlier, sse_client):
        sse_client.post("/chat", json={"message": "hello"})
"""


@pytest.mark.parametrize("text", [SUBTESTS, UNITTEST, TEARDOWN, EARLIER])
def test_whatever_of_a_test_fails_it_has_failed(project: Project, text: str) -> None:
    """A subtest, or the teardown of another fixture: nothing of it is kept."""
    project.write(text)
    result = project.pytester.runpytest_inprocess(*QUICKLY)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said(result, "The test did not pass, so what it recorded is not in")
    assert not (project.path / MADE).exists()


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


def test_a_test_that_failed_is_not_told_to_forget_recordings(project: Project) -> None:
    """It did not come to the rest."""
    project.write(saying("one", "two"))
    project.run(passed=1)
    project.write(saying("one") + "    raise ValueError\n")
    result = project.run(failed=1)
    result.stdout.no_fnmatch_line("*did not ask for*")


def test_a_recording_answers_as_often_as_it_was_recorded(project: Project) -> None:
    """Else a test that asks twice would pass, and be no test of that."""
    project.write(saying("hello"))
    project.run(passed=1)
    project.write(saying("hello", "hello", "hello"))
    result = project.run(passed=1, errors=1)
    said(
        result,
        f"""
        2 requests had no recording in {FILE}:

            POST /chat
                nearest     POST /chat (????????, recorded 20??-??-?? ??:??)
                differs in  how often it is asked
                recorded    1 time
                received    2 times
                to allow    @pytest.mark.sse_recording(allow_repeats=True)
            POST /chat
        """,
    )
    project.write(
        "@pytest.mark.sse_recording(allow_repeats=True)\n" + saying(*["hello"] * 3)
    )
    project.run(passed=1)
    assert project.recorded() == ["hello 1"]
    project.write(saying("hello", "hello", "hello"))
    project.run("--sse-record=new_episodes", passed=1)
    assert project.recorded() == ["hello 1", "hello 2", "hello 3"]
    project.run(passed=1)


def test_a_miss_tells_the_client_what_to_type(project: Project) -> None:
    """SDKs show it, and the report of the test may not be looked at."""
    project.write(saying("one"))
    project.run(passed=1)
    project.write(
        """
        def test_hello(sse_client):
            answer = sse_client.post("/chat", json={"message": "two"})
            assert answer.json()["error"]["message"].endswith(
                "or record this one with `pytest --sse-record=new_episodes"
                " test_chat.py::test_hello`."
            )
        """
    )
    project.run(passed=1, errors=1)


def test_a_test_that_need_not_ask_needs_no_cassette(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that asks nothing where it is written, and in continuous integration."""
    allowed = "@pytest.mark.sse_recording(allow_unused=True)\n"
    project.write(allowed + saying())
    project.run(passed=1)
    monkeypatch.setenv("CI", "true")
    project.run(passed=1)
    project.write(allowed + saying("hello"))
    result = project.run(passed=1, errors=1)
    said(result, f"1 request had no recording in {FILE}: POST /chat")
    assert project.api.asked == []


def test_a_redirect_past_the_server_is_warned_of(project: Project) -> None:
    """A client that follows it leaves the replay; one with the transport does not."""
    with little_api() as other:
        project.api.elsewhere = f"{other.url}/chat"
        project.write(
            """
            def test_hello(sse_client):
                sse_client.follow_redirects = True
                sse_client.post("/moved", json={"message": "hello"})
            """
        )
        for count in (1, 2):
            result = project.run(passed=1, warnings=1)
            assert len(other.asked) == count
            said(
                result,
                f"""
                *SSERecordingWarning: POST /moved of {FILE} is redirected to
                {other.url}/chat. A client that follows it speaks with the real server,
                also where nothing is to be recorded: give it the fixture
                `sse_transport`, which brings all requests here
                """,
            )
        project.write(
            """
            import httpx

            def test_hello(sse_transport):
                with httpx.Client(
                    transport=sse_transport, follow_redirects=True
                ) as client:
                    url = "http://api.example.com/moved"
                    assert client.post(url, json={"message": "hello"}).is_success
            """
        )
        for mode in ("rewrite", "none"):
            project.run(f"--sse-record={mode}", passed=1, warnings=0)
        assert len(other.asked) == 2


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


IMPORT = """
    import httpx, pytest
    ASK = {"json": {"message": "hello"}}
"""
RESPX = (
    """
    def test_hello(respx_mock, sse_base_url):
        respx_mock.post("https://api.example.com/chat").respond(text="mocked")
        LET_THROUGH
        assert httpx.post("https://api.example.com/chat").text == "mocked"
        assert ASKED
    """,
    'respx_mock.route(host="127.0.0.1").pass_through()',
    """
    - respx answers httpx's requests itself; let these through:
    respx_mock.route(host="127.0.0.1").pass_through()
    """,
)
PYTEST_HTTPX = (
    """
    LET_THROUGH
    def test_hello(httpx_mock, sse_base_url):
        httpx_mock.add_response(text="mocked", is_reusable=True)
        assert httpx.post("https://api.example.com/chat").text == "mocked"
        assert ASKED
    """,
    """@pytest.mark.httpx_mock(should_mock=lambda request: request.url.host !=
        "127.0.0.1")""",
    """
    - pytest-httpx answers httpx's requests itself; let these through:
    @pytest.mark.httpx_mock(should_mock=lambda request: request.url.host !=
    "127.0.0.1")
    """,
)
VCR = (
    """
    @pytest.fixture
    def vcr_config():
        return {LET_THROUGH}

    @pytest.mark.vcr
    def test_hello(sse_base_url):
        try:
            asked = ASKED
        except Exception:
            asked = False
        assert asked or not vcr_config
    """,
    '"ignore_localhost": True',
    """
    - VCR answers requests itself; let these through: ignore_localhost=True in the
    fixture vcr_config
    """,
)
BLOCKED = (
    """
    @pytest.mark.block_network(LET_THROUGH)
    def test_hello(sse_base_url):
        assert ASKED
    """,
    'allowed_hosts=["127.0.0.1"]',
    """
    - pytest-recording blocks the network; let this through:
    @pytest.mark.block_network(allowed_hosts=[[]"127.0.0.1"[]])
    """,
)


@pytest.mark.parametrize(
    ("text", "remedy", "hint"),
    [RESPX, PYTEST_HTTPX, VCR, BLOCKED],
    ids=["respx", "pytest-httpx", "vcr", "block_network"],
)
def test_who_may_have_taken_the_request_is_named_with_what_lets_it_through(
    project: Project, text: str, remedy: str, hint: str
) -> None:
    """Other plugins answer in place of the network; what is advised is what works."""
    asked = '"[DONE]" in httpx.post(sse_base_url + "/chat", **ASK).text'
    text = textwrap.dedent(IMPORT) + textwrap.dedent(text.replace("ASKED", asked))
    project.write(text.replace("LET_THROUGH", "").replace(f"{asked}", "True"))
    said(
        project.pytester.runpytest_inprocess(*QUICKLY),
        f"""
        `sse_recording.url`. {hint}
        """,
    )
    assert project.api.asked == []
    project.write(text.replace("LET_THROUGH", remedy))
    project.run(passed=1)
    assert project.api.asked == ["/chat"]
    project.run("--sse-record=none", passed=1)


def test_a_network_that_is_blocked_by_an_option_is_named(project: Project) -> None:
    """By pytest-recording's, which has no mark then, and by pytest-socket's."""
    project.write(saying())
    result = project.run("--block-network", passed=1, errors=1)
    said(result, "- pytest-recording blocks the network; let this through:")
    project.write(HELLO)
    result = project.run("--disable-socket", failed=1)
    said(
        result,
        """
        - pytest-socket blocks the network; let this through:
        @pytest.mark.allow_hosts([[]'127.0.0.1'[]])
        """,
    )
    for mark, option in (
        ("block_network(allowed_hosts=", "--block-network"),
        ("allow_hosts(", "--disable-socket"),
    ):
        project.write(f"@pytest.mark.{mark}['127.0.0.1'])\n{saying('hello')}")
        project.run(option, passed=1)


def test_a_proxy_of_the_environment_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be asked for a server on loopback, too."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    project.write(saying())
    said(
        project.run(passed=1, errors=1),
        """
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


def test_responses_that_are_left_open_are_counted(project: Project) -> None:
    """In English."""
    project.write(saying("one", "two"))
    project.run(passed=1)
    project.write(
        """
        import httpx

        responses = []

        @pytest.fixture
        def client():
            with httpx.Client(trust_env=False) as client:
                yield client
            responses.clear()

        @pytest.mark.sse_recording(step=True)
        def test_hello(client, sse_base_url):
            for message in ("one", "two"):
                request = client.build_request(
                    "POST", sse_base_url + "/chat", json={"message": message}
                )
                responses.append(client.send(request, stream=True))
        """
    )
    result = project.run(passed=1, errors=1)
    said(result, f"2 responses of {FILE} were still open when the test ended:")


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
    for mode in ("none", "once", "new_episodes", "all"):
        result = project.run(f"--sse-record={mode}", errors=1)
        said(
            result,
            """
            *line [0-9]: not a line of a cassette*record it again:

                pytest --sse-record=rewrite test_chat.py::test_hello
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


@pytest.mark.parametrize("days", ["soon", "-1", "nan"])
def test_an_age_that_is_none_is_refused_at_once(project: Project, days: str) -> None:
    """Before any test, and without a traceback."""
    project.write(saying("hello"))
    project.pytester.makeini(f"[pytest]\nsse_recording_max_age_days = {days}")
    result = project.pytester.runpytest_inprocess(*QUICKLY)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    message = (
        f"ERROR: sse_recording_max_age_days = '{days}' is no number of days: write 30,"
        " say, or 0 for never"
    )
    result.stderr.fnmatch_lines([message])


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


def test_a_name_is_no_longer_than_a_file_may_have(project: Project) -> None:
    """Bytes count, whatever the alphabet."""
    names = [letters * 60 for letters in ("\u65e5\u672c", "\u65e5\u8a9e")]
    project.write("\n".join(saying("hello", name=name) for name in names))
    project.run(passed=2)
    assert len([*(project.path / MADE).iterdir()]) == 2
    project.run("--sse-record=none", passed=2)


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


def test_what_is_closest_to_the_test_wins(project: Project) -> None:
    """A mark without a name is also of the recordings that a farther one has named."""
    project.write(
        """
        pytestmark = [
            pytest.mark.sse_recording("one", upstream="http://far", speed=1),
            pytest.mark.sse_recording("two", upstream="http://far", speed=2),
        ]

        @pytest.mark.sse_recording(upstream="http://near")
        class TestChat:
            @pytest.mark.sse_recording("two", upstream="http://closest")
            def test_hello(self, sse_recordings):
                one, two = sse_recordings["one"], sse_recordings["two"]
                assert (one.upstream, one._options.speed) == ("http://near", 1)
                assert (two.upstream, two._options.speed) == ("http://closest", 2)
                raise ValueError  # so that nobody asks for a request
        """,
        upstream=False,
    )
    result = project.run(failed=1)
    result.stdout.fnmatch_lines(["E   *ValueError"])


def test_a_name_for_many_tests_is_shared(project: Project) -> None:
    """By parameters, or by a class: none of them asks for what the others did."""
    project.write(
        """
        @pytest.mark.sse_recording("one")
        @pytest.mark.parametrize("message", ["a", "b"])
        def test_many(sse_client, message):
            sse_client.post("/chat", json={"message": message})

        @pytest.mark.sse_recording("two")
        class TestChat:
            def test_c(self, sse_client):
                sse_client.post("/chat", json={"message": "c"})

            def test_d(self, sse_client):
                sse_client.post("/chat", json={"message": "d"})
        """
    )
    for mode in ("once", "all", "rewrite", "once", "none"):
        project.run(f"--sse-record={mode}", passed=4)
        for name, count in (("one", 2), ("two", 2)):
            assert len(project.recorded(f"{MADE}/{name}.sse.jsonl")) == count
    project.write(
        """
        @pytest.mark.sse_recording("one")
        @pytest.mark.parametrize("message", ["a", "b"])
        def test_many(sse_base_url, message):
            pass
        """
    )
    said(project.run(passed=2, errors=2), "No request came to")


def test_what_is_typed_destroys_nothing_of_others(project: Project) -> None:
    """Where any test may use a cassette, all that may are recorded again."""
    shared = '@pytest.mark.sse_recording("shared")\n'
    file = f"{MADE}/shared.sse.jsonl"
    project.write(shared + saying("one", "two"))
    project.run(passed=1)
    project.write(shared + saying("one"))
    said(
        project.run(passed=1, errors=1),
        f"""
        The test did not ask for 1 of 2 recordings in {file}:

            POST /chat (????????, recorded 20??-??-?? ??:??)

        If other tests use them, say so:
        @pytest.mark.sse_recording(allow_unused=True)

        If none does, record all that may use this file again:

            pytest --sse-record=rewrite test_chat.py
        """,
    )
    project.write(shared + saying("three"))
    said(
        project.run(passed=1, errors=1),
        """
        If the request is as it should be, add it to what is there:

            pytest --sse-record=new_episodes test_chat.py::test_hello

        or, since other tests may use this file, record all of them again:

            pytest --sse-record=rewrite test_chat.py
        """,
    )


@pytest.mark.slow
def test_processes_share_a_cassette(project: Project) -> None:
    """None takes from it what another has put there in the same run."""
    project.write(
        """
        import time

        @pytest.mark.sse_recording("shared")
        @pytest.mark.parametrize("message", ["a", "b", "c", "d", "e", "f"])
        def test_many(sse_client, message):
            for text in ("all", message):
                sse_client.post("/chat", json={"message": text})
            time.sleep(0.2)  # so that nobody does all of them
        """
    )
    file = f"{MADE}/shared.sse.jsonl"
    for mode in ("once", "rewrite", "all"):
        result = project.pytester.runpytest_subprocess(
            *QUICKLY, "-pno:anyio", "-n3", f"--sse-record={mode}"
        )
        result.assert_outcomes(passed=6)
        asked = sorted(line.split()[0] for line in project.recorded(file))
        assert asked == ["a", "all", "b", "c", "d", "e", "f"]
    project.run("--sse-record=none", passed=6)


def test_a_process_that_takes_the_place_of_another_is_of_the_same_run(
    project: Project,
) -> None:
    """What was recorded before it began is not old for that."""
    project.write(
        """
        import os

        @pytest.mark.sse_recording("shared")
        @pytest.mark.parametrize("message", ["a", "crash", "b"])
        def test_many(sse_client, message):
            if message == "crash":
                os._exit(1)
            sse_client.post("/chat", json={"message": message})
        """
    )
    result = project.pytester.runpytest_subprocess(
        *QUICKLY, "-pno:anyio", "-n1", "--sse-record=rewrite"
    )
    result.assert_outcomes(passed=2, failed=1)
    assert project.recorded(f"{MADE}/shared.sse.jsonl") == ["a 1", "b 2"]


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
    for mode in ("once", "rewrite", "all"):
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
    " upstream, speed, max_gap, ttfb, jitter, step, faults, seed, ignore,"
    " match_headers, allow_unused, allow_repeats"
)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("'a', 'b', upstrem='x'", UNKNOWN),
        ("speed=0", "*'0' is not a speed: give a number above 0, *"),
        ("max_gap='2'", "*'2' is not a duration: give one such as 200ms or 1.5s"),
        ("jitter=-1", "*-1 is not a share: give one from 0 to 10"),
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
    project.write(f"@pytest.mark.sse_recording({mark})" + textwrap.dedent(HELLO))
    # Each is found in every mode, but for where it means nothing.
    for mode in ("rewrite", *(() if "ftp" in mark else ("once",))):
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


def test_the_pace_is_what_the_mark_says(project: Project) -> None:
    """At the recorded speed, where it says nothing of that."""
    project.write(
        """
        import time

        @pytest.mark.sse_recording(ttfb="300ms", max_gap="1ms", jitter=0.1, seed=7)
        def test_hello(sse_client, sse_recording):
            began = time.monotonic()
            sse_client.post("/slow", json={"message": "hello"})
            took = time.monotonic() - began
            assert sse_recording.is_recording or 0.25 < took < 0.45
        """
    )
    project.run(passed=1)
    project.run(passed=1)


FAULT = """
    import httpx

    @pytest.mark.sse_recording(faults="reset@event:1", seed=7)
    def test_hello(sse_client):
        with pytest.raises(httpx.ReadError):
            sse_client.post("/chat", json={"message": "hello"})
"""


def test_responses_can_be_disturbed(project: Project) -> None:
    """The mark takes the faults that the command takes, from the first run on."""
    project.write(FAULT)
    for _ in range(2):
        project.run(passed=1)
    assert project.api.asked == ["/chat"]


def test_a_fault_that_does_nothing_fails_the_test(project: Project) -> None:
    """It has not seen what it is about; recorded or replayed, and told what was."""
    project.write(
        """
        @pytest.mark.sse_recording(faults=["reset@event:9", "reslice=1"])
        def test_hello(sse_client):
            sse_client.post("/chat", json={"message": "hello"})
        """
    )
    for _ in range(2):
        said(
            project.run(passed=1, errors=1),
            """
            1 fault did nothing, so the test has not seen what it is about:
            reset@event:9

                POST /chat: reset@event:9: not done: the response had 2 events, * bytes
                POST /chat: reslice=1: *

            Give each a place that the responses have.
            """,
        )


def test_a_failing_test_is_told_what_faults_did(project: Project) -> None:
    """It may be the reason."""
    project.write(FAULT.replace("ReadError", "ReadTimeout"))
    for _ in range(2):
        said(
            project.run(failed=1),
            "Faults: POST /chat: reset@event:1: *",
        )


def test_a_test_in_steps_is_told_that_it_was_not_held_back(project: Project) -> None:
    """The first run is the only one in which nothing waits for it."""
    project.write(
        """
        @pytest.mark.sse_recording(step=True)
        def test_hello(sse_client):
            sse_client.post("/chat", json={"message": "hello"})
            raise ValueError
        """
    )
    said(
        project.run(failed=1),
        """
        The test has step=True, which holds back replays: what is recorded comes when
        its upstream sends it. Where that makes a difference, ask
        `sse_recording.is_recording`.
        """,
    )


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
    others = [f"-pno:{name}" for name in ("pytest_httpx", "respx", "recording")]
    project.pytester.runpytest_subprocess(*others).assert_outcomes(passed=1)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_any_client_is_recorded_once_and_replayed_without_the_api(
    project: Project,
) -> None:
    """SDKs on httpx and on httpx2, programs in other languages; in two processes."""
    sdk_project.write(project.path, project.api.url)
    quietly = (*QUICKLY, "-p", "no:anyio")
    result = project.pytester.runpytest_subprocess(*quietly, "-n2")
    result.assert_outcomes(passed=sdk_project.COUNT)
    assert len(project.api.asked) == sdk_project.COUNT
    project.api.shutdown()
    project.api.server_close()
    result = project.pytester.runpytest_subprocess(*quietly, "-n2")
    result.assert_outcomes(passed=sdk_project.COUNT)
