"""Options that say in which words spans and metrics are told, and what comes of them.

In a module of its own, because most commands tell nothing to anybody, and are not to
wait for what would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from sse_recorder import config
from sse_recorder.cli.base import option
from sse_recorder.otel import Telemetry, View
from sse_recorder.otel.view import DIALECTS
from sse_recorder.semconv import GENAI_1_41, VOCABULARIES

F = TypeVar("F", bound=Callable[..., Any])


def telemetry_of(
    semconv: str = GENAI_1_41.name,
    compat: Iterable[str] = (),
    *,
    http_spans: bool = False,
    stream_events: bool = False,
) -> Telemetry | None:
    """Return what options and the standard variables ask for, or None.

    Raises:
        UsageError: they ask for something that cannot be done.
    """
    environ = config.environment()
    view = View.of(
        environ,
        vocabulary=semconv,
        compat=compat,
        http_spans=http_spans,
        stream_events=stream_events,
    )
    return Telemetry.from_environment(environ, view=view)


def telemetry_options(command: F) -> F:
    """Declare the options that say in which words spans and metrics are told."""
    for declare in (
        option(
            "--otel-http-spans",
            is_flag=True,
            help="Add spans of the HTTP requests on both sides of the recorder.",
        ),
        option(
            "--otel-compat",
            multiple=True,
            type=click.Choice(DIALECTS),
            help="Add the attributes that this backend reads besides; may be repeated.",
        ),
        option(
            "--semconv",
            type=click.Choice(list(VOCABULARIES)),
            default=GENAI_1_41.name,
            show_default=True,
            help="The names that spans and metrics have: the published ones, or those"
            " of the unreleased conventions.",
        ),
    ):
        command = declare(command)
    return command
