"""`record URL`: one request, as curl would send it."""

from __future__ import annotations

import gzip
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli.commands import recorded
from cli.held import FIRST, LAST, held_upstream
from support import PATIENCE_S, PROGRAM, command, environment, run_command

from sse_recorder import __version__
from sse_recorder.exchange import Outcome
from sse_recorder.store.store import Store

ANSWER = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nhi"


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, Future[bytes]]]:
    """Answer one request; gives the URL, and the request in time."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.settimeout(PATIENCE_S)

        def serve() -> bytes:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as reader:
                connection.settimeout(PATIENCE_S)
                lines = list(iter(reader.readline, b"\r\n"))
                lengths = [x for x in lines if x.lower().startswith(b"content-length")]
                length = int(lengths[0].partition(b":")[2]) if lengths else 0
                body = reader.read(length)
                if b"Transfer-Encoding: chunked\r\n" in lines:
                    body = b"".join(iter(reader.readline, b"0\r\n"))
                connection.sendall(answer)
                return b"".join(lines) + b"\r\n" + body

        yield f"http://127.0.0.1:{listener.getsockname()[1]}", pool.submit(serve)


def asked(folder: Path, path: str, *options: str) -> tuple[list[str], bytes]:
    """Send a request; return the lines of its head, but for its host, and its body."""
    with answering(ANSWER % b"200 OK") as (url, request):
        done = run_command("record", url + path, *options, cwd=folder)
        assert (done.returncode, done.stdout) == (0, "hi")
        head, _, body = request.result(PATIENCE_S).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    lines.remove(f"Host: {url.removeprefix('http://')}")
    return lines, body


def test_a_request_is_as_curl_would_send_it(tmp_path: Path) -> None:
    """Nothing in it tells of a proxy, or of who wrote it."""
    lines, body = asked(tmp_path, "/a%2Fb//c?q=1&q=%C3%A9#part")
    assert lines == [
        "GET /a%2Fb//c?q=1&q=%C3%A9 HTTP/1.1",
        f"User-Agent: sse-recorder/{__version__}",
        "Accept: */*",
    ]
    assert body == b""
    ((exchange, answer),) = recorded(tmp_path / "recordings")
    assert (exchange.outcome, exchange.status, answer) == ("complete", 200, b"hi")


def test_headers_are_added_replaced_taken_away_and_emptied(tmp_path: Path) -> None:
    """With the case, the order and the duplicates of the command line."""
    options = ("X-b: 1", "x-A:2", "X-b: 3", "USER-AGENT: me", "Accept:", "X-Empty;")
    given = [part for option in options for part in ("-H", option)]
    lines, _ = asked(tmp_path, "/", *given)
    assert lines[1:] == ["X-b: 1", "x-A: 2", "X-b: 3", "USER-AGENT: me", "X-Empty: "]


def test_data_is_posted_as_a_form(tmp_path: Path) -> None:
    """Several are joined; line ends of a file are left out, as curl does."""
    (tmp_path / "file").write_bytes(b"b=2\r\n&c\n")
    lines, body = asked(tmp_path, "/", "-d", "a=\u00e9", "-d", "@file")
    assert lines[0] == "POST / HTTP/1.1"
    assert "Content-Type: application/x-www-form-urlencoded" in lines
    assert body == b"a=\xc3\xa9&b=2&c"


def test_json_is_posted_as_it_is(tmp_path: Path) -> None:
    """From a file with every byte of it; another method and type may be named."""
    (tmp_path / "file").write_bytes(b'{"a":\n 1}\n')
    options = ("--json", "@file", "-X", "PUT", "-H", "content-type: text/x")
    lines, body = asked(tmp_path, "/", *options)
    assert lines[0] == "PUT / HTTP/1.1"
    assert "Accept: application/json" in lines
    assert [x for x in lines if x.lower().startswith("content-type")] == [
        "content-type: text/x"
    ]
    assert body == b'{"a":\n 1}\n'


def test_a_form_may_have_files(tmp_path: Path) -> None:
    """Each with its name and its type, which may be given."""
    (tmp_path / "notes.txt").write_bytes(b"one\r\ntwo")
    fields = ("-F", "a=1", "-F", "b=@notes.txt", "-F", "c=<x>;type=text/xml")
    lines, body = asked(tmp_path, "/", *fields)
    (kind,) = (x for x in lines if x.lower().startswith("content-type: multipart/"))
    boundary = kind.partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[1] == b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    assert b'filename="notes.txt"\r\nContent-Type: text/plain\r\n' in parts[2]
    assert parts[2].endswith(b"\r\n\r\none\r\ntwo\r\n")
    assert b"Content-Type: text/xml\r\n\r\n<x>\r\n" in parts[3]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-X", "DELETE"),
        ("-d", "a=1", "-d", "b"),
        ("--json", '{"a": 1}'),
        ("-H", "X-A: b", "-H", "Accept:", "-H", "X-E;"),
    ],
)
def test_curl_sends_the_same(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The headers that both send are the same, but for the name of who sends them."""

    def plain(request: bytes) -> tuple[str, set[tuple[str, str]], bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = [x.split(":", 1) for x in lines]
        known = {(name.lower(), value.strip()) for name, value in pairs}
        return first, {x for x in known if x[0] not in {"user-agent", "host"}}, body

    with answering(ANSWER % b"200 OK") as (url, request):
        run_command("record", f"{url}/x?y", *options, cwd=tmp_path)
        ours = plain(request.result(PATIENCE_S))
    with answering(ANSWER % b"200 OK") as (url, request):
        subprocess.run(
            ["curl", "-qs", "--noproxy", "*", f"{url}/x?y", *options],
            env=environment(),
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        theirs = plain(request.result(PATIENCE_S))
    assert ours == theirs


def test_the_body_is_shown_as_it_comes(tmp_path: Path) -> None:
    """The first event is there before the upstream sends the last one."""
    with (
        held_upstream() as held,
        command("record", f"{held.url}/chat", "--tag", "a=b", cwd=tmp_path) as run,
    ):
        run.stdout.until("data: first")
        held.release.set()
        assert run.wait() == 0
    assert run.stdout.text.encode() == FIRST + LAST
    ((exchange, body),) = recorded(tmp_path / "recordings")
    eid = exchange.exchange_id
    assert run.stderr.text == (
        f"Recorded {eid} into recordings; `sse-recorder show {eid[-8:]}` shows it.\n"
    )
    assert (exchange.tags, body) == ({"a": "b"}, FIRST + LAST)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_has_seen_enough_keeps_what_came(
    tmp_path: Path, number: signal.Signals
) -> None:
    """It ends in order, and the recording says who left."""
    with (
        held_upstream() as held,
        command("record", f"{held.url}/chat", cwd=tmp_path) as run,
    ):
        run.stdout.until("data: first")
        assert run.stop(number) == 0
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert (exchange.outcome, body) == (Outcome.CLIENT_ABORT, FIRST)
    assert len(run.stderr.lines) == 1


@pytest.mark.parametrize(
    ("status", "options", "code"),
    [
        (b"404 Not Found", (), 0),
        (b"404 Not Found", ("--fail",), 1),
        (b"502 Bad Gateway", (), 0),
        (b"502 Bad Gateway", ("--fail",), 1),
        (b"302 Found", ("--fail",), 0),
    ],
)
def test_a_status_is_an_error_when_that_is_asked_for(
    tmp_path: Path, status: bytes, options: tuple[str, ...], code: int
) -> None:
    """The body is shown all the same; also that of a 502 that is not ours."""
    with answering(ANSWER % status) as (url, _):
        done = run_command("record", url, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "hi")


def test_an_upstream_that_is_not_there_is_told(tmp_path: Path) -> None:
    """In one line, with exit code 3; the attempt is recorded."""
    done = run_command("record", "http://127.0.0.1:1/x", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "Cannot connect to http://127.0.0.1:1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    ((exchange, _),) = recorded(tmp_path / "recordings")
    assert exchange.outcome is Outcome.UPSTREAM_ERROR


def test_an_answer_that_breaks_off_is_told(tmp_path: Path) -> None:
    """What came is shown and recorded, and the exit code says that it is not all."""
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi") as (url, _):
        done = run_command("record", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "hi")
    assert "the answer broke off" in done.stderr
    ((exchange, body),) = recorded(tmp_path / "recordings")
    assert (exchange.outcome, body) == (Outcome.UPSTREAM_ABORT, b"hi")


def test_standard_input_can_be_the_body(tmp_path: Path) -> None:
    """`… | sse-recorder record URL --json @-`."""
    with answering(ANSWER % b"200 OK") as (url, request):
        subprocess.run(
            [*PROGRAM, "record", url, "--json", "@-"],
            cwd=tmp_path,
            env=environment(),
            input=b'{"a":\n1}\n',
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )
        assert request.result(PATIENCE_S).endswith(b'\r\n\r\n{"a":\n1}\n')


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-d", "a", "--json", "b"), "a request has one body"),
        (("-H", "no colon"), "'no colon' is not a header"),
        (("-H", ": x"), "': x' is not a header"),
        (("-H", "Bad Name: x"), "'Bad Name: x' is not a header"),
        (("-H", "X: a\x01b"), "is not a header"),
        (("-H", "Host: x"), "put the host that you mean into the URL"),
        (("-H", "Content-Length: 5", "-d", "abc"), "the body has 3 bytes: leave"),
        (("-H", "Content-Length:", "-d", "abc"), "the body has 3 bytes: leave"),
        (("-H", "Content-Length: 5"), "the body has 0 bytes: leave"),
        (("-H", "Transfer-Encoding: gzip", "-d", "abc"), "can only be chunked"),
        (("-d", "@none"), "none: No such file or directory; name a file"),
        (("-d", "@."), ".: Is a directory; name a file"),
        (("-d", "@"), "@ names no file: give @FILE, or @- for stdin"),
        (("-F", "a"), "'a' is not a field: give name=value"),
        (("-X", "GET /x"), "'GET /x' is not a method: give one such as POST"),
        (("-X", ""), "'' is not a method"),
        (("-X", "CONNECT"), "CONNECT asks for a tunnel"),
        (("--grace", "3"), "--grace is for a proxy: leave it away"),
        (("--on-client-abort", "finish"), "--on-client-abort is for a proxy"),
        (("--idle-timeout", "3"), "--idle-timeout is for a proxy"),
    ],
)
def test_options_that_cannot_be_read_are_refused(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    """In one line, with what to write instead, before anything is made or sent."""
    done = run_command("record", "http://127.0.0.1:1/", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://[::1", "is not a URL (Invalid IPv6 URL): give one such as"),
        ("http://", "names no host"),
        ("http://h:x/", "is not a URL"),
        ("http://u:p@h/", "in an Authorization header instead"),
        ("http://h/a\nb", "is not a URL"),
        ("ftp://h/", "http:// or https:// in front of a host"),
        ("python", "put -- in front of a command"),
    ],
)
def test_what_is_no_url_is_refused(tmp_path: Path, url: str, says: str) -> None:
    """In one line that says what would be one."""
    done = run_command("record", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_scheme_may_be_in_upper_case(tmp_path: Path) -> None:
    """It means the same (RFC 3986 section 3.1)."""
    with answering(ANSWER % b"200 OK") as (url, _):
        done = run_command("record", url.replace("http", "HTTP"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "hi")


def test_a_body_can_be_sent_in_chunks(tmp_path: Path) -> None:
    """As curl sends one with that header: with no Content-Length beside it."""
    options = ("-H", "Transfer-Encoding: chunked", "-d", "abc")
    lines, body = asked(tmp_path, "/", *options)
    assert body == b"3\r\nabc\r\n"
    assert not [x for x in lines if x.lower().startswith("content-length")]
    with Store.open(tmp_path / "recordings") as store:
        assert [x.request_body for x in store.exchanges()] == [b"abc"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-X", "BREW"), "The method BREW is not supported"),
        (("-H", "Connection: Upgrade", "-H", "Upgrade: websocket"), "Upgrade are not"),
        (("--max-headers", "2"), "The headers are more than 2"),
    ],
)
def test_a_refusal_of_ours_is_not_an_answer_of_the_api(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    """Nothing was asked and nothing is shown or recorded: it is a matter of usage."""
    done = run_command("record", "http://127.0.0.1:1/", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not recorded(tmp_path / "recordings")


def test_a_head_that_has_no_answer_is_told(tmp_path: Path) -> None:
    """Although what says so may have no body."""
    done = run_command("record", "http://127.0.0.1:1/", "-X", "HEAD", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "There is no answer; the recording tells why." in done.stderr


def test_a_redirect_is_shown_as_any_answer(tmp_path: Path) -> None:
    """It is not followed, so it does not matter where it would lead."""
    answer = (
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 2\r\n\r\nhi"
    )
    with answering(answer) as (url, _):
        done = run_command("record", url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "hi")


def test_the_body_of_an_apis_502_is_as_it_was_on_the_wire(tmp_path: Path) -> None:
    """A coded one is not decoded, as that of no other status is."""
    body = gzip.compress(b"down for a while")
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Encoding: gzip\r\nContent-Length: %d"
    with answering(head % len(body) + b"\r\n\r\n" + body) as (url, _):
        done = subprocess.run(
            [*PROGRAM, "record", url],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=True,
        )
    assert done.stdout == body


def test_the_body_of_an_apis_502_is_shown_as_it_comes(tmp_path: Path) -> None:
    """It may be a stream, as any other."""
    with (
        held_upstream(b"502 Bad Gateway") as held,
        command("record", held.url, cwd=tmp_path) as run,
    ):
        run.stdout.until("data: first")
        held.release.set()
        assert run.wait() == 0
    assert run.stdout.text.encode() == FIRST + LAST
