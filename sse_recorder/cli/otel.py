"""`otel`: the spans of a recording, sent again or shown."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from sse_recorder import analytics, config
from sse_recorder.cli.base import counted, option, say
from sse_recorder.cli.telemetry import telemetry_options
from sse_recorder.errors import SSERecorderError, UsageError
from sse_recorder.otel import SpanData, Telemetry, View, clean
from sse_recorder.otel.export import rebuilt, send
from sse_recorder.otel.settings import is_url, sampler_of
from sse_recorder.store.store import Store, source_and_id

_GENERAL: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OF_TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_UNLIMITED: Final = 1 << 30


@click.group("otel")
def group() -> None:
    """Send the spans of a recording to a tracing system.

    \b
    sse-recorder otel export recordings --dry-run
    sse-recorder otel export recordings --endpoint http://127.0.0.1:4318
    """


@group.command("export")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@option(
    "--endpoint",
    metavar="URL",
    help="The collector, in place of what OTEL_EXPORTER_OTLP_ENDPOINT says.",
)
@option("--where", metavar="SQL", help="Only exchanges for which this is true.")
@option("--dry-run", is_flag=True, help="Show the spans, and send nothing.")
@option(
    "--format",
    "format_",
    type=click.Choice(["tree", "jsonl"]),
    default="tree",
    show_default=True,
    only_in="otel",
    help="How --dry-run shows them: for people, or one a line with everything.",
)
@telemetry_options
def export(
    sources: tuple[str, ...],
    endpoint: str | None,
    where: str | None,
    format_: str,
    semconv: str,
    otel_compat: tuple[str, ...],
    *,
    otel_http_spans: bool,
    dry_run: bool,
) -> None:
    """Make the spans of recordings again, and send them.

    SOURCE is a folder of recordings, a cassette, or one exchange of either (SOURCE#ID).
    The spans have the ids, the times and the attributes that they had when it was
    recorded, so a backend that was down loses nothing, and one that has them already
    sees nothing twice.  Metrics are not sent again: they have no ids.

    \b
    sse-recorder otel export recordings --dry-run
    sse-recorder otel export tests/chat.sse.jsonl --endpoint http://127.0.0.1:4318
    sse-recorder otel export recordings --where "started_at > now() - INTERVAL 1 DAY"
    """
    environ = dict(config.environment())
    view = View.of(
        environ, vocabulary=semconv, compat=otel_compat, http_spans=otel_http_spans
    )
    if dry_run:
        shown = Telemetry(None, view=view, sampler=sampler_of(environ))
        found = _spans(sources, where, shown)
        _print_lines(found) if format_ == "jsonl" else _print_trees(found)
        _say_what_is_left_out(shown)
        return
    telemetry = _telemetry(environ, endpoint, view)
    try:
        delivered, left = send(_spans(sources, where, telemetry), telemetry)
    finally:
        missing = telemetry.close(timeout_s=1)
    if missing and not left:
        raise SSERecorderError(
            f"the collector refused {missing:,} of {counted(delivered, 'span')}"
            f" ({telemetry.refusal})"
        )
    if left:
        raise SSERecorderError(
            f"the collector took {counted(delivered, 'span')} and then no more"
            f" ({telemetry.refusal}); see that it is there, and run this again: what"
            " arrived is not doubled"
        )
    say(f"Sent {counted(delivered, 'span')}.")
    _say_what_is_left_out(telemetry)


def _say_what_is_left_out(telemetry: Telemetry) -> None:
    if telemetry.unsampled:
        left_out = counted(telemetry.unsampled, "exchange")
        say(f"{left_out} left out, because the traces are not sampled.")


def _telemetry(environ: dict[str, str], endpoint: str | None, view: View) -> Telemetry:
    if endpoint is not None:
        if not is_url(endpoint):
            raise UsageError(
                f"--endpoint {clean(endpoint)!r} is no http:// or https:// URL; give"
                " one such as http://127.0.0.1:4318"
            )
        for name in (_OF_TRACES, "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
            environ.pop(name, None)
        environ[_GENERAL] = endpoint.rstrip("/").removesuffix("/v1/traces")
    environ |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    telemetry = Telemetry.from_environment(environ, view=view)
    if telemetry is None:
        raise UsageError(
            f"nothing says where to send spans: give --endpoint URL, or set {_GENERAL};"
            " --dry-run shows them"
        )
    return telemetry


def _spans(
    sources: Iterable[str], where: str | None, telemetry: Telemetry
) -> Iterator[list[SpanData]]:
    for name in sources:
        source, exchange_id = source_and_id(name)
        with Store.open(source) as store:
            condition = analytics.condition(store, where=where)
            if exchange_id is not None:
                one = store.exchange(exchange_id).exchange_id
                condition = f"({condition}) AND exchange_id = '{one}'"
            # It is about the view, whose times SQL can reckon with.
            selected = f"SELECT exchange_id FROM exchanges WHERE {condition}"  # noqa: S608 - the user's own condition
            yield from rebuilt(store, telemetry, f"exchange_id IN ({selected})")


def _print_lines(found: Iterable[list[SpanData]]) -> None:
    for span in chain.from_iterable(found):
        line = {name: value for name, value in _plain(span).items() if value}
        click.echo(json.dumps(line, ensure_ascii=False))


def _plain(span: SpanData) -> dict[str, Any]:
    return asdict(span) | {"attributes": dict(span.attributes), "status": span.status}


def _print_trees(found: Iterable[list[SpanData]]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    count = 0
    exchanges = ((spans[0].trace_id, spans) for spans in found)
    for trace_id, group_ in groupby(exchanges, key=lambda pair: pair[0]):
        tree = Tree(Text(f"trace {trace_id}"))
        for _, spans in group_:
            count += len(spans)
            _add(tree, spans)
        console.print(tree)
    say(f"{counted(count, 'span')}; nothing was sent.")


def _add(tree: Tree, spans: list[SpanData]) -> None:
    """Add the spans of an exchange, each below its parent if that is among them."""
    known = {span.span_id for span in spans}
    below = defaultdict[str | None, list[SpanData]](list)
    for span in sorted(spans, key=attrgetter("start_ns")):
        parent = span.parent_span_id
        below[parent if parent in known else None].append(span)
    (top, *_) = below[None]
    branches = [(tree, span) for span in reversed(below[None])]
    while branches:
        around, span = branches.pop()
        branch = around.add(_label(span, top))
        branches += ((branch, one) for one in reversed(below[span.span_id]))


def _label(span: SpanData, top: SpanData) -> Text:
    began = datetime.fromtimestamp(span.start_ns // 1_000_000_000, UTC)
    at = began.strftime("%Y-%m-%d %H:%M:%S")
    if span is not top:
        at = f"+{(span.start_ns - top.start_ns) / 1e6:,.3f} ms"
    text = Text(f"{span.name}  ")
    text.append(f"{span.kind}  {at}  {span.duration_ns / 1e6:,.3f} ms", "dim")
    if span.error_type is not None:
        text.append(f"  {span.error_type}", "red")
    for link in span.links:
        text.append(f"  {link.kind} {link.span_id}", "dim")
    return text


COMMANDS: Final = (group,)
