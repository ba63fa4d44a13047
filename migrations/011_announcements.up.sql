-- URLs that are out.  Each is a job of kind check_upload, one for a key, which
-- is due when nobody can use the URL any more: it then completes what the
-- client has uploaded without telling.  args holds the announcement.

-- how far a stream was read: the entry's id

CREATE TABLE IF NOT EXISTS edge_cursors (
    name   text PRIMARY KEY,
    value  text NOT NULL
);


CREATE OR REPLACE FUNCTION edge_cursor(p_name text)
RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT value FROM edge_cursors WHERE name = p_name), '0');
$$;


-- Records what was read from a stream, together with how far.  Read again,
-- the same entries change nothing; a newer URL for a key takes the place of
-- the older one.  Returns how many are new.

CREATE OR REPLACE FUNCTION edge_announce(
    p_stream text, p_cursor text, p_entries jsonb, p_grace_seconds integer)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v      record;
    v_new  integer := 0;
BEGIN
    FOR v IN
        SELECT x.entry, x.entry ->> 'key' AS key,
               to_timestamp((x.entry ->> 'expires')::bigint)
               + make_interval(secs => p_grace_seconds) AS run_at
        FROM jsonb_array_elements(p_entries) AS x (entry)
    LOOP
        INSERT INTO edge_jobs AS j (kind, object_key, dedupe_key, run_at, args)
        VALUES ('check_upload', v.key, 'check_upload:' || v.key, v.run_at,
                v.entry)
        ON CONFLICT (dedupe_key) DO UPDATE
        SET state = 'queued', run_at = greatest(j.run_at, EXCLUDED.run_at),
            args = EXCLUDED.args, attempts = 0, retries = 0,
            claim = j.claim + 1, lease_until = NULL, worker = NULL,
            last_error = NULL, finished_at = NULL
        WHERE (j.args ->> 'issued')::bigint
              < (EXCLUDED.args ->> 'issued')::bigint;

        IF FOUND THEN
            v_new := v_new + 1;
        END IF;
    END LOOP;

    INSERT INTO edge_cursors AS c (name, value)
    VALUES (p_stream, p_cursor)
    ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value
    WHERE (split_part(c.value, '-', 1)::numeric,
           ('0' || split_part(c.value, '-', 2))::numeric)
          < (split_part(EXCLUDED.value, '-', 1)::numeric,
             ('0' || split_part(EXCLUDED.value, '-', 2))::numeric);

    RETURN v_new;
END
$$;


-- edge_complete_upload(), after which nobody needs to look any more

CREATE OR REPLACE FUNCTION edge_confirm_upload(
    p_user_id integer, p_activity_id bigint, p_key text, p_size bigint,
    p_etag text, p_checksum text, p_seen timestamptz,
    OUT outcome text, OUT activity_id integer, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    SELECT c.outcome, c.activity_id, c.job_id
    INTO outcome, activity_id, job_id
    FROM edge_complete_upload(p_user_id, p_activity_id, p_key, p_size, p_etag,
                              p_checksum, NULL, p_seen) c;

    IF outcome IN ('uploaded', 'repeated') THEN
        UPDATE edge_jobs j
        SET state = 'done', last_error = 'the client has completed it',
            finished_at = now()
        WHERE j.dedupe_key = 'check_upload:' || p_key AND j.state = 'queued';
    END IF;
END
$$;


-- The same for an upload whose client has not come back.  What was completed
-- or deleted after the URL was made stays as it is: outcome is then settled.

CREATE OR REPLACE FUNCTION edge_settle_upload(
    p_user_id integer, p_activity_id bigint, p_key text, p_size bigint,
    p_etag text, p_checksum text, p_seen timestamptz, p_issued timestamptz,
    OUT outcome text, OUT activity_id integer, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id  bigint := p_activity_id;
BEGIN
    IF p_activity_id > 2147483647 THEN
        SELECT e.activity_id INTO v_id
        FROM edge_uploads e
        WHERE e.user_id = p_user_id AND e.upload_id = p_activity_id;
    END IF;

    SELECT a.id INTO activity_id
    FROM activities a
    WHERE a.id = v_id AND a.user_id = p_user_id
      AND (a.fit_uploaded_at >= p_issued
           OR (a.fit_file_status = 'deleted' AND a.updated_at >= p_issued));

    IF FOUND THEN
        outcome := 'settled';
        RETURN;
    END IF;

    SELECT c.outcome, c.activity_id, c.job_id
    INTO outcome, activity_id, job_id
    FROM edge_complete_upload(p_user_id, p_activity_id, p_key, p_size, p_etag,
                              p_checksum, NULL, p_seen) c;
END
$$;
