"""The dialects: one file an API, found by name or by what they recognise.

To add one here: write a `Dialect` (see `base`) in a module of this package, and put the
module's name into `NAMES`, the more particular before the more general.  Modules are
imported when a request is first held against them, not before.

Other packages add theirs by an entry point (see `plugins`).  Those are asked before the
ones of this package: whoever installs one means it, and a path such as
`/v1/chat/completions`, which many servers have, would never come to it otherwise.
Among themselves they are asked in the order of their names.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint

from sse_recorder.dialects import plugins
from sse_recorder.dialects.base import Dialect
from sse_recorder.exchange import RequestHead, ResponseHead

NAMES = (
    "meibel",
    "anthropic",
    "openai_responses",
    "openai_chat",
    "gemini",
    "gemini_interactions",
    "langgraph",
    "vercel_ui",
    "a2a",
    "mcp",
    "ag_ui",
)


@cache
def load(name: str) -> type[Dialect]:
    """Return the dialect of a name; `generic` for a name that is not known here.

    A store may name a dialect that this version does not have, or of a package that is
    not installed: its frames can still be read, only their meaning is not.
    """
    if name in NAMES:
        module = importlib.import_module(f"sse_recorder.dialects.{name}")
        dialect: type[Dialect] = module.DIALECT
        return dialect
    point = _others().get(name)
    return (plugins.load(point) if point else None) or Dialect


def is_known(name: str) -> bool:
    """Tell whether what exchanges of a dialect say can be told here."""
    return name == Dialect.name or load(name) is not Dialect


def failed() -> list[str]:
    """Return the names of other packages' dialects that cannot be relied on here."""
    return [
        name
        for name in _others()
        if not is_known(name) or getattr(load(name), "is_broken", False)
    ]


def recognise(request: RequestHead) -> type[Dialect] | None:
    """Return the dialect that claims a request by its head."""
    return next((d for d in _all() if d.recognises(request)), None)


def recognise_response(response: ResponseHead) -> type[Dialect] | None:
    """Return the dialect that claims an exchange by the head of its response."""
    return next((d for d in _all() if d.recognises_response(response)), None)


def recognise_event(event: str | None, data: str) -> type[Dialect] | None:
    """Return the dialect that claims a stream by its first event."""
    return next((d for d in _all() if d.recognises_event(event, data)), None)


def _all() -> Iterator[type[Dialect]]:
    """Give the dialects in the order in which they are asked."""
    yield from map(load, _others())
    yield from map(load, NAMES)


@cache
def _others() -> dict[str, EntryPoint]:
    return plugins.find({*NAMES, Dialect.name})
