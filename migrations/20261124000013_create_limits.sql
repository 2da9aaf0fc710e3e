-- What limits jobs, what is remembered of its use, and what vendors say of customers' own quotas.

CREATE TABLE limits (
    scope text NOT NULL
        CHECK (scope IN ('kind', 'account', 'connection', 'vendor', 'each_account', 'each_connection')),
    -- A kind's or vendor's name, the id of an account or of a connection; empty for each account, and for each
    -- connection of any vendor.
    key text NOT NULL DEFAULT '',
    -- What an operator says takes the place of what is declared.
    source text NOT NULL CHECK (source IN ('declared', 'operator')),
    concurrency bigint CHECK (concurrency > 0),
    per_second bigint CHECK (per_second > 0),
    per_minute bigint CHECK (per_minute > 0),
    burst bigint CHECK (burst > 0),
    per_day bigint CHECK (per_day > 0),
    reserve_pct smallint CHECK (reserve_pct BETWEEN 0 AND 99),
    -- The operator, or the deployment whose file declares it: that one alone takes it away again.
    set_by text NOT NULL,
    reason text NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (scope, key, source),
    CHECK (scope NOT IN ('account', 'connection') OR key ~ '^[0-9]{1,18}$'),
    CHECK (scope IN ('each_account', 'each_connection') OR key <> ''),
    CHECK (coalesce(concurrency, per_second, per_minute, per_day) IS NOT NULL)
);

-- Token buckets, days and paces, of what is counted and not of the limit that counts it: a limit that changes goes on
-- from there. Written by the dispatch that takes, in its transaction. What is in flight is nowhere: jobs are counted.
CREATE TABLE limit_states (
    scope text NOT NULL CHECK (scope IN ('kind', 'account', 'connection', 'vendor')),
    key text NOT NULL,
    gauge text NOT NULL CHECK (gauge IN ('second', 'minute', 'day', 'pace')),
    -- When it was taken from; of a bucket or a pace, what was left then, in parts of a token or of a call.
    at timestamptz NOT NULL,
    parts bigint,
    -- Of a day.
    day date,
    used bigint,
    -- Of a pace: when a job was last let through to look at an exhausted quota.
    probed_at timestamptz,
    PRIMARY KEY (scope, key, gauge),
    CHECK (CASE WHEN gauge = 'day' THEN day IS NOT NULL AND used IS NOT NULL ELSE parts IS NOT NULL END)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);

-- The latest word of the vendor on each connection's quota.
CREATE TABLE vendor_budgets (
    connection_id bigint PRIMARY KEY,
    used bigint NOT NULL CHECK (used >= 0),
    maximum bigint NOT NULL CHECK (maximum >= 0),
    reported_at timestamptz NOT NULL,
    -- NULL: what was used becomes free a day later, call by call.
    resets_at timestamptz
) WITH (fillfactor = 50);

-- The same by the minute, for a week and a day: the last word in it, our share, and the most that was reserved.
CREATE TABLE vendor_budget_minutes (
    connection_id bigint NOT NULL,
    minute timestamptz NOT NULL,
    used bigint NOT NULL,
    maximum bigint NOT NULL,
    ceiling bigint NOT NULL,
    reserved bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (connection_id, minute)
) WITH (fillfactor = 70);

CREATE INDEX vendor_budget_minutes_idx ON vendor_budget_minutes (minute);

-- Our share of customers' quotas. Connection 0: every connection that has none of its own, as a deployment declares.
CREATE TABLE budget_settings (
    connection_id bigint PRIMARY KEY,
    share_pct smallint NOT NULL CHECK (share_pct BETWEEN 1 AND 100),
    health_pct smallint NOT NULL CHECK (health_pct >= 0 AND health_pct < share_pct),
    set_by text NOT NULL,
    reason text NOT NULL,
    set_at timestamptz NOT NULL
);

INSERT INTO budget_settings (connection_id, share_pct, health_pct, set_by, reason, set_at)
VALUES (0, 80, 5, 'default', '', now());
