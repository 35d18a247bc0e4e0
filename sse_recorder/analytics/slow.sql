-- The exchanges worth looking at: those that took longest, and why.
--
-- Runs in any DuckDB that has the views of a store.  Of each group those that took
-- longer than 95 in 100, but 20 at most, or as many as:  SET VARIABLE "limit" = 50;
-- One group, 'all', unless a statement before it says otherwise, which is worth it where
-- exchanges differ in what they do:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas, in milliseconds; what is usual is the median of the group:
--   e2e, over: ended_ns, from t0 to the end; how much that is over what is usual
--   reason: the part of it that is furthest over what is usual:
--   first content: from t0 to the first content, or to the end if there was none
--   tool NAME: time in which a tool was open; NAME took longest
--   STATE stall: the rest, if a stall is more than half of what it is over
--   streaming: the rest, that is from the first content on while no tool was open
--   close: from the frame that says that it is over to the end
--   took, usual: of that part, in this exchange; the group's median
--   n: exchanges of the group; here are those that took longer than 95 in 100
WITH parts AS (
    SELECT
        "group",
        exchange_id,
        started_at,
        path,
        e2e_ns,
        coalesce(close_ns, 0) AS closing_ns,
        coalesce(ttfc_ns, e2e_ns - closing_ns) AS first_ns,
        coalesce(timings.tool_union_ns, 0) AS tools_ns,
        greatest(0, e2e_ns - closing_ns - first_ns - tools_ns) AS streaming_ns,
        coalesce(longest_tool, '') AS longest_tool
    FROM grouped
    JOIN timings USING (exchange_id)
    LEFT JOIN tool_time USING (exchange_id)
),
usual AS (
    SELECT
        "group",
        count(*) AS n,
        quantile_cont(e2e_ns, 0.95) AS p95_ns,
        median(e2e_ns) AS usual_e2e_ns,
        [median(first_ns), median(tools_ns), median(streaming_ns), median(closing_ns)]
            AS usual_ns
    FROM parts
    GROUP BY "group"
),
chosen AS (
    SELECT
        *,
        [first_ns, tools_ns, streaming_ns, closing_ns] AS part_ns,
        list_transform(list_zip(part_ns, usual_ns), lambda pair: pair[1] - pair[2])
            AS over_ns,
        list_position(over_ns, list_max(over_ns)) AS part
    FROM parts JOIN usual USING ("group")
    WHERE e2e_ns >= p95_ns AND e2e_ns > usual_e2e_ns
    QUALIFY row_number() OVER (
        PARTITION BY "group" ORDER BY e2e_ns DESC, exchange_id
    ) <= coalesce(getvariable('limit'), 20)
),
longest_stall AS (
    SELECT exchange_id, max(stall_ns) AS stall_ns, arg_max(state, stall_ns) AS state
    FROM stalls
    WHERE state NOT IN ('awaiting_first', 'tool_running')
        AND exchange_id IN (SELECT exchange_id FROM chosen)
    GROUP BY exchange_id
)
SELECT
    "group",
    exchange_id,
    path,
    started_at,
    e2e_ns / 1e6 AS e2e_ms,
    (e2e_ns - usual_e2e_ns) / 1e6 AS over_ms,
    CASE part
        WHEN 1 THEN 'first content'
        WHEN 2 THEN 'tool ' || longest_tool
        WHEN 4 THEN 'close'
        ELSE if(stall_ns > over_ns[3] / 2, state || ' stall', 'streaming')
    END AS reason,
    part_ns[part] / 1e6 AS took_ms,
    usual_ns[part] / 1e6 AS usual_ms,
    n
FROM chosen LEFT JOIN longest_stall USING (exchange_id)
ORDER BY "group", over_ms DESC, exchange_id;
