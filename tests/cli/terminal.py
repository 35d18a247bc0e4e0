r"""A terminal, and somebody who types in it: for shells, prompts and what Tab does.

    with terminal("bash", "-i", cwd=tmp_path, env=environment(TERM="dumb")) as shell:
        shell.type("echo hel", "\t")
        shell.until("hello")

Keys may be pressed before anybody reads them, as one does who types fast.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support import PATIENCE_S

TAB: Final = "\t"
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
UP: Final = "\x1b[A"
# The first process of a session has the terminal that it opens as its own: Ctrl-C in it
# is a signal.
_IN_TERMINAL: Final = 'exec "$@" <"$0" >"$0" 2>&1'


class Terminal:
    """What a program shows, and the keys of who sits before it."""

    def __init__(
        self, process: subprocess.Popen[bytes], master: int, slave: int
    ) -> None:
        self.process = process
        self.shown = ""
        """All that came, carriage returns left out."""
        self._master = master
        # Ours, too: before the program has it, a terminal would be gone without it.
        self._slave: int | None = slave
        self._seen = 0

    def type(self, *keys: str) -> None:
        """Press keys, whether or not the program is ready for them."""
        os.write(self._master, "".join(keys).encode())

    def until(self, pattern: str) -> str:
        """Wait until a pattern is shown after what was waited for, and return it."""
        while (match := re.compile(pattern).search(self.shown, self._seen)) is None:
            assert self._read(), f"no {pattern!r} in: {self.shown[self._seen :]!r}"
        self._seen = match.end()
        return match[0]

    def wait(self) -> int:
        """Return the exit code with which the program ends."""
        self.leave()
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def leave(self) -> None:
        """Let the terminal end with the program."""
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE_S)
        try:
            came = os.read(self._master, 1 << 16) if ready else b""
        except OSError:  # nobody has the other end any more
            came = b""
        self.shown += came.decode(errors="replace").replace("\r", "")
        return bool(came)


@contextmanager
def terminal(*program: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Run a program in a terminal while the block lasts."""
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    with subprocess.Popen(
        ["sh", "-c", _IN_TERMINAL, name, *program],
        cwd=cwd,
        env=env,
        start_new_session=True,
    ) as process:
        made = Terminal(process, master, slave)
        try:
            yield made
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)
            made.leave()
            os.close(master)
