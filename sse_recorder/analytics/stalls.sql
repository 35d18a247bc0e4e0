-- When nothing came that says something: one row a group and state.
--
-- Runs in any DuckDB that has the views of a store.  A stall is a silence of more than
-- 2 s, or of as many nanoseconds as:  SET VARIABLE over_ns = 5_000_000_000;
-- Comments, keep-alives and status end none.  One group, 'all', unless a statement
-- before it says otherwise:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas, in milliseconds; percentiles are exact, interpolated between neighbours:
--   awaiting_first: from t0, or from a frame before the first content
--   generating: between frames with content, or from the last of them to the end
--   after_tool: from a tool's result to what follows
--   tool_running: a tool was open meanwhile: its time, and no stall of the model's
--   n, major: silences of more than 2 s, or of --over; those of more than 30 s
--   exchanges, share: those that have one; their share of the group's, in %
--   p50 to max, total: of the silences; their sum
--   worst: the exchange that has the longest
WITH silences AS (
    SELECT "group", exchange_id, state, stall_ns
    FROM grouped JOIN stalls USING (exchange_id)
),
sizes AS (
    SELECT "group", count(*) AS size FROM grouped GROUP BY "group"
),
measured AS (
    SELECT
        "group",
        state,
        count(*) AS n,
        count(*) FILTER (stall_ns > 30_000_000_000) AS major,
        count(DISTINCT exchange_id) AS exchanges,
        quantile_cont(stall_ns, [0.50, 0.90, 0.95, 0.99]) AS q,
        max(stall_ns) AS longest_ns,
        sum(stall_ns) AS total_ns,
        arg_max(exchange_id, stall_ns) AS worst
    FROM silences
    GROUP BY "group", state
)
SELECT
    "group",
    state,
    n,
    major,
    exchanges,
    100 * exchanges / size AS share_pct,
    q[1] / 1e6 AS p50_ms,
    q[2] / 1e6 AS p90_ms,
    q[3] / 1e6 AS p95_ms,
    q[4] / 1e6 AS p99_ms,
    longest_ns / 1e6 AS max_ms,
    total_ns / 1e6 AS total_ms,
    worst
FROM measured JOIN sizes USING ("group")
ORDER BY
    "group",
    list_position(
        ['awaiting_first', 'generating', 'after_tool', 'tool_running'], state
    );
