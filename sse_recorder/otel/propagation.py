"""Propagation: what an upstream is told of the trace that a request is in.

    child         our span, as the child of the client's: the default
    passthrough   what the client said
    none          nothing, for APIs that sign or refuse headers that they do not know

Without telemetry `child` leaves all of it as it is.  So it does with the client's
position in a trace that is not sampled: a proxy that shows no span of its own has no
place in between.  Where there is no position, or none that can be read, `tracestate`
has nothing to belong to.  Baggage is the application's own: with telemetry it goes no
further.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, Self, get_args

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers
from sse_recorder.trace import TraceContext, parse_traceparent

Mode = Literal["child", "passthrough", "none"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

_CONTEXT: Final = frozenset({"traceparent", "tracestate", "baggage"})


class Propagation:
    """What each upstream is told, by the prefix of its route.

    Args:
        modes: by prefixes; that of the empty one is for all others.
    """

    def __init__(self, modes: Mapping[str, Mode]) -> None:
        self._modes = dict(modes)

    @classmethod
    def parse(cls, values: Iterable[str], prefixes: Iterable[str]) -> Self:
        """Read `none`, for all upstreams, or `/openai=none`, for that of a route.

        Args:
            values: as they were given; a later one counts.
            prefixes: the routes that there are.

        Raises:
            UsageError: one is neither, or its route is not there.
        """
        modes: dict[str, Mode] = {}
        known = set(prefixes)
        for value in values:
            prefix, _, name = value.rpartition("=")
            mode = next((mode for mode in MODES if mode == name), None)
            if mode is None:
                raise UsageError(
                    f"{value!r} is no propagation: say {', '.join(MODES)}, or that of a"
                    " route, such as /openai=none"
                )
            prefix = prefix.rstrip("/")
            if prefix and prefix not in known:
                raise UsageError(
                    f"{value!r} is for a route that there is not; there are"
                    f" {', '.join(sorted(known)) or 'none'}"
                )
            modes[prefix] = mode
        return cls(modes)

    def headers(
        self,
        headers: Headers,
        prefix: str,
        context: TraceContext | None,
    ) -> Headers:
        """Return the headers of a request as its upstream is sent them.

        Args:
            headers: as the client sent them.
            prefix: of the route.
            context: of our span; None where none is exported.
        """
        match self._modes.get(prefix, self._modes.get("", "child")):
            case "none":
                return _without(headers, _CONTEXT)
            case "child" if context is not None:
                is_clients = parse_traceparent(headers) is not None
                if is_clients and not context.sampled:
                    return _without(headers, {"baggage"})
                ours = {"traceparent", "baggage"} if is_clients else _CONTEXT
                others = _without(headers, ours)
                return (*others, ("traceparent", context.traceparent()))
            case _:
                return headers


def _without(headers: Headers, names: Iterable[str]) -> Headers:
    return tuple(pair for pair in headers if pair[0].lower() not in names)
