"""A user's tests: SDKs on httpx and on httpx2, and programs in other languages.

They speak with `little_api`.  What they record once is what they replay from then on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

COUNT: Final = 5
"""How many tests there are."""

_TESTS: Final = '''
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.sse_recording(upstream="URL")
MESSAGE = {"role": "user", "content": "hello"}
NODE = """
const body = '{"message": "hello"}';
fetch(process.argv[1], {method: "POST", body}).then(async (answer) => {
  for await (const piece of answer.body) process.stdout.write(piece);
});
"""


def test_openai(sse_base_url):
    import openai

    with openai.OpenAI(base_url=sse_base_url + "/v1", api_key="any") as client:
        stream = client.chat.completions.create(
            model="m", messages=[MESSAGE], stream=True
        )
        deltas = [chunk.choices[0].delta.content for chunk in stream]
    assert deltas == ["Hel", "l\\u00f6"]


def test_anthropic(sse_base_url):
    import anthropic

    with (
        anthropic.Anthropic(base_url=sse_base_url, api_key="any") as client,
        client.messages.stream(model="m", max_tokens=9, messages=[MESSAGE]) as stream,
    ):
        assert list(stream.text_stream) == ["Hell\\u00f6"]


def test_meibel(sse_base_url):
    from meibel import MeibelClient

    with MeibelClient(base_url=sse_base_url + "/v2", api_key="any") as client:
        events = client.agents.sessions.send_chat_message_stream(
            "lisbon", user_message="hello"
        )
        assert [event.event for event in events][0] == "message"


def test_curl(sse_base_url):
    curl = ["curl", "-sN", "--json", '{"message": "hello"}', sse_base_url + "/chat"]
    done = subprocess.run(curl, capture_output=True, text=True, check=True)
    assert "[DONE]" in done.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node(sse_base_url):
    node = ["node", "-e", NODE, sse_base_url + "/node"]
    done = subprocess.run(node, capture_output=True, text=True, check=True)
    assert "[DONE]" in done.stdout
'''


def write(folder: Path, url: str) -> Path:
    """Write the tests of an API, and return their file."""
    path = folder / "test_chat.py"
    path.write_text(_TESTS.replace("URL", url), encoding="utf-8")
    return path
