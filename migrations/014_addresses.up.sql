-- Whether the address of a row is verified, so that nobody keeps one from its
-- owner by writing it down first.  NULL: not known, from before; that counts
-- as verified.

ALTER TABLE edge_identity ADD COLUMN IF NOT EXISTS email_verified boolean;


CREATE OR REPLACE FUNCTION edge_note_address(
    p_clerk_id text, p_email text, p_email_verified boolean)
RETURNS void
LANGUAGE sql AS $$
    INSERT INTO edge_identity AS i (clerk_user_id, email_verified)
    SELECT p_clerk_id, p_email_verified WHERE p_email IS NOT NULL
    ON CONFLICT (clerk_user_id) DO UPDATE
    SET email_verified = EXCLUDED.email_verified
    WHERE i.email_verified IS DISTINCT FROM EXCLUDED.email_verified;
$$;


-- Brings the row of a person up to what an event says.  Called with the Clerk
-- id locked and the event known to be the newest.  Returns what became of it:
-- created, updated, linked, folded, or a conflict's reason in p_conflict.
-- A verified address is taken from whoever has it and has not verified it.

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

    SELECT u.id, u.clerk_user_id, i.email_verified INTO v_holder
    FROM users u
    LEFT JOIN edge_identity i ON i.clerk_user_id = u.clerk_user_id
    WHERE lower(u.email::text) = lower(v_email)
      AND u.id IS DISTINCT FROM v_user_id
    ORDER BY (u.email = v_email) DESC, (u.clerk_user_id IS NULL) DESC, u.id
    LIMIT 1
    FOR UPDATE OF u;

    IF v_holder.clerk_user_id IS NOT NULL
       AND v_holder.email_verified = false
       AND p_email_verified AND p_email IS NOT NULL
    THEN
        UPDATE users
        SET email = edge_synthetic_email(v_holder.clerk_user_id),
            updated_at = now()
        WHERE id = v_holder.id;

        -- another spelling of it may be somebody else's

        SELECT p.v_user_id, p.detail || ', address taken from user '
                            || v_holder.id || ', who had not verified it',
               p.is_conflict
        INTO v_user_id, detail, is_conflict
        FROM edge_put_user(p_clerk_id, p_email, p_email_verified,
                           p_display_name) p;

        RETURN;
    END IF;

    IF v_holder.id IS NULL THEN

        IF v_user_id IS NULL THEN
            INSERT INTO users (email, display_name, clerk_user_id, timezone,
                               created_at, updated_at)
            VALUES (v_email, v_name, p_clerk_id, 'Asia/Seoul', now(), now())
            RETURNING id INTO v_user_id;

            PERFORM edge_note_address(p_clerk_id, p_email, p_email_verified);

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

        PERFORM edge_note_address(p_clerk_id, p_email, p_email_verified);

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

        PERFORM edge_note_address(p_clerk_id, p_email, p_email_verified);

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
