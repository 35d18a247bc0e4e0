-- Where the time of exchanges went: one row a group and measure.
--
-- Runs in any DuckDB that has the views exchanges, frames and tool_calls.  One group,
-- 'all', unless a statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended; measures that do not apply to it do not count.
--
-- By: dialect, model, path, day
--
-- Formulas, in milliseconds; percentiles are exact, interpolated between neighbours:
--   ttfb: headers_ns - sent_ns, from the sent request to the response head
--   ttfe: first_event_ns, from t0 to the first dispatched event
--   ttfc: first_content_ns, from t0 to the first text, reasoning or tool call
--   gap: last_ns - last_ns of the content frame before it in the exchange
--   tool: result_ns - called_ns of each call answered in its stream (ok, error)
--   tool_union: time of an exchange in which at least one such call was open
--   non_tool: e2e - tool_union, which is 0 where there was no such call
--   e2e: ended_ns, from t0 to the end
WITH ended AS (
    SELECT
        *,
        CASE getvariable('by')
            WHEN 'dialect' THEN coalesce(dialect, '(none)')
            WHEN 'model' THEN coalesce(model, '(none)')
            WHEN 'path' THEN path
            WHEN 'day' THEN strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%d')
            ELSE 'all'
        END AS "group"
    FROM exchanges
    WHERE outcome IS NOT NULL
),
content AS (
    SELECT
        exchange_id,
        last_ns - lag(last_ns) OVER (PARTITION BY exchange_id ORDER BY seq) AS gap_ns
    FROM frames
    WHERE kind IN ('text', 'reasoning', 'tool_call', 'tool_call_delta')
),
answered AS (
    SELECT
        exchange_id,
        duration_ns,
        -- What a call adds to the union: the part after everything before it was over.
        greatest(0, result_ns - greatest(called_ns, max(result_ns) OVER before))
            AS new_ns
    FROM tool_calls
    WHERE timing = 'wire_bracket'
        AND status IN ('ok', 'error')
        AND duration_ns IS NOT NULL
    WINDOW before AS (
        PARTITION BY exchange_id
        ORDER BY called_ns, seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
unions AS (
    SELECT exchange_id, sum(new_ns)::BIGINT AS union_ns
    FROM answered
    GROUP BY exchange_id
),
samples AS (
    SELECT "group", 'ttfb' AS measure, headers_ns - sent_ns AS ns FROM ended
    UNION ALL
    SELECT "group", 'ttfe', first_event_ns FROM ended
    UNION ALL
    SELECT "group", 'ttfc', first_content_ns FROM ended
    UNION ALL
    SELECT "group", 'gap', gap_ns FROM ended LEFT JOIN content USING (exchange_id)
    UNION ALL
    SELECT "group", 'tool', duration_ns
    FROM ended LEFT JOIN answered USING (exchange_id)
    UNION ALL
    SELECT "group", 'tool_union', union_ns
    FROM ended LEFT JOIN unions USING (exchange_id)
    UNION ALL
    SELECT "group", 'non_tool', ended_ns - coalesce(union_ns, 0)
    FROM ended LEFT JOIN unions USING (exchange_id)
    UNION ALL
    SELECT "group", 'e2e', ended_ns FROM ended
)
SELECT
    "group",
    measure,
    count(ns) AS n,
    quantile_cont(ns, 0.50) / 1e6 AS p50_ms,
    quantile_cont(ns, 0.90) / 1e6 AS p90_ms,
    quantile_cont(ns, 0.95) / 1e6 AS p95_ms,
    quantile_cont(ns, 0.99) / 1e6 AS p99_ms,
    max(ns) / 1e6 AS max_ms
FROM samples
GROUP BY "group", measure
ORDER BY
    "group",
    list_position(
        ['ttfb', 'ttfe', 'ttfc', 'gap', 'tool', 'tool_union', 'non_tool', 'e2e'],
        measure
    );
