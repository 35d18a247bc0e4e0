"""What a dialect is: how one API uses events.

The event-stream rules say where an event begins and ends; only the API behind it says
that `tool_call` asks for a tool and that `completion` is the end.  A `Dialect` reads
one exchange: it is made for it, is shown each dispatched event in order, and answers
with a `Reading`: what kind of frame that was, and what it says of text, tools, usage
and the end.

Rules
-----
1. A dialect never raises on what it is shown.  A frame that does not fit is
   `Kind.OTHER`: the peer may send anything.
2. A dialect never sees time, bytes or chunk boundaries, so it can be run again over a
   recording made years ago and say the same (`frames.kind` and `tool_calls` can be
   rebuilt from the rest).
3. Whether an exchange belongs to a dialect is decided by the head of its request
   (`recognises`) or, if no dialect claims it, by that of its response
   (`recognises_response`) or by the first dispatched event (`recognises_event`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from sse_recorder.dialects.turns import Turn
from sse_recorder.exchange import RequestHead, ResponseHead


class Kind(StrEnum):
    """What a frame is for, in any dialect."""

    CONNECTED = "connected"
    STATUS = "status"
    TEXT = "text"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_CALL_DELTA = "tool_call_delta"
    TOOL_RESULT = "tool_result"
    USAGE = "usage"
    FINISH = "finish"
    ERROR = "error"
    KEEPALIVE = "keepalive"
    OTHER = "other"


# A tuple, because a set would ask for the hash, which an enum computes in Python.
CONTENT_KINDS = (Kind.TEXT, Kind.REASONING, Kind.TOOL_CALL, Kind.TOOL_CALL_DELTA)
"""The kinds that a user waits for: the first of them ends the time to first content."""


class ToolStarted(NamedTuple):
    """The first sign of a call; its arguments may follow in pieces."""

    key: str | None
    tool_id: str | None
    name: str | None
    is_hosted: bool = False
    """The provider runs the tool, so that no client answers the call."""


class ToolArguments(NamedTuple):
    """Another piece of a call's arguments."""

    key: str | None
    delta: str


class ToolCalled(NamedTuple):
    """A call whose arguments are complete: from here on a tool may run.

    Without a `ToolStarted` before it this is the first sign as well.  `arguments` is
    None where the pieces seen so far are all there is.
    """

    key: str | None
    tool_id: str | None
    name: str | None
    arguments: str | None
    is_hosted: bool = False


class ToolReturned(NamedTuple):
    """The result of a call."""

    key: str | None
    result: str | None
    failed: bool
    arguments: str | None = None
    """What the call was given, where only its result says so."""


ToolEvent = ToolStarted | ToolArguments | ToolCalled | ToolReturned


class Reading(NamedTuple):
    """What one event, or one whole body, says."""

    kind: Kind = Kind.OTHER
    text: str = ""
    """New text for the reader, without what earlier events already said.

    Outside of `Kind.TEXT`, as where an API repeats the whole answer at the end, it is
    content only where no event was text before."""
    tools: tuple[ToolEvent, ...] = ()
    model: str | None = None
    session_id: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    """What an error event says went wrong."""
    terminal: bool = False
    """Nothing that matters to the client comes after this."""


class Dialect:
    """The base, and the reader for streams of which nothing is known."""

    name: ClassVar[str] = "generic"
    text_events: ClassVar[frozenset[str | None]] = frozenset()
    """Names of events that are `Kind.TEXT` and say nothing else, whatever their data:
    where only their kind is wanted, they are not read."""
    noise: ClassVar[frozenset[str]] = frozenset()
    """Names of JSON members of events and bodies that no two runs share, such as ids
    and times: they are no difference."""
    says_end: ClassVar[bool] = False
    """Whether a whole stream has an event that says so: one without it was cut short,
    although it ended as HTTP has it.  The report `errors` lists these dialects, too."""
    result_marks: ClassVar[tuple[bytes, ...]] = ()
    """A request's body that has none of these has no results of tools: it need not be
    parsed.  A dialect without any has no tools that clients run."""

    def __init__(self, request: RequestHead) -> None:
        self.request = request

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """Tell from its head whether a request belongs to this dialect."""
        return False

    @classmethod
    def recognises_event(
        cls,
        event: str | None,
        data: str,
    ) -> bool:
        """Tell from its first dispatched event whether a stream is of this dialect."""
        return False

    @classmethod
    def recognises_response(cls, response: ResponseHead) -> bool:
        """Tell from the head of its response whether an exchange is of this dialect."""
        return False

    def session_id(self) -> str | None:
        """Return the conversation that the request names, where its head does."""
        return None

    def read_request(self, body: bytes) -> Reading:
        """Read the request's body, before anything of the answer.

        The kind and the text of what it says mean nothing; a tool that it calls begins
        to run when it was sent.
        """
        return Reading()

    def read_head(self, response: ResponseHead) -> Reading:
        """Read the response's head, where the dialect is known by then."""
        return Reading()

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read from a request's body what it has of its conversation."""
        return Turn()

    def read_event(
        self,
        event: str | None,
        data: str,
    ) -> Reading:
        """Read one dispatched event.

        Args:
            event: the frame's own event field; None where it has none.
            data: as dispatched.
        """
        if data == DONE:
            return Reading(Kind.FINISH, terminal=True)
        return Reading()

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event that reports an error as the API does."""
        error = {"error": {"type": "injected_fault", "message": message}}
        return f"event: error\ndata: {compact(error)}\n\n"

    def read_body(self, body: bytes) -> Reading:
        """Read the whole body of an answer that is not an event stream."""
        return Reading()


DONE = "[DONE]"
"""The sentinel that many APIs send as their last event's data."""

_COUNT_MAX = 2**63 - 1


_decode = json.JSONDecoder().raw_decode
# A dialect may have objects of its own that stand for text.
_encode = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), default=str
).encode


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text; an empty one if there is none."""
    try:
        # Most events are an object without white space round it.  This then takes half
        # the time of `json.loads`, which looks for that with expressions.
        if isinstance(text, str) and text[:1] == "{":
            found, end = _decode(text)
            if end == len(text):
                return found  # type: ignore[no-any-return]  # what `{` begins
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def compact(value: Any) -> str:
    """Return a JSON value as the shortest text, with its keys in their order.

    What is nested so deeply that it could only just be read is `null`.
    """
    try:
        text = _encode(value)
    except RecursionError:
        return "null"
    return _encodable(text)


def member(value: Any, *path: str | int) -> Any:
    """Return what is at a path of a JSON value; None where there is nothing."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = (
                value[step] if isinstance(value, list) and step < len(value) else None
            )
    return value


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a JSON list; none if it is no list."""
    items = value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict)]


def message_of(error: Any) -> str:
    """Return what an error says, wherever it says it."""
    for name in ("message", "error", "detail", "code", "type"):
        for place in (error, member(error, "error")):
            if text := text_of(member(place, name)):
                return text
    return text_of(error) or compact(error)


def text_of(value: Any) -> str | None:
    """Return a value if it is text."""
    return _encodable(value) if isinstance(value, str) else None


def body_kind(text: str, tools: Sequence[ToolEvent]) -> Kind:
    """Return what a whole body is for, by what matters most of what it says."""
    if text:
        return Kind.TEXT
    return Kind.TOOL_CALL if tools else Kind.OTHER


def text_or_json(value: Any) -> str | None:
    """Return a value as text: as it is, or as JSON; None where there is none."""
    if value is None:
        return None
    return _encodable(value) if isinstance(value, str) else compact(value)


def text_in(content: Any) -> str:
    """Return the text of a message's content: itself, or that of its parts."""
    if isinstance(content, str):
        return _encodable(content)
    return "".join(text_of(part.get("text")) or "" for part in objects_of(content))


def id_of(value: Any) -> str | None:
    """Return an id; servers that have none may send an empty text."""
    return text_of(value) or None


def label_of(value: Any) -> str:
    """Return a number or a name as text; an empty one for anything else."""
    return str(value) if isinstance(value, str | int) else ""


def count_of(value: Any) -> int | None:
    """Return a value if it is a count that a column can hold."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _COUNT_MAX else None


def total_of(counts: Any, *names: str) -> int | None:
    """Return the sum of those counts that are known; None if none of them is."""
    found = [count_of(member(counts, name)) for name in names]
    known = [count for count in found if count is not None]
    return count_of(sum(known)) if known else None


def _encodable(text: str) -> str:
    # JSON may escape half of a surrogate pair, which no encoding of text can hold; it
    # stays escaped.
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()
