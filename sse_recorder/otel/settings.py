"""Settings: what the standard variables ask for.

Headers, certificates, compression and timeouts are the exporter's to read.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import unquote

from sse_recorder import semconv
from sse_recorder.errors import UsageError
from sse_recorder.otel.data import clean

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.sampling import Sampler

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
Protocol = Literal["http/protobuf", "grpc"]
_OTLP: Final = "otlp"


class Target(NamedTuple):
    """Where one signal goes."""

    endpoint: str
    """In full."""
    protocol: Protocol


def target_of(environ: Mapping[str, str], signal: Signal) -> Target | None:
    """Return where a signal goes; None where the variables name no endpoint for it.

    Raises:
        UsageError: they ask for something that cannot be done.
    """
    upper = signal.upper()
    if _setting(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    exporters = _setting(environ, f"OTEL_{upper}_EXPORTER").lower() or _OTLP
    if _OTLP not in re.split(r"\s*,\s*", exporters):
        return None
    # The one for the signal is used as it is; the other is a base for all signals.
    name, path = f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT", ""
    if not _setting(environ, name):
        name, path = "OTEL_EXPORTER_OTLP_ENDPOINT", f"/v1/{signal}"
    endpoint = _setting(environ, name)
    if not endpoint:
        return None
    if not is_url(endpoint):
        raise UsageError(
            f"{name} is not an http:// or https:// URL; "
            "set it to one such as http://127.0.0.1:4318."
        )
    protocol = _protocol_of(environ, upper)
    if protocol == "grpc":  # which has no paths
        path = ""
    return Target(endpoint.removesuffix("/") + path if path else endpoint, protocol)


def is_url(endpoint: str) -> bool:
    """Tell whether exporters can send there."""
    return bool(re.match(r"https?://[^/?#]", endpoint, re.IGNORECASE))


def _protocol_of(environ: Mapping[str, str], upper: str) -> Protocol:
    for name in (f"OTEL_EXPORTER_OTLP_{upper}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        match _setting(environ, name):
            case "":
                continue
            case "http/protobuf" | "grpc" as protocol:
                return protocol
            case other:
                raise UsageError(
                    f"{name} is {clean(other)!r}, but what is sent goes as"
                    " http/protobuf or grpc; set it to one of them, and the endpoint to"
                    " the collector's port for it."
                )
    return "http/protobuf"


def resource_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that the environment gives this process."""
    found: dict[str, str] = {}
    for pair in _setting(environ, "OTEL_RESOURCE_ATTRIBUTES").split(","):
        name, equals, value = pair.partition("=")
        if equals and name.strip():
            found[name.strip()] = unquote(value.strip())
    if service := _setting(environ, "OTEL_SERVICE_NAME"):
        found[semconv.SERVICE_NAME] = service
    return found


def sampler_of(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler that the environment names.

    The SDK has the same table, but private, and reads the process's environment.
    """
    from opentelemetry.sdk.trace import sampling

    name = _setting(environ, "OTEL_TRACES_SAMPLER").lower() or "parentbased_always_on"
    argument = _setting(environ, "OTEL_TRACES_SAMPLER_ARG") or "1"
    try:
        match name:
            case "always_on":
                return sampling.ALWAYS_ON
            case "always_off":
                return sampling.ALWAYS_OFF
            case "parentbased_always_on":
                return sampling.DEFAULT_ON
            case "parentbased_always_off":
                return sampling.DEFAULT_OFF
            case "traceidratio":
                return sampling.TraceIdRatioBased(float(argument))
            case "parentbased_traceidratio":
                return sampling.ParentBasedTraceIdRatio(float(argument))
            case _:
                raise UsageError(
                    f"OTEL_TRACES_SAMPLER is {clean(name)!r}, which is no sampler; set "
                    "it to [parentbased_]always_on, always_off or traceidratio."
                )
    except ValueError:
        raise UsageError(
            f"OTEL_TRACES_SAMPLER_ARG is {clean(argument)!r}; "
            "set it to a number from 0 to 1."
        ) from None


def _setting(environ: Mapping[str, str], name: str) -> str:
    """Return a variable; an empty one counts as not set, as the specification says."""
    return environ.get(name, "").strip()
