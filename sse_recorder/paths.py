"""Paths to what is compared, and the rules that leave some of it out.

    tool_calls[1].arguments.city      a path: names and numbers that lead to a value
    tool_calls[*].arguments.city      a rule: a path in which `*` is any part
    city                              a rule, too

A rule holds wherever it is a piece of a path, and so for all that is below it: a name
alone wherever there is such a name, a longer rule where it leads.  What is printed as a
path can therefore be given back as a rule, whole or in part.  Names that would be taken
for something else, or cannot be seen, stand in brackets, as JSON: `["a.b"]`.

Pure: no I/O, no clock, no threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

from sse_recorder.errors import UsageError


class _Any:
    """Stands for any part of a path."""


ANY: Final = _Any()
Part: TypeAlias = "str | int | _Any"
Path: TypeAlias = "tuple[str | int, ...]"
Rule: TypeAlias = "tuple[Part, ...]"

_PLAIN_NAME: Final = re.compile(r"(?!\$\Z)[^.\[\]\"*#\s]+")
_ROOT: Final = re.compile(r"\$(?=[.\[]|\Z)")  # but `$schema` is a name
_RULE_PART: Final = re.compile(
    r'\.?(?P<name>[^.\[\]"*\s]+|\*)|\[(?P<number>\d{1,9}|\*)\]|\[(?P<quoted>"(?:[^"\\]|\\.)*")\]'
)


def ignoring(text: str) -> Rule:
    """Return the rule that a user wrote: a name or a path.

    Raises:
        UsageError: it is neither.
    """
    rule: list[Part] = []
    root = _ROOT.match(text)
    position = root.end() if root else 0
    while match := _RULE_PART.match(text, position):
        name, number, quoted = match.group("name", "number", "quoted")
        if "*" in {name, number}:
            rule.append(ANY)
        elif number is not None:
            rule.append(int(number))
        else:
            rule.append(_unquoted(text, quoted) if quoted else name)
        position = match.end()
    if position < len(text) or all(part is ANY for part in rule):
        raise _no_rule(text)
    return tuple(rule)


def _unquoted(text: str, quoted: str) -> str:
    try:
        return str(json.loads(quoted))
    except ValueError:
        raise _no_rule(text) from None


def _no_rule(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is neither a name nor a path; write one as it is printed, such as"
        " created_at or tool_calls[*].arguments.city"
    )


def ends(rule: Rule, path: Path) -> bool:
    """Tell whether a rule is the end of a path."""
    start = len(path) - len(rule)
    return start >= 0 and all(
        part is ANY or part == own for part, own in zip(rule, path[start:], strict=True)
    )


def holds(rule: Rule, path: Path) -> bool:
    """Tell whether a rule is a piece of a path."""
    return any(ends(rule, path[:end]) for end in range(len(rule), len(path) + 1))


def written(path: Iterable[Part]) -> str:
    """Return a path, or a rule, as text."""
    return "".join(map(step, path)).removeprefix(".")


def step(part: Part) -> str:
    """Return a part as text that goes on behind others."""
    if isinstance(part, str):
        if part.isprintable() and _PLAIN_NAME.fullmatch(part):
            return f".{part}"
        return f"[{json.dumps(part, ensure_ascii=not part.isprintable())}]"
    return "[*]" if isinstance(part, _Any) else f"[{part}]"
