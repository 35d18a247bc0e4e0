"""Sending recorded requests again to a live server, and recording what comes back.

    recordings ─▶ Redrive ─▶ Gate ─▶ RecordingTransport ─▶ the live server
                                             └──▶ a store

    order.py       when requests go: a machine without I/O
    requests.py    what of a recording can be sent, and what is sent of it
    sending.py     sends it, and records the answers
    answers.py     what of an answer can be held against the recorded one

Recordings are tagged and not matched, arrivals are an open loop, and masks are never
sent: each module tells why.
"""

from sse_recorder.redrive.answers import compare_answer
from sse_recorder.redrive.order import Order, Plan
from sse_recorder.redrive.requests import Given
from sse_recorder.redrive.sending import TAG, Redrive

__all__ = ["TAG", "Given", "Order", "Plan", "Redrive", "compare_answer"]
