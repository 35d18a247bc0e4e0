"""Masking bodies: planted secrets, cut anywhere, and what must survive untouched."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from coders import CODERS, FLUSHERS, zlib_flusher, zstd_flusher
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_recorder import coding, masking
from sse_recorder.exchange import RequestHead, ResponseHead
from sse_recorder.masking import FRAME_MAX, SILENT_MAX, BodyMask, UnmaskableError
from sse_recorder.redact import Redactor

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "recorded_streams.jsonl"

# Made up: a public prefix, and what must not be kept.
KEYS = [
    ("sk-ant-", "api03-Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"),
    ("sk-proj-", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3"),
    ("sk-", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3"),
    ("AIza", "SyZq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3Gs0Ae5"),
    ("ya29.", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3"),
    ("ghp_", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3Gs0Ae5Ux2"),
    ("xoxb-", "904832175612-Zq8Xw2Lr5Tn9"),
    ("sk_live_", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"),
    ("AKIA", "Q8XW2LR5TN9BV4KC"),
    ("hf_", "ZqXwLrTnBvKcMjHdPfGsAeUxYi8W"),
    ("SG.", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1H.d6Pf3Gs0Ae5Ux2YiWo4"),
    ("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiIsIm4iOiJaIn0.Zq8Xw2Lr5Tn9Bv4Kc7"),
    ("Bearer ", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6"),
    ("Basic ", "WnE4WHcyTHI6VG45QnY0S2M="),
    ("https://zoe:", "Zq8Xw2Lr5Tn9"),
]
FIELDS = ["api_key", "password", "accessToken", "client_secret", "x-api-key"]
VALUE = "correct.horse/battery+staple 42"


def head(kind: str, **headers: str) -> ResponseHead:
    """Return a head with a media type."""
    more = tuple((name.replace("_", "-"), text) for name, text in headers.items())
    return ResponseHead(200, "OK", (("Content-Type", kind), *more))


JSON = head("application/json")
EVENTS = head("text/event-stream")


def masked(
    kind: ResponseHead, *chunks: bytes, redactor: Redactor | None = None
) -> bytes:
    """Mask a body; every chunk keeps its time and its length."""
    mask = (redactor or Redactor()).body(kind)
    found = [item for at, data in enumerate(chunks) for item in mask.feed(at, data)]
    found += mask.flush()
    assert [(at, len(data)) for at, data in found] == [
        (at, len(data)) for at, data in enumerate(chunks)
    ]
    return b"".join(data for _, data in found)


def assert_gone(private: str, kept: bytes) -> None:
    """Check that no eight characters of a secret are there."""
    wire = private.encode()
    assert [
        wire[i : i + 8] for i in range(len(wire) - 7) if wire[i : i + 8] in kept
    ] == []


def frames(deltas: list[str], field: str = "delta") -> list[bytes]:
    """Return a frame for each piece of a string."""
    return [f"data: {json.dumps({'n': 1, field: d})}\n\n".encode() for d in deltas]


def joined(body: bytes, field: str = "delta") -> str:
    """Return the string that came in pieces."""
    data = re.findall(rb"^data: (.*)$", body, re.MULTILINE)
    return "".join(json.loads(item)[field] for item in data)


def after(prefix: str) -> str:
    """Return what a secret is followed by."""
    return "@host.test/x" if prefix.startswith("https") else " and so on"


def containers(text: str) -> Iterator[tuple[ResponseHead, bytes]]:
    """Give bodies that have a text in them."""
    yield JSON, json.dumps({"a": 1, "text": f"Here: {text}"}).encode()
    yield JSON, json.dumps({"arguments": json.dumps({"note": text})}).encode()
    yield EVENTS, f"event: x\ndata: {json.dumps({'data': {'m': text}})}\n\n".encode()
    yield EVENTS, f": {text}\n\ndata: {text}\ndata: more\n\n".encode()
    yield head("text/plain"), f"line\n{text}\nline".encode()
    yield head("application/x-www-form-urlencoded"), f"a=b&note={text}&c=d".encode()


@pytest.mark.parametrize(("prefix", "private"), KEYS, ids=[p for p, _ in KEYS])
def test_a_key_is_masked_in_any_body_however_it_is_cut(
    prefix: str, private: str
) -> None:
    """A known form goes, whatever it stands in and wherever a chunk ends."""
    for kind, body in containers(prefix + private + after(prefix)):
        whole = masked(kind, body)
        assert_gone(private, whole)
        public = prefix.encode()
        assert public in whole
        assert len(whole) == len(body)
        start = body.index(public)
        # No byte but those of the secret changes.
        assert whole[:start] == body[:start]
        end = start + len(prefix + private)
        assert whole[end:] == body[end:] or body.count(public) > 1
        for cut in range(len(body) + 1):
            assert masked(kind, body[:cut], body[cut:]) == whole
        assert masked(kind, *(body[i : i + 1] for i in range(len(body)))) == whole


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_field_is_masked_at_any_depth_however_it_is_cut(
    name: str, depth: int
) -> None:
    """The value of a secret field goes, in JSON and in JSON in its strings."""
    value: object = {"a": "b", name: VALUE + '"\\é', "c": ["d", 1]}
    for _ in range(depth):
        value = {"arguments": json.dumps(value)}
    for kind, body in (
        (JSON, json.dumps(value).encode()),
        (EVENTS, f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()),
    ):
        whole = masked(kind, body)
        assert_gone(VALUE, whole)
        inner = json.loads(whole.removeprefix(b"data: "))
        for _ in range(depth):
            inner = json.loads(inner["arguments"])
        assert set(inner.pop(name)) == {"*"}
        assert inner == {"a": "b", "c": ["d", 1]}
        for cut in range(len(body) + 1):
            assert masked(kind, body[:cut], body[cut:]) == whole
        assert masked(kind, *(body[i : i + 1] for i in range(len(body)))) == whole


@pytest.mark.parametrize(("prefix", "private"), KEYS, ids=[p for p, _ in KEYS])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_a_key_in_deltas_is_masked_as_it_comes(
    prefix: str, private: str, size: int
) -> None:
    """A form that is cut over frames goes, and no frame waits for another."""
    text = f"Here: {prefix}{private}{after(prefix)}"
    for shift in range(size):
        cuts = [0, *range(shift or size, len(text), size), len(text)]
        chunks = frames([text[a:b] for a, b in pairwise(cuts)])
        mask, kept = Redactor().body(EVENTS), b""
        for at, chunk in enumerate(chunks):
            ((_, data),) = mask.feed(at, chunk)
            kept += data
        assert mask.flush() == []
        result = joined(kept)
        assert_gone(private, result.encode())
        assert_gone(private, kept)
        assert result.startswith(f"Here: {prefix}")
        assert result.endswith(after(prefix))
        assert len(result) == len(text)


@pytest.mark.parametrize(("prefix", "private"), KEYS, ids=[p for p, _ in KEYS])
def test_a_key_in_deltas_is_masked_however_chunks_are_cut(
    prefix: str, private: str
) -> None:
    """Chunks that end inside of frames, or hold many of them, give the same bytes."""
    text = f"Here: {prefix}{private}{after(prefix)}"
    chunks = frames([text[i : i + 5] for i in range(0, len(text), 5)])
    body, whole = b"".join(chunks), masked(EVENTS, *chunks)
    assert whole != body
    for cut in range(len(body) + 1):
        assert masked(EVENTS, body[:cut], body[cut:]) == whole
    assert masked(EVENTS, *(body[i : i + 1] for i in range(len(body)))) == whole


def test_a_text_that_grows_is_masked_in_each_frame() -> None:
    """A string that begins with all of what it was is the whole text again."""
    prefix, private = KEYS[0]
    text = f"A text with {prefix}{private} in it, and more."
    chunks = frames([text[: n + 1] for n in range(len(text))])
    kept = masked(EVENTS, *chunks)
    assert_gone(private, kept)
    strings = [json.loads(item)["delta"] for item in re.findall(rb"data: (.*)", kept)]
    want = text.replace(private, "*" * len(private))
    assert strings == [want[: n + 1] for n in range(len(text))]


def test_a_text_that_is_no_json_is_followed_too() -> None:
    """Where a frame's data are the text itself, lines are its pieces."""
    prefix, private = KEYS[0]
    text = f"Here:{prefix}{private}"
    chunks = [f"data: {text[i : i + 3]}\n\n".encode() for i in range(0, len(text), 3)]
    pieces = re.findall(rb"data: (.*)", masked(EVENTS, *chunks))
    assert b"".join(pieces).decode() == f"Here:{prefix}{'*' * len(private)}"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize(
    "frame",
    [
        lambda d: {"type": "x", "index": 1, "delta": {"partial_json": d}},
        lambda d: {"choices": [{"delta": {"tool_calls": [{"arguments": d}]}}]},
        lambda d: {"type": "TOOL_CALL_ARGS", "toolCallId": "t", "delta": d},
    ],
)
def test_a_field_in_streamed_arguments_is_masked(
    frame: Callable[[str], object], size: int
) -> None:
    """Arguments are JSON in pieces, and their secret fields go as they come."""
    text = json.dumps(
        {"url": "http://x/y", "api_key": VALUE, "n": {"pin": "0", "b": 2}}
    )
    for separators in ((", ", ": "), (",", ":")):
        body = b""
        for start in range(0, len(text), size):
            data = json.dumps(frame(text[start : start + size]), separators=separators)
            body += f"event: e\ndata: {data}\n\n".encode()
        kept = masked(EVENTS, *body.splitlines(keepends=True))
        pieces = re.findall(
            rb'"(?:partial_json|arguments|delta)": ?"((?:[^"\\]|\\.)*)"', kept
        )
        inner = json.loads("".join(json.loads(b'"' + p + b'"') for p in pieces))
        assert inner == {
            "url": "http://x/y",
            "api_key": "*" * len(VALUE),
            "n": {"pin": "0", "b": 2},
        }


def test_parallel_calls_do_not_confuse_each_other() -> None:
    """Strings that come in turns are followed apart, by their index."""
    prefix, private = KEYS[0]
    secret, other = (
        f"x {prefix}{private} y",
        "an innocent text, just as long as that is",
    )
    chunks = [
        f'data: {{"index":{i},"delta":"{text[n : n + 1]}"}}\n\n'.encode()
        for n in range(len(other))
        for i, text in enumerate((secret, other))
    ]
    kept = masked(EVENTS, *chunks)
    pieces = re.findall(rb'"index":(\d),"delta":"(.*?)"', kept)
    assert b"".join(p for i, p in pieces if i == b"1") == other.encode()
    assert b"".join(p for i, p in pieces if i == b"0") == (
        secret.replace(private, "*" * len(private)).encode()
    )


# Also halves of words, as the tokens of models are, that begin like keys.
WORDS = st.sampled_from(
    [
        *(" ri", "sk", "Open", "AI", "ghp", " ask", "-", "_", "g", "hf", "Ba", "sic"),
        *("The", " is", ":", " sk", "eyJ", "whs", "SG", ".", "xo", "AK", "IA", '"'),
        *(
            "p",
            "pass",
            "word",
            '"password":',
            "é",
            " at https",
            "://",
            "12",
            "\\",
            "\n",
        ),
    ]
)


@settings(deadline=None)
@given(
    lessons=st.lists(st.lists(WORDS, max_size=12), max_size=6),
    key=st.sampled_from(KEYS),
    cuts=st.sets(st.integers(4, 16), min_size=1) | st.sets(st.integers(0, 60)),
)
def test_nothing_that_is_learned_lets_a_secret_pass(
    lessons: list[list[str]], key: tuple[str, str], cuts: set[int]
) -> None:
    """What was harmless in one stream is no reason to trust it in another."""
    redactor, (prefix, private) = Redactor(), key
    for words in lessons:
        for word in words:
            masked(EVENTS, *frames([word]), redactor=redactor)
        masked(EVENTS, *frames(words), *frames(words), redactor=redactor)
    text = f"Key: {prefix}{private}{after(prefix)}"
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    for piece in pieces:  # behind a letter it is a part of a word
        masked(EVENTS, *frames(["a", piece, " b"]), redactor=redactor)
    chunks = frames(pieces)
    kept = masked(EVENTS, *chunks, redactor=redactor)
    assert kept == masked(EVENTS, *chunks)
    assert_gone(private, joined(kept).encode())


def test_a_word_that_ends_like_a_key_begins_is_not_learned() -> None:
    """`risk` makes `sk` no less of a beginning for the streams that come later."""
    prefix, private = KEYS[1]
    redactor = Redactor()
    lesson = frames(["The", " ri", "sk", " is", " Open", "AI", "'s"])
    assert masked(EVENTS, *lesson, redactor=redactor) == b"".join(lesson)
    chunks = frames(["Key:", " ", "sk", "-proj-", private[:8], private[8:]])
    kept = joined(masked(EVENTS, *chunks, redactor=redactor))
    assert kept == f"Key: {prefix}{'*' * len(private)}"


def test_data_that_are_no_object_are_followed_in_any_chunk() -> None:
    """Lines of text, or of JSON strings, are pieces also behind frames of JSON."""
    _, private = KEYS[0]
    for shape in ("data: {}\n\n", 'data: "{}"\n\n'):
        pieces = [shape.format(p).encode() for p in ("sk", "-ant-", private)]
        for first in (b'data: {"a":"b"}\n\n', b'event: x\ndata: {"a":"b","c":1}\n\n'):
            redactor = Redactor()
            masked(EVENTS, first, redactor=redactor)
            kept = masked(EVENTS, first + pieces[0], *pieces[1:], redactor=redactor)
            assert_gone(private, kept)
            assert kept.startswith(first + pieces[0] + pieces[1])


def test_a_frame_that_ends_behind_a_name_stays_json() -> None:
    """The quote that ends a string is no beginning of the value of a name in it."""
    pieces = ['{"password":', '"hunter2-', 'correct"', "}"]
    kept = masked(EVENTS, *frames(pieces))
    assert joined(kept) == '{"password":"***************"}'
    for text in ('set "password":', '["password" : ['):
        frame = f"data: {json.dumps({'text': text, 'next': 1})}\n\n".encode()
        assert masked(EVENTS, frame) == frame


SECRETS = st.text('a7Q+/"\\\n\u00e9\U0001f600', min_size=9, max_size=30)
HARMLESS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text('ab"\\\n: {}[],\u00e9', max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["city", "n", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def with_secret(value: object, secret: object, depth: int) -> dict[str, object]:
    """Return arguments with a secret in them, in JSON strings of some depth."""
    inner: dict[str, object] = {"n": value, "password": secret, "z": value}
    for _ in range(depth):
        inner = {"x": json.dumps(inner), "y": value}
    return inner


def without_secret(arguments: dict[str, object], depth: int) -> tuple[object, object]:
    """Return the value of the secret, and all that is around it."""
    around = []
    for _ in range(depth):
        inner = arguments.pop("x")
        assert isinstance(inner, str)
        around.append(arguments)
        arguments = json.loads(inner)
    return arguments.pop("password"), [*around, arguments]


@settings(deadline=None)
@given(
    value=HARMLESS,
    secret=SECRETS,
    depth=st.integers(0, 2),
    cuts=st.sets(st.integers(0, 300), max_size=40),
    escapes=st.sampled_from(["all", "few"]),
)
def test_arguments_stay_json_and_lose_their_secrets(
    value: object, secret: str, depth: int, cuts: set[int], escapes: str
) -> None:
    """However the arguments of a call are cut, only the secret changes."""
    arguments = with_secret(value, secret, depth)
    text = json.dumps(arguments, ensure_ascii=escapes == "all")
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    kept = masked(EVENTS, *frames([text[a:b] for a, b in pairwise(places)]))
    found, around = without_secret(json.loads(joined(kept)), depth)
    assert around == without_secret(with_secret(value, secret, depth), depth)[1]
    assert isinstance(found, str)
    # What stays of an escape that was cut is its backslash.
    assert set(found) <= {"*", "/", "\\"}


@settings(deadline=None)
@given(
    value=HARMLESS,
    key=st.sampled_from(KEYS),
    depth=st.integers(0, 2),
    cuts=st.sets(st.integers(0, 300), max_size=40),
)
def test_arguments_with_a_key_stay_json(
    value: object, key: tuple[str, str], depth: int, cuts: set[int]
) -> None:
    """A key in any string of the arguments goes, and all else stays."""
    prefix, private = key
    noted = f"it is {prefix}{private}{after(prefix)}"
    arguments: object = {"note": noted, "n": value}
    for _ in range(depth):
        arguments = {"x": json.dumps(arguments)}
    text = json.dumps(arguments)
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    kept = masked(EVENTS, *frames([text[a:b] for a, b in pairwise(places)]))
    inner = json.loads(joined(kept))
    for _ in range(depth):
        inner = json.loads(inner["x"])
    assert inner["n"] == value
    assert_gone(private, inner["note"].encode())
    assert len(inner["note"]) == len(noted)


@pytest.mark.parametrize(
    "secret", ["a" * 40, "\\" * 40, '"' * 40, "\\" * 9 + '"', "correct\\", "a\n" * 20]
)
@pytest.mark.parametrize("size", [1, 2, 5, 8, 9])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_secret_of_pieces_that_are_alike_is_masked_to_its_end(
    secret: str, size: int, depth: int
) -> None:
    """A piece that begins like the one before is no text that grows."""
    text = json.dumps(with_secret(None, secret, depth))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    kept = json.loads(joined(masked(EVENTS, *frames(pieces))))
    found, around = without_secret(kept, depth)
    assert around == without_secret(with_secret(None, secret, depth), depth)[1]
    assert set(str(found)) <= {"*", "/", "\\"}


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/jsonl"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_key_in_lines_of_json_is_masked_as_it_comes(kind: str, size: int) -> None:
    """Each line is a frame whose strings go on in the next, and none waits."""
    prefix, private = KEYS[0]
    text = f"Here: {prefix}{private} and so on"
    lines = [
        json.dumps({"model": "m", "response": text[i : i + size], "done": False}) + "\n"
        for i in range(0, len(text), size)
    ]
    mask, kept = Redactor().body(head(kind)), b""
    for at, line in enumerate(lines):
        ((_, data),) = mask.feed(at, line.encode())
        kept += data
    told = "".join(json.loads(line)["response"] for line in kept.splitlines())
    assert told == text.replace(private, "*" * len(private))


def test_lines_that_are_one_value_are_masked_as_a_text() -> None:
    """A wrong media type hides no field whose value is on the next line."""
    body = json.dumps({"a": {"password": VALUE, "b": ["c"]}}, indent=1).encode()
    body = body.replace(b'": "', b'":\n "')
    want = body.replace(VALUE.encode(), b"*" * len(VALUE))
    kind = head("application/x-ndjson")
    for cut in range(len(body) + 1):
        assert masked(kind, body[:cut], body[cut:]) == want
    assert masked(kind, *body.splitlines(keepends=True)) == want


IDENTITIES = [
    lambda call: {"id": f"call_{call}"},
    lambda call: {"call_id": f"call_{call}"},
    lambda call: {"callId": call},
    lambda call: {"index": call},
    lambda call: {"id": "chatcmpl-1", "choices": [{"index": 0, "id": f"c{call}"}]},
]
FRESH = [
    lambda n: {"id": f"evt_{n}"},
    lambda n: {"index": n},
    lambda n: {"index": n, "token": {"id": 7 + n % 3}},
    lambda n: {"id": "chatcmpl-1", "created": n},
    lambda n: {"id": "c", **({"call_id": "x"} if not n else {})},
    lambda n: {"n": n},
]


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("size", [1, 3, 7])
def test_strings_that_an_id_tells_apart_are_followed_apart(
    identity: Callable[[int], dict[str, object]], size: int
) -> None:
    """Calls that come in turns are masked by what each of them is."""
    texts = [json.dumps({"api_key": VALUE, "n": 1}), json.dumps({"city": "P" * 44})]
    assert abs(len(texts[0]) - len(texts[1])) < size * 3 + 9
    pieces = [
        (call, text[at : at + size])
        for at in range(0, max(map(len, texts)), size)
        for call, text in enumerate(texts)
    ]
    chunks = [
        f"data: {json.dumps({**identity(call), 'delta': piece})}\n\n".encode()
        for call, piece in pieces
    ]
    kept = masked(EVENTS, *chunks).split(b"\n\n")
    told = ["", ""]
    for (call, _), frame in zip(pieces, kept, strict=False):
        told[call] += json.loads(frame[6:])["delta"]
    assert json.loads(told[0]) == {"api_key": "*" * len(VALUE), "n": 1}
    assert told[1] == texts[1]


@pytest.mark.parametrize("identity", FRESH)
@pytest.mark.parametrize(("prefix", "private"), KEYS[:3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_an_id_that_is_new_in_each_frame_hides_no_secret(
    identity: Callable[[int], dict[str, object]], prefix: str, private: str, size: int
) -> None:
    """A string goes on in the next frame whatever that is called."""
    text = f"Key: {prefix}{private} and so on"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    chunks = [
        f"data: {json.dumps({**identity(n), 'delta': piece})}\n\n".encode()
        for n, piece in enumerate(pieces)
    ]
    kept = joined(masked(EVENTS, *chunks))
    assert_gone(private, kept.encode())
    assert len(kept) == len(text)


@pytest.mark.parametrize("count", [65, 500, 1500])
@pytest.mark.parametrize("name", ["index", "id", "field"])
def test_of_many_open_strings_none_is_forgotten(count: int, name: str) -> None:
    """What cannot be followed is masked, and what is known of it is bounded."""

    def frame(n: int, piece: str) -> bytes:
        data = {f"delta{n}": piece} if name == "field" else {name: f"c{n}", "d": piece}
        return f"data: {json.dumps(data)}\n\n".encode()

    order = range(count)
    # That one comes back shows that they are no counters.
    chunks = [frame(n, '{"api_k') for n in (0, 1, 0, *order)]
    chunks += [frame(n, 'ey":"correct horse') for n in order]
    chunks += [frame(n, ' battery"}') for n in order]
    tracemalloc.start()
    kept = masked(EVENTS, *chunks)
    assert tracemalloc.get_traced_memory()[1] < len(b"".join(chunks)) * 8 + (1 << 20)
    tracemalloc.stop()
    assert b"orrect" not in kept
    assert b"atter" not in kept
    for line in kept.split(b"\n\n")[:-1]:
        json.loads(line[6:])


def test_a_key_that_follows_letters_is_masked_in_deltas() -> None:
    """What no word has in it begins a key even where none should begin."""
    for prefix, private in (("sk-ant-", "api03-" + "Zq8Xw2Lr5Tn9"), KEYS[1]):
        text = f"Hi{prefix}{private} so"
        for size in (2, 5, 9):
            chunks = frames([text[i : i + size] for i in range(0, len(text), size)])
            kept = joined(masked(EVENTS, *chunks))
            assert_gone(private, kept.encode())
            assert kept.startswith(f"Hi{prefix}")
    kept = joined(masked(EVENTS, *frames(["Hi", "sk-ant-api03", "-Zq8Xw2Lr5Tn9"])))
    assert kept == f"Hisk-ant-{'*' * 18}"


def test_a_private_key_is_masked_to_its_end() -> None:
    """The lines of a key go, their breaks and what is around stay."""
    lines = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3=="]
    pem = "-----BEGIN RSA PRIVATE KEY-----\n{}\n{}\n-----END RSA PRIVATE KEY-----\n"
    text, stars = pem.format(*lines), pem.format(*("*" * len(x) for x in lines))
    wraps: list[tuple[ResponseHead, Callable[[str], str]]] = [
        (head("text/plain"), lambda t: f"a\n{t}b"),
        (JSON, lambda t: json.dumps({"file": t, "b": "c"})),
        (JSON, lambda t: json.dumps({"a": json.dumps({"f": t})})),
    ]
    for kind, wrap in wraps:
        body, want = wrap(text).encode(), wrap(stars).encode()
        for cut in range(len(body) + 1):
            assert masked(kind, body[:cut], body[cut:]) == want
    for size in (1, 2, 3, 40):
        deltas = [text[i : i + size] for i in range(0, len(text), size)]
        assert joined(masked(EVENTS, *frames(deltas))) == stars


def multipart(password: bytes) -> bytes:
    """Return a form with a password in it."""
    parts = ((b"password", password), (b"x", b"y"))
    text = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    return b"".join(text % part for part in parts) + b"--b--\r\n"


@pytest.mark.parametrize(
    ("kind", "body", "want"),
    [
        (
            "application/x-www-form-urlencoded",
            b"user=a&password=p%20w+x&api%5Fkey=1&max_tokens=5",
            b"user=a&password=*******&api%5Fkey=*&max_tokens=5",
        ),
        (
            "multipart/form-data; boundary=b",
            multipart(b"p\r\nw"),
            multipart(b"****"),
        ),
        (
            "application/json",
            b'{"pass_code":1,"api_key":-12.5e3,"tokens":7,"secret":null,"otp":0}',
            b'{"pass_code":1,"api_key":9999999,"tokens":7,"secret":null,"otp":9}',
        ),
        (
            "application/json",
            b'{"credentials": ["abc", "d"], "api_key":[ "e" ],"x":["f"]}',
            b'{"credentials": ["***", "*"], "api_key":[ "*" ],"x":["f"]}',
        ),
        (
            "text/event-stream",
            b'data: {\r\ndata:  "password":\r\ndata:   "abc", "b": "c"}\r\n\r\n',
            b'data: {\r\ndata:  "password":\r\ndata:   "***", "b": "c"}\r\n\r\n',
        ),
    ],
)
def test_fields_of_all_kinds_are_masked(kind: str, body: bytes, want: bytes) -> None:
    """Forms, parts, numbers and lists: what has a secret name goes, all else stays."""
    for cut in range(len(body) + 1):
        assert masked(head(kind), body[:cut], body[cut:]) == want


INNOCENT = {
    "model": "gpt-4o-2024-08-06",
    "id": "chatcmpl-C1KMEUDb1vVwsROQUCZTgG6A6vtWo",
    "tool_id": "toolu_01S5swZdBmTzLDVzwcT5LbHp",
    "key": "Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6",
    "token": "Hello",
    "signature": "EuoCCkYICBgCKkDPZq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6Pf3Gs0Ae5Ux2==",
    "thoughtSignature": "CiQBjz1rX+z7CAOCNB0aLI7ypObFNPY+MRlb2NP1K12YF4ii184KZ",
    "encrypted_content": "gAAAAABpZq8Xw2Lr5Tn9Bv4Kc7-Mj1Hd6_Pf3Gs0Ae5Ux2YiWo4==",
    "prompt_cache_key": "a",
    "idempotency_key": "b",
    "next_page_token": "c",
    "progressToken": "d",
    "max_tokens": 100,
    "input_tokens": 7,
    "token_count": 1,
    "token_type": "bearer",
    "sha": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "uuid": "0193a5f0-1234-7000-8000-000000000000",
    "text": "a task-based, risk-averse basic understanding of Bearer authentication"
    " at http://localhost:8080/x, sk-learn, hf_hub, the bearer of tokens",
    "properties": {"api_key": {"type": "string", "description": "The key"}},
}


def test_what_only_looks_secret_stays() -> None:
    """Ids, hashes, signatures, counts and prose are not touched."""
    body = json.dumps(INNOCENT).encode()
    assert masked(JSON, body) == body
    frame = b"data: " + body + b"\n\n"
    assert masked(EVENTS, frame, frame) == frame * 2


@pytest.mark.parametrize("size", [3, 4, 5, 11])
def test_prose_in_deltas_stays(size: int) -> None:
    """Words that begin like a key, in any pieces, are words."""
    text = str(INNOCENT["text"]) + "; disk-usage: 5 https://a.test:8080/b"
    deltas = [text[i : i + size] for i in range(0, len(text), size)]
    assert joined(masked(EVENTS, *frames(deltas))) == text


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not part of the project")
def test_nothing_of_the_recorded_streams_is_masked() -> None:
    """Real traffic of many APIs has no secret in it, and comes out as it was."""
    count = 0
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        for interaction in json.loads(line)["interactions"]:
            for part in (interaction["request"], interaction["response"]):
                body = part.get("body") or ""
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                events = b"data:" in data[:4096] and part is interaction["response"]
                kind = EVENTS if events else JSON
                chunks = re.split(rb"(?<=\n\n)", data)
                assert masked(kind, *chunks) == data
                count += 1
    assert count > 99


def test_binary_bodies_pass_untouched() -> None:
    """What is no text has no secrets that could be found, and is not changed."""
    body = b'{"api_key":"abc"}'
    coded = gzip.compress(body)
    for type_ in ("image/png", "application/octet-stream"):
        assert masked(head(type_), body) == body
        assert masked(head(type_, content_encoding="gzip"), coded) == coded
    assert masked(ResponseHead(200), body) == b'{"api_key":"***"}'


def test_a_disabled_redactor_masks_nothing() -> None:
    """Without redaction a body is what it was."""
    mask = Redactor(enabled=False).body(JSON)
    assert type(mask) is BodyMask
    assert mask.feed(7, b'{"api_key":"abc"}') == [(7, b'{"api_key":"abc"}')]


def test_only_what_is_undecided_is_held_back() -> None:
    """A chunk goes on at once unless its end may be half of a secret."""
    mask = Redactor().body(head("text/plain"))
    assert mask.feed(1, b"Hello, sk-") == [(1, b"Hello, sk-")]
    assert mask.feed(2, b"Zq8X") == []
    assert mask.feed(3, b"w2Lr") == []
    assert mask.feed(4, b" no") == [(2, b"Zq8X"), (3, b"w2Lr"), (4, b" no")]
    events = Redactor().body(EVENTS)
    assert events.feed(1, b'data: {"a":') == [(1, b'data: {"a":')]
    assert events.feed(2, b'"sk-Zq8X') == []
    assert events.feed(3, b'"}\n') == [(2, b'"sk-Zq8X'), (3, b'"}\n')]


def test_an_endless_body_is_masked_in_bounded_memory() -> None:
    """A line, a frame or a secret without an end is not collected."""
    block = b"a1B2c3D4" * 8192
    for kind, start in (
        (EVENTS, b"data: "),
        (EVENTS, b'data: {"password":"'),
        (JSON, b'{"password":"'),
        (head("text/plain"), b"eyJ"),
        (head("text/plain"), b"-----BEGIN PRIVATE KEY-----\n"),
    ):
        mask = Redactor().body(kind)
        mask.feed(0, start)
        held = 0
        for at in range(1, 65):
            held += len(block) - sum(len(data) for _, data in mask.feed(at, block))
            assert held <= FRAME_MAX + len(block) + len(start)
        assert len(mask.flush()) <= held // len(block) + 1


def test_a_secret_in_a_long_frame_is_masked() -> None:
    """Where a frame is too long to be seen whole it is still a text."""
    prefix, private = KEYS[0]
    fill = b"x y " * (FRAME_MAX // 2)
    body = b'data: {"a":"' + fill + (prefix + private).encode() + b'"}\n\ndata: {"b":"'
    body += (prefix + private).encode() + b'"}\n\n'
    chunks = [body[i : i + 50_001] for i in range(0, len(body), 50_001)]
    want = body.replace(private.encode(), b"*" * len(private))
    assert masked(EVENTS, *chunks) == want


TEXT = st.lists(
    st.sampled_from(
        [
            *(
                '"',
                "\\",
                '\\"',
                "{",
                "}",
                ":",
                ": ",
                ",",
                "\n",
                "\n\n",
                "\r\n",
                "data: ",
            ),
            *('"api_key"', '\\"password\\": \\"', "sk-", "sk-ant-", "Bearer ", "eyJ"),
            *("://a:", "@", "&password=", "=", "sk_live_", "AKIA", "Basic "),
            *("Zq8Xw2Lr5Tn9Bv4Kc7Mj1Hd6", ".", "*", "é", " ", "12", "9", "[", "[DONE]"),
        ]
    ),
    max_size=30,
).map("".join)
KINDS = st.sampled_from(
    [JSON, EVENTS, head("application/x-www-form-urlencoded"), head("multipart/x")]
)


@given(text=TEXT, kind=KINDS, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_a_mask_keeps_lengths_and_stays_as_it_is(
    text: str, kind: ResponseHead, cuts: list[int]
) -> None:
    """Any text, cut anywhere: chunks keep their sizes, and UTF-8 stays UTF-8."""
    body = f"{text}\n\n".encode()
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in pairwise(places)]
    once, whole = masked(kind, *chunks), masked(kind, body)
    assert once == whole
    assert once.decode().count("*") >= body.count(b"*")
    assert masked(kind, whole) == whole


PREFIX, PRIVATE = KEYS[0]
CODED = pytest.mark.parametrize("name", FLUSHERS)


def coded(kind: ResponseHead, name: str) -> ResponseHead:
    """Return the head of the same body in a content coding."""
    return ResponseHead(200, "OK", (*kind.headers, ("Content-Encoding", name)))


def looked_through(
    kind: ResponseHead, chunks: Sequence[bytes]
) -> tuple[list[bytes], str | None]:
    """Feed a coded body as the writer does.

    Returns:
        What is kept, which is its first chunks as they were, and why no more is.
    """
    mask, kept, reason = Redactor().body(kind), [], None
    try:
        for at, data in enumerate(chunks):
            kept += [(at, data)] if mask.passes(data) else mask.feed(at, data)
        kept += mask.flush()
    except UnmaskableError as error:
        kept, reason = kept + error.before, str(error)
    assert kept == list(enumerate(chunks))[: len(kept)]
    assert reason or len(kept) == len(chunks)
    return [data for _, data in kept], reason


def text_of(name: str, wire: bytes) -> bytes:
    """Return what a coded body decodes to."""
    decoder = coding.decoder(name)
    assert decoder is not None
    return decoder.decode(wire)


def flushed(name: str, pieces: Sequence[bytes]) -> list[bytes]:
    """Compress a body as a server does that flushes after each of its pieces."""
    flusher = FLUSHERS[name]()
    return [flusher(piece) for piece in pieces]


@settings(deadline=None)  # other work on the machine is no failure
@given(
    text=TEXT,
    kind=KINDS,
    name=st.sampled_from(sorted(CODERS)),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_a_coded_body_is_kept_up_to_what_would_be_masked(
    text: str, kind: ResponseHead, name: str, cuts: list[int]
) -> None:
    """Any text, cut anywhere: without a secret all chunks come back as they were."""
    body = f"{text}\n\n".encode()
    content_encoding, compress = CODERS[name]
    wire = compress(body)
    places = [0, *sorted({min(cut, len(wire)) for cut in cuts} - {0}), len(wire)]
    chunks = [wire[a:b] for a, b in pairwise(places)]
    whole = masked(kind, body)
    kept, reason = looked_through(coded(kind, content_encoding), chunks)
    assert (reason is None) == (whole == body)
    shown = text_of(content_encoding, b"".join(kept))
    assert shown == whole[: len(shown)]


@CODED
@pytest.mark.parametrize(("kind", "frame"), [(EVENTS, b"data: %b\n\n"), (JSON, b"%b")])
def test_a_secret_in_a_coded_body_ends_it_however_it_is_cut(
    name: str, kind: ResponseHead, frame: bytes
) -> None:
    """No part of it is kept, neither decoded nor as it is on the wire."""
    body = frame % json.dumps({"a": 1, "text": f"Here: {PREFIX}{PRIVATE} it"}).encode()
    cuts = [[body[:cut], body[cut:]] for cut in range(1, len(body))]
    for pieces in (*cuts, [body[i : i + 1] for i in range(len(body))]):
        chunks = flushed(name, pieces)
        kept, reason = looked_through(coded(kind, name), chunks)
        assert reason is not None
        assert_gone(PRIVATE, b"".join(kept) + text_of(name, b"".join(kept)))
        # The chunk that holds its first byte is the first that is not kept.
        start, ends = body.index(PRIVATE.encode()), 0
        clean = [ends := ends + len(piece) for piece in pieces]
        assert len(kept) == sum(end <= start for end in clean)


@pytest.mark.parametrize("name", CODERS)
def test_a_coded_body_that_breaks_off_keeps_no_part_of_a_secret(name: str) -> None:
    """Wherever the wire is cut, and wherever it ends, in a block or not."""
    pieces = frames(["one", "two", f"{PREFIX}{PRIVATE}", "three"])
    content_encoding, compress = CODERS[name]
    wires = [compress(b"".join(pieces))]
    if name in FLUSHERS:
        wires.append(b"".join(flushed(name, pieces)))
    kind = coded(EVENTS, content_encoding)
    for wire in wires:
        for end in range(1, len(wire)):
            for chunks in ([wire[:end], wire[end:]], [wire[:end]]):
                told = b"".join(looked_through(kind, chunks)[0])
                assert_gone(PRIVATE, told + text_of(content_encoding, told))


@CODED
def test_what_comes_before_a_secret_is_kept(name: str) -> None:
    """A stream is kept event by event, up to the one with the secret in it."""
    pieces = frames(["Hello", ", the key", " is ", f"{PREFIX}{PRIVATE}", ".", "Bye"])
    chunks = flushed(name, pieces)
    kept, reason = looked_through(coded(EVENTS, name), chunks)
    assert kept == chunks[:3]
    assert reason == (
        f"a secret (anthropic-key) is inside of a {name}-coded body, which is not kept"
        " from there on; ask for it uncoded (Accept-Encoding: identity)"
    )


def test_the_reason_names_what_can_be_done_about_it() -> None:
    """A name can be kept; a request is not asked for, but sent."""
    body = gzip.compress(b'{"api_key": "correct"}')
    headers = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    mask = Redactor().body(RequestHead("POST", "/", headers))
    told: list[tuple[int, bytes, str]] = []
    reporting = Redactor().body(
        ResponseHead(200, "OK", headers), lambda *x: told.append(x)
    )
    for one, advice in ((mask, "send it uncoded"), (reporting, "ask for it uncoded")):
        with pytest.raises(UnmaskableError, match=r"--redact-keep api_key$") as found:
            one.feed(0, body)
        assert advice in str(found.value)
        assert found.value.before == []
        with pytest.raises(UnmaskableError):
            one.flush()  # nothing ever follows
    assert told == [(13, b"correct", "field api_key")]


@CODED
def test_coded_chunks_wait_for_what_is_undecided(name: str) -> None:
    """Chunks that may end in half of a secret go on together, each with its time."""
    mask = Redactor().body(coded(head("text/plain"), name))
    one, two, three, four = flushed(name, [b"Hello, sk-", b"Zq8X", b"w2Lr", b" no"])
    assert mask.feed(1, one) == [(1, one)]
    assert mask.feed(2, two) == []
    assert not mask.passes(three)
    assert mask.feed(3, three) == []
    assert mask.feed(4, four) == [(2, two), (3, three), (4, four)]
    assert mask.flush() == []


def test_a_block_that_is_cut_waits_for_its_end() -> None:
    """What zstd has not given out can be read on the wire, so it is not kept before."""
    event = frames([f"it is {PREFIX}{PRIVATE}"])[0]
    flusher = zstd_flusher()
    first, second = flusher(frames(["Well,"])[0]), flusher(event)
    assert PRIVATE.encode() in second
    mask = Redactor().body(coded(EVENTS, "zstd"))
    assert mask.passes(first)
    assert not mask.passes(second[:-1])
    assert mask.feed(2, second[:-1]) == []
    with pytest.raises(UnmaskableError, match="anthropic-key"):
        mask.feed(3, second[-1:])
    kept, reason = looked_through(coded(EVENTS, "zstd"), [first, second[:-1]])
    assert kept == [first]
    assert reason is not None
    assert reason.startswith(
        "a zstd-coded body ends inside of a block, where no secret"
    )


def test_a_long_coded_body_is_kept_while_its_blocks_are_cut() -> None:
    """Reads that never end where a block does are kept, the last ones at the end."""
    body = json.dumps([f"{n:x}{n * n:x}" for n in range(100_000)]).encode()
    for compress in (zstandard.compress, gzip.compress):
        wire = compress(body)
        name = "gzip" if compress is gzip.compress else "zstd"
        chunks = [wire[i : i + 10_007] for i in range(0, len(wire), 10_007)]
        mask, kept = Redactor().body(coded(JSON, name)), 0
        for at, data in enumerate(chunks):
            kept += len(mask.feed(at, data))
            assert at + 1 - kept <= (1 << 17) // 10_007 + 1
        assert kept + len(mask.flush()) == len(chunks)


def test_what_cannot_be_decoded_passes() -> None:
    """Of an unknown coding, and from where data are damaged, no frames are made."""
    body = b'{"api_key":"abc"}'
    assert looked_through(coded(JSON, "rot13"), [body, body]) == ([body, body], None)
    assert looked_through(coded(JSON, "gzip"), [body, body]) == ([body, body], None)
    mask = Redactor().body(coded(JSON, "gzip"))
    (start,) = flushed("gzip", [b'{"a": "b"'])
    assert mask.feed(0, start) == [(0, start)]
    damage = b"\x07"  # a block of no type
    assert mask.feed(1, damage) == [(1, damage)]
    assert mask.passes(body)
    assert mask.feed(2, body) == [(2, body)]
    assert mask.flush() == []


def test_what_waits_where_a_coded_body_is_damaged_is_not_let_through() -> None:
    """What may be half of a secret stays half of one when nothing follows."""
    start, half = flushed("gzip", [b'"', f"{PREFIX}{PRIVATE[:9]}".encode()])
    kept, reason = looked_through(coded(JSON, "gzip"), [start, half, b"\x07"])
    assert kept == [start]
    assert reason is not None


def test_a_bomb_is_looked_at_in_bounded_memory() -> None:
    """What grows beyond the limit of frames is neither looked at nor kept back."""
    unit = 1 << 20
    bomb = gzip.compress(b'["' + bytes(150 * unit), 9)
    chunks = [bomb[i : i + 4096] for i in range(0, len(bomb), 4096)]
    mask = Redactor().body(coded(JSON, "gzip"))
    tracemalloc.start()
    try:
        for at, data in enumerate(chunks):
            assert mask.passes(data) or mask.feed(at, data) == [(at, data)]
        assert tracemalloc.get_traced_memory()[1] < 40 * unit
    finally:
        tracemalloc.stop()
    assert mask.flush() == []


def test_a_coded_body_is_looked_at_as_far_as_frames_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind the limit nothing can be seen in the store, and before it all."""
    monkeypatch.setattr(masking, "DECODED_FREE", 1000)
    secret = f'"{PREFIX}{PRIVATE}"'.encode()
    for size, is_seen in ((500, True), (20_000, False)):
        chunks = flushed("gzip", [b'"', b" " * size, secret])
        kept, reason = looked_through(coded(JSON, "gzip"), chunks)
        assert (reason is not None) == is_seen
        assert kept == (chunks[:2] if is_seen else chunks)


def test_a_coded_body_that_brings_nothing_is_not_collected() -> None:
    """Empty blocks without an end do not make what is held back grow."""
    flusher = zlib_flusher(31)
    mask = Redactor().body(coded(JSON, "gzip"))
    start = flusher(b'"sk-ant-Zq8X')
    assert mask.feed(0, start) == []
    nothing = b"\0\0\0\xff\xff" * 1000
    reads = SILENT_MAX // len(nothing)
    assert all(mask.feed(at, nothing) == [] for at in range(reads))
    with pytest.raises(UnmaskableError, match="bring nothing") as found:
        mask.feed(reads, nothing)
    assert found.value.before == []
    calm = Redactor().body(coded(JSON, "gzip"))
    assert calm.passes(zlib_flusher(31)(b""))
    assert all(calm.passes(nothing) for _ in range(reads + 9))
