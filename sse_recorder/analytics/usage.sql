-- What was used, and how fast it came: one row a group and measure.
--
-- Runs in any DuckDB that has the views of a store.  One group, 'all', unless a
-- statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended.  Tokens are those that the API reported, never
-- an estimate; an exchange for which it reported none has no tokens to count.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas; percentiles are of exchanges, exact, interpolated between neighbours:
--   input_tokens: as reported, those from a cache among them
--   output_tokens: as reported, reasoning among them
--   tokens_per_s: output_tokens / e2e
--   frames, bytes: of the response, as recorded
--   bytes_per_s: bytes / (e2e - headers), from the response's head to its end
--   tool_calls: calls that a response has, and results in it without a call
--   seconds: e2e
--   total: the sum; of a rate, sum / seconds in which one such exchange was open
WITH samples AS (
    SELECT
        "group",
        measure,
        place,
        value,
        amount,
        epoch_ns(started_at) AS begin_ns,
        epoch_ns(started_at) + ended_ns AS end_ns
    FROM grouped JOIN timings USING (exchange_id), LATERAL (
        VALUES
            (1, 'input_tokens', input_tokens::DOUBLE, NULL),
            (2, 'output_tokens', output_tokens, NULL),
            (3, 'tokens_per_s', tokens_per_s, output_tokens),
            (4, 'frames', frame_count, NULL),
            (5, 'bytes', response_size, NULL),
            (
                6,
                'bytes_per_s',
                response_size / nullif((ended_ns - headers_ns) / 1e9, 0),
                response_size
            ),
            (7, 'tool_calls', tool_call_count, NULL),
            (8, 'seconds', ended_ns / 1e9, NULL)
    ) AS measured(place, measure, value, amount)
),
open_time AS (
    SELECT
        *,
        -- What an exchange adds: the part after everything before it was over.
        greatest(0, end_ns - greatest(begin_ns, max(end_ns) OVER earlier)) AS new_ns
    FROM samples
    WHERE amount IS NOT NULL AND value IS NOT NULL
    WINDOW earlier AS (
        PARTITION BY "group", measure
        ORDER BY begin_ns
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
rates AS (
    SELECT "group", measure, sum(amount) / nullif(sum(new_ns) / 1e9, 0) AS rate
    FROM open_time
    GROUP BY "group", measure
),
measured AS (
    SELECT
        "group",
        measure,
        any_value(place) AS place,
        count(value) AS n,
        CASE WHEN measure NOT LIKE '%_per_s' THEN sum(value) END AS total,
        quantile_cont(value, [0.50, 0.90, 0.95, 0.99]) AS q,
        max(value) AS greatest
    FROM samples
    GROUP BY "group", measure
)
SELECT
    "group",
    measure,
    n,
    coalesce(total, rate) AS total,
    q[1] AS p50,
    q[2] AS p90,
    q[3] AS p95,
    q[4] AS p99,
    greatest AS max
FROM measured LEFT JOIN rates USING ("group", measure)
ORDER BY "group", place;
