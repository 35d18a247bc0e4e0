"""Dashboards ask for metrics that there are, by attributes that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from sse_recorder import semconv
from sse_recorder.otel import metrics

FOLDER = Path(__file__).parent.parent / "dashboards" / "grafana"
DASHBOARDS = sorted(FOLDER.glob("*.json"))
COUNTERS = {
    *(semconv.M_STALLS, semconv.M_EXCHANGES, semconv.M_FRAMES),
    *(semconv.M_DROPPED_RECORDS, semconv.M_REPLAYS),
    *(
        name
        for kind, name in semconv.GENAI_MAIN.m_tokens.items()
        if not kind.startswith("per_")
    ),
}
TOKENS = {*semconv.GENAI_1_41.m_tokens.values(), *semconv.GENAI_MAIN.m_tokens.values()}
OURS = {value for name, value in vars(semconv).items() if name.startswith("M_")}
OF_VOCABULARIES = {
    name
    for words in semconv.VOCABULARIES.values()
    for name in (
        words.m_inference_duration,
        words.m_time_to_first_chunk,
        words.m_time_per_output_chunk,
        words.m_tool_duration,
        *words.m_tokens.values(),
    )
}
ATTRIBUTES = {
    *metrics._COMMON,
    *metrics._MCP,
    *metrics._TOOL,
    semconv.ERROR_TYPE,
    semconv.GEN_AI_TOKEN_TYPE,
    semconv.OUTCOME,
}


def prometheus_names() -> Iterator[str]:
    """Give the names that Prometheus makes of ours."""
    for name in OURS | OF_VOCABULARIES:
        base = name.replace(".", "_")
        if name in COUNTERS:
            yield f"{base}_total"
            continue
        unit = "" if name in TOKENS else "_seconds"
        for suffix in ("bucket", "count", "sum"):
            yield f"{base}{unit}_{suffix}"


KNOWN = set(prometheus_names())
LABELS = {name.replace(".", "_") for name in ATTRIBUTES} | {"le"}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """Return what a dashboard asks for."""
    return [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


def alternatives(pattern: str) -> Iterator[str]:
    """Give the names that a pattern of alternatives stands for."""
    parts = re.split(r"\(([^)]*)\)", pattern)
    choices = [part.split("|") if n % 2 else [part] for n, part in enumerate(parts)]
    yield from map("".join, product(*choices))


def asked(expression: str) -> set[str]:
    """Return the metrics that an expression asks for."""
    found = set(re.findall(r"\b(?:gen_ai|sse_recorder|mcp|http)_\w+", expression))
    names = {name for name in found if name.endswith(SUFFIXES)}
    for pattern in re.findall(r'__name__=~"([^"]*)"', expression):
        names -= set(re.findall(r"\w+", pattern))
        names |= set(alternatives(pattern))
    return names


SUFFIXES = ("_bucket", "_count", "_sum", "_total")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_asks_for_metrics_that_there_are(path: Path) -> None:
    """Every expression has a metric, and every metric is one that is sent."""
    for expression in expressions(json.loads(path.read_text(encoding="utf-8"))):
        names = asked(expression)
        assert names
        assert names <= KNOWN, names - KNOWN


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_groups_by_attributes_that_there_are(path: Path) -> None:
    """A label that no metric has would show one line for all."""
    text = path.read_text(encoding="utf-8")
    dashboard = json.loads(text)
    used = set(re.findall(r"\{\{(\w+)\}\}", text))
    for expression in expressions(dashboard):
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {label.strip() for label in labels.split(",")}
        used |= set(re.findall(r'[{,]\s*(\w+)[!=]~?"', expression)) - {"__name__"}
    assert used <= LABELS, used - LABELS
    assert len(used) > 5


def test_the_dashboards_show_every_metric_of_ours() -> None:
    """What is sent and shown nowhere is sent for nobody."""
    shown = {
        name
        for path in DASHBOARDS
        for expression in expressions(json.loads(path.read_text(encoding="utf-8")))
        for name in asked(expression)
    }
    missing = {
        name
        for name in OURS
        if not any(one.startswith(name.replace(".", "_")) for one in shown)
    }
    assert missing == set()


def test_there_is_a_dashboard() -> None:
    """The tests above have something to look at."""
    assert DASHBOARDS
