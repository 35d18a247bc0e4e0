"""A span as a value, and what may be in one.

No SDK and no I/O: spans are compared, printed and tested as they are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sse_recorder import semconv

Value = str | bool | int | float | tuple[str, ...]

TEXT_BYTES_MAX: Final = 256
"""Of an attribute whose text a peer chose."""


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that one has to do with."""

    trace_id: str
    span_id: str
    kind: str
    """What it is to this one: a value of `sse_recorder.link.kind`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanData:
    """One span, in no SDK's terms."""

    name: str
    kind: Literal["client", "server", "internal"]
    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    parent_span_id: str | None
    """Of the client's span for an exchange, of the exchange's for a tool call."""
    start_ns: int
    """Wall time, in nanoseconds since 1970."""
    end_ns: int
    attributes: Mapping[str, Value]
    links: tuple[Link, ...] = ()
    trace_state: str = ""
    """What vendors said of the trace, as `tracestate` carries it."""
    has_remote_parent: bool = False
    """Whether its parent is of another process: it is an entry into this one."""

    @property
    def error_type(self) -> str | None:
        """What went wrong; None when nothing did."""
        value = self.attributes.get(semconv.ERROR_TYPE)
        return None if value is None else str(value)

    @property
    def status(self) -> Literal["unset", "error"]:
        """The span's status.  Success is `unset`: `ok` is the application's to say."""
        return "unset" if self.error_type is None else "error"

    @property
    def duration_ns(self) -> int:
        """How long the span lasted."""
        return self.end_ns - self.start_ns


def clean(text: str | None, bytes_max: int = TEXT_BYTES_MAX) -> str | None:
    """Return what is fit to be an attribute of a text that a peer chose.

    Without control and format characters, which rewrite what a terminal or a page
    shows, and without lone surrogates, which JSON can say and protobuf cannot: one of
    them would cost the whole batch.  Cut between characters.

    Returns:
        None when nothing is left.
    """
    # Cut first, with room for what is taken out: the text may be huge.
    kept = (
        c for c in (text or "")[: bytes_max * 4] if unicodedata.category(c)[0] != "C"
    )
    return "".join(kept).encode()[:bytes_max].decode(errors="ignore") or None


def mode_of(tags: Mapping[str, str]) -> str:
    """Return how an exchange with these tags was recorded."""
    is_clients = tags.get(semconv.MODE) == semconv.CLIENT
    return semconv.CLIENT if is_clients else semconv.PROXY


def present(found: Mapping[str, Value | None]) -> dict[str, Value]:
    """Return the attributes that have a value."""
    return {name: value for name, value in found.items() if value is not None}
