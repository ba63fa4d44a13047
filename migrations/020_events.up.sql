-- An event is read once, by who verifies it, and its body is kept as it came.
-- A function in SQL is parsed and planned anew by each statement that calls it,
-- unless it is inlined; one in PL/pgSQL once for each connection.

ALTER TABLE edge_inbox ALTER COLUMN payload TYPE text;


CREATE OR REPLACE FUNCTION edge_lock_clerk_id(p_clerk_id text)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('edge:clerk:' || p_clerk_id,
                                                   0));
END
$$;


CREATE OR REPLACE FUNCTION edge_lock_email(p_email text)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('edge:email:'
                                                   || lower(p_email), 0));
END
$$;


CREATE OR REPLACE FUNCTION edge_note_address(
    p_clerk_id text, p_email text, p_email_verified boolean)
RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_email IS NULL THEN
        RETURN;
    END IF;

    PERFORM 1 FROM edge_identity i
    WHERE i.clerk_user_id = p_clerk_id
      AND i.email_verified IS NOT DISTINCT FROM p_email_verified;

    IF FOUND THEN
        RETURN;
    END IF;

    INSERT INTO edge_identity AS i (clerk_user_id, email_verified)
    VALUES (p_clerk_id, p_email_verified)
    ON CONFLICT (clerk_user_id) DO UPDATE
    SET email_verified = EXCLUDED.email_verified;
END
$$;


DROP FUNCTION IF EXISTS edge_apply_clerk_event(
    text, text, text, bigint, text, boolean, text, json);

CREATE OR REPLACE FUNCTION edge_apply_clerk_event(
    p_svix_id text, p_event_type text, p_clerk_id text, p_event_ms bigint,
    p_email text, p_email_verified boolean, p_display_name text,
    p_payload text,
    OUT outcome text, OUT user_id integer, OUT detail text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_rank      smallint;
    v_identity  edge_identity;
    v_put       record;
    v_try       integer := 0;
BEGIN
    p_clerk_id := nullif(p_clerk_id, '');
    p_email := nullif(p_email, '');
    p_display_name := nullif(p_display_name, '');

    v_rank := CASE p_event_type
              WHEN 'user.created' THEN 1
              WHEN 'user.updated' THEN 2
              WHEN 'user.deleted' THEN 3 END;

    IF v_rank IS NULL OR p_clerk_id IS NULL THEN
        INSERT INTO edge_inbox (svix_id, event_type, subject, event_ms, outcome)
        VALUES (p_svix_id, p_event_type, p_clerk_id, p_event_ms, 'ignored')
        ON CONFLICT DO NOTHING;

        outcome := CASE WHEN FOUND THEN 'ignored' ELSE 'duplicate' END;
        RETURN;
    END IF;

    PERFORM edge_lock_clerk_id(p_clerk_id);

    PERFORM 1 FROM edge_inbox WHERE svix_id = p_svix_id;

    IF FOUND THEN
        outcome := 'duplicate';
        RETURN;
    END IF;

    SELECT * INTO v_identity
    FROM edge_identity i WHERE i.clerk_user_id = p_clerk_id;

    IF v_identity.deleted_at IS NOT NULL THEN
        outcome := 'tombstoned';

    ELSIF v_rank = 3 THEN
        outcome := 'applied';
        detail := 'deleted';

        UPDATE users u SET clerk_user_id = NULL, updated_at = now()
        WHERE u.clerk_user_id = p_clerk_id
        RETURNING u.id INTO user_id;

        INSERT INTO edge_identity AS i
            (clerk_user_id, user_id, last_ms, last_rank, deleted_at)
        VALUES (p_clerk_id, user_id, p_event_ms, v_rank, now())
        ON CONFLICT (clerk_user_id) DO UPDATE
        SET user_id = coalesce(EXCLUDED.user_id, i.user_id),
            last_ms = greatest(i.last_ms, EXCLUDED.last_ms),
            last_rank = EXCLUDED.last_rank,
            conflict_at = NULL,
            deleted_at = EXCLUDED.deleted_at;

        UPDATE edge_inbox SET payload = NULL
        WHERE subject = p_clerk_id AND payload IS NOT NULL;

        p_payload := NULL;

    ELSIF (p_event_ms, v_rank) <= (v_identity.last_ms, v_identity.last_rank)
    THEN
        outcome := 'stale';

    ELSE
        -- the application may take the address or the id between our look
        -- and our write; then look again

        LOOP
            BEGIN
                v_put := edge_put_user(p_clerk_id, p_email,
                                       coalesce(p_email_verified, false),
                                       p_display_name);
                EXIT;

            EXCEPTION WHEN unique_violation THEN
                v_try := v_try + 1;

                IF v_try = 3 THEN
                    RAISE;
                END IF;
            END;
        END LOOP;

        user_id := v_put.v_user_id;
        detail := v_put.detail;
        outcome := CASE WHEN v_put.is_conflict THEN 'conflict'
                        ELSE 'applied' END;

        INSERT INTO edge_identity AS i
            (clerk_user_id, user_id, last_ms, last_rank, conflict_at)
        VALUES (p_clerk_id, user_id, p_event_ms, v_rank,
                CASE WHEN v_put.is_conflict THEN now() END)
        ON CONFLICT (clerk_user_id) DO UPDATE
        SET user_id = EXCLUDED.user_id,
            last_ms = EXCLUDED.last_ms,
            last_rank = EXCLUDED.last_rank,
            conflict_at = EXCLUDED.conflict_at;
    END IF;

    INSERT INTO edge_inbox (svix_id, event_type, subject, event_ms, outcome,
                            detail, payload)
    VALUES (p_svix_id, p_event_type, p_clerk_id, p_event_ms, outcome, detail,
            CASE WHEN outcome IN ('applied', 'conflict', 'stale')
                 THEN p_payload END);
END
$$;


-- One delivery, with all that must happen in the transaction which records it.
-- p_grace_days: when the files of a deleted person are removed; NULL is never.
-- Deliveries may be committed together, and one that has to wait must not keep
-- the others: it is tried again alone.
--
-- outcome is that of edge_apply_clerk_event(); job_id removes the files

CREATE OR REPLACE FUNCTION edge_receive_event(
    p_svix_id text, p_event_type text, p_clerk_id text, p_event_ms bigint,
    p_email text, p_email_verified boolean, p_display_name text,
    p_payload text, p_grace_days integer,
    OUT outcome text, OUT user_id integer, OUT detail text, OUT job_id bigint)
LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    v_event  record;
BEGIN
    v_event := edge_apply_clerk_event(p_svix_id, p_event_type, p_clerk_id,
                                      p_event_ms, p_email, p_email_verified,
                                      p_display_name, p_payload);

    outcome := v_event.outcome;
    user_id := v_event.user_id;
    detail := v_event.detail;

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
