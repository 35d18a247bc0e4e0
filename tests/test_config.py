"""Settings from files, and the names that options have in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from sse_recorder import config
from sse_recorder.config import Setting, default_map, read_file, variable
from sse_recorder.errors import UsageError

STORE = Setting("store", "store")
GRACE = Setting("grace", "grace_s")
FORMAT = Setting("format", "format_")
COMMANDS = {
    "record": [STORE, GRACE, Setting("ca-file", "ca_file")],
    "query": [STORE, FORMAT],
    "export": [STORE, FORMAT._replace(is_shared=False)],
    "bare": [],
}
PYPROJECT = "pyproject.toml"


def write(folder: Path, text: str, name: str = config.FILE) -> Path:
    """Write a configuration file, and return its folder."""
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [("store", "SSE_RECORDER_STORE"), ("ca-file", "SSE_RECORDER_CA_FILE")],
)
def test_a_setting_has_a_variable(name: str, expected: str) -> None:
    """The variable is the option's name in capitals, behind our prefix."""
    assert variable(name) == expected


def test_the_environment_is_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is set there is seen at once."""
    monkeypatch.setenv("OTEL_TEST", "yes")
    assert config.environment()["OTEL_TEST"] == "yes"


@pytest.mark.parametrize(
    ("value", "is_ci"),
    [(None, False), ("", False), ("0", False), ("False", False), ("true", True)],
)
def test_continuous_integration_is_what_sets_its_variable(
    monkeypatch: pytest.MonkeyPatch, *, value: str | None, is_ci: bool
) -> None:
    """Whatever its value, but those that mean no."""
    monkeypatch.delenv("CI", raising=False)
    if value is not None:
        monkeypatch.setenv("CI", value)
    assert config.is_ci() == is_ci


def test_no_file_sets_nothing(tmp_path: Path) -> None:
    """And no command has to be imported to hear so."""

    def settings() -> dict[str, list[Setting]]:
        raise AssertionError("nobody needs them")

    assert default_map(tmp_path, settings) == {}


def test_a_setting_at_the_top_is_for_every_command_that_has_it(tmp_path: Path) -> None:
    """They come out under the names that the commands' functions have for them."""
    write(tmp_path, 'store = "here"\ngrace = 2.5\nca-file = "ca.pem"\n')
    assert default_map(tmp_path, lambda: COMMANDS) == {
        "record": {"store": "here", "grace_s": 2.5, "ca_file": "ca.pem"},
        "query": {"store": "here"},
        "export": {"store": "here"},
        "bare": {},
    }


def test_a_table_is_for_one_command_and_goes_first(tmp_path: Path) -> None:
    """What is said for a command holds there whatever is said for all."""
    write(tmp_path, 'store = "all"\n[query]\nstore = "one"\n')
    found = default_map(tmp_path, lambda: COMMANDS)
    assert found["query"] == {"store": "one"}
    assert found["export"] == {"store": "all"}


def test_a_name_that_means_something_else_in_a_command_is_set_there_alone(
    tmp_path: Path,
) -> None:
    """`format = "json"` is for rows; `export` has formats of its own."""
    write(tmp_path, 'format = "json"\n')
    found = default_map(tmp_path, lambda: COMMANDS)
    assert (found["query"], found["export"]) == ({"format_": "json"}, {})
    write(tmp_path, 'format = "json"\n[export]\nformat = "raw"\n')
    found = default_map(tmp_path, lambda: COMMANDS)
    assert found["query"] == {"format_": "json"}
    assert found["export"] == {"format_": "raw"}


def test_pyproject_is_read_where_our_own_file_is_not_there(tmp_path: Path) -> None:
    """Of the two files the first that sets anything counts, and is named."""
    write(tmp_path, '[tool.sse-recorder]\nstore = "b"\n', PYPROJECT)
    assert read_file(tmp_path) == (tmp_path / PYPROJECT, {"store": "b"})
    write(tmp_path, "# nothing yet\n")
    assert read_file(tmp_path) == (tmp_path / PYPROJECT, {"store": "b"})
    write(tmp_path, 'store = "a"\n')
    assert read_file(tmp_path) == (tmp_path / config.FILE, {"store": "a"})


@pytest.mark.parametrize("text", ["", "[tool]\n", "[tool.other]\nx = 1\n"])
def test_a_pyproject_of_others_sets_nothing(tmp_path: Path, text: str) -> None:
    """Most projects have one, and it is none of our business."""
    write(tmp_path, text, PYPROJECT)
    assert read_file(tmp_path)[1] == {}


REFUSED = [
    (
        config.FILE,
        "stroe = 1",
        "'stroe' is not a setting; .* command: ca-file, format,",
    ),
    (config.FILE, "grace_s = 1", "'grace_s' is not a setting"),
    (config.FILE, "record = 1", "'record' is not a setting"),
    (config.FILE, "[stroe]", "'stroe' is not a setting; .* brackets: bare, export,"),
    (config.FILE, "[store]", "'store' is not a setting; .* in brackets"),
    (config.FILE, "[query]\ngrace = 1", "'grace' is not .* for query: format, store$"),
    (config.FILE, "[bare]\ngrace = 1", "'grace' is not .* for bare: nothing$"),
    (config.FILE, "a = [", "mend it or take it away$"),
    (PYPROJECT, "a = [", "mend it or take it away$"),
    (PYPROJECT, "tool = 1", r"'tool' is not a table; write \[tool.sse-recorder\]"),
    (PYPROJECT, "[tool]\nsse-recorder = 1", "'sse-recorder' is not a table"),
]


@pytest.mark.parametrize(("name", "text", "message"), REFUSED)
def test_what_is_wrong_in_a_file_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    """The message names the file and what could have been meant."""
    write(tmp_path, text + "\n", name)
    with pytest.raises(UsageError, match=message) as caught:
        default_map(tmp_path, lambda: COMMANDS)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is not passed over in silence: it may set what matters."""
    (tmp_path / config.FILE).mkdir()
    with pytest.raises(UsageError, match="Is a directory; mend it or take it away"):
        default_map(tmp_path, lambda: COMMANDS)
    (tmp_path / config.FILE).rmdir()
    (tmp_path / config.FILE).write_bytes(b"\xff")
    with pytest.raises(UsageError, match="mend it or take it away"):
        default_map(tmp_path, lambda: COMMANDS)
