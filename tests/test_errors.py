"""The rules of errors: one base, two levels, an exit code each."""

from __future__ import annotations

import inspect

import pytest

from sse_recorder import errors
from sse_recorder.errors import SSERecorderError, UsageError

ALL = [e for _, e in inspect.getmembers(errors, inspect.isclass)]


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """Every error stands in the docstring, right below the one base."""
    for error in ALL:
        assert error.__name__ in str(errors.__doc__)
        if error is not SSERecorderError:
            assert error.__bases__ == (SSERecorderError,)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_the_exit_code_says_whose_turn_it_is(error: type[SSERecorderError]) -> None:
    """2 is for who called, 3 for the environment."""
    assert error("why").exit_code == (2 if error is UsageError else 3)
    assert str(error("why")) == "why"
