-- Which tools ran, how they ended and how long they took: one row a group and tool.
--
-- Runs in any DuckDB that has the views exchanges and tool_calls.  One group, 'all',
-- unless a statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- The calls of an exchange count once it has ended.  The tool that took most time comes
-- first in its group.  The two kinds of time are never mixed: a wire bracket is in one
-- stream; a client turnaround ends with the client's next request, and has the tool, the
-- client round it and any queue in it; calls made side by side have one end.
--
-- By: dialect, model, path, tool, day
--
-- Formulas, in milliseconds; percentiles are exact, interpolated between neighbours:
--   calls: ok + error + unanswered + superseded
--   ok: the result came, in the same stream or in the client's next request
--   error: the result came, and says that the tool failed
--   unanswered: no result came before the exchange ended, nor in a later request
--   superseded: another call with the same id began before a result came
--   unmatched: results without an open call; they may have no name
--   p50, p95, p99, max: of result_ns - called_ns of calls answered in their stream
--   total: sum of the same, so calls that ran side by side all count in full
--   client n, p50, p95, max: of client turnarounds, next request's t0 - called
WITH calls AS (
    SELECT
        coalesce(tool_name, '(no name)') AS tool,
        tool_calls.status,
        CASE
            WHEN tool_calls.status IN ('ok', 'error') AND timing = 'wire_bracket'
            THEN duration_ns
        END AS ns,
        CASE WHEN timing = 'cross_request' THEN duration_ns END AS turnaround_ns,
        CASE getvariable('by')
            WHEN 'dialect' THEN coalesce(dialect, '(none)')
            WHEN 'model' THEN coalesce(model, '(none)')
            WHEN 'path' THEN path
            WHEN 'tool' THEN coalesce(tool_name, '(no name)')
            WHEN 'day' THEN strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%d')
            ELSE 'all'
        END AS "group"
    FROM tool_calls JOIN exchanges USING (exchange_id)
    WHERE outcome IS NOT NULL
)
SELECT
    "group",
    tool AS tool_name,
    count(*) FILTER (status <> 'unmatched') AS calls,
    count(*) FILTER (status = 'ok') AS ok,
    count(*) FILTER (status = 'error') AS error,
    count(*) FILTER (status = 'unanswered') AS unanswered,
    count(*) FILTER (status = 'superseded') AS superseded,
    count(*) FILTER (status = 'unmatched') AS unmatched,
    quantile_cont(ns, 0.50) / 1e6 AS p50_ms,
    quantile_cont(ns, 0.95) / 1e6 AS p95_ms,
    quantile_cont(ns, 0.99) / 1e6 AS p99_ms,
    max(ns) / 1e6 AS max_ms,
    sum(ns) / 1e6 AS total_ms,
    nullif(count(turnaround_ns), 0) AS client_n,
    quantile_cont(turnaround_ns, 0.50) / 1e6 AS client_p50_ms,
    quantile_cont(turnaround_ns, 0.95) / 1e6 AS client_p95_ms,
    max(turnaround_ns) / 1e6 AS client_max_ms
FROM calls
GROUP BY "group", tool
ORDER BY
    "group",
    coalesce(sum(ns), 0) + coalesce(sum(turnaround_ns), 0) DESC,
    tool_name;
