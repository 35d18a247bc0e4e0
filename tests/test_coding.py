"""The rules of `sse_recorder.coding`: any cut of any coding decodes to the same."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli  # type: ignore[import-untyped]  # has no types
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sse_recorder import coding
from sse_recorder.coding import CodingError, Decoder, decoder

EVENTS = tuple(f'event: text\ndata: {{"n":{n}}}\n\n'.encode() for n in range(20))
BODY = b"".join(EVENTS)


def raw_deflate(data: bytes) -> bytes:
    """Compress as RFC 1951 alone says."""
    return zlib.compress(data, wbits=-15)


def several_members(data: bytes) -> bytes:
    """Compress as gzip in three members, one of them empty."""
    half = len(data) // 2
    return b"".join(map(gzip.compress, (data[:half], b"", data[half:])))


def several_frames(data: bytes) -> bytes:
    """Compress as zstd in two frames."""
    half = len(data) // 2
    return zstandard.compress(data[:half]) + zstandard.compress(data[half:])


def padded(data: bytes) -> bytes:
    """Compress as gzip, with the zeros that tapes needed."""
    return gzip.compress(data) + bytes(9)


def stacked(data: bytes) -> bytes:
    """Compress as gzip, and that as br."""
    compressed: bytes = brotli.compress(gzip.compress(data))
    return compressed


CODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": (" X-GZIP ", gzip.compress),
    "gzip, several members": ("gzip", several_members),
    "gzip, padded": ("gzip", padded),
    "deflate": ("deflate", zlib.compress),
    "deflate, raw": ("deflate", raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "zstd, several frames": ("zstd", several_frames),
    "gzip in br": ("gzip, identity,br", stacked),
}
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


def zlib_flusher(wbits: int) -> Callable[[bytes], bytes]:
    """Return what a server does that compresses event by event."""
    stream = zlib.compressobj(wbits=wbits)
    return lambda event: stream.compress(event) + stream.flush(zlib.Z_SYNC_FLUSH)


def brotli_flusher() -> Callable[[bytes], bytes]:
    """Return the same for br."""
    stream = brotli.Compressor()
    return lambda event: stream.process(event) + stream.flush()


def zstd_flusher() -> Callable[[bytes], bytes]:
    """Return the same for zstd."""
    stream = zstandard.ZstdCompressor().compressobj()
    block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return lambda event: stream.compress(event) + stream.flush(block)


FLUSHERS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": lambda: zlib_flusher(31),
    "deflate": lambda: zlib_flusher(15),
    "br": brotli_flusher,
    "zstd": zstd_flusher,
}


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
