"""The port for those who run a recorder: is it well, and what has it done.

    GET /healthz    200 while everything is recorded, 503 with the reasons while not
    GET /metrics    counts in Prometheus' text format, version 0.0.4

It is a port of its own because the recorder's belongs to the API behind it, all paths
included.  The counts are read when somebody asks, by a coroutine, because those of
several processes have to be asked for.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

from sse_recorder import __version__
from sse_recorder.clock import SYSTEM, Clock
from sse_recorder.exchange import Headers, Outcome, RequestHead, ResponseHead
from sse_recorder.http1.answers import send_json
from sse_recorder.http1.endpoints import Endpoint, EndpointServer
from sse_recorder.http1.refusal import KINDS
from sse_recorder.http1.response import ResponseStream
from sse_recorder.stats import Stats

TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
REFUSALS: Final = ("no_route", "recorder_unhealthy", *KINDS)

Samples = Iterable[tuple[Mapping[str, str], float]]
"""Labels, and the value that they have."""


class Metric(NamedTuple):
    """One family of metrics, as it is documented and read."""

    name: str
    type: str
    help: str
    read: Callable[[Stats], float | Samples]


def _exchanges(stats: Stats) -> Samples:
    # All of them from the beginning: a rate needs the zero before the first one.
    return [({"outcome": x}, stats.exchanges.get(x, 0)) for x in Outcome]


def _refusals(stats: Stats) -> Samples:
    return [({"reason": x}, stats.refused_requests.get(x, 0)) for x in REFUSALS]


def _build(_: Stats) -> Samples:
    return [({"version": __version__, "python": platform.python_version()}, 1)]


METRICS: Final = (
    Metric(
        "sse_recorder_healthy",
        "gauge",
        "1 while everything is being recorded, 0 while /healthz says otherwise.",
        lambda stats: int(not stats.problems),
    ),
    Metric(
        "sse_recorder_exchanges_total",
        "counter",
        "Exchanges that are over, by how they ended as the proxy saw it.",
        _exchanges,
    ),
    Metric(
        "sse_recorder_open_exchanges",
        "gauge",
        "Exchanges that are not over.",
        lambda stats: stats.open_exchanges,
    ),
    Metric(
        "sse_recorder_client_connections",
        "gauge",
        "Clients that are connected.",
        lambda stats: stats.connections,
    ),
    Metric(
        "sse_recorder_request_bytes_total",
        "counter",
        "Bytes of request bodies that came from clients.",
        lambda stats: stats.request_bytes,
    ),
    Metric(
        "sse_recorder_response_bytes_total",
        "counter",
        "Bytes of response bodies that came from upstreams.",
        lambda stats: stats.response_bytes,
    ),
    Metric(
        "sse_recorder_refused_requests_total",
        "counter",
        "Requests that the recorder answered itself and did not record.",
        _refusals,
    ),
    Metric(
        "sse_recorder_refused_records_total",
        "counter",
        "Pieces of exchanges that were not recorded because the queue was full.",
        lambda stats: stats.refused_records,
    ),
    Metric(
        "sse_recorder_queue_bytes",
        "gauge",
        "Bytes that wait to be written.",
        lambda stats: stats.queued_bytes,
    ),
    Metric(
        "sse_recorder_journal_errors_total",
        "counter",
        "Writes to a journal that failed.",
        lambda stats: stats.journal_errors,
    ),
    Metric(
        "sse_recorder_seals_total",
        "counter",
        "Segments that were sealed.",
        lambda stats: stats.seals,
    ),
    Metric(
        "sse_recorder_seal_failures_total",
        "counter",
        "Segments that could not be sealed, whose journals are kept.",
        lambda stats: stats.seal_failures,
    ),
    Metric(
        "sse_recorder_writer_restarts_total",
        "counter",
        "Times that what writes the recording had to be begun again.",
        lambda stats: stats.writer_restarts,
    ),
    Metric(
        "sse_recorder_recorders",
        "gauge",
        "Processes that record, and whose counts these are.",
        lambda stats: stats.recorders,
    ),
    Metric("sse_recorder_build_info", "gauge", "What is running.", _build),
    Metric(
        "process_cpu_seconds_total",
        "counter",
        "User and system CPU time spent in seconds, by all processes of the recorder.",
        lambda stats: stats.usage.cpu_seconds,
    ),
    Metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes, of all processes of the recorder.",
        lambda stats: stats.usage.resident_bytes,
    ),
    Metric(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors, of all processes of the recorder.",
        lambda stats: stats.usage.open_files,
    ),
)


def exposition(stats: Stats) -> str:
    """Return counts in Prometheus' text format."""
    return "".join(line + "\n" for metric in METRICS for line in _lines(metric, stats))


def _lines(metric: Metric, stats: Stats) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.type}"
    found = metric.read(stats)
    samples: Samples = [({}, found)] if isinstance(found, int | float) else found
    for labels, value in samples:
        # None of the values has a character that would need an escape.
        pairs = ",".join(f'{name}="{text}"' for name, text in labels.items())
        yield f"{metric.name}{f'{{{pairs}}}' if pairs else ''} {value}"


class AdminServer(EndpointServer):
    """Serves health and metrics.

    Args:
        read: gives the counts of now.
        host: the address to listen on.
        port: 0 picks one.
        clock: gives the time of every read.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Stats]],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM,
    ) -> None:
        def endpoint(send: Callable[[ResponseStream, Stats], None]) -> Endpoint:
            async def answer(head: RequestHead, stream: ResponseStream) -> None:
                del head
                send(stream, await read())

            return Endpoint(("GET", "HEAD"), answer)

        endpoints = {
            "/healthz": endpoint(_send_health),
            "/metrics": endpoint(_send_metrics),
        }
        super().__init__(endpoints, host=host, port=port, clock=clock)


def _send_health(stream: ResponseStream, stats: Stats) -> None:
    is_well = not stats.problems
    value = {
        "status": "ok" if is_well else "failing",
        "problems": stats.problems,
        "open_exchanges": stats.open_exchanges,
        "recorders": stats.recorders,
        "version": __version__,
    }
    status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
    send_json(stream, status, value, (("Cache-Control", "no-store"),))


def _send_metrics(stream: ResponseStream, stats: Stats) -> None:
    body = exposition(stats).encode()
    headers: Headers = (
        ("Content-Type", TEXT_FORMAT),
        ("Content-Length", str(len(body))),
    )
    stream.send_head(ResponseHead(HTTPStatus.OK, HTTPStatus.OK.phrase, headers))
    stream.send_data(body)
    stream.end()
