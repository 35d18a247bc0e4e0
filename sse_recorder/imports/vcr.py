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
writes for request bodies, and makes bytes of them; all others are refused.  What is
said once can be meant a thousand times in YAML, so before anything is made of what was
read, all of it is counted as if it were written out (`_refuse_bomb`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final

import yaml

from sse_recorder.exchange import Chunk, Headers, ResponseHead
from sse_recorder.imports.base import (
    Found,
    Tape,
    answered,
    each,
    from_base64,
    is_decoded,
    to_headers,
    true_headers,
    wire_text,
)

_PYTHON: Final = "tag:yaml.org,2002:python/"
_MORE_MAX: Final = 64 << 20
"""Bytes that a file may say beyond those that it has."""
_WRAPPING: Final = {"string", "base64_string", "encoding"}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's, if it is there
    """PyYAML's safe loader, and what VCR.py writes of Python's own types."""


class _Pieces(list[Any]):
    """What an iterator over pieces of a body gave."""


def _scalar(loader: Any, node: Any) -> Any:
    return loader.construct_scalar(node)


def _sequence(loader: Any, node: Any) -> list[Any]:
    return list(loader.construct_sequence(node, deep=True))


def _buffer(loader: Any, node: Any) -> Any:
    """Return what is in a file-like body."""
    state = loader.construct_mapping(node, deep=True).get("state") or [b""]
    return state[0]


def _pieces(loader: Any, node: Any) -> _Pieces:
    args = loader.construct_mapping(node, deep=True).get("args") or [[]]
    return _Pieces(args[0])


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
    value = json.loads(data) if data.lstrip().startswith(b"{") else _loaded(data)
    if not isinstance(value, dict):
        raise ValueError("it is no mapping with `interactions`")  # noqa: TRY004 - of the file
    return each("interaction", value["interactions"], _tape)


def _loaded(data: bytes) -> Any:
    try:
        value = yaml.load(data, Loader=_Loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        # As text it has a piece of the file in it, where a secret may be.
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        parts = filter(None, (error.context, error.problem))
        raise ValueError(", ".join(parts) + line) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    _refuse_bomb(value, len(data) + _MORE_MAX)
    return value


def _refuse_bomb(value: Any, most: int) -> None:
    """Refuse what is too large when each alias is what it stands for.

    Each value is looked at once, however often it is meant.

    Raises:
        ValueError: it is, or something in it has itself in it.
    """
    sizes: dict[int, int | None] = {}

    def size(value: Any) -> int:
        if isinstance(value, (str, bytes)):
            return len(value) + 1
        if not isinstance(value, (dict, list, set, tuple)):
            return len(str(value)) + 1
        if id(value) not in sizes:
            sizes[id(value)] = None
            inner = chain(value, value.values()) if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inner))
        found = sizes[id(value)]
        if found is None:
            raise ValueError("something in it has itself in it")
        return found

    if size(value) > most:
        raise ValueError(
            f"with its aliases written out it has more than {most:,} bytes"
        )


def _tape(interaction: Any) -> Tape:
    request, response = interaction["request"], interaction["response"]
    sent, answer = _bytes(request.get("body")), _bytes(_content(response))
    method, headers = wire_text(request["method"]), _headers(response)
    code, message = _status(response)
    head, body, note = answered(
        method,
        ResponseHead(int(code), wire_text(message or ""), headers),
        answer,
        is_decoded=is_decoded(headers, answer),
    )
    return Tape(
        url=wire_text(request["uri"].partition("#")[0]),
        method=method,
        request_headers=true_headers(_headers(request), len(sent)),
        request_body=sent,
        response=head,
        chunks=[Chunk(0, body)],
        note=note,
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
            return from_base64(_bytes(inner))
        case _Pieces():
            return b"".join(map(_bytes, value))
        case dict() | list():
            return json.dumps(value).encode()
    raise ValueError(
        f"a body is text or bytes, and this is of the type {type(value).__name__}"
    )


def _headers(message: dict[str, Any]) -> Headers:
    return to_headers(_pairs(message.get("headers") or {}))


def _pairs(headers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, values in headers.items():
        if not isinstance(name, str):
            raise ValueError(f"the name of a header is text, and {name!r} is none")  # noqa: TRY004 - of the file
        for value in values if isinstance(values, list) else [values]:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            yield name, text
