"""Metrics: what exchanges add up to, and how the recorder itself is.

    an exchange that is over, with its spans ─▶ Metrics ─▶ the SDK's instruments

Durations are those of the spans, to the nanosecond.  All exchanges count, whether or
not their trace is sampled.  Every histogram is made with its buckets as advice, so that
a view may set others.

Nothing that identifies one exchange is an attribute here: no ids, no URLs, no
conversation.  What a peer chooses (names of tools, models and agents) is kept to
`VALUES_MAX` values each, and everything beyond is `_OTHER`.

Streams of agents have metrics of our own where the conventions have none for them:
those of inference are for a model's answer alone.

Chunk gaps are added in one pass when a stream has ended (see `gaps`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sse_recorder import semconv
from sse_recorder.exchange import Exchange
from sse_recorder.otel.data import SpanData, Value
from sse_recorder.otel.gaps import Gaps, PlainGaps
from sse_recorder.otel.stream import StreamFacts
from sse_recorder.otel.view import View

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

VALUES_MAX: Final = 200
"""Distinct values of one attribute."""

SAMPLED_OF: Final = 64
"""Of so many reads the latency that the recorder adds is taken of one, and of so many
steps the lateness: to record it takes longer than to forward a frame."""

_COMMON: Final = (
    semconv.GEN_AI_OPERATION_NAME,
    semconv.GEN_AI_PROVIDER_NAME,
    semconv.GEN_AI_REQUEST_MODEL,
    semconv.GEN_AI_RESPONSE_MODEL,
    semconv.GEN_AI_AGENT_NAME,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
_MCP: Final = (
    semconv.MCP_METHOD_NAME,
    semconv.GEN_AI_OPERATION_NAME,
    semconv.GEN_AI_TOOL_NAME,
    semconv.MCP_PROTOCOL_VERSION,
    semconv.NETWORK_PROTOCOL_NAME,
    semconv.NETWORK_TRANSPORT,
    semconv.RPC_RESPONSE_STATUS_CODE,
    semconv.SERVER_ADDRESS,
    semconv.SERVER_PORT,
)
_TOOL: Final = (
    semconv.GEN_AI_OPERATION_NAME,
    semconv.GEN_AI_TOOL_NAME,
    semconv.GEN_AI_TOOL_TYPE,
    semconv.GEN_AI_AGENT_NAME,
)
_INFERENCE: Final = frozenset(
    {
        *(semconv.CHAT, semconv.GENERATE_CONTENT, semconv.TEXT_COMPLETION),
        semconv.EMBEDDINGS,
    }
)
_TOKEN_KINDS: Final = {
    "input": semconv.GEN_AI_USAGE_INPUT_TOKENS,
    "output": semconv.GEN_AI_USAGE_OUTPUT_TOKENS,
    "cache_read": semconv.GEN_AI_USAGE_CACHE_READ,
    "cache_write": semconv.GEN_AI_USAGE_CACHE_WRITE,
    "reasoning": semconv.GEN_AI_USAGE_REASONING,
}

Attributes = dict[str, Any]


class SampledTimes:
    """How long some of many quick things took, until somebody asks."""

    __slots__ = ("_count", "_samples")

    def __init__(self) -> None:
        self._count = 0
        self._samples: deque[int] = deque(maxlen=10_000)

    def wants(self) -> bool:
        """Tell whether this one is to be noted."""
        self._count += 1
        return self._count % SAMPLED_OF == 1

    def add(self, ns: int) -> None:
        """Note how long it took."""
        self._samples.append(ns)

    def take(self) -> Iterator[int]:
        """Give what was noted, and forget it."""
        while self._samples:
            yield self._samples.popleft()


class Metrics:
    """The instruments, each made when there is something to record.

    Args:
        meter: makes them.
        view: the vocabulary.
        gaps: takes those between chunks.
    """

    def __init__(self, meter: Meter, view: View, gaps: Gaps | PlainGaps) -> None:
        from opentelemetry.context import Context

        self._meter = meter
        self._gaps = gaps
        self._words = view.words
        self._no_context = Context()
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Any] = {}
        self._known: defaultdict[str, set[Value]] = defaultdict(set)

    def add(
        self, exchange: Exchange, facts: StreamFacts, found: Sequence[SpanData]
    ) -> None:
        """Add an exchange that is over.

        Args:
            exchange: its row.
            facts: what its frames say.
            found: its span, and those of its tools.
        """
        root, *others = found
        outcome = {semconv.OUTCOME: root.attributes[semconv.OUTCOME]}
        self._count(semconv.M_EXCHANGES, "{exchange}", 1, outcome)
        self._count(semconv.M_FRAMES, "{frame}", exchange.frame_count, {})
        operation = root.attributes.get(semconv.GEN_AI_OPERATION_NAME)
        if semconv.MCP_METHOD_NAME in root.attributes:
            self._add_duration(semconv.M_MCP_DURATION, root, _MCP, semconv.MCP_BUCKETS)
        elif operation is not None:
            self._add_operation(root, str(operation), facts)
        for span in others:
            if semconv.TOOL_TIMING in span.attributes:
                self.add_tool(span)

    def add_tool(self, span: SpanData) -> None:
        """Add the work of a tool; a result that fits no call has no duration."""
        if semconv.TOOL_UNMATCHED in span.attributes:
            return
        is_clients = span.attributes.get(semconv.TOOL_TIMING) == "cross_request"
        ours = self._words.m_tool_duration
        name = semconv.M_TOOL_TURNAROUND if is_clients else ours
        self._add_duration(name, span, _TOOL, semconv.BUCKETS)

    def add_replay(self, span: SpanData) -> None:
        """Add a replay, which is a server's work and nobody's call of a model."""
        names = (
            semconv.HTTP_REQUEST_METHOD,
            semconv.HTTP_RESPONSE_STATUS_CODE,
            semconv.URL_SCHEME,
        )
        self._add_duration(
            semconv.M_HTTP_SERVER_DURATION, span, names, semconv.HTTP_BUCKETS
        )

    def watch(
        self,
        name: str,
        unit: str,
        count: Callable[[], int],
        histogram: str,
        times: SampledTimes,
    ) -> None:
        """Tell how something is whenever metrics are collected.

        Args:
            name: of the counter.
            unit: of it.
            count: returns it.
            histogram: the name of that of times.
            times: what goes into it.
        """
        from opentelemetry.metrics import Observation

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            record = self._histogram(histogram, semconv.FINE_BUCKETS).record
            for ns in times.take():
                record(ns / 1e9, {}, context=self._no_context)
            return [Observation(count(), {})]

        self._meter.create_observable_counter(name, [observe], unit)

    def _add_operation(
        self, root: SpanData, operation: str, facts: StreamFacts
    ) -> None:
        words = self._words
        is_inference = operation in _INFERENCE
        ours = semconv.M_OPERATION_DURATION
        duration = words.m_inference_duration if is_inference else ours
        self._add_duration(duration, root, _COMMON, semconv.BUCKETS)
        about = self._attributes(root, _COMMON)
        if is_inference:
            self._add_tokens(root, about)
        if not facts.is_stream:
            return
        first, gaps = semconv.M_CLIENT_FIRST_CHUNK, semconv.M_CLIENT_PER_CHUNK
        if is_inference:
            first, gaps = words.m_time_to_first_chunk, words.m_time_per_output_chunk
        for name, attribute in (
            (first, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK),
            (semconv.M_CLIENT_FIRST_OUTPUT, semconv.RESPONSE_TIME_TO_FIRST_OUTPUT),
        ):
            if (seconds := root.attributes.get(attribute)) is not None:
                self._record(name, seconds, about, semconv.BUCKETS)
        bounds = semconv.BUCKETS if is_inference else semconv.GAP_BUCKETS
        self._gaps.add(gaps, bounds, about, facts.chunk_gaps, facts.rounded_gaps)
        if (longest := root.attributes.get(semconv.STREAM_MAX_GAP)) is not None:
            self._record(semconv.M_MAX_GAP, longest, about, semconv.BUCKETS)
        stalls = root.attributes.get(semconv.STREAM_STALL_COUNT, 0)
        self._count(semconv.M_STALLS, "{stall}", stalls, about)

    def _add_tokens(self, root: SpanData, about: Attributes) -> None:
        names = self._words.m_tokens
        counts = {
            kind: root.attributes.get(attribute)
            for kind, attribute in _TOKEN_KINDS.items()
        }
        if "usage" in names:
            for kind in ("input", "output"):
                if (count := counts[kind]) is not None:
                    with_type = about | {semconv.GEN_AI_TOKEN_TYPE: kind}
                    self._add_token_count(names["usage"], count, with_type)
            return
        for kind, name in names.items():
            if kind.startswith("per_"):
                if (count := counts[kind.removeprefix("per_")]) is not None:
                    self._add_token_count(name, count, about)
            else:
                # Nought says that there was a call, and no usage came with it.
                unsplit = about | {semconv.GEN_AI_TOKEN_MODALITY: "unknown"}
                self._count(name, "{token}", counts[kind] or 0, unsplit)

    def _add_token_count(self, name: str, count: Value, about: Attributes) -> None:
        self._record(name, count, about, semconv.TOKEN_BUCKETS, "{token}")

    def _add_duration(
        self,
        name: str,
        span: SpanData,
        attributes: tuple[str, ...],
        buckets: tuple[float, ...],
    ) -> None:
        about = self._attributes(span, (*attributes, semconv.ERROR_TYPE))
        self._record(name, span.duration_ns / 1e9, about, buckets)

    def _attributes(self, span: SpanData, names: tuple[str, ...]) -> Attributes:
        return {
            name: self._bounded(name, value)
            for name in names
            if (value := span.attributes.get(name)) is not None
        }

    def _bounded(self, name: str, value: Value) -> Value:
        known = self._known[name]
        if value not in known:
            if len(known) >= VALUES_MAX:
                return semconv.OTHER
            known.add(value)
        return value

    def _record(
        self,
        name: str,
        value: Any,
        about: Attributes,
        buckets: tuple[float, ...],
        unit: str = "s",
    ) -> None:
        self._histogram(name, buckets, unit).record(value, about)

    def _histogram(
        self, name: str, buckets: tuple[float, ...], unit: str = "s"
    ) -> Histogram:
        found = self._histograms.get(name)
        if found is None:
            found = self._histograms[name] = self._meter.create_histogram(
                name, unit, explicit_bucket_boundaries_advisory=buckets
            )
        return found

    def _count(self, name: str, unit: str, amount: Any, about: Attributes) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = self._meter.create_counter(name, unit)
        counter.add(amount, about)
