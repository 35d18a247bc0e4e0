"""What the command line makes recorders of: a value that a worker can be given, too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from sse_recorder.capture import Limits
from sse_recorder.cli.files import allow_files
from sse_recorder.cli.telemetry import telemetry_of
from sse_recorder.http1.client import default_ssl_context
from sse_recorder.http1.limits import Limits as HttpLimits
from sse_recorder.otel import Telemetry
from sse_recorder.proxy import Recorder
from sse_recorder.redact import Redactor
from sse_recorder.semconv import GENAI_1_41


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `record` that say what is recorded, and how."""

    upstream: str | None = None
    routes: Mapping[str, str] = field(default_factory=dict)
    store: str
    tags: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    on_write_error: Literal["go-on", "refuse"] = "go-on"
    on_client_abort: Literal["close", "finish"] = "close"
    upstream_timeout_s: float | None = None
    faults: list[str] = field(default_factory=list)
    seed: int = 0
    propagate: list[str] = field(default_factory=list)
    expose_ids: bool = False
    semconv: str = GENAI_1_41.name
    otel_compat: list[str] = field(default_factory=list)
    otel_http_spans: bool = False
    otel_stream_events: bool = False
    mask: list[str] = field(default_factory=list)
    keep: list[str] = field(default_factory=list)
    patterns: list[str] = field(default_factory=list)
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Of the recorder, by the names that `capture.Limits` has for them."""
    http_limits: Mapping[str, Any] = field(default_factory=dict)
    """Of its server, by the names that `http1.Limits` has for them."""

    @property
    def names(self) -> str:
        """Where requests go, for people."""
        routes = [f"{url} at {prefix}" for prefix, url in self.routes.items()]
        return ", ".join(([self.upstream] if self.upstream else []) + routes)

    def recorder(self, host: str, port: int, *, reuse_port: bool = False) -> Recorder:
        """Make a recorder.

        Raises:
            UsageError: something in it is wrong.
            StoreError: the store cannot be written.
        """
        allow_files()
        return Recorder(
            self.upstream,
            routes=self.routes,
            store=self.store,
            tags=self.tags,
            host=host,
            port=port,
            reuse_port=reuse_port,
            on_write_error=self.on_write_error,
            on_client_abort=self.on_client_abort,
            upstream_timeout_s=self.upstream_timeout_s,
            faults=self.faults,
            seed=self.seed,
            redactor=Redactor(mask=self.mask, keep=self.keep, patterns=self.patterns),
            limits=Limits(**self.limits),
            http_limits=HttpLimits(**self.http_limits),
            telemetry=self._telemetry(),
            propagate=self.propagate,
            expose_ids=self.expose_ids,
            tls=default_ssl_context(self.ca_file) if self.ca_file else None,
            own_process=True,
        )

    def _telemetry(self) -> Telemetry | None:
        return telemetry_of(
            self.semconv,
            self.otel_compat,
            http_spans=self.otel_http_spans,
            stream_events=self.otel_stream_events,
        )

    def dumps(self) -> str:
        """Return it as one line of text."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, line: str) -> Self:
        """Return what `dumps` was asked of."""
        return cls(**json.loads(line))
