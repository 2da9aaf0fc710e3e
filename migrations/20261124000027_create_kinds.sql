-- What the leading scheduler's catalogue says of kinds, for those who have no catalogue and explain why a job waits or
-- enter jobs. Written at the beginning of a reign; a kind that no catalogue has any more stays, and harms nothing.

CREATE TABLE kinds (
    kind text PRIMARY KEY,
    -- Whom its jobs call where their connection does not say.
    vendor text,
    -- Calls that one of its jobs is expected to make.
    calls_estimate bigint NOT NULL CHECK (calls_estimate > 0),
    -- Attempts of its jobs, where nothing else is asked for.
    attempts_max integer NOT NULL CHECK (attempts_max > 0)
);
