"""Content codings, taken off as the bytes come.

An upstream may compress its event stream.  The recorder keeps the bytes of the wire and
takes the coding off on the side, to parse: so a decoder gives out whatever can be
decoded at once, and a stream whose server flushes after each event yields each event
with the bytes that held it.

It reads what RFC 9110 section 8.4.1 registers and servers use (gzip, x-gzip, deflate)
and the two that browsers added (br, RFC 7932; zstd, RFC 8878), alone or one on top of
the other.

Rules
-----
1. Damaged data raises `CodingError`, and so does data after its end (but for the zeros
   that some pad gzip with).  The decoder is of no use after it.
2. A stream that was cut short is not damaged: what came of it is decoded.
3. A decompression bomb costs a bounded amount of memory: what one call of `decode`
   gives out is limited, for each coding by itself.  What a stream decodes to over time
   is not limited, because streams are not.
4. What came in has come out, but for a part of one symbol, and for a zstd block that
   is not whole.  Others can read more of such a block; `is_behind` tells of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # has no types
import zstandard

DECODED_BYTES_MAX: Final = 64 * 1024 * 1024
"""What one read may decode to.  gzip makes at most 1032 bytes of one, so that a read of
64 KiB reaches it only by intent; br and zstd can make gigabytes of as much."""

ZSTD_WINDOW_MAX: Final = 8 * 1024 * 1024
"""The memory that a zstd stream may ask for: RFC 9659 forbids more in HTTP."""

# zstd's decoder takes no limit.  Four bytes can be a block of 128 KiB, so a slice of
# this size goes at most 32 MiB over the limit before it is noticed.
_ZSTD_SLICE: Final = 1024
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_RUN: Final = 1  # the type of a block that is one byte, repeated

_GZIP_FORMAT: Final = 16 + zlib.MAX_WBITS
_ZLIB_FORMAT: Final = zlib.MAX_WBITS
_RAW_FORMAT: Final = -zlib.MAX_WBITS

_ZLIB_HEAD: Final = 2
_ZLIB_METHOD: Final = 8
_ZLIB_CHECK: Final = 31

_TOO_MUCH: Final = "one read decodes to more than a server would compress into it"
_AFTER_END: Final = "data after the end of the compressed stream"


class CodingError(ValueError):
    """The data is not what its content coding says, or the coding is not known."""


class Decoder(Protocol):
    """Takes one or more content codings off, bytes by bytes."""

    @property
    def is_behind(self) -> bool:
        """Whether it was given some of a block that comes out when it is whole."""

    def decode(self, data: bytes) -> bytes:
        """Return all that can be decoded now.

        Raises:
            CodingError: The data is damaged, or decodes to too much.
        """

    def flush(self) -> bytes:
        """Return what is left at the end of the stream."""


def decoder(content_encoding: str | None) -> Decoder | None:
    """Return what takes a `content-encoding` off; None where there is nothing to do.

    Raises:
        CodingError: One of the codings is not known.
    """
    codings = [name.strip().lower() for name in (content_encoding or "").split(",")]
    decoders: list[Decoder] = []
    # "If one or more encodings have been applied to a representation, the sender MUST
    # list the codings in the order in which they were applied": the last comes off
    # first.
    for coding in reversed(codings):
        if coding in ("gzip", "x-gzip"):
            decoders.append(_Gzip())
        elif coding == "deflate":
            decoders.append(_Deflate())
        elif coding == "br":
            decoders.append(_Brotli())
        elif coding == "zstd":
            decoders.append(_Zstandard())
        elif coding not in ("", "identity"):
            raise CodingError(f"the content coding {coding!r} is not known")
    if len(decoders) > 1:
        return _Stack(decoders)
    return decoders[0] if decoders else None


class _Eager:
    """A decoder that keeps nothing back, so that the end brings nothing more."""

    @property
    def is_behind(self) -> bool:
        return False

    def flush(self) -> bytes:
        return b""


class _Stack(_Eager):
    """Several codings, the outermost first."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    @property
    def is_behind(self) -> bool:
        return any(one.is_behind for one in self._decoders)

    def decode(self, data: bytes) -> bytes:
        for one in self._decoders:
            data = one.decode(data)
        return data


class _Gzip(_Eager):
    """RFC 1952: one member, or several that follow each other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_FORMAT)

    def decode(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        room = DECODED_BYTES_MAX
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                self._member = zlib.decompressobj(_GZIP_FORMAT)
            try:
                part = self._member.decompress(data, room)
            except zlib.error as error:
                raise CodingError(f"damaged gzip data: {error}") from error
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise CodingError(_TOO_MUCH)
            data = self._member.unused_data
        return b"".join(parts)


class _Deflate(_Eager):
    """The zlib format (RFC 1950), or what some servers send instead: bare RFC 1951.

    A zlib stream begins with two bytes that name the method and are, as a number, a
    multiple of 31.  A bare one that begins so would begin with a stored block whose
    padding is not zero, which no compressor writes.
    """

    def __init__(self) -> None:
        self._head = b""
        self._stream = zlib.decompressobj(_RAW_FORMAT)

    def decode(self, data: bytes) -> bytes:
        if len(self._head) < _ZLIB_HEAD:
            data = self._head + data
            self._head = data[:_ZLIB_HEAD]
            if len(self._head) < _ZLIB_HEAD:
                return b""
            method = self._head[0] & 0x0F
            if method == _ZLIB_METHOD and not int.from_bytes(self._head) % _ZLIB_CHECK:
                self._stream = zlib.decompressobj(_ZLIB_FORMAT)
        if not data:
            return b""
        if self._stream.eof:
            raise CodingError(_AFTER_END)
        try:
            decoded = self._stream.decompress(data, DECODED_BYTES_MAX)
        except zlib.error as error:
            raise CodingError(f"damaged deflate data: {error}") from error
        if len(decoded) >= DECODED_BYTES_MAX:
            raise CodingError(_TOO_MUCH)
        if self._stream.unused_data:
            raise CodingError(_AFTER_END)
        return decoded


class _Brotli(_Eager):
    """RFC 7932."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def decode(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        room = DECODED_BYTES_MAX
        while True:
            try:
                part: bytes = self._stream.process(data, room)
            except brotli.error as error:
                raise CodingError(f"damaged br data: {error}") from error
            if not part:
                return b"".join(parts)
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise CodingError(_TOO_MUCH)
            # One call can keep back what it has decoded, and give it to the next one
            # (brotli 1.2.1, stored blocks of more than its ring buffer).
            data = b""


class _Zstandard(_Eager):
    """RFC 8878: one frame, or several that follow each other."""

    def __init__(self) -> None:
        # Not `stream_writer`: it keeps back what a write decodes to beyond its buffer
        # until the next write.
        self._stream = zstandard.ZstdDecompressor(
            max_window_size=ZSTD_WINDOW_MAX
        ).decompressobj(read_across_frames=True)
        self._blocks = _ZstdBlocks()

    @property
    def is_behind(self) -> bool:
        return self._blocks.is_cut

    def decode(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        room = DECODED_BYTES_MAX
        for offset in range(0, len(data), _ZSTD_SLICE):
            try:
                part = self._stream.decompress(data[offset : offset + _ZSTD_SLICE])
            except zstandard.ZstdError as error:
                raise CodingError(f"damaged zstd data: {error}") from error
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise CodingError(_TOO_MUCH)
        self._blocks.follow(data)
        return b"".join(parts)


class _ZstdBlocks:
    """Knows whether a zstd stream is inside of a block; its decoder does not tell.

    The stream is sound: the decoder has taken it.
    """

    def __init__(self) -> None:
        self._passing = 0
        self._head = b""
        self._heads = self._walk()
        self._wanted = next(self._heads)

    @property
    def is_cut(self) -> bool:
        """Whether more of a block is to come."""
        return self._passing > 0

    def follow(self, data: bytes) -> None:
        """Take the next bytes."""
        at, size = 0, len(data)
        while at < size:
            if self._passing:
                step = min(self._passing, size - at)
                self._passing -= step
            else:
                step = min(self._wanted - len(self._head), size - at)
                self._head += data[at : at + step]
                if len(self._head) == self._wanted:
                    head, self._head = self._head, b""
                    self._wanted = self._heads.send(head)
            at += step

    def _walk(self) -> Generator[int, bytes, None]:
        """Ask for so many bytes, again and again, and set how many to pass over then.

        https://www.rfc-editor.org/rfc/rfc8878#section-3.1
        """
        while True:
            head = yield 5
            if not head.startswith(_ZSTD_MAGIC):  # a frame that decoders skip
                head += yield 3
                self._passing = int.from_bytes(head[4:], "little")
                continue
            flags = head[4]
            is_single = flags >> 5 & 1  # it has no window, and always a size
            dictionary, content = (0, 1, 2, 4), (is_single, 2, 4, 8)
            yield 1 - is_single + dictionary[flags & 3] + content[flags >> 6]
            is_last = 0
            while not is_last:
                block = int.from_bytes((yield 3), "little")
                is_last = block & 1
                self._passing = 1 if block >> 1 & 3 == _ZSTD_RUN else block >> 3
            if flags >> 2 & 1:
                yield 4  # the checksum
