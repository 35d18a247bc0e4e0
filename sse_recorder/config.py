"""Settings: flags > environment > file > defaults.

The only reader of the environment and of configuration files; everything else is passed
what it needs.

An option `--some-name` can be set as `SSE_RECORDER_SOME_NAME`.  In `sse-recorder.toml`,
or under `[tool.sse-recorder]` in `pyproject.toml`, of the current folder, it is
`some-name`, at the top for every command or in a table named like the command for one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sse_recorder.errors import UsageError

PREFIX: Final = "SSE_RECORDER_"
FILE: Final = "sse-recorder.toml"


def environment() -> Mapping[str, str]:
    """Return the environment, for what other standards put there (`OTEL_*`)."""
    return os.environ  # noqa: TID251 - the one reader


def variable(option: str) -> str:
    """Return the environment variable of an option: `--a-b` is `SSE_RECORDER_A_B`."""
    return PREFIX + option.lstrip("-").replace("-", "_").upper()


def read_file(folder: Path) -> dict[str, Any]:
    """Return the settings in a folder's configuration file; empty if it has none.

    Raises:
        UsageError: the file is not TOML.
    """
    for path, keys in (
        (folder / FILE, ()),
        (folder / "pyproject.toml", ("tool", "sse-recorder")),
    ):
        try:
            settings: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: {error}; mend it or take it away") from error
        for key in keys:
            settings = settings.get(key, {})
        if settings:
            return settings
    return {}


def default_map(folder: Path, commands: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return the file's settings per command, as click wants them.

    Args:
        folder: where the file is looked for.
        commands: each command with the names of its options, with underscores.

    Raises:
        UsageError: the file is not TOML, or sets what no command knows.
    """
    settings = read_file(folder)
    general = {k: v for k, v in settings.items() if not isinstance(v, dict)}
    for name, value in settings.items():
        known = set().union(*commands.values()) if name in general else set(commands)
        if name.replace("-", "_") not in known:
            raise UsageError(f"{name!r} in the configuration file is not a setting")
        for option in value if isinstance(value, dict) else ():
            if option.replace("-", "_") not in commands[name]:
                raise UsageError(
                    f"{option!r} in the configuration file is not an option of {name}"
                )
    return {
        command: {
            key.replace("-", "_"): value
            for key, value in (general | settings.get(command, {})).items()
            if key.replace("-", "_") in options
        }
        for command, options in commands.items()
    }
