-- A person who has left: the files go as well, after a time in which they may
-- come back.

-- args is what a job needs besides the columns: see who reads it

ALTER TABLE edge_jobs ADD COLUMN IF NOT EXISTS args jsonb;


-- edge_claim_job(), and what else the job needs.  A query around that would see
-- the table as it was before, perhaps without the job.

CREATE OR REPLACE FUNCTION edge_take_job(
    p_worker text, p_lease_seconds integer,
    OUT job_id bigint, OUT claim integer, OUT kind text, OUT attempts integer,
    OUT user_id integer, OUT activity_id integer, OUT object_key text,
    OUT object_etag text, OUT object_checksum text, OUT args jsonb)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.job_id, c.claim, c.kind, c.attempts, c.user_id, c.activity_id,
           c.object_key, c.object_etag, c.object_checksum
    INTO job_id, claim, kind, attempts, user_id, activity_id, object_key,
         object_etag, object_checksum
    FROM edge_claim_job(p_worker, p_lease_seconds) c;

    SELECT j.args INTO args FROM edge_jobs j WHERE j.id = job_id;
END
$$;


-- One delivery, with all that must happen in the transaction which records it.
-- p_payload is stored if the database can hold it; a person's own metadata
-- must not make an event undeliverable.  p_grace_days: when the files of a
-- deleted person are removed; NULL is never.
--
-- outcome is that of edge_apply_clerk_event(); job_id removes the files

CREATE OR REPLACE FUNCTION edge_receive_event(
    p_svix_id text, p_event_type text, p_clerk_id text, p_event_ms bigint,
    p_email text, p_email_verified boolean, p_display_name text,
    p_payload text, p_grace_days integer,
    OUT outcome text, OUT user_id integer, OUT detail text, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_payload  json;
BEGIN
    BEGIN
        v_payload := p_payload::json;

    EXCEPTION WHEN data_exception OR statement_too_complex
              OR program_limit_exceeded THEN
        v_payload := NULL;
    END;

    SELECT e.outcome, e.user_id, e.detail INTO outcome, user_id, detail
    FROM edge_apply_clerk_event(p_svix_id, p_event_type, p_clerk_id,
                                p_event_ms, p_email, p_email_verified,
                                p_display_name, v_payload) e;

    IF outcome = 'applied' AND p_event_type = 'user.deleted'
       AND user_id IS NOT NULL AND p_grace_days IS NOT NULL
    THEN
        INSERT INTO edge_jobs AS j (kind, user_id, dedupe_key, run_at, args)
        VALUES ('delete_user_files', user_id,
                'delete_user_files:' || p_clerk_id,
                now() + make_interval(days => p_grace_days),
                jsonb_build_object('clerk_user_id', p_clerk_id))
        ON CONFLICT (dedupe_key) DO NOTHING
        RETURNING j.id INTO job_id;
    END IF;
END
$$;


-- Takes the files away from the next activities of a person, in the order of
-- their ids, and queues the removal of each object.  left_over is false when
-- there are none left.
--
-- outcome:
--   removed  the files of this many activities
--   back     the row belongs to an identity again: nothing was done

CREATE OR REPLACE FUNCTION edge_remove_user_files(
    p_user_id integer, p_limit integer,
    OUT outcome text, OUT removed integer, OUT left_over boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id   integer;
    v_job  bigint;
BEGIN
    removed := 0;
    left_over := false;

    PERFORM 1 FROM users u
    WHERE u.id = p_user_id AND u.clerk_user_id IS NOT NULL;

    IF FOUND THEN
        outcome := 'back';
        RETURN;
    END IF;

    outcome := 'removed';

    FOR v_id IN
        SELECT a.id FROM activities a
        WHERE a.user_id = p_user_id
          AND coalesce(a.fit_file_key, a.r2_key) IS NOT NULL
        ORDER BY a.id
        LIMIT p_limit
    LOOP
        SELECT d.job_id INTO v_job FROM edge_delete_fit(p_user_id, v_id) d;

        -- nobody stands by to remove it now, as for a request

        UPDATE edge_jobs j
        SET state = 'queued', lease_until = NULL, worker = NULL, run_at = now()
        WHERE j.id = v_job AND j.state = 'running' AND j.worker = 'serve';

        removed := removed + 1;
    END LOOP;

    left_over := (removed = p_limit);
END
$$;
