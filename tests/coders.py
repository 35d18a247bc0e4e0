"""Servers that compress: whole bodies, and event by event."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]  # has no types
import zstandard


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
"""By name: a `content-encoding`, and what makes such a body."""


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
"""By `content-encoding`: what makes what compresses one event after the other."""
