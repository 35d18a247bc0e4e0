"""The dialects: one file an API, found by name or by what they recognise.

To add one: write a `Dialect` (see `base`) in a module of this package, and put the
module's name into `NAMES`, the more particular before the more general.  Modules are
imported when a request is first held against them, not before.
"""

from __future__ import annotations

import importlib
from functools import cache

from sse_recorder.dialects.base import Dialect
from sse_recorder.exchange import RequestHead, ResponseHead

NAMES = (
    "meibel",
    "anthropic",
    "openai_responses",
    "openai_chat",
    "gemini",
    "langgraph",
    "vercel_ui",
    "a2a",
    "mcp",
    "ag_ui",
)


@cache
def load(name: str) -> type[Dialect]:
    """Return the dialect of a name; `generic` for a name that is not known here.

    A store may name a dialect that this version does not have: its frames can still be
    read, only their meaning is not.
    """
    if name not in NAMES:
        return Dialect
    module = importlib.import_module(f"sse_recorder.dialects.{name}")
    dialect: type[Dialect] = module.DIALECT
    return dialect


def recognise(request: RequestHead) -> type[Dialect] | None:
    """Return the dialect that claims a request by its head."""
    return next((d for d in map(load, NAMES) if d.recognises(request)), None)


def recognise_response(response: ResponseHead) -> type[Dialect] | None:
    """Return the dialect that claims an exchange by the head of its response."""
    return next((d for d in map(load, NAMES) if d.recognises_response(response)), None)


def recognise_event(event: str | None, data: str) -> type[Dialect] | None:
    """Return the dialect that claims a stream by its first event."""
    return next((d for d in map(load, NAMES) if d.recognises_event(event, data)), None)
