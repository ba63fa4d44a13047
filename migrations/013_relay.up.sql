-- A job that another worker's queue has taken.  It is noted, so that it is not
-- handed over again when that queue has forgotten it; p_done: and it is not
-- ours any more.
--
-- outcome: done; lost, if the job is not the caller's any more

CREATE OR REPLACE FUNCTION edge_relay_job(
    p_job_id bigint, p_claim integer, p_done boolean)
RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_job  edge_jobs;
BEGIN
    UPDATE edge_jobs
    SET args = coalesce(args, '{}') || '{"relayed": true}',
        state = CASE WHEN p_done THEN 'done' ELSE state END,
        lease_until = CASE WHEN p_done THEN NULL ELSE lease_until END,
        last_error = CASE WHEN p_done THEN 'handed to arq' ELSE last_error END,
        finished_at = CASE WHEN p_done THEN now() END
    WHERE id = p_job_id AND claim = p_claim AND state = 'running'
    RETURNING * INTO v_job;

    IF NOT FOUND THEN
        RETURN 'lost';
    END IF;

    IF p_done THEN
        UPDATE activities
        SET fit_file_status = 'uploaded', updated_at = now()
        WHERE id = v_job.activity_id
          AND fit_file_key = v_job.object_key
          AND fit_file_etag IS NOT DISTINCT FROM v_job.object_etag
          AND fit_file_status = 'analyzing';
    END IF;

    RETURN 'done';
END
$$;
