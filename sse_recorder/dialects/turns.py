"""Turns: what is new in a request that repeats its whole conversation.

APIs without a memory are sent everything again each time: what the user said, what the
assistant said and called, and the results of its calls.  Only the results after the
last turn of the assistant are new; all others were new in an earlier request.

    user ─ assistant: call 1 ─ result 1 ─ assistant: call 2 ─ result 2
                                                              new

Where calls and results alternate with nothing said between them, they may be one turn:
some clients put each result behind its call, when all of the calls were made at once.
Then only the last result is new for certain, and the ones before it may be old.

A dialect tells the steps of its request in order (`Step`), and `turn_of` finds what is
new; a message of the assistant is `Said` even where it has nothing but calls.  A result
often has nothing but an id, which the client may have made up; the call that the
request repeats before it has the name and the arguments.
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
    may_be_old: bool = False
    """It counts only if its call is still open."""


Step = Said | Repeated | ClientResult


class Turn(NamedTuple):
    """What a request has of its conversation."""

    results: tuple[ClientResult, ...] = ()
    """The new ones, and after them those that may be old."""
    thread: str | None = None
    """What all requests of a conversation have in common, as far as can be told: the id
    that they name, or a digest of what the user said first."""


class _Calls(NamedTuple):
    """Calls of the assistant, and the results that follow them."""

    calls: list[Repeated]
    results: list[ClientResult]


def turn_of(steps: Iterable[Step], thread: str | None = None) -> Turn:
    """Return what is new, where the request itself names its thread or does not."""
    block = earlier = [_Calls([], [])]
    previous: Step | None = None
    was_assistant = False
    for step in steps:
        is_assistant = isinstance(step, Repeated) or (
            isinstance(step, Said) and step.by_assistant
        )
        if is_assistant and not was_assistant:
            is_more = isinstance(step, Repeated) and isinstance(previous, ClientResult)
            earlier, block = block, block if is_more else []
            block.append(_Calls([], []))
        was_assistant, previous = is_assistant, step
        match step:
            case Repeated():
                block[-1].calls.append(step)
            case ClientResult():
                block[-1].results.append(step)
            case Said(by_assistant=False, text=text) if thread is None and text:
                thread = hashlib.sha256(text.encode(errors="replace")).hexdigest()
    if was_assistant and not block[-1].calls:  # the answer's beginning, to be gone on
        block = earlier
    new = tuple(_with_calls(*block[-1]))
    old = [result for one in block[:-1] for result in _with_calls(*one)]
    return Turn(new + tuple(result._replace(may_be_old=True) for result in old), thread)


def _with_calls(
    calls: list[Repeated], results: list[ClientResult]
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
