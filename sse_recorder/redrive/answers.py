"""What of a live answer can be held against the recorded one.

All of it, by `sse_recorder.diff`, where the recording has all of it.  Where its client
left, the recording ends somewhere, and the one who reads today's answer reads on: what
a client did is not compared, as it is not played.  What was recorded has to be there
again; what is behind it is unknown, and no difference:

outcome        if today's answer is complete; one that fails today does differ
e2e_ns         it is when the client left
text           and reasoning, if they go on from what was recorded
events         that come behind as many as were recorded; the same of tool calls
tool calls     what was open: results that had not come, arguments that were cut

A frame that was cut says nothing, and neither does a body that is no stream.  Where the
rest was recorded without the client, only the outcome is no difference.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from typing import Final

from sse_recorder.diff import Change, Divergence, Recorded, Rules, compare
from sse_recorder.exchange import WITHOUT_CLIENT, Outcome
from sse_recorder.paths import Path

_BROKEN: Final = f"{WITHOUT_CLIENT}then: "
_CUT: Final = frozenset({"tail", "body"})


def compare_answer(
    left: Recorded, right: Recorded, rules: Rules, place: Path
) -> list[Divergence]:
    """Compare a recorded answer with a live one, as far as it is known.

    Args:
        left: what was recorded.
        right: what came when its request was sent again.
        rules: what does not count.
        place: what stands before the path of each divergence.
    """
    if left.exchange.outcome is not Outcome.CLIENT_ABORT:
        return compare(left, right, rules, place)
    error = left.exchange.error or ""
    # How the upstream ended is known only where the rest was recorded.
    had_broken = error.startswith(_BROKEN)
    is_expected = (right.exchange.outcome is Outcome.COMPLETE) is not had_broken
    is_cut = not error.startswith(WITHOUT_CLIENT)
    if is_cut:
        whole = [frame for frame in left.frames if frame.type not in _CUT]
        left = left._replace(frames=whole)
    events = _events(left) if is_cut else 0
    return [
        divergence
        for divergence in compare(left, right, rules, place)
        if not (is_expected and divergence.path[len(place) :] == ("outcome",))
        and not (is_cut and _is_behind(divergence, len(place), left, events))
    ]


def _events(recorded: Recorded) -> int:
    """Return how many events are compared: so many are missing where none is."""
    nothing = recorded._replace(frames=(), tool_calls=())
    return sum(d.path[0] == "events" for d in compare(recorded, nothing))


def _is_behind(
    divergence: Divergence, depth: int, recorded: Recorded, events: int
) -> bool:
    """Return whether a divergence is of what came after the client had left."""
    calls = recorded.tool_calls
    is_added = divergence.kind is Change.ADDED
    match divergence.path[depth:]:
        case ("text" | "reasoning",):
            return bool(divergence.right.startswith(divergence.left))
        case ("events", int(number)):
            return is_added and number >= events
        case ("tool_calls", int(number)):
            return is_added and number >= len(calls)
        case ("tool_calls", int(number), "arguments", *_):
            return calls[number].called_ns is None
        case ("tool_calls", int(number), "result" | "status", *_):
            return calls[number].result_ns is None
        case ("e2e_ns",):
            return True
        case ("dialect" | "status" | "finish_reason",):
            return divergence.left is None
        case _:
            return False
