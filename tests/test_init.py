"""What the package offers under its own name."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sse_recorder


def test_what_is_public_is_said_exactly_once() -> None:
    """`__all__` is complete, in order, and every name in it is there."""
    names = sse_recorder.__all__
    assert sorted(names, key=lambda n: (not n.isupper(), n[0].islower(), n)) == names
    assert set(names) == set(sse_recorder._HOMES)
    for name in names:
        assert getattr(sse_recorder, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """A misspelt import fails as it does in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Recoder'"):
        _ = sse_recorder.Recoder


def test_importing_the_package_costs_nothing() -> None:
    """A test session that has the plugin, but does not use it, does not pay for it."""
    code = (
        "import sys, sse_recorder;"
        "sys.exit(bool({'pyarrow', 'duckdb', 'httptools', 'httpx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
