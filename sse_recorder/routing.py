"""Which upstream a request goes to, and what it asks for there.

    routes = Routes.parse("https://api.meibel.ai", {"/openai": "https://api.openai.com/v1"})
    routes.find("/openai/chat/completions?a=1")  # …/v1/chat/completions?a=1

A route is a prefix of the path and an upstream URL.  The prefix is taken off, and the
path of the upstream's URL is put in front of what is left; the query is left alone.  A
prefix is made of whole segments: `/openai` is that of `/openai`, `/openai/x` and
`/openai?x`, and not of `/openaix`.  The longest one wins; what has none goes to the
upstream that was named without a prefix, or nowhere.

Paths are compared as they are written: an escape is not undone and `..` means nothing
here, because the upstream may read them in its own way.

Servers accept the absolute form of a target, too (RFC 9112 section 3.2.2).  Its path is
what counts; its host is ours, and the upstream is sent its own.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self
from urllib.parse import urlsplit

from sse_recorder.errors import UsageError
from sse_recorder.http1.client import Origin, default_ssl_context

_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:/[!-~]+)?", re.ASCII)
_WHOLE_SERVER: Final = "*"  # the target of an OPTIONS that is about no resource


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go: an origin, and the path that goes in front of theirs."""

    origin: Origin
    base_path: str = ""

    @classmethod
    def parse(cls, url: str, tls: ssl.SSLContext | None = None) -> Self:
        """Read an upstream URL.

        Raises:
            UsageError: it is not an http or https URL, or has a query or credentials.
        """
        origin = Origin.from_url(url)
        parts = urlsplit(url)
        is_plain = parts.path.isascii() and parts.path.isprintable()
        if parts.query or parts.fragment or " " in parts.path or not is_plain:
            raise UsageError(
                f"{url!r} cannot be an upstream: give scheme, host, port and path only,"
                " percent-encoded, such as https://api.example.com/v2"
            )
        if origin.scheme == "https":
            # Made once: it reads the authorities' certificates, which takes 20 ms.
            origin = replace(origin, ssl_context=tls or default_ssl_context())
        return cls(origin, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Host and port, as in a URL and in the Host header."""
        return self.origin.authority

    def target(self, target: str) -> str:
        """Return the request target that is asked for upstream."""
        if target == _WHOLE_SERVER:
            return target
        joined = self.base_path + target
        return joined if joined.startswith("/") else "/" + joined

    def url(self, target: str) -> str:
        """Return the URL of a target that is asked for upstream."""
        path = "" if target == _WHOLE_SERVER else target
        return f"{self.origin.scheme}://{self.authority}{path}"


class Found(NamedTuple):
    """Where one request goes."""

    upstream: Upstream
    target: str
    """What is asked for there."""
    received_path: str
    """The path as the client sent it; empty where the upstream is sent the same."""
    prefix: str = ""
    """Of the route."""


class Routes:
    """The upstreams of one recorder, by prefix."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        # The longest first; the one without a prefix, which takes all, is the last.
        self._by_prefix = dict(sorted(upstreams.items(), key=lambda x: -len(x[0])))

    @classmethod
    def parse(
        cls,
        upstream: str | None,
        routes: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Read the URL of an upstream for all, and those of routes by their prefixes.

        Args:
            upstream: where requests go that have no route; None for nowhere.
            routes: upstream URLs by prefixes such as `/openai`.
            tls: how to check the upstreams' certificates.

        Raises:
            UsageError: there is neither, or a URL or a prefix is wrong.
        """
        urls: dict[str, str] = {} if upstream is None else {"": upstream}
        for written, url in routes.items():
            prefix = written.rstrip("/")
            if not _PREFIX.fullmatch(prefix) or set(prefix) & set("?#"):
                raise UsageError(
                    f"{written!r} is not the prefix of a path: begin it with a slash,"
                    " and percent-encode it, as in /openai=https://api.openai.com/v1"
                )
            if prefix in urls:
                raise UsageError(
                    f"{written!r} is routed twice: give each prefix one upstream"
                )
            urls[prefix] = url
        if not urls:
            raise UsageError(
                "nothing says where requests go: give --upstream URL, or"
                " --route /PREFIX=URL"
            )
        shared = tls
        if shared is None and any(url.startswith("https:") for url in urls.values()):
            shared = default_ssl_context()
        return cls({p: Upstream.parse(url, shared) for p, url in urls.items()})

    @property
    def prefixes(self) -> list[str]:
        """The prefixes that have a route, in alphabetical order."""
        return sorted(prefix for prefix in self._by_prefix if prefix)

    def find(self, method: str, target: str) -> Found | None:
        """Return where a request goes; None where no route takes it."""
        target = _origin_form(method, target)
        path, mark, query = target.partition("?")
        for prefix, upstream in self._by_prefix.items():
            rest = path.removeprefix(prefix)
            if prefix and (rest == path or (rest and not rest.startswith("/"))):
                continue
            sent = upstream.target(rest + mark + query)
            sent_path = sent.partition("?")[0]
            return Found(upstream, sent, path if path != sent_path else "", prefix)
        return None


def _origin_form(method: str, target: str) -> str:
    """Return a target without the scheme and the host that the absolute form has."""
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    if rest.startswith("/"):
        return rest
    # "If a proxy receives an OPTIONS request with an absolute-form of request-target in
    # which the URI has an empty path and no query component, then the last proxy on the
    # request chain MUST send a request-target of `*`" (RFC 9112 section 3.2.4).
    if not rest and method == "OPTIONS":
        return _WHOLE_SERVER
    return "/" + rest
