"""Whatever happens to the recording, the streams flow on and the outcome is honest."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from coders import FLUSHERS
from support import Running, command, eventually, fill, run_command, small_disk

from sse_recorder import Store
from sse_recorder.stats import Usage

EVENT = b"data: %d " + b"x" * 4_000 + b"\n\n"
KEY = "sk-ant-api03-" + "Zq7Yw2Lk9Vb4Nc8M" * 3
SECRETS = {
    "header": "hdr-9f8e7d6c5b4a3f2e1d0c",
    "query": "qry-1a2b3c4d5e6f7a8b9c0d",
    "field": "fld-0f1e2d3c4b5a69788796",
    "answer": "ans-77aa88bb99cc00dd11ee",
    "key": KEY,
}


class Upstream(ThreadingHTTPServer):
    """Streams as many events as a test lets it, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.allowed = threading.Semaphore(0)
        self.events: list[bytes] = []
        self.content_encoding: str | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("X-Api-Key", SECRETS["answer"])
        if self.server.content_encoding:
            self.send_header("Content-Encoding", self.server.content_encoding)
        self.end_headers()
        for event in self.server.events:
            self.server.allowed.acquire()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Return an upstream that listens."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Client(threading.Thread):
    """Reads one stream to its end."""

    def __init__(self, url: str, **request: object) -> None:
        super().__init__()
        self.received = b""
        self._url, self._request = url, request
        self.start()

    def run(self) -> None:
        """Send the request, and keep what comes."""
        with httpx.stream(
            "POST",
            self._url,
            timeout=60,
            **{"content": b"{}", **self._request},  # type: ignore[arg-type]
        ) as response:
            for data in response.iter_raw():
                self.received += data


def writer_of(recorder: Running) -> int:
    """Return the process that writes for a recorder."""
    tasks = Path(f"/proc/{recorder.process.pid}/task")
    (pid,) = {
        int(child)
        for task in tasks.iterdir()
        for child in (task / "children").read_text().split()
    }
    return pid


def ending(root: Path) -> tuple[str | None, str | None]:
    """Return how the only exchange of a store ended, and why."""
    with Store.open(root) as store:
        (exchange,) = store.exchanges()
    return exchange.outcome, exchange.error


def test_a_full_disk_costs_the_recording_and_not_the_stream(
    tmp_path: Path, upstream: Upstream
) -> None:
    """A client gets all, health turns red and says why, and so does the exchange."""
    upstream.events = [EVENT % number for number in range(1_000)]
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = disk / "store"
        arguments = ("--upstream", upstream.url, "--store", str(store))
        with command(
            "record", *arguments, "--admin", "127.0.0.1:0", cwd=tmp_path
        ) as recorder:
            line = recorder.stderr.until("Health is at")
            health = line.partition("Health is at ")[2].split(",")[0].strip()
            assert httpx.get(health).status_code == 200
            client = Client(recorder.url + "/stream")
            upstream.allowed.release(900)
            reason = "journal could not be written"
            eventually(lambda: reason in httpx.get(health).text)
            assert httpx.get(health).status_code == 503
            upstream.allowed.release(100)
            client.join()
            assert recorder.stop() == 0
        assert client.received == b"".join(upstream.events)
        assert recorder.stderr.text.count("No space left on device") == 1
        outcome, error = ending(store)
        assert outcome == "incomplete"
        assert error == "the journal could not be written: No space left on device"


def test_no_exchange_is_lost_while_the_disk_is_full(
    tmp_path: Path, upstream: Upstream
) -> None:
    """With room again each has its row, and the last line says what they lack."""
    heads = {"X-Large": "x" * 30_000}
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = disk / "store"
        arguments = ("--upstream", upstream.url, "--store", str(store))
        with (
            command(
                "record", *arguments, "--segment-bytes", "1000000", cwd=tmp_path
            ) as recorder,
            httpx.Client(headers=heads) as client,
        ):
            url = recorder.url + "/stream"  # it listens
            before = Usage.of(writer_of(recorder)).resident_bytes
            filler = fill(disk)
            for _ in range(300):
                client.post(url, content=b"{}").raise_for_status()
            grown = Usage.of(writer_of(recorder)).resident_bytes - before
            assert grown < 20 << 20
            filler.unlink()
            assert recorder.stop() == 0
        assert recorder.stderr.lines[-1] == (
            f"Recorded 300 exchanges into {store}, 300 of them incomplete.\n"
        )
        with Store.open(store) as opened:
            found = {exchange.error for exchange in opened.exchanges()}
        assert found == {"the journal could not be written: No space left on device"}
        assert run_command("verify", str(store), cwd=tmp_path).returncode == 0


def test_a_store_that_is_removed_is_begun_anew(
    tmp_path: Path, upstream: Upstream
) -> None:
    """What was in memory still is, so the stream is whole in the new store."""
    upstream.events = [EVENT % number for number in range(40)]
    store = tmp_path / "store"
    with command(
        "record", "--upstream", upstream.url, "--store", str(store), cwd=tmp_path
    ) as recorder:
        client = Client(recorder.url + "/stream")
        upstream.allowed.release(20)
        eventually(lambda: len(client.received) > 20 * 4_000)
        shutil.rmtree(store)
        upstream.allowed.release(20)
        client.join()
        assert recorder.stop() == 0
    assert client.received == b"".join(upstream.events)
    assert recorder.stderr.text.count("is gone; a new store is begun there") == 1
    assert ending(store) == ("complete", None)
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
        assert opened.body(exchange.exchange_id) == client.received
    assert run_command("verify", str(store), cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_writer_that_is_gone_costs_the_recording_and_not_the_stream(
    tmp_path: Path, upstream: Upstream, number: signal.Signals
) -> None:
    """Stopped or killed in mid-stream: nothing hangs, and the outcome is honest."""
    upstream.events = [EVENT % number for number in range(60)]
    arguments = ("--upstream", upstream.url, "--queue-bytes", "50000")
    with command("record", *arguments, cwd=tmp_path) as recorder:
        client = Client(recorder.url + "/stream")
        upstream.allowed.release(20)
        eventually(lambda: len(client.received) > 20 * 4_000)
        os.kill(writer_of(recorder), number)
        upstream.allowed.release(40)
        client.join()
        assert recorder.stop() == 0
    assert client.received == b"".join(upstream.events)
    outcome, error = ending(tmp_path / "recordings")
    assert outcome == "incomplete"
    assert error
    assert run_command("verify", cwd=tmp_path).returncode == 0


def bytes_below(root: Path) -> bytes:
    """Return all that is in the files of a folder, hidden ones among them."""
    found = b""
    for path in root.rglob("*"):
        with suppress(FileNotFoundError):  # it was sealed meanwhile
            found += path.read_bytes() if path.is_file() else b""
    return found


def test_planted_secrets_are_never_below_the_store(
    tmp_path: Path, upstream: Upstream
) -> None:
    """In no file at any moment, and upstream and client get them unchanged."""
    field = json.dumps({"api_key": SECRETS["field"], "note": f"use {KEY}"})
    answer = f"data: {json.dumps({'delta': f'the key is {KEY}'})}\n\n"
    spread = [b'data: {"delta": "%c"}\n\n' % character for character in KEY.encode()]
    # In one piece, cut at each byte, and one character an event.
    upstream.events = [answer.encode(), *(bytes([b]) for b in answer.encode()), *spread]
    store = tmp_path / "recordings"
    with command(
        "record", "--upstream", upstream.url, "--segment-bytes", "2000", cwd=tmp_path
    ) as recorder:
        client = Client(
            f"{recorder.url}/v1/chat?api_key={SECRETS['query']}",
            content=field.encode(),
            headers={
                "Authorization": f"Bearer {SECRETS['header']}",
                "Content-Type": "application/json",
            },
        )
        while client.is_alive():
            upstream.allowed.release(5)
            client.join(0.02)
            found = bytes_below(store)
            assert not [s for s in SECRETS.values() if s[-12:].encode() in found]
        assert recorder.stop() == 0
    ((path, headers, body),) = upstream.requests
    assert SECRETS["query"] in path
    assert headers["Authorization"] == f"Bearer {SECRETS['header']}"
    assert body == field.encode()
    assert client.received == b"".join(upstream.events)
    assert len(list(store.glob("exchanges/*/*.parquet"))) > 1
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
        stored = opened.body(exchange.exchange_id)
        told = f"{exchange} {list(opened.frames(exchange.exchange_id))}"
    assert len(stored) == len(client.received)
    assert not [s for s in SECRETS.values() if s[-12:] in told]
    modes = {path.stat().st_mode & 0o077 for path in store.rglob("*")}
    assert modes == {0}


@pytest.mark.parametrize(
    "coding",
    [pytest.param(c, marks=[pytest.mark.slow] * (c != "gzip")) for c in FLUSHERS],
)
def test_a_secret_in_a_coded_stream_ends_its_recording(
    tmp_path: Path, upstream: Upstream, coding: str
) -> None:
    """The client gets all; the store has what came before it, and in no file more."""
    texts = ["Here ", "it ", "is: ", KEY[:20], KEY[20:], " - ", "keep it"]
    flusher = FLUSHERS[coding]()
    upstream.events = [
        flusher(f"data: {json.dumps({'delta': text})}\n\n".encode()) for text in texts
    ]
    upstream.content_encoding = coding
    store = tmp_path / "recordings"
    with command(
        "record", "--upstream", upstream.url, "--segment-bytes", "2000", cwd=tmp_path
    ) as recorder:
        client = Client(recorder.url + "/v1/chat")
        clean = sum(map(len, upstream.events[:3]))
        upstream.allowed.release(3)
        eventually(lambda: len(client.received) == clean)
        while client.is_alive():
            upstream.allowed.release()
            client.join(0.1)
            found = bytes_below(store)
            assert not [event for event in upstream.events[3:] if event in found]
            assert KEY[-12:].encode() not in found
        assert recorder.stop() == 0
    assert client.received == b"".join(upstream.events)
    outcome, error = ending(store)
    assert outcome == "incomplete"
    assert error is not None
    assert error.startswith(f"a secret (anthropic-key) is inside of a {coding}-coded")
    assert "Traceback" not in recorder.stderr.text
    with Store.open(store) as opened:
        (exchange,) = opened.exchanges()
        chunks = opened.chunks(exchange.exchange_id)
        shown = [frame.data for frame in opened.frames(exchange.exchange_id)]
    assert b"".join(chunk.data for chunk in chunks) == b"".join(upstream.events[:3])
    assert shown == [json.dumps({"delta": text}) for text in texts[:3]]
    assert run_command("verify", cwd=tmp_path).returncode == 0
    assert run_command("redact", "--dry-run", cwd=tmp_path).returncode == 0
    assert "can be served" in run_command("replay", cwd=tmp_path).stderr
