"""Record live event streams, replay them at their true pace, query where time went.

    from sse_recorder import Recorder, ReplayServer, Store, running

    with running(Recorder("https://api.meibel.ai", store="recordings")) as recorder:
        ...  # point a client at recorder.url

    with Store.open("recordings") as store:
        for exchange in store.exchanges():
            print(exchange.path, store.tool_calls(exchange.exchange_id))
        print(store.sql("SELECT kind, count(*) FROM frames GROUP BY kind"))

    with running(ReplayServer("recordings")) as server:
        ...  # point the same client at server.url

Everything that a command does is a call here.  Names are imported when they are first
asked for, so that what is not used costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sse_recorder.background import running
    from sse_recorder.errors import ReplayMissError, SSERecorderError
    from sse_recorder.exchange import Chunk, Exchange, Outcome, ToolCall
    from sse_recorder.playback import MAX_SPEED
    from sse_recorder.proxy import Recorder
    from sse_recorder.replay import ReplayServer
    from sse_recorder.store.store import Store
    from sse_recorder.transport import RecordingTransport, ReplayTransport

__version__ = "0.1.0"

__all__ = [
    "MAX_SPEED",
    "Chunk",
    "Exchange",
    "Outcome",
    "Recorder",
    "RecordingTransport",
    "ReplayMissError",
    "ReplayServer",
    "ReplayTransport",
    "SSERecorderError",
    "Store",
    "ToolCall",
    "running",
]

_HOMES = {
    "MAX_SPEED": "playback",
    "Chunk": "exchange",
    "Exchange": "exchange",
    "Outcome": "exchange",
    "Recorder": "proxy",
    "RecordingTransport": "transport",
    "ReplayMissError": "errors",
    "ReplayServer": "replay",
    "ReplayTransport": "transport",
    "SSERecorderError": "errors",
    "Store": "store.store",
    "ToolCall": "exchange",
    "running": "background",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
