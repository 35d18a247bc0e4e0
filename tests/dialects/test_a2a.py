"""The rules of A2A."""

from __future__ import annotations

from typing import Any

import pytest
from reading import read, read_body

from sse_recorder.dialects.a2a import A2a
from sse_recorder.exchange import RequestHead


def rpc(**result: Any) -> dict[str, Any]:
    """Return an answer of JSON-RPC."""
    return {"jsonrpc": "2.0", "id": 1, "result": result}


PARTS = [{"text": "Hel"}, {"text": "lo"}]
STREAMS: dict[str, list[dict[str, Any]]] = {
    "1.0": [
        rpc(
            task={
                "id": "t",
                "contextId": "c",
                "status": {"state": "TASK_STATE_WORKING"},
            }
        ),
        rpc(statusUpdate={"contextId": "c", "status": {"state": "TASK_STATE_WORKING"}}),
        rpc(artifactUpdate={"contextId": "c", "artifact": {"parts": PARTS}}),
        rpc(
            statusUpdate={"contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}
        ),
    ],
    "0.3": [
        rpc(kind="task", contextId="c", status={"state": "submitted"}),
        rpc(kind="status-update", contextId="c", status={"state": "working"}),
        rpc(kind="artifact-update", contextId="c", artifact={"parts": PARTS}),
        rpc(kind="status-update", status={"state": "completed"}, final=True),
    ],
    "REST": [
        {"task": {"contextId": "c", "status": {"state": "TASK_STATE_SUBMITTED"}}},
        {"statusUpdate": {"status": {"state": "TASK_STATE_WORKING"}}},
        {"artifactUpdate": {"artifact": {"parts": PARTS}}},
        {"statusUpdate": {"status": {"state": "TASK_STATE_COMPLETED"}}},
    ],
}


def test_it_is_known_by_its_operation_header_or_result() -> None:
    """Other protocols use JSON-RPC, too, but have other results."""
    assert A2a.recognises(RequestHead("POST", "/v1/message:stream"))
    assert A2a.recognises(RequestHead("POST", "/", (("A2A-Version", "1.0"),)))
    assert not A2a.recognises(RequestHead("POST", "/v1/messages"))
    assert A2a.recognises_event(None, '{"jsonrpc":"2.0","result":{"kind":"task"}}')
    assert not A2a.recognises_event(None, '{"jsonrpc":"2.0","result":{"tools":[]}}')


@pytest.mark.parametrize("version", list(STREAMS))
def test_a_task_ends_with_its_state(version: str) -> None:
    """What it makes is its text."""
    story = read("a2a", STREAMS[version])
    assert story.kinds == ["connected", "status", "text", "finish"]
    assert story.text == "Hello"
    assert story.last("session_id") == "c"
    assert story.last("finish_reason") == "completed"
    assert [reading.terminal for reading in story.readings] == [False] * 3 + [True]


def test_a_task_that_fails_says_why() -> None:
    """In the message of its state."""
    status = {"state": "TASK_STATE_FAILED", "message": {"parts": [{"text": "no"}]}}
    assert read("a2a", [rpc(statusUpdate={"status": status})]).last("error") == "no"


def test_an_error_is_one_of_the_protocol() -> None:
    """With or without the event's name."""
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}}
    for event in (None, "error"):
        story = read("a2a", [(event, error)])
        assert (story.kinds, story.last("error")) == (["error"], "no")


def test_an_answer_may_be_a_message() -> None:
    """Without a task, and without a stream."""
    message = {"contextId": "c", "parts": PARTS}
    assert read_body("a2a", rpc(message=message)).text == "Hello"


@pytest.mark.parametrize(
    ("status", "artifacts", "text"),
    [
        ({"state": "completed"}, [{"parts": PARTS}, {"parts": PARTS}], "HelloHello"),
        ({"state": "completed", "message": {"parts": PARTS}}, None, "Hello"),
        ({"state": "input-required", "message": {"parts": PARTS}}, [], "Hello"),
        ({"state": "working", "message": {"parts": PARTS}}, None, ""),
        ({"state": "failed", "message": {"parts": PARTS}}, None, ""),
    ],
    ids=["artifacts", "answer", "question", "progress", "failure"],
)
def test_an_answer_may_be_what_a_task_has_when_it_is_over(
    status: dict[str, Any], artifacts: object, text: str
) -> None:
    """Unless it was told before."""
    task = {"kind": "task", "status": status, "artifacts": artifacts}
    made = rpc(kind="artifact-update", artifact={"parts": PARTS})
    assert read("a2a", [made, rpc(**task)]).text == "Hello"
    story = read_body("a2a", rpc(**task))
    assert story.text == text
    assert story.kinds == ["connected" if status["state"] == "working" else "finish"]
