-- The builds that servants were ever of: which kinds had one, and since when it runs. A row for each build, noted when a
-- process of it introduces itself, so that a chart's marks cost some rows however often servants have started since.

CREATE TABLE builds (
    version text PRIMARY KEY,
    kinds text[] NOT NULL,
    first_at timestamptz NOT NULL
);
CREATE INDEX builds_first_idx ON builds (first_at);

INSERT INTO builds (version, kinds, first_at)
SELECT version, array_agg(DISTINCT kind ORDER BY kind), min(started_at) FROM servants GROUP BY version;
