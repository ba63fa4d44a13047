-- claim counts how often a job was handed out or queued anew: who finishes it
-- names the claim, so a worker that lost its lease cannot overwrite the next.
-- attempts counts how often it was begun, retries how often that ended in a
-- report that it should be tried again: what is between them are crashes.

CREATE TABLE IF NOT EXISTS edge_jobs (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind          text NOT NULL,
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'done', 'dead')),
    user_id       integer,
    activity_id   integer,
    object_key    text,
    object_etag   text,
    dedupe_key    text UNIQUE,
    run_at        timestamptz NOT NULL DEFAULT now(),
    attempts      integer NOT NULL DEFAULT 0,
    retries       integer NOT NULL DEFAULT 0,
    max_attempts  integer NOT NULL DEFAULT 8,
    claim         integer NOT NULL DEFAULT 0,
    lease_until   timestamptz,
    worker        text,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);

CREATE INDEX IF NOT EXISTS edge_jobs_queued
    ON edge_jobs (run_at) WHERE state = 'queued';

CREATE INDEX IF NOT EXISTS edge_jobs_running
    ON edge_jobs (lease_until) WHERE state = 'running';

CREATE INDEX IF NOT EXISTS edge_jobs_activity_id
    ON edge_jobs (activity_id) WHERE state IN ('queued', 'running');

CREATE INDEX IF NOT EXISTS edge_jobs_pending_deletions
    ON edge_jobs (object_key)
    WHERE kind = 'delete_object' AND state IN ('queued', 'running');

CREATE INDEX IF NOT EXISTS edge_jobs_finished
    ON edge_jobs (finished_at) WHERE state IN ('done', 'dead');
