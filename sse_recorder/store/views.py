"""The derived views of a store: what `views.sql` says, taken apart.

The file is read as it is by any DuckDB.  Here each view is taken out of it, so that it
can be made where it is asked for, and made of some of the exchanges alone; and so that
what its comments say of the columns can be shown.

    -- name: what a row is
    --   column: what it means
    CREATE OR REPLACE VIEW name AS …;
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

_VIEW: Final = re.compile(
    r"^-- (?P<name>\w+): (?P<comment>.+(?:\n--.*)*)\n"
    r"CREATE OR REPLACE VIEW (?P=name) AS\n(?P<query>[^;]+);",
    re.MULTILINE,
)
_COLUMN: Final = re.compile(r"^   (\w+): (.+(?:\n     .+)*)", re.MULTILINE)


class View(NamedTuple):
    """One derived view."""

    name: str
    meaning: str
    """What a row of it is."""
    columns: dict[str, str]
    """What its own columns mean; those that it takes over are explained elsewhere."""
    query: str
    """Over the four tables and the views before it."""


@cache
def views() -> dict[str, View]:
    """Return the derived views by name, each after those that it is made of."""
    found = {}
    for match in _VIEW.finditer(script()):
        comment = re.sub(r"^--", "", match["comment"], flags=re.MULTILINE)
        meaning = " ".join(comment.partition("\n   ")[0].split())
        columns = {
            column[1]: " ".join(column[2].split())
            for column in _COLUMN.finditer(comment)
        }
        name = match["name"]
        found[name] = View(name, meaning, columns, match["query"])
    return found


def script() -> str:
    """Return the statements that make all of them."""
    return files(__package__).joinpath("views.sql").read_text(encoding="utf-8")


@cache
def mention() -> re.Pattern[str]:
    """Return what finds the name of one of them in a query."""
    return re.compile(rf"\b(?:{'|'.join(views())})\b", re.IGNORECASE)
