"""`record URL`: one request, sent as curl would send it, through a recorder of our own.

The recorder listens on a loopback port while the request lasts, and httpx asks it for
what the user asked for.  It sends on what it was given, so what httpx adds of its own
(`Accept-Encoding`, `Connection`) is not there, and nothing in the request tells of us.

The body goes to stdout as it comes, in the pieces in which it comes, as it was on the
wire.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from sse_recorder import __version__
from sse_recorder.background import running
from sse_recorder.errors import SSERecorderError, UpstreamError, UsageError
from sse_recorder.exchange import Outcome
from sse_recorder.http1.client import Origin
from sse_recorder.proxy import Recorder

if TYPE_CHECKING:
    import httpx

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_CODING: Final = "transfer-encoding"
_LENGTH: Final = "content-length"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OUR_FAULT: Final = frozenset(
    {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE}
)
"""The statuses of refusals that another request would get as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, as the options say it."""

    url: str
    method: str | None = None
    headers: tuple[str, ...] = ()
    """`Name: value`; `Name:` takes one of ours away, `Name;` has no value."""
    data: tuple[str, ...] = ()
    """Text, `@FILE` or `@-`."""
    json: tuple[str, ...] = ()
    """The same, as JSON."""
    form: tuple[str, ...] = ()
    """`name=value`, `name=@FILE`, and `;type=` behind either."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.data, self.json, self.form))) > 1:
            raise UsageError("give one of -d, --json and -F: a request has one body")
        if self.method is not None and not _TOKEN.fullmatch(self.method):
            raise UsageError(f"{self.method!r} is not a method: give one such as POST")
        if self.method == "CONNECT":
            raise UsageError("CONNECT asks for a tunnel, which cannot be recorded")
        Origin.from_url(self.url)  # says what is wrong with it

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def build(self) -> httpx.Request:
        """Return the request, as the server is to get it.

        Raises:
            UsageError: an option cannot be read, or names a file that cannot be.
        """
        import httpx  # noqa: PLC0415 - costs every other command 150 ms

        body, own = self._body()
        method = self.method or ("POST" if body else "GET")
        try:
            url = httpx.URL(self.url).copy_with(fragment=None)
            request = httpx.Request(method, url, **body)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise UsageError(f"{self.url!r} is not a URL ({error}): mend it") from error
        lines = [
            ("Host", urlsplit(self.url).netloc),
            ("User-Agent", f"sse-recorder/{__version__}"),
            ("Accept", "*/*"),
            *own.items(),
            # Of the framing, and of the boundary that it chose.
            *((k, v) for k, v in request.headers.items() if k != "host"),
        ]
        headers = list(_with(lines, self.headers))
        _check_framing(headers, int(request.headers.get(_LENGTH, 0)))
        request.headers = httpx.Headers([(_wire(k), _wire(v)) for k, v in headers])
        return request

    def _body(self) -> tuple[dict[str, Any], Mapping[str, str]]:
        """Return the body, as httpx takes it, and the headers that belong to it."""
        if self.data:
            text = b"&".join(_content(x, one_line=True) for x in self.data)
            return {"content": text}, {"Content-Type": _FORM}
        if self.json:
            text = b"".join(_content(x) for x in self.json)
            return {"content": text}, {"Content-Type": _JSON, "Accept": _JSON}
        if self.form:
            return {"files": [_field(x) for x in self.form]}, {}
        return {}, {}


def fetch(request: httpx.Request, recorder: Recorder, output: IO[bytes]) -> int:
    """Send one request through a recorder that is not running, and show its answer.

    Args:
        request: what is asked for.
        recorder: of the origin that is asked.
        output: where the body goes, as it comes.

    Returns:
        The status of the answer.

    Raises:
        UsageError: the recorder does not let the request pass.
        UpstreamError: there is no answer, or not all of it.
        KeyboardInterrupt: the user had enough; what came is recorded.
    """
    import httpx  # noqa: PLC0415 - costs every other command 150 ms

    asked = request.url
    with ExitStack() as stack:
        service = stack.enter_context(running(_Settling(recorder)))
        here = httpx.URL(service.url)
        request.url = asked.copy_with(scheme="http", host=here.host, port=here.port)
        # Not a client, which would look at redirects, cookies and proxies.
        transport = stack.enter_context(httpx.HTTPTransport(trust_env=False))
        try:
            answer = transport.handle_request(request)
            stack.callback(answer.close)
            service.settle()
            if not recorder.count or recorder.ended[Outcome.UPSTREAM_ERROR]:
                raise _own_error(answer, is_refusal=not recorder.count)
            for data in answer.iter_raw():
                output.write(data)
                output.flush()
        except httpx.LocalProtocolError as error:
            raise UsageError(
                f"{asked}: the request cannot be sent ({error}); mend its options"
            ) from error
        except httpx.HTTPError as error:
            raise UpstreamError(
                f"{asked}: the answer broke off ({error}); what came is recorded, ask"
                " again for the rest"
            ) from error
    return answer.status_code


class _Settling:
    """A recorder that can be waited for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._loop: asyncio.AbstractEventLoop
        self.stop = recorder.stop

    @property
    def url(self) -> str:
        return self._recorder.url

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._recorder.start()

    def settle(self) -> None:
        """Wait until it has counted what it has sent.

        It does both within one turn of its loop, and we are in another thread.
        """
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()


def _own_error(answer: httpx.Response, *, is_refusal: bool) -> SSERecorderError:
    """Return what an answer says that is the recorder's, and not the API's."""
    body = answer.read()  # an answer to HEAD has none
    message = json.loads(body)["error"]["message"] if body else ""
    if not is_refusal:
        return UpstreamError(message or "There is no answer; the recording tells why.")
    if answer.status_code in _OUR_FAULT:
        return SSERecorderError(message or "The recorder failed; its log tells why.")
    return UsageError(message or "The recorder refused the request; mend its options.")


def is_error(status: int) -> bool:
    """Tell whether `--fail` takes a status for a failure."""
    return status >= HTTPStatus.BAD_REQUEST


def _with(
    lines: Iterable[tuple[str, str]], given: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Give headers, those of the user in place of ours."""
    chosen: list[tuple[str, str]] = []
    taken: set[str] = set()
    for line in given:
        name, colon, value = line.partition(":")
        if not colon and line.endswith(";"):
            chosen.append((line[:-1].strip(), ""))
        elif not colon or not _TOKEN.fullmatch(name.strip()) or _CONTROL.search(value):
            raise UsageError(f"{line!r} is not a header: give one as 'Name: value'")
        elif value.strip():
            chosen.append((name.strip(), value.strip()))
        taken.add(name.rstrip(";").strip().lower())
    if "host" in taken:
        raise UsageError("Host is the URL's: put the host that you mean into the URL")
    if any(name.lower() == _CODING for name, _ in chosen):
        taken.add(_LENGTH)  # a body is framed in one way
    ours = {name.lower(): (name, value) for name, value in lines}
    yield from (pair for name, pair in ours.items() if name not in taken)
    yield from chosen


def _check_framing(headers: Iterable[tuple[str, str]], size: int) -> None:
    """Refuse what the recorder, as any careful server, would not let pass."""
    pairs = [(name.lower(), value) for name, value in headers]
    codings = [value.lower() for name, value in pairs if name == _CODING]
    lengths = [value for name, value in pairs if name == _LENGTH]
    if codings and (codings != ["chunked"] or lengths):
        raise UsageError(
            "Transfer-Encoding can only be chunked, and without a Content-Length: mend"
            " the headers"
        )
    if not codings and (lengths or size) and lengths != [str(size)]:
        raise UsageError(
            f"the body has {size} bytes: leave Content-Length away, it is set by that"
        )


def _wire(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _content(value: str, *, one_line: bool = False) -> bytes:
    """Read what an option gives as text, as `@FILE` or, with `@-`, on stdin."""
    if not value.startswith("@"):
        return _wire(value)
    data = sys.stdin.buffer.read() if value == "@-" else _read(value[1:])
    # What curl leaves out of the files of -d.
    return data.translate(None, b"\r\n\0") if one_line else data


def _read(name: str) -> bytes:
    if not name:
        raise UsageError("@ names no file: give @FILE, or @- for stdin")
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}; name a file to send") from error


def _field(text: str) -> tuple[str, tuple[str | None, bytes, str | None]]:
    """Read one field of a form, as httpx takes it."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} is not a field: give name=value or name=@FILE")
    value, _, kind = value.partition(";type=")
    if not value.startswith("@"):
        return name, (None, _wire(value), kind or None)
    data = sys.stdin.buffer.read() if value == "@-" else _read(value[1:])
    return name, (Path(value[1:]).name, data, kind or None)
