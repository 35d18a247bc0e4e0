-- What follows from the four tables and is asked for again and again, each worked out
-- in one place.  A store has these views; any DuckDB in which the tables are views or
-- tables has them, too, after it has read this file.
--
-- Times are nanoseconds since t0, as in the tables.

-- gaps: the time between frames with content, one row for each but an exchange's first.
--   exchange_id: the exchange
--   seq: the frame that ended it
--   kind: of that frame: text, reasoning, tool_call or tool_call_delta
--   begin_ns: last_ns of the frame with content before it
--   end_ns: last_ns of the frame that ended it
--   gap_ns: end_ns - begin_ns; 0 where one read brought both
CREATE OR REPLACE VIEW gaps AS
SELECT
    exchange_id,
    seq,
    kind,
    lag(last_ns) OVER in_order AS begin_ns,
    last_ns AS end_ns,
    last_ns - lag(last_ns) OVER in_order AS gap_ns
FROM frames
WHERE kind IN ('text', 'reasoning', 'tool_call', 'tool_call_delta')
WINDOW in_order AS (PARTITION BY exchange_id ORDER BY seq)
QUALIFY begin_ns IS NOT NULL;

-- tool_time: how long tools were at work, one row for each exchange whose stream has an
-- answered call.
--   exchange_id: the exchange
--   calls: calls that were answered in their stream
--   tool_sum_ns: sum of result_ns - called_ns
--   tool_union_ns: the same, but a moment at which several were open counts once
--   longest_tool: the name of the call that took longest
--   longest_tool_ns: how long that was
CREATE OR REPLACE VIEW tool_time AS
SELECT
    exchange_id,
    count(*) AS calls,
    sum(duration_ns)::BIGINT AS tool_sum_ns,
    sum(new_ns)::BIGINT AS tool_union_ns,
    arg_max(coalesce(tool_name, '(no name)'), duration_ns) AS longest_tool,
    max(duration_ns) AS longest_tool_ns
FROM (
    SELECT
        *,
        -- What a call adds to the union: the part after everything before it was over.
        greatest(0, result_ns - greatest(called_ns, max(result_ns) OVER earlier))
            AS new_ns
    FROM tool_calls
    WHERE timing = 'wire_bracket'
        AND status IN ('ok', 'error')
        AND duration_ns IS NOT NULL
    WINDOW earlier AS (
        PARTITION BY exchange_id
        ORDER BY called_ns, seq
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
)
GROUP BY exchange_id;

-- timings: where the time of an exchange went, one row for each that has ended.
--   exchange_id: the exchange
--   ttfb_ns: headers_ns - sent_ns, from the sent request to the response head
--   ttfe_ns: first_event_ns, from t0 to the first dispatched event
--   ttfc_ns: first_content_ns, from t0 to the first text, reasoning or tool call
--   ttfo_ns: from t0 to the first frame with text for the reader
--   content_ns: last_content_ns - first_content_ns
--   tool_union_ns: time in which a call that was answered in the stream was open
--   non_tool_ns: e2e_ns - tool_union_ns
--   close_ns: from the last frame that says that it is over to the end
--   e2e_ns: ended_ns, from t0 to the end
--   per_token_ns: content_ns / (output_tokens - 1), where usage was reported and
--     content came in more than one read
--   tokens_per_s: output_tokens / e2e_ns, where usage was reported
CREATE OR REPLACE VIEW timings AS
SELECT
    exchange_id,
    headers_ns - sent_ns AS ttfb_ns,
    first_event_ns AS ttfe_ns,
    first_content_ns AS ttfc_ns,
    ttfo_ns,
    last_content_ns - first_content_ns AS content_ns,
    tool_union_ns,
    ended_ns - coalesce(tool_union_ns, 0) AS non_tool_ns,
    ended_ns - over_ns AS close_ns,
    ended_ns AS e2e_ns,
    -- What came at once, such as a plain answer, says nothing of its tokens.
    nullif(last_content_ns - first_content_ns, 0)
        / nullif(greatest(output_tokens - 1, 0), 0) AS per_token_ns,
    output_tokens / nullif(ended_ns / 1e9, 0) AS tokens_per_s
FROM exchanges
LEFT JOIN tool_time USING (exchange_id)
LEFT JOIN (
    SELECT
        exchange_id,
        min(last_ns) FILTER (kind = 'text') AS ttfo_ns,
        max(last_ns) FILTER (kind = 'finish') AS over_ns
    FROM frames
    WHERE kind IN ('text', 'finish')
    GROUP BY exchange_id
) USING (exchange_id)
WHERE outcome IS NOT NULL;

-- stalls: silences of more than 2 s, or of the variable over_ns: no frame came that
-- says something.  Comments, keep-alives and status do not end one; the wait for the
-- first frame is one from t0, and the wait for the end of a stream that has not said
-- that it is over.
--   exchange_id: the exchange
--   seq: the frame that ended it; null where that was the end of the stream
--   begin_ns: last_ns of the frame before it; 0 for t0
--   end_ns: last_ns of the frame that ended it, or the end
--   stall_ns: end_ns - begin_ns
--   state: awaiting_first (no content yet), tool_running (a call was open, so it is no
--     fault of the model's), after_tool (a result was the last that came), generating
CREATE OR REPLACE VIEW stalls AS
WITH progress AS (
    SELECT exchange_id, seq, last_ns AS at_ns, kind
    FROM frames
    WHERE type = 'event' AND kind NOT IN ('connected', 'status', 'keepalive')
    UNION ALL
    -- What is no stream at all, such as a plain answer, has no silence in it.
    SELECT exchange_id, NULL, ended_ns, 'end'
    FROM exchanges
    WHERE ended_ns IS NOT NULL
        AND finish_reason IS NULL
        AND (first_event_ns IS NOT NULL OR outcome <> 'complete')
        -- It only listens to what a server may have to say.
        AND NOT (method = 'GET' AND coalesce(dialect = 'mcp', false))
        AND NOT EXISTS (
            FROM frames
            WHERE frames.exchange_id = exchanges.exchange_id AND type = 'body'
        )
),
silences AS (
    SELECT
        exchange_id,
        seq,
        kind,
        coalesce(lag(at_ns) OVER in_order, 0) AS begin_ns,
        at_ns AS end_ns,
        lag(kind) OVER in_order AS kind_before,
        bool_or(kind IN ('finish', 'error')) OVER (
            in_order ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS is_over
    FROM progress
    WINDOW in_order AS (PARTITION BY exchange_id ORDER BY at_ns, seq NULLS LAST)
    QUALIFY end_ns - begin_ns > coalesce(getvariable('over_ns'), 2_000_000_000)
        AND NOT (kind = 'end' AND coalesce(is_over, false))
)
SELECT
    exchange_id,
    seq,
    begin_ns,
    end_ns,
    end_ns - begin_ns AS stall_ns,
    CASE
        WHEN list_bool_or(
            list_transform(
                calls,
                -- A stream that ended as it should leaves a call to its client.
                lambda call: call.called_ns <= begin_ns
                    AND coalesce(call.result_ns >= end_ns, finish_reason IS NULL)
            )
        ) THEN 'tool_running'
        WHEN begin_ns < coalesce(first_content_ns, first_event_ns, ended_ns)
            OR kind_before IS NULL
        THEN 'awaiting_first'
        WHEN kind_before = 'tool_result' THEN 'after_tool'
        ELSE 'generating'
    END AS state
FROM silences
JOIN exchanges USING (exchange_id)
-- As lists: with a subquery for each silence, all exchanges would be read for one.
LEFT JOIN (
    SELECT exchange_id, list({called_ns: called_ns, result_ns: result_ns}) AS calls
    FROM tool_calls
    WHERE timing = 'wire_bracket'
    GROUP BY exchange_id
) USING (exchange_id);

-- grouped: exchanges that have ended, each in the group that a report has it in.
--   group: by the variable by: dialect, model, path, host, session, tool, day or hour
--     (of UTC); 'all' without it.  By tool, an exchange is in the group of every tool
--     that it called.
--   only_tool: by tool, whose calls belong to the group
CREATE OR REPLACE VIEW grouped AS
SELECT
    *,
    CASE getvariable('by')
        WHEN 'dialect' THEN coalesce(dialect, '(none)')
        WHEN 'model' THEN coalesce(model, '(none)')
        WHEN 'path' THEN path
        WHEN 'host' THEN regexp_extract(url, '^[^:]*://([^/?#]*)', 1)
        WHEN 'session' THEN coalesce(session_id, '(none)')
        WHEN 'tool' THEN coalesce(only_tool, '(none)')
        WHEN 'day' THEN strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%d')
        WHEN 'hour' THEN strftime(started_at AT TIME ZONE 'UTC', '%Y-%m-%d %H:00')
        ELSE 'all'
    END AS "group"
FROM exchanges
LEFT JOIN (
    SELECT DISTINCT exchange_id, coalesce(tool_name, '(no name)') AS only_tool
    FROM tool_calls
    WHERE getvariable('by') = 'tool'
) USING (exchange_id)
WHERE outcome IS NOT NULL;
