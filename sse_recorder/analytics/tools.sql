-- Which tools ran, how they ended and how long they took: one row a group and tool.
--
-- Runs in any DuckDB that has the views of a store.  One group, 'all', unless a
-- statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- The calls of an exchange count once it has ended.  The tool that took most time comes
-- first in its group.  The two kinds of time are never mixed: a wire bracket is in one
-- stream; a client turnaround ends with the client's next request, and has the tool, the
-- client round it and any queue in it; calls made side by side have one end.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas, in milliseconds; percentiles are exact, interpolated between neighbours:
--   calls: ok + error + unanswered + superseded
--   ok: the result came, in the same stream or in the client's next request
--   error: the result came, and says that the tool failed
--   unanswered: no result came before the exchange ended, nor in a later request
--   superseded: another call with the same id began before a result came
--   unmatched: results without an open call; they may have no name
--   p50 to max: of result_ns - called_ns of calls answered in their stream
--   total: sum of the same, so calls that ran side by side all count in full
--   client n, p50 to max: of client turnarounds, next request's t0 - called
WITH calls AS (
    SELECT
        "group",
        coalesce(tool_name, '(no name)') AS tool,
        tool_calls.status,
        CASE
            WHEN tool_calls.status IN ('ok', 'error') AND timing = 'wire_bracket'
            THEN duration_ns
        END AS ns,
        CASE WHEN timing = 'cross_request' THEN duration_ns END AS turnaround_ns
    FROM grouped JOIN tool_calls USING (exchange_id)
    WHERE coalesce(only_tool = coalesce(tool_name, '(no name)'), true)
),
measured AS (
    SELECT
        "group",
        tool,
        count(*) FILTER (status <> 'unmatched') AS calls,
        count(*) FILTER (status = 'ok') AS ok,
        count(*) FILTER (status = 'error') AS error,
        count(*) FILTER (status = 'unanswered') AS unanswered,
        count(*) FILTER (status = 'superseded') AS superseded,
        count(*) FILTER (status = 'unmatched') AS unmatched,
        quantile_cont(ns, [0.50, 0.90, 0.95, 0.99]) AS q,
        max(ns) AS max_ns,
        sum(ns) AS total_ns,
        count(turnaround_ns) AS client_n,
        quantile_cont(turnaround_ns, [0.50, 0.90, 0.95, 0.99]) AS client_q,
        max(turnaround_ns) AS client_max_ns,
        sum(turnaround_ns) AS client_total_ns
    FROM calls
    GROUP BY "group", tool
)
SELECT
    "group",
    tool AS tool_name,
    calls,
    ok,
    error,
    unanswered,
    superseded,
    unmatched,
    q[1] / 1e6 AS p50_ms,
    q[2] / 1e6 AS p90_ms,
    q[3] / 1e6 AS p95_ms,
    q[4] / 1e6 AS p99_ms,
    max_ns / 1e6 AS max_ms,
    total_ns / 1e6 AS total_ms,
    nullif(client_n, 0) AS client_n,
    client_q[1] / 1e6 AS client_p50_ms,
    client_q[2] / 1e6 AS client_p90_ms,
    client_q[3] / 1e6 AS client_p95_ms,
    client_q[4] / 1e6 AS client_p99_ms,
    client_max_ns / 1e6 AS client_max_ms
FROM measured
ORDER BY
    "group",
    coalesce(total_ns, 0) + coalesce(client_total_ns, 0) DESC,
    tool_name;
