-- A file of the old scheme that is in the store now.  p_remove: and not in the
-- database any more.  What was analyzed stays so; what was not is completed,
-- like an upload.
--
-- outcome: moved; gone, if the row has got a file meanwhile or is deleted

CREATE OR REPLACE FUNCTION edge_move_file(
    p_activity_id integer, p_key text, p_size bigint, p_etag text,
    p_checksum text, p_remove boolean,
    OUT outcome text, OUT job_id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_row  record;
BEGIN
    PERFORM edge_lock_activity(p_activity_id);

    SELECT a.user_id, a.has_fit_file INTO v_row
    FROM activities a
    WHERE a.id = p_activity_id
      AND coalesce(a.fit_file_key, a.r2_key) IS NULL
      AND coalesce(a.fit_file_status, '') <> 'deleted'
    FOR UPDATE;

    IF NOT FOUND THEN
        outcome := 'gone';
        RETURN;
    END IF;

    IF v_row.has_fit_file THEN
        UPDATE activities a
        SET fit_file_key = p_key, r2_key = p_key, storage_provider = 'r2',
            storage_metadata = ((CASE
                WHEN jsonb_typeof(a.storage_metadata::jsonb) = 'object'
                THEN a.storage_metadata::jsonb ELSE '{}' END)
                || jsonb_build_object('status', 'uploaded', 'size', p_size,
                                      'etag', p_etag,
                                      'moved_at', now()))::json,
            fit_file_status = 'analyzed', fit_file_size = p_size,
            fit_file_etag = p_etag, fit_file_checksum = p_checksum,
            fit_uploaded_at = now(), updated_at = now()
        WHERE a.id = p_activity_id;

    ELSE
        SELECT c.job_id INTO job_id
        FROM edge_complete_upload(v_row.user_id, p_activity_id, p_key, p_size,
                                  p_etag, p_checksum, NULL) c
        WHERE c.outcome = 'uploaded';

        IF job_id IS NULL THEN
            outcome := 'gone';
            RETURN;
        END IF;
    END IF;

    IF p_remove THEN
        UPDATE activities a SET fit_file_content = NULL, fit_file_path = NULL
        WHERE a.id = p_activity_id;
    END IF;

    outcome := 'moved';
END
$$;
