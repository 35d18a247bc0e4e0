"""`python -m sse_recorder` is `sse-recorder`."""

from sse_recorder.cli import main

main()
