"""What is masked by its name, what stays, and that masking twice changes nothing."""

from __future__ import annotations

import gzip
import json
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sse_recorder.errors import UsageError
from sse_recorder.exchange import RequestHead, ResponseHead
from sse_recorder.redact import PLACEHOLDER, Redactor

SECRET = "hunter2SECRET"  # noqa: S105 - stands for any

SECRET_HEADERS = [
    "Authorization",
    "Proxy-Authorization",
    "X-Forwarded-Authorization",
    "Meibel-API-Key",
    "x-api-key",
    "api-key",
    "X-ApIkEy",
    "x-goog-api-key",
    "Ocp-Apim-Subscription-Key",
    "x-amz-security-token",
    "x-amzn-oidc-accesstoken",
    "CF-Access-Client-Secret",
    "cf-access-jwt-assertion",
    "X-CSRF-Token",
    "x_password",
    "db-passwd",
    "X-Credentials",
    "X-Hub-Signature-256",
    "x-auth",
    "X-Authentication",
    "Cookie2",
    "DPoP",
]

PUBLIC_HEADERS = [
    "WWW-Authenticate",
    "Mcp-Session-Id",
    "Idempotency-Key",
    "X-IDEMPOTENCY-KEY",
    "Sec-WebSocket-Key",
    "x-ratelimit-remaining-tokens",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "x-ratelimit-token-limit",
    "Content-Type",
    "User-Agent",
    "ETag",
    "X-Author",
    "x-monkey",
    "x-keyboard",
    "x-tokenizer",
    "Surrogate-Key",
    "traceparent",
]


def mask_header(name: str, value: str, redactor: Redactor | None = None) -> str:
    """Mask one header and return its value."""
    ((masked_name, masked),) = (redactor or Redactor()).headers(((name, value),))
    assert masked_name == name
    return masked


@pytest.mark.parametrize("name", SECRET_HEADERS)
def test_headers_with_secret_names_are_masked(name: str) -> None:
    """A header that has a word for a secret in its name loses its value."""
    assert mask_header(name, SECRET) == PLACEHOLDER


@pytest.mark.parametrize("name", PUBLIC_HEADERS)
def test_headers_that_only_sound_secret_are_kept(name: str) -> None:
    """A header that counts, names or identifies something keeps its value."""
    assert mask_header(name, "4000") == "4000"


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (f"Bearer {SECRET}", f"Bearer {PLACEHOLDER}"),
        (f"bearer  {SECRET}", f"bearer {PLACEHOLDER}"),
        (f"Basic {SECRET}", f"Basic {PLACEHOLDER}"),
        (
            f"AWS4-HMAC-SHA256 Credential=AKIA/x, Signature={SECRET}",
            f"AWS4-HMAC-SHA256 {PLACEHOLDER}",
        ),
        ("Bearer", PLACEHOLDER),
        ("", PLACEHOLDER),
        ("correct horse battery staple", PLACEHOLDER),
    ],
)
def test_the_scheme_of_credentials_stays(value: str, masked: str) -> None:
    """A known scheme stays, an unknown first word goes with the rest."""
    assert mask_header("Authorization", value) == masked


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("session=abc; theme=dark", "session=[redacted]; theme=[redacted]"),
        ("a=b=c;d=", "a=[redacted];d=[redacted]"),
        ("abc; a=b; ", "[redacted]; a=[redacted]; "),
        ("a=b;  abc", "a=[redacted];  [redacted]"),
        ("=abc", "=[redacted]"),
        ("", ""),
    ],
)
def test_cookies_keep_their_names(value: str, masked: str) -> None:
    """Every cookie keeps its name; a cookie without one is all value."""
    assert mask_header("cookie", value) == masked


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (
            "sid=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
            "sid=[redacted]; Path=/; Max-Age=60; HttpOnly; SameSite=Lax",
        ),
        (
            "sid=abc; Expires=Wed, 21 Oct 2026 07:28:00 GMT;",
            "sid=[redacted]; Expires=Wed, 21 Oct 2026 07:28:00 GMT;",
        ),
        ("abc; Secure", "[redacted]; Secure"),
        ("a=b; Path=/, c=d; Secure", "a=[redacted]; Path=[redacted]; Secure"),
        ("a=b; rest-of-b; x=y", "a=[redacted]; [redacted]; x=[redacted]"),
    ],
)
def test_set_cookie_keeps_its_attributes(value: str, masked: str) -> None:
    """Known attributes stay; what may be a second cookie or half a value goes."""
    assert mask_header("Set-Cookie", value) == masked


@pytest.mark.parametrize(
    "name",
    [
        *(
            "key",
            "api_key",
            "apikey",
            "apiKey",
            "APIKey",
            "access_token",
            "accessToken",
        ),
        *("sig", "X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token"),
        *("X-Goog-Signature", "client_secret", "password", "pwd", "code", "jwt"),
        *("api%5Fkey", "%6Bey", "auth[token]", "token2"),
    ],
)
def test_query_parameters_with_secret_names_are_masked(name: str) -> None:
    """A secret parameter is masked, also under an escaped name; all else stays."""
    before = f"/v1/x%2f?a=%7e+1&&b&{name}="
    after = "&c=d%20e&=&é"
    masked = Redactor().url(f"{before}{SECRET}{after}")
    assert masked == f"{before}{PLACEHOLDER}{after}"


@pytest.mark.parametrize(
    "url",
    [
        "*",
        "/v1/x",
        "/v1/key=1&token=2",
        "/?max_tokens=1&pageToken=abc&next_page_token=d&error_code=5&q=key&token",
        "/?q=%E2%82%AC&session_id=1&mcp-session-id=2&sort-key=3#frag",
        "https://host:8080/a@b?mail=a@b",
        "http://[::1]:80/",
    ],
)
def test_urls_without_secrets_are_untouched(url: str) -> None:
    """A URL without a secret stays as it is, byte for byte."""
    assert Redactor().url(url) == url


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://user:pass@host/x", "https://redacted@host/x"),
        ("https://ghp_abc@host", "https://redacted@host"),
        ("https://u:p@ss@[::1]:80/?a=1", "https://redacted@[::1]:80/?a=1"),
        ("/fetch?u=https://u:p@h/&b=c@d", "/fetch?u=https://redacted@h/&b=c@d"),
        ("/?to=https://h/?token=abc&b=1", "/?to=https://h/?token=[redacted]&b=1"),
        ("/?a=1;token=abc;def&b=1", "/?a=1;token=[redacted]&b=1"),
        ("/?token=a?b#c;d=e&b=1", "/?token=[redacted]&b=1"),
        ("/cb#access_token=abc&state=1", "/cb#access_token=[redacted]&state=1"),
    ],
)
def test_secrets_anywhere_in_a_url_are_masked(url: str, masked: str) -> None:
    """User info, nested URLs, fragments and old separators hide no secret."""
    assert Redactor().url(url) == masked


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        (
            "Location",
            "https://s3/x?X-Amz-Signature=abc&X-Amz-Date=1",
            "https://s3/x?X-Amz-Signature=[redacted]&X-Amz-Date=1",
        ),
        (
            "Link",
            "<https://h/?key=a&p=2>; rel=next, </?key=b>; rel=prev",
            "<https://h/?key=[redacted]&p=2>; rel=next, </?key=[redacted]>; rel=prev",
        ),
        ("Refresh", "5; url=https://u:p@h/", "5; url=https://redacted@h/"),
        (
            "User-Agent",
            "bot/1 (+https://example.com; me@example.com)",
            "bot/1 (+https://example.com; me@example.com)",
        ),
    ],
)
def test_urls_inside_of_headers_are_masked(name: str, value: str, masked: str) -> None:
    """A header that carries a URL obeys the rules of URLs."""
    assert mask_header(name, value) == masked


KEY = "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsIm4iOiJaIn0.Zq8Xw2Lr5Tn9Bv4Kc7"


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (f"sk-ant-api03-{KEY}", "sk-ant-[redacted]"),
        (f"see sk-proj-{KEY}, {JWT}; x", "see sk-proj-[redacted], eyJ[redacted]; x"),
        (f'{{"api_key":"a b","c":"{KEY}"}}', f'{{"api_key":"[redacted]","c":"{KEY}"}}'),
        (f"<https://h/?q=ghp_{KEY}{KEY}>", "<https://h/?q=ghp_[redacted]>"),
        (f"Hisk-ant-api03-{KEY}é", "Hisk-ant-[redacted]é"),
    ],
)
def test_a_key_is_masked_in_any_header(value: str, masked: str) -> None:
    """What looks like a secret goes from a header that is not called so."""
    assert mask_header("X-Note", value) == masked
    assert mask_header("X-Note", masked) == masked


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        (f"q=sk-ant-api03-{KEY}&b=1", "q=sk-ant-[redacted]&b=1"),
        (f"a=1&q=x+{JWT}+y", "a=1&q=x+eyJ[redacted]+y"),
        (f"q=%20sk%2Dant%2Dapi03%2d{KEY}%20x", "q=%20sk%2Dant%2D[redacted]%20x"),
        (
            "q=%7B%22password%22%3A%22a%20b%22%7D",
            "q=%7B%22password%22%3A%22[redacted]%22%7D",
        ),
        (f"sk-ant-api03-{KEY}", "sk-ant-[redacted]"),
        (f"sk-ant-api03-{KEY};token=abc", "sk-ant-[redacted];token=[redacted]"),
    ],
)
def test_a_key_is_masked_in_any_parameter(query: str, masked: str) -> None:
    """What looks like a secret goes from a query, escaped or not; all else stays."""
    for before in ("/v1/x?", "/?b=2&", "https://h/#"):
        assert Redactor().url(before + query) == before + masked
        assert Redactor().url(before + masked) == before + masked


def test_heads_are_masked_in_every_part() -> None:
    """Targets, request headers and response headers lose their secrets."""
    request = RequestHead(
        "POST",
        "/chat?key=abc",
        (("Meibel-API-Key", "abc"), ("Accept", "text/event-stream")),
        "1.0",
    )
    response = ResponseHead(200, "OK", (("Set-Cookie", "a=b"), ("x-id", "1")), "1.0")
    redactor = Redactor()
    assert redactor.request_head(request) == RequestHead(
        "POST",
        "/chat?key=[redacted]",
        (("Meibel-API-Key", PLACEHOLDER), ("Accept", "text/event-stream")),
        "1.0",
    )
    assert redactor.response_head(response) == ResponseHead(
        200, "OK", (("Set-Cookie", "a=[redacted]"), ("x-id", "1")), "1.0"
    )


def test_names_can_be_added_and_taken_out() -> None:
    """`mask` adds names and `keep` takes some out, for headers and parameters."""
    redactor = Redactor(mask=["X_Corp_Id", "both"], keep=["Api-Key", "code", "BOTH"])
    assert mask_header("x-corp-id", "7", redactor) == PLACEHOLDER
    assert mask_header("API-KEY", "7", redactor) == "7"
    assert (
        redactor.url("/?x-corp_id=7&api_key=7&code=7&both=7&key=7")
        == "/?x-corp_id=[redacted]&api_key=7&code=7&both=7&key=[redacted]"
    )


def test_redaction_can_be_turned_off() -> None:
    """A disabled redactor returns what it gets."""
    redactor = Redactor(enabled=False)
    head = RequestHead("GET", "/?key=abc", (("Authorization", "Bearer abc"),))
    assert redactor.request_head(head) == head


SECRET_FIELDS = [
    *("api_key", "apiKey", "APIKEY", "x-api-key", "openai_api_key", "OPENAI_API_KEY"),
    *("password", "db_password", "passwd", "pwd", "passphrase", "client_secret"),
    *("access_token", "accessToken", "refresh_token", "id_token", "bot_token"),
    *("authorization", "Authorization", "cookie", "set-cookie", "jwt", "credentials"),
    *("aws_secret_access_key", "SecretAccessKey", "private_key", "password_hash"),
    *("Ocp-Apim-Subscription-Key", "meibel_api_key", "api_key_2", "secretKey"),
    *("auth", "x-auth", "basicAuth", "pass", "db_pass", "SMTP_PASS"),
]
PUBLIC_FIELDS = [
    *("key", "token", "tokens", "max_tokens", "maxTokens", "token_count", "tokenCount"),
    *(
        "input_tokens",
        "next_page_token",
        "nextPageToken",
        "pageToken",
        "idempotency_key",
    ),
    *("cache_key", "prompt_cache_key", "signature", "thoughtSignature", "code"),
    *("encrypted_content", "progressToken", "bos_token", "eos_token", "key_points"),
    *("primary_key", "foreign_key", "public_key", "object_key", "keyId", "token_type"),
    *("time_to_first_token", "price_per_token", "author", "monkey", "session_id"),
    *("obfuscation", "system_fingerprint", "logprobs", "sort_key", "api_key_name"),
    *("requires_auth", "first_pass", "tests_pass", "auth_type", "pass_rate"),
]


def mask_field(name: str, redactor: Redactor | None = None) -> str:
    """Mask a JSON body with one field and return its value."""
    head = ResponseHead(200, headers=(("Content-Type", "application/json"),))
    body = json.dumps({name: SECRET}).encode()
    masked = (redactor or Redactor()).whole_body(head, body)
    assert len(masked) == len(body)
    return str(json.loads(masked)[name])


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_json_fields_with_secret_names_are_masked(name: str) -> None:
    """A field whose name ends in a word for a secret loses its value."""
    assert mask_field(name) == "*" * len(SECRET)


@pytest.mark.parametrize("name", PUBLIC_FIELDS)
def test_json_fields_that_only_sound_secret_are_kept(name: str) -> None:
    """What models and their APIs count, sign and point with keeps its value."""
    assert mask_field(name) == SECRET


def test_rules_for_bodies_can_be_extended() -> None:
    """Names and patterns are added, and names taken out, in bodies too."""
    redactor = Redactor(
        mask=["X_Tenant"], keep=["Api-Key"], patterns=["acct-([0-9]{4})"]
    )
    assert mask_field("x-tenant", redactor) == "*" * len(SECRET)
    assert mask_field("api_key", redactor) == SECRET
    head = RequestHead("POST", "/", (("Content-Type", "text/plain"),))
    assert redactor.whole_body(head, b"acct-1234") == b"acct-****"


def test_a_pattern_that_is_none_is_refused() -> None:
    """A pattern that is no regular expression is told in a line."""
    with pytest.raises(UsageError, match="is not a regular expression"):
        Redactor(patterns=["("])


def test_a_redactor_goes_to_another_process() -> None:
    """What masks may be where the writing is done."""
    redactor = pickle.loads(  # noqa: S301 - our own
        pickle.dumps(Redactor(mask=["x-tenant"], patterns=["acct-[0-9]+"]))
    )
    assert mask_field("x-tenant", redactor) == "*" * len(SECRET)
    assert mask_field("password", redactor) == "*" * len(SECRET)


def test_a_body_of_a_request_is_masked_as_its_head_says() -> None:
    """The media type tells how to read a body; without one it is a text."""
    form = (("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),)
    redactor = Redactor()
    head = RequestHead("POST", "/", form)
    assert redactor.whole_body(head, b"a=b&pwd=x+y") == b"a=b&pwd=***"
    bare = RequestHead("POST", "/")
    assert redactor.whole_body(bare, b'{"pwd":"x y"}') == b'{"pwd":"***"}'
    assert redactor.whole_body(bare, b"") == b""


def test_a_coded_body_is_whole_or_nothing_but_a_mask() -> None:
    """Of a coded body with a secret in it only the length is left."""
    kind = ("Content-Type", "application/json")
    head = RequestHead("POST", "/", (kind, ("Content-Encoding", "gzip")))
    redactor = Redactor()
    for body, is_secret in ((b'{"a":"b"}', False), (b'{"pwd":"x y"}', True)):
        wire = gzip.compress(body)
        want = b"*" * len(wire) if is_secret else wire
        assert redactor.whole_body(head, wire) == want
    assert Redactor(keep=["pwd"]).whole_body(head, wire) == wire
    assert Redactor(enabled=False).whole_body(head, wire) == wire


NAMES = st.sampled_from([*SECRET_HEADERS, *PUBLIC_HEADERS, "Cookie", "Set-Cookie"])
# Made of what the rules look at, so that odd combinations are common.
TEXTS = st.lists(
    st.sampled_from(
        [
            *"?&#;=@:/<> ,+%\\",
            *("://", "https://", "key", "token=", "%3D", "path", "a", "Bearer"),
            *(
                "redacted@",
                PLACEHOLDER,
                "Expires=",
                "code=",
                f"sk-ant-api03-{KEY}",
                JWT,
            ),
            *('{"api_key":"', '"', f"AKIA{KEY.upper()[:16]}", "%22", f"Basic {KEY}"),
            *("-----BEGIN PRIVATE KEY-----", '"otp":', "12", "%2D", "sk"),
        ]
    )
    | st.text(max_size=3),
    max_size=12,
).map("".join)


@example(target='?{"api_key":"?[redacted]Expires=', headers=[])
@given(target=TEXTS, headers=st.lists(st.tuples(NAMES, TEXTS), max_size=4))
def test_masking_a_masked_head_changes_nothing(
    target: str, headers: list[tuple[str, str]]
) -> None:
    """Masking is idempotent, so a replayer may mask what is masked already."""
    redactor = Redactor()
    once = redactor.request_head(RequestHead("GET", target, tuple(headers)))
    assert redactor.request_head(once) == once


@given(before=TEXTS, after=TEXTS, name=st.sampled_from(SECRET_HEADERS))
def test_no_secret_survives_in_a_header(before: str, after: str, name: str) -> None:
    """No text around a secret keeps it in a header with a secret name."""
    assert SECRET not in mask_header(name, before + SECRET + after)


@given(
    before=TEXTS,
    secret=st.text("0123456789!?#;=/:@ ", max_size=8),
    after=st.sampled_from(["", "&", "&a=1"]),
)
def test_no_part_of_a_secret_survives_in_a_query(
    before: str, secret: str, after: str
) -> None:
    """A secret is masked to its last byte, whatever it contains."""
    masked = Redactor().url(f"/?{before}&token={secret}{after}")
    assert masked.endswith(f"&token={PLACEHOLDER}{after}")
