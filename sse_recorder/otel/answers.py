"""Answers: what a collector says of a batch that it takes in part, or not at all.

The SDK's exporters over HTTP take every status below 400 for success, and those over
gRPC every answer.  With that a collector may have refused some of a batch
(`partial_success`), and a redirect says that nothing was taken where it was sent.  Both
are looked at here, as an answer comes in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

_PROTOBUF: Final = "application/x-protobuf"
_ANSWER_BYTES_MAX: Final = 1 << 16
# Who has a session made by a package of their own keeps it.
_PROVIDER: Final = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_"


class Refusal(NamedTuple):
    """What was refused of a batch."""

    size: int
    reason: str


# An exporter sends within `export`, in the same thread.
_refused: ContextVar[list[Refusal] | None] = ContextVar("_refused", default=None)


@contextmanager
def refusals() -> Iterator[list[Refusal]]:
    """Give what collectors refuse while the block lasts."""
    found: list[Refusal] = []
    token = _refused.set(found)
    try:
        yield found
    finally:
        _refused.reset(token)


def session(environ: Mapping[str, str]) -> Any:
    """Return an HTTP session that looks at answers; None for the exporter's own."""
    if any(name.startswith(_PROVIDER) and environ[name] for name in environ):
        return None
    made = import_module("requests").Session()
    made.hooks["response"].append(_look_at)
    return made


def look_at_calls(exporter: Any) -> None:
    """Have an exporter over gRPC look at its answers, which it drops.

    It makes its stub anew when it connects again, so what makes it is replaced.
    """
    make = getattr(exporter, "_stub", None)
    channel_now = getattr(exporter, "_channel", None)
    if make is None or channel_now is None:  # of an SDK that has other names for them
        return

    def looking(channel: Any) -> Any:
        call = make(channel).Export

        def export(**given: Any) -> Any:
            answer = call(**given)
            _note(answer.SerializeToString())
            return answer

        return SimpleNamespace(Export=export)

    exporter._stub = looking  # noqa: SLF001 - it has no other place for it
    exporter._client = looking(channel_now)  # noqa: SLF001 - as above


def _look_at(response: Any, **_: object) -> None:
    if response.is_redirect:
        response.close()
        raise ConnectionRefusedError("the endpoint is elsewhere: it redirects")
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    if response.ok and kind.lower() == _PROTOBUF:
        _note(response.content)


def _note(answer: bytes) -> None:
    """Note what an answer to a batch says is refused of it."""
    found = _refused.get()
    if found is None or not 0 < len(answer) <= _ANSWER_BYTES_MAX:
        return
    refusal = _refusal(answer)
    if refusal is not None and refusal.size > 0:
        found.append(refusal)


def _refusal(body: bytes) -> Refusal | None:
    # The answers of all signals have the same shape.
    name = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    answer = import_module(name).ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except import_module("google.protobuf.message").DecodeError:
        return None
    told = answer.partial_success
    return Refusal(told.rejected_spans, told.error_message or "it does not say why")
