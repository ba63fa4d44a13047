-- What workers ask.  A job runs while its lease lasts; a worker that dies
-- leaves a lease that ends, and the next one takes the job over.

-- Hands out the job that waits longest.  No row in edge_jobs is waited for.
-- Jobs that nobody needs any more are settled on the way: an analysis whose
-- file was replaced or deleted, a removal whose key is in use again, a job
-- that has taken its workers down as often as it may.
--
-- job_id is NULL if there is nothing to do now.

CREATE OR REPLACE FUNCTION edge_claim_job(
    p_worker text, p_lease_seconds integer,
    OUT job_id bigint, OUT claim integer, OUT kind text, OUT attempts integer,
    OUT user_id integer, OUT activity_id integer, OUT object_key text,
    OUT object_etag text, OUT object_size bigint, OUT object_checksum text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_job  edge_jobs;
BEGIN
    LOOP
        SELECT * INTO v_job
        FROM edge_jobs j
        WHERE (j.state = 'queued' AND j.run_at <= now())
           OR (j.state = 'running' AND j.lease_until <= now())
        ORDER BY j.run_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED;

        IF NOT FOUND THEN
            RETURN;
        END IF;

        IF v_job.attempts - v_job.retries >= v_job.max_attempts
           AND v_job.kind <> 'delete_object'
        THEN
            PERFORM edge_bury_job(v_job.id, coalesce(v_job.last_error,
                                                     'the lease ended'));
            CONTINUE;
        END IF;

        IF v_job.kind = 'analyze' THEN
            UPDATE activities a
            SET fit_file_status = 'analyzing', updated_at = now()
            WHERE a.id = v_job.activity_id
              AND a.fit_file_key = v_job.object_key
              AND a.fit_file_etag IS NOT DISTINCT FROM v_job.object_etag
              AND a.fit_file_status IN ('uploaded', 'analyzing')
            RETURNING a.fit_file_size, a.fit_file_checksum
            INTO object_size, object_checksum;

        ELSIF v_job.kind = 'delete_object' THEN
            PERFORM 1
            WHERE NOT EXISTS (SELECT 1 FROM activities a
                              WHERE a.id = v_job.activity_id
                                AND v_job.object_key IN (a.fit_file_key,
                                                         a.r2_key));
        END IF;

        IF NOT FOUND THEN
            UPDATE edge_jobs j
            SET state = 'done', claim = j.claim + 1, lease_until = NULL,
                last_error = 'not needed any more', finished_at = now()
            WHERE j.id = v_job.id;
            CONTINUE;
        END IF;

        UPDATE edge_jobs j
        SET state = 'running', claim = j.claim + 1, attempts = j.attempts + 1,
            worker = p_worker,
            lease_until = now() + make_interval(secs => p_lease_seconds)
        WHERE j.id = v_job.id
        RETURNING j.id, j.claim, j.kind, j.attempts, j.user_id, j.activity_id,
                  j.object_key, j.object_etag
        INTO job_id, claim, kind, attempts, user_id, activity_id,
             object_key, object_etag;

        RETURN;
    END LOOP;
END
$$;


-- Prolongs the lease; false if it is lost and the work must stop.

CREATE OR REPLACE FUNCTION edge_extend_job(
    p_job_id bigint, p_claim integer, p_lease_seconds integer)
RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE edge_jobs
    SET lease_until = now() + make_interval(secs => p_lease_seconds)
    WHERE id = p_job_id AND claim = p_claim AND state = 'running';

    RETURN FOUND;
END
$$;


-- The work is done.  p_status is what it means for the activity: analyzed, or
-- failed with p_error if trying again cannot help; NULL for other jobs.
--
-- outcome: done; lost, if the job is not the caller's any more

CREATE OR REPLACE FUNCTION edge_finish_job(
    p_job_id bigint, p_claim integer, p_status text, p_error text,
    p_analysis jsonb)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job  edge_jobs;
BEGIN
    UPDATE edge_jobs
    SET state = 'done', lease_until = NULL, last_error = p_error,
        finished_at = now()
    WHERE id = p_job_id AND claim = p_claim AND state = 'running'
    RETURNING * INTO v_job;

    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;

    IF v_job.kind = 'analyze' THEN
        UPDATE activities
        SET fit_file_status = p_status, fit_error = p_error,
            fit_analysis = p_analysis, fit_analyzed_at = now(),
            has_fit_file = (p_status = 'analyzed'), updated_at = now()
        WHERE id = v_job.activity_id
          AND fit_file_key = v_job.object_key
          AND fit_file_etag IS NOT DISTINCT FROM v_job.object_etag
          AND fit_file_status = 'analyzing';
    END IF;

    RETURN 'done';
END
$$;


-- The work failed in a way that may pass.  It is tried again after
-- p_delay_seconds, by default 5 seconds doubled each time up to less than an
-- hour, spread by a quarter so that what failed together does not return
-- together.  That goes on for a week, so that no outage of the store makes a
-- good file a failed one; and without end for a removal, which somebody has
-- been promised.
--
-- outcome: retry; dead, if that was the last attempt; lost

CREATE OR REPLACE FUNCTION edge_fail_job(
    p_job_id bigint, p_claim integer, p_error text,
    p_delay_seconds integer DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job    edge_jobs;
    v_delay  double precision;
BEGIN
    SELECT * INTO v_job
    FROM edge_jobs
    WHERE id = p_job_id AND claim = p_claim AND state = 'running'
    FOR UPDATE;

    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;

    -- ten delays of 85 minutes in all, then 48 minutes each

    IF v_job.retries >= 218 AND v_job.kind <> 'delete_object' THEN
        PERFORM edge_bury_job(p_job_id, p_error);
        RETURN 'dead';
    END IF;

    v_delay := coalesce(p_delay_seconds,
                        least(5 * 2 ^ least(v_job.retries, 10), 2880)
                        * (0.75 + random() / 2));

    UPDATE edge_jobs
    SET state = 'queued', lease_until = NULL, last_error = p_error,
        retries = retries + 1,
        run_at = now() + make_interval(secs => v_delay)
    WHERE id = p_job_id;

    IF v_job.kind = 'analyze' THEN
        UPDATE activities
        SET fit_file_status = 'uploaded', updated_at = now()
        WHERE id = v_job.activity_id
          AND fit_file_key = v_job.object_key
          AND fit_file_etag IS NOT DISTINCT FROM v_job.object_etag
          AND fit_file_status = 'analyzing';
    END IF;

    RETURN 'retry';
END
$$;


CREATE OR REPLACE FUNCTION edge_bury_job(p_job_id bigint, p_error text)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_job  edge_jobs;
BEGIN
    UPDATE edge_jobs
    SET state = 'dead', claim = claim + 1, lease_until = NULL,
        last_error = p_error, finished_at = now()
    WHERE id = p_job_id
    RETURNING * INTO v_job;

    IF v_job.kind = 'analyze' THEN
        UPDATE activities
        SET fit_file_status = 'failed', fit_error = p_error, updated_at = now()
        WHERE id = v_job.activity_id
          AND fit_file_key = v_job.object_key
          AND fit_file_etag IS NOT DISTINCT FROM v_job.object_etag
          AND fit_file_status IN ('uploaded', 'analyzing');
    END IF;
END
$$;


-- Seconds until the next job can be claimed, 0 if one can now, NULL if there
-- is none: how long a worker may sleep without letting a database that scales
-- to zero wake up for nothing.

CREATE OR REPLACE FUNCTION edge_next_job()
RETURNS double precision
LANGUAGE sql STABLE AS $$
    SELECT greatest(extract(epoch FROM min(t.at) - now()), 0)::double precision
    FROM (SELECT min(run_at) FROM edge_jobs WHERE state = 'queued'
          UNION ALL
          SELECT min(lease_until) FROM edge_jobs WHERE state = 'running')
         t (at);
$$;


-- Forgets what is over: settled jobs and bodies of events.  The ids of events
-- stay longer than any sender repeats them.

CREATE OR REPLACE FUNCTION edge_purge(p_days integer DEFAULT 30)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_before  timestamptz := now() - make_interval(days => p_days);
BEGIN
    DELETE FROM edge_jobs
    WHERE state IN ('done', 'dead') AND finished_at < v_before;

    UPDATE edge_inbox SET payload = NULL
    WHERE received_at < v_before AND payload IS NOT NULL;
END
$$;
