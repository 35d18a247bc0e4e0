"""What can go wrong, and whose turn it is to act.

    SSERecorderError         exit code 3: the environment failed
    ├── UsageError           exit code 2: the call or the command line is wrong
    ├── StoreError           a store, journal, segment or cassette
    ├── ListenError          the address to listen on
    ├── UpstreamError        the server behind the proxy
    └── ReplayMissError      a request that no recording answers

Every message ends with what to do about it.  Malformed streams are data, not errors:
`sse_recorder.sse` reports them as anomalies.  A miss while replaying is an answer to
the client (`sse_recorder.match.Miss`), unless a `ReplayTransport` is asked to raise it.
"""

from __future__ import annotations


class SSERecorderError(Exception):
    """The base of every error that this package raises on purpose."""

    exit_code = 3
    """What the command line exits with when nothing handles the error."""


class UsageError(SSERecorderError):
    """The caller asked for something that does not exist or does not make sense."""

    exit_code = 2


class StoreError(SSERecorderError):
    """A store, journal, segment or cassette cannot be read or written."""


class ListenError(SSERecorderError):
    """The address to listen on is taken, forbidden or not of this machine."""


class UpstreamError(SSERecorderError):
    """The server behind the proxy cannot be reached or does not speak HTTP."""


class ReplayMissError(SSERecorderError):
    """No recording answers a request.

    What a transport raises is an error of the client's library as well.
    """
