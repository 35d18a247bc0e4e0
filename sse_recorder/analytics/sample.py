"""What is compared of the exchanges of a store: their numbers, and samples of them.

A sample has the values of one metric, exchange by exchange, because those of one are
not independent of each other.  What has none is counted, too: an exchange that is an
error has values of the shares alone (a refusal is soon over, and a stream that broke
says little), and one that went well may have no value either, such as no content.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sse_recorder.analytics.limits import Limit
from sse_recorder.store.store import Store

GROUPINGS: Final = ("dialect", "model", "path", "tool")
ALL: Final = "all"

# No exchange has to have more than one content event, or to call a tool: what has no
# value of these lacks nothing.
_OPTIONAL: Final = ("gap", "tool", "tool_errors")

_GAPS: Final = """
    SELECT exchange_id, list(ms) AS gaps FROM (
        SELECT
            exchange_id,
            (last_ns - lag(last_ns) OVER (PARTITION BY exchange_id ORDER BY seq)) / 1e6
                AS ms
        FROM frames
        WHERE kind IN ('text', 'reasoning', 'tool_call', 'tool_call_delta')
    ) WHERE ms IS NOT NULL GROUP BY exchange_id
"""
_NO_GAPS: Final = "SELECT NULL::VARCHAR AS exchange_id, NULL::DOUBLE[] AS gaps"
_NUMBERS: Final = """
WITH gap AS ({gaps}),
tool AS (
    SELECT exchange_id, list({{
        'name': coalesce(tool_name, '(no name)'),
        'ms': CASE
            WHEN timing = 'wire_bracket' AND status IN ('ok', 'error')
            THEN duration_ns / 1e6
        END,
        'failed': CASE WHEN status IN ('ok', 'error') THEN status = 'error' END
    }}) AS tools
    FROM tool_calls
    WHERE status <> 'unmatched'
    GROUP BY exchange_id
)
SELECT
    coalesce(dialect, '(none)') AS dialect,
    coalesce(model, '(none)') AS model,
    path,
    (headers_ns - sent_ns) / 1e6 AS ttfb,
    first_event_ns / 1e6 AS ttfe,
    first_content_ns / 1e6 AS ttfc,
    ended_ns / 1e6 AS e2e,
    input_tokens,
    output_tokens,
    outcome <> 'complete' OR coalesce(status >= 400, false) AS is_error,
    coalesce(gaps, []) AS gaps,
    coalesce(tools, []) AS tools
FROM exchanges
LEFT JOIN gap USING (exchange_id)
LEFT JOIN tool USING (exchange_id)
WHERE outcome IS NOT NULL AND ({where})
ORDER BY started_at, exchange_id
"""

Row = Mapping[str, Any]


def numbers(store: Store, *, where: str = "true", with_gaps: bool = True) -> list[Row]:
    """Return what is compared of each exchange of a store, by one query.

    Args:
        store: what to look at.
        where: an SQL condition on `exchanges`; see `analytics.condition`.
        with_gaps: whether to read the frames, of which there are many.
    """
    gaps = _GAPS if with_gaps else _NO_GAPS
    rows: list[Row] = store.sql(_NUMBERS.format(gaps=gaps, where=where)).to_pylist()
    return rows


def grouped(rows: Iterable[Row], by: str | None) -> dict[str, list[Row]]:
    """Return exchanges by group; those of a tool have the calls of that tool alone."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if by == "tool":
            for name in {tool["name"] for tool in row["tools"]}:
                own = [tool for tool in row["tools"] if tool["name"] == name]
                groups[name].append({**row, "tools": own})
        else:
            groups[ALL if by is None else row[by]].append(row)
    return groups


def _values(row: Row, metric: str) -> list[float]:
    """Return the values that an exchange has of a metric; 0 and 1 of a share."""
    match metric:
        case "gap":
            return list(row["gaps"])
        case "tool":
            return [tool["ms"] for tool in row["tools"] if tool["ms"] is not None]
        case "tool_errors":
            told = (tool["failed"] for tool in row["tools"])
            return [float(failed) for failed in told if failed is not None]
        case "errors":
            return [float(row["is_error"])]
        case "calls":
            return [len(row["tools"])]
        case _:
            # A response that begins before its request is all sent is not sooner than
            # at once: a ratio of negative times would mean nothing.
            return [] if row[metric] is None else [max(row[metric], 0)]


class Sample(NamedTuple):
    """The values that the exchanges of a store have of a metric."""

    values: list[list[float]]
    """Of each exchange that has any."""
    exchanges: int
    """All of them."""
    failed: int
    """Those that have none because they are errors."""
    lacking: int
    """Those that should have one and have none, failed or not."""


def sample(limit: Limit, rows: Iterable[Row]) -> Sample:
    """Return what a limit is held against."""
    values: list[list[float]] = []
    exchanges = failed = lacking = 0
    for row in rows:
        exchanges += 1
        is_left_out = row["is_error"] and not limit.is_share
        found = [] if is_left_out else _values(row, limit.metric)
        if found:
            values.append(found)
        failed += is_left_out
        lacking += is_left_out or (not found and limit.metric not in _OPTIONAL)
    return Sample(values, exchanges, failed, lacking)
