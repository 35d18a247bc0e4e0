"""W3C trace context, and ids that can be told again from a recording.

The ids of a span are derived from the exchange, not drawn: spans that are rebuilt from
a store years later carry the ids that were sent upstream when it was recorded, so a
backend that has them already sees nothing twice.

https://www.w3.org/TR/trace-context/ section 3.2.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from sse_recorder.exchange import Headers

# Only a version above 00 may have more fields than these.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
    r"(?:(?<!^00.{53})-.*)?"
)

# "Vendors SHOULD propagate at least 512 characters of a combined header."
_STATE_CHARACTERS_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a trace, as `traceparent` carries it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool = True

    @property
    def flags(self) -> int:
        """The flags, as a number."""
        return int(self.sampled)

    def traceparent(self) -> str:
        """Return the header's value."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(headers: Headers) -> TraceContext | None:
    """Return the context that a request came with; None without one valid header."""
    values = [value for name, value in headers if name.lower() == "traceparent"]
    match = _TRACEPARENT.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


def trace_state(headers: Headers) -> str:
    """Return the `tracestate` of a request; it belongs to its `traceparent`.

    None of one that is longer than what everybody is asked to carry: it would be on
    every span.
    """
    if parse_traceparent(headers) is None:
        return ""
    values = (value for name, value in headers if name.lower() == "tracestate")
    state = ",".join(filter(None, map(str.strip, values)))
    return state if len(state) <= _STATE_CHARACTERS_MAX else ""


def exchange_context(exchange_id: str, parent: TraceContext | None) -> TraceContext:
    """Return the context of an exchange's own span.

    It joins the parent's trace and keeps its sampling decision.  Without a parent the
    trace id is the first half of the exchange id and a digest: samplers by ratio, here
    and upstream, go by the second half, of which a UUID has two bits that never change.
    """
    span_id = derive_span_id(exchange_id)
    if parent is None:
        half = exchange_id.replace("-", "")[:16]
        return TraceContext(half + derive_span_id(exchange_id, "trace"), span_id)
    return TraceContext(parent.trace_id, span_id, parent.sampled)


def derive_span_id(*names: str | int) -> str:
    """Return the span id for an exchange, or for one of its tool calls by number."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()
    return digest[:16]
