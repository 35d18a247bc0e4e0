"""How many files may be open."""

from __future__ import annotations

import resource
import subprocess
import sys

from sse_recorder.cli.files import allow_files, files_as_given


def test_a_process_may_have_all_that_it_may_and_its_children_what_it_was_given() -> (
    None
):
    """What a program inherits is the limit that the shell had set."""
    given, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    try:
        allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
        with files_as_given():
            child = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, check=True, text=True
            )
        assert int(child.stdout) == given
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (given, most))
