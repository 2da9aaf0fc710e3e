-- Ready jobs in the order of fair share: a flow is a kind, an account and a connection (0: none); within it the turn
-- of a job is the time since which it is ready, later by 60 s for each step of priority, so that no job waits for ever
-- (domain::fair_share owns that number). The expression holds only immutable parts, and neither a dispatch nor a
-- claim changes a column in it: they still update no index.
CREATE INDEX jobs_flow_idx ON jobs (
    kind, account_id, coalesce(connection_id, 0),
    (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id
) WHERE ready_at IS NOT NULL;

-- The urgent lane.
CREATE INDEX jobs_urgent_idx ON jobs (kind, ready_at, id) WHERE priority = 0 AND ready_at IS NOT NULL;

DROP INDEX jobs_ready_idx;

-- An account's share among those that wait for the same kind of work.
ALTER TABLE accounts ADD COLUMN weight smallint NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100);

-- The outbox is read kind by kind, since the relay sends to one queue for each kind and, where there is no queue,
-- servants take their own kind's entries.
ALTER TABLE outbox DROP CONSTRAINT outbox_pkey, ADD PRIMARY KEY (kind, id);

-- Jobs that limits count, one row for each dispatch that let such jobs through: those of them that are queued or running
-- are in flight. Written with the dispatch and derived from nothing else, so that no crash can leave a number wrong;
-- a row is dropped once none of its jobs is in flight.
CREATE TABLE permits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_ids bigint[] NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
