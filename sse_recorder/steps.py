"""What a step of a timeline does to a response, in a replay as in a live relay."""

from __future__ import annotations

from sse_recorder.http1.answers import send_json_error
from sse_recorder.http1.response import ResponseStream
from sse_recorder.playback import Break, Data, End, Fail, Head, Step


def do_step(stream: ResponseStream, step: Step) -> None:
    """Do what a step says."""
    match step:
        case Data(data):
            stream.send_data(data)
        case Head(head):
            stream.send_head(head)
        case End(trailers):
            stream.end(trailers)
        case Break(reset):
            stream.abort(reset=reset)
        case Fail(status, message, kind):
            send_json_error(stream, status, kind, message)
