-- The number a client was given with its URL, and the row it became.  The
-- number is random and the client repeats it to us, so it means something
-- only together with the person.

CREATE TABLE IF NOT EXISTS edge_uploads (
    user_id      integer NOT NULL,
    upload_id    bigint NOT NULL,
    activity_id  integer NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, upload_id)
);
