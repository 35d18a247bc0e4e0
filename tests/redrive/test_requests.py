"""What of a recording is sent again, what is left out, and what is skipped."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from live import JSON, Asked, Live, live, request
from redrive.again import answers, redrive_of, sent
from samples import exchange_id

from sse_recorder.errors import UsageError
from sse_recorder.exchange import Headers, Outcome, Record, RequestHead, ResponseHead
from sse_recorder.redact import Redactor
from sse_recorder.redrive import Redrive
from sse_recorder.redrive.requests import Given
from sse_recorder.store.store import Store
from sse_recorder.tables import SCHEMAS

KEY = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().strip("=")
    for part in (b'{"alg":"HS256"}', b'{"sub":"1234567890"}', b"0123456789abcdef" * 2)
)
PEM = r"-----BEGIN PRIVATE KEY-----\nMIIabc+/==\n-----END PRIVATE KEY-----"
FORM = (("Content-Type", "application/x-www-form-urlencoded"),)


MULTIPART = (("Content-Type", "multipart/form-data; boundary=x"),)
MULTIPART_BODY = (
    '--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2\r\n--x--'
)
BINARY = (("Content-Type", "application/octet-stream"),)
MASKED: list[tuple[Headers, str]] = [
    (JSON, '{"api_key":"hunter2hunter2"}'),
    (JSON, '{"a":{"password":"x"}}'),
    (JSON, '{"pin":1,"db_password":1234}'),
    (JSON, f'{{"message":"my key is {KEY}, ok?"}}'),
    (JSON, '{"message":"it is AKIAIOSFODNN7EXAMPLE"}'),
    (JSON, f'{{"message":"{JWT}"}}'),
    (JSON, f'{{"message":"{PEM}"}}'),
    (JSON, '{"message":"postgres://me:pa55word@db/x"}'),
    (JSON, '{"message":"dapi0123456789abcdef0123456789abcdef"}'),
    (FORM, "a=1&password=hunter2&b=2"),
    (MULTIPART, MULTIPART_BODY),
]
INNOCENT: list[tuple[Headers, str]] = [
    (JSON, '{"message":"**bold** and *more*, \\n\\n***\\n"}'),
    (JSON, '{"message":"/******************************/ int a = 9999;"}'),
    (JSON, '{"max_tokens":9999,"list":[9,99],"message":"sk-***"}'),
    (JSON, '{"message":"the password is *secret*, 99 %"}'),
    (FORM, "a=***&b=9999"),
    (BINARY, '{"password":"****"}'),
]
TARGET = "/v1/a%2Fb/../c//?x=%7e&y=[1]&z=a+b"
HEADERS: Headers = (
    ("Host", "api.example.com"),
    ("accept-ENCODING", "br"),
    ("X-Two", "1"),
    ("Connection", "close, X-Hop"),
    ("X-Hop", "1"),
    ("TE", "trailers"),
    ("Transfer-Encoding", "chunked"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=b"),
    ("Expect", "100-continue"),
    ("Keep-Alive", "5"),
    (":authority", "api.example.com"),
    *JSON,
    ("x-two", "\xe9"),
)
ALL_BYTES = bytes(range(256)) * 8_000
CODED = gzip.compress(b'{"message":"*** 99 ***"}')
NEVER_MASKED = b'{"password":"a**9","db_password":199}'


def _unmasked(number: int, path: str, body: bytes) -> list[Record]:
    """Return a request as it is recorded where nothing is redacted."""
    records = list(request(number, number, path=path, body=b"*" * len(body)))
    records[1] = records[1]._replace(payload=body)
    return records


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Live:
    """Return a server that was sent, below `/base`, all that can be sent."""
    coded = (*JSON, ("Content-Encoding", "gzip"))
    made = [
        *(
            request(n, n, path=f"/{n}", headers=headers, body=body.encode())
            for n, (headers, body) in enumerate(INNOCENT)
        ),
        request(20, 20, path="/coded", headers=coded, body=CODED),
        _unmasked(21, "/unmasked", NEVER_MASKED),
        request(22, 22, path=TARGET, headers=HEADERS, body=ALL_BYTES),
    ]
    with live() as server:
        folder = tmp_path_factory.mktemp("sendable")
        assert sent(folder, made, server.url + "/base/").skipped == []
    assert len(server.asked) == len(made)
    return server


def came(server: Live, path: str) -> Asked:
    """Return the one request for a path that came."""
    (found,) = (asked for asked in server.asked if asked.target == "/base" + path)
    return found


def test_a_request_is_sent_as_it_was_but_for_what_is_of_the_connection(
    server: Live,
) -> None:
    """Target and body to the byte; other headers in their order, with their case."""
    asked = came(server, TARGET)
    assert asked.method == "POST"
    assert asked.body == ALL_BYTES
    assert asked.headers == (
        ("Host", server.url.removeprefix("http://")),
        ("accept-ENCODING", "br"),
        ("X-Two", "1"),
        *JSON,
        ("x-two", "\xe9"),
        ("Content-Length", str(len(ALL_BYTES))),
    )


SECRET_HEADERS: Headers = (
    ("Authorization", f"Bearer {KEY}"),
    ("x-api-key", KEY),
    ("Cookie", "session=abc; theme=dark"),
    ("Referer", "https://me:word@example.com/"),
    *JSON,
)


def test_a_masked_header_is_left_out_or_given_anew(tmp_path: Path) -> None:
    """No mask is sent; what is given is sent, and masked in the new recording."""
    made = [request(n, path="/x?echo", headers=SECRET_HEADERS) for n in (1, 2)]
    anew = Given(
        ["x-API-key: my-own-credential", "X-Tenant: violet", "Referer:", "X-Void;"],
        {"authorization": "another-credential"},
    )
    with live() as server:
        redrive = sent(tmp_path, made, server.url, given=anew)
    assert redrive.left_out == {"Cookie": 2}
    assert dict(server.asked[0].headers) == {
        "Host": server.url.removeprefix("http://"),
        **dict(JSON),
        "Authorization": "Bearer another-credential",
        "x-API-key": "my-own-credential",
        "X-Tenant": "violet",
        "X-Void": "",
        "Content-Length": "19",
    }
    (answer, _) = (found[0] for found in answers(tmp_path, redrive).values())
    kept = dict(answer.request_headers)
    assert kept["Authorization"] == "Bearer [redacted]"
    assert kept["x-API-key"] == kept["X-Tenant"] == "[redacted]"
    with Store.open(tmp_path / "after") as store:
        said = store.body(answer.exchange_id)
        tables = [store.sql(f"FROM {name}").to_pylist() for name in SCHEMAS]
    assert b"X-Tenant" in said  # the server has told all that it was sent
    for credential in ("my-own-credential", "another-credential"):
        assert credential.encode() not in said
        assert credential not in str(tables)


def test_a_header_that_is_no_secret_can_be_kept() -> None:
    """Its name is not looked for in bodies, where it may mean anything."""
    redactor = Given(["X-Tenant: violet", "Text: loud"]).redactor(keep=("X-Tenant",))
    masked = redactor.headers((("x-tenant", "violet"), ("text", "loud"), JSON[0]))
    assert masked == (("x-tenant", "violet"), ("text", "[redacted]"), JSON[0])
    body = b'{"text":"Hi","x-tenant":"violet"}'
    assert redactor.whole_body(ResponseHead(200, "OK", JSON), body) == body


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Bearer secret", "'Bearer secret' is not a header"),
        ("Na me: secret", "'Na me: …' is not a header"),
        ("Name: a\r\nOther: b", "'Name: …' is not a header"),
        ("Name: \u20ac", "'Name: …' is not a header"),
        ("host: a", "put the host that you mean into --to"),
        ("Content-Length: 5", "content-length is set by the body"),
        ("transfer-encoding;", "transfer-encoding is set by the body"),
    ],
)
def test_what_is_no_header_is_refused(line: str, why: str) -> None:
    """The value, which may be a secret, is not in the message."""
    with pytest.raises(UsageError, match=why) as caught:
        Given([line])
    assert line.startswith("Bearer") or "secret" not in str(caught.value)


@pytest.mark.parametrize(("headers", "body"), MASKED)
def test_a_body_with_a_mask_is_not_sent(
    tmp_path: Path, headers: Headers, body: str
) -> None:
    """The server would answer something else, and nobody would know why."""
    made = [request(1, headers=headers, body=body.encode())]
    with closing(redrive_of(tmp_path, made, "http://127.0.0.1:1")) as redrive:
        assert redrive.jobs == []
        ((skipped, reason),) = redrive.skipped
    assert skipped.exchange_id == exchange_id(1)
    assert reason == "its body holds a secret that was masked"


@pytest.mark.parametrize("number", range(len(INNOCENT)))
def test_a_body_with_stars_of_its_own_is_sent(server: Live, number: int) -> None:
    """A star is a mask only where something else would be masked."""
    assert came(server, f"/{number}").body == INNOCENT[number][1].encode()


def test_a_coded_body_is_sent_as_it_is(server: Live) -> None:
    """In these nothing is masked: with a secret in them they are not recorded."""
    assert came(server, "/coded").body == CODED


def test_a_body_that_was_never_masked_is_sent(server: Live) -> None:
    """Whoever records without redaction has the secret, with stars in it or without."""
    assert came(server, "/unmasked").body == NEVER_MASKED


BY_PATTERN = [
    (r"\d{16}", "4111111111111111"),
    (r"CUST-\d+", "CUST-12345"),
    (r"name is (\w+ \w+)", "name is Jo Doe"),
]


@pytest.mark.parametrize(("pattern", "text"), BY_PATTERN)
def test_what_a_pattern_may_have_masked_is_not_sent(
    tmp_path: Path, pattern: str, text: str
) -> None:
    """What the pattern would match again, nobody can tell from its stars."""
    body = f'{{"message":"{text}"}}'.encode()
    redactor = Redactor(patterns=[pattern])
    masked = redactor.whole_body(RequestHead("POST", "/", JSON), body)
    assert b"*" in masked
    made = [
        request(1, body=masked),
        request(2, headers=BINARY, body=masked),
        request(3, headers=(*JSON, ("Content-Encoding", "gzip")), body=CODED),
        request(4),
        request(5, body=f'{{"message":"{KEY}"}}'.encode()),
    ]
    for other in (redactor, Given().redactor(patterns=[pattern])):
        options = {"redactor": other}
        with closing(_unsent(tmp_path, made, **options)) as redrive:
            sent = [job.exchange.exchange_id for job in redrive.jobs]
            skipped = {x.exchange_id: reason for x, reason in redrive.skipped}
        assert sent == [exchange_id(n) for n in (2, 3, 4)]
        assert skipped == {
            exchange_id(1): "its body may hold a secret that --redact-pattern masked",
            exchange_id(5): "its body holds a secret that was masked",
        }


def test_what_is_given_has_masked_nothing_yet(tmp_path: Path) -> None:
    """That its value is looked for in answers says nothing of stars in requests."""
    given = Given(["x-api-key: my-own-credential"])
    made = [request(1, body=b'{"message":"**bold**"}')]
    with closing(_unsent(tmp_path, made, given=given)) as redrive:
        assert (len(redrive.jobs), redrive.skipped) == (1, [])


def _unsent(tmp_path: Path, made: list[Sequence[Record]], **options: Any) -> Redrive:
    folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    return redrive_of(folder, made, "http://127.0.0.1:1", **options)


def test_what_cannot_be_sent_truthfully_is_skipped_with_its_reason(
    tmp_path: Path,
) -> None:
    """The others are sent, and the reasons are told with the ids."""
    short = request(4, 4, headers=(*JSON, ("Content-Length", "1000")))
    unsent = [r for r in request(5, 5, headers=_chunked()) if r.op.name != "SENT"]
    made = [
        request(1, 1, path="/1?key=" + KEY),
        request(2, 2, ended_ms=None),
        request(3, 3, outcome=Outcome.INCOMPLETE, error="the disk was full"),
        short,
        unsent,
        request(6, 6, path="/6"),
        request(7, 7, path="/a b"),
        request(8, 8, headers=(("X:Y", "1"),)),
    ]
    with closing(redrive_of(tmp_path, made, "http://127.0.0.1:1")) as redrive:
        assert [job.target for job in redrive.jobs] == ["/6"]
    reasons = {int(x.exchange_id[-12:], 16): reason for x, reason in redrive.skipped}
    assert reasons.pop(7).startswith("it cannot be sent (")
    assert reasons.pop(8).startswith("it cannot be sent (")
    assert reasons == {
        1: "its query holds a secret that was masked",
        2: "it was still open when it was read",
        3: "it was not recorded whole",
        4: "its body was not recorded whole",
        5: "its body was not recorded whole",
    }
    assert (
        f"2, its body was not recorded whole: {exchange_id(4)}, {exchange_id(5)}"
        in (list(redrive.skips()))
    )


def _chunked() -> Headers:
    return (*JSON, ("Transfer-Encoding", "chunked"))
