"""The names of what telemetry says, once.

Names are wire format: dashboards and alerts are written against them.  They are kept
here as text rather than imported, because the package that has the GenAI names marks
all of them as deprecated and lacks the newer ones; `tests/test_semconv.py` compares
those that are stable with the package, so a rename there is noticed.

One vocabulary is spoken at a time: the GenAI conventions as published with the
semantic conventions 1.41.  What no convention names is in a namespace of our own,
`sse_recorder.`, so that it cannot be taken for a part of one.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

from typing import Final

VOCABULARY: Final = "genai-1.41"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"

# Stable, of the semantic conventions.
ERROR_TYPE: Final = "error.type"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
URL_FULL: Final = "url.full"

# In development, of the GenAI conventions.
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from t0 to the first content: text, reasoning or a tool call."""
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

# Ours.
EXCHANGE_ID: Final = "sse_recorder.exchange.id"
MODE: Final = "sse_recorder.mode"
OUTCOME: Final = "sse_recorder.outcome"
STREAM_BYTES: Final = "sse_recorder.stream.bytes"
STREAM_CANCELLED: Final = "sse_recorder.stream.cancelled"
"""True where the client left before the end; absent otherwise."""
STREAM_FRAMES: Final = "sse_recorder.stream.frames"
TOOL_CALLS: Final = "sse_recorder.tool.calls"
"""How many tool calls the exchange had, whether or not each has a span."""
TOOL_CALL_FRAME: Final = "sse_recorder.tool.call_frame"
TOOL_PARALLELISM: Final = "sse_recorder.tool.parallelism"
TOOL_RESULT_FRAME: Final = "sse_recorder.tool.result_frame"
TOOL_SPANS_DROPPED: Final = "sse_recorder.tool_spans.dropped"
"""How many tool calls got no span because there were too many; absent when none."""
TOOL_TIMING: Final = "sse_recorder.tool.timing"
TOOL_UNMATCHED: Final = "sse_recorder.tool.unmatched"
"""True where a result came for which no call was open; absent otherwise."""

# Values of `gen_ai.operation.name`; each also begins the name of its spans.
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

# Values of `gen_ai.tool.type`: who runs the tool.
EXTENSION: Final = "extension"
"""The agent, on its side."""
FUNCTION: Final = "function"
"""The client, which sends the result with its next request."""

# Values of `sse_recorder.mode`.
PROXY: Final = "proxy"

# Values of `error.type`.  Beside these it is an HTTP status from 400 on, as text, or
# the name of the exception that kept the request from its answer.
STREAM_TRUNCATED: Final = "stream_truncated"
"""The upstream ended or reset before its framing said so."""
TIMEOUT: Final = "timeout"
"""A configured limit on silence ran out."""
TOOL_ERROR: Final = "tool_error"
"""The result says that the tool failed."""
UNANSWERED: Final = "unanswered"
"""The exchange ended before the tool's result came."""
SUPERSEDED: Final = "superseded"
"""A second call with the same id began before the first had a result."""
OTHER: Final = "_OTHER"
"""Anything else."""
