"""Recording and replaying within the client's own process, for httpx and httpx2.

    httpx.Client(transport=RecordingTransport("recordings"))
    httpx.AsyncClient(transport=ReplayTransport("recordings"))
    OpenAI(http_client=DefaultHttpxClient(transport=ReplayTransport("chats.sse.jsonl")))

    shell.py       what differs between the libraries
    inner.py       the library's own transports, where nobody gave us one
    tracing.py     puts an exchange into its client's trace
    recording.py   tells a `Tap` what passes
    replaying.py   plays what a `Repertoire` finds
    server.py      takes a client to a server on loopback

One object serves both libraries, with and without `await`: which it is, the request
tells.  Neither is imported here, and neither has to be installed.  What the colours
have twice is what waits, and no more: `handle_request` and its twin, and the reading of
a body.  What is decided, is decided once.
"""

from sse_recorder.transport.recording import RecordingTransport
from sse_recorder.transport.replaying import ReplayTransport

__all__ = ["RecordingTransport", "ReplayTransport"]
