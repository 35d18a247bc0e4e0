"""A new project that has nothing of this one but the wheel."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import sdk_project
from little_api import little_api
from support import environment

ROOT: Final = Path(__file__).parent.parent.parent
THEIRS: Final = ("anthropic", "meibel", "openai", "pytest", "pytest-xdist")
"""What the project installs besides."""


def locked(folder: Path) -> Path:
    """Write the versions that everything has here, and return the file."""
    versions = re.findall(
        r"^[\w.-]+==[^\s;]+(?: ; .*?)?(?= \\$)",
        (ROOT / "requirements-dev.lock").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    path = folder / "constraints.txt"
    path.write_text("\n".join(versions), encoding="utf-8")
    return path


def installed(folder: Path) -> Path:
    """Build the wheel, install it in an empty environment; return its programs."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    install = [str(programs / "pip"), "install", "-c", str(locked(folder))]
    subprocess.run([*install, str(wheel), *THEIRS], check=True)
    return programs


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_new_project_records_once_and_replays_when_the_api_is_gone(
    tmp_path: Path,
) -> None:
    """In one process, then in two; and its command and its demo work there, too."""
    programs = installed(tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    settings = {k: v for k, v in environment().items() if k != "PYTHONPATH"}

    def run(program: str, *args: str) -> str:
        done = subprocess.run(
            [str(programs / program), *args],
            cwd=project,
            env=settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with little_api() as api:
        sdk_project.write(project, api.url)
        run("pytest", "-q", "--sse-record=once")
        asked = len(api.asked)
        assert asked >= sdk_project.COUNT - 1  # one is skipped where there is no node
        run("pytest", "-q", "--sse-record=rewrite", "-n", "2")
        assert len(api.asked) == 2 * asked
    for processes in ("0", "2"):
        report = run("pytest", "-q", "--sse-record=none", "-n", processes)
        assert f"{asked} passed" in report
    assert "bytes identical" in run("sse-recorder", "demo")
    assert "get_weather" in run("sse-recorder", "tools")
