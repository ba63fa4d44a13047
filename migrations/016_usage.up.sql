-- What the files of all users take, for the store's free tier is an account's.
--
-- edge_usage is a ledger: each change of an activity's file adds a row with the
-- difference, so that nobody waits for anybody, as for a row that all update;
-- and the sum of its rows, which are folded into one now and then, is exact at
-- any moment, whoever has written the activity.

CREATE TABLE IF NOT EXISTS edge_usage (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    files  bigint NOT NULL,
    bytes  bigint NOT NULL
);


-- The application writes activities by a role which may know nothing of our
-- tables: so it is done as the one who migrates, and names its table.

DO $$
BEGIN
    EXECUTE format($f$
        CREATE OR REPLACE FUNCTION edge_note_usage()
        RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $b$
        DECLARE
            v_files  bigint := 0;
            v_bytes  bigint := 0;
        BEGIN
            IF TG_OP <> 'INSERT'
               AND coalesce(OLD.fit_file_key, OLD.r2_key) IS NOT NULL
            THEN
                v_files := -1;
                v_bytes := - coalesce(OLD.fit_file_size, 0);
            END IF;

            IF TG_OP <> 'DELETE'
               AND coalesce(NEW.fit_file_key, NEW.r2_key) IS NOT NULL
            THEN
                v_files := v_files + 1;
                v_bytes := v_bytes + coalesce(NEW.fit_file_size, 0);
            END IF;

            IF v_files <> 0 OR v_bytes <> 0 THEN
                INSERT INTO %I.edge_usage (files, bytes)
                VALUES (v_files, v_bytes);
            END IF;

            RETURN NULL;
        END
        $b$
        $f$, current_schema());

    PERFORM set_config('lock_timeout', '5s', true);

    DROP TRIGGER IF EXISTS edge_usage_insert ON activities;
    DROP TRIGGER IF EXISTS edge_usage_update ON activities;
    DROP TRIGGER IF EXISTS edge_usage_delete ON activities;

    -- most of what an application writes is not about a file: for that the
    -- function is not even called

    CREATE TRIGGER edge_usage_insert AFTER INSERT ON activities
    FOR EACH ROW
    WHEN (coalesce(NEW.fit_file_key, NEW.r2_key) IS NOT NULL)
    EXECUTE FUNCTION edge_note_usage();

    CREATE TRIGGER edge_usage_update AFTER UPDATE ON activities
    FOR EACH ROW
    WHEN (OLD.fit_file_key IS DISTINCT FROM NEW.fit_file_key
          OR OLD.r2_key IS DISTINCT FROM NEW.r2_key
          OR OLD.fit_file_size IS DISTINCT FROM NEW.fit_file_size)
    EXECUTE FUNCTION edge_note_usage();

    CREATE TRIGGER edge_usage_delete AFTER DELETE ON activities
    FOR EACH ROW
    WHEN (coalesce(OLD.fit_file_key, OLD.r2_key) IS NOT NULL)
    EXECUTE FUNCTION edge_note_usage();
END
$$;


-- The sums.

CREATE OR REPLACE FUNCTION edge_account_usage(
    OUT files bigint, OUT bytes bigint)
LANGUAGE sql STABLE AS $$
    SELECT coalesce(sum(u.files), 0)::bigint, coalesce(sum(u.bytes), 0)::bigint
    FROM edge_usage u
$$;


-- Makes one row of many; who reads meanwhile sees either those or that one.
-- The worker calls it once a day.

CREATE OR REPLACE FUNCTION edge_fold_usage()
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('edge:usage', 0)) THEN
        RETURN;
    END IF;

    WITH gone AS (
        DELETE FROM edge_usage u RETURNING u.files, u.bytes
    )
    INSERT INTO edge_usage (files, bytes)
    SELECT sum(g.files), sum(g.bytes) FROM gone g HAVING count(*) > 0;
END
$$;


-- Counts all activities and adds what the ledger lacks, for instance after a
-- TRUNCATE or a restore, which call no trigger.  It is one statement, so both
-- sides are of one moment, and nobody is kept from writing.

CREATE OR REPLACE FUNCTION edge_recount_usage(
    OUT files bigint, OUT bytes bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('edge:usage', 0));

    INSERT INTO edge_usage AS u (files, bytes)
    SELECT a.files - l.files, a.bytes - l.bytes
    FROM (SELECT count(*) AS files,
                 coalesce(sum(fit_file_size), 0) AS bytes
          FROM activities
          WHERE coalesce(fit_file_key, r2_key) IS NOT NULL) a,
         (SELECT coalesce(sum(x.files), 0) AS files,
                 coalesce(sum(x.bytes), 0) AS bytes
          FROM edge_usage x) l
    WHERE (a.files, a.bytes) IS DISTINCT FROM (l.files, l.bytes)
    RETURNING u.files, u.bytes
    INTO files, bytes;

    files := coalesce(files, 0);
    bytes := coalesce(bytes, 0);
END
$$;
