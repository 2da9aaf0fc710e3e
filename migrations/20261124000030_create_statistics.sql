-- Numbers for people, folded from what is appended: errors by group, jobs by minute, what waits.

-- Which error an attempt ended with (domain::Fingerprint), and whether its job has failed with it and was not retried.
ALTER TABLE attempts
    ADD COLUMN fingerprint text,
    ADD COLUMN failed boolean NOT NULL DEFAULT false;
CREATE INDEX attempts_failed_idx ON attempts (fingerprint, job_id) WHERE failed;

-- Appended as attempts end and jobs are retried, folded and deleted by the leading scheduler.
CREATE TABLE error_deltas (
    fingerprint text NOT NULL,
    attempts bigint NOT NULL,
    -- Jobs that have failed with it, less those that were retried or dropped.
    failed bigint NOT NULL,
    at timestamptz NOT NULL,
    -- NULL: nothing was seen, jobs were only retried or dropped.
    kind text,
    class text,
    title text,
    error text,
    servant_id bigint,
    job_id bigint
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE error_groups (
    fingerprint text PRIMARY KEY,
    kind text NOT NULL,
    class text NOT NULL,
    title text NOT NULL,
    -- The latest.
    error text NOT NULL,
    job_id bigint NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    -- The builds of the servants that had it first and last.
    first_version text,
    last_version text,
    attempts bigint NOT NULL,
    failed bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX error_groups_seen_idx ON error_groups (last_seen_at, fingerprint);

CREATE TABLE error_hours (
    fingerprint text NOT NULL,
    hour timestamptz NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (fingerprint, hour)
) WITH (fillfactor = 50);

-- Of jobs that have succeeded, in milliseconds: from ready to claimed, the sum and the longest; from claimed to finished.
ALTER TABLE job_count_deltas
    ADD COLUMN waited_ms bigint,
    ADD COLUMN waited_ms_max bigint,
    ADD COLUMN ran_ms bigint;

-- Jobs that ended, by kind (empty: all) and stretch of time: minutes, quarters of an hour, hours.
CREATE TABLE job_stats (
    kind text NOT NULL,
    step_secs integer NOT NULL,
    at timestamptz NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    cancelled bigint NOT NULL,
    waited_ms bigint NOT NULL,
    waited_ms_max bigint NOT NULL,
    ran_ms bigint NOT NULL,
    PRIMARY KEY (kind, step_secs, at)
) WITH (fillfactor = 50);
CREATE INDEX job_stats_at_idx ON job_stats (step_secs, at);

-- What waits, looked at every few seconds by the leading scheduler; and an order to move dead letters back, which it
-- carries out.
CREATE TABLE queue_states (
    kind text PRIMARY KEY,
    seen_at timestamptz NOT NULL,
    -- Since when the oldest job that is due waits; NULL: none does.
    oldest_ready_at timestamptz,
    -- On SQS, as approximate as it says; NULL: there is no queue.
    visible bigint,
    in_flight bigint,
    delayed bigint,
    dead bigint,
    redrive_by text,
    redrive_ordered_at timestamptz,
    -- What became of the last order.
    redrive_outcome text,
    redriven_at timestamptz
) WITH (fillfactor = 50);
