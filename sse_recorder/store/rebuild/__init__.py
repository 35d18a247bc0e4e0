"""Rebuild: what dialects tell of recordings, told anew by those of today.

A dialect learns: of a tool call that it took for something else, of an API that it took
for another.  What it tells is stored (`frames.kind`, some columns of `exchanges`, and
`tool_calls`), and all that it tells it from is stored as well.  So sealed segments are
read anew, and where something is told otherwise, that file is written again.

Two steps for each recorder:

    plan    what would change, segment by segment; nothing is written
    files   the segments in which something changes are written again

Bytes, times and requests stay as they are, and are compared before an old file is let
go of; so does `outcome`, since what a client's leaving meant was told when it left.
Segments in which nothing changes are not touched, so a second rebuild does nothing.  It
can be killed at any moment, and can run beside recorders and readers.
"""
