"""The names of telemetry: pinned, unique, and those of the conventions."""

from __future__ import annotations

import re

import pytest
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)
from opentelemetry.semconv.schemas import Schemas

from sse_recorder import semconv

ATTRIBUTES = {
    name: value
    for name, value in vars(semconv).items()
    if isinstance(value, str) and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", value)
}


def test_the_vocabulary_is_one_and_has_its_schema() -> None:
    """The vocabulary is the last published one, and the schema URL is its own."""
    assert semconv.VOCABULARY == "genai-1.41"
    assert Schemas.V1_41_1.value == semconv.SCHEMA_URL


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (error_attributes, {"ERROR_TYPE"}),
        (http_attributes, {"HTTP_REQUEST_METHOD", "HTTP_RESPONSE_STATUS_CODE"}),
        (server_attributes, {"SERVER_ADDRESS", "SERVER_PORT"}),
        (service_attributes, {"SERVICE_NAME", "SERVICE_VERSION"}),
        (url_attributes, {"URL_FULL"}),
    ],
    ids=["error", "http", "server", "service", "url"],
)
def test_stable_names_are_those_of_the_conventions(
    module: object, names: set[str]
) -> None:
    """What the conventions call stable is called the same here."""
    for name in names:
        assert getattr(semconv, name) == getattr(module, name)


def test_genai_names_are_pinned() -> None:
    """The names of the GenAI conventions are wire format: to change one is a choice."""
    assert {name for name in ATTRIBUTES.values() if name.startswith("gen_ai.")} == {
        "gen_ai.conversation.id",
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.model",
        "gen_ai.response.time_to_first_chunk",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    }


def test_an_attribute_has_one_constant_and_a_known_namespace() -> None:
    """No attribute is named twice, and what no convention names is in our namespace."""
    assert len(set(ATTRIBUTES.values())) == len(ATTRIBUTES)
    roots = {value.partition(".")[0] for value in ATTRIBUTES.values()}
    assert roots == {
        "error",
        "gen_ai",
        "http",
        "server",
        "service",
        "sse_recorder",
        "url",
    }
