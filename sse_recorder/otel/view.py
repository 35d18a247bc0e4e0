"""The view: in which words telemetry speaks, and how much it tells.

A value that a worker can be given, too.  What is content (prompts, answers, arguments
and results of tools) is told only where the standard variable asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from sse_recorder import semconv
from sse_recorder.errors import UsageError
from sse_recorder.otel.stream import Listener

CONTENT_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
DIALECTS: Final = ("langfuse", "logfire", "openinference")
"""Backends that read attributes of their own, which can be added."""

# On spans, on events.  True and false are from before there was a choice.
_SWITCH: Final[Mapping[str, tuple[bool, bool]]] = {
    "": (False, False),
    "false": (False, False),
    "no_content": (False, False),
    "span_only": (True, False),
    "true": (True, False),
    "event_only": (False, True),
    "span_and_event": (True, True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What telemetry says of exchanges.

    Args:
        vocabulary: see `sse_recorder.semconv`.
        compat: backends whose own attributes are added.
        http_spans: whether requests have spans of their own, as a server's and a
            client's.
        content_on_spans: whether spans have content.
        content_on_events: whether events have.
        stream_events: whether greetings and reports of status are events.

    Raises:
        UsageError: there is no such vocabulary, or no such backend.
    """

    vocabulary: str = semconv.GENAI_1_41.name
    compat: tuple[str, ...] = ()
    http_spans: bool = False
    content_on_spans: bool = False
    content_on_events: bool = False
    stream_events: bool = False

    def __post_init__(self) -> None:
        semconv.vocabulary(self.vocabulary)
        for name in self.compat:
            if name not in DIALECTS:
                raise UsageError(
                    f"{name!r} has no attributes of its own here; there are those of"
                    f" {', '.join(DIALECTS)}"
                )

    @classmethod
    def of(
        cls,
        environ: Mapping[str, str],
        *,
        vocabulary: str = semconv.GENAI_1_41.name,
        compat: Iterable[str] = (),
        http_spans: bool = False,
        stream_events: bool = False,
    ) -> Self:
        """Return the view that options and the standard variable ask for.

        Raises:
            UsageError: one of them asks for something that there is not.
        """
        value = environ.get(CONTENT_VARIABLE, "").strip()
        switch = _SWITCH.get(value.lower())
        if switch is None:
            raise UsageError(
                f"{CONTENT_VARIABLE} is {value[:40]!r}; set it to NO_CONTENT,"
                " SPAN_ONLY, EVENT_ONLY or SPAN_AND_EVENT"
            )
        on_spans, on_events = switch
        return cls(
            vocabulary=vocabulary,
            compat=tuple(compat),
            http_spans=http_spans,
            content_on_spans=on_spans,
            content_on_events=on_events,
            stream_events=stream_events,
        )

    def listener(self) -> Listener:
        """Return what is to hear the frames of an exchange."""
        return Listener(self.has_content, self.stream_events)

    @property
    def words(self) -> semconv.Vocabulary:
        """The vocabulary."""
        return semconv.vocabulary(self.vocabulary)

    @property
    def has_content(self) -> bool:
        """Whether content is told at all."""
        return self.content_on_spans or self.content_on_events


PLAIN: Final = View()
