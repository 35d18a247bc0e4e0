"""Recordings in tests: one cassette, served or recorded for one test.

    options     what a test asks for, and what it is told in the end
    recording   the life of a recording: served or recorded, stopped, reported
    keeping     the cassette: what of it is replayed, and how it is written
    servers     the servers of replays and recordings, as tests need them
    messages    what is said, with what to type

Nothing here knows of pytest; `sse_recorder.pytest_plugin` is the shell round it.
"""

from sse_recorder.testing.options import Mode, Options, Place, Report, Sharing
from sse_recorder.testing.recording import SSERecording

__all__ = ["Mode", "Options", "Place", "Report", "SSERecording", "Sharing"]
