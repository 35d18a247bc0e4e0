"""Applications of these tests behind the recorder, each in a process of its own.

    with recorded("agents:app", tmp_path) as place:
        httpx.post(place.recorder + "/ag-ui", …)
        place.wait("path = '/ag-ui'", 1)

They run as people start them: with uvicorn, and with the command.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from support import Running, command, eventually

from sse_recorder import Exchange, Store

_UVICORN: Final = (sys.executable, "-m", "uvicorn", "--port", "0")
_STOPPING: Final = ("--timeout-graceful-shutdown", "1")


@contextmanager
def served(app: str) -> Iterator[str]:
    """Serve an application while the block lasts.

    Args:
        app: the module in this folder, and the name in it.

    Yields:
        Where it listens.
    """
    folder = str(Path(__file__).parent)
    with subprocess.Popen(
        [*_UVICORN, *_STOPPING, "--app-dir", folder, app],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        running = Running(process)
        try:
            line = running.stderr.until(r"running on http://")
            found = re.search(r"http://\S+", line)
            assert found is not None
            yield found[0]
        finally:
            process.terminate()
            running.wait()


class Place(NamedTuple):
    """Where an application is, its recorder, and the recordings."""

    server: str
    recorder: str
    path: Path

    def wait(self, where: str, count: int) -> list[Exchange]:
        """Wait until so many exchanges of some kind are over, and return them."""
        found: list[Exchange] = []

        def are_over() -> bool:
            with Store.open(self.path) as store:
                found[:] = store.exchanges(f"({where}) AND outcome IS NOT NULL")
            return len(found) >= count

        eventually(are_over)
        assert len(found) == count
        return found


@contextmanager
def recorded(app: str, folder: Path) -> Iterator[Place]:
    """Serve an application, and record it into a folder, while the block lasts."""
    with (
        served(app) as server,
        command("record", "--upstream", server, cwd=folder) as recorder,
    ):
        yield Place(server, recorder.url, folder / "recordings")
        assert recorder.stop() == 0
