-- What operators ask.

-- A job runs again, from the beginning and at once, whatever became of it.
--
-- outcome:
--   requeued
--   not_found
--   running    a worker has it
--   gone       its file was replaced or deleted

CREATE OR REPLACE FUNCTION edge_requeue_job(p_job_id bigint)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job  edge_jobs;
BEGIN
    SELECT * INTO v_job FROM edge_jobs WHERE id = p_job_id FOR UPDATE;

    IF NOT FOUND THEN
        RETURN 'not_found';
    END IF;

    IF v_job.state = 'running' AND v_job.lease_until > now() THEN
        RETURN 'running';
    END IF;

    IF v_job.kind = 'analyze' THEN
        UPDATE activities
        SET fit_file_status = 'uploaded', fit_error = NULL, updated_at = now()
        WHERE id = v_job.activity_id
          AND fit_file_key = v_job.object_key
          AND fit_file_etag IS NOT DISTINCT FROM v_job.object_etag;

        IF NOT FOUND THEN
            RETURN 'gone';
        END IF;
    END IF;

    UPDATE edge_jobs
    SET state = 'queued', run_at = now(), attempts = 0, retries = 0,
        claim = claim + 1, lease_until = NULL, worker = NULL,
        last_error = NULL, finished_at = NULL
    WHERE id = p_job_id;

    RETURN 'requeued';
END
$$;


-- A delivery that was recorded is applied again, as far as no newer event of
-- that person has come since; what is still true of it is not done twice.
--
-- outcome is that of edge_receive_event(), or not_found

CREATE OR REPLACE FUNCTION edge_replay_event(
    p_svix_id text, p_event_type text, p_clerk_id text, p_event_ms bigint,
    p_email text, p_email_verified boolean, p_display_name text,
    p_payload text, p_grace_days integer,
    OUT outcome text, OUT user_id integer, OUT detail text, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_received  timestamptz;
BEGIN
    PERFORM edge_lock_clerk_id(p_clerk_id);

    DELETE FROM edge_inbox WHERE svix_id = p_svix_id
    RETURNING received_at INTO v_received;

    IF NOT FOUND THEN
        outcome := 'not_found';
        RETURN;
    END IF;

    -- the guard lets pass what is newer than the newest

    UPDATE edge_identity i SET last_rank = i.last_rank - 1
    WHERE i.clerk_user_id = p_clerk_id AND i.last_ms = p_event_ms
      AND i.deleted_at IS NULL
      AND i.last_rank = CASE p_event_type WHEN 'user.created' THEN 1
                                          WHEN 'user.updated' THEN 2 END;

    SELECT e.outcome, e.user_id, e.detail, e.job_id
    INTO outcome, user_id, detail, job_id
    FROM edge_receive_event(p_svix_id, p_event_type, p_clerk_id, p_event_ms,
                            p_email, p_email_verified, p_display_name,
                            p_payload, p_grace_days) e;

    UPDATE edge_inbox SET received_at = v_received WHERE svix_id = p_svix_id;
END
$$;


-- Forgets what is over: settled jobs, and the bodies of events.  The ids of
-- events stay longer than any sender repeats them.

DROP FUNCTION IF EXISTS edge_purge(integer);

CREATE OR REPLACE FUNCTION edge_purge(
    p_job_days integer, p_payload_days integer,
    OUT jobs bigint, OUT payloads bigint)
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM edge_jobs
    WHERE state IN ('done', 'dead')
      AND finished_at < now() - make_interval(days => p_job_days);

    GET DIAGNOSTICS jobs = ROW_COUNT;

    UPDATE edge_inbox SET payload = NULL
    WHERE received_at < now() - make_interval(days => p_payload_days)
      AND payload IS NOT NULL;

    GET DIAGNOSTICS payloads = ROW_COUNT;
END
$$;


-- An object that no row has.  p_user and p_object are what its key says.
--
--   pending   it is looked for when its URL has expired
--   removing  its removal is queued
--   deleted   it should not be there: the row says that it was deleted
--   orphan    nobody has told us

CREATE OR REPLACE FUNCTION edge_orphan(
    p_key text, p_user text, p_object bigint)
RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_user  integer;
    v_id    bigint := p_object;
BEGIN
    PERFORM 1 FROM edge_jobs
    WHERE dedupe_key = 'check_upload:' || p_key
      AND state IN ('queued', 'running');

    IF FOUND THEN
        RETURN 'pending';
    END IF;

    PERFORM 1 FROM edge_jobs
    WHERE kind = 'delete_object' AND object_key = p_key
      AND state IN ('queued', 'running');

    IF FOUND THEN
        RETURN 'removing';
    END IF;

    SELECT id INTO v_user FROM users
    WHERE clerk_user_id = p_user OR id::text = p_user;

    IF p_object > 2147483647 THEN
        SELECT activity_id INTO v_id FROM edge_uploads
        WHERE user_id = v_user AND upload_id = p_object;
    END IF;

    PERFORM 1 FROM activities
    WHERE id = v_id AND user_id = v_user AND fit_file_status = 'deleted'
      AND storage_metadata ->> 'deleted_key' = p_key;

    RETURN CASE WHEN FOUND THEN 'deleted' ELSE 'orphan' END;
END
$$;


-- A file that is gone: the row says so, and the client can upload it again.

CREATE OR REPLACE FUNCTION edge_mark_missing(
    p_activity_id integer, p_key text)
RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE activities a
    SET fit_file_key = NULL, r2_key = NULL, has_fit_file = false,
        fit_file_status = 'missing',
        fit_error = 'the object is not in the store',
        storage_metadata = ((CASE
            WHEN jsonb_typeof(a.storage_metadata::jsonb) = 'object'
            THEN a.storage_metadata::jsonb ELSE '{}' END)
            || jsonb_build_object('status', 'missing', 'missing_at', now(),
                                  'missing_key', p_key))::json,
        updated_at = now()
    WHERE a.id = p_activity_id
      AND coalesce(a.fit_file_key, a.r2_key) = p_key;

    RETURN FOUND;
END
$$;
