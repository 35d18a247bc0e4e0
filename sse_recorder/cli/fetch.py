"""`record URL`: one request, sent as curl would send it, through a recorder of our own.

The recorder listens on a loopback port while the request lasts, and httpx asks it for
what the user asked for.  It sends on what it was given, so what httpx adds of its own
(`Accept-Encoding`, `Connection`) is not there, and nothing in the request tells of us.

The body goes to stdout as it comes, in the pieces in which it comes, as it was on the
wire.
"""

from __future__ import annotations

import json
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
from sse_recorder.errors import UpstreamError, UsageError
from sse_recorder.exchange import Outcome
from sse_recorder.proxy import Recorder

if TYPE_CHECKING:
    import httpx

_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"


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

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def build(self, base_url: str) -> httpx.Request:
        """Return the request, as it is sent to a recorder.

        Raises:
            UsageError: an option cannot be read, or names a file that cannot be.
        """
        import httpx  # noqa: PLC0415 - costs every other command 150 ms

        base = httpx.URL(base_url)
        url = httpx.URL(self.url).copy_with(
            scheme=base.scheme, host=base.host, port=base.port, fragment=None
        )
        body, own = self._body()
        method = self.method or ("POST" if body else "GET")
        request = httpx.Request(method, url, **body)
        lines = [
            ("Host", urlsplit(self.url).netloc),
            ("User-Agent", f"sse-recorder/{__version__}"),
            ("Accept", "*/*"),
            *own.items(),
            # Of the framing, and of the boundary that it chose.
            *((k, v) for k, v in request.headers.items() if k != "host"),
        ]
        request.headers = httpx.Headers(
            [(_wire(name), _wire(value)) for name, value in _with(lines, self.headers)]
        )
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


def fetch(request: Request, recorder: Recorder, output: IO[bytes]) -> int:
    """Send one request through a recorder that is not running, and show its answer.

    Args:
        request: what is asked for.
        recorder: of the origin that is asked.
        output: where the body goes, as it comes.

    Returns:
        The status of the answer.

    Raises:
        UpstreamError: there is no answer, or not all of it.
        KeyboardInterrupt: the user had enough; what came is recorded.
    """
    import httpx  # noqa: PLC0415 - costs every other command 150 ms

    with ExitStack() as stack:
        stack.enter_context(running(recorder))
        # A proxy that the environment names has no way back to this machine.
        transport = stack.enter_context(httpx.HTTPTransport(trust_env=False))
        client = stack.enter_context(
            httpx.Client(transport=transport, timeout=None)  # noqa: S113 - a stream may be silent for as long as it likes
        )
        try:
            answer = client.send(request.build(recorder.url), stream=True)
            stack.callback(answer.close)
            # It may be the recorder's, and that is known when the exchange is over.
            held = answer.status_code == HTTPStatus.BAD_GATEWAY and answer.read()
            for data in () if held else answer.iter_raw():
                output.write(data)
                output.flush()
        except httpx.HTTPError as error:
            raise UpstreamError(
                f"{request.url}: the answer broke off ({error}); what came is recorded"
            ) from error
    if held and recorder.ended[Outcome.UPSTREAM_ERROR]:
        raise UpstreamError(json.loads(held)["error"]["message"])
    if held:
        output.write(held)
    return answer.status_code


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
        elif not colon or not name.strip():
            raise UsageError(f"{line!r} is not a header: give one as 'Name: value'")
        elif value.strip():
            chosen.append((name.strip(), value.strip()))
        taken.add(name.rstrip(";").strip().lower())
    if "host" in taken:
        raise UsageError("Host is the URL's: put the host that you mean into the URL")
    ours = {name.lower(): (name, value) for name, value in lines}
    yield from (pair for name, pair in ours.items() if name not in taken)
    yield from chosen


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
