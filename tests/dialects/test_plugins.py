"""The rules for dialects of other packages: they can add, and cannot break."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest
from support import command, environment, run_command

from sse_recorder.dialects import plugins
from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    ToolArguments,
    ToolCalled,
    ToolReturned,
    ToolStarted,
)
from sse_recorder.dialects.turns import ClientResult, Turn
from sse_recorder.exchange import RequestHead, ResponseHead
from sse_recorder.store.store import Store

LOOKING = Path(__file__).parents[2] / "docs" / "looking.md"
ASK = RequestHead("POST", "/acme/ask")
EVENTS = (
    ("word", {"text": "Let me see"}),
    ("run", {"id": "c1", "tool": "search", "with": {"q": "x"}}),
    ("ran", {"id": "c1", "gave": [1, 2]}),
    ("end", {"model": "acme-2"}),
)


class Agent(BaseHTTPRequestHandler):
    """Answers as the example's API does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer any request with the four events."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = "".join(
            f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in EVENTS
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def agent() -> Iterator[str]:
    """Run the API, and give its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def installed(folder: Path, project: str, module: str) -> Path:
    """Lay a package of one module out as an installation does, and return where."""
    told = tomllib.loads(project)["project"]
    name, version = told["name"], told["version"]
    (points,) = told["entry-points"].items()
    lines = [
        f"[{points[0]}]",
        *(f"{one} = {where}" for one, where in points[1].items()),
    ]
    site = folder / "site"
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (site / "acme_streams.py").write_text(module, encoding="utf-8")
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    return site


def example() -> tuple[str, str]:
    """Return the example of the documentation: its project and its module."""
    blocks = re.findall(
        r"^```(\w+)\n(.*?)^```$", LOOKING.read_text(), re.MULTILINE | re.DOTALL
    )
    (project,) = (text for kind, text in blocks if kind == "toml")
    (module,) = (text for kind, text in blocks if kind == "python")
    return project, module


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Have the example installed, and return where."""
    return installed(tmp_path, *example())


def record(root: Path, env: dict[str, str], path: str = "/acme/ask") -> str:
    """Record one answer through the proxy; return what the recorder said."""
    options = ("--listen", "127.0.0.1:0", "--store", str(root))
    with (
        agent() as url,
        command("record", "--upstream", url, *options, cwd=root.parent, env=env) as run,
    ):
        answer = httpx.post(run.url + path, json={}, trust_env=False)
        assert answer.text.count("event: ") == len(EVENTS)
        assert run.stop() == 0
        return run.stderr.text


def told(root: Path) -> tuple[str | None, str | None, list[str], list[tuple[Any, ...]]]:
    """Return what is told of the one exchange of a store."""
    with Store.open(root) as store:
        (exchange,) = store.exchanges()
        kinds = [frame.kind for frame in store.frames(exchange.exchange_id)]
        calls = store.tool_calls(exchange.exchange_id)
    rows = [(c.tool_name, c.arguments, c.result, c.status) for c in calls]
    return exchange.dialect, exchange.model, kinds, rows


BY_ACME = (
    "acme",
    "acme-2",
    ["text", "tool_call", "tool_result", "finish"],
    [("search", '{"q":"x"}', "[1,2]", "ok")],
)
BY_NOBODY: tuple[Any, ...] = ("generic", None, ["other"] * 4, [])


def test_the_example_can_be_installed_and_reads_what_is_recorded(
    tmp_path: Path,
) -> None:
    """A package that is installed is found, in the process that writes, too."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, text in zip(
        ("pyproject.toml", "acme_streams.py"), example(), strict=True
    ):
        (source / name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([*pip, *options], check=True)
    with_it = dict(environment(PYTHONPATH=str(site)))
    said = record(tmp_path / "store", with_it)
    assert told(tmp_path / "store") == BY_ACME
    assert "left out" not in said


def test_what_was_recorded_without_it_is_rebuilt(tmp_path: Path, site: Path) -> None:
    """And what was recorded with it stays as it is where it is not installed."""
    root = tmp_path / "store"
    record(root, dict(environment()))
    assert told(root) == BY_NOBODY
    rebuild = partial(run_command, "rebuild", "--store", str(root), cwd=tmp_path)
    run = rebuild(env=environment(PYTHONPATH=str(site)))
    assert run.returncode == 0, run.stderr
    assert told(root) == BY_ACME
    run = rebuild()
    assert "left as recorded: the dialect 'acme' is not known here" in run.stderr
    assert told(root) == BY_ACME


BROKEN = {
    "import": ("import nothing_of_this_name\n", ""),
    "no dialect": ("class Acme:\n    name = 'acme'\n", ""),
    "another name": (None, 'name = "acme"=>name = "other"'),
    "raises": (None, "said = parse_object(data)=>raise ValueError('line\\nline')"),
    "wrong type": (None, 'text_of(said.get("model"))=>5'),
    "no reading": (None, "return Reading()=>return None"),
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault, marks=[pytest.mark.slow] * (fault not in ("import", "raises"))
        )
        for fault in BROKEN
    ],
)
def test_one_that_is_broken_never_breaks_recording(tmp_path: Path, fault: str) -> None:
    """It is left out; the log says so once; `rebuild` changes nothing by it."""
    project, module = example()
    replaced, change = BROKEN[fault]
    old, _, new = change.partition("=>")
    assert old in module
    broken = module.replace(old, new) if replaced is None else replaced
    if fault == "no reading":
        broken = broken.replace('case "run"', 'case "never"')
    env = dict(environment(PYTHONPATH=str(installed(tmp_path, project, broken))))
    root = tmp_path / "store"
    said = record(root, env)
    assert said.count("left out") == 1, said
    assert "'acme' of acme-streams 1.0" in said
    assert "Traceback" not in said
    with Store.open(root) as store:
        (exchange,) = store.exchanges()
        assert exchange.outcome == "complete"
        assert exchange.frame_count == len(EVENTS)
        assert len(store.body(exchange.exchange_id)) == exchange.response_size
    before = {path: path.stat().st_ino for path in root.rglob("*.parquet")}
    run = run_command("rebuild", "--store", str(root), cwd=tmp_path, env=env)
    assert run.returncode == 3, run.stderr
    assert "nothing more is rebuilt" in run.stderr
    assert {path: path.stat().st_ino for path in root.rglob("*.parquet")} == before
    assert run_command("rebuild", "--store", str(root), cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["openai_chat", "generic"])
def test_a_name_that_is_built_in_is_refused(tmp_path: Path, name: str) -> None:
    """With the package to blame; the one of this name is the built-in one."""
    project, module = example()
    site = installed(
        tmp_path,
        project.replace("acme = ", f"{name} = "),
        module.replace('"acme"', f'"{name}"'),
    )
    said = record(tmp_path / "store", dict(environment(PYTHONPATH=str(site))))
    assert f"the dialect {name!r} of acme-streams 1.0 is left out" in said
    assert "built in" in said
    assert told(tmp_path / "store") == BY_NOBODY


def test_a_name_that_two_packages_have_is_refused(tmp_path: Path) -> None:
    """Which of them is meant cannot be told."""
    project, module = example()
    folders = []
    for number, name in enumerate(("acme-streams", "acme-twice")):
        folder = tmp_path / str(number)
        folder.mkdir()
        theirs = project.replace('"acme-streams"', f'"{name}"')
        folders.append(str(installed(folder, theirs, module)))
    said = record(tmp_path / "store", dict(environment(PYTHONPATH=":".join(folders))))
    assert "acme-streams 1.0 and acme-twice 1.0 each have one" in said
    assert told(tmp_path / "store") == BY_NOBODY


def test_a_dialect_of_a_package_is_asked_before_the_others(tmp_path: Path) -> None:
    """Else a path that many servers have would never come to it."""
    project, module = example()
    theirs = module.replace('"/acme/ask"', '"/v1/chat/completions"')
    site = installed(tmp_path, project, theirs)
    record(
        tmp_path / "store",
        dict(environment(PYTHONPATH=str(site))),
        "/v1/chat/completions",
    )
    assert told(tmp_path / "store") == BY_ACME


def test_it_is_imported_when_a_request_is_held_against_it(
    tmp_path: Path, site: Path
) -> None:
    """Not by whoever imports the dialects, or looks for another one by its name."""
    program = (
        "import sys\n"
        "from sse_recorder import dialects\n"
        "from sse_recorder.exchange import RequestHead\n"
        "print(dialects.load('meibel').name, 'acme_streams' in sys.modules)\n"
        "found = dialects.recognise(RequestHead('POST', '/acme/ask'))\n"
        "print(found.name, 'acme_streams' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["meibel", "False", "acme", "True"]


# --- the guard, hook by hook


HOOKS = {
    "recognises": lambda d: d.recognises(ASK),
    "recognises_event": lambda d: d.recognises_event(None, ""),
    "recognises_response": lambda d: d.recognises_response(ResponseHead(200)),
    "error_event": lambda d: d.error_event("no"),
    "read_turn": lambda d: d.read_turn(b""),
    "session_id": lambda d: d(ASK).session_id(),
    "read_request": lambda d: d(ASK).read_request(b""),
    "read_event": lambda d: d(ASK).read_event(None, ""),
    "read_body": lambda d: d(ASK).read_body(b""),
}
OF_INSTANCES = {"session_id", "read_request", "read_event", "read_body"}


def guarded(answer: Any, **attributes: object) -> type[Dialect]:
    """Return a guarded dialect that answers everything alike, or raises that."""

    def say(*_: object) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    hooks: dict[str, Any] = {
        name: say if name in OF_INSTANCES else classmethod(say) for name in HOOKS
    }
    rude = type("Rude", (Dialect,), {**hooks, "name": "rude", **attributes})
    return plugins.guarded(rude, "rude", "rude 1.0")


@pytest.mark.parametrize("hook", HOOKS)
def test_whatever_raises_is_left_out_from_then_on(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is that of one who knows nothing; the log says it once."""
    dialect = guarded(RuntimeError("line\nline"))
    for _ in range(2):
        assert HOOKS[hook](dialect) == HOOKS[hook](Dialect)
    assert getattr(dialect, "is_broken", False)
    (record,) = caplog.records
    assert record.getMessage() == (
        "the dialect 'rude' of rude 1.0 failed and is left out: RuntimeError: line;"
        " mend or uninstall it, and `sse-recorder rebuild` reads what it missed"
    )


SOUND = [
    Reading(),
    Reading(Kind.TEXT, "x"),
    Reading(
        Kind.FINISH, model="m", input_tokens=0, output_tokens=2**63 - 1, terminal=True
    ),
    Reading(
        tools=(
            ToolStarted("k", None, "n"),
            ToolArguments("k", "{"),
            ToolCalled(None, "t", None, None, is_hosted=True),
            ToolReturned("k", None, failed=False),
        )
    ),
]
UNSOUND = [
    None,
    Kind.TEXT,
    ("text",),
    Reading("text"),  # type: ignore[arg-type]
    Reading(Kind.TEXT, None),  # type: ignore[arg-type]
    Reading(model=5),  # type: ignore[arg-type]
    Reading(input_tokens=-1),
    Reading(input_tokens=2**63),
    Reading(output_tokens=True),
    Reading(tools=None),  # type: ignore[arg-type]
    Reading(tools=("call",)),  # type: ignore[arg-type]
    Reading(tools=(ToolArguments("k", None),)),  # type: ignore[arg-type]
    Reading(tools=(ToolCalled("k", 1, "n", None),)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("reading", SOUND, ids=range(len(SOUND)))
def test_what_can_be_kept_is_passed_on(reading: Reading) -> None:
    """As it is."""
    for hook in ("read_event", "read_body", "read_request"):
        assert HOOKS[hook](guarded(reading)) == reading


@pytest.mark.parametrize("reading", UNSOUND, ids=range(len(UNSOUND)))
def test_what_no_column_can_hold_is_not_passed_on(reading: Any) -> None:
    """It would keep the segment from being sealed, and all others in it."""
    for hook in ("read_event", "read_body", "read_request"):
        assert HOOKS[hook](guarded(reading)) == Reading()


def test_half_a_surrogate_pair_is_escaped() -> None:
    """As the dialects here do it."""
    assert guarded("\ud800")(ASK).session_id() == "\\ud800"


def test_turns_are_looked_into() -> None:
    """What requests say is kept as well."""
    turn = Turn((ClientResult("a", "r", failed=True),), "thread")
    assert guarded(turn).read_turn(b"") == turn
    wrong: Any = (Turn((ClientResult(5, "r"),)), Turn(("r",)), Turn((), 5), None)  # type: ignore[arg-type]
    for one in wrong:
        assert guarded(one).read_turn(b"") == Turn()


def test_a_reader_that_cannot_be_made_is_one_that_knows_nothing() -> None:
    """Its request is known to the guard all the same."""

    class Late(Dialect):
        """Fails when it is made."""

        name: ClassVar[str] = "late"

        def __init__(self, request: RequestHead) -> None:
            raise RuntimeError(request.path)

    reader = plugins.guarded(Late, "late", "late 1.0")(ASK)
    assert reader.request is ASK
    assert reader.read_event(None, "[DONE]") == Reading()


def test_one_that_would_end_the_process_does_not() -> None:
    """Nor one that does not let itself be made."""
    assert not guarded(SystemExit("bye")).recognises(ASK)
    shut = guarded(Reading(), request=property(lambda _: None))
    assert shut(ASK).read_event(None, "[DONE]") == Reading()
    assert getattr(shut, "is_broken", False)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("text_events", {1}), ("noise", None), ("result_marks", "tool")],
)
def test_attributes_of_the_wrong_type_are_refused(attribute: str, value: Any) -> None:
    """Before a stream stumbles over them."""
    with pytest.raises(TypeError):
        guarded(Reading(), **{attribute: value})
