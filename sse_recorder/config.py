"""Settings: flags > environment > file > defaults.

The only reader of the environment and of configuration files; everything else is passed
what it needs.

An option `--some-name` can be set as `SSE_RECORDER_SOME_NAME`.  In `sse-recorder.toml`,
or under `[tool.sse-recorder]` in `pyproject.toml`, of the current folder, it is
`some-name`, at the top for every command or in a table named like the command for one:

    store = "../recordings"

    [replay]
    speed = "max"

The first of the two files that sets anything is the one that counts.  What no command
knows is refused, because a misspelt setting is one that nobody notices.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sse_recorder.errors import UsageError

PREFIX: Final = "SSE_RECORDER_"
FILE: Final = "sse-recorder.toml"


class Setting(NamedTuple):
    """An option of a command, as it can be set in a file."""

    name: str
    """`some-name`."""
    parameter: str
    """What the command's function calls it."""
    is_shared: bool = True
    """Whether it is the same in every command that has it."""


def environment() -> Mapping[str, str]:
    """Return the environment, for what other standards put there (`OTEL_*`)."""
    return os.environ  # noqa: TID251 - the one reader


def is_ci() -> bool:
    """Return whether this is continuous integration: `CI` is what all of them set."""
    return environment().get("CI", "").lower() not in {"", "0", "false"}


def variable(name: str) -> str:
    """Return the environment variable of a setting: `a-b` is `SSE_RECORDER_A_B`."""
    return PREFIX + name.replace("-", "_").upper()


def read_file(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the settings in a folder's configuration file, and which file that is.

    Raises:
        UsageError: the file is not TOML, or has something else where settings go.
    """
    for path, keys in (
        (folder / FILE, ()),
        (folder / "pyproject.toml", ("tool", "sse-recorder")),
    ):
        try:
            settings: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{path}: {problem}; mend it or take it away") from error
        for key in keys:
            settings = settings.get(key, {})
            if not isinstance(settings, dict):
                raise UsageError(
                    f"{path}: {key!r} is not a table; write [tool.sse-recorder], and"
                    " settings below it"
                )
        if settings:
            return path, settings
    return folder / FILE, {}


def default_map(
    folder: Path, settings_of: Callable[[], Mapping[str, Sequence[Setting]]]
) -> dict[str, dict[str, Any]]:
    """Return the file's settings per command, as click wants them.

    Args:
        folder: where the file is looked for.
        settings_of: gives each command with its settings; not asked where no file
            sets anything.

    Raises:
        UsageError: the file is not TOML, or sets what no command knows.
    """
    path, settings = read_file(folder)
    if not settings:
        return {}
    commands = settings_of()
    shared = {s.name for own in commands.values() for s in own if s.is_shared}
    tables = {k: v for k, v in settings.items() if isinstance(v, dict)}
    general = {k: v for k, v in settings.items() if k not in tables}
    _refuse_unknown(path, "for every command", general, shared)
    _refuse_unknown(path, "in brackets", tables, set(commands))
    for command, values in tables.items():
        known = {setting.name for setting in commands[command]}
        _refuse_unknown(path, f"for {command}", values, known)
    return {
        command: _defaults(own, general, tables.get(command, {}))
        for command, own in commands.items()
    }


def _defaults(
    settings: Sequence[Setting], general: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a command's settings; its own table goes before what is said for all."""
    found = {}
    for setting in settings:
        if setting.name in own:
            found[setting.parameter] = own[setting.name]
        elif setting.is_shared and setting.name in general:
            found[setting.parameter] = general[setting.name]
    return found


def _refuse_unknown(
    path: Path, where: str, values: Mapping[str, Any], known: set[str]
) -> None:
    for name in values:
        if name not in known:
            raise UsageError(
                f"{path}: {name!r} is not a setting; what can be set {where}:"
                f" {', '.join(sorted(known)) or 'nothing'}"
            )
