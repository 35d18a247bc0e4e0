"""Capture: from what a socket read to what the disk has.

    the stream's thread    a thread       a process of its own
    Tap ──▶ RecordQueue ──▶ Writer ──▶ Scribe: mask ─▶ journal ─▶ rows ─▶ segment
                                                                    └──▶ spans

    tap.py       the ear on one exchange, and the queue that never waits
    writer.py    the thread that empties the queue, whoever writes
    scribe.py    masks, journals, makes rows, seals
    audience.py  who wants to hear of exchanges, and costs none of them
    process.py   a scribe in a process of its own, and what stands for it here

A scribe works where its writer is told to have it.  In a process of its own it takes no
turn from the streams' thread, whatever it does, and its death or its being stopped
costs the recording and nothing else: that is for a proxy.  In the writer's thread it
needs no second interpreter: that is for tests and for recordings within a program.
"""

from sse_recorder.capture.scribe import Limits
from sse_recorder.capture.tap import RecordQueue, Tap
from sse_recorder.capture.writer import Writer, WriterHealth

__all__ = ["Limits", "RecordQueue", "Tap", "Writer", "WriterHealth"]
