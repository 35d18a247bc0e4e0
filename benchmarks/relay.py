"""What recording costs, beside what relaying costs nginx, mitmproxy, and nobody.

One generator (`load.c`, compiled here) is the upstream and the clients.  It has one
core and the proxy has another, with every process and thread that belongs to it, so
what a proxy's helpers do counts as its own.  The proxies take turns, in several rounds;
a figure is the median of the rounds, and a ratio is the median of the rounds' ratios;
the least and the largest p99 of the rounds are in brackets.

    direct      the clients connect to the upstream: what the generator itself shows
    nginx       `proxy_buffering off`, one worker, no access log; it writes nothing
    bare        the least that a relay on our event loop can cost (`bare.py`): it copies
                bytes, and neither parses nor writes anything
    mitmproxy   reverse mode, bodies streamed by an addon; it writes nothing
    recorder    everything on: journal, redaction of heads and bodies, tables, spans and
                metrics sent to a collector, and segments of 4 MB, so that it seals
                again and again
    hanging     the same, but its collector accepts connections and never answers
    silent      the same, but it sends no telemetry

CPU is the processor time of all its threads divided by frames.  Latency is one way,
from just before the upstream's write to just after the client's read.  Saturation keeps
one frame of each stream under way.  Memory is the proportional set size above that
without streams, while they are open.

The recorders have had streams that ended before they are measured, so that there are
spans to send meanwhile; metrics are sent every five seconds.

Truth of time: the distances between the recorded times of neighbouring frames against
the distances between the times at which the generator wrote them.

    make bench      installs mitmproxy into its own environment; nginx must be there
    python benchmarks/relay.py --proxies direct,nginx,recorder --streams 100 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from sse_recorder.store.store import Store

HERE = Path(__file__).parent
MITMPROXY = HERE.parent / ".venv-peers" / "bin" / "mitmdump"
RATE = 50
WARM_S = 1
SPANS_S = 0.5
"""How long streams last whose spans are being sent while others are measured."""
METRICS_MS = 5_000
"""How often metrics are sent: twelve times as often as by default, so that they are
once in every measurement."""
RECORDERS = ("recorder", "hanging", "silent")
LABELS = {
    "hanging": "recorder, collector hangs",
    "silent": "recorder, no telemetry",
}
FULL_S = 2
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
    # The kernel accepts what this process never does.
    hung = socket.create_server(("127.0.0.1", 0), backlog=128)
    collector = hung.getsockname()[1] if name == "hanging" else load.port
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_METRIC_EXPORT_INTERVAL": str(METRICS_MS),
    }
    known = os.environ.items()  # noqa: TID251 - what a proxy's process gets
    environ = {key: value for key, value in known if not key.startswith("OTEL_")}
    environ |= {} if name == "silent" else telemetry
    with hung, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            pinned(PROXY_CORE, command), env=environ, stdout=log, stderr=log
        )
        try:
            wait_for(port, process)
            store = folder / "store" if name in RECORDERS else None
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


def bare(_: Path, port: int, upstream: int) -> list[str]:
    """Return the limit of what can be done on this loop."""
    return [sys.executable, str(HERE / "bare.py"), str(port), str(upstream)]


def recorder(folder: Path, port: int, upstream: int) -> list[str]:
    """Return ours, with everything on."""
    command = f"{sys.executable} -m sse_recorder"
    return [
        *(*command.split(), "record", "--upstream", f"http://127.0.0.1:{upstream}"),
        *("--listen", f"127.0.0.1:{port}", "--store", str(folder / "store")),
        *("--segment-bytes", "4000000"),
    ]


COMMANDS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "nginx": nginx,
    "bare": bare,
    "mitmproxy": mitmproxy,
    "recorder": recorder,
    "hanging": recorder,
    "silent": recorder,
}


def measure(
    name: str, load: Load, folder: Path, count: int, seconds: float
) -> dict[str, float]:
    """Return the figures of one proxy at one number of streams."""
    with running(name, load, folder) as proxy:
        idle = proxy.memory()
        opened = load.tell(f"open {proxy.port} {count}")["open"]
        assert opened == count, f"{name} opened {opened} of {count} streams"
        memory_kb = (proxy.memory() - idle) / 1024 / count
        if name in RECORDERS:
            load.tell(f"run {RATE} {SPANS_S}")
            load.tell("close")
            load.tell(f"open {proxy.port} {count}")
        load.tell(f"run {RATE} {WARM_S}")
        before = proxy.cpu_s()
        ran = load.tell(f"run {RATE} {seconds}")
        cpu_us = (proxy.cpu_s() - before) / ran["sent"] * 1e6
        assert ran["received"] == ran["sent"], f"{name} lost frames"
        full = load.tell(f"full {FULL_S}")
        load.tell("close")
    figures = {
        "cpu": cpu_us,
        "p50": ran["p50_us"],
        "p99": ran["p99_us"],
        "full": full["received"] / full["seconds"],
        "memory": memory_kb,
    }
    if proxy.store is not None:
        figures["truth"] = truth(proxy.store, int(RATE * (WARM_S + seconds)))
    return figures


def truth(store: Path, frames: int) -> float:
    """Return the 99th percentile of the error of distances in time, in milliseconds."""
    query = """
        WITH sent AS (
          SELECT exchange_id, seq, last_ns,
                 CAST(regexp_extract(data, '"t":([0-9]+)', 1) AS BIGINT) AS sent_ns
          FROM frames WHERE seq < {frames}
        ), gaps AS (
          SELECT abs((last_ns - lag(last_ns) OVER stream)
                   - (sent_ns - lag(sent_ns) OVER stream)) / 1e6 AS error_ms
          FROM sent WINDOW stream AS (PARTITION BY exchange_id ORDER BY seq)
        )
        SELECT quantile_cont(error_ms, 0.99) AS p99 FROM gaps
    """
    with Store.open(store) as opened:
        table = opened.sql(query.replace("{frames}", str(frames)))
    return float(table.column("p99")[0].as_py())


def hold(load: Load, folder: Path, count: int) -> float:
    """Return what one of very many open streams takes of the recorder, in kB."""
    with running("recorder", load, folder) as proxy:
        idle = proxy.memory()
        opened = load.tell(f"open {proxy.port} {count}")["open"]
        assert opened == count, f"opened {opened} of {count} streams"
        load.tell("run 1 3")
        memory_kb = (proxy.memory() - idle) / 1024 / count
        load.tell("close")
    return memory_kb


def stream(load: Load, folder: Path, size: int) -> tuple[float, float]:
    """Return by how many MB memory grows in the halves of one very long stream."""
    with running("recorder", load, folder) as proxy:
        load.tell(f"open {proxy.port} 1")
        sizes = [proxy.memory()]
        for _ in range(2):
            load.tell(f"bulk {size // 2}")
            sizes.append(proxy.memory())
        load.tell("close")
    first, second = (b - a for a, b in pairwise(sizes))
    return first / 1e6, second / 1e6


def table(rounds: list[dict[tuple[str, int], dict[str, float]]]) -> Iterator[str]:
    """Give the lines of the results."""
    yield (
        "| streams | proxy | CPU a frame | of nginx's | of mitmproxy's | p50 | p99 |"
        " frames/s at most | memory a stream | error of gaps p99 |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, count in rounds[0]:

        def middle(
            figure: str, base: str | None = None, at: tuple[str, int] = (name, count)
        ) -> float | None:
            try:
                return median(
                    done[at][figure] / (done[base, at[1]][figure] if base else 1)
                    for done in rounds
                )
            except (KeyError, ZeroDivisionError):
                return None

        def spread(figure: str, at: tuple[str, int] = (name, count)) -> str:
            values = sorted(done[at][figure] for done in rounds)
            return f" ({values[0]:,.0f} to {values[-1]:,.0f})" if values[1:] else ""

        cells = [
            _text(middle("cpu"), "{:.1f} µs"),
            _text(middle("cpu", "nginx"), "{:.2f} x"),
            _text(middle("cpu", "mitmproxy"), "{:.2f} x"),
            _text(middle("p50"), "{:,.0f} µs"),
            _text(middle("p99"), "{:,.0f} µs") + spread("p99"),
            _text(middle("full"), "{:,.0f}"),
            _text(middle("memory"), "{:.0f} kB"),
            _text(middle("truth"), "{:.2f} ms"),
        ]
        yield f"| {count:,} | {LABELS.get(name, name)} | {' | '.join(cells)} |"


def _text(value: float | None, form: str) -> str:
    return form.format(value) if value is not None else "-"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", default="1,100,200,1000")
    parser.add_argument("--proxies", default=",".join(["direct", *COMMANDS]))
    parser.add_argument("--hold", type=int, default=5_000)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = given.proxies.split(",")
    root = Path(tempfile.mkdtemp(prefix="relay-"))
    load = Load(root)
    rounds: list[dict[tuple[str, int], dict[str, float]]] = []
    try:
        for number in range(given.rounds):
            rounds.append({})
            for count in map(int, given.streams.split(",")):
                for name in names:
                    folder = root / f"{number}-{name}-{count}"
                    figures = measure(name, load, folder, count, given.seconds)
                    rounds[-1][name, count] = figures
                    shutil.rmtree(folder, ignore_errors=True)
        print(*table(rounds), sep="\n")
        if given.hold:
            kb = hold(load, root / "hold", given.hold)
            print(f"\n{given.hold:,} open streams: {kb:.1f} kB each")
            first, second = stream(load, root / "stream", 1_000_000_000)
            print(f"A stream of 1 GB: {first:+.0f} MB, then {second:+.0f} MB")
    finally:
        load.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
