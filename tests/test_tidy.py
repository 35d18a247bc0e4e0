"""The shape of the project: what may import what, and what must stand beside what."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sse_recorder
from sse_recorder.cli import every_command

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sse_recorder"

# From the ground up.  A module imports from its own group and from those before it.
GROUPS = (
    {"errors", "exchange", "clock", "trace"},
    {"sse", "coding", "dialects", "spool", "tables", "transcript", "match"}
    | {"credentials", "masking", "redact", "playback", "faults", "diff", "paths"},
    {"semconv", "timer"},
    {"store", "imports"},
    {"http1", "otel"},
    {"capture", "routing", "stats", "proxy", "replay", "admin", "control", "disturbed"}
    | {"repertoire", "steps", "transport", "redrive"}
    | {"background", "analytics", "demo"},
    {"config", "cli", "__main__", "testing", "pytest_plugin"},
)
# Modules that are nothing but names, and what is tested as a part of another.
UNTESTED = {
    "__main__.py",
    "capture/__init__.py",
    "http1/__init__.py",
    "redrive/__init__.py",
    "store/__init__.py",
    "store/rebuild/__init__.py",
    "testing/__init__.py",
}


def modules() -> list[Path]:
    """Return the package's modules."""
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Return the modules of this package that one of them imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts == ["sse_recorder"]:
                found |= {alias.name for alias in node.names}
            elif parts[0] == "sse_recorder":
                found.add(".".join(parts[1:]))
    own = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return found - {"__version__", own}


def group(name: str) -> int:
    """Return the number of a module's group."""
    top = name.partition(".")[0]
    return next(number for number, names in enumerate(GROUPS) if top in names)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_imports_only_from_its_group_and_those_before(path: Path) -> None:
    """The layout is the architecture: values, pure code, storage, edges, surfaces."""
    if path == Path("__init__.py"):
        return  # it names everything, and imports nothing until it is asked
    own = group(path.parts[0].removesuffix(".py"))
    assert {name for name in imports(path) if group(name) > own} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Within a group there is an order, too."""
    graph = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): imports(path)
        for path in modules()
        if path != Path("__init__.py")
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_has_a_test_file_of_its_own(path: Path) -> None:
    """Tests mirror the package, so one knows where to look."""
    if str(path) in UNTESTED:
        return
    stem = "init" if path.stem == "__init__" else path.stem
    assert (ROOT / "tests" / path.parent / f"test_{stem}.py").is_file()


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_tells_its_theory(path: Path) -> None:
    """A module begins with what it is for."""
    assert ast.get_docstring(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", sorted(every_command()))
def test_a_command_has_help_with_an_example_and_is_in_the_readme(name: str) -> None:
    """Who reads the help, or the README, learns of every command."""
    help_text = every_command()[name].help or ""
    assert len(help_text) > 20
    assert f"sse-recorder {name}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_option_says_what_it_does(name: str) -> None:
    """An option without help is one that nobody finds."""
    for param in every_command()[name].params:
        assert param.param_type_name == "argument" or getattr(param, "help", None)


def test_the_lock_files_name_no_address() -> None:
    """Where packages come from is the business of the machine that installs them."""
    for path in ROOT.glob("requirements*.lock"):
        assert "://" not in path.read_text(encoding="utf-8")


def test_the_changelog_knows_the_version() -> None:
    """A version that people can install has notes that they can read."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {sse_recorder.__version__}" in changelog
