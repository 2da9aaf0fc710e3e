-- What an operator has done to every job that a search finds: a durable order, carried out bit by bit by whoever leads.

CREATE TABLE operations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act text NOT NULL CHECK (act IN ('retry', 'cancel')),
    -- The words of the search (domain::Search); ages count from created_at.
    search text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    -- Jobs below this id have not been looked at yet; newest first.
    below_id bigint NOT NULL,
    -- What the operator was shown before it was ordered, and whether that was all.
    expected bigint NOT NULL,
    expected_is_exact boolean NOT NULL,
    applied bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,
    per_second integer NOT NULL CHECK (per_second > 0),
    -- Not before: so it is no faster than that.
    next_at timestamptz NOT NULL,
    created_by text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    cancelled_by text
) WITH (fillfactor = 50);

CREATE INDEX operations_running_idx ON operations (next_at) WHERE state = 'running';

-- What became of each job, written in the transaction that did it.
CREATE TABLE operation_items (
    operation_id bigint NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    job_id bigint NOT NULL,
    applied boolean NOT NULL,
    PRIMARY KEY (operation_id, job_id)
);

-- What pages list.
CREATE INDEX jobs_schedule_idx ON jobs (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX finished_jobs_schedule_idx ON finished_jobs (schedule_id, id) WHERE schedule_id IS NOT NULL;
CREATE INDEX anomalies_account_idx ON anomalies (account_id, state, id);
CREATE INDEX schedules_account_idx ON schedules (account_id, id) WHERE account_id <> 0;
CREATE INDEX streams_account_idx ON streams (account_id, connection_id, object);
