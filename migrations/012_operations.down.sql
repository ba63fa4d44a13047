DROP FUNCTION IF EXISTS edge_mark_missing(integer, text);
DROP FUNCTION IF EXISTS edge_orphan(text, text, bigint);
DROP FUNCTION IF EXISTS edge_purge(integer, integer);
DROP FUNCTION IF EXISTS edge_replay_event(text, text, text, bigint, text,
                                          boolean, text, text, integer);
DROP FUNCTION IF EXISTS edge_requeue_job(bigint);

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
