"""The rules of `sse_recorder.coding`: any cut of any coding decodes to the same."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import zstandard
from coders import CODERS, FLUSHERS, brotli_flusher, zlib_flusher
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_recorder import coding
from sse_recorder.coding import CodingError, Decoder, decoder

EVENTS = tuple(f'event: text\ndata: {{"n":{n}}}\n\n'.encode() for n in range(20))
BODY = b"".join(EVENTS)


BY_NAME = pytest.mark.parametrize("name", CODERS)


def made(content_encoding: str) -> Decoder:
    """Return a decoder where there must be one."""
    one = decoder(content_encoding)
    assert one is not None
    return one


@pytest.mark.parametrize("header", [None, "", " ", "identity", "Identity, ", ","])
def test_without_a_coding_there_is_nothing_to_do(header: str | None) -> None:
    """No header, an empty one and `identity` leave the bytes as they are."""
    assert decoder(header) is None


@pytest.mark.parametrize("header", ["compress", "gzip, rot13", "gzip;q=1"])
def test_an_unknown_coding_is_named(header: str) -> None:
    """A coding that cannot be taken off is refused before any byte."""
    with pytest.raises(CodingError, match="is not known"):
        decoder(header)


@BY_NAME
def test_whole_and_byte_by_byte(name: str) -> None:
    """However it was cut, a body decodes to what was compressed."""
    header, compress = CODERS[name]
    wire = compress(BODY)
    for size in (1, 2, 3, len(wire)):
        one = made(header)
        pieces = [one.decode(wire[at : at + size]) for at in range(0, len(wire), size)]
        assert b"".join(pieces) + one.flush() == BODY


@settings(deadline=None)  # other work on the machine is no failure
@given(
    name=st.sampled_from(sorted(CODERS)),
    body=st.binary(max_size=300),
    places=st.lists(st.integers(min_value=0, max_value=300), max_size=6),
)
def test_any_cut_of_anything(name: str, body: bytes, places: list[int]) -> None:
    """The cuts of the wire do not change what comes out; empty reads bring nothing."""
    header, compress = CODERS[name]
    wire = compress(body)
    ends = [0, *sorted(min(place, len(wire)) for place in places), len(wire), len(wire)]
    one = made(header)
    decoded = b"".join([one.decode(wire[a:b]) for a, b in pairwise(ends)])
    assert decoded + one.flush() == body


@pytest.mark.parametrize("header", FLUSHERS)
def test_an_event_comes_out_with_its_bytes(header: str) -> None:
    """What a server flushes is decoded at once: the times of events depend on it.

    Large and small events, because a decoder could keep back what exceeds its buffer.
    """
    source = random.Random(1)  # noqa: S311 - no secret
    large = [source.randbytes(source.randrange(300_000)) for _ in range(4)]
    events = [*EVENTS, *large, b"a" * 400_000, *EVENTS]
    flusher = FLUSHERS[header]()
    one = made(header)
    for event in events:
        assert one.decode(flusher(event)) == event


def test_an_event_comes_out_of_a_stack_with_its_bytes() -> None:
    """Several codings add no delay either."""
    inner, outer = zlib_flusher(31), brotli_flusher()
    one = made("gzip, br")
    for event in EVENTS:
        assert one.decode(outer(inner(event))) == event
    assert one.flush() == b""


@pytest.mark.parametrize("header", FLUSHERS)
def test_a_decoder_is_behind_where_a_block_is_cut(header: str) -> None:
    """Only zstd gives a block out as a whole; of others nothing is kept back."""
    flusher, one = FLUSHERS[header](), made(header)
    for event in (*EVENTS, b"a" * 400_000, *EVENTS):
        wire = flusher(event)
        came = len(one.decode(wire[:-1]))
        assert one.is_behind == (header == "zstd" and came < len(event))
        assert came + len(one.decode(wire[-1:])) == len(event)
        assert not one.is_behind


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("is_sized", [False, True])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_zstd_stream_of_whole_frames_is_not_behind(
    size: int, *, is_checked: bool, is_sized: bool
) -> None:
    """Frames of all forms, empty ones and skipped ones, however they are cut."""
    make = zstandard.ZstdCompressor(
        write_checksum=is_checked, write_content_size=is_sized
    )
    source = random.Random(1)  # noqa: S311 - no secret
    skipped = b"\x50\x2a\x4d\x18\x05\0\0\0hello\x5f\x2a\x4d\x18\0\0\0\0"
    for body in (BODY, b"", b"a" * 300_000, source.randbytes(200_000)):
        one = made("zstd")
        for wire in (make.compress(body), skipped, make.compress(b"b")):
            for at in range(0, len(wire), size):
                one.decode(wire[at : at + size])
            assert not one.is_behind


@pytest.mark.parametrize("header", ["gzip", "deflate", "br"])
def test_what_is_not_behind_has_given_out_all_that_came(header: str) -> None:
    """Byte by byte, nothing is waited for but symbols and the codes for them."""
    source = random.Random(1)  # noqa: S311 - no secret
    body = b"".join(b"%x" % source.getrandbits(64) for _ in range(5_000))
    one, silent = made(header), 0
    for byte in CODERS[header][1](body):
        silent = 0 if one.decode(bytes([byte])) else silent + 1
        assert silent < 100


@BY_NAME
def test_a_body_that_was_cut_short_is_decoded_so_far(name: str) -> None:
    """An upstream that breaks off leaves a prefix, not an error."""
    header, compress = CODERS[name]
    wire = compress(BODY)
    for size in range(len(wire)):
        one = made(header)
        assert BODY.startswith(one.decode(wire[:size]) + one.flush())


@pytest.mark.parametrize("header", ["gzip", "deflate", "br", "zstd", "gzip, br"])
def test_damaged_data_is_an_error(header: str) -> None:
    """Bytes that are not of the coding raise, and the caller keeps the wire's bytes."""
    with pytest.raises(CodingError):
        made(header).decode(b"\xff" * 100)


@BY_NAME
def test_data_after_the_end_is_an_error(name: str) -> None:
    """What follows the end is no part of the body, in the same read or in the next."""
    header, compress = CODERS[name]
    wire = compress(BODY)
    with pytest.raises(CodingError):
        made(header).decode(wire + b"more")
    one = made(header)
    one.decode(wire)
    with pytest.raises(CodingError):
        one.decode(b"more")


@BY_NAME
def test_a_bomb_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that decodes to more than the limit raises, and one below it does not."""
    header, compress = CODERS[name]
    monkeypatch.setattr(coding, "DECODED_BYTES_MAX", 1_000_000)
    assert len(made(header).decode(compress(bytes(900_000)))) == 900_000
    with pytest.raises(CodingError, match="decodes to more"):
        made(header).decode(compress(bytes(20_000_000)))


def test_a_bomb_is_not_decoded_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that takes no limit is fed in slices and stopped between them."""
    monkeypatch.setattr(coding, "DECODED_BYTES_MAX", 1_000_000)
    one = made("zstd")
    taken: list[int] = []

    class Counting:
        def decompress(self, data: bytes) -> bytes:
            taken.append(len(data))
            return bytes(400_000)

    monkeypatch.setattr(one, "_stream", Counting())
    with pytest.raises(CodingError, match="decodes to more"):
        one.decode(bytes(100_000))
    assert taken == [1024] * 3


def test_a_zstd_window_is_bounded() -> None:
    """A stream that asks for more memory than HTTP allows is refused."""
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(CodingError, match="memory"):
        made("zstd").decode(stream.compress(BODY) + stream.flush())
