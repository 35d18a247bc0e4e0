"""Health and metrics, over a real socket."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support import PATIENCE_S

from sse_recorder import __version__
from sse_recorder.admin import METRICS, AdminServer, exposition
from sse_recorder.background import running
from sse_recorder.exchange import Outcome
from sse_recorder.stats import Stats, Usage

STATS = Stats(
    exchanges={"complete": 7, "timeout": 1},
    open_exchanges=2,
    response_bytes=12345,
    refused_requests={"no_route": 3},
    usage=Usage(cpu_seconds=1.25, resident_bytes=4096),
)
# https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details
SAMPLE = re.compile(
    r"[a-z_]+(\{[a-z]+=\"[^\"\\]*\"(,[a-z]+=\"[^\"\\]*\")*\})? [0-9.e+]+"
)


@contextmanager
def asking(stats: Stats) -> Iterator[httpx.Client]:
    """Serve some counts, and talk to what serves them."""

    async def read() -> Stats:
        return stats

    with (
        running(AdminServer(read)) as admin,
        httpx.Client(base_url=admin.url, trust_env=False, timeout=PATIENCE_S) as http,
    ):
        yield http


def test_health_is_200_while_all_is_well() -> None:
    """A probe looks at the status; a person reads the rest."""
    with asking(STATS) as http:
        answer = http.get("/healthz")
        assert http.head("/healthz").status_code == 200
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "status": "ok",
        "problems": [],
        "open_exchanges": 2,
        "recorders": 1,
        "version": __version__,
    }


def test_health_is_503_with_the_reasons_while_it_is_not() -> None:
    """Whoever is woken up reads why."""
    with asking(Stats(problems=("the disk is full",))) as http:
        answer = http.get("/healthz?verbose")
        metrics = http.get("/metrics").text
    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["problems"]) == (
        "failing",
        ["the disk is full"],
    )
    assert "\nsse_recorder_healthy 0\n" in f"\n{metrics}"


def test_metrics_are_in_prometheus_text_format() -> None:
    """Each family has its help and its type once, and then its samples."""
    with asking(STATS) as http:
        answer = http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text == exposition(STATS)
    for block in answer.text.split("# HELP ")[1:]:
        help_, type_, *samples = block.splitlines()
        name = help_.partition(" ")[0]
        assert re.fullmatch(f"# TYPE {name} (counter|gauge)", type_)
        assert name.endswith("_total") == type_.endswith("counter")
        assert samples
        for sample in samples:
            assert SAMPLE.fullmatch(sample)
            assert re.match(f"{name}[ {{]", sample)
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize(
    "line",
    [
        'sse_recorder_exchanges_total{outcome="complete"} 7',
        'sse_recorder_exchanges_total{outcome="timeout"} 1',
        'sse_recorder_exchanges_total{outcome="upstream_abort"} 0',
        'sse_recorder_refused_requests_total{reason="no_route"} 3',
        "sse_recorder_open_exchanges 2",
        "sse_recorder_response_bytes_total 12345",
        "sse_recorder_healthy 1",
        "process_cpu_seconds_total 1.25",
        "process_resident_memory_bytes 4096",
    ],
)
def test_what_is_counted_is_in_the_metrics(line: str) -> None:
    """What has not happened is there as zero: a rate needs a beginning."""
    assert line in exposition(STATS).splitlines()


def test_every_outcome_has_a_sample() -> None:
    """None is forgotten when one is added."""
    for outcome in Outcome:
        assert f'{{outcome="{outcome}"}}' in exposition(STATS)
