"""What curl leaves, by the real curl of a server on loopback."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from hypothesis import assume, given
from hypothesis import strategies as st
from imports.reading import (
    BODY,
    FILES,
    FRAMES,
    body,
    chunks,
    ending,
    head,
    only,
    opening,
    read,
    sent,
)
from samples import MS

from sse_recorder.errors import StoreError, UsageError
from sse_recorder.exchange import Chunk, Outcome, Record, header
from sse_recorder.imports import curl

URL = "https://h/chat"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
# What a dump in lines of 16 or 64 bytes may trip over.
NASTY = (
    bytes(range(256)) * 3,
    b"".join(b"x" * n + b"\r\n" for n in range(60, 70)),
    b"\r\n" * 40 + b"\r\r\n\n.",
    b"0010: 47 45\n== Info: x\n<= Recv data, 5 bytes (0x5)\n",
)


def chunked(*pieces: bytes) -> list[bytes]:
    """Return a chunked answer, in what is sent at a time."""
    framed = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *framed, b"0\r\n\r\n"]


@contextmanager
def serving(
    *answers: Sequence[bytes], reset: bool = False, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Answer connections one after another with these bytes, whatever they send."""

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                got = b""
                while not got.endswith((b"\r\n\r\n", b"body", b"0\r\n\r\n")):
                    got += connection.recv(1 << 16)
                for piece in answer:
                    connection.sendall(piece)
                if reset:
                    linger = b"\1\0\0\0\0\0\0\0"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/chat?x=1"
        thread.join(30)


def run_curl(folder: Path, *args: str, code: int = 0) -> Path:
    """Run curl, and return the file with its output."""
    path = folder / "output"
    with path.open("wb") as file:
        command = ["curl", "-sN", "--noproxy", "*", *args]
        done = subprocess.run(command, cwd=folder, stdout=file, timeout=30, check=False)
    assert done.returncode == code
    return path


def one(path: Path, **known: object) -> list[Record]:
    """Return the records of the one exchange of a file."""
    (found,) = read(path, **known).exchanges
    return found


# --- output ---------------------------------------------------------------------------


def test_a_plain_body_is_one_chunk(tmp_path: Path) -> None:
    """Of a request that the caller names, with a head that is told to be assumed."""
    with serving(chunked(*FRAMES)) as url:
        path = run_curl(tmp_path, url)
    found = read(path, url=URL, method="POST")
    (records,) = found.exchanges
    assert chunks(records) == [Chunk(0, BODY)]
    assert opening(records).url == URL
    assert opening(records).request.method == "POST"
    assert header(head(records).headers, "content-type") == "text/event-stream"
    assert "taken to be 200 OK" in found.notes[0]


@pytest.mark.parametrize("options", [["-i"], ["-D", "-"]])
def test_a_head_before_the_body_is_its_head(tmp_path: Path, options: list[str]) -> None:
    """Not a byte of the body is lost to it."""
    with serving(chunked(*FRAMES)) as url:
        found = one(run_curl(tmp_path, *options, url), url=url)
    assert body(found) == BODY
    assert head(found).headers == (
        ("Content-Type", "text/event-stream"),
        ("Transfer-Encoding", "chunked"),
    )


def test_of_several_heads_the_last_counts(tmp_path: Path) -> None:
    """A redirect's, and that of an informational answer."""
    moved = b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n"
    early = b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
    with serving(
        [moved + b"Connection: close\r\n\r\n"], [early, *chunked(BODY)]
    ) as url:
        found = one(run_curl(tmp_path, "-iL", url), url=url)
    assert (head(found).status, body(found)) == (200, BODY)


def test_trailers_are_behind_the_body(tmp_path: Path) -> None:
    """As curl -i prints them; what does not come of what is declared is not missed."""
    declared = HEAD + b"Trailer: X-Sum, X-Other\r\nTransfer-Encoding: chunked\r\n\r\n"
    for text in (BODY, b"data: x\r\n\r\n", b"no line end"):
        framed = b"%x\r\n%b\r\n" % (len(text), text)
        for trailer, expected in ((b"x-sum: 5\r\n", (("x-sum", "5"),)), (b"", ())):
            answer = [declared, framed, b"0\r\n" + trailer + b"\r\n"]
            with serving(answer) as url:
                found = one(run_curl(tmp_path, "-i", url), url=url)
            assert body(found) == text
            assert ending(found).trailers == expected


@pytest.mark.parametrize("options", [["-i", "--retry", "1"], ["-v", "--stderr", "-"]])
def test_heads_amid_bodies_are_refused(tmp_path: Path, options: list[str]) -> None:
    """Where a body ends only a trace knows, and the message says how to have one."""
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    with serving([busy], chunked(BODY)) as url:
        more = [] if "--retry" in options else [url]
        path = run_curl(tmp_path, *options, url, *more)
    with pytest.raises(UsageError, match="trace it with `curl --trace"):
        read(path, url=url)


def test_a_body_may_tell_of_a_head() -> None:
    """With line ends of text, or without headers, or where there is no head of it."""
    for text in (
        HEAD + b"\r\nHTTP/1.1 200 OK\nA: b\n\nis a head",
        HEAD + b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"data: x\n\n" + HEAD + b"\r\n",
    ):
        curl.read(text, curl.Known(URL))


def test_an_answer_without_a_body_keeps_its_length(tmp_path: Path) -> None:
    """That of a HEAD says what a GET would have brought."""
    with serving([HEAD + b"Content-Length: 999\r\n\r\n"] * 2) as url:
        printed = run_curl(tmp_path, "-I", url)
        found = one(printed, url=url, method="HEAD")
    assert header(head(found).headers, "content-length") == "999"


def test_what_curl_decoded_is_not_coded_any_more(tmp_path: Path) -> None:
    """And what it did not decode still is."""
    coded = gzip.compress(BODY)
    answer = [HEAD + b"Content-Encoding: gzip\r\n\r\n", coded]
    for options, expected, coding in (
        (["-i"], coded, "gzip"),
        (["-i", "--compressed"], BODY, None),
    ):
        with serving(answer) as url:
            found = one(run_curl(tmp_path, *options, url), url=url)
        assert body(found) == expected
        assert header(head(found).headers, "content-encoding") == coding


@given(st.binary())
def test_any_output_comes_back(data: bytes) -> None:
    """But for what has a head or stamps."""
    assume(not data.startswith(b"HTTP/"))
    assume(data.split() and not data.split()[0][:1].isdigit())
    assert body(only(curl.read(data, curl.Known(URL)).tapes)) == data


@pytest.mark.parametrize(
    ("name", "first_ns"),
    [
        ("stamped.txt", 124_000),
        ("stamped-epoch.txt", None),
        ("stamped-date.txt", None),
    ],
)
def test_lines_with_stamps_have_times(name: str, first_ns: int | None) -> None:
    """A frame is a chunk, at the time of its blank line; the stamps are gone."""
    found = one(FILES / name, url=URL)
    assert [chunk.data for chunk in chunks(found)] == list(FRAMES)
    times = [chunk.at_ns for chunk in chunks(found)]
    assert times == sorted(set(times))
    assert first_ns is None or times[0] == first_ns


@given(st.lists(st.tuples(st.integers(0, 10**12), st.binary()), min_size=1))
def test_any_stamped_lines_come_back(lines: list[tuple[int, bytes]]) -> None:
    """Whatever bytes are in them, at times that grow."""
    pieces = [data.replace(b"\n", b"") + b"\n" for _, data in lines]
    assume(not b"".join(pieces).startswith(b"HTTP/"))
    times = sorted(at for at, _ in lines)
    text = b"".join(
        b"%d.%06d %b" % (*divmod(at, 10**6), piece)
        for at, piece in zip(times, pieces, strict=True)
    )
    tape = only(curl.read(text, curl.Known(URL)).tapes)
    assert body(tape) == b"".join(pieces)
    assert {chunk.at_ns for chunk in chunks(tape)} <= {at * 1000 for at in times}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b"00:00:01 a\n00:00:03 b\n",
            [Chunk(1000 * MS, b"a\n"), Chunk(3000 * MS, b"b\n")],
        ),
        (
            b"Nov 23 23:59:59 a\nNov 24 00:00:01 b",
            [Chunk(0, b"a\n"), Chunk(2000 * MS, b"b")],
        ),
        (
            b"2026-11-23T10:00:00.5 a\n2026-11-23T10:00:00.75 \n",
            [Chunk(250 * MS, b"a\n\n")],
        ),
        (b"1 a\nb\nc\n", [Chunk(0, b"1 a\nb\nc\n")]),
        (
            b"1700000000.2 a\n1700000000.1 b\n1700000000.3 c\n",
            [Chunk(0, b"a\n"), Chunk(0, b"b\n"), Chunk(100 * MS, b"c\n")],
        ),
        (
            b"10:00:00.2 a\n10:00:00.1 b\n10:00:00.3 c\n",
            [
                Chunk(36_000_200 * MS, b"a\n"),
                Chunk(36_000_200 * MS, b"b\n"),
                Chunk(36_000_300 * MS, b"c\n"),
            ],
        ),
    ],
)
def test_stamps_are_those_of_ts(text: bytes, expected: list[Chunk]) -> None:
    """Each line has one, or none is one; a clock that was set back stands still."""
    assert chunks(only(curl.read(text, curl.Known(URL)).tapes)) == expected


NUMBERS = b"42 is the answer\n43 is not\n"


def test_stamps_that_are_taken_off_are_told() -> None:
    """They may be the body's own numbers, and the caller can say so."""
    found = curl.read(NUMBERS, curl.Known(URL))
    assert body(only(found.tapes)) == b"is the answer\nis not\n"
    assert "time stamps, which are taken off; say --no-stamps" in found.notes[0]
    found = curl.read(NUMBERS, curl.Known(URL, stamps=False))
    assert body(only(found.tapes)) == NUMBERS
    assert "stamps" not in found.notes[0]
    found = curl.read(NUMBERS, curl.Known(URL, stamps=True))
    assert body(only(found.tapes)) == b"is the answer\nis not\n"
    assert "stamps" not in found.notes[0]


@pytest.mark.parametrize(
    ("text", "stamps", "message"),
    [
        (b"0.1 a\n0.2 b\ncurl: (18)\n", None, "2 of 3 lines begin .* line 3 does not"),
        (b"0.1 a\n0.2\n0.3 b\n0.4\n", None, "2 of 4 lines begin .* line 2 does not"),
        (b"a\n0.1 b\n", True, "1 of 2 lines begin with a time stamp, and line 1 does"),
        (b"a\n", True, "0 of 1 lines"),
        (b"42 a\n7 b\n", None, "numbers that go back: say --stamps"),
    ],
)
def test_what_may_be_stamps_or_not_is_asked(
    text: bytes,
    stamps: bool | None,  # noqa: FBT001
    message: str,
) -> None:
    """A wrong guess would leave stamps in the body, or take bytes out of it."""
    with pytest.raises(UsageError, match=message):
        curl.read(text, curl.Known(URL, stamps=stamps))
    if stamps is None:
        found = only(curl.read(text, curl.Known(URL, stamps=False)).tapes)
        assert body(found) == text


def test_a_count_that_goes_back_stands_still() -> None:
    """Where the caller says that it is one, as of a clock that was set."""
    found = only(curl.read(b"0.2 a\n0.1 b\n", curl.Known(URL, stamps=True)).tapes)
    assert chunks(found) == [Chunk(200 * MS, b"a\n"), Chunk(200 * MS, b"b\n")]


def test_a_stamp_of_the_wall_clock_says_when_it_began() -> None:
    """To the nanosecond."""
    tape = only(curl.read(b"1795428930.123456789 data: x\n", curl.Known(URL)).tapes)
    assert opening(tape).started_at == 1795428930123456789


def test_output_alone_does_not_say_of_which_request_it_is(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "x.txt"
    path.write_bytes(BODY)
    with pytest.raises(UsageError, match="name it with --url and --method"):
        read(path)


# --- traces ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [BODY, *NASTY])
@pytest.mark.parametrize("form", ["--trace", "--trace-ascii"])
def test_any_body_comes_back_from_a_trace(
    tmp_path: Path, data: bytes, form: str
) -> None:
    """Byte for byte, in the reads that curl traced, with what was sent."""
    options = [form, "t.trace", "--trace-time", "-o", "printed", "-d", "a body"]
    with serving(chunked(data[:50], data[50:])) as url:
        run_curl(tmp_path, *options, url)
    printed = tmp_path / "printed" if form == "--trace-ascii" else None
    found = one(tmp_path / "t.trace", body=printed)
    assert body(found) == data
    assert sent(found) == b"a body"
    assert opening(found).url == url
    assert opening(found).request.method == "POST"
    assert ending(found).outcome is Outcome.COMPLETE
    times = [record.at_ns for record in found]
    assert times == sorted(times)
    assert times[-1] > 0


def test_the_reads_of_a_trace_are_its_chunks() -> None:
    """Each at its time, since the request began."""
    found = one(FILES / "curl.trace")
    assert [chunk.data for chunk in chunks(found)] == list(FRAMES)
    times = [chunk.at_ns for chunk in chunks(found)]
    assert all(b - a > 10 * MS for a, b in pairwise(times))
    assert sent(found).decode() == '{"q":"é"}'
    found = one(FILES / "curl-ascii.trace", body=FILES / "curl-ascii.body")
    assert [chunk.data for chunk in chunks(found)] == list(FRAMES)


def test_a_trace_may_have_several_requests(tmp_path: Path) -> None:
    """Each has its own answer, and one URL cannot be that of both."""
    with serving(chunked(BODY), [HEAD + b"\r\n", BODY]) as url:
        run_curl(
            tmp_path,
            "--trace",
            "t",
            "-o",
            "a",
            "-o",
            "b",
            "-H",
            "Connection: close",
            url,
            url,
        )
    found = read(tmp_path / "t").exchanges
    assert [body(records) for records in found] == [BODY, BODY]
    with pytest.raises(UsageError, match="it has 2 requests"):
        read(tmp_path / "t", url=URL)


def test_a_head_is_the_last_one_that_begins() -> None:
    """Of the one before, curl 7.88 does not trace the blank line."""
    found = one(FILES / "curl-continue.trace")
    assert head(found).status == 200
    assert head(found).headers == (
        ("Content-Type", "text/event-stream"),
        ("Date", "Thu, 26 Nov 2026 16:08:00 GMT"),
        ("Transfer-Encoding", "chunked"),
    )
    assert body(found) == BODY


def test_an_informational_head_is_no_answer() -> None:
    """What breaks behind it was never answered."""
    text = traced(
        ("=> Send header", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 103 Early Hints\r\n"),
        ("<= Recv header", b"\r\n"),
        ("== Info: ", b"Recv failure: Connection reset by peer"),
    )
    found = only(curl.read(text, curl.Known()).tapes)
    assert ending(found).outcome is Outcome.UPSTREAM_ERROR


def test_each_connection_has_its_own_scheme(tmp_path: Path) -> None:
    """A redirect may lead to TLS, and back; what is used again is as it was."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
    final = HEAD + b"Content-Length: 0\r\n\r\n"
    with (
        serving([final]) as last,
        serving([moved % last.encode()], tls=context) as safe,
        serving([moved % safe.encode()]) as first,
    ):
        options = ["-L", "--cacert", "ca.pem", "--trace", "t", "-o", "x"]
        run_curl(tmp_path, *options, first)
    found = read(tmp_path / "t").exchanges
    assert [opening(records).url for records in found] == [first, safe, last]


@pytest.mark.parametrize(
    "again",
    [
        b"Re-using existing connection #0 with host h",
        b"Re-using existing connection! (#0) with host h",
        b"Re-using existing https: connection with host h",
    ],
)
def test_a_connection_that_is_used_again_has_the_scheme_that_it_had(
    again: bytes,
) -> None:
    """In the words of curls old and new."""
    sent = ("=> Send header", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    text = traced(
        ("== Info: ", b"  Trying 127.0.0.1:443..."),
        ("== Info: ", b"Connected to h (127.0.0.1) port 443 (#0)"),
        ("== Info: ", b"SSL connection using TLSv1.3"),
        sent,
        ("== Info: ", b"  Trying 127.0.0.1:80..."),
        ("== Info: ", b"Connected to h (127.0.0.1) port 80 (#1)"),
        sent,
        ("== Info: ", again),
        sent,
    )
    tapes = curl.read(text, curl.Known()).tapes
    schemes = [tape.url.partition(":")[0] for tape in tapes]
    assert schemes == ["https", "http", "https"]


def test_an_exchange_ends_when_it_ended(tmp_path: Path) -> None:
    """And not when the next one begins: curl waits before it tries again."""
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    options = ["--retry", "1", "--trace", "t", "--trace-time", "-o", "x"]
    with serving([busy], chunked(BODY)) as url:
        run_curl(tmp_path, *options, url)
    first, second = read(tmp_path / "t").exchanges
    assert first[-1].at_ns < 500 * MS
    assert opening(second).started_at - opening(first).started_at >= 0
    assert [ending(found).outcome for found in (first, second)] == ["complete"] * 2


def test_what_befalls_the_next_connection_is_not_of_this_exchange() -> None:
    """An answer that ended with its connection is whole."""
    text = traced(
        ("=> Send header", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("<= Recv data", b"x"),
        ("== Info: ", b"Closing connection 0"),
        ("== Info: ", b"connect to 127.0.0.1 port 9 failed: Connection timed out"),
    )
    assert ending(only(curl.read(text, curl.Known()).tapes)).outcome == "complete"


def test_a_head_without_a_body_is_whole(tmp_path: Path) -> None:
    """And says the length that it said: of a HEAD, and of a 304."""
    not_modified = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"
    for options, answer in (
        (["-I"], HEAD + b"Content-Length: 999\r\n\r\n"),
        ([], not_modified),
    ):
        with serving([answer]) as url:
            run_curl(tmp_path, *options, "--trace", "t", "-o", "x", url)
        found = one(tmp_path / "t")
        assert header(head(found).headers, "content-length") == "999"
        assert ending(found).outcome is Outcome.COMPLETE


@pytest.mark.parametrize(
    "reason",
    [
        b"HTTP/2 stream 1 was not closed cleanly: INTERNAL_ERROR (err 2)",
        b"OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 0",
        b"SSL routines:ssl3_read_n:unexpected eof while reading",
        b"nghttp2 recv error PROTOCOL_ERROR",
    ],
)
def test_every_way_to_break_is_one(reason: bytes) -> None:
    """Also where the connection is said to be left intact."""
    text = traced(
        ("=> Send header", b"GET /a HTTP/2\r\nHost: h\r\n\r\n"),
        ("<= Recv header", b"HTTP/2 200 \r\n\r\n"),
        ("<= Recv data", b"x"),
        ("== Info: ", reason),
        ("== Info: ", b"Connection #0 to host h left intact"),
    )
    found = ending(only(curl.read(text, curl.Known()).tapes))
    assert found.outcome is Outcome.UPSTREAM_ABORT
    assert found.error == f"eof: {reason.decode()}"


def test_a_clock_that_is_set_back_loses_no_day() -> None:
    """A step of the wall clock is none to the next day."""
    text = traced(
        ("=> Send header", b"GET http://h/a HTTP/1.1\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("<= Recv data", b"x"),
        ("== Info: ", b"Closing connection 0"),
    ).replace(b"23:59:59.2", b"23:59:58.2")
    found = only(curl.read(text, curl.Known()).tapes)
    assert chunks(found) == [Chunk(100 * MS, b"x")]
    assert found[-1].at_ns == 300 * MS


def test_a_request_that_was_sent_in_chunks_is_whole(tmp_path: Path) -> None:
    """Without their framing."""
    options = ["-H", "Transfer-Encoding: chunked", "-d", "hello", "--trace", "t"]
    with serving(chunked(BODY)) as url:
        run_curl(tmp_path, *options, "-o", "x", url)
    assert sent(one(tmp_path / "t")) == b"hello"


def test_trailers_are_trailers(tmp_path: Path) -> None:
    """As curl shows them, behind the body."""
    *answer, _ = chunked(BODY)
    with serving([*answer, b"0\r\nX-Sum: 5\r\n\r\n"]) as url:
        run_curl(tmp_path, "--trace", "t", "-o", "x", url)
    found = one(tmp_path / "t")
    assert body(found) == BODY
    assert ending(found).trailers == (("X-Sum", "5"),)


@pytest.mark.parametrize(
    ("framing", "reset", "code", "outcome", "error"),
    [
        (
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
            False,
            18,
            "upstream_abort",
            "eof: ",
        ),
        (b"Content-Length: 9\r\n\r\nab", False, 18, "upstream_abort", "eof: "),
        (b"Content-Length: 9\r\n\r\nab", True, 56, "upstream_abort", "reset: "),
        (b"Content-Length: 2\r\n\r\nab", False, 0, "complete", None),
        (b"\r\nab", False, 0, "complete", None),
    ],
)
def test_what_broke_is_imported_as_it_broke(
    tmp_path: Path,
    framing: bytes,
    reset: bool,  # noqa: FBT001
    code: int,
    outcome: str,
    error: str | None,
) -> None:
    """By its framing, and by what curl says."""
    with serving([HEAD + framing], reset=reset) as url:
        run_curl(tmp_path, "--trace", "t", "-o", "x", url, code=code)
    found = one(tmp_path / "t")
    assert body(found) == b"ab"
    assert ending(found).outcome == outcome
    assert (ending(found).error or "").startswith(error or "")


def test_an_answer_that_never_came_is_an_error(tmp_path: Path) -> None:
    """Not an empty answer."""
    with serving([]) as url:
        run_curl(tmp_path, "--trace", "t", url, code=52)
    found = one(tmp_path / "t")
    assert ending(found).outcome is Outcome.UPSTREAM_ERROR
    assert "Empty reply" in (ending(found).error or "")


def test_a_trace_that_stops_was_left_by_its_client() -> None:
    """As after Ctrl-C, or a timeout of curl's own."""
    text = (FILES / "curl.trace").read_bytes()
    cut = text[: text.rindex(b"<= Recv data") - 16]
    found = only(curl.read(cut, curl.Known()).tapes)
    assert body(found) == BODY
    assert ending(found).outcome is Outcome.CLIENT_ABORT
    late = cut + b"10:00:00.0 == Info: Operation timed out after 5 milliseconds\n"
    found = only(curl.read(late, curl.Known()).tapes)
    assert ending(found).error == "Operation timed out after 5 milliseconds"


def traced(*parts: tuple[str, bytes]) -> bytes:
    """Return a trace, a tenth of a second between its parts, as curl 8 writes it."""
    text = ""
    for number, (kind, data) in enumerate(parts):
        text += f"23:59:59.{number}00000 [0-0] {kind}"
        if kind.startswith("=="):
            text += f"{data.decode()}\n"
            continue
        text += f", {len(data)} bytes (0x{len(data):x})\n"
        for start in range(0, len(data), 16):
            line = data[start : start + 16]
            text += f"{start:04x}: {line.hex(' '):<47} {'?' * len(line)}\n"
    return text.encode()


def test_newer_forms_of_a_trace_are_read() -> None:
    """With ids, without the framing of chunks, over TLS, and through a proxy."""
    text = traced(
        ("=> Send header", b"CONNECT h:8 HTTP/1.1\r\nHost: h:8\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 200 Established\r\n\r\n"),
        ("=> Send SSL data", b"\0"),
        ("=> Send header", b"GET /a HTTP/2\r\nHost: h:8\r\n\r\n"),
        ("<= Recv header", b"HTTP/2 200 \r\n"),
        ("<= Recv header", b"transfer-encoding: chunked\r\n\r\n"),
        ("<= Recv data", b"not chunked"),
        ("<= Recv header", b"x-sum: 5\r\n"),
        ("== Info: ", b"Connection #0 to host h left intact"),
    )
    found = only(curl.read(text, curl.Known()).tapes)
    assert opening(found).url == "https://h:8/a"
    assert (head(found).http_version, head(found).reason) == ("2", "")
    assert chunks(found) == [Chunk(300 * MS, b"not chunked")]
    assert ending(found).trailers == (("x-sum", "5"),)
    assert ending(found).outcome is Outcome.COMPLETE


@pytest.mark.parametrize("data", [b"no\n", b"2\r\nabc\r\n", b"-5\r\n", b"ab"])
def test_what_is_not_framed_as_chunks_is_left_as_it_is(data: bytes) -> None:
    """Newer curls trace a chunked body without its framing."""
    text = traced(
        ("=> Send header", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("<= Recv data", data),
        ("== Info: ", b"Closing connection"),
    )
    assert body(only(curl.read(text, curl.Known()).tapes)) == data


def test_a_trace_may_cross_midnight_and_name_its_url_in_full() -> None:
    """Time goes on, and what was sent to a proxy has the URL on its request line."""
    text = traced(
        ("=> Send header", b"GET http://h/a HTTP/1.1\r\n\r\n"),
        ("<= Recv header", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("<= Recv data", b"x"),
        ("== Info: ", b"Closing connection 0"),
    ).replace(b"23:59:59.2", b"00:00:00.2")
    found = only(curl.read(text, curl.Known()).tapes)
    assert opening(found).url == "http://h/a"
    assert chunks(found) == [Chunk(1200 * MS, b"x")]


def test_of_a_trace_without_bytes_one_answer_is_read() -> None:
    """Which of the bytes that curl printed are whose is not known."""
    text = (FILES / "curl-ascii.trace").read_bytes()
    with pytest.raises(UsageError, match="it has 2 answers"):
        curl.read(text * 2, curl.Known(body=BODY))
    dotted = text.replace(b"0000: q=1", b"0000: q.1")
    found = curl.read(dotted, curl.Known(body=BODY))
    assert "a dot in what was sent may be any byte" in found.notes[0]


def test_a_trace_that_was_altered_is_told(tmp_path: Path) -> None:
    """Bytes that are missing, a body of another run, and none at all."""
    trace = FILES / "curl-ascii.trace"
    with pytest.raises(UsageError, match="name what curl printed"):
        read(trace)
    with pytest.raises(StoreError, match="--body is not what it traces"):
        read(trace, body=FILES / "curl.trace")
    path = tmp_path / "t.trace"
    path.write_bytes((FILES / "curl.trace").read_bytes().replace(b"0010: ", b"x"))
    with pytest.raises(StoreError, match="let curl write the body elsewhere"):
        read(path)
