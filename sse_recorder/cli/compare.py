"""`diff` and `check`: what has changed between two recordings, and whether it may.

`diff` tells every difference in what the streams said.  `check` is the gate for what
never is the same twice, time: a difference counts there when it is no chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from sse_recorder import analytics
from sse_recorder.analytics.compare import TOGETHER_MAX, Verdict
from sse_recorder.analytics.compare import check as hold_against
from sse_recorder.analytics.limits import limit
from sse_recorder.analytics.sample import GROUPINGS, Row, numbers
from sse_recorder.cli.answers import headline, in_markdown, print_answers, sureness
from sse_recorder.cli.base import format_option, option, say, store_option_with
from sse_recorder.cli.divergences import report
from sse_recorder.diff import (
    Compared,
    Recorded,
    Rules,
    compare,
    compare_lists,
    tolerance,
)
from sse_recorder.errors import UsageError
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.paths import ignoring
from sse_recorder.store.store import Store, source_and_id
from sse_recorder.tables import FrameRow

F = TypeVar("F", bound=Callable[..., Any])

_FRAMES_AT_ONCE: Final = 10_000
_BYTES_AT_ONCE: Final = 32 << 20


def _file_option(name: str, only_in: str, help_: str) -> Callable[[F], F]:
    """Declare an option for a file that is written as well."""
    path = click.Path(dir_okay=False, path_type=Path)
    return option(name, metavar="FILE", type=path, only_in=only_in, help=help_)


# --- diff -----------------------------------------------------------------------------


class Side:
    """The exchanges of one side of a comparison.

    Args:
        store: where it is.
        exchanges: those that it names, in the order in which they began.
        is_one: whether it names an exchange, and not all that there are.
    """

    def __init__(
        self, store: Store, exchanges: list[Exchange], *, is_one: bool = False
    ) -> None:
        self.exchanges = exchanges
        self.is_one = is_one
        self._store = store
        self._waiting = {exchange.exchange_id: exchange for exchange in exchanges}
        self._loaded: dict[str, Recorded] = {}

    def load(self, exchange: Exchange) -> Recorded:
        """Return an exchange with its frames and tool calls."""
        eid = exchange.exchange_id
        if eid not in self._loaded:
            self._load(eid)
        return self._loaded.pop(eid)

    def _load(self, eid: str) -> None:
        # Together with those that began next, which are mostly asked for next: a query
        # for one takes as long as one for many.
        chosen = [self._waiting.pop(eid)]
        frames_left = _FRAMES_AT_ONCE - chosen[0].frame_count
        bytes_left = _BYTES_AT_ONCE - chosen[0].response_size
        for other in list(self._waiting.values()):
            frames_left -= other.frame_count
            bytes_left -= other.response_size
            if min(frames_left, bytes_left) < 0:
                break
            chosen.append(self._waiting.pop(other.exchange_id))
        ids = [exchange.exchange_id for exchange in chosen]
        frames: dict[str, list[FrameRow]] = {name: [] for name in ids}
        calls: dict[str, list[ToolCall]] = {name: [] for name in ids}
        for row in self._rows("frames", ids):
            frames[row["exchange_id"]].append(FrameRow(**row))
        for row in self._rows("tool_calls", ids):
            calls[row["exchange_id"]].append(ToolCall(**row))
        for known in chosen:
            name = known.exchange_id
            self._loaded[name] = Recorded(known, frames[name], calls[name])

    def _rows(self, table: str, ids: list[str]) -> list[dict[str, Any]]:
        query = (
            f"SELECT * FROM {table} WHERE exchange_id IN (SELECT unnest(?)) ORDER BY"  # noqa: S608 - a table of ours
            " exchange_id, seq"
        )
        rows: list[dict[str, Any]] = self._store.sql(query, [ids]).to_pylist()
        return rows


@click.command()
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@store_option_with("Where the ids are: a folder of recordings, or a cassette.")
@option(
    "--ignore",
    metavar="RULE",
    multiple=True,
    only_in="diff",
    help="A JSON member, or a path as it is printed, that is no difference, such as"
    " created_at or tool_calls[*].arguments.city; may be repeated.",
)
@option(
    "--timing",
    metavar="10%|50ms",
    only_in="diff",
    help="Compare times, too; so much more is no difference.",
)
@_file_option(
    "--junit", "diff", "Write a test report as well, with a test for each exchange."
)
@format_option
def diff(
    left: str,
    right: str,
    store: str,
    ignore: tuple[str, ...],
    timing: str | None,
    junit: Path | None,
    format_: str,
) -> int:
    """Tell what two recordings say differently: text, tool calls, the end.

    A and B are a store or a cassette, one exchange of it (SOURCE#ID), or an id in
    --store.  How a text is cut into events, and what no two runs share, such as ids and
    times of day, is no difference.  Exits with 1 when there are any.

    \b
    sse-recorder diff before.sse.jsonl after.sse.jsonl
    sse-recorder diff 4f2a91c0 recordings/demo.sse.jsonl#c154427d --timing 10%
    sse-recorder diff old/ new/ --ignore citations --junit report.xml
    """
    rules = Rules(
        ignored=tuple(map(ignoring, ignore)),
        timing=None if timing is None else tolerance(timing),
    )
    with ExitStack() as stack:
        one, other = _side(left, store, stack), _side(right, store, stack)
        found = list(_compared(one, other, rules))
    return report(found, format_, junit)


def _side(name: str, store: str, stack: ExitStack) -> Side:
    """Open what an argument names."""
    source, exchange_id = source_and_id(name)
    if not name or exchange_id == "":  # an id may be cut, but not to nothing
        raise UsageError(f"{name!r} names no exchange: give SOURCE, SOURCE#ID or an id")
    if exchange_id is not None:
        opened = stack.enter_context(Store.open(source))
        return Side(opened, [opened.exchange(exchange_id)], is_one=True)
    if Path(name).exists() or "/" in name or name.endswith(".jsonl"):
        opened = stack.enter_context(Store.open(name))
        ended = list(opened.exchanges("outcome IS NOT NULL"))
        return Side(opened, ended, is_one=False)
    opened = stack.enter_context(Store.open(store))
    return Side(opened, [opened.exchange(name)], is_one=True)


def _compared(left: Side, right: Side, rules: Rules) -> Iterator[Compared]:
    if left.is_one and right.is_one:  # whether they are alike or not
        one, other = left.exchanges[0], right.exchanges[0]
        loaded = (left.load(one), right.load(other))
        yield Compared(one, other, compare(*loaded, rules, ("exchange", 0)))
    else:
        yield from compare_lists(
            left.exchanges, right.exchanges, left.load, right.load, rules
        )


# --- check ----------------------------------------------------------------------------


@click.command()
@click.argument("baseline")
@click.argument("candidate")
@option(
    "--max",
    "limits",
    metavar="METRIC=LIMIT",
    multiple=True,
    required=True,
    only_in="check",
    help="What the candidate may be at most: ttfc_p95=+10% (than the baseline),"
    " e2e_p50=2s, errors=1%; may be repeated.",
)
@option(
    "--by",
    type=click.Choice(GROUPINGS),
    only_in="check",
    help="Judge each group for itself.",
)
@option("--where", metavar="SQL", help="Only exchanges for which this is true.")
@option(
    "--allow-little-data",
    is_flag=True,
    only_in="check",
    help="Exit with 0 where there are too few exchanges to tell.",
)
@_file_option(
    "--summary",
    "check",
    "Write the answers in Markdown as well, for a comment on a pull request.",
)
@format_option
def check(
    baseline: str,
    candidate: str,
    limits: tuple[str, ...],
    by: str | None,
    where: str | None,
    summary: Path | None,
    format_: str,
    *,
    allow_little_data: bool,
) -> int:
    """Fail when a candidate is slower, or worse, than a baseline by more than allowed.

    Both are a store or a cassette.  Metrics are ttfb, ttfe, ttfc, e2e, gap, tool,
    input_tokens, output_tokens and calls, with _p50, _p90, _p95, _p99 or _mean, and
    errors and tool_errors.  A limit with a sign is relative to the baseline.  What may
    be chance does not fail; with too few exchanges to tell, it says how many it takes.
    Errors have no times; where more exchanges have none than before, that fails, too.
    Exits with 1 when a limit is exceeded, or when that cannot be told.

    \b
    sse-recorder check main/ branch/ --max ttfc_p95=+10% --max errors=1%
    sse-recorder check main/ branch/ --max tool_p50=+20% --by tool
    """
    asked = list(map(limit, limits))
    with_gaps = any(item.metric == "gap" for item in asked)
    one, other = (
        _numbers(name, where, with_gaps=with_gaps) for name in (baseline, candidate)
    )
    answers = hold_against(one, other, asked, by=by)
    print_answers(answers, format_)
    if summary is not None:
        sources = [(baseline, len(one)), (candidate, len(other))]
        summary.write_text(in_markdown(answers, sources), encoding="utf-8")
    told = f" {sureness(answers)}" if len(answers) > TOGETHER_MAX else ""
    say(f"{headline(answers)}.{told}")
    bad = {Verdict.FAIL} if allow_little_data else {Verdict.FAIL, Verdict.NOT_ENOUGH}
    return int(any(answer.verdict in bad for answer in answers))


def _numbers(name: str, where: str | None, *, with_gaps: bool) -> list[Row]:
    with Store.open(name) as opened:
        condition = analytics.condition(opened, where=where)
        return numbers(opened, where=condition, with_gaps=with_gaps)


COMMANDS: Final = (diff, check)
