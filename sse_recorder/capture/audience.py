"""The audience: who wants to hear of exchanges while they are written.

    rows of an exchange ─▶ Listener ─┐
    its own row ─────────────────────┴─▶ Spans

It is told of what the store gets, and nothing that it does wrong costs any of that: a
fault is logged, and the exchange is recorded all the same.
"""

from __future__ import annotations

import logging
from typing import Final, Protocol

from sse_recorder.exchange import Exchange, Opening, ToolCall
from sse_recorder.otel.stream import NOTHING_HEARD, Listener, StreamFacts
from sse_recorder.tables import Rows

log = logging.getLogger("sse_recorder.capture")

_FAULT: Final = "telemetry does not hear all of exchange %s; please report this"


class Spans(Protocol):
    """What wants to hear of exchanges (see `otel.Telemetry`); it must not wait."""

    def began(self, exchange_id: str, opening: Opening) -> Listener:
        """Hear that one began; return what is to hear its frames."""

    def emit(
        self, exchange: Exchange, tool_calls: list[ToolCall], facts: StreamFacts
    ) -> None:
        """Take in one that is over."""

    def told(self, call: ToolCall) -> None:
        """Take in a call of one that another one answered."""


class Audience:
    """Lets whoever wants to hear of exchanges.

    Args:
        spans: who that is; None for nobody.
    """

    def __init__(self, spans: Spans | None) -> None:
        self._spans = spans
        self._listeners: dict[str, Listener] = {}
        """What hears the frames of open exchanges."""

    def began(self, exchange_id: str, opening: Opening) -> None:
        """Tell that an exchange began."""
        if self._spans is None:
            return
        try:
            self._listeners[exchange_id] = self._spans.began(exchange_id, opening)
        except Exception:
            log.exception(_FAULT, exchange_id)

    def hear(self, exchange_id: str, rows: Rows, frames: int, runs: int) -> None:
        """Tell of the frames that were added to rows after so many of both."""
        listener = self._listeners.get(exchange_id)
        if listener is None:
            return
        try:
            listener.hear_rows(rows, frames, runs)
        except Exception:
            log.exception(_FAULT, exchange_id)
            self.forget(exchange_id)

    def ended(self, exchange: Exchange, tool_calls: list[ToolCall]) -> None:
        """Tell of an exchange that is over."""
        eid = exchange.exchange_id
        listener = self._listeners.pop(eid, None)
        if self._spans is None:
            return
        try:
            facts = listener.facts() if listener else NOTHING_HEARD
            calls = sorted(tool_calls, key=lambda call: call.seq)
            self._spans.emit(exchange, calls, facts)
        except Exception:
            log.exception(_FAULT, eid)

    def told(self, call: ToolCall) -> None:
        """Tell of a call that another exchange answered."""
        if self._spans is None:
            return
        try:
            self._spans.told(call)
        except Exception:
            log.exception(_FAULT, call.exchange_id)

    def forget(self, exchange_id: str) -> None:
        """Tell no more of an exchange."""
        self._listeners.pop(exchange_id, None)
