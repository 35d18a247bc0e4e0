"""Which upstream a request goes to, and what it asks for there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.errors import UsageError
from sse_recorder.routing import Found, Routes, Upstream

SEGMENTS = st.lists(st.text("ab%2.~", max_size=3), max_size=3).map("/".join)
ROUTES = {
    "/openai": "https://api.openai.com/v1",
    "/openai/eu/": "https://eu.api.openai.com",
    "/plain": "http://127.0.0.1:8000",
}


def sent(routes: Routes, target: str, method: str = "GET") -> tuple[str, str] | None:
    """Return the URL that a request is sent to, and the path that it came with."""
    found = routes.find(method, target)
    return found and (found.upstream.url(found.target), found.received_path)


def test_the_upstreams_path_goes_in_front() -> None:
    """`--upstream https://host/v2` sends `/chat` to `/v2/chat`."""
    parsed = Upstream.parse("https://api.example.com/v2/")
    assert parsed.target("/chat?x=1") == "/v2/chat?x=1"
    assert Upstream.parse("http://h:81").target("/chat") == "/chat"


@pytest.mark.parametrize(
    "url",
    [
        "api.example.com",
        "ftp://a",
        "http://",
        "https://u:p@a",
        "http://a/?q",
        "http://[::1",
        "http://a/b c",
        "http://a/\u65e5",
    ],
)
def test_a_url_that_is_no_upstream_is_refused(url: str) -> None:
    """A mistake in the URL is told before anything listens."""
    with pytest.raises(UsageError):
        Upstream.parse(url)


@pytest.mark.parametrize(
    ("target", "url", "received"),
    [
        ("/openai", "https://api.openai.com/v1", "/openai"),
        ("/openai/", "https://api.openai.com/v1/", "/openai/"),
        ("/openai?x", "https://api.openai.com/v1?x", "/openai"),
        ("/openai/x?y=/z", "https://api.openai.com/v1/x?y=/z", "/openai/x"),
        ("/openai//x/../y", "https://api.openai.com/v1//x/../y", "/openai//x/../y"),
        ("/openai/eu", "https://eu.api.openai.com/", "/openai/eu"),
        ("/openai/eu/?", "https://eu.api.openai.com/?", "/openai/eu/"),
        ("/openai/eux", "https://api.openai.com/v1/eux", "/openai/eux"),
        ("/plain?a", "http://127.0.0.1:8000/?a", "/plain"),
        # What no prefix takes is sent as it came.
        ("/openaix", "http://other/openaix", ""),
        ("/OpenAI/x", "http://other/OpenAI/x", ""),
        ("/%6fpenai", "http://other/%6fpenai", ""),
        ("/", "http://other/", ""),
        ("*", "http://other", ""),
        ("/?/openai", "http://other/?/openai", ""),
        # The absolute form, by its path.
        ("http://h/openai/x", "https://api.openai.com/v1/x", "/openai/x"),
        ("HTTPS://u@h:8/plain/x?q", "http://127.0.0.1:8000/x?q", "/plain/x"),
        ("http://h", "http://other/", ""),
        ("http://h?q", "http://other/?q", ""),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(
    target: str, url: str, received: str
) -> None:
    """It is taken off, the upstream's path goes in front, and the query stays."""
    assert sent(Routes.parse("http://other", ROUTES), target) == (url, received)


def test_what_no_route_takes_goes_nowhere() -> None:
    """Without an upstream for everything else there is nobody to ask."""
    routes = Routes.parse(None, ROUTES)
    assert routes.prefixes == ["/openai", "/openai/eu", "/plain"]
    for target in ("/", "/openaix", "*", "http://h/x", "openai"):
        assert routes.find("GET", target) is None


def test_options_of_the_whole_server_stay_that() -> None:
    """A path in front would make a resource of it."""
    routes = Routes.parse("http://other/v2", {})
    for target in ("*", "http://h"):
        found = Found(Upstream.parse("http://other/v2"), "*", "")
        assert routes.find("OPTIONS", target) == found
    assert sent(routes, "http://h", "OPTIONS") == ("http://other", "")


@given(SEGMENTS, SEGMENTS, st.text("a?/=&", max_size=5))
def test_what_follows_the_prefix_is_never_changed(
    base: str, rest: str, query: str
) -> None:
    """Whatever is in it: the upstream reads paths in its own way."""
    url = f"http://h/{base}"
    target = f"/{rest}?{query}"
    found = Routes.parse(None, {"/p": url}).find("GET", f"/p{target}")
    assert found is not None
    assert found.target == f"/{base}".rstrip("/") + target


@pytest.mark.parametrize(
    ("upstream", "routes", "says"),
    [
        (None, {}, "--upstream URL, or --route"),
        (None, {"openai": "http://a"}, "begin it with a slash"),
        (None, {"/a?b": "http://a"}, "percent-encode it"),
        (None, {"/a b": "http://a"}, "percent-encode it"),
        (None, {"/a": "http://a", "/a/": "http://b"}, "routed twice"),
        ("http://a", {"/": "http://b"}, "routed twice"),
        (None, {"/a": "a.example.com"}, "not an http or https URL"),
    ],
)
def test_routes_that_cannot_be_are_refused(
    upstream: str | None, routes: dict[str, str], says: str
) -> None:
    """Before anything listens, with what to write instead."""
    with pytest.raises(UsageError, match=says):
        Routes.parse(upstream, routes)
