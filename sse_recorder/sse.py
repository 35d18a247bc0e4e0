r"""Event streams: bytes to frames, and frames back to the same bytes.

This module does no I/O and reads no clock: the caller passes bytes and keeps the time.
The rules are those of WHATWG HTML section 9.2.6, "Interpreting an event stream"
(https://html.spec.whatwg.org/multipage/server-sent-events.html); the lines that obey
them quote them.

Theory of operation
-------------------
A *frame* is one block of lines up to and including its blank line, or what is left
without one when the stream ends.  Every byte belongs to exactly one frame, so the
frames' bytes joined are the stream.  At a blank line the specification clears all that
it keeps but the last event id, so a frame can be read on its own, and all that a
`Parser` keeps is the open frame's bytes, with the one byte before them.  That byte ends
a line (the stream begins as if after one), so a blank line is always a *pair* of line
ends and a single search finds it wherever the bytes were cut.  The search resumes two
bytes before the new ones and the bytes lie in a `bytearray`, which grows and is eaten
from the front in amortised constant time: a line of 10 MB in pieces of 16 bytes is read
in linear time.

Fields do not say how they were written: `data:x` and `data: x` are the same event.  So
a frame also has a *layout*, its text with the values taken out,

    event: {event}\ndata: {data}\n\n

where each `{data}` stands for the next line of the data and literal braces are doubled.
Where text cannot hold the bytes, or the layout would be long, the frame has its bytes
(`raw`) instead: `raw` is None exactly when `rebuild` makes the bytes out of the layout
and the fields.

Rules
-----
1. Nothing that the peer sends raises.  What the specification says to ignore is ignored
   and reported in `Frame.anomaly`, because a recorder must be able to show it.
2. Frames do not depend on how the bytes were cut.  A CR that ends a chunk may be half
   of a CRLF, so a frame that ends in one is held back until the next byte or the end.
3. What is held back is bounded.  A frame over `frame_bytes_max` comes out in pieces of
   that size, as tails, and parsing goes on after its blank line.

It keeps no last event id and no reconnection time: both are a client's state, and the
frames have all that sets them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import add
from string import Formatter
from typing import Final, NamedTuple

FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest frame that is read as one.  The largest event in the public conformance
suites is 10 MB; httpx2 stops at 1 MiB."""

LAYOUT_CHARACTERS_MAX: Final = 1024
"""The longest layout; beyond it (padding in a comment, data of eighty lines) the frame
keeps its bytes.  Layouts are meant to be few and read by people."""

_RETRY_MAX: Final = 2**63 - 1
_RETRY_DIGITS_MAX: Final = len(str(_RETRY_MAX))

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = 0x0D
_LF: Final = 0x0A

# "Lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF)
# character pair, a single U+000A LINE FEED (LF) character, or a single U+000D CARRIAGE
# RETURN (CR) character", and by nothing else that Unicode calls a line end.
_LINE_END: Final = re.compile("(\r\n|\r|\n)")

# A line end and the first byte of the next one.  CR LF is not among the pairs: it is
# one line end.
_BLANK_LINE: Final = re.compile(rb"\n[\r\n]|\r\r")

# What nearly all servers send, with what is between its colons and its values.
_USUAL: Final = re.compile(
    "(?:id:( ?+)([^\n\0]++)\n)?+(?:event:( ?+)(.++)\n)?+data:( ?+)(.*+)\n\n"
)

_FIELDS: Final = frozenset(("data", "event", "id", "retry"))

_new_tuple = tuple.__new__


class Frame(NamedTuple):
    """One block of an event stream."""

    size: int
    """In bytes."""
    start: int
    """Where its first byte is in the stream."""
    first_chunk: int
    """The index of the chunk that held its first byte."""
    last_chunk: int
    """The index of the chunk that held its last byte."""
    type: str
    """`event`: dispatches an event.  `comment`: has comments and nothing else.
    `fields`: anything else that a blank line ended.  `tail`: not interpreted, because
    the stream ended before the blank line did or because the frame is too long.
    `body`: a body that is no event stream."""
    event: str | None = None
    """The value of its last `event` field; None without one."""
    id: str | None = None
    """The value of its last valid `id` field; None without one."""
    retry: int | None = None
    """The value of its last valid `retry` field; None without one."""
    data: str | None = None
    """What it dispatches; None where it dispatches nothing."""
    layout: str | None = None
    """Its text with the values taken out; None where `raw` is not."""
    raw: bytes | None = None
    """Its bytes, where layout and fields do not rebuild them."""
    anomaly: str | None = None
    """What clients may disagree about, sorted and separated by spaces: `bom`, `id_nul`,
    `invalid_retry`, `invalid_utf8`, `no_data`, `too_long`, `unknown_field`,
    `unterminated`; None where there is nothing."""


Block = tuple[str, str, str, str]
"""A frame of text: the `id`, `event` and `data` of an event as nearly all servers send
it, empty where there is no such field; or else, last, all of its text, whose lines end
by LF, whatever they end by in the stream."""


Form = tuple[str, int]
"""A layout, and how many bytes of it are not values."""


class Style(NamedTuple):
    """How a server writes its events: what is between the colons and the values."""

    id: str = " "
    event: str = " "
    data: str = " "
    line_end: str = "\n"
    """What ends its lines."""


@lru_cache(maxsize=8)
def _blocks(id_: str, event: str, data: str) -> re.Pattern[str]:
    """Return what matches the frames of a text, one after the other.

    A usual frame of this style, by its values, which tell that their fields are there;
    or else whatever ends with a blank line, so that nothing is left between them.
    """
    id_, event, data = (gap or "(?! )" for gap in (id_, event, data))
    return re.compile(
        f"(?:id:{id_}([^\n\0]++)\n)?+(?:event:{event}(.++)\n)?+data:{data}(.*+)\n\n"
        "|((?:.++\n)*+\n)"
    )


_SPACED: Final = Style()
_SPACED_BLOCKS: Final = _blocks(*_SPACED[:3])


class Parser:
    """The machine that turns chunks into frames.

    Args:
        first_chunk: The index of the chunk that is fed first; every call of `feed` is
            one chunk, an empty one too.
        start: Where in the stream the first byte is; a BOM is looked for at 0 alone.
        frame_bytes_max: The size beyond which a frame comes out in pieces.

    To go on elsewhere, make a parser with this one's `start` and feed it `pending`; the
    open frame then begins with that chunk, so remember `open_since`.  A parser made so
    does not know of pieces that are out already: it reads the rest of a frame that is
    too long as a frame of its own.
    """

    __slots__ = (
        "_bom",
        "_buffer",
        "_chunk",
        "_has_cr",
        "_head",
        "_is_mixed",
        "_is_plain",
        "_last",
        "_limit",
        "_pattern",
        "_since",
        "_start",
        "_too_long",
        "style",
    )

    def __init__(
        self,
        *,
        first_chunk: int = 0,
        start: int = 0,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        if frame_bytes_max <= len(_BOM):
            raise ValueError("frame_bytes_max must be larger than a BOM: 4 at least")
        # The byte before the open frame, then the open frame without its BOM.
        self._buffer = bytearray(b"\n")
        self._chunk = first_chunk
        self._start = start
        self._limit = frame_bytes_max
        self._head = start == 0  # a BOM may still come
        self._bom = b""  # of the open frame
        self._since = first_chunk  # where the open frame began, if one is open
        self._last = first_chunk  # the chunk of the last byte so far
        # Searching LF pairs with `find` takes a third of the time of the expression.  A
        # server writes its line ends one way, so the first CR decides for the rest.
        self._has_cr = False
        self.style = _SPACED
        """How the events are written that `feed_run` returned last."""
        self._pattern = _SPACED_BLOCKS
        self._too_long = False  # pieces of the open frame are out already
        self._is_mixed = False  # lines end in several ways
        self._is_plain = not self._head  # nothing of all this, so that frames are text

    @property
    def pending(self) -> bytes:
        """The bytes of the open frame that have not come out."""
        return self._bom + bytes(self._buffer[1:])

    @property
    def open_since(self) -> int | None:
        """The index of the chunk that held the first of them; None without any."""
        return self._since if self._bom or len(self._buffer) > 1 else None

    @property
    def start(self) -> int:
        """Where in the stream the first of them is, or the next byte will be."""
        return self._start

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next chunk and return the frames that it completes."""
        chunk = self._chunk
        self._chunk = chunk + 1
        if not data:
            return []
        if len(self._buffer) == 1 and not self._bom:
            self._since = chunk
            # A server that flushes after each event sends it as a chunk of its own.
            if (
                self._is_plain
                and data.endswith((b"\n\n", b"\n\r\n"))
                and len(data) <= self._limit
                and (usual := _read_usual(data, self._start, chunk, chunk))
            ):
                self._last = chunk
                self._start += len(data)
                return [usual]
        start = self._start
        text = self._take(data)
        if text is None:
            return self._feed_any(data, chunk)
        self._last = chunk
        if not text:
            return []
        blocks = self._find(text)
        frames = _read_blocks(blocks, self.style, start, self._since, chunk)
        self._since = chunk
        return frames

    def _take(self, data: bytes) -> str | None:
        """Return the text of the frames that new bytes complete, its lines ended by LF.

        None if something about them needs to be looked at closely: then they are not
        taken.
        """
        buffer = self._buffer
        old = len(buffer)  # where the new bytes begin
        if self._head and old == 1 and data[0] != _BOM[0]:
            self._head = False
            self._look()
        if not self._is_plain or old + len(data) > self._limit:
            return None
        if (self._has_cr or b"\r" in data) and not self._are_lines_alike(data):
            self._is_mixed = True
            self._is_plain = False
            return None
        blank = b"\n\r\n" if self._has_cr else b"\n\n"
        is_apart = old == 1 and data[0] not in b"\r\n"  # no need to copy it
        try:
            if is_apart:
                place = data.rfind(blank)
                size = place + len(blank) if place >= 0 else 0
                text = data[:size].decode()
                if size < len(data):
                    buffer += data[size:]
            else:
                buffer += data
                place = buffer.rfind(blank, max(old - 2, 0))
                size = place - 1 + len(blank) if place >= 0 else 0
                text = buffer[1 : size + 1].decode()
                del buffer[:size]
        except UnicodeDecodeError:
            del buffer[old:]
            return None
        self._start += size
        return text.replace("\r", "") if self._has_cr else text

    def _find(self, text: str) -> list[Block]:
        """Return the frames of a text of whole ones.

        Those that are not of the style so far cost ten times as much.  So the one in
        the middle tells whether it still is: first and last ones are often others.
        """
        blocks: list[Block] = self._pattern.findall(text)
        if blocks and (odd := blocks[len(blocks) // 2][3]):
            usual = _USUAL.fullmatch(odd)
            if usual is not None and self._adapt(*usual.groups()):
                blocks = self._pattern.findall(text)
        return blocks

    def _adapt(
        self,
        id_gap: str | None,
        id_: str | None,
        event_gap: str | None,
        event: str | None,
        data_gap: str,
        data: str,
    ) -> bool:
        """Take over the style of a usual event; False where it is that so far."""
        old = self.style
        self.style = style = Style(
            old.id if id_ is None else id_gap or "",
            old.event if event is None else event_gap or "",
            data_gap if data else old.data,
            old.line_end,
        )
        self._pattern = _blocks(*style[:3])
        return style != old

    def _note_cr(self) -> None:
        self._has_cr = True
        self.style = self.style._replace(line_end="\r\n")

    def _are_lines_alike(self, data: bytes) -> bool:
        """Say whether all lines end by CRLF, those of the new bytes, too."""
        buffer = self._buffer
        if not self._has_cr:
            self._note_cr()
            if b"\n" in buffer[1:]:
                return False
        is_half = buffer[-1] == _CR
        if is_half and data[0] != _LF:
            return False
        inner = data[is_half : len(data) - (data[-1] == _CR)]
        # Counting pairs of bytes takes three times as long.
        return inner == b"\r\n".join(inner.replace(b"\r", b"").split(b"\n"))

    def _look(self) -> None:
        """See whether frames are text that needs no closer look."""
        is_open = len(self._buffer) > 1
        self._is_plain = not (
            self._head
            or self._bom
            or self._too_long
            or self._is_mixed
            or (self._has_cr and is_open)  # who knows how its lines end
        )

    def _feed_any(self, data: bytes, chunk: int) -> list[Frame]:
        """Take a chunk, whatever is in it, and return the frames that it completes."""
        if b"\r" in data:
            self._note_cr()
        buffer = self._buffer
        old = len(buffer)  # where the new bytes begin
        buffer += data
        if self._head:
            old = self._skip_bom(old)

        frames: list[Frame] = []
        begin = 1
        search = old - 2 if old > 1 else 0
        while (end := _frame_end(buffer, search, self._has_cr)) > 0:
            block = buffer[begin:end]
            if self._bom or self._too_long or end - begin > self._limit:
                frames += self._special(block, old - begin, chunk)
            else:
                # Only a frame that was held back has its last byte in an earlier chunk.
                last = chunk if end > old else self._last
                frames.append(_read(block, self._start, self._since, last))
                self._start += end - begin
            self._since = chunk
            begin = end
            search = end - 1
        if len(buffer) - begin + len(self._bom) > self._limit:
            pieces, rest = self._shed(buffer[begin:], old - begin, chunk)
            frames += pieces
            begin = len(buffer) - len(rest)
        if begin > 1:
            del buffer[: begin - 1]
        self._last = chunk
        self._look()
        return frames

    def feed_run(self, data: bytes, sizes: Sequence[int]) -> list[Block] | None:
        """Take the next chunks at once, and return the frames that they complete.

        This is `feed` for each of them, in a fifth of its time: nothing is made of a
        frame but the texts in it, and none is searched for alone.

        Args:
            data: the chunks, joined.
            sizes: of each of them; none is empty.

        Returns:
            The frames, with nothing between them; None if something about the chunks
            needs to be looked at closely, and then they are not taken.
        """
        was_open = len(self._buffer) > 1
        text = self._take(data)
        if text is None:
            return None
        number = len(sizes)
        if text or not was_open:
            # The open frame begins in the chunk that has the first of its bytes.
            left = len(self._buffer) - 1
            while left > 0:
                number -= 1
                left -= sizes[number]
            self._since = self._chunk + number
        self._chunk += len(sizes)
        self._last = self._chunk - 1
        return self._find(text)

    def close(self) -> list[Frame]:
        """Return the last frame, if bytes are pending; nothing can be fed after it."""
        if self.open_since is None:
            return []
        block = self.pending
        # "Once the end of the file is reached, any pending data must be discarded": so
        # a tail dispatches nothing and its id does not count.
        held = _BLANK_LINE.search(self._buffer, max(len(self._buffer) - 2, 0))
        codes = [] if held else ["unterminated"]
        if self._too_long:
            codes.insert(0, "too_long")
        if codes:
            anomaly = " ".join(codes)
            frame = _tail(block, self._start, self._since, self._last, anomaly)
        else:
            bom = bool(self._bom)
            frame = _read_any(block, self._start, self._since, self._last, bom=bom)
        self._start += len(block)
        self._bom = b""
        self._buffer = bytearray(b"\n")
        return [frame]

    def _skip_bom(self, old: int) -> int:
        # "If the stream starts with a BOM, strip it": it is taken out of the buffer so
        # that a blank line right after it is one.  Its own bytes cannot end a frame, so
        # until the third has come there is nothing else to decide.
        buffer = self._buffer
        opening = buffer[1 : 1 + len(_BOM)]
        if opening == _BOM:
            self._bom = _BOM
            del buffer[1 : 1 + len(_BOM)]
            old = 1
        self._head = len(opening) < len(_BOM) and _BOM.startswith(opening)
        return old

    def _special(self, block: bytearray, old: int, chunk: int) -> list[Frame]:
        # The first frame after a BOM, or one that is too long; `old` bytes of the block
        # came before this chunk.
        bom = bool(self._bom)
        frames, rest = self._shed(block, old, chunk)
        last = chunk if len(block) > old else self._last
        if self._too_long:
            frames.append(_tail(rest, self._start, self._since, last, "too_long"))
        else:
            frames.append(_read_any(rest, self._start, self._since, last, bom=bom))
        self._start += len(rest)
        self._too_long = False
        return frames

    def _shed(
        self, block: bytearray, old: int, chunk: int
    ) -> tuple[list[Frame], bytes]:
        # Cut at multiples of the limit, whatever the chunks were, and leave the rest; a
        # block of exactly the limit may be a frame yet.  The old bytes are never more
        # than the limit, so each cut but the first is among the new ones.
        whole = self._bom + block
        old += len(self._bom)
        self._bom = b""
        pieces: list[Frame] = []
        offset = 0
        while len(whole) - offset > self._limit:
            piece = whole[offset : offset + self._limit]
            offset += self._limit
            last = chunk if offset > old else self._last
            pieces.append(_tail(piece, self._start, self._since, last, "too_long"))
            self._start += self._limit
            self._since = chunk
            self._too_long = True
        return pieces, whole[offset:]


def parse(data: bytes) -> list[Frame]:
    """Return the frames of a whole stream."""
    parser = Parser()
    return parser.feed(data) + parser.close()


def frame_bytes(frame: Frame) -> bytes:
    """Return the bytes that a frame was read from."""
    if frame.raw is not None:
        return frame.raw
    return rebuild(frame.layout, frame.event, frame.data, frame.id, frame.retry)


def rebuild(
    layout: str | None,
    event: str | None,
    data: str | None,
    id: str | None,  # noqa: A002 - the name of the field
    retry: int | None,
) -> bytes:
    """Return the bytes of a frame from its layout and its fields.

    Raises:
        ValueError: They are not of one frame; a store or cassette was altered.
    """
    if layout is None:
        raise ValueError("a frame without a layout has its bytes in `raw`")
    values = {"event": event, "id": id, "retry": retry}
    lines = [] if data is None else data.split("\n")
    lines.reverse()
    parts: list[str] = []
    for literal, name in _template(layout):
        parts.append(literal)
        if name is None:
            continue
        value = values.get(name) if name != "data" else lines.pop() if lines else None
        if value is None:
            raise ValueError(f"the layout {layout!r} needs one more {name!r}")
        parts.append(str(value))
    if lines:
        raise ValueError(f"the layout {layout!r} leaves {len(lines)} lines of data out")
    return "".join(parts).encode()


def encode_event(
    event: str | None,
    data: str,
    id: str | None = None,  # noqa: A002 - the name of the field
    retry: int | None = None,
) -> bytes:
    """Return an event as a server writes it; data is cut into lines at each LF.

    Raises:
        ValueError: A value holds a character that would end its line or void it.
    """
    head: list[str] = []
    for name, value in (("id", id), ("event", event)):
        if value is not None:
            if "\n" in value or (name == "id" and "\0" in value):
                raise ValueError(f"the field {name!r} cannot hold {value!r}")
            head.append(f"{name}: {value}")
    if retry is not None:
        head.append(f"retry: {retry}")
    text = "\n".join([*head, *(f"data: {line}" for line in data.split("\n")), "", ""])
    if "\r" in text:
        raise ValueError("an event cannot hold a CR: it would end the line")
    return text.encode()


def _frame_end(
    buffer: bytearray,
    search: int,
    has_cr: bool,  # noqa: FBT001 - private, and called for each chunk
) -> int:
    """Return the end of the first frame that ends after `search`; 0 without one."""
    if not has_cr:
        found = buffer.find(b"\n\n", search)
        return 0 if found < 0 else found + 2
    match = _BLANK_LINE.search(buffer, search)
    if match is None:
        return 0
    end = match.end()
    if buffer[end - 1] == _CR:
        if end == len(buffer):
            return 0  # the next byte may be the LF of this line end
        if buffer[end] == _LF:
            return end + 1
    return end


def _tail(
    block: bytes, start: int, first_chunk: int, last_chunk: int, anomaly: str
) -> Frame:
    """Return a frame that is not interpreted."""
    return Frame(
        len(block),
        start,
        first_chunk,
        last_chunk,
        "tail",
        raw=bytes(block),
        anomaly=anomaly,
    )


def _read_blocks(
    blocks: list[Block], style: Style, start: int, first_chunk: int, chunk: int
) -> list[Frame]:
    """Return frames that came to their ends in a chunk.

    This is `_read` for each of them, in half of its time.
    """
    frames: list[Frame] = []
    forms = usual_forms(*style)
    for id_, event, data, other in blocks:
        if other:
            block = other.replace("\n", style.line_end).encode()
            frame = _read_any(block, start, first_chunk, chunk)
            size = frame.size
        else:
            layout, size = forms[id_ != ""][event != ""]
            size += utf8_size(data)
            if event:
                size += utf8_size(event)
            if id_:
                size += utf8_size(id_)
            # Its class checks and fills in arguments, which costs more than the tuple.
            frame = _new_tuple(
                Frame,
                (
                    size,
                    start,
                    first_chunk,
                    chunk,
                    "event",
                    event or None,
                    id_ or None,
                    None,
                    data,
                    layout,
                    None,
                    None,
                ),
            )
        frames.append(frame)
        start += size
        first_chunk = chunk
    return frames


def utf8_size(text: str) -> int:
    """Return how many bytes a text is."""
    return len(text) if text.isascii() else len(text.encode())


@lru_cache(maxsize=32)
def usual_forms(
    id_: str, event: str, data: str, line_end: str
) -> tuple[tuple[Form, Form], tuple[Form, Form]]:
    """Return the layouts of usual events of a `Style`, and their bytes beside values.

    They are found by whether the event has an id, and then by whether it has a name.
    """
    gaps = {"id": id_, "event": event, "data": data}

    def form(*fields: str) -> Form:
        lines = [f"{field}:{gaps[field]}{{{field}}}" for field in fields]
        layout = line_end.join([*lines, "", ""])
        return layout, len(layout) - sum(len("{}") + len(field) for field in fields)

    return (
        (form("data"), form("event", "data")),
        (form("id", "data"), form("id", "event", "data")),
    )


def read_text(text: str, end: str) -> Frame:
    """Return the frame of a block's text, whose lines end so in the stream."""
    return _read_any(text.replace("\n", end).encode(), 0, 0, 0)


def _read(
    block: bytes | bytearray, start: int, first_chunk: int, last_chunk: int
) -> Frame:
    """Return the frame of a block that ends with its blank line."""
    usual = _read_usual(block, start, first_chunk, last_chunk)
    return usual or _read_any(block, start, first_chunk, last_chunk)


def _read_usual(
    block: bytes | bytearray, start: int, first_chunk: int, last_chunk: int
) -> Frame | None:
    """Return the frame of bytes that are one event as nearly all servers send it.

    This is `_read_any` for these, in a quarter of its time; None if they are not.
    """
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    end = "\n"
    if "\r" in text:
        end = "\r\n"
        size = len(text)
        text = text.replace(end, "\n")
        if "\r" in text or size - len(text) != text.count("\n"):
            return None
    usual = _USUAL.fullmatch(text)
    if usual is None:
        return None
    id_gap, id_, event_gap, event, data_gap, data = usual.groups()
    forms = usual_forms(id_gap or "", event_gap or "", data_gap, end)
    layout, _ = forms[id_ is not None][event is not None]
    # Its class checks and fills in arguments, which costs more than all of the tuple.
    return _new_tuple(
        Frame,
        (
            len(block),
            start,
            first_chunk,
            last_chunk,
            "event",
            event,
            id_,
            None,
            data,
            layout,
            None,
            None,
        ),
    )


def _read_any(
    block: bytes | bytearray,
    start: int,
    first_chunk: int,
    last_chunk: int,
    *,
    bom: bool = False,
) -> Frame:
    """Return the frame of a block that ends with its blank line, whatever is in it."""
    codes: set[str] = set()
    try:
        text = block.decode()
    except UnicodeDecodeError:
        # "Streams must be decoded using the UTF-8 decode algorithm", which replaces.
        text = block.decode(errors="replace")
        codes.add("invalid_utf8")
    if bom:
        text = text[1:]
        codes.add("bom")
    pieces = _LINE_END.split(text)
    lines = pieces[:-3:2]  # without the blank line and the nothing after it
    ends = pieces[1::2]
    fields: dict[str, str] = {}
    data: list[str] = []
    patterns = _patterns(lines, fields, data, codes)
    if data:
        type_ = "event"
    elif lines and all(line.startswith(":") for line in lines):
        type_ = "comment"
    else:
        # "If the data buffer is an empty string, set the data buffer and the event type
        # buffer to the empty string and return."
        type_ = "fields"
        if lines:
            codes.add("no_data")
    layout: str | None = None
    if "invalid_utf8" not in codes:
        start_of_text = "\ufeff" if bom else ""
        layout = start_of_text + "".join(map(add, [*patterns, ""], ends))
        if len(layout) > LAYOUT_CHARACTERS_MAX:
            layout = None
    retry = fields.get("retry")
    return Frame(
        len(block),
        start,
        first_chunk,
        last_chunk,
        type_,
        fields.get("event"),
        fields.get("id"),
        None if retry is None else int(retry),
        "\n".join(data) if data else None,
        layout,
        bytes(block) if layout is None else None,
        " ".join(sorted(codes)) or None,
    )


def _patterns(
    lines: list[str], fields: dict[str, str], data: list[str], codes: set[str]
) -> list[str]:
    """Return the layout line by line; fill in the fields, the data and the codes."""
    patterns: list[str] = []
    places: dict[str, int] = {}  # the line whose value each field has
    for line in lines:
        # "Collect the characters on the line before the first U+003A COLON character
        # (:), and let field be that string.  Collect the characters on the line after
        # the first U+003A COLON character (:), and let value be that string.  If value
        # starts with a U+0020 SPACE character, remove it from value."
        name, colon, value = line.partition(":")
        if value.startswith(" "):
            colon, value = ": ", value[1:]
        code = _ignored(name, value)
        if code is not None:
            codes.add(code)
        if code is not None or not name:
            patterns.append(_escape(line))
            continue
        if name == "data":
            data.append(value)
        else:
            earlier = places.get(name)
            if earlier is not None:  # the last one wins, so this one is only text
                patterns[earlier] = _escape(lines[earlier])
            places[name] = len(patterns)
            fields[name] = value
        patterns.append(f"{name}{colon}{{{name}}}")
    retry = fields.get("retry", "")
    if retry.startswith("0") and retry != "0":
        # A number has no leading zeros, so the layout must have the text.
        patterns[places["retry"]] = _escape(lines[places["retry"]])
        fields["retry"] = retry.lstrip("0") or "0"
    return patterns


def _ignored(name: str, value: str) -> str | None:
    """Return why a field is ignored; None if it counts or is a comment."""
    if name in ("data", "event", ""):
        return None
    if name == "id":
        # "If the field value does not contain U+0000 NULL, then set the last event ID
        # buffer to the field value.  Otherwise, ignore the field."
        return "id_nul" if "\0" in value else None
    if name == "retry":
        # "If the field value consists of only ASCII digits": no sign, space, underscore
        # or other alphabet's digit, all of which `int` accepts.
        digits = value.lstrip("0")
        valid = (
            value.isascii()
            and value.isdigit()
            and len(digits) <= _RETRY_DIGITS_MAX
            and int(digits or "0") <= _RETRY_MAX
        )
        return None if valid else "invalid_retry"
    return "unknown_field"


def _escape(text: str) -> str:
    """Return text as a layout writes it."""
    return text.replace("{", "{{").replace("}", "}}")


@lru_cache(maxsize=256)
def _template(layout: str) -> tuple[tuple[str, str | None], ...]:
    """Return a layout as texts, each with the name of the field that follows it."""
    # The notation is that of `str.format`, without its attributes and conversions.
    pieces = tuple(Formatter().parse(layout))
    for _, name, specification, conversion in pieces:
        if name is not None and (name not in _FIELDS or specification or conversion):
            raise ValueError(f"the layout {layout!r} names no field with {name!r}")
    return tuple((literal, name) for literal, name, _, _ in pieces)
