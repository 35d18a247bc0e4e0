"""Cassettes of VCR.py and pytest-recording: YAML, or JSON.

    interactions:
    - request: {body: …, headers: {Accept: ['*/*']}, method: GET, uri: https://…}
      response:
        body: {string: …}
        headers: {Content-Type: [text/event-stream]}
        status: {code: 200, message: OK}
    version: 1

A body is text (UTF-8), `!!binary`, or either below `string`, or base64 below
`base64_string`.  Of what aiohttp was given as `json=` there is the value, which is
written as aiohttp writes it.

VCR.py has the body as its client gave it, behind all framing.  Where its content coding
is still on, it stays on; where the client took it off, it cannot be decoded again, and
loses the header.

VCR.py knows no times: the whole body comes at once, with the head, and an exchange
begins when the answer's `Date` says.

The file is read by PyYAML's safe loader.  Of Python's tags it knows those that VCR.py
writes for request bodies, and makes bytes of them; all others are refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from sse_recorder.exchange import Chunk, Headers, ResponseHead
from sse_recorder.imports.base import (
    Found,
    Tape,
    each,
    is_decoded,
    to_headers,
    true_headers,
    wire_text,
)

_PYTHON: Final = "tag:yaml.org,2002:python/"
_WRAPPING: Final = {"string", "base64_string", "encoding"}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's, if it is there
    """PyYAML's safe loader, and what VCR.py writes of Python's own types."""


def _scalar(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


def _sequence(loader: Any, node: Any) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


def _buffer(loader: Any, node: Any) -> bytes:
    """Return what is in a file-like body."""
    state = loader.construct_mapping(node, deep=True).get("state") or [b""]
    return _bytes(state[0])


def _pieces(loader: Any, node: Any) -> bytes:
    """Return what an iterator over pieces of a body gave."""
    args = loader.construct_mapping(node, deep=True).get("args") or [[]]
    return b"".join(map(_bytes, args[0]))


for _tag, _constructor in (
    ("str", _scalar),
    ("unicode", _scalar),
    ("tuple", _sequence),
    ("object/new:_io.BytesIO", _buffer),
    ("object/apply:builtins.iter", _pieces),
):
    _Loader.add_constructor(_PYTHON + _tag, _constructor)


def read(data: bytes) -> Found:
    """Return the exchanges of a cassette.

    Raises:
        ValueError, or what else is in `base.DAMAGE`: it is none.
    """
    if data.lstrip().startswith(b"{"):
        value = json.loads(data)
    else:
        try:
            value = yaml.load(data, Loader=_Loader)  # noqa: S506 - a safe one
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error
    return each("interaction", value["interactions"], _tape)


def _tape(interaction: Any) -> Tape:
    request, response = interaction["request"], interaction["response"]
    sent, answer = _bytes(request.get("body")), _bytes(_content(response))
    request_headers, headers = map(_headers, (request, response))
    code, message = _status(response)
    return Tape(
        url=wire_text(request["uri"].partition("#")[0]),
        method=wire_text(request["method"]),
        request_headers=true_headers(request_headers, len(sent)),
        request_body=sent,
        response=ResponseHead(
            int(code),
            wire_text(message or ""),
            true_headers(headers, len(answer), is_decoded=is_decoded(headers, answer)),
        ),
        chunks=[Chunk(0, answer)],
    )


def _content(response: dict[str, Any]) -> Any:
    # Older versions wrote what httpx got in a form of its own.
    return response["content"] if "content" in response else response["body"]


def _status(response: dict[str, Any]) -> tuple[Any, Any]:
    if "status_code" in response:
        return response["status_code"], ""
    return response["status"]["code"], response["status"].get("message")


def _bytes(value: Any) -> bytes:
    match value:
        case None:
            return b""
        case bytes():
            return value
        case str():
            return value.encode("utf-8", "surrogatepass")
        case {"string": inner} if value.keys() <= _WRAPPING:
            return _bytes(inner)
        case {"base64_string": inner} if value.keys() <= _WRAPPING:
            return base64.b64decode(_bytes(inner))
        case dict() | list():
            return json.dumps(value).encode()
    raise TypeError(f"a body cannot be {str(value)[:40]!r}")


def _headers(message: dict[str, Any]) -> Headers:
    return to_headers(_pairs(message.get("headers") or {}))


def _pairs(headers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, values in headers.items():
        for value in values if isinstance(values, list) else [values]:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            yield name, text
