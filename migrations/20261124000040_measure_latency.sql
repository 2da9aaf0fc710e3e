-- How long jobs waited and ran as a distribution, what a servant has of its processor, how many there should be, and what an
-- attempt logged.

-- The place of a stretch of time in a distribution: two places for each doubling of it, from milliseconds to hours. The same
-- as domain::latency.
CREATE FUNCTION latency_bucket(took interval) RETURNS smallint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
    SELECT least(47, floor(2 * ln(greatest(extract(epoch FROM took)::double precision * 1000, 0) + 1) / ln(2::double precision)))::smallint
$$;

CREATE FUNCTION add_latencies(a bigint[], b bigint[]) RETURNS bigint[] IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
    SELECT CASE WHEN a IS NULL THEN b WHEN b IS NULL THEN a ELSE ARRAY(
        SELECT coalesce(x, 0) + coalesce(y, 0) FROM unnest(a, b) WITH ORDINALITY AS t (x, y, i) ORDER BY i) END
$$;

-- One entry for each job that has succeeded.
ALTER TABLE job_count_deltas
    ADD COLUMN waited_buckets smallint[],
    ADD COLUMN ran_buckets smallint[];

-- Jobs by place. NULL: none was measured.
ALTER TABLE job_stats
    ADD COLUMN waited_latencies bigint[],
    ADD COLUMN ran_latencies bigint[];

-- Per cent of one core since the heartbeat before; NULL: not told.
ALTER TABLE servants ADD COLUMN cpu_pct integer;

-- Processes that there should be.
ALTER TABLE kinds ADD COLUMN processes integer NOT NULL DEFAULT 1 CHECK (processes >= 0);

-- The last lines that the attempt logged, 4 kB at the most; NULL: none.
ALTER TABLE attempts ADD COLUMN log text;
