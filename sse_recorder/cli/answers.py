"""How the answers of `check` are shown: to people, to programs, in a pull request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
from rich.text import Text

from sse_recorder.analytics.compare import TOGETHER_MAX, Answer, Verdict
from sse_recorder.analytics.limits import Limit
from sse_recorder.analytics.sample import ALL
from sse_recorder.cli.base import counted, print_rows
from sse_recorder.cli.divergences import console_of, show
from sse_recorder.cli.waterfall import duration, printable

_ANSWERS: Final = pa.schema(
    [(name, pa.string()) for name in ("limit", "metric", "statistic", "group")]
    + [
        (name, pa.float64())
        for name in ("baseline", "candidate", "change", "low", "high")
    ]
    + [
        (f"{count}_{role}", pa.int64())
        for count in ("n", "without", "failed")
        for role in ("baseline", "candidate")
    ]
    + [("needed", pa.int64()), ("is_lacking", pa.bool_()), ("verdict", pa.string())]
)
_NAMES: Final = (
    *("limit", "baseline", "candidate", "change", "interval", "no value", "verdict"),
)
_STYLES: Final = {
    Verdict.PASS: "green",
    Verdict.FAIL: "bold red",
    Verdict.NOT_ENOUGH: "yellow",
}
_MARKS: Final = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.NOT_ENOUGH: "⚠️"}


def print_answers(answers: Sequence[Answer], format_: str) -> None:
    """Print answers to stdout in one of the formats of `format_option`."""
    if format_ != "table":
        print_rows(pa.Table.from_pylist(list(map(_row, answers)), _ANSWERS), format_)
        return
    rows = []
    for answer in answers:
        *cells, verdict = _cells(answer)
        rows.append([*map(Text, cells), Text(verdict, _STYLES[answer.verdict])])
    show(console_of(), _NAMES, rows)


def _row(answer: Answer) -> dict[str, Any]:
    names = [name for name in _ANSWERS.names if hasattr(answer, name)]
    asked = answer.limit
    return {name: getattr(answer, name) for name in names} | {
        "limit": asked.text,
        "metric": asked.metric,
        "statistic": asked.statistic,
        "verdict": str(answer.verdict),
    }


def _cells(answer: Answer) -> tuple[str, ...]:
    """Return an answer in words."""
    asked = answer.limit
    name = asked.text if answer.group == ALL else f"{asked.text} {answer.group}"
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
    elif answer.is_lacking:
        verdict += ": more have no value"
    return (
        printable(name),
        _amount(asked, answer.baseline),
        _amount(asked, answer.candidate),
        "" if answer.change is None else _change(asked, answer.change),
        interval,
        _without(answer),
        verdict,
    )


def _without(answer: Answer) -> str:
    """Return how many exchanges have no value, of both sides if of any."""
    told = []
    for role in ("baseline", "candidate"):
        count, failed, known = (
            getattr(answer, f"{name}_{role}") for name in ("without", "failed", "n")
        )
        text = f"{count:,} of {count + known:,}"
        told.append(text + f" ({failed:,} failed)" * bool(failed))
    has_any = answer.without_baseline or answer.without_candidate
    return " → ".join(told) * bool(has_any)


def _amount(asked: Limit, value: float | None) -> str:
    if value is None:
        return "-"
    if asked.is_time:
        return duration(round(value * 1e6))
    return f"{value:.2%}" if asked.is_share else f"{value:,.4g}"


def _change(asked: Limit, value: float) -> str:
    # Shares are compared in points, all else by its ratio; over 0 that is no number.
    if math.isinf(value):
        return "+∞"
    return f"{value * 100:+.2f} points" if asked.is_share else f"{value:+.1%}"


def headline(answers: Sequence[Answer]) -> str:
    """Return in a few words what came of a check."""
    failed = sum(answer.verdict is Verdict.FAIL for answer in answers)
    untold = sum(answer.verdict is Verdict.NOT_ENOUGH for answer in answers)
    text = f"{failed} of {counted(len(answers), 'limit')} exceeded"
    return text + f", {untold} cannot be told: not enough data" * bool(untold)


def in_markdown(answers: Sequence[Answer], sources: Sequence[tuple[str, int]]) -> str:
    """Return answers as Markdown, the worst of them first.

    Args:
        answers: at least one.
        sources: the baseline and the candidate: their names, and how many exchanges
            each has.
    """
    order = (Verdict.FAIL, Verdict.NOT_ENOUGH, Verdict.PASS)
    answers = sorted(answers, key=lambda answer: order.index(answer.verdict))
    lines = [
        f"### {_MARKS[answers[0].verdict]} {headline(answers)}",
        "",
        f"| {' | '.join(_NAMES[:-1])} | |",
        "|---" * len(_NAMES) + "|",
    ]
    for answer in answers:
        *cells, verdict = (cell.replace("|", "\\|") for cell in _cells(answer))
        lines.append(f"| {' | '.join(cells)} | {_MARKS[answer.verdict]} {verdict} |")
    told = [
        f"{role} `{printable(name)}`, {counted(count, 'exchange')}"
        for role, (name, count) in zip(("Baseline", "Candidate"), sources, strict=True)
    ]
    return "\n".join([*lines, "", f"{'. '.join(told)}. {sureness(answers)}", ""])


def sureness(answers: Sequence[Answer]) -> str:
    """Return in words how sure the intervals are."""
    if len(answers) <= TOGETHER_MAX:
        return "All intervals together hold with 95 %."
    return (
        f"With more than {TOGETHER_MAX} limits and groups at once, the intervals are"
        " too narrow to hold together with 95 %."
    )
