-- A row which is made for an upload is written once.  Its garmin_id is unique for
-- a person and must not be one of Garmin's, so it is the row's own number, which
-- has to be known before.

DO $$
BEGIN
    IF pg_get_serial_sequence('activities', 'id') IS NULL THEN
        RAISE EXCEPTION 'activities.id has no sequence: it must be serial or '
                        'an identity column';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION edge_new_upload(
    p_user_id integer, p_upload_id bigint, p_key text, p_size bigint,
    p_etag text, p_checksum text, p_name text)
RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_id  bigint := nextval(pg_get_serial_sequence('activities', 'id'));
BEGIN
    INSERT INTO activities
        (id, user_id, garmin_id, activity_type, name, start_time,
         has_fit_file, has_stryd, has_external_hr, fit_file_key, r2_key,
         storage_provider, storage_metadata, fit_file_status, fit_file_size,
         fit_file_etag, fit_file_checksum, fit_uploaded_at,
         created_at, updated_at)
    OVERRIDING SYSTEM VALUE
    VALUES (v_id, p_user_id, -v_id, 'running',
            coalesce(nullif(left(p_name, 200), ''), 'FIT Upload'), now(),
            false, false, false, p_key, p_key,
            'r2', edge_storage_metadata(NULL, p_size, p_etag), 'uploaded',
            p_size, p_etag, p_checksum, now(), now(), now());

    INSERT INTO edge_uploads (user_id, upload_id, activity_id)
    VALUES (p_user_id, p_upload_id, v_id);

    RETURN v_id;
END
$$;

-- what the application reads about a file, over what is there

CREATE OR REPLACE FUNCTION edge_storage_metadata(
    p_old json, p_size bigint, p_etag text)
RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT ((CASE WHEN jsonb_typeof(p_old::jsonb) = 'object'
                  THEN p_old::jsonb ELSE '{}' END)
            || jsonb_build_object('status', 'uploaded', 'size', p_size,
                                  'etag', p_etag, 'uploaded_at', now()))::json
$$;


-- What a connection plans while edge_jobs is empty it keeps for long, and then
-- the index of all that is queued looks as good as that of one key.  So "is
-- queued" is written here in ways which that index does not answer.

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
    v_new     boolean := false;
BEGIN
    p_etag := coalesce(p_etag, '');

    IF p_activity_id > 2147483647 THEN
        PERFORM pg_advisory_xact_lock(
            hashtextextended('edge:upload:' || p_user_id || ':'
                             || p_activity_id, 0));

        SELECT e.activity_id INTO v_id
        FROM edge_uploads e
        WHERE e.user_id = p_user_id AND e.upload_id = p_activity_id;

        IF NOT FOUND THEN
            v_id := edge_new_upload(p_user_id, p_activity_id, p_key, p_size,
                                    p_etag, p_checksum, p_name);
            v_new := true;
        END IF;
    END IF;

    activity_id := v_id;
    v_dedupe := 'analyze:' || v_id || ':' || p_etag;

    IF NOT v_new THEN
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
            activity_id := NULL;
            RETURN;
        END IF;

        SELECT j.id, j.state INTO v_job
        FROM edge_jobs j WHERE j.dedupe_key = v_dedupe;

        IF v_row.fit_file_key IS NOT DISTINCT FROM p_key
           AND v_row.fit_file_etag IS NOT DISTINCT FROM p_etag
           AND coalesce(v_row.fit_file_status, '') IN
               ('uploaded', 'analyzing', 'analyzed')
           AND v_job.id IS NOT NULL AND v_job.state <> 'dead'
        THEN
            outcome := 'repeated';
            job_id := v_job.id;
            RETURN;
        END IF;

        IF v_row.fit_uploaded_at > p_seen
           OR (v_row.fit_file_status = 'deleted' AND v_row.updated_at > p_seen)
        THEN
            RAISE EXCEPTION 'the look is older' USING ERRCODE = 'ED001';
        END IF;
    END IF;

    -- an earlier file under the same key may still wait for its removal:
    -- that must not take the new one

    UPDATE edge_jobs j
    SET state = 'done', last_error = 'key is in use again', finished_at = now()
    WHERE j.kind = 'delete_object' AND j.state IN ('queued', 'running')
      AND j.state <> 'running' AND j.object_key = p_key;

    PERFORM 1 FROM edge_jobs j
    WHERE j.kind = 'delete_object' AND j.state = 'running'
      AND j.object_key = p_key AND j.lease_until > now();

    IF FOUND THEN
        RAISE EXCEPTION 'key is being removed' USING ERRCODE = 'ED001';
    END IF;

    IF NOT v_new THEN
        UPDATE activities a
        SET fit_file_key = p_key, r2_key = p_key, storage_provider = 'r2',
            storage_metadata = edge_storage_metadata(
                a.storage_metadata::json, p_size, p_etag),
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
        WHERE j.dedupe_key = 'check_upload:' || p_key
          AND j.state NOT IN ('running', 'done', 'dead');
    END IF;
END
$$;
