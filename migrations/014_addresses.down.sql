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


DROP FUNCTION IF EXISTS edge_note_address(text, text, boolean);
ALTER TABLE IF EXISTS edge_identity DROP COLUMN IF EXISTS email_verified;
