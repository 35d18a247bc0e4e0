"""How much a server takes: the values alone; what comes of them is in test_server."""

from __future__ import annotations

import pytest

from sse_recorder.errors import UsageError
from sse_recorder.http1.limits import Limits


@pytest.mark.parametrize("name", ["head_bytes", "headers", "connections"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_is_above_zero(name: str, value: int) -> None:
    """A server that takes nothing is a mistake, told by its name."""
    with pytest.raises(UsageError, match=name.replace("_", " ")):
        Limits(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_time_is_above_zero(value: float) -> None:
    """No time at all would refuse everybody."""
    with pytest.raises(UsageError, match="head timeout s"):
        Limits(head_timeout_s=value)
