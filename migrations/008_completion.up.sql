-- Uploads: find what a request is about, complete it, take it away again.

-- The person and the activity of a request.  p_activity_id is what the client
-- sent: the number of a row, or that of an upload whose row is not made yet.
--
-- outcome is one of edge_person()'s where there is no person, else
--   activity     theirs; the other columns tell about it, file_key is NULL if
--                it has no file in the store
--   provisional  theirs by right of the prefix only: no row yet
--   no_activity  there is none of that number, or it is somebody else's  (404)
--
-- seen is for edge_complete_upload(), if the caller looks into the store now.

CREATE OR REPLACE FUNCTION edge_activity(
    p_clerk_id text, p_user_id bigint, p_activity_id bigint,
    OUT outcome text, OUT user_id integer, OUT clerk_user_id text,
    OUT activity_id integer, OUT file_key text, OUT file_status text,
    OUT file_size bigint, OUT file_etag text, OUT file_checksum text,
    OUT seen timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id  bigint := p_activity_id;
BEGIN
    seen := now();

    SELECT p.outcome, p.user_id, p.clerk_user_id
    INTO outcome, user_id, clerk_user_id
    FROM edge_person(p_clerk_id, p_user_id) p;

    IF user_id IS NULL THEN
        RETURN;
    END IF;

    IF p_activity_id > 2147483647 THEN
        SELECT e.activity_id INTO v_id
        FROM edge_uploads e
        WHERE e.user_id = edge_activity.user_id AND e.upload_id = p_activity_id;

        IF NOT FOUND THEN
            outcome := 'provisional';
            RETURN;
        END IF;
    END IF;

    SELECT a.id, coalesce(a.fit_file_key, a.r2_key), a.fit_file_status,
           a.fit_file_size, a.fit_file_etag, a.fit_file_checksum
    INTO activity_id, file_key, file_status,
         file_size, file_etag, file_checksum
    FROM activities a
    WHERE a.id = v_id AND a.user_id = edge_activity.user_id;

    outcome := CASE WHEN FOUND THEN 'activity' ELSE 'no_activity' END;
END
$$;


-- Workers hold a job when they reach for its activity, so whoever wants both
-- takes the jobs first; the advisory lock keeps new ones from coming between.

CREATE OR REPLACE FUNCTION edge_lock_activity(p_activity_id bigint)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(
        hashtextextended('edge:activity:' || p_activity_id, 0));

    PERFORM 1 FROM edge_jobs
    WHERE activity_id = p_activity_id AND state IN ('queued', 'running')
    ORDER BY id
    FOR UPDATE;
END
$$;


-- Takes over what the store was seen to hold: the row, its status and the job
-- that analyzes it, all or nothing.  Called again for the same object it
-- answers the same ids and does nothing, unless its analysis has failed: what
-- it failed for, a checksum or an object that was gone, may be right now.
--
-- outcome:
--   uploaded     done now
--   repeated     was done before
--   no_activity  as above
--   busy         the key is being removed at this moment, or the row has
--                changed since p_seen: look again                      (503)

CREATE OR REPLACE FUNCTION edge_complete_upload(
    p_user_id integer, p_activity_id bigint, p_key text, p_size bigint,
    p_etag text, p_checksum text, p_name text,
    p_seen timestamptz DEFAULT NULL,
    OUT outcome text, OUT activity_id integer, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id      bigint := p_activity_id;
    v_row     record;
    v_job     record;
    v_dedupe  text;
    v_same    boolean;
BEGIN
    IF p_activity_id > 2147483647 THEN
        PERFORM pg_advisory_xact_lock(
            hashtextextended('edge:upload:' || p_user_id || ':'
                             || p_activity_id, 0));

        SELECT e.activity_id INTO v_id
        FROM edge_uploads e
        WHERE e.user_id = p_user_id AND e.upload_id = p_activity_id;

        IF NOT FOUND THEN

            -- garmin_id is unique for a person and must not be one of
            -- Garmin's; the row's own number is known only afterwards

            INSERT INTO activities AS a
                (user_id, garmin_id, activity_type, name, start_time,
                 has_fit_file, has_stryd, has_external_hr,
                 created_at, updated_at)
            VALUES (p_user_id, -p_activity_id, 'running',
                    coalesce(nullif(left(p_name, 200), ''), 'FIT Upload'),
                    now(), false, false, false, now(), now())
            RETURNING a.id INTO v_id;

            UPDATE activities a SET garmin_id = -v_id WHERE a.id = v_id;

            INSERT INTO edge_uploads (user_id, upload_id, activity_id)
            VALUES (p_user_id, p_activity_id, v_id);
        END IF;
    END IF;

    PERFORM edge_lock_activity(v_id);

    SELECT a.fit_file_key, a.fit_file_etag, a.fit_file_status,
           a.fit_uploaded_at, a.updated_at,
           coalesce(a.fit_file_key, a.r2_key) AS key
    INTO v_row
    FROM activities a
    WHERE a.id = v_id AND a.user_id = p_user_id
    FOR UPDATE;

    IF NOT FOUND THEN
        outcome := 'no_activity';
        RETURN;
    END IF;

    activity_id := v_id;
    p_etag := coalesce(p_etag, '');
    v_dedupe := 'analyze:' || v_id || ':' || p_etag;

    v_same := v_row.fit_file_key IS NOT DISTINCT FROM p_key
              AND v_row.fit_file_etag IS NOT DISTINCT FROM p_etag
              AND coalesce(v_row.fit_file_status, '') IN
                  ('uploaded', 'analyzing', 'analyzed');

    SELECT j.id, j.state INTO v_job
    FROM edge_jobs j WHERE j.dedupe_key = v_dedupe;

    IF v_same AND v_job.id IS NOT NULL AND v_job.state <> 'dead' THEN
        outcome := 'repeated';
        job_id := v_job.id;
        RETURN;
    END IF;

    IF v_row.fit_uploaded_at > p_seen
       OR (v_row.fit_file_status = 'deleted' AND v_row.updated_at > p_seen)
    THEN
        RAISE EXCEPTION 'the look is older' USING ERRCODE = 'ED001';
    END IF;

    -- an earlier file under the same key may still wait for its removal:
    -- that must not take the new one

    UPDATE edge_jobs j
    SET state = 'done', last_error = 'key is in use again', finished_at = now()
    WHERE j.kind = 'delete_object' AND j.state = 'queued'
      AND j.object_key = p_key;

    PERFORM 1 FROM edge_jobs j
    WHERE j.kind = 'delete_object' AND j.state = 'running'
      AND j.object_key = p_key AND j.lease_until > now();

    IF FOUND THEN
        RAISE EXCEPTION 'key is being removed' USING ERRCODE = 'ED001';
    END IF;

    UPDATE activities a
    SET fit_file_key = p_key, r2_key = p_key, storage_provider = 'r2',
        storage_metadata = ((CASE
            WHEN jsonb_typeof(a.storage_metadata::jsonb) = 'object'
            THEN a.storage_metadata::jsonb ELSE '{}' END)
            || jsonb_build_object('status', 'uploaded', 'size', p_size,
                                  'etag', p_etag,
                                  'uploaded_at', now()))::json,
        fit_file_status = 'uploaded', fit_file_size = p_size,
        fit_file_etag = p_etag, fit_file_checksum = p_checksum,
        fit_uploaded_at = now(), fit_analyzed_at = NULL, fit_error = NULL,
        updated_at = now()
    WHERE a.id = v_id;

    -- URLs to read the one that was replaced are good for a while

    IF v_row.key <> p_key THEN
        INSERT INTO edge_jobs
            (kind, user_id, activity_id, object_key, object_etag, run_at)
        VALUES ('delete_object', p_user_id, v_id, v_row.key,
                v_row.fit_file_etag, now() + interval '10 minutes');
    END IF;

    INSERT INTO edge_jobs AS j
        (kind, user_id, activity_id, object_key, object_etag, dedupe_key)
    VALUES ('analyze', p_user_id, v_id, p_key, p_etag, v_dedupe)
    ON CONFLICT (dedupe_key) DO UPDATE
    SET state = 'queued', object_key = EXCLUDED.object_key, run_at = now(),
        attempts = 0, retries = 0, claim = j.claim + 1, lease_until = NULL,
        worker = NULL, last_error = NULL, finished_at = NULL
    RETURNING j.id INTO job_id;

    outcome := 'uploaded';

EXCEPTION WHEN SQLSTATE 'ED001' THEN
    outcome := 'busy';
    activity_id := NULL;
    job_id := NULL;
END
$$;


-- Takes the file away from an activity.  job_id, which removes the object, is
-- the caller's for a minute: nobody completes another file under the key while
-- that one may still be removed.  Who has removed it settles the job by
-- edge_settle_deletion(); else a worker takes it over.
--
-- outcome: deleted; no_activity (404); no_file (404)

CREATE OR REPLACE FUNCTION edge_delete_fit(
    p_user_id integer, p_activity_id bigint,
    OUT outcome text, OUT activity_id integer, OUT file_key text,
    OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id   bigint := p_activity_id;
    v_row  record;
BEGIN
    IF p_activity_id > 2147483647 THEN
        SELECT e.activity_id INTO v_id
        FROM edge_uploads e
        WHERE e.user_id = p_user_id AND e.upload_id = p_activity_id;
    END IF;

    PERFORM edge_lock_activity(v_id);

    SELECT a.id, coalesce(a.fit_file_key, a.r2_key) AS key, a.fit_file_etag
    INTO v_row
    FROM activities a
    WHERE a.id = v_id AND a.user_id = p_user_id
    FOR UPDATE;

    IF NOT FOUND THEN
        outcome := 'no_activity';
        RETURN;
    END IF;

    activity_id := v_row.id;
    file_key := v_row.key;

    IF file_key IS NULL THEN
        outcome := 'no_file';
        RETURN;
    END IF;

    UPDATE activities a
    SET fit_file_key = NULL, r2_key = NULL, has_fit_file = false,
        fit_file_status = 'deleted', fit_error = NULL,
        storage_metadata = ((CASE
            WHEN jsonb_typeof(a.storage_metadata::jsonb) = 'object'
            THEN a.storage_metadata::jsonb ELSE '{}' END)
            || jsonb_build_object('status', 'deleted', 'deleted_at', now(),
                                  'deleted_key', file_key))::json,
        updated_at = now()
    WHERE a.id = v_row.id;

    UPDATE edge_jobs j
    SET state = 'done', last_error = 'file was deleted', finished_at = now()
    WHERE j.kind = 'analyze' AND j.activity_id = v_row.id
      AND j.state = 'queued';

    INSERT INTO edge_jobs AS j
        (kind, user_id, activity_id, object_key, object_etag,
         state, claim, worker, lease_until)
    VALUES ('delete_object', p_user_id, v_row.id, file_key,
            v_row.fit_file_etag, 'running', 1, 'serve',
            now() + interval '1 minute')
    RETURNING j.id INTO job_id;

    outcome := 'deleted';
END
$$;


CREATE OR REPLACE FUNCTION edge_settle_deletion(p_job_id bigint)
RETURNS void
LANGUAGE sql AS $$
    UPDATE edge_jobs
    SET state = 'done', lease_until = NULL, finished_at = now()
    WHERE id = p_job_id AND kind = 'delete_object' AND state = 'running'
      AND claim = 1 AND worker = 'serve';
$$;
