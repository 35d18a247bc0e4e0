-- Where the time of exchanges went: one row a group and measure.
--
-- Runs in any DuckDB that has the views of a store.  One group, 'all', unless a
-- statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended; measures that do not apply to it do not count.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas, in milliseconds; percentiles are exact, interpolated between neighbours:
--   ttfb: headers_ns - sent_ns, from the sent request to the response head
--   ttfe: first_event_ns, from t0 to the first dispatched event
--   ttfc: first_content_ns, from t0 to the first text, reasoning or tool call
--   ttfo: from t0 to the first frame with text for the reader
--   gap: last_ns - last_ns of the content frame before it in the exchange
--   read_gap: the same between reads: without the gaps of 0 within one
--   per_token: (last_content_ns - first_content_ns, if not 0) / (output_tokens - 1)
--   tool: result_ns - called_ns of each call answered in its stream (ok, error)
--   tool_union: time of an exchange in which at least one such call was open
--   non_tool: e2e - tool_union, which is 0 where there was no such call
--   close: ended_ns - last_ns of the last frame that says that it is over
--   e2e: ended_ns, from t0 to the end
WITH per_exchange AS (
    SELECT "group", timings.* FROM grouped JOIN timings USING (exchange_id)
),
between_frames AS (
    SELECT "group", gap_ns FROM grouped JOIN gaps USING (exchange_id)
),
samples AS (
    SELECT "group", 'ttfb' AS measure, ttfb_ns AS ns FROM per_exchange
    UNION ALL SELECT "group", 'ttfe', ttfe_ns FROM per_exchange
    UNION ALL SELECT "group", 'ttfc', ttfc_ns FROM per_exchange
    UNION ALL SELECT "group", 'ttfo', ttfo_ns FROM per_exchange
    UNION ALL SELECT "group", 'gap', gap_ns FROM between_frames
    UNION ALL SELECT "group", 'read_gap', gap_ns FROM between_frames WHERE gap_ns > 0
    UNION ALL SELECT "group", 'per_token', per_token_ns FROM per_exchange
    UNION ALL
    SELECT "group", 'tool', duration_ns
    FROM grouped JOIN tool_calls USING (exchange_id)
    WHERE timing = 'wire_bracket'
        AND tool_calls.status IN ('ok', 'error')
        AND coalesce(only_tool = coalesce(tool_name, '(no name)'), true)
    UNION ALL SELECT "group", 'tool_union', tool_union_ns FROM per_exchange
    UNION ALL SELECT "group", 'non_tool', non_tool_ns FROM per_exchange
    UNION ALL SELECT "group", 'close', close_ns FROM per_exchange
    UNION ALL SELECT "group", 'e2e', e2e_ns FROM per_exchange
),
listed AS (
    SELECT "group", measure, place
    FROM (SELECT DISTINCT "group" FROM grouped),
        unnest([
            'ttfb', 'ttfe', 'ttfc', 'ttfo', 'gap', 'read_gap', 'per_token', 'tool',
            'tool_union', 'non_tool', 'close', 'e2e'
        ]) WITH ORDINALITY AS measures(measure, place)
),
measured AS (
    SELECT
        "group",
        measure,
        any_value(place) AS place,
        count(ns) AS n,
        quantile_cont(ns, [0.50, 0.90, 0.95, 0.99]) AS q,
        max(ns) AS longest_ns
    FROM listed LEFT JOIN samples USING ("group", measure)
    GROUP BY "group", measure
)
SELECT
    "group",
    measure,
    n,
    q[1] / 1e6 AS p50_ms,
    q[2] / 1e6 AS p90_ms,
    q[3] / 1e6 AS p95_ms,
    q[4] / 1e6 AS p99_ms,
    longest_ns / 1e6 AS max_ms
FROM measured
ORDER BY "group", place;
