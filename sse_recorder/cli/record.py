"""`record`: a recording proxy, a command run beside one, or one request through one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

import click

from sse_recorder import config
from sse_recorder.admin import AdminServer
from sse_recorder.background import run
from sse_recorder.capture import Limits
from sse_recorder.cli import child, providers
from sse_recorder.cli.base import (
    counted,
    option,
    rule_options,
    say,
    store_option_with,
)
from sse_recorder.cli.fetch import Request, fetch, is_error
from sse_recorder.cli.serve import (
    Address,
    Signals,
    announce,
    grace_option,
    listen_option,
    serve,
)
from sse_recorder.cli.settings import Settings
from sse_recorder.cli.telemetry import telemetry_options
from sse_recorder.cli.workers import Summary, Workers
from sse_recorder.errors import UsageError
from sse_recorder.http1.limits import Limits as HttpLimits
from sse_recorder.proxy import Recorder
from sse_recorder.stats import Stats

_ID_WIDTH: Final = 8
# Options that make no sense beside the others.
_OF_A_REQUEST: Final = frozenset({"method", "headers", "data", "json", "form", "fail"})
_OF_A_PROXY: Final = frozenset(
    {
        *("upstream", "routes", "listen", "workers", "admin"),
        *("on_client_abort", "grace_s", "faults", "seed"),
        *("propagate", "expose_ids"),
        *("connections", "head_timeout_s", "idle_timeout_s"),
    }
)
_DEFAULTS: Final = Limits()
_HTTP_DEFAULTS: Final = HttpLimits()
# Options that are limits, and what they limit.
_LIMITS: Final = ("queue_bytes", "segment_bytes", "segment_age_s")
_UPSTREAM_TIMEOUT: Final = "upstream_timeout_s"
_HTTP_LIMITS: Final = {
    "connections": "connections",
    "head_bytes": "head_bytes",
    "headers_max": "headers",
    "head_timeout_s": "head_timeout_s",
    "idle_timeout_s": "idle_timeout_s",
}


class _Pair(click.ParamType[tuple[str, str]]):
    """Two words with an equals sign between them."""

    name = "pair"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if name and equals:
            return name, text
        message = f"{value!r} is not like {self._example}"
        raise click.BadParameter(message, ctx, param)


class _Record(child.Command):
    """A command that tells its options apart."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        sections: dict[str, list[tuple[str, str]]] = {
            "Options": [],
            "Options of a single request, as curl has them": [],
            "Limits": [],
        }
        general, request, limits = sections.values()
        for param in self.get_params(ctx):
            line = param.get_help_record(ctx)
            if line is None or not isinstance(param, click.Option):
                continue
            if param.name in _OF_A_REQUEST:
                request.append(line)
            else:
                is_limit = param.name in {*_LIMITS, *_HTTP_LIMITS, _UPSTREAM_TIMEOUT}
                (limits if is_limit else general).append(line)
        for title, lines in sections.items():
            with formatter.section(title):
                formatter.write_dl(lines)


@click.command(cls=_Record, options_metavar="[OPTIONS]")
@click.argument("url", metavar="[URL | -- CMD [ARGS]...]", required=False)
@option(
    "--upstream",
    metavar="URL",
    help="The API to record.  A path in it goes in front of that of every request.",
)
@option(
    "--route",
    "routes",
    metavar="/PREFIX=URL",
    multiple=True,
    type=_Pair("/openai=https://api.openai.com/v1"),
    help="Where paths go that begin with the prefix, which is taken off.  The longest"
    " prefix wins; what has none goes to --upstream.  Can be given again.",
)
@listen_option
@store_option_with("The folder to record into; it is made if it is not there.")
@option(
    "--tag",
    "tags",
    metavar="KEY=VALUE",
    multiple=True,
    type=_Pair("run=42"),
    help="Label every exchange: tags['KEY'] in SQL.  Can be given again.",
)
@option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many processes share the port; each writes segments of its own.",
)
@option(
    "--admin",
    type=Address(),
    metavar="HOST:PORT",
    help="Where to serve /healthz, and /metrics for Prometheus; by default nowhere.",
)
@option(
    "--on-write-error",
    type=click.Choice(["continue", "fail"]),
    default="continue",
    show_default=True,
    help="While the recording cannot be written, let requests pass, or refuse them"
    " with 503.",
)
@option(
    "--on-client-abort",
    type=click.Choice(["close", "finish"]),
    default="close",
    show_default=True,
    help="When a client leaves, close its upstream, or record that to the end.",
)
@option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[=VALUE][@PLACE:N]",
    help="Disturb every response on its way to the client, as replay does; what is"
    " recorded is what the upstream sent.",
)
@option("--seed", type=int, default=0, help="What faults are drawn from.")
@option(
    "--propagate",
    metavar="[/PREFIX=]MODE",
    multiple=True,
    help="What upstreams are told of traces, or that of a route: child (the exchange's"
    " own span, if spans are exported), passthrough (what the client said) or none."
    "  Can be given again.",
)
@option(
    "--expose-ids",
    is_flag=True,
    help="Say the ids of an exchange and its trace in the headers of its response.",
)
@telemetry_options
@option(
    "--otel-stream-events",
    is_flag=True,
    help="Log an event when a stream greets its client or reports a status.",
)
@rule_options
@grace_option
@option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate authorities to trust in place of the system's, as PEM.",
)
@option(
    "--max-connections",
    "connections",
    metavar="N",
    type=click.IntRange(min=1),
    default=_HTTP_DEFAULTS.connections,
    show_default=True,
    help="Clients beyond these are answered 503.",
)
@option(
    "--max-head",
    "head_bytes",
    metavar="BYTES",
    type=click.IntRange(min=1_024),
    default=_HTTP_DEFAULTS.head_bytes,
    show_default=True,
    help="A larger request head is answered 431.  An upstream's may have 256 KiB, or"
    " this if it is more.",
)
@option(
    "--max-headers",
    "headers_max",
    metavar="N",
    type=click.IntRange(min=1),
    default=_HTTP_DEFAULTS.headers,
    show_default=True,
    help="More headers are answered 431.",
)
@option(
    "--head-timeout",
    "head_timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_HTTP_DEFAULTS.head_timeout_s,
    show_default=True,
    help="How long a request head may take to come.",
)
@option(
    "--idle-timeout",
    "idle_timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_HTTP_DEFAULTS.idle_timeout_s,
    show_default=True,
    help="How long a connection is kept without a request.  A stream may be silent for"
    " as long as it likes.",
)
@option(
    "--upstream-timeout",
    _UPSTREAM_TIMEOUT,
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="How long an upstream may be silent: then the client is answered 504, or its"
    " stream is broken off.  By default as long as it likes.",
)
@option(
    "--queue-bytes",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=_DEFAULTS.queue_bytes,
    show_default=True,
    help="How much may wait to be written before recordings become incomplete.",
)
@option(
    "--segment-bytes",
    metavar="BYTES",
    type=click.IntRange(min=1),
    default=_DEFAULTS.segment_bytes,
    show_default=True,
    help="How large a journal becomes before it is made into Parquet.",
)
@option(
    "--segment-age",
    "segment_age_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULTS.segment_age_s,
    show_default=True,
    help="How old it becomes.",
)
@click.option("-X", "--request", "method", metavar="METHOD", help="GET, POST, ….")
@click.option(
    "-H",
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    help="A header.",
)
@click.option(
    "-d",
    "--data",
    metavar="TEXT|@FILE|@-",
    multiple=True,
    help="POST it as a form; @- is stdin.  Several are joined with &.",
)
@click.option(
    "--json",
    metavar="TEXT|@FILE|@-",
    multiple=True,
    help="POST it as JSON.",
)
@click.option(
    "-F",
    "--form",
    metavar="NAME=TEXT|@FILE",
    multiple=True,
    help="POST a field, or a file, of a multipart form.",
)
@click.option("--fail", is_flag=True, help="Exit with 1 when the status is above 399.")
@click.pass_context
def record(ctx: click.Context, /, **options: Any) -> int:
    """Record what goes through a proxy, what a command asks for, or one request.

    With --upstream or --route it is a proxy: give your client the address that is
    printed in place of the API's.  Streams pass through unchanged while they are
    recorded.  Ctrl-C ends it.

    \b
    sse-recorder record --upstream https://api.meibel.ai --listen 127.0.0.1:8787
    sse-recorder record --route /openai=https://api.openai.com/v1 \\
                        --route /anthropic=https://api.anthropic.com

    With a command behind -- it does so while the command runs, and exits with its code.
    The variables from which SDKs read their base URL (OPENAI_BASE_URL,
    ANTHROPIC_BASE_URL, …) point to the proxy, and SSE_RECORDER_URL does for all others.
    Without --upstream and --route there is a route for every API that is known:
    /openai, /anthropic, /gemini, /groq, /cohere, /mistral, /ollama, /meibel; to where
    its variable points, if that is set.  An --upstream on a host of one of these APIs
    gets that API's clients only, and the others keep such routes (/-/openai, …): no key
    goes to another vendor.  Any other --upstream, such as a gateway or a server on this
    machine, stands in for all of them, and gets their keys.

    \b
    sse-recorder record -- python agent.py
    sse-recorder record --upstream https://api.openai.com --tag run=42 -- pytest

    With a URL it sends one request, as curl would, and shows the answer as it comes.

    \b
    sse-recorder record https://api.meibel.ai/v2/agents -H "Meibel-API-Key: $KEY"
    sse-recorder record https://api.openai.com/v1/responses --json @request.json

    Spans and metrics are sent too if OTEL_EXPORTER_OTLP_ENDPOINT is set.
    """
    argv = child.command_of(ctx)
    url: str | None = options["url"]
    if url is not None and argv is not None:
        raise UsageError("give a URL, or -- and a command: not both")
    if url is not None:
        _refuse(
            ctx, _OF_A_PROXY, "is for a proxy: leave it away, or leave the URL away"
        )
        return _record_request(url, options)
    _refuse(ctx, _OF_A_REQUEST, "is for a single request: give the URL to ask for")
    return _record_proxy(argv, options)


def _refuse(ctx: click.Context, names: Iterable[str], why: str) -> None:
    """Refuse options that were given with what they do not belong to."""
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        is_given = source is click.core.ParameterSource.COMMANDLINE
        if param.name in names and is_given:
            raise UsageError(f"{max(param.opts, key=len)} {why}")


def _settings(
    options: Mapping[str, Any], upstream: str | None, routes: Mapping[str, str]
) -> Settings:
    return Settings(
        upstream=upstream,
        routes=routes,
        store=options["store"],
        tags=dict(options["tags"]),
        ca_file=options["ca_file"],
        on_write_error="refuse" if options["on_write_error"] == "fail" else "go-on",
        on_client_abort=options["on_client_abort"],
        upstream_timeout_s=options["upstream_timeout_s"],
        faults=list(options["faults"]),
        seed=options["seed"],
        propagate=list(options["propagate"]),
        expose_ids=options["expose_ids"],
        semconv=options["semconv"],
        otel_compat=list(options["otel_compat"]),
        otel_http_spans=options["otel_http_spans"],
        otel_stream_events=options["otel_stream_events"],
        mask=list(options["mask"]),
        keep=list(options["keep"]),
        patterns=list(options["patterns"]),
        limits={name: options[name] for name in _LIMITS},
        http_limits={name: options[own] for own, name in _HTTP_LIMITS.items()},
    )


# --- a proxy, and a command beside it -------------------------------------------------


def _record_proxy(argv: tuple[str, ...] | None, options: Mapping[str, Any]) -> int:
    environ = config.environment()
    upstream, routes = options["upstream"], _unique(options["routes"])
    plan = providers.Plan(routes, {})
    if argv is not None:
        child.find(argv[0], environ)  # before anything is recorded, or said
        plan = providers.plan(upstream, routes, environ)
    elif upstream is None and not routes:
        raise UsageError(
            "nothing says what to record: give --upstream URL, --route /PREFIX=URL, a"
            " URL to ask for, or -- and a command"
        )
    settings = _settings(options, upstream, plan.routes)
    service = _service(settings, options)
    admin = _admin(service, options["admin"])

    def begun() -> None:
        _say_what_began(service, admin)
        if argv is None:
            say(f"Recording {settings.names} into {settings.store} (Ctrl-C ends it).")

    async def run_command(signals: Signals) -> int:
        begun()
        variables = plan.variables(service.url, environ)
        return await child.run(argv or (), {**environ, **variables}, signals)

    work = run_command if argv else announce(service, begun)
    # A command that was not run has not succeeded.
    unbegun = 130 if argv else 0
    serving = serve(service, options["grace_s"], work, beside=admin, unbegun=unbegun)
    code = run(serving)
    summary = service.summary
    say(summary.sentence(settings.store))
    for line in summary.what_faults_did():
        say(line)
    if lost := summary.spans_lost:
        say(f"{counted(lost, 'span')} could not be delivered.")
    return code


def _service(settings: Settings, options: Mapping[str, Any]) -> _Single | Workers:
    host, port = options["listen"]
    if options["workers"] == 1:
        return _Single(settings.recorder(host, port))
    return Workers(settings, options["workers"], host=host, port=port)


def _say_what_began(service: _Single | Workers, admin: AdminServer | None) -> None:
    if recovered := service.summary.recovered:
        say(f"Recovered {counted(recovered, 'segment')} that an earlier recorder left.")
    if admin is not None:
        say(
            f"Health is at {admin.url}/healthz, and metrics are at {admin.url}/metrics."
        )


class _Single:
    """One recorder, in this process, with what `Workers` has."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.start = recorder.start
        self.stop = recorder.stop

    @property
    def url(self) -> str:
        return self._recorder.url

    @property
    def summary(self) -> Summary:
        return Summary.of(self._recorder)

    async def stats(self) -> Stats:
        return self._recorder.stats()


def _admin(
    service: _Single | Workers, address: tuple[str, int] | None
) -> AdminServer | None:
    if address is None:
        return None
    return AdminServer(service.stats, host=address[0], port=address[1])


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    routes: dict[str, str] = {}
    for prefix, url in pairs:
        if prefix in routes:
            raise UsageError(
                f"--route {prefix} is given twice: give each prefix one URL"
            )
        routes[prefix] = url
    return routes


# --- one request ----------------------------------------------------------------------


def _record_request(url: str, options: Mapping[str, Any]) -> int:
    if not url.lower().startswith(("http://", "https://")):
        raise UsageError(
            f"{url!r} is not a URL; put -- in front of a command, and http:// or"
            " https:// in front of a host"
        )
    request = Request(
        url=url,
        method=options["method"],
        headers=options["headers"],
        data=options["data"],
        json=options["json"],
        form=options["form"],
    )
    built = request.build()  # before a recorder begins
    # Whoever has had enough of it wants no more of it.
    options = {**options, "on_client_abort": "close"}
    recorder = _settings(options, request.origin, {}).recorder("127.0.0.1", 0)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = fetch(built, recorder, sys.stdout.buffer)
    except KeyboardInterrupt:
        return 0  # what came is recorded, and that is what was asked for
    finally:
        if recorder.latest_id:
            short = recorder.latest_id[-_ID_WIDTH:]
            where = f"into {options['store']}; `sse-recorder show {short}` shows it"
            say(f"Recorded {recorder.latest_id} {where}.")
    return int(options["fail"] and is_error(status))


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


COMMANDS = (record,)
