"""`python -m sse_recorder` is `sse-recorder`."""

import os
import signal


def main() -> None:
    """Run it; a Ctrl-C while its modules are read ends it without a traceback."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from sse_recorder.cli import main as run  # noqa: PLC0415 - not before that

    run()


if __name__ == "__main__":
    main()
