"""TCP as HTTP needs it and asyncio does not show it: resets, and who is still there.

A peer reads the end of a connection in one of two ways, in order or as an error, and
which one it is tells a client whether it has had everything.  asyncio closes in order
or at once; here are the reset that comes as an error, the reset that waits until all
that was written has been taken, and the question whether a peer that is not being read
is still there.  A peer whose network is lost says nothing at all, like one that is
merely silent: the two are told apart by TCP's own probes, which only a living one
answers, whatever its program does.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from typing import Final

from sse_recorder.clock import Clock

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds
_TCP_LEFT: Final = frozenset({7, 8})  # CLOSE and CLOSE_WAIT, as Linux numbers them
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_RESET_POLL_S: Final = 0.005
_RESET_POLL_MAX_S: Final = 0.2
_RESET_PATIENCE_S: Final = 10
_RESET_LIMIT_S: Final = 60
_NS_PER_S: Final = 1_000_000_000


def probe_when_silent(transport: asyncio.Transport) -> None:
    """Have the kernel end a connection whose peer is lost, after two minutes.

    The first probe goes out after 60 s without a byte, the others 15 s apart, and four
    without an answer are an end.  Bytes that nobody takes have limits of the kernel's
    own, a quarter of an hour on Linux.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):  # not a choice that every platform gives
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reset_connection(transport: asyncio.Transport) -> None:
    """Close a connection with a TCP reset at once, so that its peer reads an error."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def reset_when_sent(transport: asyncio.Transport, clock: Clock) -> None:
    """Reset a connection when its peer has taken what was written.

    A reset throws away what was not sent yet, so it waits: for as long as the peer
    takes something every `_RESET_PATIENCE_S`, and for `_RESET_LIMIT_S` at most.
    """
    loop = asyncio.get_running_loop()
    began_ns = progress_ns = clock.monotonic_ns()
    left_before, pause_s = -1, _RESET_POLL_S

    def look() -> None:
        nonlocal left_before, pause_s, progress_ns
        if transport.is_closing():
            return
        now_ns = clock.monotonic_ns()
        left = transport.get_write_buffer_size() + _in_kernel(transport)
        if left != left_before:
            left_before, pause_s, progress_ns = left, _RESET_POLL_S, now_ns
        is_stuck = now_ns - progress_ns > _RESET_PATIENCE_S * _NS_PER_S
        is_late = now_ns - began_ns > _RESET_LIMIT_S * _NS_PER_S
        if not left or is_stuck or is_late:
            reset_connection(transport)
            return
        # Seldomer while nothing happens: thousands may have to be watched at once.
        loop.call_later(pause_s, look)
        pause_s = min(2 * pause_s, _RESET_POLL_MAX_S)

    look()


def has_left(transport: asyncio.Transport) -> bool:
    """Tell whether a peer has ended or reset its side, where the platform says so."""
    sock = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (AttributeError, OSError):
        return False
    return bool(info[0] in _TCP_LEFT)


def _in_kernel(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel has not sent, or has no word of yet."""
    sock = transport.get_extra_info("socket")
    try:
        count = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0  # not a question for every platform
    return int.from_bytes(count, sys.byteorder)
