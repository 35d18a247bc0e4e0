"""Answers of `check` as they are shown."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sse_recorder.analytics.compare import TOGETHER_MAX, Answer, Verdict
from sse_recorder.analytics.limits import limit
from sse_recorder.cli.answers import headline, in_markdown, print_answers, sureness

ANSWER = Answer(
    limit=limit("e2e_p50=+10%"),
    group="all",
    baseline=100.0,
    candidate=105.0,
    change=0.05,
    low=0.01,
    high=0.09,
    n_baseline=598,
    n_candidate=500,
    without_baseline=2,
    without_candidate=100,
    failed_baseline=0,
    failed_candidate=40,
    needed=30,
    is_lacking=False,
    verdict=Verdict.PASS,
)
LACKING = replace(ANSWER, is_lacking=True, verdict=Verdict.FAIL)
FEW = replace(ANSWER, needed=900, verdict=Verdict.NOT_ENOUGH)
WHOLE = replace(ANSWER, without_baseline=0, without_candidate=0, failed_candidate=0)


def table(*answers: Answer) -> str:
    """Return the lines of a summary that are about answers."""
    text = in_markdown(answers, [("a", 600), ("b", 1)])
    return "\n".join(text.splitlines()[4:-2])


def test_a_row_tells_how_many_exchanges_have_no_value() -> None:
    """And how many of them failed; nothing where all of them have one."""
    assert "| 2 of 600 → 100 of 600 (40 failed) | ✅ pass |" in table(ANSWER)
    assert "|  | ✅ pass |" in table(WHOLE)


def test_more_than_nothing_is_no_percentage() -> None:
    """A baseline of 0 is beside it."""
    asked = limit("calls_p50=+10%")
    none = replace(WHOLE, limit=asked, baseline=0.0, candidate=1.0, change=math.inf)
    text = table(replace(none, low=0.5, high=math.inf))
    assert "| calls_p50=+10% | 0 | 1 | +∞ | +50.0% … +∞ |" in text


def test_a_verdict_says_why() -> None:
    """What is too little, and what fails although its numbers are good."""
    assert table(LACKING).endswith("| ❌ fail: more have no value |")
    assert table(FEW).endswith("| ⚠️ not enough data: 500 of 900 needed |")
    assert table(replace(FEW, limit=limit("e2e_p50=1s"))).endswith(
        "500 of 900 needed |"
    )


def test_a_summary_counts_the_exchanges_that_were_read() -> None:
    """Whether they have a value or not."""
    text = in_markdown([ANSWER], [("a|b", 600), ("b", 1)])
    assert "Baseline `a|b`, 600 exchanges. Candidate `b`, 1 exchange. All" in text


def test_more_intervals_than_there_are_draws_for_do_not_hold_together() -> None:
    """It is said, since nobody would expect it."""
    assert sureness([ANSWER] * TOGETHER_MAX).startswith("All intervals together hold")
    assert "too narrow to hold together" in sureness([ANSWER] * (TOGETHER_MAX + 1))


def test_the_headline_counts_what_is_exceeded_and_what_is_not_told() -> None:
    """In a few words."""
    assert headline([ANSWER, LACKING]) == "1 of 2 limits exceeded"
    assert headline([FEW]) == (
        "0 of 1 limit exceeded, 1 cannot be told: not enough data"
    )


def test_programs_learn_all_that_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """Under the names of the answer."""
    print_answers([LACKING], "jsonl")
    row = json.loads(capsys.readouterr().out)
    assert row["limit"] == "e2e_p50=+10%"
    assert (row["without_candidate"], row["failed_candidate"]) == (100, 40)
    assert (row["is_lacking"], row["verdict"]) == (True, "fail")
