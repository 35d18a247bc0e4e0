"""Dialects of other packages, found by their entry points.

    [project.entry-points."sse_recorder.dialects"]
    acme = "acme_streams:Acme"

The name is that of the dialect, and what it leads to is a `Dialect` (see `base`).  An
installed package is found when the first request is held against the dialects, and
imported then, not before.

Recording must not suffer from what somebody else wrote.  What cannot be imported, is no
dialect, or has a name that is taken is left out, and the log says once why.  So is one
that raises, or answers with what the tables cannot hold: from then on this process goes
on as if it were not there, and `sse-recorder rebuild` reads what it missed.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Final, TypeVar

from sse_recorder.dialects.base import (
    Dialect,
    Kind,
    Reading,
    ToolArguments,
    ToolCalled,
    ToolReturned,
    ToolStarted,
    count_of,
    text_of,
)
from sse_recorder.dialects.turns import ClientResult, Turn
from sse_recorder.exchange import RequestHead, ResponseHead

GROUP: Final = "sse_recorder.dialects"

_FLAGS: Final = frozenset({"is_hosted", "failed", "may_be_old", "terminal"})
_COUNTS: Final = frozenset({"input_tokens", "output_tokens"})
_NEEDED: Final = frozenset({"text", "delta"})
"""Texts that are never None."""
_PLAIN: Final = Reading()[1:]
_T = TypeVar("_T")

log = logging.getLogger("sse_recorder.dialects")


def find(taken: Collection[str]) -> dict[str, EntryPoint]:
    """Return what is installed under names that are free, by its name.

    Args:
        taken: names that no other package may use.
    """
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=GROUP):
        found[point.name].append(point)
    free = {}
    for name, points in sorted(found.items()):
        owners = " and ".join(map(_owner, points))
        if name in taken:
            log.error(
                "the dialect %r of %s is left out: the name is built in; let the"
                " package give it another one",
                *(name, owners),
            )
        elif len(points) > 1:
            log.error(
                "the dialect %r is left out: %s each have one; uninstall all but one",
                *(name, owners),
            )
        else:
            free[name] = points[0]
    return free


def load(point: EntryPoint) -> type[Dialect] | None:
    """Import a dialect, and guard against it; None, and a word in the log, if not."""
    try:
        return guarded(point.load(), point.name, _owner(point))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it may raise
        log.error(  # noqa: TRY400 - in one line, as it is not our fault
            "the dialect %r of %s is left out: %s; mend or uninstall it",
            *(point.name, _owner(point), _said(error)),
        )
        return None


def guarded(dialect: object, name: str, owner: str) -> type[Dialect]:
    """Return a dialect that neither raises nor answers with what cannot be kept.

    Args:
        dialect: what somebody else wrote.
        name: what it must be called.
        owner: whose it is, for the log.

    Raises:
        TypeError: it is no dialect.
        ValueError: it is called otherwise.
    """
    if not (isinstance(dialect, type) and issubclass(dialect, Dialect)):
        raise TypeError(f"{dialect!r} is not a subclass of Dialect")
    if dialect.name != name:
        raise ValueError(f"its `name` is {dialect.name!r}, not that of its entry point")
    for attribute, kinds in (
        ("text_events", (str, type(None))),
        ("noise", str),
        ("result_marks", bytes),
    ):
        if not all(isinstance(one, kinds) for one in getattr(dialect, attribute)):
            raise TypeError(f"its `{attribute}` has something of the wrong type in it")
    values: Mapping[str, object] = {
        "owner": owner,
        "is_broken": False,
        "text_events": frozenset(dialect.text_events),
        "noise": frozenset(dialect.noise),
        "result_marks": tuple(dialect.result_marks),
        "__doc__": dialect.__doc__,
    }
    return type(dialect.__name__, (Guard, dialect), dict(values))


class Guard(Dialect):
    """Stands before another's dialect, and answers for it once it has failed."""

    owner: ClassVar[str] = ""
    is_broken: ClassVar[bool] = False

    def __init__(self, request: RequestHead) -> None:
        make = super().__init__

        def start() -> None:
            self.request = request
            make(request)

        self._ask(start, lambda _: None, None)

    @classmethod
    def recognises(cls, request: RequestHead) -> bool:
        """Tell from its head whether a request belongs to this dialect."""
        method = super().recognises
        return cls._ask(lambda: method(request), bool, otherwise=False)

    @classmethod
    def recognises_event(cls, event: str | None, data: str) -> bool:
        """Tell from its first dispatched event whether a stream is of this dialect."""
        method = super().recognises_event
        return cls._ask(lambda: method(event, data), bool, otherwise=False)

    @classmethod
    def recognises_response(cls, response: ResponseHead) -> bool:
        """Tell from the head of its response whether an exchange is of this dialect."""
        method = super().recognises_response
        return cls._ask(lambda: method(response), bool, otherwise=False)

    @classmethod
    def error_event(cls, message: str) -> str:
        """Return an event that reports an error as the API does."""
        method = super().error_event
        otherwise = Dialect.error_event(message)
        return cls._ask(lambda: method(message), _text, otherwise)

    @classmethod
    def read_turn(cls, body: bytes) -> Turn:
        """Read from a request's body what it has of its conversation."""
        method = super().read_turn
        return cls._ask(lambda: method(body), _turn, Turn())

    def session_id(self) -> str | None:
        """Return the conversation that the request names, where its head does."""
        return self._ask(super().session_id, _text_or_none, None)

    def read_request(self, body: bytes) -> Reading:
        """Read the request's body, before anything of the answer."""
        method = super().read_request
        return self._ask(lambda: method(body), _reading, Reading())

    def read_head(self, response: ResponseHead) -> Reading:
        """Read the response's head, where the dialect is known by then."""
        method = super().read_head
        return self._ask(lambda: method(response), _reading, Reading())

    def read_event(self, event: str | None, data: str) -> Reading:
        """Read one dispatched event."""
        method = super().read_event
        return self._ask(lambda: method(event, data), _reading, Reading())

    def read_body(self, body: bytes) -> Reading:
        """Read the whole body of an answer that is not an event stream."""
        method = super().read_body
        return self._ask(lambda: method(body), _reading, Reading())

    @classmethod
    def _ask(
        cls, ask: Callable[[], Any], checked: Callable[[Any], _T], otherwise: _T
    ) -> _T:
        """Return what the dialect answers, if it can be kept and it never failed."""
        if cls.is_broken:
            return otherwise
        try:
            return checked(ask())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it may raise
            cls.is_broken = True
            log.error(  # noqa: TRY400 - in one line, as it is not our fault
                "the dialect %r of %s failed and is left out: %s; mend or uninstall"
                " it, and `sse-recorder rebuild` reads what it missed",
                *(cls.name, cls.owner, _said(error)),
            )
            return otherwise


def _reading(value: Any) -> Reading:
    """Return a reading whose fields a recording can hold.

    Raises:
        TypeError: it is none.
    """
    if type(value) is not Reading or type(value.kind) is not Kind:
        raise TypeError(f"{value!r} is not a Reading with a Kind")
    if value[1:] == _PLAIN:  # which the fields of most events are
        return value
    tools = tuple(_tool(event) for event in value.tools)
    return Reading(value.kind, tools=tools, **_fields(value, {"kind", "tools"}))


def _tool(value: Any) -> Any:
    if type(value) not in (ToolStarted, ToolArguments, ToolCalled, ToolReturned):
        raise TypeError(f"{value!r} is none of the things that happen to tools")
    return type(value)(**_fields(value))


def _turn(value: Any) -> Turn:
    if type(value) is not Turn or any(type(x) is not ClientResult for x in value[0]):
        raise TypeError(f"{value!r} is not a Turn with ClientResults")
    results = tuple(ClientResult(**_fields(one)) for one in value.results)
    return Turn(results, **_fields(value, {"results"}))


def _fields(value: Any, others: Collection[str] = ()) -> dict[str, Any]:
    """Return fields with a value of their type."""
    return {
        name: _field(name, one)
        for name, one in zip(value._fields, value, strict=True)
        if name not in others
    }


def _field(name: str, value: Any) -> Any:
    if name in _FLAGS:
        return bool(value)
    if value is None and name not in _NEEDED:
        return None
    kept = count_of(value) if name in _COUNTS else text_of(value)
    if kept is None:
        raise TypeError(f"`{name}` cannot be {value!r}")
    return kept


def _text(value: Any) -> str:
    return str(_field("text", value))


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _owner(point: EntryPoint) -> str:
    dist = point.dist
    return f"{dist.name} {dist.version}" if dist else repr(point.value)


def _said(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
