"""The README and the pages that it leads to are executed: what they say works.

Each is read by somebody who has a folder of their own, from its top to its bottom.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from samples import finished, meibel_exchange, said, store_with
from support import Running, command, environment, run_command

from sse_recorder import running
from sse_recorder.demo import AgentServer

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)")
FILE = re.compile(r"# (\w+\.py)\n")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVERS = frozenset({"record", "replay"})


def free_port() -> str:
    """Return a port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


class Reader:
    """Somebody who reads the README from top to bottom and types what it says."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.folder = folder
        self.server: Running | None = None
        self._open = ExitStack()
        # The text's own addresses, and what stands for them here.
        self._here = {
            "https://api.meibel.ai": upstream,
            "127.0.0.1:8787": f"127.0.0.1:{free_port()}",
            "127.0.0.1:8788": f"127.0.0.1:{free_port()}",
            "127.0.0.1:9090": f"127.0.0.1:{free_port()}",
        }

    def read(self, language: str, text: str) -> None:
        """Do what a block says."""
        for there, here in self._here.items():
            text = text.replace(there, here)
        if language == "python" and (name := FILE.match(text)):
            (self.folder / name[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            code = [sys.executable, "-W", "error", "-c", text]
            subprocess.run(code, cwd=self.folder, check=True, env=environment())
        for line in text.splitlines() if language == "sh" else ():
            self._type(line.partition(" #")[0].strip())

    def stop(self) -> None:
        """Stop what was left running, as Ctrl-C does."""
        if self.server is not None:
            assert self.server.stop() == 0
            self.server = None
        self._open.close()

    def _type(self, line: str) -> None:
        settings: dict[str, str] = {}
        words = shlex.split(line)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            name, _, value = words.pop(0).partition("=")
            settings[name] = value
        match words:
            case ["make", target]:
                # The target exists; what it does is run by continuous integration.
                subprocess.run(["make", "-n", target], cwd=ROOT, check=True)
            case ["pytest", *rest]:
                tests = [sys.executable, "-m", "pytest", "-W", "error", *rest]
                env = environment(CI="")
                subprocess.run(tests, cwd=self.folder, check=True, env=env)
            case [".", _]:
                pass  # this process's environment is active already
            case ["git", *_]:
                # In a clone of one's own; a shell reads its quotes.
                shell = f"git init -q && {line}"
                subprocess.run(["sh", "-c", shell], cwd=self.folder, check=True)
            case ["sse-recorder", "redact", "--dry-run", *rest]:
                done = run_command("redact", "--dry-run", *rest, cwd=self.folder)
                assert done.returncode == 0, done.stderr  # ours have none
            case ["sse-recorder", name, *rest] if name in SERVERS and not (
                "--" in rest or rest[0].startswith("http")
            ):
                self.stop()
                env = environment(**settings)
                server = command(name, *rest, cwd=self.folder, env=env)
                self.server = self._open.enter_context(server)
                assert self.server.url.startswith("http://127.0.0.1:")
            case ["sse-recorder", *rest]:
                done = run_command(*rest, cwd=self.folder, env=environment(**settings))
                assert done.returncode == 0, done.stderr
                assert done.stdout or done.stderr
            case _:
                raise AssertionError(f"nobody knows how to type {line!r}")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return a reader with a folder of their own and an API that answers."""
    shutil.copytree(ROOT / "recordings", tmp_path / "recordings")
    shutil.copytree(ROOT / "tests" / "imports" / "files", tmp_path / "captures")
    agent_program = "import os; print(os.environ['OPENAI_BASE_URL'])"
    (tmp_path / "agent.py").write_text(agent_program, encoding="utf-8")
    with running(AgentServer()) as agent:
        reader = Reader(tmp_path, agent.url)
        try:
            yield reader
        finally:
            reader.stop()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_every_example_works(reader: Reader, page: str) -> None:
    """From the first block to the last, in their order, each ends well."""
    if page != "README.md":  # where it is the reader who records
        store_with(reader.folder, [meibel_exchange([said(300, "Hi"), finished(400)])])
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    assert {language for language, _ in blocks} <= {"sh", "python", "toml"}
    for language, text in blocks:
        reader.read(language, text)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "benchmarks/README.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    """To a file that is there, and to a heading that it has."""
    path = ROOT / page
    for file, heading in LINK.findall(path.read_text(encoding="utf-8")):
        target = path.parent / file if file else path
        assert target.exists(), file
        text = target.read_text(encoding="utf-8") if target.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not heading or heading in {h.lower().replace(" ", "-") for h in headings}


def test_every_page_can_be_found() -> None:
    """The README leads to each."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {file for file, _ in LINK.findall(readme)} >= set(PAGES[1:])
