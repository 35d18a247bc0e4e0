"""`diff` and `check`: what has changed between two recordings, and whether it may.

`diff` tells every difference in what the streams said.  `check` is the gate for what
never is the same twice, time: a difference counts there when it is no chance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import click
import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sse_recorder import analytics
from sse_recorder.analytics.compare import (
    GROUPINGS,
    Answer,
    Limit,
    Verdict,
    limit,
    numbers,
)
from sse_recorder.analytics.compare import check as hold_against
from sse_recorder.cli.base import (
    counted,
    format_option,
    option,
    print_rows,
    say,
    store_option_with,
)
from sse_recorder.cli.look import ID_WIDTH
from sse_recorder.cli.waterfall import cut, duration, printable
from sse_recorder.dialects.base import compact
from sse_recorder.diff import (
    Change,
    Compared,
    Divergence,
    Recorded,
    Rules,
    compare,
    compare_lists,
    ignoring,
    tolerance,
)
from sse_recorder.exchange import Exchange, ToolCall
from sse_recorder.store.store import Store
from sse_recorder.tables import FrameRow

_FRAMES_AT_ONCE: Final = 10_000
_SHOWN_MAX: Final = 200
_BEFORE: Final = 24
_WIDTH_IN_FILES: Final = 1 << 10
_COLUMNS: Final = ("left_id", "right_id", "where", "kind", "left", "right")
_DIVERGENCES: Final = pa.schema([(name, pa.string()) for name in _COLUMNS])
_ANSWERS: Final = pa.schema(
    [(name, pa.string()) for name in ("limit", "metric", "statistic", "group")]
    + [
        (name, pa.float64())
        for name in ("baseline", "candidate", "change", "low", "high")
    ]
    + [(name, pa.int64()) for name in ("n_baseline", "n_candidate", "needed")]
    + [("verdict", pa.string())]
)
_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.NOT_ENOUGH: "yellow",
}
_MARKS: Final = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.NOT_ENOUGH: "⚠️"}


# --- diff -----------------------------------------------------------------------------


class _Side:
    """What one argument of `diff` names.

    Args:
        store: where it is.
        exchanges: those that it names, in the order in which they began.
        is_one: whether it names an exchange, and not all that there are.
    """

    def __init__(
        self, store: Store, exchanges: list[Exchange], *, is_one: bool
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
        frame_count = chosen[0].frame_count
        for other in list(self._waiting.values()):
            frame_count += other.frame_count
            if frame_count > _FRAMES_AT_ONCE:
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
@option(
    "--junit",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    only_in="diff",
    help="Write a test report as well, with a test for each exchange.",
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
    count = sum(len(pair.divergences) for pair in found)
    if format_ != "table":
        _print_divergences(found, format_)
    elif count:
        _print_side_by_side(found)
    if junit is not None:
        junit.write_bytes(_junit(found))
    say(
        f"Compared {counted(len(found), 'exchange')}:"
        f" {counted(count, 'divergence') if count else 'no divergences'}."
    )
    return int(bool(count))


def _side(name: str, store: str, stack: ExitStack) -> _Side:
    """Open what an argument names."""
    source, _, number = name.rpartition("#")
    is_path = Path(name).exists() or "/" in name or name.endswith(".jsonl")
    if source and not Path(name).exists():
        opened = stack.enter_context(Store.open(source))
        return _Side(opened, [opened.exchange(number)], is_one=True)
    if is_path:
        opened = stack.enter_context(Store.open(name))
        ended = list(opened.exchanges("outcome IS NOT NULL"))
        return _Side(opened, ended, is_one=False)
    opened = stack.enter_context(Store.open(store))
    return _Side(opened, [opened.exchange(name)], is_one=True)


def _compared(left: _Side, right: _Side, rules: Rules) -> Iterator[Compared]:
    if left.is_one and right.is_one:  # whether they are alike or not
        one, other = left.exchanges[0], right.exchanges[0]
        loaded = (left.load(one), right.load(other))
        yield Compared(one, other, compare(*loaded, rules, ("exchange", 0)))
    else:
        yield from compare_lists(
            left.exchanges, right.exchanges, left.load, right.load, rules
        )


def _print_divergences(found: Iterable[Compared], format_: str) -> None:
    rows = [
        {
            "left_id": pair.left and pair.left.exchange_id,
            "right_id": pair.right and pair.right.exchange_id,
            "where": divergence.where,
            "kind": str(divergence.kind),
            "left": divergence.left,
            "right": divergence.right,
        }
        for pair in found
        for divergence in pair.divergences
    ]
    match format_:
        case "json":
            # Half a surrogate pair, which JSON may hold, stays escaped.
            text = json.dumps(rows, ensure_ascii=False, indent=1)
            click.echo(text.encode(errors="backslashreplace"))
        case "jsonl":
            for row in rows:
                click.echo(compact(row))
        case _:
            for row in rows:
                for side, absent in (("left", Change.ADDED), ("right", Change.MISSING)):
                    is_there = row["kind"] != absent
                    row[side] = compact(row[side]) if is_there else None
            print_rows(pa.Table.from_pylist(rows, schema=_DIVERGENCES), format_)


def _print_side_by_side(found: Iterable[Compared]) -> None:
    console = _console()
    for pair in found:
        if not pair.divergences:
            continue
        console.print(Text(cut(_title(pair), console.width), "bold"))
        table = Table(
            box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0)
        )
        for name in ("where", "kind", "left", "right"):
            table.add_column(name, overflow="fold")
        for divergence in pair.divergences:
            where = divergence.where.partition("]")[2].removeprefix(".")
            sides = _shown(divergence)
            table.add_row(
                Text(printable(where or "the exchange"), "cyan"),
                Text(divergence.kind),
                *(
                    Text(side, style)
                    for side, style in zip(sides, ("red", "green"), strict=True)
                ),
            )
        console.print(table)
        console.print()


def _title(pair: Compared) -> str:
    """Return what is compared in words: the request, and the ends of the ids."""
    exchange = pair.left or pair.right
    assert exchange is not None
    ids = [x.exchange_id[-ID_WIDTH:] if x else "nothing" for x in pair[:2]]
    number = pair.divergences[0].path[1] if pair.divergences else ""
    request = printable(f"{exchange.method} {exchange.target}")
    return f"exchange[{number}]  {ids[0]} ↔ {ids[1]}  {request}"


def _shown(divergence: Divergence) -> tuple[str, str]:
    """Return both values for people; of long ones, from where they differ."""
    left, right = divergence.left, divergence.right
    if divergence.kind is Change.TIMING:
        return duration(left), duration(right)
    texts = [
        "" if divergence.kind is absent else printable(compact(value))
        for value, absent in ((left, Change.ADDED), (right, Change.MISSING))
    ]
    start = 0
    if max(map(len, texts)) > _SHOWN_MAX // 2:
        pairs = enumerate(zip(*texts, strict=False))
        differ = next((n for n, (a, b) in pairs if a != b), 0)
        start = max(differ - _BEFORE, 0)
    return _window(texts[0], start), _window(texts[1], start)


def _window(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN_MAX]
    before, after = "…" * bool(start), "…" * (start + _SHOWN_MAX < len(text))
    return before + shown + after


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody reads a wrapped column in a file: let lines be as long as they are.
        console.width = _WIDTH_IN_FILES
    return console


# --- JUnit ----------------------------------------------------------------------------


def _junit(found: Sequence[Compared]) -> bytes:
    """Return a report as build servers read it: a test for each pair."""
    failures = sum(bool(pair.divergences) for pair in found)
    counts = {"tests": str(len(found)), "failures": str(failures), "errors": "0"}
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {"name": "sse-recorder diff", **counts})
    for pair in found:
        exchange = pair.left or pair.right
        assert exchange is not None
        name = printable(f"{exchange.method} {exchange.target}")
        case = ET.SubElement(
            suite,
            "testcase",
            {
                "classname": "sse-recorder.diff",
                "name": f"{name} {exchange.exchange_id}",
            },
        )
        if pair.divergences:
            message = counted(len(pair.divergences), "divergence")
            failure = ET.SubElement(case, "failure", {"message": message})
            failure.text = "\n".join(map(_line, pair.divergences))
    ET.indent(suites)
    whole: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return whole + b"\n"


def _line(divergence: Divergence) -> str:
    # Escaped, because XML has no way to write control characters.
    left, right = _shown(divergence)
    values = f"{left or '(nothing)'} ≠ {right or '(nothing)'}"
    return f"{printable(divergence.where)} {divergence.kind}: {values}"


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
@option(
    "--summary",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    only_in="check",
    help="Write the answers in Markdown as well, for a comment on a pull request.",
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
    Exits with 1 when a limit is exceeded, or when that cannot be told.

    \b
    sse-recorder check main/ branch/ --max ttfc_p95=+10% --max errors=1%
    sse-recorder check main/ branch/ --max tool_p50=+20% --by tool
    """
    asked = list(map(limit, limits))
    read = partial(_numbers, asked=asked, where=where)
    answers = hold_against(read(baseline), read(candidate), asked, by=by)
    if format_ == "table":
        _print_answers(answers)
    else:
        rows = pa.Table.from_pylist(list(map(_answer_row, answers)), schema=_ANSWERS)
        print_rows(rows, format_)
    if summary is not None:
        summary.write_text(_summary(answers, baseline, candidate), encoding="utf-8")
    say(f"{_headline(answers)}.")
    bad = {Verdict.FAIL} if allow_little_data else {Verdict.FAIL, Verdict.NOT_ENOUGH}
    return int(any(answer.verdict in bad for answer in answers))


def _numbers(name: str, asked: Sequence[Limit], where: str | None) -> list[Any]:
    with Store.open(name) as opened:
        condition = analytics.condition(opened, where=where)
        with_gaps = any(item.metric == "gap" for item in asked)
        return list(numbers(opened, where=condition, with_gaps=with_gaps))


def _answer_row(answer: Answer) -> dict[str, Any]:
    names = [name for name in _ANSWERS.names if hasattr(answer, name)]
    asked = answer.limit
    return {name: getattr(answer, name) for name in names} | {
        "limit": asked.text,
        "metric": asked.metric,
        "statistic": asked.statistic,
        "verdict": str(answer.verdict),
    }


def _print_answers(answers: Sequence[Answer]) -> None:
    console = _console()
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("limit", "baseline", "candidate", "change", "interval", "verdict"):
        table.add_column(name, overflow="fold")
    for answer in answers:
        *cells, verdict = _cells(answer)
        styled = Text(verdict, _STYLES[answer.verdict])
        table.add_row(*map(Text, cells), styled)
    console.print(table)


def _cells(answer: Answer) -> tuple[str, ...]:
    """Return an answer in words."""
    asked = answer.limit
    name = asked.text if answer.group == "all" else f"{asked.text} {answer.group}"
    interval = ""
    if answer.low is not None and answer.high is not None:
        told = _change if asked.is_relative else _amount
        interval = f"{told(asked, answer.low)} … {told(asked, answer.high)}"
    verdict = str(answer.verdict)
    if answer.verdict is Verdict.NOT_ENOUGH:
        known = answer.n_candidate
        if asked.is_relative:
            known = min(known, answer.n_baseline)
        verdict += f": {known:,} of {answer.needed:,} needed"
    return (
        printable(name),
        _amount(asked, answer.baseline),
        _amount(asked, answer.candidate),
        "" if answer.change is None else _change(asked, answer.change),
        interval,
        verdict,
    )


def _amount(asked: Limit, value: float | None) -> str:
    if value is None:
        return "-"
    if asked.is_time:
        return duration(round(value * 1e6))
    return f"{value:.2%}" if asked.is_share else f"{value:,.4g}"


def _change(asked: Limit, value: float) -> str:
    # Shares are compared in points, all else by its ratio.
    return f"{value * 100:+.2f} points" if asked.is_share else f"{value:+.1%}"


def _headline(answers: Sequence[Answer]) -> str:
    failed = sum(answer.verdict is Verdict.FAIL for answer in answers)
    untold = sum(answer.verdict is Verdict.NOT_ENOUGH for answer in answers)
    text = f"{failed} of {counted(len(answers), 'limit')} exceeded"
    return text + f", {untold} cannot be told: not enough data" * bool(untold)


def _summary(answers: Sequence[Answer], baseline: str, candidate: str) -> str:
    """Return answers as Markdown, the worst of them first."""
    order = (Verdict.FAIL, Verdict.NOT_ENOUGH, Verdict.PASS)
    answers = sorted(answers, key=lambda answer: order.index(answer.verdict))
    lines = [
        f"### {_MARKS[answers[0].verdict]} {_headline(answers)}",
        "",
        "| limit | baseline | candidate | change | interval | |",
        "|---|---|---|---|---|---|",
    ]
    for answer in answers:
        *cells, verdict = (cell.replace("|", "\\|") for cell in _cells(answer))
        lines.append(f"| {' | '.join(cells)} | {_MARKS[answer.verdict]} {verdict} |")
    counts = [
        max(getattr(a, n) for a in answers) for n in ("n_baseline", "n_candidate")
    ]
    sources = [
        f"{role} `{printable(name)}`, {counted(count, 'exchange')}"
        for role, name, count in zip(
            ("Baseline", "Candidate"), (baseline, candidate), counts, strict=True
        )
    ]
    closing = f"{'. '.join(sources)}. All intervals together hold with 95 %."
    return "\n".join([*lines, "", closing, ""])


COMMANDS: Final = (diff, check)
