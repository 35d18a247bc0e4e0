"""HTTP/1.1 for a proxy: both ends of a connection as asyncio Protocols.

    framing.py     pure: heads and bodies to bytes, and what headers say about framing
    server.py      the side that clients connect to: who listens, and whom it lets in
    connection.py  one client's connection
    response.py    what a handler answers a request with
    refusal.py     which requests are refused, and with what answer
    limits.py      how much is taken from clients
    client.py      the side that connects to an upstream
    answers.py     small JSON answers of our own
    sockets.py     resets, and who has left

llhttp, through httptools, splits the bytes; connections, their reuse, flow control and
limits are ours.  Nothing here knows about recording: what was read is handed on in the
call that read it, together with the time at which it was read.
"""
