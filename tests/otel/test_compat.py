"""Attributes of their own that some backends read."""

from __future__ import annotations

from otel_samples import ID, exchange, tool_call

from sse_recorder.otel import Origin, View, answered_span, spans

ALL = View(compat=("langfuse", "logfire", "openinference"))


def added(view: View, **changes: str) -> list[dict[str, object]]:
    """Return what a view adds to the spans of an agent with one tool."""
    calls = [tool_call(arguments='{"q":1}', result='"r"')]
    one = exchange(**changes)
    plain = View(content_on_spans=view.content_on_spans)
    return [
        dict(with_them.attributes.items() - without.attributes.items())
        for with_them, without in zip(
            spans(one, calls, view=view), spans(one, calls, view=plain), strict=True
        )
    ]


def test_langfuse_learns_the_kind_and_when_the_answer_began() -> None:
    """The time is ISO 8601 as JSON has it, with quotes."""
    began = '"2023-11-14T22:13:20.373457Z"'
    assert added(View(compat=("langfuse",))) == [
        {
            "langfuse.observation.type": "agent",
            "langfuse.observation.completion_start_time": began,
        },
        {"langfuse.observation.type": "tool"},
    ]


def test_logfire_learns_the_time_to_the_first_chunk() -> None:
    """Its dashboard reads the metric's name on the span."""
    name = "gen_ai.client.operation.time_to_first_chunk"
    assert added(View(compat=("logfire",))) == [{name: 0.25}, {}]


def test_phoenix_learns_kind_tool_and_session() -> None:
    """Values are told only where content is."""
    agent = {"openinference.span.kind": "AGENT", "session.id": "s-1"}
    tool = {
        "openinference.span.kind": "TOOL",
        "tool.name": "search",
        "tool.id": "call_0",
    }
    assert added(View(compat=("openinference",))) == [agent, tool]
    _, shown = added(View(compat=("openinference",), content_on_spans=True))
    assert shown == tool | {"input.value": '{"q":1}', "output.value": '"r"'}


def test_a_models_call_is_a_generation() -> None:
    """One for Langfuse, and an LLM for Phoenix."""
    root, *_ = added(ALL, dialect="openai_chat")
    assert root["langfuse.observation.type"] == "generation"
    assert root["openinference.span.kind"] == "LLM"


def test_a_tool_that_a_client_ran_is_a_tool() -> None:
    """Its span is made when another exchange answers, and has what the others have."""
    call = tool_call(timing="cross_request", result_exchange_id="other")
    span = answered_span(call, Origin.of(ID, exchange()), None, ALL)
    assert span.attributes["langfuse.observation.type"] == "tool"
    assert span.attributes["openinference.span.kind"] == "TOOL"


def test_an_http_request_is_left_as_it_is() -> None:
    """What is no call of a model has no kind to those backends."""
    assert added(ALL, dialect="")[0] == {}
