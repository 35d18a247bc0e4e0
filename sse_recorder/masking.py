r"""Masking the secrets of a body while it streams by.

A body comes in chunks, and chunks go on whole: each with its time, its length, and
nothing secret in it.  What `sse_recorder.credentials` leaves undecided at the end of a
chunk holds that chunk back until the next bytes decide.

`TextMask` is for any text.  `EventMask` is for event streams, which have two texts in
them: the bytes, where nothing goes on over a blank line, and the strings of their
frames, which go on from frame to frame: `{"delta":"sk-an"}`, `{"delta":"t-api03-…"}`.
A string is followed by its name and by what tells parallel ones apart (`_Strings`).
Complete frames are never held back, so a secret in deltas is masked as soon as it may
be one.  The first piece of a string that is followed looks back into the frame before:
`ta`, `sk`, `-based` is a word.  A string that begins with all of what it was before is
cumulative, and stands for itself.  Strings in lists are not followed.

`LineMask` is for JSON values that are a line each, which are frames like those.

The common frame says nothing new but for a few letters, and costs a split and some
lookups: `EventMask._is_plain` remembers what it has seen between the letters, and looks
only at them.  It remembers letters, too, but none that a secret may begin with.  All
else takes the long way, which reads every string of the frame.

An open frame is held back only if there may be something secret in it.  One of more
than `FRAME_MAX` bytes is masked as a text, without following its strings.

`CodedMask` is for what is content-coded.  No byte of that can be masked in its place,
so it is only looked through: chunks go on as they are until something in them is
secret, and then none does.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Final, Generic, TypeVar

from sse_recorder.coding import CodingError, Decoder
from sse_recorder.credentials import Follower, Identity, Rules, Span, is_suspicious
from sse_recorder.transcript import DECODED_FREE, DECODED_RATIO_MAX

FRAME_MAX: Final = 1 << 18
"""Bytes of an open frame that are kept to see it whole."""

_OPEN_MAX: Final = 64
_LOST_MAX: Final = 1024
_CONTEXT: Final = 64
_REPEATED_MIN: Final = 8
_LEARNED_OF: Final = 17
"""One frame in so many is learned from."""

SILENT_MAX: Final = 1 << 18
"""Bytes of a coded body that may bring nothing, behind some that are held back; a block
of zstd has half as many at most."""

_DIGITS: Final = b"0123456789"

Report = Callable[[int, bytes, str], None]
"""Is told of a part of a secret: where in the body it begins, its bytes, its rule."""

_SPLIT: Final = re.compile(rb'":\s?"').split
# Two line ends, each of them CRLF, CR or LF; so written it is searched for quickly.
_EVENT_END: Final = re.compile(rb"[\r\n](?:(?<=\r)\n)?+(?>\r\n|\r|\n)")
_LINE_END: Final = re.compile(rb"\n")
_VALUE: Final = re.compile(
    rb'"([^"\\]{1,64})"\s{0,8}:\s{0,8}"((?:[^"\\]|\\.)*+)"'
    # Data that are no object: the line is the string, or it is all of the JSON.
    rb'|^data: ?(?:([^\s{\["][^\r\n]*)|"((?:[^"\\\r\n]|\\.)*+)"[ \t]*$)',
    re.MULTILINE,
)
_NO_OBJECT: Final = re.compile(rb"^data: ?[^\s{\[]", re.MULTILINE)
_NAME: Final = re.compile(rb'"([\w.\-]{1,64})\\*"\s*:')
_LISTED: Final = re.compile(rb'"\s*[,\]]')
_IDENTITY: Final = re.compile(
    rb'"(?:index|(?:output|content|summary)_index|item_id|(?:tool_?)?[Cc]all(?:I|_i)d'
    # A number may be that of a token, which comes again and tells nothing apart.
    rb'|message(?:I|_i)d|id(?="\s?:\s?"))"\s?:\s?("[^"]*"|\d+)'
)

Key = TypeVar("Key", bound=Hashable)


class UnmaskableError(ValueError):
    """A body holds, or may hold, a secret that cannot be masked; the message says why.

    Args:
        reason: what is wrong with the body, and what to do about it.
        before: the last chunks of the body that are safe to keep.
    """

    def __init__(self, reason: str, before: list[tuple[int, bytes]]) -> None:
        super().__init__(reason)
        self.before = before


class BodyMask:
    """Masks one body while it streams by; this one, for what has no text, nothing."""

    def feed(self, at_ns: int, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next chunk.

        Returns:
            The chunks that are safe to keep now, whole and in order, each with its own
            time and length.  One that may end in the beginning of a secret is held
            back until that is known.

        Raises:
            UnmaskableError: no more of the body may be kept.
        """
        return [(at_ns, data)]

    def passes(self, data: bytes) -> bool:  # noqa: ARG002 - for subclasses
        """Take the next chunk if it can be kept as it is, at once.

        This is `feed` for most chunks, in less time.  What it does not take is to be
        fed next.
        """
        return True

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what was held back, masked where in doubt; the body is over.

        Raises:
            UnmaskableError: no more of the body may be kept.
        """
        return []


class TextMask(BodyMask):
    """Masks a text.

    Args:
        rules: what is secret.
        report: is told of what is masked.
    """

    def __init__(self, rules: Rules, report: Report | None = None) -> None:
        self._rules = rules
        self._report = report
        self._held: deque[tuple[int, int]] = deque()
        self._out = bytearray()
        self._offset = 0
        self._rest = b""
        self._follower = Follower(rules)

    def passes(self, data: bytes) -> bool:  # noqa: ARG002 - no chunk is that simple
        """Return False: how a chunk ends decides when the next one comes."""
        return False

    def feed(self, at_ns: int, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next chunk, and return those that are decided."""
        self._held.append((at_ns, len(data)))
        self._decide(self._rest + data, wait=True)
        return self._decided()

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what was held back, masked where in doubt; the body is over."""
        self._decide(self._rest, wait=False)
        return self._decided()

    def _decide(self, text: bytes, *, wait: bool) -> None:
        spans, decided = self._follower.take(text, wait=wait)
        self._write(text[:decided], spans)
        self._rest = text[decided:]

    def _write(self, text: bytes, spans: list[Span], sent: int = 0) -> None:
        """Add text that is decided, but for its beginning, which went out before."""
        if spans:
            masked = bytearray(text)
            for span in spans:
                span.write(masked)
                if self._report is not None:
                    self._tell(text, span)
            self._out += masked[sent:]
        else:
            self._out += text[sent:]
        self._offset += len(text)

    def _tell(self, text: bytes, span: Span) -> None:
        assert self._report is not None
        secret = text[span.start : span.end]
        if secret.strip(bytes([span.fill])):  # else it is a mask already
            self._report(self._offset + span.start, secret, span.rule)

    def _decided(self) -> list[tuple[int, bytes]]:
        """Return the chunks of which every byte is decided."""
        chunks, start = [], 0
        while self._held and start + self._held[0][1] <= len(self._out):
            at_ns, size = self._held.popleft()
            chunks.append((at_ns, bytes(self._out[start : start + size])))
            start += size
        del self._out[:start]
        return chunks


class _Followers(Generic[Key]):
    """Followers of strings that may go on with a secret, by what tells them apart.

    There are `_OPEN_MAX` of them.  Of more the oldest are lost: how those strings go on
    is not known any more, only that all of it may be secret.  Beyond `_LOST_MAX` even
    which ones is not known, and any other string may be one of them.
    """

    def __init__(self) -> None:
        self._followers: dict[Key, Follower] = {}
        self._lost: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._followers or self._lost)

    @property
    def is_full(self) -> bool:
        """Whether it is not known any more which ones were lost."""
        return len(self._lost) >= _LOST_MAX

    def get(self, key: Key) -> Follower | None:
        """Return what follows a string."""
        return self._followers.get(key)

    def may_have_lost(self, key: Key) -> bool:
        """Return whether a string that is not followed may be one that was."""
        if not self._lost or key in self._followers:
            return False
        return self.is_full or hash(key) in self._lost

    def put(self, key: Key, follower: Follower | None) -> None:
        """Follow a string, or with None no longer."""
        if follower is None:
            self._followers.pop(key, None)
            return
        self._followers[key] = follower
        if len(self._followers) > _OPEN_MAX:
            oldest = next(iter(self._followers))
            if self._followers.pop(oldest).is_suspended and not self.is_full:
                self._lost.add(hash(oldest))


class _Strings:
    """The strings of a stream, followed through its frames.

    What looks like the identity of a string may be one, or be new in each frame, as a
    counter and the id of an event are.  Nothing tells which but what comes later, so a
    string is followed in two ways: as one of its name and identity, and as one of its
    name whose identity changes.  What is secret in either is masked.  An identity that
    comes back after another one, while it is open, shows that those of its name do
    tell strings apart; from then on nothing is masked for what was in another string.
    Where very many came and none came back they tell nothing, and names are enough.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._by_identity: _Followers[tuple[bytes, Identity]] = _Followers()
        self._by_name: _Followers[bytes] = _Followers()
        self._told_apart: set[bytes] = set()
        self._are_fresh = False

    def __bool__(self) -> bool:
        return bool(self._by_identity or self._by_name)

    def take(
        self,
        name: bytes,
        identity: Identity,
        piece: bytes,
        context: Callable[[], bytes],
    ) -> list[Span]:
        """Return what is secret in the next piece of a string.

        Args:
            name: of the string.
            identity: what may tell it apart from others of its name.
            piece: how it goes on.
            context: gives how it ended before, if that is known.
        """
        key = (name, () if self._are_fresh else identity)
        own, last = self._by_identity.get(key), self._by_name.get(name)
        if self._may_have_lost(key):
            return [Span(0, len(piece), "overflow")]
        is_likely = is_suspicious(piece) or bool(self._rules.patterns)
        if not (own or last or is_likely):
            return []
        changed = self._changed(last, key, own)
        goes_on = own is not None
        if own is None or own.repeats(piece):
            own = Follower(self._rules, context()) if is_likely else None
        if changed is not None and changed.repeats(piece):
            changed = None
        spans: list[Span] = []
        for follower in filter(None, (own, changed)):
            spans += follower.take(piece, wait=False)[0]
            follower.origin = key[1]
        own = own if own and own.is_open and (piece or goes_on) else None
        changed = changed if changed and changed.is_open else own
        self._put(key, own, changed)
        return spans

    def _may_have_lost(self, key: tuple[bytes, Identity]) -> bool:
        if not self._by_identity.may_have_lost(key):
            return self._by_name.may_have_lost(key[0])
        self._tell_apart(key[0])
        return True

    def _tell_apart(self, name: bytes) -> None:
        if len(self._told_apart) < _LOST_MAX:
            self._told_apart.add(name)

    def _put(
        self, key: tuple[bytes, Identity], own: Follower | None, any_: Follower | None
    ) -> None:
        self._by_identity.put(key, own)
        self._by_name.put(key[0], any_)
        if self._by_identity.is_full and not self._told_apart:
            self._are_fresh, self._by_identity = True, _Followers()

    def _changed(
        self,
        last: Follower | None,
        key: tuple[bytes, Identity],
        own: Follower | None,
    ) -> Follower | None:
        """Return what follows the last string of a name, if it may be this one."""
        name, identity = key
        if last is None or last is own:
            return None
        if last.origin == identity:
            return last
        # An id that only the first frame of a string has makes no other string of it.
        if not _is_part(last.origin, identity) and not _is_part(identity, last.origin):
            if own is not None:
                self._tell_apart(name)
            if name in self._told_apart:
                return None
        return last.copy()


def _identity(frame: bytes) -> Identity:
    return tuple(_IDENTITY.findall(frame))


def _is_part(one: Identity, other: Identity) -> bool:
    return Counter(one) <= Counter(other)


class EventMask(TextMask):
    """Masks an event stream; see `TextMask` for the arguments."""

    _frame_end = _EVENT_END
    _plain_ends: tuple[bytes, ...] = (b"\n\n", b"\r\n\r\n")

    def __init__(self, rules: Rules, report: Report | None = None) -> None:
        super().__init__(rules, report)
        # `_rest` is the open frame, of which so much has gone out already ...
        self._sent = 0
        # ... and this is at how many bytes of it to look again.
        self._look_at = 0
        self._is_long = False
        self._seen = rules.harmless
        self._strings = _Strings(rules)
        # Whether any string, or any text of frames, may go on with a secret.
        self._is_open = False
        self._before = b""

    def passes(self, data: bytes) -> bool:
        """Take the next chunk if it is of whole frames with nothing new in them."""
        if self._rest or self._is_open or not self._is_plain(data):
            return False
        self._before = data
        self._offset += len(data)
        return True

    def feed(self, at_ns: int, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next chunk, and return those that are decided."""
        if self.passes(data):
            return [(at_ns, data)]
        self._held.append((at_ns, len(data)))
        self._add(data)
        return self._decided()

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what was held back, masked where in doubt; the body is over."""
        if self._is_long:
            self._decide(self._rest, wait=False)
        else:
            rest, self._rest = self._rest, b""
            spans = self._in_rest(rest)
            self._write(rest, spans + self._in_strings(rest), self._sent)
        return self._decided()

    def _is_plain(self, data: bytes) -> bool:
        """Return whether whole frames hold nothing that needs a closer look."""
        if not data.endswith(self._plain_ends):
            return False
        seen, parts = self._seen, _SPLIT(data)
        if parts[0] not in seen and _NO_OBJECT.search(parts[0]):
            return False
        # What comes again and again is soon learned so.  Most never does, and to keep
        # all of it costs more than to look at it.
        learns = not self._offset % _LEARNED_OF
        for part in parts:
            if part not in seen:
                value, _, rest = part.partition(b'"')
                # A counter makes nothing new.
                shape = rest.translate(None, _DIGITS)
                if shape not in seen and not self._is_harmless(rest, shape):
                    return False
                if value[-1:] == b"\\" or is_suspicious(value):
                    return False
                if learns:
                    self._rules.learn(part)
        return True

    def _is_harmless(self, rest: bytes, shape: bytes) -> bool:
        """Return whether what stands between two strings may be passed over."""
        if self._rules.patterns or _NO_OBJECT.search(rest):
            return False
        text = b'"' + rest
        # It ends in a name, whose value decides: `find` sees none.
        if any(map(self._rules.is_secret, _NAME.findall(text + b'":'))):
            return False
        if next(self._rules.find(text), None) is not None:
            return False
        # With other digits what is in a list may be a key.
        if not _LISTED.search(rest):
            self._rules.learn(shape)
        return True

    def _add(self, data: bytes) -> None:
        """Take more of the open frame, and what may come behind it."""
        rest = self._rest + data
        start = self._pass_plain(rest)
        look = start or max(0, len(self._rest) - 3)
        while end := self._frame_end.search(rest, look):
            frame = rest[start : end.end()]
            if self._is_long:
                self._decide(frame, wait=False)
                self._is_long, self._rest = False, b""
            else:
                self._write(frame, self._in_frame(frame), self._sent)
            self._sent = self._look_at = 0
            start = look = end.end()
        self._rest = rest[start:]
        if self._is_long:
            self._decide_line(self._rest)
        elif len(self._rest) >= self._look_at:
            self._look_at = len(self._rest) + (len(self._rest) >> 4)
            self._look()

    def _pass_plain(self, rest: bytes) -> int:
        """Write the whole frames at the beginning if they are plain.

        Returns:
            Where they end; 0 if there are none, or they need a closer look.
        """
        # Where there is none, what is left of `rest` does not end as a frame does.
        end = max(rest.rfind(blank) + len(blank) for blank in self._plain_ends)
        whole = rest[:end]
        if self._is_long or self._is_open or not self._is_plain(whole):
            return 0
        self._write(whole, [], self._sent)
        self._before = whole
        self._sent = self._look_at = 0
        return end

    def _look(self) -> None:
        """Let the open frame go as far as it has come, if nothing in it is secret."""
        rest = self._rest
        if len(rest) > FRAME_MAX:
            self._is_long = True
            self._follower = Follower(self._rules)
            self._decide_line(rest, self._sent)
        elif rest and not self._is_open:
            follower = Follower(self._rules)
            spans, decided = follower.take(rest, wait=True)
            if not spans and decided == len(rest) and not follower.is_inside:
                self._out += rest[self._sent :]
                self._sent = len(rest)

    def _decide_line(self, text: bytes, sent: int = 0) -> None:
        """Decide all but line ends, which may be half of the frame's end."""
        body = text.rstrip(b"\r\n")
        spans, decided = self._follower.take(body, wait=True)
        self._write(text[:decided], spans, sent)
        self._rest = text[decided:]

    def _in_frame(self, frame: bytes) -> list[Span]:
        spans = self._in_text(frame) + self._in_strings(frame)
        if not spans and not self._is_open:
            self._learn(frame)
        self._before = frame
        return spans

    def _learn(self, frame: bytes) -> None:
        """Learn of a frame in which nothing was found what is so in any stream.

        Of a string that is suspicious nothing follows from one stream for another: it
        is the text before it that made it harmless here.
        """
        for part in _SPLIT(frame):
            if part in self._rules.harmless:
                continue
            value, _, rest = part.partition(b'"')
            shape = rest.translate(None, _DIGITS)
            is_harmless = shape in self._rules.harmless or self._is_harmless(
                rest, shape
            )
            if is_harmless and value[-1:] != b"\\" and not is_suspicious(value):
                self._rules.learn(part)

    def _in_text(self, frame: bytes) -> list[Span]:
        """Return what is secret in the bytes of a whole frame."""
        return [span for span, _ in self._rules.find(frame)]

    def _in_rest(self, rest: bytes) -> list[Span]:
        """Return what is, or may be, secret in the bytes of a frame that breaks off."""
        return Follower(self._rules).take(rest, wait=False)[0]

    def _in_strings(self, frame: bytes) -> list[Span]:
        """Return what is secret for what was in the strings of earlier frames."""
        spans: list[Span] = []
        identity = _identity(frame)
        is_open = bool(self._strings or self._rules.patterns)
        for match in _VALUE.finditer(frame):
            group = match.lastindex or 0
            name, piece, start = match[1] or b"", match[group], match.start(group)
            if not (is_open or is_suspicious(piece)):
                continue
            is_open = True
            context = partial(self._context, name, identity, piece)
            for span in self._strings.take(name, identity, piece, context):
                at, end = span.start + start, span.end + start
                spans.append(span._replace(start=at, end=end))
        self._is_open = bool(self._strings)
        return spans

    def _context(self, name: bytes, identity: Identity, piece: bytes) -> bytes:
        """Return how the string ended in the frame before."""
        *_, frame = [b"", *filter(None, self._frame_end.split(self._before))]
        if _identity(frame) != identity:
            return b""
        before = b""
        for match in _VALUE.finditer(frame):
            if (match[1] or b"") == name:
                before = match[match.lastindex or 0]
        is_repeated = len(before) >= _REPEATED_MIN and piece.startswith(before)
        return b"" if is_repeated else before[-_CONTEXT:]


class LineMask(EventMask):
    """Masks a stream of JSON values, each on a line; see `TextMask` for the arguments.

    Lines are its frames.  What is no such stream in spite of its media type may be one
    value over many lines, so the text is followed from line to line, too.
    """

    _frame_end = _LINE_END
    _plain_ends = (b"\n",)

    def __init__(self, rules: Rules, report: Report | None = None) -> None:
        super().__init__(rules, report)
        self._line = Follower(rules)

    def _in_text(self, frame: bytes) -> list[Span]:
        spans, _ = self._line.take(frame, wait=False)
        if not self._line.is_open:
            self._line = Follower(self._rules)
        return spans

    def _in_rest(self, rest: bytes) -> list[Span]:
        return self._in_text(rest)

    def _in_strings(self, frame: bytes) -> list[Span]:
        spans = super()._in_strings(frame)
        self._is_open = self._is_open or self._line.is_open
        return spans


class Uncoded:
    """A coded body without its coding, as far as frames are made of it.

    Where it is damaged, or grows to very much more than it was, nothing more comes of
    it, as in `sse_recorder.transcript`.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._coded_size = self._size = 0
        self.is_over = False
        """Whether nothing more comes."""

    @property
    def is_behind(self) -> bool:
        """Whether some of what was taken is still to come."""
        return self._decoder.is_behind and not self.is_over

    def take(self, data: bytes) -> bytes:
        """Take the next chunk, and return what comes of it."""
        if self.is_over:
            return b""
        try:
            decoded = self._decoder.decode(data)
        except CodingError:
            self.is_over = True
            return b""
        self._coded_size += len(data)
        self._size += len(decoded)
        if self._size > DECODED_FREE + DECODED_RATIO_MAX * self._coded_size:
            self.is_over = True
            return b""
        return decoded


class CodedMask(BodyMask):
    """Looks through a body that is content-coded.

    A chunk goes on when all that comes of it is decided and nothing of that is secret.
    What comes of it may come with a later one: a block that is cut holds words that
    decoders do not give out, and everybody else can read.

    Args:
        name: of the coding, for people.
        decoder: what takes it off.
        inner: makes the mask for the decoded text, of what tells that mask's findings.
        advice: what to do about a secret.
        report: is told of secrets; places are those in the decoded text.
    """

    def __init__(
        self,
        name: str,
        decoder: Decoder,
        inner: Callable[[Report], BodyMask],
        advice: str,
        report: Report | None = None,
    ) -> None:
        self._name = name
        self._uncoded = Uncoded(decoder)
        self._inner = inner(self._note)
        self._advice = advice
        self._report = report
        self._found: list[tuple[int, str]] = []
        self._held: deque[tuple[int, bytes]] = deque()
        # Where in the text what comes of them ends, as far as that is known.
        self._ends: deque[int] = deque()
        self._size = self._decided = self._silent = 0
        self._ahead: bytes | None = None

    def passes(self, data: bytes) -> bool:
        """Take the next chunk if all of it is decided at once."""
        if self._held or self._uncoded.is_over:
            return not self._held
        uncoded = self._uncoded
        decoded = uncoded.take(data)
        is_known = not (uncoded.is_over or uncoded.is_behind)
        if is_known and (not decoded or self._inner.passes(decoded)):
            self._size += len(decoded)
            self._decided += len(decoded)
            return True
        self._ahead = decoded
        return False

    def feed(self, at_ns: int, data: bytes) -> list[tuple[int, bytes]]:
        """Take the next chunk, and return those that are decided."""
        uncoded = self._uncoded
        decoded, self._ahead = self._ahead, None
        if decoded is None:
            decoded = uncoded.take(data)
        self._held.append((at_ns, data))
        if uncoded.is_over:
            return self._finish()
        if decoded:
            self._size += len(decoded)
            self._count(self._inner.feed(at_ns, decoded))
            self._settle(len(self._held) - 1)
        if not uncoded.is_behind:
            self._settle(len(self._held))
        chunks = self._decided_chunks()
        self._silent = 0 if decoded or not self._held else self._silent + len(data)
        if self._silent > SILENT_MAX:
            what = f"{SILENT_MAX} bytes of a {self._name}-coded body bring nothing"
            raise UnmaskableError(self._unreadable(what), chunks)
        return chunks

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what was held back, if nothing in it may be secret; it is over."""
        if not self._uncoded.is_behind:
            return self._finish()
        self._count(self._inner.flush())
        what = f"a {self._name}-coded body ends inside of a block"
        raise UnmaskableError(self._unreadable(what), self._decided_chunks())

    def _note(self, start: int, secret: bytes, rule: str) -> None:
        self._found.append((start, rule))
        if self._report is not None:
            self._report(start, secret, rule)

    def _count(self, chunks: list[tuple[int, bytes]]) -> None:
        self._decided += sum(len(data) for _, data in chunks)

    def _settle(self, count: int) -> None:
        """Note that all has come of the first chunks that are held."""
        self._ends.extend([self._size] * (count - len(self._ends)))

    def _finish(self) -> list[tuple[int, bytes]]:
        """Decide what is held; no more comes of the body."""
        inner, self._inner = self._inner, BodyMask()
        self._count(inner.flush())
        self._settle(len(self._held))
        return self._decided_chunks()

    def _decided_chunks(self) -> list[tuple[int, bytes]]:
        """Return the chunks of which all is decided, up to the first secret."""
        limit = min([self._decided, *(start for start, _ in self._found)])
        chunks = []
        while self._ends and self._ends[0] <= limit:
            self._ends.popleft()
            chunks.append(self._held.popleft())
        if self._found:
            raise UnmaskableError(self._secret(), chunks)
        return chunks

    def _secret(self) -> str:
        rule = "".join(c for c in min(self._found)[1] if c.isprintable())
        field = rule.removeprefix("field ")
        keep = "" if field == rule else f", or keep the name with --redact-keep {field}"
        return (
            f"a secret ({rule}) is inside of a {self._name}-coded body, which is not"
            f" kept from there on; {self._advice}{keep}"
        )

    def _unreadable(self, what: str) -> str:
        return (
            f"{what}, where no secret could be seen, so it is not kept from there on;"
            f" {self._advice}"
        )
