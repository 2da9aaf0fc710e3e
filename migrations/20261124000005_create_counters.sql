-- Counts of jobs, never counted: each change appends what it moved, the leading scheduler folds.

CREATE TABLE job_count_deltas (
    kind text NOT NULL,
    state smallint NOT NULL,
    delta bigint NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE job_counts (
    kind text NOT NULL,
    state smallint NOT NULL,
    jobs bigint NOT NULL,
    PRIMARY KEY (kind, state)
) WITH (fillfactor = 50);
