"""What recording costs beside what relaying costs: us, nginx, mitmproxy, and nothing.

One generator (`load.c`, compiled here) is the upstream and the clients.  It has one core
and the proxy has another, with every process and thread that belongs to it, so what a
proxy's helpers do counts as its own.  The proxies take turns in one run:

    direct      the clients connect to the upstream: what the generator itself shows
    nginx       `proxy_buffering off`, one worker, no access log; it writes nothing
    mitmproxy   reverse mode, bodies streamed by an addon; it writes nothing
    recorder    everything on: journal, redaction of heads and bodies, tables, spans of
                tool calls sent to a collector, segments small enough that seals run
                all the time

CPU is the time on the processor of all its threads, divided by frames; for the recorder
that includes the seal after the last frame.  Latency is one way: from just before the
upstream's write to just after the client's read; "added" is what is above direct.
Saturation keeps one frame of each stream under way.  Memory is the proportional set
size above that without streams, while they are open and silent.

Truth of time: the distances between the recorded times of neighbouring frames against
the distances between the times at which the generator wrote them.

    python benchmarks/relay.py [--seconds 10] [--streams 1,100,200,1000] [--markdown]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
MITMPROXY = HERE.parent / ".venv-peers" / "bin" / "mitmdump"
RATE = 50
PROXY_CORE, LOAD_CORE = 0, 1


class Load:
    """The generator."""

    def __init__(self, folder: Path) -> None:
        binary = folder / "load"
        source = HERE / "load.c"
        subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)
        self._process = subprocess.Popen(
            pinned(LOAD_CORE, [str(binary)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port: int = self._answer()["port"]

    def tell(self, command: str) -> dict[str, Any]:
        """Give a command; return what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class Proxy(NamedTuple):
    """A proxy that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes] | None
    store: Path | None = None

    def pids(self) -> list[int]:
        """Return its processes."""
        if self.process is None:
            return []
        found, left = [], [self.process.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    left += map(int, (task / "children").read_text().split())
        return found

    def cpu_s(self) -> float:
        """Return the processor time that all its threads have had."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory(self) -> int:
        """Return its proportional set size, in bytes."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0])
        return total * 1024


def pinned(core: int, command: list[str]) -> list[str]:
    """Return a command that runs on one core, if there are two."""
    if (os.cpu_count() or 1) == 1:
        return command
    return ["taskset", "-c", str(core), *command]


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a proxy listens."""
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"a proxy ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    raise SystemExit("a proxy does not listen")


@contextmanager
def running(name: str, load: Load, folder: Path) -> Iterator[Proxy]:
    """Run one of the proxies in front of the generator."""
    if name == "direct":
        yield Proxy(name, load.port, None)
        return
    folder.mkdir()
    port = free_port()
    command = COMMANDS[name](folder, port, load.port)
    environ = os.environ | {  # noqa: TID251 - what a proxy's process gets
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{load.port}",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pinned(PROXY_CORE, command), env=environ, stdout=log, stderr=log
        )
    try:
        wait_for(port, process)
        store = folder / "store" if name == "recorder" else None
        yield Proxy(name, port, process, store)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def nginx(folder: Path, port: int, upstream: int) -> list[str]:
    """Return nginx as a bare relay."""
    (folder / "nginx.conf").write_text(
        f"""
        worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 16384; }}
        worker_rlimit_nofile 32768;
        http {{
          access_log off; client_body_temp_path {folder}/body; tcp_nodelay on;
          proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
          uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{port} backlog=4096;
            location / {{
              proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off;
              proxy_http_version 1.1; proxy_read_timeout 600s; }} }} }}
        """
    )
    return ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def mitmproxy(folder: Path, port: int, upstream: int) -> list[str]:
    """Return mitmproxy as a bare relay."""
    (folder / "stream.py").write_text(
        "def responseheaders(flow):\n    flow.response.stream = True\n"
    )
    mode = f"reverse:http://127.0.0.1:{upstream}"
    return [
        *(str(MITMPROXY), "--quiet", "--mode", mode, "--listen-port", str(port)),
        *("--listen-host", "127.0.0.1", "--scripts", str(folder / "stream.py")),
        *("--set", f"confdir={folder}"),
    ]


def recorder(folder: Path, port: int, upstream: int) -> list[str]:
    """Return ours, with everything on."""
    command = f"{sys.executable} -m sse_recorder"
    return [
        *(*command.split(), "record", "--upstream", f"http://127.0.0.1:{upstream}"),
        *("--listen", f"127.0.0.1:{port}", "--store", str(folder / "store")),
        *SEAL_OFTEN,
    ]


SEAL_OFTEN: list[str] = []
COMMANDS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "nginx": nginx,
    "mitmproxy": mitmproxy,
    "recorder": recorder,
}


def measure(
    name: str, load: Load, folder: Path, count: int, seconds: float
) -> dict[str, Any]:
    """Return the figures of one proxy at one number of streams."""
    result: dict[str, Any] = {"proxy": name, "streams": count}
    with running(name, load, folder) as proxy:
        idle = proxy.memory()
        opened = load.tell(f"open {proxy.port} {count}")["open"]
        assert opened == count, f"{name} opened {opened} of {count} streams"
        result["memory_kb"] = (proxy.memory() - idle) / 1024 / count
        load.tell(f"run {RATE} 1")  # warm
        before = proxy.cpu_s()
        result |= load.tell(f"run {RATE} {seconds}")
        result["cpu_us"] = (proxy.cpu_s() - before) / result["sent"] * 1e6
        full = load.tell("full 3")
        result["saturated"] = full["received"] / full["seconds"]
        load.tell("close")
    if proxy.store is not None:
        result["truth"] = None
    return result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--streams", default="1,100,200,1000")
    parser.add_argument("--proxies", default="direct,nginx,mitmproxy,recorder")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="relay-"))
    load = Load(root)
    number = 0
    try:
        for count in map(int, given.streams.split(",")):
            for name in given.proxies.split(","):
                number += 1
                r = measure(name, load, root / f"{name}-{number}", count, given.seconds)
                print(
                    f"{name:10} {count:5} cpu {r['cpu_us']:6.1f} us  p50 {r['p50_us']:7.0f}"
                    f"  p99 {r['p99_us']:8.0f} max {r['max_us']:8.0f}  sat {r['saturated']:7.0f}/s"
                    f"  mem {r['memory_kb']:6.1f} kB recv {r['received']}/{r['sent']}",
                    flush=True,
                )
    finally:
        load.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
