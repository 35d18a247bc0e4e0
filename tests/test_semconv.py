"""The names of telemetry: pinned, unique, and those of the conventions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import (
    gen_ai_attributes,
    jsonrpc_attributes,
    mcp_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics, mcp_metrics
from opentelemetry.semconv.attributes import (
    error_attributes,
    exception_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)
from opentelemetry.semconv.metrics import http_metrics
from opentelemetry.semconv.schemas import Schemas

from sse_recorder import semconv
from sse_recorder.errors import UsageError

ROOT = Path(__file__).parent.parent
ATTRIBUTES = {
    name: value
    for name, value in vars(semconv).items()
    if isinstance(value, str)
    and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", value)
    and not name.startswith("M_")
}
METRICS = {value for name, value in vars(semconv).items() if name.startswith("M_")}


def test_a_published_vocabulary_has_its_schema() -> None:
    """The last published one has the schema of its version, the other one none."""
    assert Schemas.V1_41_1.value == semconv.GENAI_1_41.schema_url
    assert semconv.GENAI_MAIN.schema_url is None
    assert not semconv.GENAI_1_41.is_main
    assert semconv.GENAI_MAIN.is_main


def test_there_are_two_vocabularies_and_no_other() -> None:
    """A misspelt vocabulary is refused, and the message names those that there are."""
    assert semconv.vocabulary("genai-1.41") is semconv.GENAI_1_41
    assert semconv.vocabulary("genai-main") is semconv.GENAI_MAIN
    with pytest.raises(UsageError, match=r"genai-1\.41 or genai-main"):
        semconv.vocabulary("genai")


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (error_attributes, {"ERROR_TYPE"}),
        (http_attributes, {"HTTP_REQUEST_METHOD", "HTTP_RESPONSE_STATUS_CODE"}),
        (server_attributes, {"SERVER_ADDRESS", "SERVER_PORT"}),
        (service_attributes, {"SERVICE_NAME", "SERVICE_VERSION"}),
        (url_attributes, {"URL_FULL", "URL_PATH", "URL_SCHEME"}),
        (exception_attributes, {"EXCEPTION_TYPE"}),
        (network_attributes, {"NETWORK_PROTOCOL_NAME", "NETWORK_PROTOCOL_VERSION"}),
        (network_attributes, {"NETWORK_TRANSPORT"}),
    ],
    ids=[
        *("error", "http", "server", "service", "url"),
        *("exception", "protocol", "transport"),
    ],
)
def test_stable_names_are_those_of_the_conventions(
    module: object, names: set[str]
) -> None:
    """What the conventions call stable is called the same here."""
    for name in names:
        assert getattr(semconv, name) == getattr(module, name)


def declared(*modules: object) -> set[str]:
    """Return the names that modules of the conventions declare."""
    return {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, str)
    }


def test_genai_names_are_those_of_the_conventions() -> None:
    """Names in the conventions' own namespaces are theirs, but for the newest ones."""
    known = declared(gen_ai_attributes, mcp_attributes, jsonrpc_attributes)
    ours = {
        name
        for name in ATTRIBUTES.values()
        if name.startswith(("gen_ai.", "mcp.", "jsonrpc."))
    }
    assert ours - known == {
        # Of genai-main, which the package does not have.
        "gen_ai.token.modality",
        "gen_ai.usage.cache_write.input_tokens",
    }


def test_metrics_of_genai_are_those_of_the_conventions() -> None:
    """A metric in the conventions' own namespace is theirs; of main: pinned."""
    known = declared(gen_ai_metrics, mcp_metrics, http_metrics)
    for words in semconv.VOCABULARIES.values():
        names = {
            *METRICS,
            words.m_inference_duration,
            words.m_time_to_first_chunk,
            words.m_time_per_output_chunk,
            words.m_tool_duration,
            *words.m_tokens.values(),
        }
        unknown = {name for name in names if not name.startswith("sse_")} - known
        assert unknown == (MAIN if words.is_main else set())


MAIN = {
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
    "gen_ai.client.inference.time_per_output_chunk",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.execute_tool.duration",
}


def test_an_attribute_has_one_constant_and_a_known_namespace() -> None:
    """No attribute is named twice, and what no convention names is in our namespace."""
    assert len(set(ATTRIBUTES.values())) == len(ATTRIBUTES)
    roots = {value.partition(".")[0] for value in ATTRIBUTES.values()}
    assert roots == {
        *("error", "exception", "gen_ai", "http", "jsonrpc", "mcp", "network"),
        *("rpc", "server", "service", "sse_recorder", "url"),
    }


def test_the_documentation_has_every_error_and_every_metric() -> None:
    """The conventions ask for a list of the errors that are reported."""
    text = (ROOT / "docs" / "telemetry.md").read_text(encoding="utf-8")
    errors = {
        *(semconv.STREAM_TRUNCATED, semconv.TIMEOUT, semconv.TOOL_ERROR),
        *(semconv.UNANSWERED, semconv.SUPERSEDED, semconv.CLIENT_DISCONNECTED),
        *(semconv.OTHER, semconv.INVALID_SSE, semconv.INVALID_HTTP),
    }
    words = semconv.GENAI_1_41
    metrics = METRICS | {
        words.m_inference_duration,
        words.m_time_to_first_chunk,
        words.m_time_per_output_chunk,
        words.m_tool_duration,
        *words.m_tokens.values(),
    }
    assert {name for name in errors | metrics if f"`{name}`" not in text} == set()
