-- as in 010

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
