"""Who listens, whom it lets in, and how it closes."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from http1.wire import (
    GET,
    App,
    Received,
    Run,
    answer_echo,
    answer_nothing,
    ok,
    peer_of,
    serving,
)

from sse_recorder.errors import ListenError
from sse_recorder.exchange import ResponseHead
from sse_recorder.http1.limits import Limits
from sse_recorder.http1.server import Server


def test_closing_waits_for_open_responses(run: Run) -> None:
    """Closing ends idle connections, then lets open responses finish in time."""

    async def main() -> None:
        app = App(answer_nothing)
        async with (
            serving(app) as server,
            peer_of(server) as busy,
            peer_of(server) as idle,
        ):
            busy.send(GET % b"1")
            await app.log.until("end")
            closing = asyncio.create_task(server.close(grace_s=20))
            await idle.expect_end()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*server.address)
            assert server.open_streams == 1
            answer_echo(app.received[0])
            await busy.expect_end(ok(b"/1 "))
            await closing

    run(main())


def test_closing_breaks_responses_that_last_too_long(run: Run) -> None:
    """After the grace a response is broken off, and its handler hears why."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(GET % b"1")
            await app.log.until("end")
            await server.close(grace_s=0.01)
            assert app.log.names == ["head", "end", "gone", "closed"]
            assert isinstance(app.received[0].error, ConnectionAbortedError)
            assert server.connections == set()

    run(main())


def test_listening_fails_with_a_remedy(run: Run) -> None:
    """The message says what is wrong with the address and what to do."""

    async def main() -> None:
        server = Server(App())
        await server.listen("127.0.0.1", 0)
        taken = server.address[1]
        try:
            for host, port, words in (
                ("127.0.0.1", taken, "taken.*port 0"),
                ("192.0.2.1", 0, "does not have that address.*127.0.0.1"),
                ("nowhere.invalid", 0, "no such host.*127.0.0.1"),
                ("127.0.0.1", 70_000, "no port 70000.*65535"),
            ):
                with pytest.raises(ListenError, match=words):
                    await Server(App()).listen(host, port)
        finally:
            await server.close(grace_s=0)

    run(main())


def test_the_url_of_any_address_is_one_to_connect_to(run: Run) -> None:
    """Listening on all addresses gives the URL of the loopback; IPv6 has brackets."""

    async def main() -> None:
        server = Server(App())
        await server.listen("0.0.0.0", 0)  # noqa: S104 - the case under test
        assert server.url == f"http://127.0.0.1:{server.address[1]}"
        await server.close(grace_s=0)
        server._address = server._address._replace(host="::")
        assert server.url == f"http://[::1]:{server.address[1]}"

    run(main())


def test_processes_may_share_a_port(run: Run) -> None:
    """With `reuse_port` a second server may listen where the first does."""

    async def main() -> None:
        servers = [Server(App()), Server(App())]
        await servers[0].listen("127.0.0.1", 0, reuse_port=True)
        await servers[1].listen("127.0.0.1", servers[0].address[1], reuse_port=True)
        for server in servers:
            await server.close(grace_s=0)

    run(main())


def test_hundreds_may_come_at_once(run: Run) -> None:
    """A server that is busy meanwhile makes none of them wait to try again."""

    async def main() -> None:
        async with serving(App()) as server, AsyncExitStack() as clients:
            for _ in range(400):
                # They block this loop, so nobody accepts.
                client = socket.create_connection(server.address, timeout=0.9)
                clients.enter_context(client)

    run(main())


async def cut_short(server_stops: bool, idle_timeout_s: float) -> None:  # noqa: FBT001
    """Reset a response whose client does not read yet, and see how it ends for it."""
    body = b"x" * (8 << 20)

    def answer_and_reset(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK"))
        received.stream.send_data(body)
        received.stream.abort(reset=True)

    app = App(answer_and_reset)
    async with (
        serving(app, limits=Limits(idle_timeout_s=idle_timeout_s)) as server,
        peer_of(server) as peer,
    ):
        peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await peer.expect(b"HTTP/1.1 200 OK\r\n\r\n")
        if server_stops:
            await server.close(grace_s=0.1)
        else:
            await asyncio.sleep(3 * idle_timeout_s)
            await peer.expect(body)
        with pytest.raises(ConnectionResetError):
            await peer.read_all()


def test_a_reset_that_waits_for_its_client_is_not_idle(run: Run) -> None:
    """However long the client takes, all bytes come, and then the reset."""
    run(cut_short(server_stops=False, idle_timeout_s=0.3))


def test_a_reset_stays_a_reset_when_the_server_stops(run: Run) -> None:
    """What could not be sent is lost, and the client is not told that it was all."""
    run(cut_short(server_stops=True, idle_timeout_s=300))


def test_a_body_that_its_connection_ends_is_reset_when_the_server_stops(
    run: Run,
) -> None:
    """Half of it must not look like the whole."""

    def answer_half(received: Received) -> None:
        received.stream.send_head(ResponseHead(200, "OK"))
        received.stream.send_data(b"half")

    async def main() -> None:
        async with serving(App(answer_half)) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await peer.expect(b"HTTP/1.1 200 OK\r\n\r\nhalf")
            await server.close(grace_s=0)
            with pytest.raises(ConnectionResetError):
                await peer.read_all()

    run(main())


def test_who_waits_to_close_hears_when_all_have_gone(run: Run) -> None:
    """Closing twice is closing sooner, for the first who asked as well."""

    async def main() -> None:
        app = App(answer_nothing)
        async with serving(app) as server, peer_of(server) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await app.log.until("end")
            first = asyncio.create_task(server.close(grace_s=25))
            await asyncio.sleep(0)
            await server.close(grace_s=0)
            async with asyncio.timeout(5):
                await first

    run(main())


def test_who_comes_when_the_server_is_full_is_told_so(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """They get 503 and when to try again, one line tells us, and room is used again."""

    async def main() -> None:
        app = App(answer_nothing)
        async with (
            serving(app, limits=Limits(connections=1)) as server,
            peer_of(server) as first,
        ):
            first.send(GET % b"1")
            await app.log.until("end")
            for _ in range(3):
                async with peer_of(server) as late:
                    late.send(GET % b"late")
                    answer = await late.read_all()
                    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                    assert b"\r\nRetry-After: 1\r\n" in answer
            answer_echo(app.received[0])
            await first.expect(ok(b"/1 "))
            await first.close()
            await app.log.until("closed")
            app.on_end = answer_echo
            async with peer_of(server) as next_one:
                next_one.send(GET % b"2")
                await next_one.expect(ok(b"/2 "))
            assert len(app.received) == 2

    run(main())
    assert caplog.text.count("are answered 503") == 1


def test_a_flood_of_connections_takes_bounded_room(run: Run) -> None:
    """Of those that are told that we are full, too, there are only so many."""

    async def main() -> None:
        app = App(answer_nothing)
        async with (
            serving(app, limits=Limits(connections=1)) as server,
            peer_of(server) as first,
            AsyncExitStack() as stack,
        ):
            first.send(GET % b"1")
            await app.log.until("end")
            for _ in range(100):
                await stack.enter_async_context(peer_of(server))
            while len(server.connections) > 33:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
            answer_echo(app.received[0])
            await first.expect(ok(b"/1 "))

    run(main())


CROWDED = """
import asyncio, resource, socket, sys, uvloop
from sse_recorder.http1.server import Server
from http1.wire import App

async def main():
    server = Server(App())
    await server.listen("127.0.0.1", 0)
    files = []
    ours = [socket.socket() for _ in range(10)]
    try:
        while True:
            files.append(open("/dev/null"))
    except OSError:
        pass
    for sock in ours[:5]:  # each end of a connection takes a file; one end is there
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.address)
    await asyncio.sleep(0.3)
    used = asyncio.get_running_loop().time(), resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.sleep(0.5)
    busy = resource.getrusage(resource.RUSAGE_SELF).ru_utime - used[1].ru_utime
    assert busy < 0.25, f"accepting is a busy loop: {busy} s"
    for file in files:
        file.close()
    for sock in ours:
        sock.close()
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    async with asyncio.timeout(10):
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\\r\\n"
    writer.close()
    await server.close(grace_s=0)

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else None
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_process_without_files_left_serves_again_when_it_has_some(loop: str) -> None:
    """Running out is neither the end of the server nor a busy loop."""
    done = subprocess.run(
        [sys.executable, "-c", CROWDED, loop],
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if loop == "uvloop":  # asyncio itself reports it, once a second
        assert done.stderr == ""


def test_there_is_room_for_as_many_connections_as_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit that the process cannot hold is lowered to what it can."""
    assert Server(App(), limits=Limits(connections=50)).room == 50
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert Server(App()).room == 1024 - 96
    assert Server(App(), files_each=2).room == (1024 - 96) // 2
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert Server(App()).room == Limits().connections
