DO $$
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);

    IF to_regclass('activities') IS NOT NULL THEN
        DROP TRIGGER IF EXISTS edge_usage_insert ON activities;
        DROP TRIGGER IF EXISTS edge_usage_update ON activities;
        DROP TRIGGER IF EXISTS edge_usage_delete ON activities;
    END IF;
END
$$;

DROP FUNCTION IF EXISTS edge_recount_usage();
DROP FUNCTION IF EXISTS edge_fold_usage();
DROP FUNCTION IF EXISTS edge_account_usage();
DROP FUNCTION IF EXISTS edge_note_usage();
DROP TABLE IF EXISTS edge_usage;
