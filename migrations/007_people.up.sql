-- Who is this, and what does their identity provider say about them.  Each
-- function is called as a statement of its own: one transaction, one round
-- trip.  All of them serialize on the Clerk id, then, if at all, on the
-- address: always in this order.

CREATE OR REPLACE FUNCTION edge_lock_clerk_id(p_clerk_id text)
RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('edge:clerk:' || p_clerk_id,
                                                  0));
$$;


CREATE OR REPLACE FUNCTION edge_lock_email(p_email text)
RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('edge:email:'
                                                  || lower(p_email), 0));
$$;


-- .invalid cannot receive mail, so nobody can verify such an address

CREATE OR REPLACE FUNCTION edge_synthetic_email(p_clerk_id text)
RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_clerk_id || '@users.noreply.invalid';
$$;


-- True if nothing in the database hangs on the row: neither ours nor any table
-- of the application that has a foreign key to it.

CREATE OR REPLACE FUNCTION edge_user_unused(p_user_id integer)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_fk    record;
    v_used  boolean;
BEGIN
    IF EXISTS (SELECT 1 FROM activities WHERE user_id = p_user_id)
       OR EXISTS (SELECT 1 FROM edge_uploads WHERE user_id = p_user_id)
    THEN
        RETURN false;
    END IF;

    FOR v_fk IN
        SELECT c.conrelid::regclass AS relation, a.attname
        FROM pg_constraint c
        JOIN pg_attribute a
          ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.contype = 'f' AND c.confrelid = to_regclass('users')
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s WHERE %I = $1)',
                       v_fk.relation, v_fk.attname)
        INTO v_used USING p_user_id;

        IF v_used THEN
            RETURN false;
        END IF;
    END LOOP;

    RETURN true;
END
$$;


-- The person behind a verified identity.  p_clerk_id, the subject of a token,
-- goes first; else p_user_id, the number of a session or of an issuer of our
-- own.
--
-- outcome:
--   found      user_id is theirs
--   created    the same, and the row was made just now
--   not_found  no such user                                              (404)
--   deleted    the identity provider has deleted them                    (401)
--   conflict   their address belongs to somebody else's row and they have
--              none; a later event of a verified address settles it      (409)

CREATE OR REPLACE FUNCTION edge_person(
    p_clerk_id text, p_user_id bigint,
    OUT outcome text, OUT user_id integer, OUT clerk_user_id text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_identity  edge_identity;
    v_deleted   timestamptz;
BEGIN
    p_clerk_id := nullif(p_clerk_id, '');

    IF p_clerk_id IS NULL THEN
        SELECT u.id, u.clerk_user_id INTO user_id, clerk_user_id
        FROM users u WHERE u.id = p_user_id;

        outcome := CASE WHEN FOUND THEN 'found' ELSE 'not_found' END;
        RETURN;
    END IF;

    clerk_user_id := p_clerk_id;

    -- a row which the application has made anew does not undo the deletion

    SELECT u.id, i.deleted_at INTO user_id, v_deleted
    FROM users u
    LEFT JOIN edge_identity i ON i.clerk_user_id = u.clerk_user_id
    WHERE u.clerk_user_id = p_clerk_id;

    IF v_deleted IS NOT NULL THEN
        outcome := 'deleted';
        user_id := NULL;
        RETURN;
    END IF;

    IF user_id IS NOT NULL THEN
        outcome := 'found';
        RETURN;
    END IF;

    PERFORM edge_lock_clerk_id(p_clerk_id);

    SELECT * INTO v_identity
    FROM edge_identity i WHERE i.clerk_user_id = p_clerk_id;

    IF v_identity.deleted_at IS NOT NULL THEN
        outcome := 'deleted';
        RETURN;
    END IF;

    SELECT u.id INTO user_id FROM users u WHERE u.clerk_user_id = p_clerk_id;

    IF FOUND THEN
        outcome := 'found';
        RETURN;
    END IF;

    IF v_identity.conflict_at IS NOT NULL THEN
        outcome := 'conflict';
        RETURN;
    END IF;

    -- the application makes rows of its own and knows nothing of our locks

    INSERT INTO users (email, clerk_user_id, timezone, created_at, updated_at)
    VALUES (edge_synthetic_email(p_clerk_id), p_clerk_id, 'Asia/Seoul',
            now(), now())
    ON CONFLICT DO NOTHING
    RETURNING id INTO user_id;

    IF FOUND THEN
        outcome := 'created';

    ELSE
        SELECT u.id INTO user_id
        FROM users u WHERE u.clerk_user_id = p_clerk_id;

        outcome := CASE WHEN FOUND THEN 'found' ELSE 'conflict' END;
    END IF;

    IF user_id IS NOT NULL THEN
        INSERT INTO edge_identity AS i (clerk_user_id, user_id)
        VALUES (p_clerk_id, user_id)
        ON CONFLICT (clerk_user_id) DO UPDATE SET user_id = EXCLUDED.user_id;
    END IF;
END
$$;


-- Brings the row of a person up to what an event says.  Called with the Clerk
-- id locked and the event known to be the newest.  Returns what became of it:
-- created, updated, linked, folded, or a conflict's reason in p_conflict.

CREATE OR REPLACE FUNCTION edge_put_user(
    p_clerk_id text, p_email text, p_email_verified boolean,
    p_display_name text,
    OUT v_user_id integer, OUT detail text, OUT is_conflict boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_me      record;
    v_holder  record;
    v_email   text := coalesce(p_email, edge_synthetic_email(p_clerk_id));
    v_name    text := left(p_display_name, 100);
BEGIN
    is_conflict := false;

    PERFORM edge_lock_email(v_email);

    SELECT id, email INTO v_me
    FROM users WHERE clerk_user_id = p_clerk_id FOR UPDATE;

    v_user_id := v_me.id;

    -- who has the address: the same spelling first, then who can be linked

    SELECT id, clerk_user_id INTO v_holder
    FROM users
    WHERE lower(email::text) = lower(v_email)
      AND id IS DISTINCT FROM v_user_id
    ORDER BY (email = v_email) DESC, (clerk_user_id IS NULL) DESC, id
    LIMIT 1
    FOR UPDATE;

    IF v_holder.id IS NULL THEN

        IF v_user_id IS NULL THEN
            INSERT INTO users (email, display_name, clerk_user_id, timezone,
                               created_at, updated_at)
            VALUES (v_email, v_name, p_clerk_id, 'Asia/Seoul', now(), now())
            RETURNING id INTO v_user_id;

            detail := 'created';
            RETURN;
        END IF;

        -- an event without an address takes none away; a name which somebody
        -- chose is not replaced by the local part of an address

        UPDATE users
        SET email = CASE WHEN p_email IS NULL OR lower(email) = lower(p_email)
                         THEN email ELSE p_email END,
            display_name = CASE
                WHEN v_name IS NULL THEN display_name
                WHEN v_name <> left(split_part(v_email, '@', 1), 100)
                     OR display_name IS NULL
                     OR display_name = left(split_part(email, '@', 1), 100)
                THEN v_name ELSE display_name END,
            updated_at = now()
        WHERE id = v_user_id;

        detail := 'updated';
        RETURN;
    END IF;

    IF v_holder.clerk_user_id IS NULL AND p_email_verified
       AND p_email IS NOT NULL
    THEN
        detail := 'linked';

        IF v_user_id IS NOT NULL THEN

            IF v_me.email <> edge_synthetic_email(p_clerk_id)
               OR NOT edge_user_unused(v_user_id)
            THEN
                is_conflict := true;
                detail := 'address belongs to user ' || v_holder.id
                          || ', and user ' || v_user_id || ' is in use';
                RETURN;
            END IF;

            DELETE FROM users WHERE id = v_user_id;

            detail := 'folded';
        END IF;

        UPDATE users
        SET clerk_user_id = p_clerk_id,
            display_name = CASE
                WHEN v_name IS NULL THEN display_name
                WHEN v_name <> left(split_part(v_email, '@', 1), 100)
                     OR display_name IS NULL
                THEN v_name ELSE display_name END,
            updated_at = now()
        WHERE id = v_holder.id;

        v_user_id := v_holder.id;
        RETURN;
    END IF;

    is_conflict := true;
    detail := CASE WHEN v_holder.clerk_user_id IS NULL
                   THEN 'unverified address belongs to user '
                   ELSE 'address belongs to another identity, user ' END
              || v_holder.id;
END
$$;


-- One event of Clerk's.  p_event_ms is the time the event itself tells, else
-- that of its delivery; p_payload may be NULL.
--
-- outcome:
--   applied     the row says what the event says; detail tells how
--   duplicate   this delivery was here before: nothing was done
--   stale       a newer event was here before: nothing was done
--   tombstoned  the person is deleted, and that is final
--   conflict    recorded for a human; the row, if any, keeps its address
--   ignored     not an event about a user

CREATE OR REPLACE FUNCTION edge_apply_clerk_event(
    p_svix_id text, p_event_type text, p_clerk_id text, p_event_ms bigint,
    p_email text, p_email_verified boolean, p_display_name text,
    p_payload json,
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
                SELECT * INTO v_put
                FROM edge_put_user(p_clerk_id, p_email,
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
