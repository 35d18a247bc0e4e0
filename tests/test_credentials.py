"""What credentials look like, and what only looks like them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_recorder.credentials import (
    CONTEXT,
    Follower,
    Rules,
    is_suspicious,
)
from sse_recorder.errors import UsageError

LETTERS = "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3Gs0Ae5Ux2YiWo4QkRtNbVcMzLpJhGf"

KEYS = [
    ("anthropic-key", "sk-ant-", "api03-" + LETTERS),
    ("openai-key", "sk-proj-", LETTERS[:40] + "_-" + LETTERS),
    ("openai-key", "sk-svcacct-", LETTERS),
    ("openrouter-key", "sk-or-v1-", "0af9" * 16),
    ("langfuse-key", "sk-lf-", "0193a5f0-1234-4000-8000-000000000000"),
    ("langfuse-key", "pk-lf-", "0193a5f0-1234-4000-8000-000000000000"),
    ("secret-key", "sk-", LETTERS[:48]),
    ("google-key", "AIza", "Sy" + LETTERS[:33]),
    ("google-token", "ya29.", LETTERS),
    ("google-token", "GOCSPX-", LETTERS[:28]),
    *(
        ("github-token", p, LETTERS[:36])
        for p in ("ghp_", "gho_", "ghs_", "ghr_", "ghu_")
    ),
    ("github-token", "github_pat_", LETTERS[:22] + "_" + LETTERS),
    ("gitlab-token", "glpat-", LETTERS[:20]),
    ("slack-token", "xoxb-", "904832175612-9048321756123-" + LETTERS[:24]),
    ("slack-token", "xapp-", "1-A0123-904832175612-" + LETTERS),
    ("stripe-key", "sk_live_", LETTERS[:24]),
    ("stripe-key", "rk_test_", LETTERS[:24]),
    ("webhook-secret", "whsec_", LETTERS[:30] + "+/="),
    ("aws-key-id", "AKIA", "Q8XW2LR5TN9BV4KC"),
    ("aws-key-id", "ASIA", "Q8XW2LR5TN9BV4KC"),
    ("huggingface-token", "hf_", LETTERS[:34]),
    ("groq-key", "gsk_", LETTERS[:52]),
    ("xai-key", "xai-", LETTERS),
    ("replicate-token", "r8_", LETTERS[:37]),
    ("perplexity-key", "pplx-", LETTERS[:48]),
    ("sendgrid-key", "SG.", LETTERS[:22] + "." + LETTERS[:43]),
    ("npm-token", "npm_", LETTERS[:36]),
    ("pypi-token", "pypi-", LETTERS),
    ("databricks-token", "dapi", "0af9" * 8),
    ("notion-token", "ntn_", LETTERS[:46]),
    ("notion-token", "secret_", LETTERS[:43]),
    ("linear-key", "lin_api_", LETTERS[:40]),
    ("tavily-key", "tvly-", LETTERS[:32]),
    ("fireworks-key", "fw_", LETTERS[:24]),
    ("nvidia-key", "nvapi-", LETTERS),
    ("jwt", "eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsIm4iOiJaIn0." + LETTERS[:43]),
    ("bearer", "Bearer ", LETTERS[:24]),
    ("basic", "Basic ", "dXNlcjpwYXNz"),
]
DISTINCT = ("sk-ant-api", "sk-proj-", "sk-svcacct-", "github_pat_")


def is_secret(name: str) -> bool:
    """Return whether a field is secret here."""
    return name == "api_key"


RULES = Rules(is_secret)


def found(text: str, rules: Rules = RULES) -> list[tuple[str, str]]:
    """Return what is secret in a text, each with its rule."""
    data = text.encode()
    return [(s.rule, data[s.start : s.end].decode()) for s, _ in rules.find(data)]


@pytest.mark.parametrize(("rule", "prefix", "private"), KEYS)
def test_a_credential_is_found_where_a_word_begins(
    rule: str, prefix: str, private: str
) -> None:
    """Known forms are found at the start, in prose, in JSON and behind escapes."""
    for before in ("", "x ", "key=", '"', "\\n", "\\t", "(", "%3D", "\\u003d", "/"):
        for behind in ("", " x", '"', '\\"', ",", "\\n", "\n", ")", "&"):
            assert found(before + prefix + private + behind) == [(rule, private)]
    is_distinct = (prefix + private).startswith(DISTINCT)
    assert found(f"a{prefix}{private}") == [(rule, private)] * is_distinct


@pytest.mark.parametrize(("rule", "prefix", "private"), KEYS)
def test_a_mask_is_no_credential(rule: str, prefix: str, private: str) -> None:
    """What is masked is not found again."""
    del rule
    assert found(prefix + "*" * len(private)) == []


@pytest.mark.parametrize(("rule", "prefix", "private"), KEYS)
def test_every_piece_of_a_credential_is_suspicious(
    rule: str, prefix: str, private: str
) -> None:
    """The fast look misses no string that holds one, or ends in its beginning."""
    del rule
    for before in ("", " ", "a long text without anything in it" * 5 + " ", "\\n", "="):
        assert is_suspicious((before + prefix + private).encode())
        for size in range(1, len(prefix) + 1):
            # A scheme is one only with a space behind it.
            start = prefix[:size] if prefix.strip() == prefix else prefix[:size].strip()
            assert is_suspicious((before + start).encode())


@pytest.mark.parametrize("prefix", DISTINCT)
def test_what_is_in_no_word_begins_a_key_behind_letters(prefix: str) -> None:
    """Distinct prefixes need no word to begin, and pieces with them no luck."""
    for before in ("Hi", "x_", "0-"):
        text = before + prefix + LETTERS
        ((_, secret),) = found(text + " x")
        assert secret.endswith(LETTERS)
        half = len(before) + 1 + len(re.split("[-_]", prefix)[0])
        for size in range(half, len(before + prefix) + 1):
            assert is_suspicious(text[:size].encode())


@pytest.mark.parametrize(
    "text",
    [
        "risk-adjusted task-based desk-1234567890123456789012345",
        "sk-learn-compatible-estimators-are-nice",
        "sk-short1",
        "toolu_01S5swZdBmTzLDVzwcT5LbHp call_CeXueyTqEJ1rgm84BHSwNPz8",
        "chatcmpl-C1KMEUDb1vVwsROQUCZTgG6A6vtWo fc_060f468708eb0ff90069f3e2f2bb008193",
        "0193a5f0-1234-7000-8000-000000000000",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4",
        "gAAAAABpZq8Xw2Lr5Tn9Bv4Kc7-sk-Mj1Hd6_hf_Pf3Gs0Ae5Ux2YiWo4QkRtNbVc",
        "eyJwYWdlIjoxMjM0NTY3ODkwfQ",
        "Basic understanding, basic authentication, Basic HTML/CSS",
        "Bearer authentication; the bearer of bad tidings",
        "http://localhost:8080/a@b user@example.com https://example.com/@me",
        "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
        '{"max_tokens": 7, "api_key": null, "api_key": {"type": "string"}}',
    ],
)
def test_what_is_no_credential_is_not_found(text: str) -> None:
    """Prose, ids, hashes, base64, cursors and schemas have no secret in them."""
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ('{"api_key": "a\\"b", "c": "d"}', ['a\\"b']),
        ('{"api_key":-1.5e3}', ["-1.5e3"]),
        ('{"api_key" : ["a", "b"], "c": ["d"]}', ["a", "b"]),
        ('{\\"api_key\\": \\"a\\\\\\"b\\", \\"c\\": 1}', ['a\\\\\\"b']),
        ('{\\"api_key\\":\\n  \\"a\\"}', ["a"]),
        ("postgres://zoe:p%40ss@db/x", ["p%40ss"]),
        ('{"api_key": "', [""]),
        # The quote behind the colon is the end of what the name is in.
        ('{"json":"{\\"api_key\\":"}}', []),
        ('{"text":"set \\"api_key\\":","next":1}', []),
        ('{"a":"{\\"api_key\\":[\\"a\\",","b":"c"}', ["a"]),
        ('{\\"api_key\\":[\\n \\"a\\",\\n \\"b\\"\\n]', ["a", "b"]),
        # So is what ends it here, and what is before that may be half of an escape.
        ('{"a":"{\\"api_key\\":\\"b\\\\"}', ["b"]),
    ],
)
def test_what_is_named_or_placed_is_found(text: str, secrets: list[str]) -> None:
    """Fields at any depth and passwords in URLs are found to their ends."""
    assert [secret for _, secret in found(text)] == secrets


@given(value=st.text(max_size=20), depth=st.integers(0, 3))
def test_a_field_ends_where_json_says(value: str, depth: int) -> None:
    """Whatever a value is made of, what is found is all of it and nothing else."""
    text: object = {"api_key": value, "b": "c"}
    inner = json.dumps(value)[1:-1]
    for _ in range(depth):
        text, inner = {"x": json.dumps(text)}, json.dumps(inner)[1:-1]
    fields = [s for rule, s in found(json.dumps(text)) if rule == "field api_key"]
    assert fields == [inner]


def test_patterns_find_what_is_the_users_own() -> None:
    """A pattern masks all of its match, or its group."""
    rules = Rules(is_secret, ["acct-([0-9]{4})", "T[0-9]+"])
    assert found("acct-1234 T12", rules) == [("pattern", "1234"), ("pattern", "T12")]


@pytest.mark.parametrize("pattern", ["(", "a*", "[z-a]"])
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str) -> None:
    """What is no regular expression, or matches everywhere, is an error of usage."""
    with pytest.raises(UsageError, match=r"mend it|has to be there"):
        Rules(is_secret, [pattern])


def test_a_text_is_followed_with_bounded_memory() -> None:
    """What is kept of a text is its last bytes, however long it is."""
    follower = Follower(RULES)
    for _ in range(100):
        spans, decided = follower.take(b"some text " * 100, wait=True)
        assert (spans, decided) == ([], 1000)
    assert len(follower._context) <= CONTEXT
