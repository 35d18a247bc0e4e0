"""The names of what telemetry says, once.

Names are wire format: dashboards and alerts are written against them.  They are kept
here as text rather than imported, because the package that has the GenAI names marks
all of them as deprecated and lacks the newer ones; `tests/test_semconv.py` compares
those that it has with the package, so a rename there is noticed.

One vocabulary is spoken at a time, and an unknown one is refused:

    genai-1.41   as published with the semantic conventions 1.41: what today's
                 backends and dashboards read
    genai-main   the text that the GenAI conventions go on with, which has no version
                 and no schema yet

Most attributes of spans are the same in both, most metrics are not (see `Vocabulary`).
What no convention names is in a namespace of our own, `sse_recorder.`, so that it
cannot be taken for a part of one.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sse_recorder.errors import UsageError

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"

SCOPE: Final = "sse_recorder"
"""What says all of it: the instrumentation scope."""

# Stable, of the semantic conventions.
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"
NETWORK_TRANSPORT: Final = "network.transport"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
URL_FULL: Final = "url.full"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"

# In development, of the GenAI conventions.
GEN_AI_AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
GEN_AI_AGENT_ID: Final = "gen_ai.agent.id"
GEN_AI_AGENT_NAME: Final = "gen_ai.agent.name"
GEN_AI_AGENT_VERSION: Final = "gen_ai.agent.version"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_INPUT_MESSAGES: Final = "gen_ai.input.messages"
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
GEN_AI_REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
GEN_AI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
GEN_AI_REQUEST_SEED: Final = "gen_ai.request.seed"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
GEN_AI_REQUEST_TOP_K: Final = "gen_ai.request.top_k"
GEN_AI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds from t0 to the first content: text, reasoning or a tool call."""
GEN_AI_SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - of a model
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - of a model
GEN_AI_TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
GEN_AI_USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_WRITE: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"

# In development, of the conventions for MCP.
JSONRPC_REQUEST_ID: Final = "jsonrpc.request.id"
MCP_METHOD_NAME: Final = "mcp.method.name"
MCP_PROTOCOL_VERSION: Final = "mcp.protocol.version"
MCP_RESOURCE_URI: Final = "mcp.resource.uri"
MCP_SESSION_ID: Final = "mcp.session.id"
GEN_AI_PROMPT_NAME: Final = "gen_ai.prompt.name"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"

# Ours.
CONTENT_DROPPED_BYTES: Final = "sse_recorder.content.dropped_bytes"
CONTENT_TRUNCATED: Final = "sse_recorder.content.truncated"
"""True where some of the content was cut; absent otherwise."""
EXCHANGE_ID: Final = "sse_recorder.exchange.id"
LINK_KIND: Final = "sse_recorder.link.kind"
"""What a linked span is to this one."""
MODE: Final = "sse_recorder.mode"
"""How we came by it: in between, within the client, or by replaying it.  As a tag of an
exchange it tells the second, which is otherwise the first."""
OUTCOME: Final = "sse_recorder.outcome"
RECORDING_ID: Final = "sse_recorder.recording.id"
"""The recorder that wrote it."""
REPLAY_EXCHANGE_ID: Final = "sse_recorder.replay.exchange.id"
REPLAY_SPEED: Final = "sse_recorder.replay.speed"
"""How many times as fast as recorded; 0 for without any waiting."""
RESPONSE_TIME_TO_FIRST_OUTPUT: Final = "sse_recorder.response.time_to_first_output"
"""Seconds from t0 to the first text, which leaves reasoning and tool calls out."""
STREAM_BYTES: Final = "sse_recorder.stream.bytes"
STREAM_CANCELLED: Final = "sse_recorder.stream.cancelled"
"""True where the client left before the end; absent otherwise."""
STREAM_CONTENT_CHUNKS: Final = "sse_recorder.stream.content_chunks"
STREAM_FRAMES: Final = "sse_recorder.stream.frames"
STREAM_KEEPALIVES: Final = "sse_recorder.stream.keepalive_count"
STREAM_MAX_GAP: Final = "sse_recorder.stream.max_gap"
"""The longest content gap, in seconds: a time in which the stream said nothing but
comments and status; the first is counted from t0."""
STREAM_MAX_GAP_STATE: Final = "sse_recorder.stream.max_gap_state"
"""What the stream was doing: `awaiting_first`, `generating`, `after_tool` or
`tool_running`."""
STREAM_SETUP_TIME: Final = "sse_recorder.stream.setup_time"
"""Seconds from t0 to the response head."""
STREAM_STALL_COUNT: Final = "sse_recorder.stream.stall_count"
STREAM_STALL_TIME: Final = "sse_recorder.stream.stall_time"
"""Seconds that stalls went beyond the limit, in sum."""
STREAM_STATUSES: Final = "sse_recorder.stream.status_count"
STATUS_CODE: Final = "sse_recorder.status.code"
"""What a report of status calls itself, of the event of that name."""
STREAM_TIME_TO_FIRST_EVENT: Final = "sse_recorder.stream.time_to_first_event"
TOOL_ARGUMENTS_STREAM_TIME: Final = "sse_recorder.tool.arguments_stream_time"
"""Seconds from the first sign of a call to its arguments being complete."""
TOOL_CALLS: Final = "sse_recorder.tool.calls"
"""How many tool calls the exchange had, whether or not each has a span."""
TOOL_CALL_FRAME: Final = "sse_recorder.tool.call_frame"
TOOL_PARALLELISM: Final = "sse_recorder.tool.parallelism"
TOOL_RESULT_EXCHANGE_ID: Final = "sse_recorder.tool.result_exchange.id"
"""The exchange whose request has the result, where it is another one."""
TOOL_RESULT_FRAME: Final = "sse_recorder.tool.result_frame"
TOOL_SPANS_DROPPED: Final = "sse_recorder.tool_spans.dropped"
"""How many tool calls got no span because there were too many; absent when none."""
TOOL_TIMING: Final = "sse_recorder.tool.timing"
TOOL_UNIDENTIFIED: Final = "sse_recorder.tool.unidentified"
"""How many calls had no id, so that no result can be told to be theirs; absent when
none."""
TOOL_UNMATCHED: Final = "sse_recorder.tool.unmatched"
"""True where a result came for which no call was open; absent otherwise."""

# Values of `gen_ai.operation.name`; each also begins the name of its spans.
CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"
EXECUTE_TOOL: Final = "execute_tool"
FETCH_RESPONSE: Final = "fetch_response"
GENERATE_CONTENT: Final = "generate_content"
INVOKE_AGENT: Final = "invoke_agent"
TEXT_COMPLETION: Final = "text_completion"

# Values of `gen_ai.tool.type`: who runs the tool.
EXTENSION: Final = "extension"
"""The agent, on its side."""
FUNCTION: Final = "function"
"""The client, which sends the result with its next request."""

# Values of `sse_recorder.mode`.
CLIENT: Final = "client"
PROXY: Final = "proxy"
REPLAY: Final = "replay"

# Values of `sse_recorder.link.kind`.
CALLED: Final = "called"
"""The exchange whose answer called the tool."""
ANSWERED: Final = "answered"
"""The exchange whose request has the result."""
CARRIED: Final = "carried"
"""The HTTP request that carried the message."""
RECORDED: Final = "recorded"
"""The exchange that is replayed."""

# Values of `error.type`.  Beside these it is an HTTP status from 400 on, as text, the
# code of an error that a provider reported in its stream (`PROVIDER_ERRORS`), or the
# name of the exception that kept the request from its answer.
CLIENT_DISCONNECTED: Final = "client_disconnected"
"""The client left; on spans of a server only."""
INVALID_HTTP: Final = "invalid_http"
"""What the upstream answered is not HTTP."""
INVALID_SSE: Final = "invalid_sse"
"""The body of an event stream has text, and no event in it."""
STREAM_STALLED: Final = "stream_stalled"
"""A configured limit on silence ran out after the response had begun."""
STREAM_TRUNCATED: Final = "stream_truncated"
"""The upstream ended or reset before its framing, or its API, said so."""
TIMEOUT: Final = "timeout"
"""The same before it began."""
TOOL_ERROR: Final = "tool_error"
"""The result says that the tool failed."""
UNANSWERED: Final = "unanswered"
"""The exchange ended before the tool's result came."""
SUPERSEDED: Final = "superseded"
"""A second call with the same id began before the first had a result."""
OTHER: Final = "_OTHER"
"""Anything else."""

PROVIDER_ERRORS: Final = frozenset(
    {
        *("api_error", "authentication_error", "billing_error"),
        *("content_filter", "context_length_exceeded", "insufficient_quota"),
        *("internal_error", "internal_server_error", "invalid_api_key"),
        *("invalid_prompt", "invalid_request_error", "model_not_found"),
        *("not_found_error", "overloaded_error", "permission_error"),
        *("rate_limit_error", "rate_limit_exceeded", "request_too_large"),
        *("server_error", "service_unavailable", "timeout_error", "tool_use_failed"),
        *("ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION"),
        *("INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"),
        *("UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"),
        *("canceled", "failed", "injected_fault", "rejected"),
    }
)
"""Codes that providers report in streams, and which are passed on as they are: a code
that is not known may be anything, such as a part of a prompt."""

# Metrics of our own; durations are in seconds.
M_ADDED_LATENCY: Final = "sse_recorder.recorder.added_latency"
M_CLIENT_FIRST_CHUNK: Final = "sse_recorder.client.time_to_first_chunk"
M_CLIENT_FIRST_OUTPUT: Final = "sse_recorder.client.time_to_first_output"
M_CLIENT_PER_CHUNK: Final = "sse_recorder.client.time_per_output_chunk"
M_DROPPED_RECORDS: Final = "sse_recorder.recorder.dropped_frames"
M_EXCHANGES: Final = "sse_recorder.recorder.exchanges"
M_FRAMES: Final = "sse_recorder.recorder.frames"
M_MAX_GAP: Final = "sse_recorder.stream.max_gap"
M_REPLAYS: Final = "sse_recorder.replay.requests"
M_SCHEDULE_ERROR: Final = "sse_recorder.replay.schedule_error"
M_STALLS: Final = "sse_recorder.stream.stalls"
M_TOOL_TURNAROUND: Final = "sse_recorder.execute_tool.turnaround"
"""Of tools that a client ran: with all that it did round them."""
M_HTTP_SERVER_DURATION: Final = "http.server.request.duration"
M_MCP_DURATION: Final = "mcp.client.operation.duration"
M_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"

BUCKETS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12),
    *(10.24, 20.48, 40.96, 81.92),
)
"""Of the GenAI conventions, for durations of clients."""
TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))
MCP_BUCKETS: Final = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 300.0),
)
HTTP_BUCKETS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0),
)
GAP_BUCKETS: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0),
)
"""For gaps between chunks, where no convention says otherwise: most are short."""
FINE_BUCKETS: Final = (
    *(0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0),
)
"""From ten microseconds on: what the recorder adds, and how late a replay is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What is called differently in the two vocabularies."""

    name: str
    schema_url: str | None
    """None where no schema is published."""
    usage_cache_write: str
    """The attribute for input tokens that were written to the provider's cache."""
    is_top_k_integer: bool
    """Whether `gen_ai.request.top_k` is an integer, and not a double."""
    m_inference_duration: str
    m_time_to_first_chunk: str
    m_time_per_output_chunk: str
    m_tool_duration: str
    m_tokens: Mapping[str, str]
    """Metrics of tokens by what they count: `usage` is one histogram for both ways;
    `input`, `output`, `cache_read`, `cache_write` and `reasoning` are counters, and
    `per_input` and `per_output` histograms."""

    @property
    def is_main(self) -> bool:
        """Whether this is the unreleased one."""
        return self.schema_url is None


GENAI_1_41: Final = Vocabulary(
    name="genai-1.41",
    schema_url=SCHEMA_URL,
    usage_cache_write=GEN_AI_USAGE_CACHE_CREATION,
    is_top_k_integer=False,
    m_inference_duration=M_OPERATION_DURATION,
    m_time_to_first_chunk="gen_ai.client.operation.time_to_first_chunk",
    m_time_per_output_chunk="gen_ai.client.operation.time_per_output_chunk",
    m_tool_duration="sse_recorder.execute_tool.duration",
    m_tokens={"usage": "gen_ai.client.token.usage"},
)

GENAI_MAIN: Final = Vocabulary(
    name="genai-main",
    schema_url=None,
    usage_cache_write=GEN_AI_USAGE_CACHE_WRITE,
    is_top_k_integer=True,
    m_inference_duration="gen_ai.client.inference.duration",
    m_time_to_first_chunk="gen_ai.client.inference.time_to_first_chunk",
    m_time_per_output_chunk="gen_ai.client.inference.time_per_output_chunk",
    m_tool_duration="gen_ai.execute_tool.duration",
    m_tokens={
        "input": "gen_ai.client.inference.usage.input_tokens",
        "output": "gen_ai.client.inference.usage.output_tokens",
        "cache_read": "gen_ai.client.inference.usage.cache_read.input_tokens",
        "cache_write": "gen_ai.client.inference.usage.cache_write.input_tokens",
        "reasoning": "gen_ai.client.inference.usage.reasoning.output_tokens",
        "per_input": "gen_ai.client.inference.operation.input_tokens",
        "per_output": "gen_ai.client.inference.operation.output_tokens",
    },
)

VOCABULARIES: Final = {one.name: one for one in (GENAI_1_41, GENAI_MAIN)}


def vocabulary(name: str) -> Vocabulary:
    """Return a vocabulary by its name.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return VOCABULARIES[name]
    except KeyError:
        known = " or ".join(VOCABULARIES)
        raise UsageError(f"{name!r} is no vocabulary; say {known}") from None
