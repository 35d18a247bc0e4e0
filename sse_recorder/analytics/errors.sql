-- What went wrong: one row a group and problem, the most frequent first.
--
-- Runs in any DuckDB that has the views of a store.  One group, 'all', unless a
-- statement before it says otherwise:  SET VARIABLE "by" = 'model';
-- An exchange counts once it has ended, and may have several problems.
--
-- By: dialect, model, path, host, session, tool, day, hour
--
-- Formulas:
--   status: the answer's status was 400 or more; detail is the status
--   outcome: it did not end as its framing says; detail is the outcome and why
--   stream error: what was said is an error; detail is its code, type or message
--   tool: a call that failed, or that has no result, or a result without a call
--   cut short: by the finish reason in detail
--   no end: a stream whose dialect says when it is over ended without saying so
--   anomaly: a frame that breaks the rules of event streams, as detail says
--   n, exchanges: how often; in how many exchanges
--   share: of the group's exchanges, in %
--   last: when the latest of them began; latest in: its id
WITH problems AS (
    SELECT
        exchange_id,
        'status' AS problem,
        status::VARCHAR AS detail,
        NULL::VARCHAR AS tool
    FROM exchanges
    WHERE status >= 400
    UNION ALL
    SELECT
        exchange_id,
        'outcome',
        concat_ws(': ', outcome, nullif(nullif(why, ''), outcome)),
        NULL
    FROM (
        -- Without what differs from one to the next.
        SELECT *, regexp_replace(split_part(error, ':', 1), '[0-9]+', '…', 'g') AS why
        FROM exchanges
        WHERE outcome <> 'complete'
    )
    UNION ALL
    SELECT
        exchange_id,
        'stream error',
        coalesce(
            list_filter(
                list_transform(
                    json_value(
                        said,
                        [
                            '$.error.code', '$.error.type', '$.error.status',
                            '$.error.message', '$.error', '$.errorText',
                            '$.response.error.code', '$.response.error.message',
                            '$.code', '$.message'
                        ]
                    ),
                    lambda found: nullif(found ->> '$', '')
                ),
                lambda found: found IS NOT NULL
            )[1],
            nullif(left(text, 60), ''),
            '(nothing)'
        ),
        NULL
    FROM (
        -- A body is no data, and may be a list of answers.
        SELECT
            exchange_id,
            coalesce(data, TRY(decode(raw))) AS text,
            TRY_CAST(text AS JSON) AS json,
            coalesce(json -> '$[0]', json) AS said
        FROM frames
        WHERE kind = 'error'
    )
    UNION ALL
    SELECT
        exchange_id,
        'tool',
        concat_ws(
            ': ',
            concat_ws(
                ' ',
                if(tool_calls.status = 'error', 'failed', tool_calls.status),
                tool_name
            ),
            CASE
                WHEN tool_calls.status = 'superseded' THEN 'called again with its id'
                WHEN tool_calls.status = 'unmatched' THEN
                    if(timing = 'cross_request', 'in no recorded answer', 'no open call')
                WHEN tool_calls.status <> 'unanswered' THEN NULL
                WHEN called_ns IS NULL THEN 'its arguments never came whole'
                WHEN outcome <> 'complete' THEN 'the stream ended first'
                ELSE 'no result, in it or in a later request'
            END
        ),
        coalesce(tool_name, '(no name)')
    FROM tool_calls JOIN exchanges USING (exchange_id)
    WHERE tool_calls.status <> 'ok'
    UNION ALL
    SELECT exchange_id, 'cut short', finish_reason, NULL
    FROM exchanges
    WHERE lower(finish_reason) IN (
        'length', 'max_tokens', 'max_output_tokens', 'model_context_window_exceeded',
        'content_filter', 'content-filter', 'safety', 'recitation', 'blocklist',
        'prohibited_content', 'spii', 'malformed_function_call', 'refusal', 'error',
        'incomplete', 'failed', 'cancelled'
    )
    UNION ALL
    SELECT exchange_id, 'no end', dialect, NULL
    FROM exchanges
    WHERE outcome = 'complete'
        AND status < 400
        AND first_event_ns IS NOT NULL
        AND finish_reason IS NULL
        AND dialect IN (
            'ag_ui', 'anthropic', 'gemini', 'gemini_interactions', 'meibel',
            'openai_chat', 'openai_responses', 'vercel_ui'
        )
        AND exchange_id NOT IN (
            SELECT exchange_id FROM frames WHERE kind IN ('finish', 'error')
        )
    UNION ALL
    SELECT exchange_id, 'anomaly', anomaly, NULL
    FROM frames
    WHERE anomaly IS NOT NULL
),
sizes AS (
    SELECT "group", count(*) AS size FROM grouped GROUP BY "group"
)
SELECT
    "group",
    problem,
    detail,
    count(*) AS n,
    count(DISTINCT exchange_id) AS exchanges,
    100 * count(DISTINCT exchange_id) / any_value(size) AS share_pct,
    max(started_at) AS "last",
    arg_max(exchange_id, started_at) AS latest_in
FROM grouped JOIN problems USING (exchange_id) JOIN sizes USING ("group")
-- By tool, a failed call is in the group of its own tool alone.
WHERE coalesce(only_tool = tool, true)
GROUP BY "group", problem, detail
ORDER BY "group", exchanges DESC, n DESC, problem, detail;
