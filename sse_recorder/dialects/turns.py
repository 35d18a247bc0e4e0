"""Turns: what is new in a request that repeats its whole conversation.

APIs without a memory are sent everything again each time: what the user said, what the
assistant said and called, and the results of its calls.  Only the results after the
last turn of the assistant are new; all others were new in an earlier request.

    user ─ assistant: call 1 ─ result 1 ─ assistant: call 2 ─ result 2
                                                              new

A dialect tells the steps of its request in order (`Step`), and `turn_of` finds what is
new.  A result often has nothing but an id, which the client may have made up; the call
that the request repeats before it has the name and the arguments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class Said(NamedTuple):
    """Somebody said something."""

    by_assistant: bool
    text: str = ""


class Repeated(NamedTuple):
    """A call of the assistant, as the client repeats it."""

    tool_id: str | None
    name: str | None
    arguments: str | None


class ClientResult(NamedTuple):
    """The result of a call, as the client sends it."""

    tool_id: str | None
    result: str | None
    failed: bool = False
    name: str | None = None
    arguments: str | None = None
    """What the call was given, as the request repeats it."""


Step = Said | Repeated | ClientResult


class Turn(NamedTuple):
    """What a request has of its conversation."""

    results: tuple[ClientResult, ...] = ()
    """The new ones."""
    thread: str | None = None
    """What all requests of a conversation have in common, as far as can be told: the id
    that they name, or a digest of what the user said first."""


def turn_of(steps: Iterable[Step], thread: str | None = None) -> Turn:
    """Return what is new, where the request itself names its thread or does not."""
    calls: list[Repeated] = []
    results: list[ClientResult] = []
    earlier = calls, results
    was_assistant = False
    for step in steps:
        is_assistant = isinstance(step, Repeated) or (
            isinstance(step, Said) and step.by_assistant
        )
        if is_assistant and not was_assistant:
            earlier = calls, results
            calls, results = [], []
        was_assistant = is_assistant
        match step:
            case Repeated():
                calls.append(step)
            case ClientResult():
                results.append(step)
            case Said(by_assistant=False, text=text) if thread is None and text:
                thread = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    if was_assistant and not calls:  # the beginning of the answer, to be gone on with
        calls, results = earlier
    return Turn(tuple(_with_calls(results, calls)), thread)


def _with_calls(
    results: list[ClientResult], calls: list[Repeated]
) -> Iterable[ClientResult]:
    """Give results with the name and the arguments of the calls that they answer."""
    named = {call.tool_id: call for call in calls if call.tool_id is not None}
    rest = [call for call in calls if call.tool_id is None]
    for result in results:
        call = named.get(result.tool_id or "")
        if call is None:
            # Without an id, calls of one name are answered in their order.
            call = next((c for c in rest if result.name in (None, c.name)), None)
            if call is None:
                yield result
                continue
            rest.remove(call)
        name, arguments = result.name or call.name, result.arguments or call.arguments
        yield result._replace(name=name, arguments=arguments)
