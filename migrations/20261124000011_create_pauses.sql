-- What an operator holds back: of everything, of a kind, of an account or of a connection no job is dispatched or
-- claimed until the row is gone. Almost always empty. (A schedule's pause is in its own row.)

CREATE TABLE pauses (
    scope text NOT NULL CHECK (scope IN ('everything', 'kind', 'account', 'connection')),
    -- A kind's name, the id of an account or of a connection; empty for everything.
    key text NOT NULL DEFAULT '',
    paused_by text NOT NULL,
    reason text NOT NULL,
    paused_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((scope = 'everything') = (key = '')),
    CHECK (scope NOT IN ('account', 'connection') OR key ~ '^[0-9]{1,18}$')
);

-- All of them in one row, so that a claim evaluates them once and not for each job that it looks at.
CREATE VIEW pauses_in_force AS
SELECT coalesce(bool_or(scope = 'everything'), false) AS everything,
       coalesce(array_agg(key) FILTER (WHERE scope = 'kind'), '{}') AS kinds,
       coalesce(array_agg(key::bigint) FILTER (WHERE scope = 'account'), '{}') AS accounts,
       coalesce(array_agg(key::bigint) FILTER (WHERE scope = 'connection'), '{}') AS connections
FROM pauses;

-- How the leading scheduler dispatches, for those who explain why a job waits: jobs on the queue for each slot of the
-- live servants and at the least, seconds until a job that nobody claimed is sent again. NULL: there is no queue.
ALTER TABLE leader ADD COLUMN window_per_slot integer;
ALTER TABLE leader ADD COLUMN window_min integer;
ALTER TABLE leader ADD COLUMN unclaimed_secs integer;
