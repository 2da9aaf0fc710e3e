-- Whose the jobs of a permit are, so that what is in flight can be followed from permit to permit and need not be counted
-- from the ledger each time. Nulls, where that is not said: then it is counted.
ALTER TABLE permits
    ADD COLUMN kind text,
    ADD COLUMN accounts bigint[],
    ADD COLUMN connections bigint[],
    ADD COLUMN jobs integer[];

-- How services break and recover, by the leading scheduler's settings: servants without a queue let jobs through
-- themselves.
ALTER TABLE leader ADD COLUMN breaker jsonb;

-- How far ahead of the servants the queue is filled.
ALTER TABLE leader ADD COLUMN look_ahead_ms integer;

-- The limits for which everything in flight has been put on permits: what was let through before a limit was set counts
-- under it, too. Who lets jobs through compares, and does it again a moment after a change.
CREATE TABLE adopted_limits (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    limits bigint NOT NULL DEFAULT 0,
    latest timestamptz,
    adopted_at timestamptz,
    must_repeat boolean NOT NULL DEFAULT false
);
INSERT INTO adopted_limits DEFAULT VALUES;

-- The urgent lane, flow by flow: urgent jobs of flows that are held cost nobody anything.
CREATE INDEX jobs_urgent_flow_idx ON jobs (kind, account_id, coalesce(connection_id, 0), ready_at, id)
WHERE priority = 0 AND ready_at IS NOT NULL;
