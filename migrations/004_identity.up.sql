-- last_ms and last_rank guard the order of events: deliveries come in any.
-- deleted_at is final.  conflict_at: the person has no row of their own because
-- their address belongs to somebody else's.

CREATE TABLE IF NOT EXISTS edge_identity (
    clerk_user_id  text PRIMARY KEY,
    user_id        integer,
    last_ms        bigint NOT NULL DEFAULT 0,
    last_rank      smallint NOT NULL DEFAULT 0,
    conflict_at    timestamptz,
    deleted_at     timestamptz
);

-- payload is json, not jsonb, which refuses \u0000: a person may have put that
-- into metadata of their own, and it must not make their events undeliverable.

CREATE TABLE IF NOT EXISTS edge_inbox (
    svix_id      text PRIMARY KEY,
    event_type   text NOT NULL,
    subject      text,
    event_ms     bigint NOT NULL,
    outcome      text NOT NULL CHECK (outcome IN
                     ('applied', 'stale', 'ignored', 'conflict', 'tombstoned')),
    detail       text,
    payload      json,
    received_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS edge_inbox_subject
    ON edge_inbox (subject) WHERE payload IS NOT NULL;

CREATE INDEX IF NOT EXISTS edge_inbox_received_at
    ON edge_inbox (received_at);
