-- edge_remove_user_files() of somebody who has left Clerk, and can still log in
-- by the application's own password: they have not left.
--
-- outcome:
--   removed   the files of this many activities
--   back      the row belongs to an identity again: nothing was done
--   password  the row has a password: nothing was done

CREATE OR REPLACE FUNCTION edge_remove_user_files(
    p_user_id integer, p_limit integer,
    OUT outcome text, OUT removed integer, OUT left_over boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_id    integer;
    v_job   bigint;
    v_user  record;
BEGIN
    removed := 0;
    left_over := false;

    -- locked, so that nobody is linked to the row, or sets a password, between
    -- this look and the end of the round

    SELECT u.clerk_user_id, u.password_hash INTO v_user
    FROM users u WHERE u.id = p_user_id FOR SHARE;

    IF v_user.clerk_user_id IS NOT NULL THEN
        outcome := 'back';
        RETURN;
    END IF;

    IF v_user.password_hash <> '' THEN
        outcome := 'password';
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
