"""Tool calls: each call with its result.

A ledger of one exchange.  It is told what each frame says of tools, with the frame's
number and time, and gives back a `ToolCall` as soon as one is closed:

    ok           the result came
    error        the result came, and says that the tool failed
    superseded   a second call with the same id began before the first had a result
    unanswered   the exchange ended first
    unmatched    a result came for which no call is open

What is unanswered here may be answered by the client's next request, which is another
exchange: see `conversations`.

A bracket on the wire is not the execution itself: it begins when the arguments were
complete and ends when the result was read, both on the recorder's clock.

Calls are numbered in the order of their first sign; an unmatched result takes the next
number when it comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sse_recorder.dialects.base import (
    ToolArguments,
    ToolCalled,
    ToolEvent,
    ToolReturned,
    ToolStarted,
)
from sse_recorder.exchange import ToolCall
from sse_recorder.trace import derive_span_id

WIRE_BRACKET = "wire_bracket"


@dataclass(slots=True)
class _Open:
    seq: int
    tool_id: str | None
    name: str | None
    first_ns: int
    call_frame: int | None
    parallelism: int
    called_ns: int | None = None
    arguments: list[str] = field(default_factory=list)
    is_hosted: bool = False


class ToolLedger:
    """The tool calls of one exchange, open and closed."""

    def __init__(self, exchange_id: str) -> None:
        self.count = 0
        """Calls and unmatched results seen so far."""
        self._exchange_id = exchange_id
        # Keyed by the dialect's key, or by the call's number where the API gave none:
        # such a call can be seen, but no result can be told to be its own.
        self._open: dict[str | int, _Open] = {}
        self.left: list[tuple[str, ToolCall]] = []
        """When it is closed: the calls that the client may answer in its next request,
        with the dialect's keys."""

    def add(self, event: ToolEvent, frame: int | None, at_ns: int) -> list[ToolCall]:
        """Take in what a frame says of one tool.

        Args:
            event: what it says.
            frame: the frame's number in its exchange; None for the request.
            at_ns: when the frame's last byte was read.

        Returns:
            The calls that this closes: none, or one.
        """
        match event:
            case ToolStarted():
                return self._start(event, frame, at_ns)
            case ToolArguments(key, delta):
                if call := self._find(key):
                    call.arguments.append(delta)
                    if call.called_ns is not None:  # it was taken for complete too soon
                        call.called_ns, call.call_frame = at_ns, frame
                return []
            case ToolCalled():
                return self._called(event, frame, at_ns)
            case ToolReturned():
                return [self._returned(event, frame, at_ns)]

    def close(self) -> list[ToolCall]:
        """Close what is still open when the exchange ends."""
        calls = []
        for key, call in self._open.items():
            calls.append(self._close(call, status="unanswered"))
            if not call.is_hosted:
                self.left.append((key if isinstance(key, str) else "", calls[-1]))
        self._open.clear()
        return calls

    def _find(self, key: str | None) -> _Open | None:
        return None if key is None else self._open.get(key)

    def _start(
        self, event: ToolStarted | ToolCalled, frame: int | None, at_ns: int
    ) -> list[ToolCall]:
        slot = self.count if event.key is None else event.key
        earlier = self._open.pop(slot, None)
        self._open[slot] = _Open(
            seq=self.count,
            tool_id=event.tool_id,
            name=event.name,
            first_ns=at_ns,
            call_frame=frame,
            parallelism=len(self._open) + 1,
            is_hosted=event.is_hosted,
        )
        self.count += 1
        if earlier is None:
            return []
        return [self._close(earlier, status="superseded", result_ns=at_ns)]

    def _called(
        self, event: ToolCalled, frame: int | None, at_ns: int
    ) -> list[ToolCall]:
        call = self._find(event.key)
        closed: list[ToolCall] = []
        if call is None or call.called_ns is not None:
            closed = self._start(event, frame, at_ns)
            call = next(reversed(self._open.values()))
        call.called_ns = at_ns
        call.call_frame = frame
        call.tool_id = event.tool_id or call.tool_id
        call.name = event.name or call.name
        if event.arguments is not None:
            call.arguments = [event.arguments]
        return closed

    def _returned(self, event: ToolReturned, frame: int | None, at_ns: int) -> ToolCall:
        call = None if event.key is None else self._open.pop(event.key, None)
        status = "error" if event.failed else "ok"
        if call is None:
            call = _Open(self.count, event.key, None, at_ns, frame, 0)
            self.count += 1
            status = "unmatched"
        if event.arguments is not None and not call.arguments:
            call.arguments = [event.arguments]
        return self._close(
            call,
            status=status,
            result_ns=at_ns,
            result=event.result,
            result_frame=frame,
        )

    def _close(
        self,
        call: _Open,
        *,
        status: str,
        result_ns: int | None = None,
        result: str | None = None,
        result_frame: int | None = None,
    ) -> ToolCall:
        is_bracket = call.called_ns is not None and result_ns is not None
        is_call = status != "unmatched"
        return ToolCall(
            exchange_id=self._exchange_id,
            seq=call.seq,
            tool_id=call.tool_id,
            tool_name=call.name,
            arguments="".join(call.arguments) or None,
            result=result,
            status=status,
            timing=WIRE_BRACKET,
            first_ns=call.first_ns if is_call else None,
            called_ns=call.called_ns,
            result_ns=result_ns,
            duration_ns=result_ns - call.called_ns if is_bracket else None,  # type: ignore[operator]
            call_frame=call.call_frame if is_call else None,
            result_frame=result_frame,
            result_exchange_id=self._exchange_id if result_frame is not None else None,
            parallelism=call.parallelism,
            span_id=derive_span_id(self._exchange_id, call.seq),
        )
