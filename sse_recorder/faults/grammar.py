"""How a fault is written, `KIND[=VALUE][@PLACE:N]`: text to values, and back.

What a kind makes of its value, and which places it has, is not known here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# Numbers have a limit: they come in headers, too, and a few digits more than this are
# centuries, or more bytes than anybody has.
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_SPEC: Final = re.compile(
    r"(?P<kind>[a-z-]+)(?:=(?P<value>[^@]*))?"
    r"(?:@(?P<unit>[a-z]+):(?P<number>[0-9]{1,15}))?"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a response."""

    unit: str
    """`event`, `bytes` or `ms`."""
    number: int

    def __str__(self) -> str:
        return f"{self.unit}:{self.number}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A fault as it was asked for."""

    kind: str
    value: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        return f"{self.kind}{value}{f'@{self.place}' if self.place else ''}"


def read(text: str) -> Spec | None:
    """Take a fault apart; None if it is not written as one."""
    match = _SPEC.fullmatch(text.strip())
    if match is None:
        return None
    place = Place(match["unit"], int(match["number"])) if match["unit"] else None
    return Spec(match["kind"], match["value"] or "", place)


def number(text: str) -> int | None:
    """Read a number within a value; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None
